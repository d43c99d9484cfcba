"""Conversions: known values, and each undoes its opposite."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl import units

ratios = st.floats(min_value=1e-30, max_value=1e30)
decibels = st.floats(min_value=-300.0, max_value=300.0)


@pytest.mark.parametrize(
    ("value_db", "ratio"), [(0.0, 1.0), (10.0, 10.0), (-20.0, 0.01), (3.0, 1.9952623149688795)]
)
def test_decibels_are_ten_times_the_decimal_logarithm(value_db: float, ratio: float) -> None:
    assert units.db_to_ratio(value_db) == pytest.approx(ratio, rel=1e-12)
    assert units.ratio_to_db(ratio) == pytest.approx(value_db, abs=1e-12)


@given(decibels)
@settings(deadline=None)
def test_decibels_survive_the_way_there_and_back(value_db: float) -> None:
    assert units.ratio_to_db(units.db_to_ratio(value_db)) == pytest.approx(value_db, abs=1e-9)


@given(decibels, decibels)
@settings(deadline=None)
def test_gains_in_a_row_add_up_in_decibels(first_db: float, second_db: float) -> None:
    product = units.db_to_ratio(first_db) * units.db_to_ratio(second_db)
    assert units.db_to_ratio(first_db + second_db) == pytest.approx(product, rel=1e-9)


@given(ratios)
@settings(deadline=None)
def test_powers_survive_the_way_there_and_back(power_w: float) -> None:
    assert units.dbm_to_w(units.w_to_dbm(power_w)) == pytest.approx(power_w, rel=1e-9)


def test_a_milliwatt_is_0_dbm() -> None:
    assert units.dbm_to_w(0.0) == pytest.approx(1e-3, rel=1e-15)
    assert units.w_to_dbm(1e-3) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("dark", [0.0, -1e-9])
def test_no_light_is_minus_infinity_dbm(dark: float) -> None:
    assert units.w_to_dbm(dark) == -math.inf
    assert units.ratio_to_db(dark) == -math.inf


def test_1550_nm_is_193_414_thz() -> None:
    assert units.wavelength_to_frequency_hz(1550e-9) == pytest.approx(193.4144890e12, rel=1e-9)


@given(st.floats(min_value=1e9, max_value=1e16))
@settings(deadline=None)
def test_wavelength_and_frequency_undo_each_other(frequency_hz: float) -> None:
    wavelength_m = units.frequency_to_wavelength_m(frequency_hz)
    assert units.wavelength_to_frequency_hz(wavelength_m) == pytest.approx(frequency_hz, rel=1e-14)


def test_a_photon_at_1550_nm_has_0_8_electronvolt() -> None:
    energy_j = units.photon_energy_j(units.wavelength_to_frequency_hz(1550e-9))
    assert energy_j / units.ELEMENTARY_CHARGE_C == pytest.approx(0.79990, abs=1e-5)
