"""InfiniiVision: words low byte first, scaled by the preamble, times from the trigger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from labctl.errors import InstrumentReportedError, InstrumentTimeoutError, LimitError, ReplyError
from labctl.instruments.oscilloscopes.keysight_infiniivision import (
    InfiniiVisionOptions,
    KeysightInfiniiVision,
)
from labctl.testing.scripts import ScriptedTransport

Accepted = Callable[..., list[Any]]
RECORD = ":WAV:FORM WORD;:WAV:BYT LSBF;:WAV:UNS 1;:WAV:POIN:MODE RAW;:WAV:POIN MAX"
PREAMBLE = "+1,+0,+4,+1,+1.0E-09,-2.0E-06,+0,+1.0E-03,+5.0E-01,+32768"
DONE = (":OPER:COND?", "+0")


@pytest.mark.parametrize("model", ["DSO-X 3034A", "MSO-X 4104A", "DSOX1102G"])
def test_identity(model: str) -> None:
    wire = ScriptedTransport([("*IDN?", f"KEYSIGHT TECHNOLOGIES,{model},MY1,02.50")])
    assert KeysightInfiniiVision(wire).identify().model == model


def test_another_oscilloscope_is_refused() -> None:
    wire = ScriptedTransport([("*IDN?", "RIGOL TECHNOLOGIES,DS1104Z,X,1")])
    with pytest.raises(ReplyError, match="DS1104Z"):
        KeysightInfiniiVision(wire).identify()


def test_a_record_is_scaled_by_its_preamble(accepted: Accepted) -> None:
    codes = np.array([32768, 32769, 0, 65535], "<u2").tobytes()
    wire = ScriptedTransport(
        [
            DONE,
            *accepted(f":WAV:SOUR CHAN2;{RECORD}"),
            (":WAV:PRE?", PREAMBLE),
            (":WAV:DATA?", codes),
        ]
    )
    trace = KeysightInfiniiVision(wire).read(2)
    assert trace.voltage_v.dtype == np.float32
    expected = [0.5, 0.501, 0.5 - 32.768, 0.5 + 32.767]
    np.testing.assert_allclose(trace.voltage_v, expected, rtol=1e-6)
    np.testing.assert_allclose(trace.time_s, [-2e-6, -1.999e-6, -1.998e-6, -1.997e-6])
    wire.finish()


def test_the_time_reference_is_taken_into_account(accepted: Accepted) -> None:
    preamble = PREAMBLE.replace(",+0,+1.0E-03", ",+1000,+1.0E-03")
    wire = ScriptedTransport(
        [
            DONE,
            *accepted(f":WAV:SOUR CHAN1;{RECORD}"),
            (":WAV:PRE?", preamble),
            (":WAV:DATA?", bytes(8)),
        ]
    )
    assert KeysightInfiniiVision(wire).read(1).start_s == pytest.approx(-3e-6)


@pytest.mark.parametrize(
    "preamble",
    [
        "",
        "1,2,3",
        PREAMBLE.replace("+1,+0", "+0,+0", 1),
        PREAMBLE.replace("+4", "+0", 1),
        PREAMBLE.replace("+1.0E-09", "0"),
        PREAMBLE.replace("+1.0E-03", "nan"),
        PREAMBLE + ",1",
        PREAMBLE.replace("+4", "x", 1),
    ],
)
def test_a_preamble_that_makes_no_sense_is_a_reply_error(accepted: Accepted, preamble: str) -> None:
    wire = ScriptedTransport(
        [DONE, *accepted(f":WAV:SOUR CHAN1;{RECORD}"), (":WAV:PRE?", preamble)]
    )
    with pytest.raises(ReplyError, match=r":WAV:PRE\?"):
        KeysightInfiniiVision(wire).read(1)


@pytest.mark.parametrize("payload", [b"", bytes(7), bytes(10)])
def test_a_record_of_another_length_is_a_reply_error(accepted: Accepted, payload: bytes) -> None:
    wire = ScriptedTransport(
        [
            DONE,
            *accepted(f":WAV:SOUR CHAN1;{RECORD}"),
            (":WAV:PRE?", PREAMBLE),
            (":WAV:DATA?", payload),
        ]
    )
    with pytest.raises(ReplyError, match=f"expected 4 samples .* got {len(payload)} bytes"):
        KeysightInfiniiVision(wire).read(1)


def test_without_a_trigger_the_likely_cause_is_named() -> None:
    wire = ScriptedTransport([(":OPER:COND?", "+8")] * 200)
    scope = KeysightInfiniiVision(wire, InfiniiVisionOptions(trigger_timeout_s=1.0))
    with pytest.raises(InstrumentTimeoutError, match=r"no trigger within 1 s.*trigger level"):
        scope.read(1)
    assert 1.0 <= wire.clock.now_s() < 1.1


@pytest.mark.parametrize(("reply", "complete"), [("+8", False), ("+0", True), ("+40", False)])
def test_bit_three_says_that_the_record_is_awaited(reply: str, complete: bool) -> None:
    wire = ScriptedTransport([(":OPER:COND?", reply)])
    assert KeysightInfiniiVision(wire).complete() is complete


def test_a_channel_and_a_record_are_configured(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        accepted(
            ":CHAN3:IMP FIFT",
            ":CHAN3:RANG 1.6",
            ":CHAN3:OFFS -0.2",
            ":TIM:REF CENT",
            ":TIM:RANG 0.0001",
            ":TIM:POS 4e-05",
        )
    )
    scope = KeysightInfiniiVision(wire, InfiniiVisionOptions(input_impedance="FIFT"))
    scope.configure_channel(3, range_v=1.6, offset_v=-0.2)
    scope.configure_record(start_s=-10e-6, duration_s=100e-6)
    wire.finish()


@pytest.mark.parametrize(("source", "word"), [("external", "EXT"), (2, "CHAN2")])
def test_trigger_and_arm(accepted: Accepted, source: Any, word: str) -> None:
    wire = ScriptedTransport(
        accepted(
            f":TRIG:EDGE:SOUR {word}",
            ":TRIG:EDGE:SLOP POS",
            ":TRIG:EDGE:LEV 0.7",
            ":CHAN1:DISP 1",
            ":CHAN2:DISP 1",
            ":SING",
        )
    )
    scope = KeysightInfiniiVision(wire)
    scope.configure_trigger(source, level_v=0.7)
    scope.arm([1, 2])
    wire.finish()


def test_nothing_impossible_is_sent() -> None:
    scope = KeysightInfiniiVision(ScriptedTransport([]), InfiniiVisionOptions(channels=2))
    nan = float("nan")
    for call in (
        lambda: scope.configure_channel(3, range_v=1, offset_v=0),
        lambda: scope.configure_channel(1, range_v=0, offset_v=0),
        lambda: scope.configure_channel(1, range_v=nan, offset_v=0),
        lambda: scope.configure_channel(1, range_v=1, offset_v=nan),
        lambda: scope.configure_record(start_s=0, duration_s=-1),
        lambda: scope.configure_record(start_s=nan, duration_s=1),
        lambda: scope.configure_trigger(0, level_v=0),
        lambda: scope.configure_trigger("external", level_v=nan),
        lambda: scope.arm([]),
        lambda: scope.arm([1, 3]),
        lambda: scope.read(5),
    ):
        with pytest.raises(LimitError):
            call()


def test_a_refused_range_names_the_command() -> None:
    wire = ScriptedTransport(
        [
            (":CHAN1:RANG 1000", None),
            ("SYST:ERR?", '-222,"Data out of range"'),
            ("SYST:ERR?", '+0,"No error"'),
        ]
    )
    with pytest.raises(InstrumentReportedError, match=r"-222.*:CHAN1:RANG 1000"):
        KeysightInfiniiVision(wire).configure_channel(1, range_v=1000, offset_v=0)


def test_safe_state_stops(accepted: Accepted) -> None:
    wire = ScriptedTransport(accepted(":STOP"))
    KeysightInfiniiVision(wire).safe_state()
    wire.finish()
