"""N7744A: metres and watts on the wire, logs low byte first, nothing left running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from labctl.errors import (
    InstrumentReportedError,
    InstrumentTimeoutError,
    LimitError,
    ReplyError,
    SettingError,
)
from labctl.instruments.capabilities import Instrument, PowerMeter
from labctl.instruments.power_meters.keysight_n7744a import (
    KeysightN7744A,
    N7744AOptions,
)
from labctl.testing.scripts import ScriptedTransport

OK = '+0,"No error"'
IDN = "Keysight Technologies,N7744A,DE49700123,1.120"
BUSY = "LOGGING_STABILITY,PROGRESS"
IN_WATTS, IN_WATTS_2 = (("SENS1:POW:UNIT?", "+1"), ("SENS2:POW:UNIT?", "+1"))
IDLE = [(f"SENS{number}:FUNC:STAT?", "NONE,PROGRESS") for number in (1, 2, 3, 4)]
Accepted = Callable[..., list[Any]]


def test_its_ports_are_power_meters() -> None:
    meter = KeysightN7744A(ScriptedTransport([]))
    assert isinstance(meter, Instrument)
    for number in (1, 2, 3, 4):
        assert isinstance(meter.channel(number), PowerMeter)


@pytest.mark.parametrize("model", ["N7744A", "N7745A", "N7744C", "N7745C"])
def test_identity(model: str) -> None:
    wire = ScriptedTransport([("*IDN?", IDN.replace("N7744A", model))])
    assert KeysightN7744A(wire).identify().model == model


@pytest.mark.parametrize("reply", [IDN.replace("N7744A", "N7776C"), "", "x,y"])
def test_another_model_is_refused(reply: str) -> None:
    with pytest.raises(ReplyError, match=r"\*IDN\?"):
        KeysightN7744A(ScriptedTransport([("*IDN?", reply)])).identify()


@pytest.mark.parametrize("number", [0, 5, -1])
def test_there_are_four_ports_unless_told_otherwise(number: int) -> None:
    with pytest.raises(LimitError, match="1 to 4"):
        KeysightN7744A(ScriptedTransport([])).channel(number)
    eight = KeysightN7744A(ScriptedTransport([]), N7744AOptions(channels=8))
    assert isinstance(eight.channel(8), PowerMeter)


@pytest.mark.parametrize(
    ("option", "value"),
    [("channels", 9), ("channels", 4.0), ("max_samples", 0), ("log_grace_s", -1)],
)
def test_wrong_options_are_named(option: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"dut option {option} = "):
        KeysightN7744A.open("dut", "ASRL1::INSTR", library="@py", options={option: value})


def test_wavelength_and_averaging_travel_in_base_units(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            *accepted("SENS2:POW:WAV 1.5501200000E-06"),
            ("SENS2:POW:WAV?", "+1.55012000E-006"),
            *accepted("SENS2:POW:ATIM 0.02"),
            ("SENS2:POW:ATIM?", "+2.00000000E-002"),
        ]
    )
    port = KeysightN7744A(wire).channel(2)
    port.set_wavelength(1550.12e-9)
    assert port.wavelength_m() == 1550.12e-9
    port.set_averaging(0.02)
    assert port.averaging_s() == 0.02
    wire.finish()


@pytest.mark.parametrize("wavelength_m", [1550.0, 0.0, 1249e-9, 1651e-9, float("nan")])
def test_a_wavelength_beyond_the_range_is_not_sent(wavelength_m: float) -> None:
    with pytest.raises(LimitError, match=r"1\.25e-06 to 1\.65e-06 m"):
        KeysightN7744A(ScriptedTransport([])).channel(1).set_wavelength(wavelength_m)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan"), float("inf")])
def test_an_averaging_time_is_a_duration(duration_s: float) -> None:
    port = KeysightN7744A(ScriptedTransport([])).channel(1)
    with pytest.raises(LimitError, match="averaging time in s"):
        port.set_averaging(duration_s)
    with pytest.raises(LimitError, match="averaging time in s"):
        port.start_log(10, duration_s)


def test_ranges(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        accepted("SENS1:POW:RANG:AUTO 0", "SENS1:POW:RANG -10.000DBM", "SENS1:POW:RANG:AUTO 1")
    )
    port = KeysightN7744A(wire).channel(1)
    port.set_range(1e-4)
    port.set_range(None)
    wire.finish()
    for power_w in (0.0, -1e-3, float("nan"), float("inf")):
        with pytest.raises(LimitError, match="above 0, at most"):
            port.set_range(power_w)


def test_each_port_is_put_to_watts_when_the_front_panel_shows_dbm(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            ("SENS1:POW:UNIT?;:READ1:POW?", "+0;-2.87000000E+001"),
            *accepted("SENS1:POW:UNIT 1"),
            ("SENS1:POW:UNIT?;:READ1:POW?", "+1;+1.33555600E-006"),
            ("SENS1:POW:UNIT?;:FETC1:POW?", "+0;-2.87000000E+001"),
            *accepted("SENS1:POW:UNIT 1"),
            ("SENS1:POW:UNIT?;:FETC1:POW?", "+1;-2.10000000E-012"),
            ("SENS3:POW:UNIT?;:READ3:POW?", "+1;+1.00000000E-003"),
        ]
    )
    meter = KeysightN7744A(wire)
    assert meter.channel(1).power_w() == 1.335556e-6
    assert meter.channel(1).latest_power_w() == -2.1e-12
    assert meter.channel(3).power_w() == 1e-3
    wire.finish()


@pytest.mark.parametrize(
    "reply", ["+3.40282300E+038", "9.9E37", "-9.9E+37", "9.91E37", "1_0", "nan", ""]
)
def test_what_is_no_power_is_not_handed_out(reply: str) -> None:
    wire = ScriptedTransport([("SENS1:POW:UNIT?;:READ1:POW?", f"+1;{reply}")])
    with pytest.raises(ReplyError, match=r"READ1:POW\?"):
        KeysightN7744A(wire).channel(1).power_w()


def test_zero_waits_until_the_adjustment_ends() -> None:
    wire = ScriptedTransport(
        [("SENS1:CORR:COLL:ZERO", None), ("*OPC?", "0"), ("*OPC?", "1"), ("SYST:ERR?", OK)]
    )
    KeysightN7744A(wire).channel(1).zero()
    wire.finish()


def test_zero_that_never_ends_times_out() -> None:
    wire = ScriptedTransport([("SENS1:CORR:COLL:ZERO", None), *[("*OPC?", "0")] * 100])
    meter = KeysightN7744A(wire, N7744AOptions(zero_timeout_s=2.0))
    with pytest.raises(InstrumentTimeoutError, match="within 2 s; is the port dark"):
        meter.channel(1).zero()
    assert 2 <= wire.clock.now_s() < 2.1


LOG = ("TRIG1:INP IGN", "SENS1:FUNC:PAR:LOGG 3,0.001s")
START, STOP = "SENS1:FUNC:STAT LOGG,STAR", "SENS1:FUNC:STAT LOGG,STOP"


def test_a_log_is_float32_in_watts(accepted: Accepted) -> None:
    sent = np.array([1e-3, -2e-12, 3.4e38], "<f4")
    wire = ScriptedTransport(
        [
            IN_WATTS,
            *accepted(*LOG, START),
            ("SENS1:FUNC:STAT?", BUSY),
            ("SENS1:FUNC:STAT?", BUSY),
            ("SENS1:FUNC:STAT?", "LOGGING_STABILITY,COMPLETE"),
            ("SENS1:FUNC:RES?", sent.tobytes()),
            *accepted(STOP),
        ]
    )
    port = KeysightN7744A(wire).channel(1)
    port.start_log(3, 1e-3)
    assert port.logging()
    powers = port.read_log()
    assert powers.dtype == np.float32
    np.testing.assert_array_equal(powers, np.array([1e-3, -2e-12, np.nan], np.float32))
    wire.finish()


def test_one_external_trigger_may_start_the_whole_log(accepted: Accepted) -> None:
    log = [command.replace("IGN", "CME") for command in LOG]
    wire = ScriptedTransport([IN_WATTS, *accepted(*log, START)])
    KeysightN7744A(wire).channel(1).start_log(3, 1e-3, external_trigger=True)
    wire.finish()


def test_a_log_whose_trigger_never_comes_is_stopped(accepted: Accepted) -> None:
    waiting = [("SENS1:FUNC:STAT?", BUSY)] * 22
    wire = ScriptedTransport([IN_WATTS, *accepted(*LOG, START), *waiting, *accepted(STOP)])
    port = KeysightN7744A(wire, N7744AOptions(log_grace_s=1.0)).channel(1)
    port.start_log(3, 1e-3)
    with pytest.raises(InstrumentTimeoutError, match="did its trigger come"):
        port.read_log()
    wire.finish()


@pytest.mark.parametrize("payload", [b"", bytes(8), bytes(16), bytes(13)])
def test_a_log_of_another_length_is_a_reply_error(accepted: Accepted, payload: bytes) -> None:
    wire = ScriptedTransport(
        [
            IN_WATTS,
            *accepted(*LOG, START),
            ("SENS1:FUNC:STAT?", "NONE,COMPLETE"),
            ("SENS1:FUNC:RES?", payload),
            ("SYST:ERR?", OK),
            *accepted(STOP),
            *IDLE[1:],
        ]
    )
    meter = KeysightN7744A(wire)
    meter.channel(1).start_log(3, 1e-3)
    with pytest.raises(ReplyError, match=f"expected 3 powers .* got {len(payload)} bytes"):
        meter.channel(1).read_log()
    meter.safe_state()
    wire.finish()


@pytest.mark.parametrize("samples", [0, -1, 1_000_001])
def test_a_log_beyond_the_memory_is_not_sent(samples: int) -> None:
    with pytest.raises(LimitError, match="1 to 1000000"):
        KeysightN7744A(ScriptedTransport([])).channel(1).start_log(samples, 1e-3)


def test_a_log_must_be_started_before_it_is_read() -> None:
    with pytest.raises(LimitError, match="started first"):
        KeysightN7744A(ScriptedTransport([])).channel(1).read_log()


@pytest.mark.parametrize("failing", [False, True])
def test_the_safe_state_ends_every_log_and_only_those(accepted: Accepted, failing: bool) -> None:
    silent: Any = InstrumentTimeoutError("scripted", "no answer")
    stop1: list[Any] = [(STOP, silent)] if failing else accepted(STOP)
    stop2, stop3 = (accepted(STOP.replace("1:", f"{number}:")) for number in (2, 3))
    log2 = [command.replace("1:", "2:") for command in (*LOG, START)]
    foreign = ("SENS3:FUNC:STAT?", BUSY)
    wire = ScriptedTransport(
        [
            IN_WATTS,
            *accepted(*LOG, START),
            IN_WATTS_2,
            *accepted(*log2),
            *stop1,
            *stop2,
            foreign,
            *stop3,
            IDLE[3],
        ]
    )
    meter = KeysightN7744A(wire)
    meter.channel(1).start_log(3, 1e-3)
    meter.channel(2).start_log(3, 1e-3)
    if failing:
        with pytest.raises(InstrumentTimeoutError):
            meter.safe_state()
    else:
        meter.safe_state()
    wire.finish()
    meter.close()
    assert wire.closed


def test_an_idle_meter_is_left_alone() -> None:
    wire = ScriptedTransport(IDLE)
    KeysightN7744A(wire).safe_state()
    wire.finish()


def test_a_refused_setting_names_the_command() -> None:
    steps: list[Any] = [
        ("SENS1:POW:ATIM 1000", None),
        ("SYST:ERR?", '-222,"Data out of range"'),
        ("SYST:ERR?", OK),
    ]
    with pytest.raises(InstrumentReportedError, match=r"-222.*'SENS1:POW:ATIM 1000'"):
        KeysightN7744A(ScriptedTransport(steps)).channel(1).set_averaging(1000.0)
