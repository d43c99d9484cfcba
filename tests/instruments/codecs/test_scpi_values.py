"""SCPI parameters: numbers with suffixes, limits, words, booleans and strings."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import (
    Boolean,
    Form,
    Integer,
    Number,
    Parameter,
    Text,
    Word,
)


def plain(text: str) -> Parameter:
    return Parameter(Form.PLAIN, text.encode("latin-1"))


@pytest.mark.parametrize(
    ("unit", "text", "value"),
    [
        ("HZ", "1 MHz", 1e6),
        ("HZ", "2.5mahz", 2.5e6),
        ("HZ", "3kHZ", 3e3),
        ("W", "1 mW", 1e-3),
        ("S", "100 ms", 0.1),
        ("M", "1550 nm", 1550e-9),
        ("M", "2 mm", 2e-3),
        ("DBM", "3.000000 dBm", 3.0),
        ("V", "-.5", -0.5),
        ("V", "1.", 1.0),
        ("V", "1E3uV", 1e-3),
        ("", "#H1f", 31.0),
        ("", "#b101", 5.0),
    ],
)
def test_suffixes_scale(unit: str, text: str, value: float) -> None:
    assert Number(unit).parse(plain(text)) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "text", "code"),
    [
        (Number("HZ"), "1 V", -131),
        (Number(), "1 V", -131),
        (Number("V", 0, 5), "5.1", -222),
        (Number("V"), "1e999", -222),
        (Number("V"), "nan", -104),
        (Number("V"), "inf", -104),
        (Number("V"), "MAX", -224),
        (Number("V"), "#B12", -104),
        (Integer(0, 255), "256", -222),
        (Boolean(), "YES", -104),
        (Word("SINusoid"), "SINU", -224),
    ],
)
def test_what_is_not_valid_has_a_code(
    kind: Number | Integer | Boolean | Word, text: str, code: int
) -> None:
    with pytest.raises(ScpiError) as caught:
        kind.parse(plain(text))
    assert caught.value.code == code


@settings(deadline=None)
@given(st.floats(-1e30, 1e30))
def test_numbers_round_trip_to_their_digits(value: float) -> None:
    kind = Number("V", style="{:+.16E}")
    assert kind.parse(plain(kind.format(value))) == value


def test_limits_have_names() -> None:
    kind = Number("V", -1.0, 5.0, 2.0, "{:g}")
    assert [kind.parse(plain(word)) for word in ("min", "MAXimum", "def")] == [-1.0, 5.0, 2.0]
    assert kind.format(kind.limit(plain("MAX"))) == "5"


def test_further_words_stand_for_values() -> None:
    kind = Number("OHM", 1, 1e4, 50, words={"INFinity": math.inf})
    assert kind.parse(plain("inf")) == math.inf
    assert kind.format(math.inf) == "9.9E+37"


def test_integers_round_to_the_nearest() -> None:
    assert [Integer(0, 9).parse(plain(text)) for text in ("1.4", "1.5", "2.5")] == [1, 2, 3]


def test_booleans_read_words_and_numbers() -> None:
    texts = ("on", "OFF", "0", "1", "0.4", "-2")
    assert [Boolean().parse(plain(text)) for text in texts] == [1, 0, 0, 1, 0, 1]


def test_words_reply_in_short_form() -> None:
    kind = Word("CHANnel1", "EXTernal")
    assert [kind.parse(plain(text)) for text in ("channel1", "Ext")] == ["CHAN1", "EXT"]


@settings(deadline=None)
@given(st.text("ab\"'", max_size=10))
def test_strings_are_replied_in_quotes(text: str) -> None:
    assert Text().format(text) == '"' + text.replace('"', '""') + '"'


def test_numbers_take_no_blocks_or_strings() -> None:
    for form in (Form.BLOCK, Form.STRING, Form.EXPRESSION):
        with pytest.raises(ScpiError, match="-104"):
            Number().parse(Parameter(form, b"1"))
