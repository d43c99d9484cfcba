"""The kit's checks catch channels that are mixed up and properties that are not set."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from labctl.data import shipped_fleet_station_path
from labctl.errors import InstrumentError
from labctl.instruments.attenuators.oz_optics_dd100 import OzOpticsDD100
from labctl.instruments.generators.keysight_33512b import Keysight33512B
from labctl.instruments.power_meters.keysight_n7744a import KeysightN7744A
from labctl.instruments.power_meters.keysight_n7744a_port import PowerMeterPort
from labctl.instruments.power_meters.thorlabs_pm100d import ThorlabsPM100D
from labctl.instruments.sources import keysight_e36312a
from labctl.instruments.sources.keysight_e36312a import KeysightE36312A
from labctl.station.file import SIMULATED, library_of, read_station_file
from labctl.testing import Check, driver_checks
from labctl.testing.properties import Property

Spoiled = Callable[[pytest.MonkeyPatch], None]
_Output = keysight_e36312a._Output

ALONE, SAME, FURTHER = "each_channel_is_set_alone", "no_two_channels", "each_further_property"


def checks_of(driver: str, **more: Any) -> dict[str, Check]:
    """Return the checks of a driver of the fleet, on its panel."""
    path = shipped_fleet_station_path()
    station = read_station_file(path)
    name, table = next((n, t) for n, t in station.instruments.items() if t.driver == driver)
    bench = Path(library_of(station, path, name).removesuffix(SIMULATED))
    found = driver_checks(driver, bench=bench, address=table.address, options=table.options, **more)
    return {check.name: check for check in found}


def check_of(driver: str, name: str) -> Check:
    """Return the one check of a driver of the fleet whose name has `name` in it."""
    [check] = [check for each, check in checks_of(driver).items() if name in each]
    return check


def first_port_for_all(patch: pytest.MonkeyPatch) -> None:
    channel = KeysightN7744A.channel
    patch.setattr(KeysightN7744A, "channel", spoilt(channel, lambda number: min(number, 1)))


def last_port_is_the_first(patch: pytest.MonkeyPatch) -> None:
    channel = KeysightN7744A.channel
    swapped = spoilt(channel, lambda number: 1 if number == 4 else number)
    patch.setattr(KeysightN7744A, "channel", swapped)


def inner_port_is_another(patch: pytest.MonkeyPatch) -> None:
    channel = KeysightN7744A.channel
    swapped = spoilt(channel, lambda number: 3 if number == 2 else number)
    patch.setattr(KeysightN7744A, "channel", swapped)


def spoilt(channel: Any, other: Callable[[int], int]) -> Any:
    """Return a method that hands out another channel, and refuses numbers as before."""

    def method(self: Any, number: int) -> PowerMeterPort:
        channel(self, number)
        found: PowerMeterPort = channel(self, other(number))
        return found

    method.__annotations__ = {"number": int, "return": PowerMeterPort}
    return method


def replaced(kind: type, name: str, put: Callable[..., Any]) -> Spoiled:
    """Return what replaces a method by one of the same words and types."""

    def spoil(patch: pytest.MonkeyPatch) -> None:
        old = getattr(kind, name)

        def method(self: Any, *values: Any, **named: Any) -> Any:
            return put(self, old, *values, **named)

        method.__annotations__, method.__doc__ = old.__annotations__, old.__doc__
        method.__name__, vars(method)["__wrapped__"] = name, old
        patch.setattr(kind, name, method)

    return spoil


def on_first(self: Any, old: Any, *values: Any, **named: Any) -> Any:
    """Do it at the supply's first output."""
    first = _Output(self._name, self._scpi, 1, self._max_voltage_v, self._max_current_a)
    return old(first, *values, **named)


def on_port_1(self: Any, old: Any, *values: Any, **named: Any) -> Any:
    return old(PowerMeterPort(self._scpi, 1, self._options), *values, **named)


def voltage_of_first_output(patch: pytest.MonkeyPatch) -> None:
    for name in ("set_voltage", "voltage_v"):
        replaced(_Output, name, on_first)(patch)


SPOILT: dict[str, tuple[str, str, Spoiled]] = {
    "every port is the first": ("keysight_n7744a", ALONE, first_port_for_all),
    "the last port is the first": ("keysight_n7744a", ALONE, last_port_is_the_first),
    "an inner port is another one": ("keysight_n7744a", ALONE, inner_port_is_another),
    "a wavelength that is not set": (
        "keysight_n7744a",
        ALONE,
        replaced(PowerMeterPort, "set_wavelength", lambda self, old, wavelength_m: None),
    ),
    "twice the wavelength": (
        "keysight_n7744a",
        "as_PowerMeter",
        replaced(
            PowerMeterPort,
            "set_wavelength",
            lambda self, old, wavelength_m: self._scpi.set(
                f"{self._sense}:POW:WAV {2 * wavelength_m:.10E}"
            ),
        ),
    ),
    "twice the averaging time": (
        "keysight_n7744a",
        FURTHER,
        replaced(
            PowerMeterPort,
            "set_averaging",
            lambda self, old, duration_s: old(self, 2 * duration_s),
        ),
    ),
    "zero of the first port": (
        "keysight_n7744a",
        SAME,
        replaced(PowerMeterPort, "zero", on_port_1),
    ),
    "power of the first port": (
        "keysight_n7744a",
        SAME,
        replaced(PowerMeterPort, "power_w", on_port_1),
    ),
    "current limit of the first output": (
        "keysight_e36312a",
        SAME,
        replaced(_Output, "set_current_limit", on_first),
    ),
    "voltage measured at the first output": (
        "keysight_e36312a",
        ALONE,
        replaced(_Output, "measured_voltage_v", on_first),
    ),
    "voltage and its reading of the first output": (
        "keysight_e36312a",
        ALONE,
        voltage_of_first_output,
    ),
    "outputs switched by one number": (
        "keysight_33512b",
        SAME,
        replaced(Keysight33512B, "set_output", lambda self, old, channel, on: old(self, 1, on)),
    ),
    "polarity of the first output": (
        "keysight_33512b",
        SAME,
        replaced(
            Keysight33512B,
            "set_polarity",
            lambda self, old, channel, inverted: old(self, 1, inverted),
        ),
    ),
    "waveforms in the first memory": (
        "keysight_33512b",
        "as_WaveformGenerator",
        replaced(
            Keysight33512B,
            "upload",
            lambda self, old, channel, name, samples: old(self, 1, name, samples),
        ),
    ),
    "a loss that is never taken": (
        "thorlabs_pm100d",
        FURTHER,
        replaced(ThorlabsPM100D, "set_loss", lambda self, old, loss_db: old(self, loss_db + 1e3)),
    ),
    "half the range": (
        "thorlabs_pm100d",
        FURTHER,
        replaced(ThorlabsPM100D, "set_range", lambda self, old, power_w: old(self, 0.05 * power_w)),
    ),
    "no number is sent as one": (
        "thorlabs_pm100d",
        FURTHER,
        replaced(
            ThorlabsPM100D,
            "set_loss",
            lambda self, old, loss_db: old(self, 0.0 if math.isnan(loss_db) else loss_db),
        ),
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_driver_with_wrong_channels_or_properties_fails(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, name, spoil = SPOILT[how]
    spoil(monkeypatch)
    check = check_of(driver, name)
    with pytest.raises((AssertionError, InstrumentError, pytest.fail.Exception)):
        check()


@pytest.mark.parametrize(
    ("driver", "owner", "method"),
    [
        ("keysight_n7744a", KeysightN7744A, "channel"),
        ("keysight_e36312a", KeysightE36312A, "dc_output"),
    ],
)
def test_channels_that_all_act_on_the_first_are_found(
    driver: str, owner: type, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = getattr(owner, method)

    @wraps(whole)
    def first(self: Any, number: int) -> Any:
        whole(self, number)
        return whole(self, 1)

    check_of(driver, ALONE)()
    monkeypatch.setattr(owner, method, first)
    with pytest.raises(AssertionError, match=r"channel \d \w+: expected"):
        check_of(driver, ALONE)()


@pytest.mark.parametrize("factor", [0.0, 2.0])
def test_a_setting_that_the_last_channel_alone_gets_wrong_is_found(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PowerMeterPort.set_wavelength

    def wrong(self: Any, wavelength_m: float) -> None:
        if self._sense == "SENS1" or not 1e-6 < wavelength_m < 2e-6:
            whole(self, wavelength_m)
        elif factor:
            self._scpi.set(f"{self._sense}:POW:WAV {factor * wavelength_m:.10E}")

    check_of("keysight_n7744a", "as_PowerMeter")()
    monkeypatch.setattr(PowerMeterPort, "set_wavelength", wrong)
    with pytest.raises(Exception, match=r"[Cc]omparison failed|refus|-222|range"):
        check_of("keysight_n7744a", "as_PowerMeter")()


def test_a_property_that_takes_no_value_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = PowerMeterPort.set_averaging

    @wraps(whole)
    def none(self: Any, duration_s: float) -> None:
        whole(self, -1.0)

    check_of("keysight_n7744a", FURTHER)()
    monkeypatch.setattr(PowerMeterPort, "set_averaging", none)
    with pytest.raises(AssertionError, match=r"set_averaging.*out of range"):
        check_of("keysight_n7744a", FURTHER)()


def test_a_property_can_be_given_its_values_or_left_out() -> None:
    def further(values: tuple[object, ...]) -> None:
        checks = checks_of("thorlabs_pm100d", values={"set_loss": values})
        checks["each_further_property_is_read_back"]()

    further((1.0, 2.0))
    further(())
    with pytest.raises(AssertionError, match=r"set_loss\(loss_db\): expected two values"):
        further((1.0, 1e4))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("hazard", "shutter", "hazard: expected one of Hazard, got 'shutter'"),
        ("leaving_s", -1.0, "leaving_s: expected a duration"),
        ("leaving_s", "15", "leaving_s: expected a duration"),
        ("Options", dict, "Options: expected"),
        ("reads_back", "set_attenuation", "expected a frozenset of its setters"),
        ("reads_back", frozenset({"set_atenuation"}), "got 'set_atenuation'"),
    ],
)
def test_what_a_driver_declares_is_of_its_kind(
    name: str, value: object, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OzOpticsDD100, name, value, raising=False)
    with pytest.raises(AssertionError, match=words):
        checks_of("oz_optics_dd100")["what_it_declares_is_of_its_kind"]()


def test_a_channel_without_its_type_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(KeysightN7744A.channel.__annotations__, "return")
    with pytest.raises(AssertionError, match=r"channel: expected a type for what it returns"):
        checks_of("keysight_n7744a")["what_it_declares_is_of_its_kind"]()


def test_an_attenuation_that_is_said_to_be_read_back_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        ThorlabsPM100D, "reads_back", frozenset({"set_loss", "set_wavelength"}), raising=False
    )
    # The loss is set and not looked at.
    with pytest.raises((AssertionError, pytest.fail.Exception)) as raised:
        checks_of("thorlabs_pm100d")["what_is_read_back_is_found_when_it_is_lost"]()
    assert "while checking ThorlabsPM100D.set_loss" in raised.value.__notes__
    monkeypatch.setattr(ThorlabsPM100D, "reads_back", frozenset({"set_wavelength"}))
    checks_of("thorlabs_pm100d")["what_is_read_back_is_found_when_it_is_lost"]()


def test_values_are_drawn_in_the_unit_of_the_property() -> None:
    taken: list[float] = []

    def tune(wavelength_m: float) -> None:
        taken.append(wavelength_m)

    each = Property.of_argument(tune, "wavelength_m", tune)
    assert each.unit == "m"
    assert {1550e-9, 1310e-9} <= set(each.values())
