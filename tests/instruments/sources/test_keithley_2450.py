"""2450: a voltage with a current limit before it, and what is really at the output."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from seen_settings import Accepted, accepted_and_seen

from labctl import testing
from labctl.errors import (
    InstrumentReportedError,
    InstrumentTimeoutError,
    LimitError,
    ReplyError,
    SettingError,
)
from labctl.instruments.capabilities import (
    Identity,
)
from labctl.instruments.sources.keithley_2450 import Keithley2450, Keithley2450Options
from labctl.testing.scripts import ScriptedTransport

OK = '0,"No error;0;0 0"'
FIRST = (
    ":SOUR:FUNC VOLT",
    ":SOUR:VOLT:RANG:AUTO ON",
    ":SOUR:VOLT:ILIM 0.001",
    ":SENS:FUNC 'CURR'",
    ":SENS:CURR:RANG:AUTO ON",
    ":SENS:CURR:NPLC 1",
)
IS_VOLTAGE = (":SOUR:FUNC?", "VOLT")
STILL = (IS_VOLTAGE, (":SOUR:VOLT:ILIM?", "1.000000E-03"))


@pytest.fixture
def accepted() -> Accepted:
    """Settings, each followed by an error query; and by a query of its value where that counts."""

    def shown(value: str) -> str:
        return f"{float(value):.6E}"

    return accepted_and_seen({":SOUR:VOLT": shown, ":SOUR:VOLT:ILIM": shown, ":SOUR:FUNC": str})


@pytest.mark.parametrize(
    ("maker", "model"),
    [("Keithley Instruments Inc.", "Model 2450"), ("KEITHLEY INSTRUMENTS", "MODEL 2450")],
)
def test_identity(maker: str, model: str) -> None:
    wire = ScriptedTransport([("*IDN?", f"{maker}, {model}, 01419964, 3.3.5")])
    assert Keithley2450(wire).identify() == Identity(maker, model, "01419964", "3.3.5")


@pytest.mark.parametrize("reply", ["KEITHLEY INSTRUMENTS INC.,MODEL 2400,1,C30", "", "2450"])
def test_another_model_is_refused(reply: str) -> None:
    with pytest.raises(ReplyError, match=r"\*IDN\?"):
        Keithley2450(ScriptedTransport([("*IDN?", reply)])).identify()


def test_the_scpi_command_set_is_required() -> None:
    Keithley2450(ScriptedTransport([("*LANG?", "SCPI")])).check_command_set()
    with pytest.raises(ReplyError, match=r"'TSP'.*choose SCPI"):
        Keithley2450(ScriptedTransport([("*LANG?", "TSP")])).check_command_set()


def test_the_current_is_limited_before_the_first_voltage(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            IS_VOLTAGE,
            *accepted(*FIRST, ":SOUR:VOLT -2.5", "OUTP ON"),
            *STILL,
            *accepted(":SOUR:VOLT 3", "OUTP ON"),
            (":SOUR:VOLT?", "3.000000E+00"),
        ]
    )
    smu = Keithley2450(wire)
    smu.set_voltage(-2.5)
    smu.set_voltage(3.0)
    assert smu.voltage_v() == 3.0
    wire.finish()


def test_range_and_integration_time_are_options(accepted: Accepted) -> None:
    first = list(FIRST)
    first[1], first[2], first[5] = (
        ":SOUR:VOLT:RANG 20",
        ":SOUR:VOLT:ILIM 0.05",
        ":SENS:CURR:NPLC 0.1",
    )
    wire = ScriptedTransport([IS_VOLTAGE, *accepted(*first, ":SOUR:VOLT 20", "OUTP ON")])
    smu = Keithley2450(wire, Keithley2450Options(range_v=20.0, current_limit_a=0.05, nplc=0.1))
    smu.set_voltage(20.0)
    with pytest.raises(LimitError, match="-20 to 20 V"):
        smu.set_voltage(20.1)
    wire.finish()


def test_a_current_limit_also_holds_after_a_safe_state(accepted: Accepted) -> None:
    limit = ":SOUR:VOLT:ILIM 0.02"
    again = [limit if "ILIM" in command else command for command in FIRST]
    before, after = accepted(limit, "OUTP OFF"), accepted(*again, ":SOUR:VOLT 1", "OUTP ON")
    wire = ScriptedTransport([*before, IS_VOLTAGE, *after])
    smu = Keithley2450(wire)
    smu.set_current_limit(0.02)
    smu.safe_state()
    smu.set_voltage(1.0)
    wire.finish()


@pytest.mark.parametrize(
    "found",
    [
        [(":SOUR:FUNC?", "CURR")],
        [IS_VOLTAGE, (":SOUR:VOLT:ILIM?", "1.050000E-04")],
    ],
)
def test_what_the_front_panel_changed_is_set_again(accepted: Accepted, found: list[Any]) -> None:
    off = accepted("OUTP OFF") if found[0] != IS_VOLTAGE else []
    wire = ScriptedTransport(
        [
            *(IS_VOLTAGE, *accepted(*FIRST, ":SOUR:VOLT 1", "OUTP ON")),
            *(*found, found[0], *off, *accepted(*FIRST, ":SOUR:VOLT 2", "OUTP ON")),
        ]
    )
    smu = Keithley2450(wire)
    smu.set_voltage(1.0)
    smu.set_voltage(2.0)
    wire.finish()


def test_a_configuration_that_failed_is_repeated(accepted: Accepted) -> None:
    refused: list[Any] = [
        IS_VOLTAGE,
        (FIRST[0], None),
        ("SYST:ERR?", '-221,"Settings conflict;1;2024/01/01 00:00:00.000"'),
        ("SYST:ERR?", OK),
    ]
    wire = ScriptedTransport([*refused, IS_VOLTAGE, *accepted(*FIRST, ":SOUR:VOLT 1", "OUTP ON")])
    smu = Keithley2450(wire)
    with pytest.raises(InstrumentReportedError, match=r"-221.*':SOUR:FUNC VOLT'"):
        smu.set_voltage(1.0)
    smu.set_voltage(1.0)
    wire.finish()


@pytest.mark.parametrize("voltage_v", [210.1, -211.0, float("nan"), float("inf")])
def test_a_voltage_beyond_the_limit_is_not_sent(voltage_v: float) -> None:
    with pytest.raises(LimitError, match="-210 to 210 V"):
        Keithley2450(ScriptedTransport([])).set_voltage(voltage_v)


@pytest.mark.parametrize("current_a", [0.0, -1e-3, 1.06, float("nan"), float("inf")])
def test_a_current_limit_beyond_the_limit_is_not_sent(current_a: float) -> None:
    with pytest.raises(LimitError, match=r"above 0, at most 1\.05 A"):
        Keithley2450(ScriptedTransport([])).set_current_limit(current_a)


def test_options_must_not_contradict_each_other() -> None:
    options = Keithley2450Options(current_limit_a=0.1, max_current_a=0.01)
    with pytest.raises(LimitError, match=r"at most 0\.01 A"):
        Keithley2450(ScriptedTransport([]), options)


@pytest.mark.parametrize(
    ("option", "value"),
    [("current_limit_a", 0), ("nplc", 20), ("range_v", -1), ("max_voltage_v", "20")],
)
def test_wrong_options_are_named(option: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"dut option {option} = "):
        Keithley2450.open("dut", "ASRL1::INSTR", library="@py", options={option: value})


def test_the_sense_function_is_set_before_each_reading(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            *accepted(":SENS:FUNC 'CURR'"),
            (":READ?", "1.234000E-06"),
            *accepted(":SENS:FUNC 'CURR'"),
            (":READ?", "-1.500000E-09"),
            *accepted(":SENS:FUNC 'VOLT'"),
            (":READ?", "2.499876E+00"),
        ]
    )
    smu = Keithley2450(wire)
    assert [smu.measured_current_a(), smu.measured_current_a()] == [1.234e-6, -1.5e-9]
    assert smu.measured_voltage_v() == 2.499876
    wire.finish()


@pytest.mark.parametrize("reply", ["9.9E+37", "-9.91E37", "", "nan", "1,2", "volts"])
def test_what_is_no_reading_is_not_handed_out(accepted: Accepted, reply: str) -> None:
    wire = ScriptedTransport([*accepted(":SENS:FUNC 'CURR'"), (":READ?", reply)])
    with pytest.raises(ReplyError, match=r":READ\?"):
        Keithley2450(wire).measured_current_a()


def test_buffered_readings() -> None:
    wire = ScriptedTransport([(":TRAC:DATA? 1,3,'defbuffer1'", "1.0E-06,2.0E-06,-3.0E-06")])
    np.testing.assert_array_equal(Keithley2450(wire).readings(3), [1e-6, 2e-6, -3e-6])


@pytest.mark.parametrize("reply", ["1.0", "1.0,2.0,3.0", "1.0,x", ""])
def test_another_number_of_readings_is_a_reply_error(reply: str) -> None:
    wire = ScriptedTransport([(":TRAC:DATA? 1,2,'defbuffer1'", reply)])
    with pytest.raises(ReplyError, match="expected 2 readings"):
        Keithley2450(wire).readings(2)


def test_no_reading_at_all_cannot_be_asked_for() -> None:
    with pytest.raises(LimitError, match="1 or more"):
        Keithley2450(ScriptedTransport([])).readings(0)


def test_the_safe_state_is_reached_also_after_a_time_out() -> None:
    silent: Any = InstrumentTimeoutError("scripted", "no answer", ":READ?")
    steps: list[Any] = [
        (":SENS:FUNC 'CURR'", None),
        ("SYST:ERR?", OK),
        (":READ?", silent),
        ("SYST:ERR?", OK),
        (":READ?", silent),
        ("OUTP OFF", None),
        ("SYST:ERR?", OK),
    ]
    wire = ScriptedTransport(steps)
    smu = Keithley2450(wire)
    with pytest.raises(InstrumentTimeoutError):
        smu.measured_current_a()
    smu.safe_state()
    smu.close()
    wire.finish()
    assert wire.closed


def test_a_function_that_is_not_taken_is_found(accepted: Accepted) -> None:
    lost = [*testing.accepted(FIRST[0]), (":SOUR:FUNC?", "CURR")]
    wire = ScriptedTransport([(":SOUR:FUNC?", "CURR"), *accepted("OUTP OFF"), *lost, *lost])
    with pytest.raises(ReplyError, match="expected VOLT after it was set, got CURR"):
        Keithley2450(wire).set_voltage(1.0)
    wire.finish()


def test_a_current_source_is_limited_before_its_level_and_both_are_seen() -> None:
    wire = ScriptedTransport(
        [
            (":SOUR:FUNC?", "VOLT"),
            *(*testing.accepted("OUTP OFF", ":SOUR:FUNC CURR"), (":SOUR:FUNC?", "CURR")),
            *testing.accepted(":SOUR:CURR:RANG:AUTO ON", ":SOUR:CURR:VLIM 2"),
            (":SOUR:CURR:VLIM?", "2.000000E+00"),
            *testing.accepted(":SOUR:CURR 0.001"),
            (":SOUR:CURR?", "1.000000E-03"),
            *testing.accepted("OUTP ON"),
        ]
    )
    Keithley2450(wire).source_current(1e-3, voltage_limit_v=2.0)
    wire.finish()
