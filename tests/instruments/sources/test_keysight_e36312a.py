"""E36312A: the output is named behind each command; three outputs, three limits."""

from __future__ import annotations

from typing import Any

import pytest
from seen_settings import Accepted, accepted_and_seen

from labctl.errors import (
    InstrumentReportedError,
    InstrumentTimeoutError,
    LimitError,
    ReplyError,
    SettingError,
)
from labctl.instruments.capabilities import Instrument, SourceMeter, VoltageSource
from labctl.instruments.sources.keysight_e36312a import E36312AOptions, KeysightE36312A
from labctl.testing.scripts import ScriptedTransport

OK = '+0,"No error"'
IDN = "Keysight Technologies,E36312A,MY12345678,1.0.4-1.0.3-1.00"


@pytest.fixture
def accepted() -> Accepted:
    """Settings, each followed by an error query; and by a query of its value where that counts."""

    def shown(value: str) -> str:
        return f"{float(value):+.8E}"

    return accepted_and_seen({"VOLT": shown, "CURR": shown})


def test_its_outputs_are_source_meters() -> None:
    supply = KeysightE36312A(ScriptedTransport([]))
    assert isinstance(supply, Instrument)
    for channel in (1, 2, 3):
        assert isinstance(supply.dc_output(channel), SourceMeter)
        assert isinstance(supply.dc_output(channel), VoltageSource)


@pytest.mark.parametrize("model", ["E36312A", "E36313A"])
def test_identity(model: str) -> None:
    wire = ScriptedTransport([("*IDN?", IDN.replace("E36312A", model))])
    assert KeysightE36312A(wire).identify().model == model


@pytest.mark.parametrize("reply", [IDN.replace("E36312A", "E36102A"), "", "x"])
def test_another_supply_is_refused(reply: str) -> None:
    with pytest.raises(ReplyError, match=r"\*IDN\?"):
        KeysightE36312A(ScriptedTransport([("*IDN?", reply)])).identify()


def test_an_output_is_limited_set_and_measured(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            *accepted("CURR 0.05, (@2)", "VOLT 2, (@2)", "OUTP 1, (@2)"),
            ("VOLT? (@2)", "+2.00000000E+00"),
            ("MEAS:VOLT? (@2)", "+1.99980000E+00"),
            ("MEAS:CURR? (@2)", "+1.20000000E-02"),
        ]
    )
    output = KeysightE36312A(wire).dc_output(2)
    output.set_current_limit(0.05)
    output.set_voltage(2.0)
    assert output.voltage_v() == 2.0
    assert output.measured_voltage_v() == 1.9998
    assert output.measured_current_a() == 12e-3
    wire.finish()


@pytest.mark.parametrize(
    ("channel", "voltage_v"),
    [(1, 6.01), (2, 25.1), (3, 26.0), (1, -0.1), (1, float("nan")), (3, float("inf"))],
)
def test_a_voltage_that_the_output_has_not_is_not_sent(channel: int, voltage_v: float) -> None:
    output = KeysightE36312A(ScriptedTransport([])).dc_output(channel)
    with pytest.raises(LimitError, match=rf"0 to (6|25) V at output \(@{channel}\)"):
        output.set_voltage(voltage_v)


@pytest.mark.parametrize("current_a", [0.0, -0.1, 1.1, float("nan")])
def test_a_current_that_the_output_has_not_is_not_sent(current_a: float) -> None:
    output = KeysightE36312A(ScriptedTransport([])).dc_output(3)
    with pytest.raises(LimitError, match="above 0, at most 1 A"):
        output.set_current_limit(current_a)


def test_the_limits_are_options(accepted: Accepted) -> None:
    wire = ScriptedTransport(accepted("VOLT 4, (@1)", "OUTP 1, (@1)"))
    options = E36312AOptions(max_voltages_v=[4.0, 5.0, 5.0])
    output = KeysightE36312A(wire, options).dc_output(1)
    output.set_voltage(4.0)
    with pytest.raises(LimitError, match="0 to 4 V"):
        output.set_voltage(4.1)
    wire.finish()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_voltages_v", [6.0]),
        ("max_currents_a", [1.0] * 4),
        ("max_voltages_v", 6.0),
        ("max_voltages_v", ["6", 6, 6]),
    ],
)
def test_wrong_options_are_named(option: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"dut option {option} = "):
        KeysightE36312A.open("dut", "ASRL1::INSTR", library="@py", options={option: value})


@pytest.mark.parametrize("channel", [0, 4, -1])
def test_there_are_three_outputs(channel: int) -> None:
    supply = KeysightE36312A(ScriptedTransport([]))
    with pytest.raises(LimitError, match="1 to 3"):
        supply.dc_output(channel)
    with pytest.raises(LimitError, match="1 to 3"):
        supply.set_output(channel, True)


def test_a_refused_voltage_does_not_switch_the_output_on() -> None:
    steps: list[Any] = [
        ("VOLT 2, (@1)", None),
        ("SYST:ERR?", '-222,"Data out of range"'),
        ("SYST:ERR?", OK),
    ]
    wire = ScriptedTransport(steps)
    with pytest.raises(InstrumentReportedError, match=r"-222.*'VOLT 2, \(@1\)'"):
        KeysightE36312A(wire).dc_output(1).set_voltage(2.0)
    wire.finish()


@pytest.mark.parametrize("reply", ["", "volts", "9.91E+37", "inf"])
def test_garbage_is_no_measurement(reply: str) -> None:
    output = KeysightE36312A(ScriptedTransport([("MEAS:VOLT? (@1)", reply)])).dc_output(1)
    with pytest.raises(ReplyError, match="MEAS:VOLT"):
        output.measured_voltage_v()


@pytest.mark.parametrize("failing", [1, 2, 3, None])
def test_safe_state_tries_every_output(accepted: Accepted, failing: int | None) -> None:
    silent: Any = InstrumentTimeoutError("scripted", "no answer")
    steps: list[Any] = []
    for channel in (1, 2, 3):
        off = f"OUTP 0, (@{channel})"
        steps += [(off, silent)] if channel == failing else accepted(off)
    wire = ScriptedTransport(steps)
    supply = KeysightE36312A(wire)
    if failing is None:
        supply.safe_state()
    else:
        with pytest.raises(InstrumentTimeoutError):
            supply.safe_state()
    wire.finish()
    supply.close()
    assert wire.closed
