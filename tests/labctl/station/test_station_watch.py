"""Watched limits: read at a stated rate, between the program's calls; beyond one, light stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pytest

from labctl.errors import InstrumentTimeoutError, StationFileError, StoppedError
from labctl.station import Station
from labctl.station.turns import Turns


class Lab:
    """What the instruments below show."""

    def __init__(self) -> None:
        self.power_w: float | None = 1e-3
        self.events: list[str] = []
        self.dark = threading.Event()


class Meter:
    """A power meter of two channels; silent while the lab shows no power."""

    lab: Lab

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        return cls()

    def identify(self) -> str:
        return "meter"

    def safe_state(self) -> None:
        self.lab.events.append("safe")

    def close(self) -> None:
        self.lab.events.append("close")

    def power_w(self) -> float:
        if self.lab.power_w is None:
            raise InstrumentTimeoutError("meter", "no answer")
        return self.lab.power_w

    def channel(self, channel: int) -> Meter:
        return self


class Lamp(Meter):
    """One that emits."""

    def set_emission(self, on: bool) -> None:
        self.lab.events.append("light" if on else "dark")
        if not on:
            self.lab.dark.set()


INSTRUMENTS = """
[instruments.lamp]
driver = "lamp"
address = "GPIB0::1::INSTR"
[instruments.meter]
driver = "meter"
address = "GPIB0::2::INSTR"
"""
FILE = (
    """
watchdog = { enabled = false }
[watch]
every_s = 0.02
blind_s = 0.2
[watch.limits]
"meter/2.power_w" = { high = 0.02, ratio = 10.0 }
"""
    + INSTRUMENTS
)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = Lab()
    monkeypatch.setattr(Meter, "lab", lab, raising=False)
    drivers = {"lamp": Lamp, "meter": Meter}
    monkeypatch.setattr("labctl.station.drivers.find_driver", drivers.__getitem__)
    return lab


def station_of(folder: Path, text: str = FILE) -> Station:
    path = folder / "watched.toml"
    path.write_text(text, encoding="utf-8")
    return Station.read(path)


def test_within_its_limit_a_reading_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    with station_of(tmp_path) as station:
        station["lamp"].set_emission(True)
        assert not lab.dark.wait(0.2)
        assert station["meter"].power_w() == 1e-3


@pytest.mark.parametrize(
    ("power_w", "reason"),
    [
        (3e-3, "meter/2.power_w = 0.03, must be at most 0.02 W by watch.limits.power_w at "),
        (float("nan"), "meter/2.power_w = nan, must be at most"),
        (None, "s: meter: no answer"),
    ],
)
def test_beyond_it_emission_stops_and_the_next_call_says_why(
    lab: Lab, tmp_path: Path, power_w: float | None, reason: str
) -> None:
    with station_of(tmp_path) as station:
        lamp = station["lamp"]
        lamp.set_emission(True)
        lab.power_w = power_w
        assert lab.dark.wait(5.0)
        with pytest.raises(StoppedError) as stopped:
            lamp.set_emission(True)
        assert reason in str(stopped.value)
    assert lab.events.count("light") == 1
    assert lab.events[-2:] == ["close", "close"]


# The client's own file, with its roles. What arrives is 10 times what its meter reads.
CLIENT = (
    """
watchdog = { enabled = false }
[watch]
every_s = 0.02
"""
    + INSTRUMENTS
    + """
[frame]
symbol_rate_hz = 20e6
sample_rate_hz = 160e6
preamble_symbols = 257
guard_symbols = 16
longest_delay_s = 100e-6
[client]
rotation = { instrument = "lamp", i_channel = 1, q_channel = 2 }
lo_phase = "lamp"
gain = "lamp"
digitizer = { instrument = "lamp", channel = 1 }
arrival_meter = { instrument = "meter", channel = 2, ratio = 10.0, ratio_uncertainty = 0.03 }
maximum_arriving_power_w = 0.02
[client.constants]
phase_shifter_v_pi_v = 2.0
gain_per_v = 0.25
emission_factor = 1.0
efficiency = 0.8
electronic_noise = 0.07
detector_delay_s = 3e-9
"""
)


@pytest.mark.parametrize("text", [CLIENT, CLIENT.replace("[watch]\nevery_s = 0.02\n", "")])
def test_light_that_arrives_at_the_client_is_within_what_its_file_allows(
    lab: Lab, tmp_path: Path, text: str
) -> None:
    """At the stated rate, or twice a second where none is stated."""
    with station_of(tmp_path, text) as station:
        lamp = station["lamp"]
        lamp.set_emission(True)
        lab.power_w = 1.9e-3
        assert not lab.dark.wait(0.1)
        lab.power_w = 2.1e-3
        assert lab.dark.wait(5.0)
        with pytest.raises(StoppedError) as stopped:
            lamp.set_emission(True)
        line = 1 + text.splitlines().index("maximum_arriving_power_w = 0.02")
        assert stopped.value.reason == (
            "client.arriving_power_w = 0.021, must be at most 0.02 W by "
            f"client.maximum_arriving_power_w at {station.path}:{line}"
        )


def test_a_watch_of_nothing_is_refused(lab: Lab, tmp_path: Path) -> None:
    """No limits, and an arrival meter that is simulated in this process, or no maximum."""
    simulated = 'library = "@labctl"\n' + CLIENT
    without = CLIENT.replace("maximum_arriving_power_w = 0.02\n", "")
    for text in (simulated, without):
        with pytest.raises(StationFileError, match="nothing is watched: expected limits here"):
            station_of(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("meter/2.power_w", "metre.power_w", "no instrument 'metre'; did you mean 'meter'?"),
        ("meter/2.power_w", "meter.power_dbm", "meter has no reading 'power_dbm'"),
        ("meter/2.power_w", "power_w", "expected a reading as 'monitor.power_w'"),
        ("high = 0.02, ", "", "expected low, high or both"),
    ],
)
def test_a_limit_that_nothing_is_read_for_is_refused(
    lab: Lab, tmp_path: Path, old: str, new: str, fault: str
) -> None:
    with pytest.raises(StationFileError, match=fault.replace("?", r"\?")):
        station_of(tmp_path, FILE.replace(old, new))


def test_a_reading_waits_for_the_programs_calls_and_they_for_it() -> None:
    turns = Turns()
    with turns.call(), turns.call(), turns.reading(0.05) as free:
        assert not free
    order: list[str] = []

    def program() -> None:
        with turns.call():
            order.append("call")

    with turns.reading(0.05) as free:
        assert free
        calling = threading.Thread(target=program)
        calling.start()
        time.sleep(0.05)
        order.append("reading")
    calling.join(5.0)
    assert order == ["reading", "call"]
