"""PM100D: nanometres on the wire, watts always, every setting checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labctl.errors import InstrumentReportedError, InstrumentTimeoutError, LimitError, ReplyError
from labctl.instruments.capabilities import Identity
from labctl.instruments.power_meters.thorlabs_pm100d import ThorlabsPM100D
from labctl.testing.scripts import ScriptedTransport

OK = '+0,"No error"'
LIMITS: list[Any] = [("SENS:CORR:WAV? MIN", "8.0E+02"), ("SENS:CORR:WAV? MAX", "1.7E+03")]
Accepted = Callable[..., list[Any]]


def test_identity() -> None:
    wire = ScriptedTransport([("*IDN?", "THORLABS,PM100D,P0000001,2.7.0")])
    identity = ThorlabsPM100D(wire).identify()
    assert identity == Identity("THORLABS", "PM100D", "P0000001", "2.7.0")


@pytest.mark.parametrize("reply", ["THORLABS,PM400,1,1", "", "garbage", "a,b,c"])
def test_whoever_else_answers_is_named(reply: str) -> None:
    with pytest.raises(ReplyError, match=r"\*IDN\?") as raised:
        ThorlabsPM100D(ScriptedTransport([("*IDN?", reply)])).identify()
    assert repr(reply) in str(raised.value)


def test_the_wavelength_travels_in_nanometres(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            *LIMITS,
            *accepted("SENS:CORR:WAV 1550.120000"),
            *2 * [("SENS:CORR:WAV?", "1.550120E+03")],
        ]
    )
    meter = ThorlabsPM100D(wire)
    meter.set_wavelength(1550.12e-9)
    assert meter.wavelength_m() == pytest.approx(1550.12e-9, rel=1e-12)
    wire.finish()


def test_the_limits_of_the_sensor_are_themselves_allowed(accepted: Accepted) -> None:
    lowest, highest = (accepted(f"SENS:CORR:WAV {nm}.000000") for nm in (800, 1700))
    seen = [[("SENS:CORR:WAV?", reply)] for reply in ("8.000000E+02", "1.700000E+03")]
    wire = ScriptedTransport([*LIMITS, *lowest, *seen[0], *LIMITS, *highest, *seen[1]])
    meter = ThorlabsPM100D(wire)
    meter.set_wavelength(800e-9)
    meter.set_wavelength(1700e-9)
    wire.finish()


@pytest.mark.parametrize("wavelength_m", [1550.0, 0.0, 799e-9, 1701e-9, float("nan")])
def test_a_wavelength_that_the_sensor_has_not_is_not_sent(wavelength_m: float) -> None:
    wire = ScriptedTransport(LIMITS)
    with pytest.raises(LimitError, match=r"8e-07 to 1.7e-06 m"):
        ThorlabsPM100D(wire).set_wavelength(wavelength_m)
    wire.finish()


def test_power_is_in_watts_whatever_the_front_panel_was_set_to(accepted: Accepted) -> None:
    measured, fetched = "SENS:POW:UNIT?;:MEAS:POW?", "SENS:POW:UNIT?;:FETC?"
    to_watts = accepted("SENS:POW:UNIT W")
    wire = ScriptedTransport(
        [
            *((measured, "DBM;-2.9E+00"), *to_watts, (measured, "W;1.234000E-03")),
            (measured, "W;-2.100000E-04"),
            *((fetched, "DBM;0.0E+00"), *to_watts, (fetched, "W;1.0E-03")),
        ]
    )
    meter = ThorlabsPM100D(wire)
    assert [meter.power_w(), meter.power_w()] == [1.234e-3, -2.1e-4]
    assert meter.latest_power_w() == 1e-3
    wire.finish()


@pytest.mark.parametrize(
    "reply", ["9.9E+37", "-9.9E37", "9.91E37", "1_0", "nan", "", "on", "1.0,2.0"]
)
def test_what_is_no_power_is_not_handed_out(reply: str) -> None:
    wire = ScriptedTransport([("SENS:POW:UNIT?;:MEAS:POW?", f"W;{reply}")])
    with pytest.raises(ReplyError, match=r"MEAS:POW\?"):
        ThorlabsPM100D(wire).power_w()


def test_a_meter_that_keeps_its_unit_is_refused(accepted: Accepted) -> None:
    both = ("SENS:POW:UNIT?;:MEAS:POW?", "DBM;-2.9E+00")
    wire = ScriptedTransport([both, *accepted("SENS:POW:UNIT W"), both])
    with pytest.raises(ReplyError, match="unit is 'DBM' after it was set to W"):
        ThorlabsPM100D(wire).power_w()
    wire.finish()


def test_zero_waits_until_the_adjustment_ends(accepted: Accepted) -> None:
    status = "SENS:CORR:COLL:ZERO:STAT?"
    wire = ScriptedTransport(
        [*accepted("SENS:CORR:COLL:ZERO"), (status, "1"), (status, "0"), ("SYST:ERR?", OK)]
    )
    ThorlabsPM100D(wire).zero()
    wire.finish()
    assert wire.clock.now_s() > 0


def test_zero_that_never_ends_times_out(accepted: Accepted) -> None:
    never = [("SENS:CORR:COLL:ZERO:STAT?", "1")] * 700
    wire = ScriptedTransport([*accepted("SENS:CORR:COLL:ZERO"), *never])
    with pytest.raises(InstrumentTimeoutError, match="is the sensor dark"):
        ThorlabsPM100D(wire).zero()
    assert 30 <= wire.clock.now_s() < 31


def test_a_refused_setting_names_the_command_and_empties_the_queue() -> None:
    wire = ScriptedTransport(
        [
            ("ABOR", None),
            ("SYST:ERR?", '-113,"Undefined header"'),
            ("SYST:ERR?", '-350,"Queue overflow"'),
            ("SYST:ERR?", OK),
        ]
    )
    with pytest.raises(InstrumentReportedError, match=r"-113, Undefined header.*'ABOR'") as raised:
        ThorlabsPM100D(wire).safe_state()
    assert raised.value.code == -113
    wire.finish()


@pytest.mark.parametrize("reply", ["", "no error", "\xff"])
def test_an_error_queue_that_answers_garbage_is_a_reply_error(reply: str) -> None:
    wire = ScriptedTransport([("ABOR", None), ("SYST:ERR?", reply)])
    with pytest.raises(ReplyError, match="after 'ABOR'"):
        ThorlabsPM100D(wire).safe_state()


def test_a_time_out_passes_through() -> None:
    silent = InstrumentTimeoutError("scripted", "no answer", "*IDN?")
    with pytest.raises(InstrumentTimeoutError):
        ThorlabsPM100D(
            ScriptedTransport([("*IDN?", silent), ("SYST:ERR?", OK), ("*IDN?", silent)])
        ).identify()


def test_one_reply_that_is_dropped_costs_nothing() -> None:
    silent = InstrumentTimeoutError("scripted", "no answer", "*IDN?")
    identity = "THORLABS,PM100D,P0000001,2.7.0"
    wire = ScriptedTransport([("*IDN?", silent), ("SYST:ERR?", OK), ("*IDN?", identity)])
    assert ThorlabsPM100D(wire).identify().serial == "P0000001"
    wire.finish()


def test_an_error_reply_that_is_dropped_is_looked_for_in_the_event_register() -> None:
    """No error bit: the setting was taken. One: it may have been refused, which nobody can tell."""
    silent = InstrumentTimeoutError("scripted", "no answer", "SYST:ERR?")
    start: list[tuple[str | bytes, Any]] = [("ABOR", None), ("SYST:ERR?", silent)]
    wire = ScriptedTransport([*start, ("*ESR?", "+0"), ("SYST:ERR?", OK)])
    ThorlabsPM100D(wire).safe_state()
    wire.finish()
    wire = ScriptedTransport([*start, ("*ESR?", "+16")])
    with pytest.raises(InstrumentTimeoutError):
        ThorlabsPM100D(wire).safe_state()
    wire.finish()


def test_a_query_that_is_refused_says_what_the_instrument_reports() -> None:
    silent = InstrumentTimeoutError("scripted", "no answer", "SENS:POW:UNIT?;:FETC?")
    wire = ScriptedTransport(
        [
            ("SENS:POW:UNIT?;:FETC?", silent),
            ("SYST:ERR?", '-230,"Data corrupt or stale"'),
            ("SYST:ERR?", OK),
            ("ABOR", None),
            ("SYST:ERR?", OK),
        ]
    )
    meter = ThorlabsPM100D(wire)
    with pytest.raises(InstrumentReportedError, match=r"-230, Data corrupt.*:FETC\?'"):
        meter.latest_power_w()
    meter.safe_state()
    wire.finish()
