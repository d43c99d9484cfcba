"""TSL-570: nanometres or metres as the command set has it, dBm always, warm before use."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seen_settings import Accepted, accepted_and_seen

from labctl.errors import (
    ConnectionFailedError,
    InstrumentReportedError,
    InstrumentTimeoutError,
    LimitError,
    ReplyError,
    SettingError,
)
from labctl.instruments.capabilities import (
    Identity,
)
from labctl.instruments.lasers.santec_tsl570 import SantecTSL570, TSL570Options
from labctl.testing.scripts import ScriptedTransport
from labctl.units import wavelength_to_frequency_hz

OK = '0,"No error"'
IDN = "SANTEC,TSL-570,21020001,0001.000.0001"
LEGACY = (":SYST:COMM:COD?", "0")
SCPI = (":SYST:COMM:COD?", "1")
DBM = (":POW:UNIT?", "0")
NANOMETRES: list[Any] = [(":WAV:MIN?", "1480.0000"), (":WAV:MAX?", "1640.0000")]
METRES: list[Any] = [(":WAV:MIN?", "+1.4800000E-006"), (":WAV:MAX?", "+1.6400000E-006")]
WARM = (":SYST:ALER?", "No alerts.")


@pytest.fixture
def accepted() -> Accepted:
    """Settings, each followed by an error query; and by a query of its value where that counts."""
    return accepted_and_seen({":POW": lambda value: f"{float(value):+06.2f}"})


def test_identity() -> None:
    identity = SantecTSL570(ScriptedTransport([("*IDN?", IDN)])).identify()
    assert identity == Identity("SANTEC", "TSL-570", "21020001", "0001.000.0001")


@pytest.mark.parametrize("reply", [IDN.replace("570", "550"), "", "x"])
def test_another_model_is_refused(reply: str) -> None:
    with pytest.raises(ReplyError, match=r"\*IDN\?"):
        SantecTSL570(ScriptedTransport([("*IDN?", reply)])).identify()


def test_the_older_model_is_an_option() -> None:
    wire = ScriptedTransport([("*IDN?", "SANTEC,TSL-550,06020001,0001.0000")])
    laser = SantecTSL570(wire, TSL570Options(model="tsl-550"))
    assert laser.identify().model == "TSL-550"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("terminator", "CR"),
        ("terminator", ""),
        ("command_set", "native"),
        ("shutter", 1),
        ("baud_rate", 0),
        ("max_power_dbm", float("inf")),
        ("sweep_speeds_nm_s", 5.0),
    ],
)
def test_wrong_options_are_named(option: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"dut option {option} = "):
        SantecTSL570.open("dut", "ASRL1::INSTR", library="@py", options={option: value})


def test_in_the_legacy_set_wavelengths_are_nanometres(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            LEGACY,
            *NANOMETRES,
            *accepted(":WAV 1550.1234"),
            ("*OPC?", "0"),
            ("*OPC?", "1"),
            (":WAV?", "1550.1234"),
        ]
    )
    laser = SantecTSL570(wire)
    frequency_hz = wavelength_to_frequency_hz(1550.1234e-9)
    laser.set_frequency(frequency_hz)
    assert laser.frequency_hz() == pytest.approx(frequency_hz, rel=1e-12)
    wire.finish()


def test_in_the_scpi_set_wavelengths_are_metres(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            SCPI,
            *METRES,
            *accepted(":WAV 1.5501234E-06"),
            ("*OPC?", "1"),
            (":WAV?", "+1.5501234E-006"),
        ]
    )
    laser = SantecTSL570(wire)
    frequency_hz = wavelength_to_frequency_hz(1550.1234e-9)
    laser.set_frequency(frequency_hz)
    assert laser.frequency_hz() == pytest.approx(frequency_hz, rel=1e-12)
    wire.finish()


@pytest.mark.parametrize(("command_set", "limits"), [("legacy", NANOMETRES), ("scpi", METRES)])
def test_a_known_command_set_is_not_asked_for(command_set: Any, limits: list[Any]) -> None:
    wire = ScriptedTransport(limits)
    laser = SantecTSL570(wire, TSL570Options(command_set=command_set))
    lowest, highest = laser.frequency_limits_hz()
    assert lowest == pytest.approx(wavelength_to_frequency_hz(1640e-9))
    assert highest == pytest.approx(wavelength_to_frequency_hz(1480e-9))
    wire.finish()


@pytest.mark.parametrize(
    ("command_set", "reply"), [("scpi", "1550.0000"), ("legacy", "1.55E-06"), ("legacy", "0")]
)
def test_a_wavelength_of_the_wrong_set_is_no_wavelength(command_set: Any, reply: str) -> None:
    laser = SantecTSL570(
        ScriptedTransport([(":WAV?", reply)]), TSL570Options(command_set=command_set)
    )
    with pytest.raises(ReplyError, match="check the option command_set"):
        laser.frequency_hz()


@pytest.mark.parametrize("reply", ["2", "", "SCPI"])
def test_an_unknown_command_set_is_a_reply_error(reply: str) -> None:
    with pytest.raises(ReplyError, match=r"COMM:COD\?"):
        SantecTSL570(ScriptedTransport([(":SYST:COMM:COD?", reply)])).frequency_hz()


class Tuned(ScriptedTransport):
    """A laser in the legacy set that tunes to any wavelength."""

    wavelength = ""

    def write(self, command: str) -> None:
        self.wavelength = command.removeprefix(":WAV ")

    def query(self, command: str) -> str:
        known = {"SYST:ERR?": OK, "*OPC?": "1", ":WAV?": self.wavelength}
        return known.get(command) or dict([*NANOMETRES, LEGACY])[command]


@settings(deadline=None)
@given(st.floats(1480e-9, 1640e-9))
def test_what_was_tuned_to_is_read_back_within_half_a_step(wavelength_m: float) -> None:
    laser = SantecTSL570(Tuned([]))
    lowest, highest = laser.frequency_limits_hz()
    frequency_hz = min(max(wavelength_to_frequency_hz(wavelength_m), lowest), highest)
    laser.set_frequency(frequency_hz)
    half_step_hz = 0.05e-12 / wavelength_m * frequency_hz
    assert laser.frequency_hz() == pytest.approx(frequency_hz, abs=1.01 * half_step_hz)


@pytest.mark.parametrize("frequency_hz", [0.0, 182.7e12, 202.7e12, float("nan"), 1550.0])
def test_a_frequency_beyond_the_limits_is_not_sent(frequency_hz: float) -> None:
    wire = ScriptedTransport([LEGACY, *NANOMETRES])
    with pytest.raises(LimitError, match=r"to .* Hz"):
        SantecTSL570(wire).set_frequency(frequency_hz)
    wire.finish()


def test_tuning_that_never_ends_times_out(accepted: Accepted) -> None:
    never = [("*OPC?", "0")] * 100
    wire = ScriptedTransport([LEGACY, *NANOMETRES, *accepted(":WAV 1550.0000"), *never])
    laser = SantecTSL570(wire, TSL570Options(settling_timeout_s=2.0))
    with pytest.raises(InstrumentTimeoutError, match=r"':WAV 1550.0000'.* within 2 s"):
        laser.set_frequency(wavelength_to_frequency_hz(1550e-9))
    assert 2 <= wire.clock.now_s() < 2.1


def test_power_travels_in_dbm(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            (":POW:UNIT?", "1"),
            *accepted(":POW:UNIT 0", ":POW 10.00"),
            DBM,
            (":POW:ACT?", "+09.98"),
        ]
    )
    laser = SantecTSL570(wire)
    laser.set_power(10e-3)
    assert laser.power_w() == pytest.approx(9.954e-3, rel=1e-4)
    wire.finish()


def test_the_power_limits_are_themselves_allowed(accepted: Accepted) -> None:
    wire = ScriptedTransport([DBM, *accepted(":POW 13.00"), DBM, *accepted(":POW -15.00")])
    laser = SantecTSL570(wire)
    laser.set_power(10**1.3 * 1e-3)
    laser.set_power(10**-1.5 * 1e-3)
    wire.finish()


@pytest.mark.parametrize("power_w", [0.0, -1e-3, 2.1e-2, 3.1e-5, float("nan"), float("inf")])
def test_a_power_beyond_the_limits_is_not_sent(power_w: float) -> None:
    with pytest.raises(LimitError, match=r"3\.162e-05 to 0\.01995 W"):
        SantecTSL570(ScriptedTransport([])).set_power(power_w)


def test_the_light_is_waited_for_until_it_is_warm(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            *accepted(":POW:STAT 1"),
            (":POW:STAT?", "0"),
            (":POW:STAT?", "1"),
            (":SYST:ALER?", "No23.,Ongoing Warm up"),
            WARM,
            *accepted(":POW:STAT 0"),
            (":POW:STAT?", "0"),
        ]
    )
    laser = SantecTSL570(wire)
    laser.set_emission(True)
    laser.safe_state()
    wire.finish()


def test_a_warm_up_that_takes_too_long_times_out(accepted: Accepted) -> None:
    cold = [(":SYST:ALER?", "No23.,Ongoing Warm up")] * 100
    wire = ScriptedTransport([*accepted(":POW:STAT 1"), (":POW:STAT?", "1"), *cold])
    laser = SantecTSL570(wire, TSL570Options(settling_timeout_s=2.0))
    with pytest.raises(InstrumentTimeoutError, match="did not warm up within 2 s"):
        laser.set_emission(True)


def test_the_shutter_moves_with_the_light_where_there_is_one(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            *accepted(":POW:SHUT 0", ":POW:STAT 1"),
            (":POW:SHUT?", "0"),
            (":POW:STAT?", "1"),
            WARM,
            *accepted(":POW:STAT 0", ":POW:SHUT 1"),
            (":POW:SHUT?", "1"),
        ]
    )
    laser = SantecTSL570(wire, TSL570Options(shutter=True))
    laser.set_emission(True)
    laser.set_emission(False)
    wire.finish()


def test_the_shutter_closes_also_when_the_diode_does_not_obey(accepted: Accepted) -> None:
    silent: Any = InstrumentTimeoutError("scripted", "no answer")
    wire = ScriptedTransport([(":POW:STAT 0", silent), *accepted(":POW:SHUT 1")])
    with pytest.raises(InstrumentTimeoutError):
        SantecTSL570(wire, TSL570Options(shutter=True)).safe_state()
    wire.finish()


@pytest.mark.parametrize(
    ("command_set", "limits", "start", "stop"),
    [
        (LEGACY, NANOMETRES, "1530.0000", "1570.5000"),
        (SCPI, METRES, "1.5300000E-06", "1.5705000E-06"),
    ],
)
def test_a_sweep(
    accepted: Accepted, command_set: Any, limits: list[Any], start: str, stop: str
) -> None:
    wire = ScriptedTransport(
        [
            command_set,
            *limits,
            *accepted(
                ":WAV:SWE:MOD 1",
                ":WAV:SWE:CYCL 1",
                f":WAV:SWE:STAR {start}",
                f":WAV:SWE:STOP {stop}",
                ":WAV:SWE:SPE 50",
                ":WAV:SWE 1",
            ),
            (":WAV:SWE?", "4"),
            (":WAV:SWE?", "3"),
            (":WAV:SWE?", "1"),
            (":WAV:SWE?", "0"),
            *accepted(":WAV:SWE 0"),
        ]
    )
    laser = SantecTSL570(wire)
    laser.configure_sweep(1530e-9, 1570.5e-9, 50e-9)
    laser.start_sweep()
    assert [laser.sweeping() for _ in range(4)] == [True, True, True, False]
    laser.stop_sweep()
    wire.finish()


@pytest.mark.parametrize(
    ("start_m", "stop_m", "speed_m_s", "what"),
    [
        (1570e-9, 1530e-9, 50e-9, "ascending"),
        (1550e-9, 1550e-9, 50e-9, "ascending"),
        (1470e-9, 1550e-9, 50e-9, "ascending"),
        (1550e-9, 1650e-9, 50e-9, "ascending"),
        (1550e-9, float("nan"), 50e-9, "ascending"),
        (1530e-9, 1570e-9, 50.0, "speed_m_s"),
        (1530e-9, 1570e-9, 60e-9, "speed_m_s"),
        (1530e-9, 1570e-9, float("nan"), "speed_m_s"),
    ],
)
def test_a_sweep_that_the_laser_cannot_is_not_sent(
    start_m: float, stop_m: float, speed_m_s: float, what: str
) -> None:
    wire = ScriptedTransport([LEGACY, *NANOMETRES])
    with pytest.raises(LimitError, match=what):
        SantecTSL570(wire).configure_sweep(start_m, stop_m, speed_m_s)
    wire.finish()


@pytest.mark.parametrize("reply", ["5", "-1", "", "run"])
def test_garbage_is_no_sweep_state(reply: str) -> None:
    with pytest.raises(ReplyError, match=r"SWE\?"):
        SantecTSL570(ScriptedTransport([(":WAV:SWE?", reply)])).sweeping()


def test_coherence_control(accepted: Accepted) -> None:
    wire = ScriptedTransport([*accepted(":COHC 0"), (":COHC?", "0"), (":COHC?", "1")])
    laser = SantecTSL570(wire)
    laser.set_coherence_control(False)
    assert [laser.coherence_control(), laser.coherence_control()] == [False, True]
    wire.finish()


@pytest.mark.parametrize("none", ['0,"No error"', "0,No error", "+0"])
def test_all_ways_to_report_no_error_are_understood(none: str) -> None:
    wire = ScriptedTransport([(":WAV:SWE 0", None), ("SYST:ERR?", none)])
    SantecTSL570(wire).stop_sweep()
    wire.finish()


def test_a_refused_setting_names_the_command() -> None:
    steps: list[Any] = [
        (":COHC 1", None),
        ("SYST:ERR?", '-113,"Undefined header"'),
        ("SYST:ERR?", OK),
    ]
    with pytest.raises(InstrumentReportedError, match=r"-113.*':COHC 1'"):
        SantecTSL570(ScriptedTransport(steps)).set_coherence_control(True)


def test_a_closed_laser_refuses() -> None:
    laser = SantecTSL570(ScriptedTransport([]))
    laser.close()
    with pytest.raises(ConnectionFailedError, match="closed"):
        laser.alerts()
