"""The kit finds channels that are one another, and settings that only one channel obeys."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from labctl.data import shipped_fleet_station_path
from labctl.instruments.power_meters.keysight_n7744a import KeysightN7744A, PowerMeterPort
from labctl.instruments.sources.keysight_e36312a import KeysightE36312A
from labctl.station.file import SIMULATED, library_of, read_station_file
from labctl.testing import Check, driver_checks

APART = "each_channel_is_set_alone"
FURTHER = "each_further_property_is_read_back"
POWER_METER = "as_PowerMeter_it_reads_back_what_is_set_and_refuses_what_is_wrong"


@pytest.fixture
def check() -> Callable[[str, str], Check]:
    """`check(driver, name)`: one check of a driver, on its panel of the fleet's bench."""
    path = shipped_fleet_station_path()
    station = read_station_file(path)

    def find(driver: str, name: str) -> Check:
        key, table = next(
            (key, each) for key, each in station.instruments.items() if each.driver == driver
        )
        bench = Path(library_of(station, path, key).removesuffix(SIMULATED))
        found = driver_checks(driver, bench=bench, address=table.address, options=table.options)
        return next(each for each in found if each.name == name)

    return find


@pytest.mark.parametrize(
    ("driver", "owner", "method"),
    [
        ("keysight_n7744a", KeysightN7744A, "channel"),
        ("keysight_e36312a", KeysightE36312A, "dc_output"),
    ],
)
def test_channels_that_all_act_on_the_first_are_found(
    driver: str, owner: type, method: str, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = getattr(owner, method)

    @wraps(whole)
    def first(self: Any, number: int) -> Any:
        whole(self, number)
        return whole(self, 1)

    check(driver, APART)()
    monkeypatch.setattr(owner, method, first)
    with pytest.raises(AssertionError, match=r"channel \d \w+: expected"):
        check(driver, APART)()


@pytest.mark.parametrize("factor", [0.0, 2.0])
def test_a_setting_that_the_last_channel_alone_gets_wrong_is_found(
    factor: float, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PowerMeterPort.set_wavelength

    def wrong(self: Any, wavelength_m: float) -> None:
        if self._sense == "SENS1" or not 1e-6 < wavelength_m < 2e-6:
            whole(self, wavelength_m)
        elif factor:
            self._scpi.set(f"{self._sense}:POW:WAV {factor * wavelength_m:.10E}")

    check("keysight_n7744a", POWER_METER)()
    monkeypatch.setattr(PowerMeterPort, "set_wavelength", wrong)
    with pytest.raises(Exception, match=r"[Cc]omparison failed|refus|-222|range"):
        check("keysight_n7744a", POWER_METER)()


def test_a_property_that_takes_no_value_is_found(
    check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PowerMeterPort.set_averaging

    @wraps(whole)
    def none(self: Any, duration_s: float) -> None:
        whole(self, -1.0)

    check("keysight_n7744a", FURTHER)()
    monkeypatch.setattr(PowerMeterPort, "set_averaging", none)
    with pytest.raises(AssertionError, match=r"set_averaging.*out of range"):
        check("keysight_n7744a", FURTHER)()
