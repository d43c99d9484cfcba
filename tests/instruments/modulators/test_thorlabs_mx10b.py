"""MX10B: the same driver whether settings are acknowledged or not; errors come as replies."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import (
    InstrumentReportedError,
    InstrumentTimeoutError,
    LabctlError,
    LimitError,
    ReplyError,
)
from labctl.instruments.capabilities import (
    BiasPoint,
    Identity,
)
from labctl.instruments.modulators.thorlabs_mx10b import MX10BOptions, ThorlabsMX10B
from labctl.testing.scripts import ScriptedTransport

MODEL = ("SYS:MODEL?", "MX10B")
ACKNOWLEDGEMENTS = pytest.mark.parametrize("ack", [(), ("1",)], ids=["silent", "acknowledged"])
Ack = tuple[str, ...]


def test_identity() -> None:
    wire = ScriptedTransport([MODEL, ("SYS:SER?", "M00123456"), ("SYS:FIRM?", "1.2.3")])
    identity = ThorlabsMX10B(wire).identify()
    assert identity == Identity("Thorlabs", "MX10B", "M00123456", "1.2.3")


@pytest.mark.parametrize("reply", ["MBX40", "", "1"])
def test_another_box_is_refused(reply: str) -> None:
    with pytest.raises(ReplyError, match="expected a MX10B"):
        ThorlabsMX10B(ScriptedTransport([("SYS:MODEL?", reply)])).identify()


@ACKNOWLEDGEMENTS
@pytest.mark.parametrize(
    ("point", "mode"),
    [
        (BiasPoint.PEAK, 1),
        (BiasPoint.NULL, 2),
        (BiasPoint.QUADRATURE_PLUS, 3),
        (BiasPoint.QUADRATURE_MINUS, 4),
    ],
)
def test_lock_waits_until_stable_and_calibrated(ack: Ack, point: BiasPoint, mode: int) -> None:
    wire = ScriptedTransport(
        [
            MODEL,
            (f"MZM:MODE: {mode}", ack),
            ("MZM:SET?", "0"),
            ("MZM:SET?", "1"),
            ("MZM:CAL?", "1"),
            ("MZM:SET?", "1"),
            ("MZM:CAL?", "0"),
        ]
    )
    ThorlabsMX10B(wire).lock(point)
    wire.finish()


def test_a_lock_that_never_settles_times_out() -> None:
    steps: list[Any] = [MODEL, ("MZM:MODE: 2", ()), *[("MZM:SET?", "0")] * 300]
    wire = ScriptedTransport(steps)
    box = ThorlabsMX10B(wire, MX10BOptions(settling_timeout_s=10.0))
    with pytest.raises(InstrumentTimeoutError, match="did not lock to the null within 10 s"):
        box.lock(BiasPoint.NULL)
    assert 10 <= wire.clock.now_s() < 11


@ACKNOWLEDGEMENTS
def test_a_voltage_is_set_before_it_is_held(ack: Ack) -> None:
    wire = ScriptedTransport(
        [MODEL, ("MZM:HOLD:V: -2347", ack), ("MZM:MODE: 7", ack), ("MZM:V?", "-2.346")]
    )
    box = ThorlabsMX10B(wire)
    box.hold_voltage(-2.3468)
    assert box.bias_voltage_v() == -2.346
    wire.finish()


@pytest.mark.parametrize("voltage_v", [10.001, -10.001, float("nan"), float("inf")])
def test_a_bias_beyond_ten_volts_is_not_sent(voltage_v: float) -> None:
    with pytest.raises(LimitError, match="-10 to 10 V"):
        ThorlabsMX10B(ScriptedTransport([])).hold_voltage(voltage_v)


@ACKNOWLEDGEMENTS
def test_release(ack: Ack) -> None:
    wire = ScriptedTransport([MODEL, ("MZM:MODE: 0", ack)])
    ThorlabsMX10B(wire).release()
    wire.finish()


@ACKNOWLEDGEMENTS
def test_attenuation_switches_the_attenuator_on_and_waits(ack: Ack) -> None:
    wire = ScriptedTransport(
        [
            MODEL,
            ("VOA:MODE: 0", ack),
            ("VOA:ATT: 12.5", ack),
            ("VOA:POW: 1", ack),
            ("VOA:SET?", "0"),
            ("VOA:SET?", "1"),
            *2 * [("VOA:ATT?", "12.5")],
        ]
    )
    box = ThorlabsMX10B(wire)
    box.set_attenuation(12.5)
    assert box.attenuation_db() == 12.5
    wire.finish()


@pytest.mark.parametrize("attenuation_db", [0.9, 20.1, -1.0, float("nan")])
def test_attenuation_limits(attenuation_db: float) -> None:
    with pytest.raises(LimitError, match="1 to 20 dB"):
        ThorlabsMX10B(ScriptedTransport([])).set_attenuation(attenuation_db)


def test_the_guide_s_lower_limit_is_an_option() -> None:
    settled = [("VOA:SET?", "1"), ("VOA:ATT?", "0.5")]
    wire = ScriptedTransport(
        [MODEL, ("VOA:MODE: 0", ()), ("VOA:ATT: 0.5", ()), ("VOA:POW: 1", ()), *settled]
    )
    ThorlabsMX10B(wire, MX10BOptions(min_attenuation_db=0.5)).set_attenuation(0.5)
    wire.finish()


def test_the_laser() -> None:
    wire = ScriptedTransport(
        [
            MODEL,
            ("LAS:POW: 1", ("1",)),
            ("LAS:SET?", "0"),
            ("LAS:SET?", "1"),
            ("LAS:POW?", "1"),
            ("LAS:OOP?", "13.0103"),
            ("LAS:POW: 0", ()),
        ]
    )
    box = ThorlabsMX10B(wire)
    box.set_emission(True)
    assert box.emission() is True
    assert box.power_w() == pytest.approx(20e-3, rel=1e-5)
    box.set_emission(False)
    wire.finish()


@pytest.mark.parametrize(
    "text", ["Parameter error", "Data out of range", "Undefined header", "Laser is locked"]
)
def test_an_error_reply_to_a_setting_names_the_command(text: str) -> None:
    wire = ScriptedTransport([MODEL, ("MZM:MODE: 0", (f"Err: {text}",))])
    with pytest.raises(InstrumentReportedError, match=f"{text}.*'MZM:MODE: 0'"):
        ThorlabsMX10B(wire).release()


def test_an_error_reply_to_a_query_is_no_number() -> None:
    wire = ScriptedTransport([("MZM:V?", "Err: Feature not present")])
    with pytest.raises(InstrumentReportedError, match=r"Feature not present.*'MZM:V\?'"):
        ThorlabsMX10B(wire).bias_voltage_v()


def test_an_acknowledgement_that_no_manual_knows_is_a_reply_error() -> None:
    wire = ScriptedTransport([MODEL, ("MZM:MODE: 0", ("0",))])
    with pytest.raises(ReplyError, match="acknowledgement, got '0'"):
        ThorlabsMX10B(wire).release()


@pytest.mark.parametrize("reply", ["", "volts", "nan", "1 2"])
def test_garbage_is_no_voltage(reply: str) -> None:
    with pytest.raises(ReplyError, match="expected a number"):
        ThorlabsMX10B(ScriptedTransport([("MZM:V?", reply)])).bias_voltage_v()


@pytest.mark.parametrize("reply", ["2", "-1", "0.5"])
def test_garbage_is_no_flag(reply: str) -> None:
    with pytest.raises(ReplyError, match="expected 0 or 1"):
        ThorlabsMX10B(ScriptedTransport([("LAS:POW?", reply)])).emission()


@pytest.mark.parametrize("failing", [0, 1, 2, None])
def test_safe_state_tries_everything(failing: int | None) -> None:
    error: LabctlError = InstrumentTimeoutError("scripted", "no answer")
    dark: list[Any] = [("LAS:POW: 0", ())]
    attenuated: list[Any] = [("VOA:MODE: 0", ()), ("VOA:ATT: 20", ()), ("VOA:POW: 1", ())]
    released: list[Any] = [("MZM:MODE: 0", ())]
    parts = [dark, attenuated, released]
    if failing is not None:
        parts[failing] = [(parts[failing][0][0], error)]
    wire = ScriptedTransport([MODEL, *(step for part in parts for step in part)])
    box = ThorlabsMX10B(wire)
    if failing is None:
        box.safe_state()
    else:
        with pytest.raises(InstrumentTimeoutError):
            box.safe_state()
    wire.finish()
