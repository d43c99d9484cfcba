"""A station leaves every instrument safe and closed, on every way out, last opened first."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol, Self, runtime_checkable

import pytest

from labctl.errors import (
    ConnectionFailedError,
    InstrumentError,
    LimitError,
    StationFileError,
)
from labctl.station import Station, describe
from labctl.station.drivers import find_driver

THREE = {
    "one": ("fake", "GPIB0::1::INSTR"),
    "two": ("fake", "GPIB0::2::INSTR"),
    "three": ("fake", "GPIB0::3::INSTR"),
}
OPENED = ["open one", "ask one", "open two", "ask two", "open three", "ask three"]
LEFT = [f"{step} {name}" for step in ("safe", "close") for name in ("three", "two", "one")]


@runtime_checkable
class Lamp(Protocol):
    """A capability that the fake instruments have."""

    def shine(self) -> str: ...


@runtime_checkable
class Kettle(Protocol):
    """A capability that they have not."""

    def boil(self) -> None: ...


@dataclass
class Lab:
    """Notes everything that is done to its instruments; what is in `failing` raises."""

    events: list[str] = field(default_factory=list)
    failing: dict[str, BaseException] = field(default_factory=dict)
    asked: list[tuple[object, ...]] = field(default_factory=list)

    def do(self, event: str) -> None:
        self.events.append(event)
        if event in self.failing:
            raise self.failing[event]

    def driver(self) -> type[Instrument]:
        """Return a driver of this lab."""
        lab = self

        class Fake(Instrument):
            @classmethod
            def open(
                cls, name: str, address: str, *, library: str, options: Mapping[str, object]
            ) -> Self:
                lab.asked.append((name, address, library, dict(options)))
                lab.do(f"open {name}")
                return cls(name, lab)

        return Fake


@dataclass
class Instrument:
    """An instrument that only tells what is done to it."""

    name: str
    lab: Lab

    def identify(self) -> str:
        self.lab.do(f"ask {self.name}")
        return f"identity of {self.name}"

    def safe_state(self) -> None:
        self.lab.do(f"safe {self.name}")

    def close(self) -> None:
        self.lab.do(f"close {self.name}")

    def shine(self) -> str:
        return f"light of {self.name}"

    def set_voltage(self, voltage_v: float) -> None:
        self.lab.do(f"{self.name} at {voltage_v:g} V")


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = Lab()
    monkeypatch.setattr("labctl.station.drivers.find_driver", lambda driver: lab.driver())
    return lab


@pytest.fixture
def station(lab: Lab, small_station: Callable[..., Path]) -> Station:
    return Station.read(small_station(THREE))


def test_reading_opens_nothing(station: Station, lab: Lab) -> None:
    assert set(station.table.instruments) == set(THREE)
    assert lab.events == []


def test_instruments_are_opened_and_asked_in_the_files_order(station: Station, lab: Lab) -> None:
    with station:
        assert lab.events == OPENED
        assert station.identities == {name: f"identity of {name}" for name in THREE}
    assert lab.asked[1] == ("two", "GPIB0::2::INSTR", "@py", {})


def test_leaving_makes_all_safe_before_any_is_closed(station: Station, lab: Lab) -> None:
    with station:
        pass
    assert lab.events == OPENED + LEFT


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), SystemExit(3)])
def test_an_error_inside_leaves_all_safe_and_comes_through(
    error: BaseException, station: Station, lab: Lab
) -> None:
    with pytest.raises(type(error)) as caught, station:
        raise error
    assert caught.value is error
    assert lab.events == OPENED + LEFT


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (InstrumentError("two", "is deaf"), "two: is deaf"),
        (OSError("gone"), "two: unexpected OSError: gone"),
    ],
)
def test_one_that_cannot_be_made_safe_is_told_and_the_others_are_reached(
    failure: Exception, told: str, station: Station, lab: Lab
) -> None:
    lab.failing["safe two"] = failure
    with pytest.raises(InstrumentError) as caught, station:
        pass
    assert str(caught.value) == f"small: not left safe: {told}"
    assert lab.events == OPENED + LEFT


def test_a_failure_on_the_way_out_is_added_to_the_error_that_led_there(
    station: Station, lab: Lab
) -> None:
    lab.failing["safe three"] = InstrumentError("three", "is deaf")
    lab.failing["close one"] = InstrumentError("one", "is gone")
    with pytest.raises(ZeroDivisionError) as caught, station:
        raise ZeroDivisionError
    assert caught.value.__notes__ == ["not left safe: three: is deaf; one: is gone"]
    assert lab.events == OPENED + LEFT


@pytest.mark.parametrize("event", ["open three", "ask three"])
def test_those_already_open_are_left_safe_when_one_does_not_answer(
    event: str, station: Station, lab: Lab
) -> None:
    error = ConnectionFailedError("three", "nothing at A::3")
    lab.failing[event] = error
    with pytest.raises(ConnectionFailedError) as caught:
        station.__enter__()
    assert caught.value is error
    opened = OPENED[: OPENED.index(event) + 1]
    names = ["two", "one"] if event == "open three" else ["three", "two", "one"]
    left = [f"{step} {name}" for step in ("safe", "close") for name in names]
    assert lab.events == opened + left


def test_a_failure_to_make_safe_is_told_also_when_opening_failed(
    station: Station, lab: Lab
) -> None:
    lab.failing["open three"] = ConnectionFailedError("three", "nothing at A::3")
    lab.failing["safe one"] = InstrumentError("one", "is deaf")
    with pytest.raises(ConnectionFailedError) as caught:
        station.__enter__()
    assert caught.value.__notes__ == ["not left safe: one: is deaf"]


def test_ctrl_c_while_opening_leaves_the_opened_ones_safe(station: Station, lab: Lab) -> None:
    lab.failing["open two"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        station.__enter__()
    assert lab.events == ["open one", "ask one", "open two", "safe one", "close one"]


def test_ctrl_c_while_leaving_takes_effect_when_all_are_safe_and_closed(
    station: Station, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Instrument) -> None:
        signal.raise_signal(signal.SIGINT)
        self.lab.do(f"safe {self.name}")

    monkeypatch.setattr(Instrument, "safe_state", interrupted)
    with pytest.raises(KeyboardInterrupt), station:
        pass
    assert lab.events == OPENED + LEFT


def test_a_station_can_be_entered_again(station: Station, lab: Lab) -> None:
    for _ in range(2):
        with station:
            pass
    assert lab.events == 2 * (OPENED + LEFT)


def test_an_instrument_is_handed_out_as_a_capability_that_it_has(
    station: Station, lab: Lab
) -> None:
    with station:
        assert station.instrument("two", Lamp).shine() == "light of two"


def test_a_capability_that_the_instrument_has_not_is_refused_by_name(station: Station) -> None:
    told = r"instrument 'two' \(fake\) cannot serve as Kettle"
    with station, pytest.raises(StationFileError, match=told):
        station.instrument("two", Kettle)


@pytest.mark.parametrize("value", [-1.0, 0.0, 2.0])
def test_a_value_within_the_limits_is_returned(value: float, station: Station) -> None:
    assert station.check("one", "voltage_v", value) == value


@pytest.mark.parametrize("value", [-1.0000001, 2.0000001, 1e9, float("inf"), float("nan")])
def test_a_value_outside_the_limits_is_refused(value: float, station: Station) -> None:
    with pytest.raises(
        LimitError,
        match=r"one: voltage_v = .*must be -1 to 2 V by limits\.voltage_v at .*small\.toml:6",
    ):
        station.check("one", "voltage_v", value)


def test_a_quantity_without_limits_is_free(station: Station) -> None:
    assert station.check("one", "power_w", 1e9) == 1e9


def test_an_unknown_driver_is_refused_with_file_instrument_and_those_there_are(
    small_station: Callable[..., Path],
) -> None:
    path = small_station({**THREE, "one": ("thorlabs_mx10b", "GPIB0::1::INSTR")})
    with pytest.raises(StationFileError) as caught:
        Station.read(path)
    assert str(caught.value).startswith(f"{path}:9: instrument 'two': unknown driver 'fake'")
    assert "thorlabs_mx10b" in str(caught.value)


def test_a_driver_is_found_by_its_entry_point() -> None:
    assert find_driver("thorlabs_pm100d").__name__ == "ThorlabsPM100D"


def test_identities_are_described_by_their_text_fields() -> None:
    @dataclass
    class Identity:
        maker: str
        model: str
        serial: int
        other: str = "unsaid"

    assert describe({"laser": Identity("Pure", "PPCL550", 7), "lamp": object()}) == {
        "laser": {"maker": "Pure", "model": "PPCL550", "serial": "7", "firmware": ""},
        "lamp": {"maker": "", "model": "", "serial": "", "firmware": ""},
    }


# The child says what it does, and waits for a line at each step that the parent wants to disturb.
CHILD = """
import sys
from pathlib import Path
import labctl.station.drivers
from labctl.safety import interruptible

def say(words):
    print(words, flush=True)

class Instrument:
    @classmethod
    def open(cls, name, address, *, library, options):
        opened = cls()
        opened.name = name
        return opened
    def set_voltage(self, voltage_v):
        pass
    def identify(self):
        return self.name
    def safe_state(self):
        say(f"leaving {self.name}")
        sys.stdin.readline()
        say(f"safe {self.name}")
    def close(self):
        say(f"closed {self.name}")

labctl.station.drivers.find_driver = lambda driver: Instrument
try:
    with interruptible(), labctl.station.Station.read(Path(sys.argv[1])):
        say("opened")
        sys.stdin.readline()
        say("not interrupted")
except KeyboardInterrupt:
    say("interrupted")
"""


def child_of(path: Path) -> subprocess.Popen[str]:
    """Start the child as a shell would start it, Ctrl-C not ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_cut_the_way_out_short(
    first: signal.Signals, second: signal.Signals, small_station: Callable[..., Path]
) -> None:
    with child_of(small_station(THREE)) as child:
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            said, answers = child.stdout, child.stdin
            assert said.readline() == "opened\n"
            child.send_signal(first)
            for name in ("three", "two", "one"):
                assert said.readline() == f"leaving {name}\n"
                child.send_signal(second)
                _say(answers)
                assert said.readline() == f"safe {name}\n"
            rest = said.read()
            assert child.wait(timeout=20) == 0
        finally:
            child.kill()
    assert rest.splitlines() == ["closed three", "closed two", "closed one", "interrupted"]


def _say(answers: IO[str]) -> None:
    answers.write("go on\n")
    answers.flush()
