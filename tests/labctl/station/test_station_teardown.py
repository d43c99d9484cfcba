"""The way out by hazard: light first, each wire on its own, retried, read back, reported last."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import partial

import pytest

from labctl.errors import InstrumentTimeoutError
from labctl.haste import patience_s
from labctl.hazards import Hazard, emits, hazard_of
from labctl.station import teardown
from labctl.station.crew import Crew
from labctl.station.teardown import Leaving, Left, Ramp, Shutter, leave_safe


@dataclass
class Instrument:
    """Notes what is done to it; what is in `hanging` never ends, what is in `failing` fails."""

    name: str
    events: list[str]
    hanging: str = ""
    failing: str = ""
    failures: int = 100
    released: threading.Event = field(default_factory=threading.Event)

    def identify(self) -> str:
        return self.name

    def safe_state(self) -> None:
        self.do("safe")

    def close(self) -> None:
        self.do("close")

    def do(self, what: str) -> None:
        self.events.append(f"{what} {self.name}")
        if self.hanging == what:
            self.released.wait()
        if self.failing == what and self.failures:
            self.failures -= 1
            raise InstrumentTimeoutError(self.name, "is deaf")


@dataclass
class Lamp(Instrument):
    """One that emits."""

    lit: bool = True

    def set_emission(self, on: bool) -> None:
        self.do("light" if on else "dark")
        self.lit = on

    def emission(self) -> bool:
        return self.lit


@dataclass
class Outputs(Instrument):
    """Two outputs; `safe_state` switches both off."""

    volts: dict[int, float] = field(default_factory=lambda: {1: 2.0, 2: 0.0})
    seen_v: list[float] = field(default_factory=list)

    def dc_output(self, channel: int) -> Output:
        return Output(self, channel)

    def safe_state(self) -> None:
        self.do("safe")
        self.volts = dict.fromkeys(self.volts, 0.0)


@dataclass
class KeepingOutputs(Outputs):
    """One that can leave an output as it is."""

    def safe_state_except(self, kept: int) -> None:
        self.do("safe")
        self.volts = {n: volts if n == kept else 0.0 for n, volts in self.volts.items()}


@dataclass
class Output:
    """One output."""

    of: Outputs
    channel: int

    def set_voltage(self, voltage_v: float) -> None:
        self.of.events.append(f"{voltage_v:g} V at {self.of.name}/{self.channel}")
        self.of.volts[self.channel] = voltage_v
        self.of.seen_v.append(voltage_v)

    def voltage_v(self) -> float:
        return self.of.volts[self.channel]


def left(
    *instruments: Instrument, wires: bool = False, budget_s: float = 6.0, **more: object
) -> Left:
    """Leave instruments, each on a wire of its own or all on one; `more` is for the first."""
    crew = Crew()
    leaving = []
    for number, each in enumerate(instruments):
        transport = each.name if wires else "one"
        hazard = hazard_of(type(each))
        found = Leaving(each.name, each, hazard=hazard, transport=transport, emits=emits(each))
        found.budget_s = budget_s
        for name, value in more.items() if not number else ():
            setattr(found, name, value)
        leaving.append(found)
    crew.hire(each.transport for each in leaving)
    try:
        return leave_safe(leaving, crew)
    finally:
        crew.dismiss()
        for each in instruments:
            each.released.set()


def test_what_emits_light_goes_dark_before_anything_else() -> None:
    events: list[str] = []
    assert not left(Lamp("a", events), Instrument("b", events))
    assert events == ["dark a", "safe a", "safe b", "close b", "close a"]


@pytest.mark.parametrize("hazard", list(Hazard))
def test_the_order_is_by_hazard(hazard: Hazard) -> None:
    events: list[str] = []
    others = [each for each in Hazard if each is not hazard]
    crew = Crew()
    leaving = [
        Leaving(each.value, Instrument(each.value, events), hazard=each, transport="one")
        for each in (hazard, *others)
    ]
    crew.hire(["one"])
    assert not leave_safe(leaving, crew)
    crew.dismiss()
    assert events[: len(Hazard)] == [f"safe {each.value}" for each in Hazard]


@pytest.mark.parametrize("deaf", ["a wire of its own", "before it on the same wire"])
def test_a_silent_instrument_does_not_keep_the_light_on(deaf: str) -> None:
    events: list[str] = []
    lamp = Lamp("lamp", events)
    silent = [Instrument(f"meter{number}", events, hanging="safe") for number in range(3)]
    seen: list[tuple[str, float]] = []
    began_s = time.monotonic()
    lamp.do = lambda what: seen.append((what, time.monotonic() - began_s))  # type: ignore[method-assign]
    found = left(lamp, *silent, wires=deaf == "a wire of its own", budget_s=0.1)
    assert seen[0][0] == "dark"
    assert seen[0][1] < 1.0
    assert found.lit == ()


@pytest.mark.parametrize("failing", [1, 2])
def test_emission_off_is_asked_for_again_after_a_lost_frame(failing: int) -> None:
    events: list[str] = []
    found = left(Lamp("a", events, failing="dark", failures=failing), Instrument("b", events))
    assert not found
    assert events[: failing + 1] == ["dark a"] * (failing + 1)


def test_what_does_not_go_dark_is_told_last_and_in_capitals() -> None:
    events: list[str] = []
    found = left(
        Lamp("laser", events, failing="dark"),
        Instrument("meter", events, failing="safe"),
        address="ASRL1::INSTR",
    )
    assert found.lit == ("laser (ASRL1::INSTR)",)
    assert str(found) == (
        "meter: is deaf; laser: is deaf; "
        "MAY STILL EMIT LIGHT: LASER (ASRL1::INSTR): SWITCH IT OFF BY HAND"
    )
    assert "safe meter" in events


def test_an_answer_alone_is_no_darkness() -> None:
    events: list[str] = []
    lamp = Lamp("laser", events)
    lamp.set_emission = lambda on: events.append("lost")  # type: ignore[method-assign]
    found = left(lamp)
    assert found.lit == ("laser",)
    assert "laser: still emits after it was switched off" in found.failures


def test_attempts_grow_more_patient() -> None:
    patience: list[float] = []
    lamp = Lamp("laser", [])

    def note(on: bool) -> None:
        patience.append(patience_s(10.0))
        raise InstrumentTimeoutError("laser", "is deaf")

    lamp.set_emission = note  # type: ignore[method-assign]
    left(lamp)
    assert patience[:3] == list(teardown.PATIENCE_S)


def test_an_instrument_that_hangs_is_given_up_and_the_others_are_reached() -> None:
    events: list[str] = []
    stuck = Lamp("b", events, hanging="dark")
    found = left(stuck, Instrument("a", events), Lamp("c", events), wires=True, budget_s=0.1)
    assert found.failures[0] == "b: emission off given up after 0.1 s"
    assert found.lit == ("b",)
    assert {"dark c", "safe a", "safe c", "close a", "close c"} <= set(events)


def test_where_no_thread_can_be_had_the_steps_run_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refused)
    events: list[str] = []
    found = left(Lamp("a", events, failing="safe"), Instrument("b", events), wires=True)
    assert found.failures == ("a: is deaf",)
    assert events == ["dark a", "safe a", "safe b", "close b", "close a"]


def _divided_by(number: int) -> None:
    assert 1 / number


def test_a_driver_may_fail_in_any_way() -> None:
    events: list[str] = []
    broken = Instrument("b", events)
    broken.safe_state = partial(_divided_by, 0)  # type: ignore[method-assign]
    found = left(broken, Instrument("a", events))
    assert found.failures == ("b: unexpected ZeroDivisionError: division by zero",)
    assert "safe a" in events


@pytest.mark.parametrize("kind", [Outputs, KeepingOutputs])
@pytest.mark.parametrize("lit", [False, True])
def test_the_generator_of_a_shutter_never_opens_it_while_light_may_be_on(
    kind: type[Outputs], lit: bool
) -> None:
    events: list[str] = []
    outputs = kind("drive", events, volts={1: 2.0, 2: 0.0 if lit else 5.0})
    lamp = Lamp("laser", events, failing="dark" if lit else "")
    found = left(outputs, lamp, shutter=Shutter(2, 5.0))
    keeps = kind is KeepingOutputs
    assert outputs.volts[2] == (5.0 if keeps or lit else 0.0)
    assert outputs.volts[1] == (0.0 if keeps or not lit else 2.0)
    assert found.lit == (("laser",) if lit else ())
    assert any("holds a shutter closed" in each for each in found.failures) is (lit and not keeps)
    if lit:
        assert "5 V at drive/2" in events


def test_an_open_shutter_is_left_to_its_generator_once_all_is_dark() -> None:
    events: list[str] = []
    outputs = KeepingOutputs("drive", events)
    assert not left(outputs, Lamp("laser", events), shutter=Shutter(2, 5.0))
    assert outputs.volts == {1: 0.0, 2: 0.0}
    assert outputs.seen_v == []


def test_a_ramp_brings_a_voltage_down_in_steps() -> None:
    outputs = Outputs("bias", [])
    assert not left(outputs, ramp=Ramp((1,), 40.0))
    steps = [2.0, *outputs.seen_v]
    assert max(b - a for a, b in zip(steps[1:], steps, strict=False)) <= 40.0 * 0.02 + 1e-9
    assert steps[-1] == 0.0


def test_patience_is_a_threads_own_and_ends() -> None:
    from labctl.haste import at_most, in_haste

    with at_most(0.5):
        with at_most(0.2):
            assert patience_s(10.0) == 0.2
        assert patience_s(0.1) == 0.1
        assert in_haste()
    assert patience_s(10.0) == 10.0
    assert not in_haste()
