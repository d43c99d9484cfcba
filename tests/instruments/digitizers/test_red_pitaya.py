"""Red Pitaya: the finest decimation that holds the record, volts high byte first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.errors import (
    InstrumentReportedError,
    InstrumentTimeoutError,
    LimitError,
    ReplyError,
    SettingError,
)
from labctl.instruments.digitizers.red_pitaya import RedPitaya, RedPitayaOptions
from labctl.testing.scripts import ScriptedTransport

IDN = "REDPITAYA,INSTR2024,0,01-16"
SIZE = ("ACQ:BUF:SIZE?", "16384")
DONE: list[Any] = [("ACQ:TRIG:STAT?", "TD"), ("ACQ:TRIG:FILL?", "1")]


def counted(*commands: str) -> list[Any]:
    return [step for command in commands for step in ((command, None), ("SYST:ERR:COUN?", "0"))]


def record(decimation: int, delay: int) -> list[Any]:
    settings_ = (f"ACQ:DEC {decimation}", "ACQ:AVG ON", f"ACQ:TRIG:DLY {delay}")
    return [SIZE, *counted(*settings_)]


ARM = ("ACQ:DATA:FORMAT BIN", "ACQ:DATA:UNITS VOLTS", "ACQ:START", "ACQ:TRIG EXT_PE")


def armed(*steps: Any, options: RedPitayaOptions | None = None) -> tuple[RedPitaya, Any]:
    """Return a board that records four samples from the external trigger on, and its wire."""
    wire = ScriptedTransport([*record(1, 8192), *counted(*ARM), *steps])
    board = RedPitaya(wire, options)
    board.configure_record(start_s=0.0, duration_s=32e-9)
    board.configure_trigger("external", level_v=0.0)
    board.arm([1, 2])
    return board, wire


def test_identity() -> None:
    assert RedPitaya(ScriptedTransport([("*IDN?", IDN)])).identify().model == "INSTR2024"


@pytest.mark.parametrize("reply", ["KEYSIGHT,DSOX1102G,1,1", "ACME,INSTR1,1,1", "", "REDPITAYA"])
def test_another_instrument_is_refused(reply: str) -> None:
    with pytest.raises(ReplyError, match=r"\*IDN\?"):
        RedPitaya(ScriptedTransport([("*IDN?", reply)])).identify()


@pytest.mark.parametrize(
    ("option", "value"),
    [("jumpers", "MV"), ("channels", 5), ("averaging", 1), ("sample_rate_hz", 0)],
)
def test_wrong_options_are_named(option: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"dut option {option} = "):
        RedPitaya.open("dut", "ASRL1::INSTR", library="@py", options={option: value})


@pytest.mark.parametrize(
    ("range_v", "offset_v", "gain"),
    [(2.0, 0.0, "LV"), (1.0, -0.5, "LV"), (2.0, 0.1, "HV"), (40.0, 0.0, "HV"), (0.1, 15.0, "HV")],
)
def test_the_smaller_range_that_holds_the_signal_is_chosen(
    range_v: float, offset_v: float, gain: str
) -> None:
    wire = ScriptedTransport(counted(f"ACQ:SOUR2:GAIN {gain}"))
    RedPitaya(wire).configure_channel(2, range_v=range_v, offset_v=offset_v)
    wire.finish()


def test_jumpers_leave_no_choice() -> None:
    wire = ScriptedTransport(counted("ACQ:SOUR1:GAIN HV"))
    RedPitaya(wire, RedPitayaOptions(jumpers="HV")).configure_channel(1, range_v=1, offset_v=0)
    wire.finish()
    low = RedPitaya(ScriptedTransport([]), RedPitayaOptions(jumpers="LV"))
    with pytest.raises(LimitError, match="at most 1 V"):
        low.configure_channel(1, range_v=4.0, offset_v=0.0)


@pytest.mark.parametrize(
    ("range_v", "offset_v"),
    [(41.0, 0.0), (1.0, 20.0), (0.0, 0.0), (-1.0, 0.0), (1.0, float("nan")), (float("inf"), 0.0)],
)
def test_a_range_that_no_input_has_is_not_sent(range_v: float, offset_v: float) -> None:
    with pytest.raises(LimitError, match="range_v"):
        RedPitaya(ScriptedTransport([])).configure_channel(1, range_v=range_v, offset_v=offset_v)


@pytest.mark.parametrize(
    ("start_s", "duration_s", "decimation", "delay"),
    [
        (0.0, 131.072e-6, 1, 8192),
        (0.0, 131.08e-6, 2, 8192),
        (-65.536e-6, 131.072e-6, 1, 0),
        (-131.072e-6, 1e-9, 1, -8192),
        (1e-3, 1e-3, 8, 8192 + 15625),
        (0.0, 8.589934592, 65536, 8192),
    ],
)
def test_the_finest_decimation_that_holds_the_record_is_chosen(
    start_s: float, duration_s: float, decimation: int, delay: int
) -> None:
    wire = ScriptedTransport(record(decimation, delay))
    RedPitaya(wire).configure_record(start_s=start_s, duration_s=duration_s)
    wire.finish()


@pytest.mark.parametrize(
    ("start_s", "duration_s", "what"),
    [
        (0.0, 8.6, "duration_s"),
        (0.0, 0.0, "duration_s"),
        (0.0, float("nan"), "duration_s"),
        (-132e-6, 100e-6, "start_s"),
        (float("nan"), 100e-6, "start_s"),
        (float("inf"), 100e-6, "start_s"),
        (18.0, 100e-6, "start_s"),
    ],
)
def test_a_record_that_the_buffer_cannot_hold_is_not_sent(
    start_s: float, duration_s: float, what: str
) -> None:
    wire = ScriptedTransport([SIZE])
    with pytest.raises(LimitError, match=what):
        RedPitaya(wire).configure_record(start_s=start_s, duration_s=duration_s)
    wire.finish()


class Board(ScriptedTransport):
    """Takes every setting, has triggered, and sends as many zeros as are asked for."""

    def query(self, command: str) -> str:
        known = {"ACQ:BUF:SIZE?": "16384", "ACQ:TRIG:STAT?": "TD", "ACQ:TRIG:FILL?": "1"}
        return known.get(command, "0")

    def write(self, command: str) -> None:
        self.sent.append(command)

    def query_block(self, command: str) -> memoryview:
        return memoryview(bytes(4 * int(command.partition("? ")[2])))


@settings(deadline=None)
@given(st.floats(1e-9, 8.5), st.floats(-0.9, 5.0))
def test_a_record_covers_what_was_asked_for(duration_s: float, start: float) -> None:
    start_s = start * duration_s
    board = RedPitaya(Board([]))
    board.configure_record(start_s=start_s, duration_s=duration_s)
    board.configure_trigger(1, level_v=0.1)
    board.arm([1])
    trace = board.read(1)
    samples = len(trace.voltage_v)
    assert samples <= 16384
    assert abs(trace.start_s - start_s) <= 0.501 * trace.interval_s
    assert samples * trace.interval_s >= duration_s * (1 - 1e-8)
    assert (samples - 1) * trace.interval_s <= duration_s
    assert trace.interval_s == 8e-9 or samples > 8191


def test_a_record_is_big_endian_volts() -> None:
    volts = np.array([0.5, -0.25, 1e-3, -1.0], np.float32)
    board, wire = armed(
        ("ACQ:TRIG:STAT?", "WAIT"),
        ("ACQ:TRIG:STAT?", "TD"),
        ("ACQ:TRIG:FILL?", "0"),
        *DONE,
        ("ACQ:SOUR2:DATA:OLD:N? 4", volts.astype(">f4").tobytes()),
    )
    trace = board.read(2)
    assert trace.voltage_v.dtype == np.float32
    assert trace.voltage_v.dtype.isnative
    np.testing.assert_array_equal(trace.voltage_v, volts)
    np.testing.assert_allclose(trace.time_s, [0.0, 8e-9, 16e-9, 24e-9], atol=1e-15)
    wire.finish()


def test_the_samples_before_the_trigger_are_waited_for_before_it_is_armed() -> None:
    wire = ScriptedTransport([*record(1024, -4015), *counted(*ARM)])
    board = RedPitaya(wire)
    board.configure_record(start_s=-0.1, duration_s=0.1)
    board.configure_trigger("external", level_v=0.0)
    board.arm([1])
    assert wire.clock.now_s() == pytest.approx(0.1, rel=1e-4)
    wire.finish()


def test_a_channel_triggers_at_a_level() -> None:
    wire = ScriptedTransport(
        [*counted("ACQ:TRIG:LEV 0.25"), *record(1, 8192), *counted(*ARM[:3], "ACQ:TRIG CH2_PE")]
    )
    board = RedPitaya(wire)
    board.configure_trigger(2, level_v=0.25)
    board.configure_record(start_s=0.0, duration_s=1e-6)
    board.arm([1])
    wire.finish()


@pytest.mark.parametrize("source", [0, 3, "line"])
def test_there_is_no_other_trigger(source: Any) -> None:
    with pytest.raises(LimitError, match="trigger source"):
        RedPitaya(ScriptedTransport([])).configure_trigger(source, level_v=0.0)
    with pytest.raises(LimitError, match="level_v"):
        RedPitaya(ScriptedTransport([])).configure_trigger("external", level_v=float("nan"))


def test_what_was_not_configured_cannot_be_armed_or_read() -> None:
    board = RedPitaya(ScriptedTransport(record(1, 8192)))
    with pytest.raises(LimitError, match="at least one channel"):
        board.arm([])
    with pytest.raises(LimitError, match="1 to 2"):
        board.arm([1, 3])
    with pytest.raises(LimitError, match="configure_record"):
        board.arm([1])
    with pytest.raises(LimitError, match="armed first"):
        board.read(1)
    board.configure_record(start_s=0.0, duration_s=1e-6)
    with pytest.raises(LimitError, match="configure_trigger"):
        board.arm([1])


def test_without_a_trigger_the_likely_cause_is_named() -> None:
    waiting = [("ACQ:TRIG:STAT?", "WAIT")] * 200
    board, wire = armed(*waiting, options=RedPitayaOptions(trigger_timeout_s=1.0))
    with pytest.raises(InstrumentTimeoutError, match=r"no trigger within 1 s.*'ACQ:TRIG EXT_PE'"):
        board.read(1)
    assert 1.0 <= wire.clock.now_s() < 1.1


@pytest.mark.parametrize("payload", [b"", bytes(12), bytes(15), bytes(20)])
def test_a_record_of_another_length_is_a_reply_error(payload: bytes) -> None:
    board, _ = armed(*DONE, ("ACQ:SOUR1:DATA:OLD:N? 4", payload))
    with pytest.raises(ReplyError, match=f"expected 4 samples .* got {len(payload)} bytes"):
        board.read(1)


def test_samples_that_are_no_numbers_are_a_reply_error() -> None:
    volts = np.array([0, np.nan, 0, 0], ">f4").tobytes()
    board, _ = armed(*DONE, ("ACQ:SOUR1:DATA:OLD:N? 4", volts))
    with pytest.raises(ReplyError, match="not finite"):
        board.read(1)


@pytest.mark.parametrize("reply", ["", "0", "DONE"])
def test_garbage_is_no_trigger_state(reply: str) -> None:
    with pytest.raises(ReplyError, match=r"TRIG:STAT\?"):
        RedPitaya(ScriptedTransport([("ACQ:TRIG:STAT?", reply)])).complete()


@pytest.mark.parametrize("reply", ["", "0", "-5", "many", "1.5"])
def test_garbage_is_no_buffer(reply: str) -> None:
    board = RedPitaya(ScriptedTransport([("ACQ:BUF:SIZE?", reply)]))
    with pytest.raises(ReplyError, match=r"BUF:SIZE\?"):
        board.configure_record(start_s=0.0, duration_s=1e-6)


def test_the_first_of_the_counted_errors_is_raised_and_the_queue_emptied() -> None:
    wire = ScriptedTransport(
        [
            ("ACQ:STOP", None),
            ("SYST:ERR:COUN?", "2"),
            ("SYST:ERR:NEXT?", '-113,"Undefined header"'),
            ("SYST:ERR:COUN?", "1"),
            ("SYST:ERR:NEXT?", '-350,"Queue overflow"'),
            ("SYST:ERR:COUN?", "0"),
        ]
    )
    with pytest.raises(InstrumentReportedError, match=r"-113.*'ACQ:STOP'"):
        RedPitaya(wire, RedPitayaOptions(outputs=0)).safe_state()
    wire.finish()


def test_an_error_queue_that_answers_garbage_is_a_reply_error() -> None:
    wire = ScriptedTransport(
        [("ACQ:STOP", None), ("SYST:ERR:COUN?", "1"), ("SYST:ERR:NEXT?", "none")]
    )
    with pytest.raises(ReplyError, match="after 'ACQ:STOP'"):
        RedPitaya(wire, RedPitayaOptions(outputs=0)).safe_state()


def test_a_stopped_board_is_not_read() -> None:
    board, wire = armed(*counted("OUTPUT1:STATE OFF", "OUTPUT2:STATE OFF", "ACQ:STOP"))
    board.safe_state()
    with pytest.raises(LimitError, match="armed first"):
        board.read(1)
    board.close()
    wire.finish()
    assert wire.closed
