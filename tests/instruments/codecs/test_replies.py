"""A reply is a number by IEEE 488.2 or it is none; SCPI's infinity and its "no value" are none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.instruments.codecs.replies import OVERFLOW, number_of


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("1", 1.0),
        ("+0", 0.0),
        (" -2.5 ", -2.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("+1.33555600E-006", 1.335556e-6),
        ("1e3", 1000.0),
        ("3.40282E+37", 3.40282e37),
    ],
)
def test_numbers(reply: str, value: float) -> None:
    assert number_of(reply) == value


@pytest.mark.parametrize(
    "reply",
    ["", " ", "1_0", "nan", "NAN", "inf", "-INFINITY", "0x10", "1,2", "1 2", "1e", "e5", ".",
     "+-1", "--1", "\u0661", "1\u00a0", "1\0", "ON", "1 V"],
)  # fmt: skip
def test_what_is_not_written_as_a_number_is_none(reply: str) -> None:
    with pytest.raises(ValueError, match="expected a number, got"):
        number_of(reply)


@pytest.mark.parametrize(
    "reply", ["9.9E37", "-9.9E37", "9.91E37", "+9.90000000E+037", "9.8999998E+37", "1e400", "-1E99"]
)
def test_overload_infinity_and_no_value_are_no_numbers(reply: str) -> None:
    with pytest.raises(OverflowError, match="overload or no value"):
        number_of(reply)


@given(st.floats(-OVERFLOW, OVERFLOW, exclude_min=True, exclude_max=True))
def test_every_finite_number_comes_back(value: float) -> None:
    assert number_of(repr(value)) == value
    assert number_of(f"{value:+.16E}") == value


@given(st.text(max_size=12))
def test_other_text_never_becomes_a_number(text: str) -> None:
    try:
        value = number_of(text)
    except (ValueError, OverflowError):
        return
    assert math.isfinite(value)
    assert set(text) <= set("0123456789+-.eE \t\r\n")
