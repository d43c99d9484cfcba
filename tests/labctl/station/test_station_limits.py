"""The limits of a station file hold for everything that the station hands out, for any caller."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from labctl.data import shipped_fleet_station_path
from labctl.errors import InstrumentTimeoutError, LimitError
from labctl.instruments import capabilities
from labctl.instruments.attenuators.oz_optics_dd100 import OzOpticsDD100
from labctl.instruments.capabilities import (
    Instrument,
    PowerMeter,
    TunableLaser,
    VoltageSource,
    WaveformGenerator,
)
from labctl.instruments.codecs.itla import Request
from labctl.instruments.lasers.itla_registers import Register
from labctl.quantities import quantities_of
from labctl.station import Station
from labctl.station.conveniences import conveniences
from labctl.station.guard import guarded, unguarded
from labctl.station.limits import Allowed, Limits
from labctl.testing.wires import SilentWire

V = Limits("box", {"voltage_v": Allowed(-1.0, 1.0, "lab.toml:7")})


@dataclass
class Output:
    """One channel of a box; notes what reaches it."""

    sent: list[object] = field(default_factory=list)

    def set_voltage(self, voltage_v: float) -> None:
        self.sent.append(voltage_v)

    def voltage_v(self) -> float:
        return 0.0


def _append(sent: list[object], voltage_v: float) -> None:
    sent.append(voltage_v)


class Box:
    """An instrument that can be set in every way that anybody thought of."""

    def __init__(self) -> None:
        self.name = "box"
        self.first = Output()
        self.sent = self.first.sent
        self.read: Callable[[], object] = lambda: None
        self.hook: Callable[..., None] = partial(_append, self.sent)

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        return cls()

    @property
    def level_v(self) -> float:
        return 0.0

    @level_v.setter
    def level_v(self, value: float) -> None:
        self.sent.append(value)

    @property
    def voltage_v(self) -> float:
        return 0.0

    @voltage_v.setter
    def voltage_v(self, value: float) -> None:
        self.sent.append(value)

    def channel(self, number: int) -> Output:
        return self.first

    def channels(self) -> tuple[Output, ...]:
        return (self.first,)

    def each(self) -> Iterator[Output]:
        yield self.first

    def by_name(self) -> dict[str, Output]:
        return {"one": self.first}

    def __getitem__(self, number: int) -> Output:
        return self.first

    def itself(self) -> Self:
        return self

    def set_voltages(self, voltages_v: list[float]) -> None:
        self.sent.append(voltages_v)

    def set_all(self, **values: float) -> None:
        self.sent.append(values)

    def play(self, channel: int, *, amplitude_v: float, offset_v: float = 0.0) -> None:
        self.sent.append((amplitude_v, offset_v))

    def set_levels(self, *, low_v: float, high_v: float) -> None:
        self.sent.append((low_v, high_v))

    def source_current(self, current_a: float, *, voltage_limit_v: float) -> None:
        self.sent.append(voltage_limit_v)

    def setter(self) -> Callable[[float], None]:
        return self.first.set_voltage

    def safe_state(self) -> None:
        self.channel(1).set_voltage(-5.0)


BEYOND: dict[str, Callable[[Any], object]] = {
    "a channel": lambda box: box.channel(1).set_voltage(1.5),
    "a channel, by keyword": lambda box: box.channel(1).set_voltage(voltage_v=1.5),
    "an attribute": lambda box: box.first.set_voltage(1.5),
    "a tuple of channels": lambda box: box.channels()[0].set_voltage(1.5),
    "an iterator of channels": lambda box: next(iter(box.each())).set_voltage(1.5),
    "a dictionary of channels": lambda box: box.by_name()["one"].set_voltage(1.5),
    "an index": lambda box: box[1].set_voltage(1.5),
    "what returns itself": lambda box: box.itself().itself().channel(1).set_voltage(1.5),
    "a property": lambda box: setattr(box, "voltage_v", 1.5),
    "several values": lambda box: box.set_voltages([0.0, 1.5]),
    "open keywords": lambda box: box.set_all(voltage_v=1.5),
    "amplitude and offset": lambda box: box.play(1, amplitude_v=0.6, offset_v=-0.5),
    "an amplitude alone": lambda box: box.play(1, amplitude_v=-1.5),
    "two levels": lambda box: box.set_levels(low_v=-1.5, high_v=0.0),
    "a current's voltage limit": lambda box: box.source_current(1e-3, voltage_limit_v=1.5),
    "a function that came out": lambda box: box.setter()(1.5),
    "a function that is kept": lambda box: box.hook(1.5),
    "an array": lambda box: box.channel(1).set_voltage(np.array([0.0, 1.5])),
    "a number of numpy": lambda box: box.channel(1).set_voltage(np.float32(1.5)),
    "not a number": lambda box: box.channel(1).set_voltage(float("nan")),
    "infinity": lambda box: box.channel(1).set_voltage(float("-inf")),
    "text": lambda box: box.channel(1).set_voltage("0.5"),
    "no number at all": lambda box: box.channel(1).set_voltage(object()),
}


@pytest.mark.parametrize("way", BEYOND)
def test_nothing_beyond_the_limits_is_sent_whatever_the_way(way: str) -> None:
    box = Box()
    with pytest.raises(LimitError, match=r"-1 to 1 V by limits\.voltage_v at lab\.toml:7"):
        BEYOND[way](guarded(box, V))
    assert box.sent == []


def test_what_is_within_the_limits_is_sent_as_it_was_given() -> None:
    box = Box()
    behind = guarded(box, V)
    behind.channel(1).set_voltage(-1.0)
    behind.set_voltages([1.0, 0.5])
    behind.play(1, amplitude_v=0.5, offset_v=0.5)
    behind.voltage_v = 0.25
    behind.level_v = 9.0
    assert box.sent == [-1.0, [1.0, 0.5], (0.5, 0.5), 0.25, 9.0]


@pytest.mark.parametrize(
    "value", [Path("a"), Fraction(1, 3), np.ones(2), np.float32(1), Allowed(0, 1, ""), [1], b"x"]
)
def test_what_is_a_value_comes_out_as_it_is(value: object) -> None:
    box = Box()
    box.read = lambda: value
    assert guarded(box, V).read() is value


def test_a_safe_state_is_reached_whatever_the_limits() -> None:
    box = Box()
    guarded(box, V).safe_state()
    assert box.sent == [-5.0]


def test_a_wrong_call_is_the_calls_own_error() -> None:
    with pytest.raises(TypeError, match="voltage"):
        guarded(Box(), V).channel(1).set_voltage(volts=0.5)


def test_to_isinstance_it_is_what_it_stands_for() -> None:
    behind = guarded(Box(), V)
    assert isinstance(behind, Box)
    assert isinstance(behind.channel(1), VoltageSource)
    assert not isinstance(behind, PowerMeter)
    assert unguarded(behind).first is unguarded(behind.first)
    assert behind.name == "box"
    assert {"channel", "first", "play"} <= set(dir(behind))


@pytest.fixture(scope="module")
def fleet() -> Iterator[Station]:
    with Station.read(shipped_fleet_station_path()) as station:
        yield station


FLEET_BEYOND: dict[str, Callable[[Station], object]] = {
    "a laser's power": lambda s: s.swept_laser.set_power(0.015),
    "a laser's power in dBm": lambda s: s.swept_laser.set_power_dbm(11.0),
    "a laser's colour": lambda s: s.swept_laser.set_frequency(1.7e14),
    "a laser's colour in nm": lambda s: s.swept_laser.set_wavelength_nm(1640.0),
    "a laser's sweep": lambda s: s.swept_laser.configure_sweep(1490e-9, 1550e-9, 5e-8),
    "a channel of a plan": lambda s: s.link_laser.set_channel(1),
    "a plan": lambda s: s.link_laser.set_channel_plan(1.915e14, 1e11),
    "an output": lambda s: s["generator/2"].set_voltage(5.5),
    "an output by its method": lambda s: s.generator.hold_voltage(1, -5.5),
    "a waveform": lambda s: s.generator.play(
        1, "W", sample_rate_hz=1e6, amplitude_v=3.0, offset_v=2.5
    ),
    "a shape": lambda s: s.generator.play_shape(1, "SIN", frequency_hz=1e3, amplitude_v=5.5),
    "levels": lambda s: s.generator.set_levels(1, low_v=0.0, high_v=5.5),
    "a bias": lambda s: s.modulator_bias.hold_voltage(8.0),
    "a source meter's voltage": lambda s: s.bias_source.set_voltage(11.0),
    "a source meter's current": lambda s: s.bias_source.set_current_limit(2e-3),
    "a current's voltage": lambda s: s.bias_source.source_current(1e-4, voltage_limit_v=20.0),
    "a supply's output": lambda s: s["supply/2"].set_voltage(12.5),
    "a heater": lambda s: s["heaters/6"].set_voltage(10.5),
    "all heaters": lambda s: s.heaters.set_voltages([0.0] * 7 + [10.5]),
    "a heater's current": lambda s: s.heaters.drive_current(6, 0.021),
    "a slow output": lambda s: s.fast_readout.pins.set_output_v(0, 1.5),
    "a fast output": lambda s: s.fast_readout.generator.play_shape(
        1, "SINE", frequency_hz=1e3, amplitude_v=0.2
    ),
}


@pytest.mark.parametrize("way", FLEET_BEYOND)
def test_every_driver_of_the_fleet_is_kept_within_its_limits(way: str, fleet: Station) -> None:
    with pytest.raises(LimitError, match=r"by limits\.\w+ at .*fleet\.toml:\d+"):
        FLEET_BEYOND[way](fleet)


def test_what_the_fleet_hands_out_is_what_was_asked_for(fleet: Station) -> None:
    laser = fleet.instrument("swept_laser", TunableLaser)
    laser.set_power(5e-3)
    assert isinstance(fleet.generator, WaveformGenerator)
    assert all(isinstance(fleet[name], Instrument) for name in fleet)
    kinds = [kind for kind in vars(capabilities).values() if getattr(kind, "_is_protocol", False)]
    for name in fleet:
        plain = unguarded(fleet[name])
        for kind in kinds:
            if getattr(kind, "_is_runtime_protocol", False):
                assert isinstance(fleet[name], kind) == isinstance(plain, kind), (name, kind)


def test_nm_and_dbm_stand_beside_si(fleet: Station) -> None:
    laser, meter = fleet.tunable_laser, fleet["meter/2"]
    laser.set_wavelength_nm(1550.0)
    laser.set_power_dbm(3.0)
    meter.set_wavelength_nm(1550.0)
    assert laser.wavelength_nm() == pytest.approx(1550.0, abs=1e-4)
    assert meter.wavelength_nm() == pytest.approx(1550.0, abs=1e-6)
    laser.set_emission(True)
    assert laser.power_dbm() == pytest.approx(3.0, abs=0.05)
    laser.set_emission(False)


def test_nm_and_dbm_stand_only_beside_a_power_or_a_wavelength(fleet: Station) -> None:
    amplifier = fleet.modulator_bias.amplifier
    assert hasattr(amplifier, "set_power"), "which takes on or off"
    assert not any(name.endswith(("_dbm", "_nm")) for name in dir(amplifier))
    with pytest.raises(AttributeError):
        amplifier.set_power_dbm(-30.0)


def test_a_method_of_the_same_name_that_takes_something_else_has_no_counterpart() -> None:
    class Switch:
        def set_power(self, on: bool) -> None: ...
        def power_w(self, channel: int) -> None: ...
        def set_frequency(self, frequency_hz: float, channel: int) -> None: ...
        def set_wavelength(self, *, wavelength_m: float) -> None: ...

        frequency_hz = 1e14

    assert conveniences(Switch) == {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e6, -1e9, "3", None])
def test_a_power_in_dbm_that_is_none_is_refused_like_any_other(value: Any, fleet: Station) -> None:
    with pytest.raises(LimitError, match=r"power_(dbm|w) = "):
        fleet.tunable_laser.set_power_dbm(value)


@pytest.mark.parametrize("value", [0.0, -1550.0, math.nan, math.inf, 1e-320, "1550", None])
@pytest.mark.parametrize("name", ["tunable_laser", "meter/2"])
def test_a_wavelength_in_nm_that_is_none_is_refused(name: str, value: Any, fleet: Station) -> None:
    with pytest.raises(LimitError):
        fleet[name].set_wavelength_nm(value)


class InDbm:
    """A laser whose driver takes dBm and nm itself; notes what reaches it."""

    def __init__(self) -> None:
        self.sent: list[float] = []

    def set_power_dbm(self, power_dbm: float) -> None:
        self.sent.append(power_dbm)

    def set_wavelength_nm(self, wavelength_nm: float) -> None:
        self.sent.append(wavelength_nm)


def test_a_drivers_own_methods_in_dbm_and_nm_are_bound_by_limits_in_si_units() -> None:
    laser = InDbm()
    allowed = {
        "power_w": Allowed(0.0, 0.01, "lab.toml:7"),
        "frequency_hz": Allowed(193e12, 194e12, "lab.toml:8"),
    }
    behind = guarded(laser, Limits("laser", allowed))
    behind.set_power_dbm(10.0)
    behind.set_wavelength_nm(1550.0)
    assert laser.sent == [10.0, 1550.0]
    for power_dbm in (10.1, 1e6):
        with pytest.raises(LimitError, match=r"power_w = .*at most 0\.01|0 to 0\.01 W"):
            behind.set_power_dbm(power_dbm)
    with pytest.raises(LimitError, match="frequency_hz"):
        behind.set_wavelength_nm(1560.0)
    assert laser.sent == [10.0, 1550.0]
    assert quantities_of(InDbm) >= {"power_w", "wavelength_m", "frequency_hz"}


def test_a_laser_that_reads_0_hz_has_no_finite_wavelength() -> None:
    class Dark:
        def frequency_hz(self) -> float:
            return 0.0

    assert guarded(Dark(), V).wavelength_nm() == math.inf


def test_a_file_in_which_nothing_may_be_sent_sends_nothing(tmp_path: Path) -> None:
    text = shipped_fleet_station_path().read_text(encoding="utf-8")
    bench = shipped_fleet_station_path().with_name("fleet_bench.toml")
    text = text.replace("fleet_bench.toml@labctl", f"{bench}@labctl")
    path = tmp_path / "dark.toml"
    path.write_text(text.replace("power_w = { high = 0.010 }", "power_w = { high = -1.0 }"))
    with Station.read(path) as station, pytest.raises(LimitError):
        station.tunable_laser.set_power(1e-9)


def test_a_laser_that_was_left_while_switching_on_can_be_used_at_once(fleet: Station) -> None:
    plain = unguarded(fleet.link_laser)
    # As a program that is killed right after it has sent the command.
    plain._registers._checked(Request(Register.RES_ENA, 8, write=True), "write RES_ENA")
    fleet.link_laser.set_power(10e-3)
    assert fleet.link_laser.emission()
    fleet.link_laser.safe_state()


@pytest.mark.parametrize("loss_db", [0.0, 20.0])
def test_what_a_limited_attenuation_counts_from_is_not_moved(loss_db: float) -> None:
    wire = SilentWire()
    limited = Limits("att", {"attenuation_db": Allowed(10.0, math.inf, "lab.toml:7")})
    attenuator = guarded(OzOpticsDD100(wire), limited)
    with pytest.raises(LimitError, match=r"limits\.attenuation_db at lab\.toml:7"):
        attenuator.set_insertion_loss(loss_db)
    assert wire.said == []
    with pytest.raises(InstrumentTimeoutError):
        guarded(OzOpticsDD100(wire), Limits("att", {})).set_insertion_loss(loss_db)
    assert wire.said == [f"L{loss_db:.2f}"]
