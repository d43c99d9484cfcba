"""DD-100: replies closed by `Done`, errors that may or may not be, darkness as the safe state."""

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
from labctl.instruments.attenuators.oz_optics_dd100 import DD100Options, OzOpticsDD100
from labctl.instruments.capabilities import Identity
from labctl.testing.scripts import ScriptedLines

DESCRIPTION = (
    "DD100MC",
    "V6.2a",
    "NO:303699-01",
    "MAX ATTEN:55.00",
    "OVERSHOOT:-30",
    "CALIB:1",
    "IL:0.00",
    "WAVELENGTH:2000",
    "Done",
)
Lines = tuple[str, ...]


def script(*steps: tuple[str, Lines | LabctlError]) -> ScriptedLines:
    return ScriptedLines(steps)


@pytest.mark.parametrize("before", [(), ("",), ("", "Welcome")])
def test_identity(before: Lines) -> None:
    identity = OzOpticsDD100(script(("CD", before + DESCRIPTION))).identify()
    assert identity == Identity("OZ Optics", "DD100MC", "303699-01", "V6.2a")


@pytest.mark.parametrize("reply", [("EPC400", "V1", "Done"), ("Done",), ("DD100MC", "Done")])
def test_another_model_is_refused(reply: Lines) -> None:
    with pytest.raises(ReplyError, match=r"expected a DD100.*'CD'"):
        OzOpticsDD100(script(("CD", reply))).identify()


def test_another_model_of_the_family_is_an_option() -> None:
    wire = script(("CD", ("DA100", *DESCRIPTION[1:])))
    assert OzOpticsDD100(wire, DD100Options(model="DA100")).identify().model == "DA100"


@pytest.mark.parametrize(
    ("option", "value"), [("terminator", "\n"), ("baud_rate", 0), ("model", ""), ("model", 100)]
)
def test_wrong_options_are_named(option: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"dut option {option} = "):
        OzOpticsDD100.open("dut", "ASRL1::INSTR", library="@py", options={option: value})


def test_attenuation_is_set_in_hundredths_and_read_back() -> None:
    wire = script(
        ("CD", DESCRIPTION),
        ("A12.35", ("", "Pos:4060", "Done")),
        ("A?", ("", "Atten:12.35(dB)", "Done")),
    )
    attenuator = OzOpticsDD100(wire)
    attenuator.set_attenuation(12.3456)
    assert attenuator.attenuation_db() == 12.35
    wire.finish()


@settings(deadline=None)
@given(st.floats(0, 55))
def test_any_attenuation_within_the_range_is_one_command(attenuation_db: float) -> None:
    wire = script(("CD", DESCRIPTION), (f"A{attenuation_db:.2f}", ("Pos:1", "Done")))
    OzOpticsDD100(wire).set_attenuation(attenuation_db)
    wire.finish()


def test_minus_zero_is_zero() -> None:
    wire = script(("CD", DESCRIPTION), ("A0.00", ("Pos:0", "Done")))
    OzOpticsDD100(wire).set_attenuation(-0.0)
    wire.finish()


@pytest.mark.parametrize("attenuation_db", [-0.01, 55.01, float("nan"), float("inf")])
def test_an_attenuation_beyond_the_range_is_not_sent(attenuation_db: float) -> None:
    wire = script(("CD", DESCRIPTION))
    attenuator = OzOpticsDD100(wire)
    for _ in range(2):
        with pytest.raises(LimitError, match="0 to 55 dB"):
            attenuator.set_attenuation(attenuation_db)
    wire.finish()


@pytest.mark.parametrize("text", ["Error!", "Error-8", "ERROR", "Error: 12"])
def test_an_error_line_is_raised_and_what_may_follow_it_discarded(text: str) -> None:
    wire = script(("CD", DESCRIPTION), ("A55.00", ("", text)))
    attenuator = OzOpticsDD100(wire)
    with pytest.raises(InstrumentReportedError, match=f"{text}.*'A55.00'"):
        attenuator.set_attenuation(55.0)
    assert wire.cleared == 1


def test_motor_insertion_loss_home_and_restart() -> None:
    wire = script(
        ("D", ("DPos:123", "ATTEN:5.00", "Done")),
        ("L1.50", ("", "Done")),
        ("H", ("", "Done")),
        ("RST", ("", "Done")),
    )
    attenuator = OzOpticsDD100(wire)
    assert attenuator.motor_position() == 123
    attenuator.set_insertion_loss(1.5)
    attenuator.home()
    attenuator.reset()
    wire.finish()


@pytest.mark.parametrize("loss_db", [-0.1, float("nan"), float("inf")])
def test_an_insertion_loss_is_a_loss(loss_db: float) -> None:
    with pytest.raises(LimitError, match="loss_db"):
        OzOpticsDD100(script()).set_insertion_loss(loss_db)


@pytest.mark.parametrize("line", ["Atten:", "Atten:x(dB)", "Pos:5", "", "Atten:nan"])
def test_garbage_is_no_attenuation(line: str) -> None:
    with pytest.raises(ReplyError, match=r"no number behind 'ATTEN:'.*'A\?'"):
        OzOpticsDD100(script(("A?", (line, "Done")))).attenuation_db()


def test_half_a_step_is_no_motor_position() -> None:
    with pytest.raises(ReplyError, match="no number of steps"):
        OzOpticsDD100(script(("D", ("DPos:1.5", "Done")))).motor_position()


def test_a_reply_that_is_not_closed_times_out() -> None:
    with pytest.raises(InstrumentTimeoutError):
        OzOpticsDD100(script(*2 * [("A?", ("Atten:5.00(dB)",))])).attenuation_db()


def test_the_safe_state_is_the_darkest_even_if_nothing_was_asked_before() -> None:
    wire = script(("CD", DESCRIPTION), ("A55.00", ("Pos:9000", "Done")))
    attenuator = OzOpticsDD100(wire)
    attenuator.safe_state()
    attenuator.close()
    wire.finish()
    assert wire.closed


def test_a_lost_connection_passes_through() -> None:
    silent: Any = InstrumentTimeoutError("scripted", "no answer", "CD")
    with pytest.raises(InstrumentTimeoutError):
        OzOpticsDD100(script(("CD", silent), ("CD", silent))).safe_state()
