"""SCPI headers and the path rule."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_syntax import header_expression, program_units
from labctl.instruments.codecs.scpi_values import Form

PATTERN = "[:SOURce#]:FUNCtion:ARBitrary:SRATe"
NODES = [["", ":SOUR", ":SOURCE"], [":FUNC", ":FUNCTION"], [":ARB", ":ARBITRARY"]]
LAST = [":SRAT", ":SRATE"]
NAMES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=12)


def headers(message: bytes) -> list[str]:
    return [unit.header + "?" * unit.query for unit in program_units(message)]


@settings(deadline=None)
@given(st.tuples(*(st.sampled_from(names) for names in [*NODES, LAST])), st.data())
def test_long_short_and_optional_nodes_match(chosen: tuple[str, ...], data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from(["", "1", "2", "12"])) if chosen[0] else ""
    match = header_expression(PATTERN).fullmatch(chosen[0] + suffix + "".join(chosen[1:]))
    assert match is not None
    assert int(match.group(1) or 1) == int(suffix or 1)


@settings(deadline=None)
@given(st.integers(1, 6))
def test_nothing_between_short_and_long_form_matches(length: int) -> None:
    expression = header_expression(":CURRent")
    name = "CURRENT"[:length]
    assert (expression.fullmatch(":" + name) is not None) == (name == "CURR")


@settings(deadline=None)
@given(NAMES)
def test_a_header_without_a_suffix_mark_takes_no_suffix(name: str) -> None:
    assert header_expression(":" + name).fullmatch(f":{name}")
    assert header_expression(":" + name).fullmatch(f":{name}2") is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"SOUR:WAV 1310;WAV?", [":SOUR:WAV", ":SOUR:WAV?"]),
        (b"SOUR:WAV 1310;:SOUR:WAV?", [":SOUR:WAV", ":SOUR:WAV?"]),
        (b"SOUR:WAV 1310;SOUR:WAV?", [":SOUR:WAV", ":SOUR:SOUR:WAV?"]),
        (b"SOUR:WAV 1;*CLS;WAV?", [":SOUR:WAV", ":*CLS", ":SOUR:WAV?"]),
        (b" sense:Corr:wav 1550.0nm ; wav? \r", [":SENSE:CORR:WAV", ":SENSE:CORR:WAV?"]),
        (b";;*IDN?;", [":*IDN?"]),
        (b"  \r", []),
    ],
)
def test_units_continue_the_path_of_the_one_before(message: bytes, expected: list[str]) -> None:
    assert headers(message) == expected


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"1ABC", -101),
        (b"\xff", -101),
        (b"A,B", -102),
        (b'A "open', -151),
        (b"A 1,", -102),
        (b"A 1,,2", -102),
        (b"A (1", -102),
        (b'A "x" "y"', -103),
        (b"A #35", -161),
        (b"A #x", -161),
        (b"A #15abc", -161),
    ],
)
def test_what_is_wrong_has_a_code(message: bytes, code: int) -> None:
    with pytest.raises(ScpiError) as caught:
        list(program_units(message))
    assert caught.value.code == code


def test_parameters_of_every_form_are_told_apart() -> None:
    (unit,) = program_units(b"""X 1 , 'a;"b' , "c""d",(@1,2), #13\n;" , #H1F, word""")
    forms = [(p.form, bytes(p.data)) for p in unit.parameters]
    assert forms == [
        (Form.PLAIN, b"1"),
        (Form.STRING, b'a;"b'),
        (Form.STRING, b'c"d'),
        (Form.EXPRESSION, b"(@1,2)"),
        (Form.BLOCK, b'\n;"'),
        (Form.PLAIN, b"#H1F"),
        (Form.PLAIN, b"word"),
    ]


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_crash_the_parser(message: bytes) -> None:
    try:
        units = list(program_units(message))
    except ScpiError as error:
        assert -200 < error.code <= -100  # noqa: PT017 (either outcome is fine)
    else:
        assert all(unit.header.startswith(":") for unit in units)


@pytest.mark.parametrize("message", [b"X 'a', 1, ", b"X 'a',1,;*OPC", b"X 'a' , #11x,", b"X 1,"])
def test_a_comma_with_nothing_behind_it_is_refused_unless_the_last_parameter_may_lack(
    message: bytes,
) -> None:
    with pytest.raises(ScpiError):
        list(program_units(message))
    unit, *_ = program_units(message, last_may_lack=True)
    whole, *_ = program_units(message.rstrip(b" ;*OPC").rstrip(b","))
    assert unit == whole


@pytest.mark.parametrize("message", [b"X ,1", b"X 1,,2", b"X ,", b"X 1,,"])
def test_only_the_last_parameter_may_lack(message: bytes) -> None:
    with pytest.raises(ScpiError):
        list(program_units(message, last_may_lack=True))
