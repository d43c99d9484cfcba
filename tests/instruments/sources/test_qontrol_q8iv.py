"""Q8iv: `OK` after each setting, alarms that come at any time, milliamperes on the wire only."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import (
    InstrumentReportedError,
    InstrumentTimeoutError,
    LabctlError,
    LimitError,
    ReplyError,
    SettingError,
)
from labctl.instruments.capabilities import (
    Identity,
    Instrument,
    SourceMeter,
    VoltageSource,
)
from labctl.instruments.sources.qontrol_q8iv import Q8ivOptions, QontrolQ8iv
from labctl.testing.scripts import ScriptedLines

Lines = tuple[str, ...]
OK: Lines = ("OK",)
FULL: list[tuple[str, Lines]] = [("vfull?", ("+12.000 V",)), ("ifull?", ("+24.000 mA",))]


def script(*steps: tuple[str, Lines | LabctlError]) -> ScriptedLines:
    return ScriptedLines(steps)


def test_its_channels_are_source_meters() -> None:
    source = QontrolQ8iv(script())
    assert isinstance(source, Instrument)
    for channel in range(8):
        assert isinstance(source.dc_output(channel), SourceMeter)
        assert isinstance(source.dc_output(channel), VoltageSource)


def test_identity() -> None:
    identity = QontrolQ8iv(script(("id?", ("Q8iv-0123",)))).identify()
    assert identity == Identity("Qontrol", "Q8iv", "0123", "")


@pytest.mark.parametrize("reply", ["Q8b-0123", "MZI-1", "OK"])
def test_another_module_is_refused(reply: str) -> None:
    with pytest.raises(ReplyError, match=r"expected a Q8iv.*'id\?'"):
        QontrolQ8iv(script(("id?", (reply,)))).identify()


@pytest.mark.parametrize(
    ("option", "value"),
    [("channels", 0), ("max_voltage_v", 0), ("max_current_a", "0.01"), ("baud_rate", 9600.5)],
)
def test_wrong_options_are_named(option: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"dut option {option} = "):
        QontrolQ8iv.open("dut", "ASRL1::INSTR", library="@py", options={option: value})


def test_a_channel_is_set_and_read() -> None:
    wire = script(
        *FULL,
        ("V2=3.30000", OK),
        ("V2?", ("+3.300 V",)),
        ("V2?", ("+3.299 V",)),
        ("I2?", ("+1.000 mA",)),
        ("V2=0.00000", OK),
        ("V2?", ("+0.000 V",)),
    )
    output = QontrolQ8iv(wire).dc_output(2)
    output.set_voltage(3.3)
    assert output.measured_voltage_v() == 3.299
    assert output.measured_current_a() == pytest.approx(1e-3, rel=1e-12)
    output.set_voltage(-0.0)
    wire.finish()


def test_the_options_limits_are_written_once_to_each_channel_that_is_used() -> None:
    wire = script(
        *FULL,
        ("VMAX1=5.00000", OK),
        ("VMAX1?", ("+5.000 V",)),
        ("IMAX1=10.0000", OK),
        ("IMAX1?", ("+10.000 mA",)),
        ("V1=5.00000", OK),
        ("V1?", ("+5.000 V",)),
        ("V1=4.00000", OK),
        ("V1?", ("+4.000 V",)),
    )
    output = QontrolQ8iv(wire, Q8ivOptions(max_voltage_v=5.0, max_current_a=10e-3)).dc_output(1)
    output.set_voltage(5.0)
    output.set_voltage(4.0)
    with pytest.raises(LimitError, match="0 to 5 V"):
        output.set_voltage(5.001)
    with pytest.raises(LimitError, match=r"at most 0\.01 A"):
        output.set_current_limit(11e-3)
    wire.finish()


@pytest.mark.parametrize(("option", "value"), [("max_voltage_v", 12.1), ("max_current_a", 0.025)])
def test_limits_beyond_the_module_are_refused(option: str, value: float) -> None:
    source = QontrolQ8iv(script(*FULL), Q8ivOptions.model_validate({option: value}))
    with pytest.raises(LimitError, match=f"option {option}"):
        source.check_limits()


def test_limits_within_the_module_are_accepted_and_asked_for_once() -> None:
    wire = script(*FULL)
    source = QontrolQ8iv(wire, Q8ivOptions(max_voltage_v=12.0, max_current_a=0.024))
    source.check_limits()
    assert source.full_scale() == pytest.approx((12.0, 0.024))
    wire.finish()


@pytest.mark.parametrize("voltage_v", [-0.1, 12.01, float("nan"), float("inf")])
def test_a_voltage_beyond_full_scale_is_not_sent(voltage_v: float) -> None:
    wire = script(*FULL)
    with pytest.raises(LimitError, match="0 to 12 V"):
        QontrolQ8iv(wire).hold_voltage(1, voltage_v)
    wire.finish()


def test_a_current_limit_in_milliamperes() -> None:
    wire = script(*FULL, ("IMAX3=2.5000", OK), ("IMAX3?", ("+2.500 mA",)))
    QontrolQ8iv(wire).dc_output(3).set_current_limit(2.5e-3)
    wire.finish()


@pytest.mark.parametrize("current_a", [0.0, -1e-3, 0.025, float("nan")])
def test_a_current_limit_beyond_full_scale_is_not_sent(current_a: float) -> None:
    with pytest.raises(LimitError, match="current_a"):
        QontrolQ8iv(script(*FULL)).limit_current(1, current_a)


def test_all_channels_at_once() -> None:
    volts = tuple(f"+{n}.000 V" for n in range(8))
    milliamperes = tuple(f"+{n}.500 mA" for n in range(8))
    values = ",".join(f"{n}.00000" for n in range(8))
    wire = script(
        *FULL,
        (f"VVEC0={values}", OK),
        ("V1?", ("+0.000 V",)),
        ("Vall?", volts),
        ("Iall?", milliamperes),
    )
    source = QontrolQ8iv(wire)
    source.set_voltages([float(n) for n in range(8)])
    assert source.voltages_v() == tuple(float(n) for n in range(8))
    assert source.currents_a() == pytest.approx([(n + 0.5) * 1e-3 for n in range(8)])
    wire.finish()


@pytest.mark.parametrize("voltages_v", [[], [1.0] * 7, [1.0] * 9, [0.0] * 7 + [13.0]])
def test_a_vector_has_a_voltage_for_each_channel(voltages_v: list[float]) -> None:
    with pytest.raises(LimitError, match=r"must be 8|0 to 12 V"):
        QontrolQ8iv(script(*FULL)).set_voltages(voltages_v)


@pytest.mark.parametrize("code", [10, 11, 12, 13, 14, 15, 16])
def test_a_refusal_comes_instead_of_an_answer(code: int) -> None:
    wire = script(*FULL, ("V1=1.00000", (f"E{code}:01",)))
    with pytest.raises(InstrumentReportedError, match=r"channel 1.*'V1=1.00000'") as raised:
        QontrolQ8iv(wire).hold_voltage(1, 1.0)
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("answer", "reading"),
    [
        (("E02:3", "OK"), ("+0.000 V",)),
        (OK, ("E02:3", "+0.000 V")),
        (OK, ("", "E02:3", "E30:0", "+0.000 V")),
    ],
    ids=["before the acknowledgement", "after it", "among others"],
)
def test_an_over_current_is_raised_whenever_it_comes(answer: Lines, reading: Lines) -> None:
    steps: list[tuple[str, Lines]] = [*FULL, ("V3=9.00000", answer)]
    if answer == OK:
        steps.append(("V3?", reading))
    wire = script(*steps)
    with pytest.raises(InstrumentReportedError, match=r"over-current \(channel 3\).*'V3=9.00000'"):
        QontrolQ8iv(wire).dc_output(3).set_voltage(9.0)
    wire.finish()


def test_an_alarm_instead_of_an_answer_explains_the_silence() -> None:
    wire = script(("V1?", ("E03:01",)))
    with pytest.raises(InstrumentReportedError, match="power error"):
        QontrolQ8iv(wire).channel_voltage_v(1)


def test_an_alarm_between_lines_does_not_shift_channels() -> None:
    volts = tuple(f"+{n}.000 V" for n in range(8))
    wire = script(("Vall?", (*volts[:3], "E01:02", *volts[3:])), ("Vall?", volts))
    source = QontrolQ8iv(wire)
    with pytest.raises(InstrumentReportedError, match="over-voltage"):
        source.voltages_v()
    assert source.voltages_v()[7] == 7.0


def test_a_module_that_lost_power_gets_its_limits_again() -> None:
    limit = (("VMAX1=5.00000", OK), ("VMAX1?", ("+5.000 V",)))
    one, read = ("V1=1.00000", OK), ("V1?", ("+1.000 V",))
    wire = script(
        *(*FULL, *limit, one, read),
        *(("I1?", ("E90:00", "+0.000 mA")), *limit, one, read),
    )
    source = QontrolQ8iv(wire, Q8ivOptions(max_voltage_v=5.0))
    source.hold_voltage(1, 1.0)
    with pytest.raises(InstrumentReportedError, match="powered up"):
        source.channel_current_a(1)
    source.hold_voltage(1, 1.0)
    wire.finish()


def test_an_unknown_error_is_raised_all_the_same() -> None:
    wire = script(("V1?", ("E77:01", "+1.000 V")))
    with pytest.raises(InstrumentReportedError, match="error 77, unknown error"):
        QontrolQ8iv(wire).channel_voltage_v(1)


@pytest.mark.parametrize("reply", ["KO", "+3.300 V", "OK OK"])
def test_an_acknowledgement_is_ok_and_nothing_else(reply: str) -> None:
    wire = script(*FULL, ("V1=1.00000", (reply,)))
    with pytest.raises(ReplyError, match="expected OK"):
        QontrolQ8iv(wire).hold_voltage(1, 1.0)
    assert wire.cleared == 1


@pytest.mark.parametrize("reply", ["OK", "+1.000 mA", "1.0", "volts V", "nan V", "+1.0 V +2.0 V"])
def test_garbage_is_no_voltage(reply: str) -> None:
    wire = script(("V1?", (reply,)))
    with pytest.raises(ReplyError, match="expected a number in V"):
        QontrolQ8iv(wire).channel_voltage_v(1)
    assert wire.cleared == 1


@settings(deadline=None)
@given(st.text(st.characters(codec="latin-1"), max_size=12))
def test_whatever_comes_is_a_number_or_an_error(line: str) -> None:
    source = QontrolQ8iv(script(*2 * [("V1?", (line.strip(),))]))
    try:
        voltage_v = source.channel_voltage_v(1)
    except LabctlError:
        return
    assert f"{voltage_v:g}"[0] in "-0123456789"


@pytest.mark.parametrize("channel", [8, 9, -1])
def test_there_are_eight_channels_unless_told_otherwise(channel: int) -> None:
    source = QontrolQ8iv(script())
    for call in (source.dc_output, source.channel_voltage_v, source.channel_current_a):
        with pytest.raises(LimitError, match="0 to 7"):
            call(channel)
    assert isinstance(QontrolQ8iv(script(), Q8ivOptions(channels=16)).dc_output(15), SourceMeter)


@pytest.mark.parametrize("failing", [1, 5, None])
def test_safe_state_tries_every_channel(failing: int | None) -> None:
    silent: Any = InstrumentTimeoutError("scripted", "no answer")
    wire = script(*((f"V{n}=0", silent if n == failing else OK) for n in range(8)))
    source = QontrolQ8iv(wire)
    if failing is None:
        source.safe_state()
    else:
        with pytest.raises(InstrumentTimeoutError):
            source.safe_state()
    source.close()
    wire.finish()
    assert wire.closed
