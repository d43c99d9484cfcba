"""How 816x and N77xx instruments write numbers, and read powers."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Form, Parameter
from labctl.instruments.simulated.panels.optical_values import (
    DBM,
    WATT,
    PowerUnit,
    format_power,
    long_number,
    parse_power_w,
)


def plain(text: str) -> Parameter:
    return Parameter(Form.PLAIN, text.encode())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.55e-6, "+1.55000000E-006"),
        (-3.0, "-3.00000000E+000"),
        (1e100, "+9.90000000E+037"),
        (-math.inf, "-9.90000000E+037"),
        (1e-200, "+1.00000000E-200"),
    ],
)
def test_exponents_have_three_digits(value: float, text: str) -> None:
    assert long_number(value) == text


@pytest.mark.parametrize(
    ("text", "unit", "power_w"),
    [
        ("3.000000 dBm", WATT, 1.995262e-3),
        ("3", DBM, 1.995262e-3),
        ("3000MDBM", DBM, 1.995262e-3),
        ("2", WATT, 2.0),
        ("2 mW", DBM, 2e-3),
        ("5 Watt", DBM, 5.0),
        ("5 uWatt", DBM, 5e-6),
    ],
)
def test_powers_are_read_with_their_suffix_or_in_the_unit(
    text: str, unit: int, power_w: float
) -> None:
    assert parse_power_w(plain(text), unit) == pytest.approx(power_w, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "code"), [("1 nm", -131), ("much", -104), ("999 dBm", -222), ("1e999 W", -222)]
)
def test_other_powers_are_refused(text: str, code: int) -> None:
    with pytest.raises(ScpiError) as trouble:
        parse_power_w(plain(text), WATT)
    assert trouble.value.code == code


@settings(deadline=None)
@given(st.floats(1e-15, 1e3), st.sampled_from([DBM, WATT]))
def test_a_power_that_was_written_is_read_back(power_w: float, unit: int) -> None:
    text = format_power(power_w, unit)
    assert parse_power_w(plain(text), unit) == pytest.approx(power_w, rel=1e-5)


def test_units_are_numbers_or_names() -> None:
    words = ("0", "DBM", "1", "+1", "w", "Watt")
    assert [PowerUnit().parse(plain(word)) for word in words] == [0, 0, 1, 1, 1, 1]
    assert (PowerUnit().format(DBM), PowerUnit().format(WATT)) == ("+0", "+1")
