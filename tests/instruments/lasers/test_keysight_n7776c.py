"""N7776C: metres and watts on the wire, a sweep that the laser itself has checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seen_settings import Accepted, accepted_and_seen

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
from labctl.instruments.lasers.keysight_n7776c import KeysightN7776C, N7776COptions
from labctl.testing.scripts import ScriptedTransport
from labctl.units import wavelength_to_frequency_hz

OK = '+0,"No error"'
IDN = "Keysight Technologies,N7776C,DE12345678,1.100"
WATTS = (":SOUR0:POW:UNIT?", "+1")
POWERS: list[Any] = [(":SOUR0:POW? MIN", "+1.00000000E-004"), (":SOUR0:POW? MAX", "+1.0E-002")]
WAVELENGTHS: list[Any] = [
    (":SOUR0:WAV? MIN", "+1.49000000E-006"),
    (":SOUR0:WAV? MAX", "+1.64000000E-006"),
]
READY = ("*OPC?", "1")


@pytest.fixture
def accepted() -> Accepted:
    """Settings, each followed by an error query; and by a query of its value where that counts."""
    return accepted_and_seen(
        {":SOUR0:POW": lambda value: f"{float(value):+.8E}".replace("E-", "E-0")}
    )


def test_identity() -> None:
    identity = KeysightN7776C(ScriptedTransport([("*IDN?", IDN)])).identify()
    assert identity == Identity("Keysight Technologies", "N7776C", "DE12345678", "1.100")


@pytest.mark.parametrize("reply", [IDN.replace("N7776C", "N7744A"), "", "N7776C", "garbage"])
def test_another_model_is_refused(reply: str) -> None:
    with pytest.raises(ReplyError, match=r"\*IDN\?"):
        KeysightN7776C(ScriptedTransport([("*IDN?", reply)])).identify()


def test_a_module_is_identified_and_addressed_by_its_slot(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            ("SLOT3:IDN?", "Agilent Technologies,81960A,DE1,V1.0"),
            *accepted(":SOUR3:POW:STAT 0"),
            (":SOUR3:POW:STAT?", "0"),
            READY,
        ]
    )
    laser = KeysightN7776C(wire, N7776COptions(slot=3, mainframe=True))
    assert laser.identify().model == "81960A"
    laser.safe_state()
    wire.finish()


@pytest.mark.parametrize("reply", ["Agilent,81634B,DE1,V1", "", "a,b"])
def test_another_module_is_refused(reply: str) -> None:
    laser = KeysightN7776C(
        ScriptedTransport([("SLOT1:IDN?", reply)]), N7776COptions(slot=1, mainframe=True)
    )
    with pytest.raises(ReplyError, match=r"expected a 81960A|expected maker"):
        laser.identify()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("slot", -1),
        ("slot", 18),
        ("slot", "1"),
        ("pin", "12345"),
        ("pin", "12a4"),
        ("pin", 1234),
        ("model", ""),
        ("mainframe", 1),
        ("sweep_speeds_nm_s", 1.0),
        ("sweep_speeds_nm_s", ["fast"]),
    ],
)
def test_wrong_options_are_named(option: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"dut option {option} = "):
        KeysightN7776C.open("dut", "ASRL1::INSTR", library="@py", options={option: value})


def test_power_travels_in_watts(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            WATTS,
            *POWERS,
            *accepted(":SOUR0:POW 2.50000000E-03"),
            (":SOUR0:POW:STAT?", "1"),
            WATTS,
            (":SOUR0:POW?", "+2.50000000E-003"),
        ]
    )
    laser = KeysightN7776C(wire)
    laser.set_power(2.5e-3)
    assert laser.power_w() == 2.5e-3
    wire.finish()


def test_a_unit_changed_at_the_panel_is_changed_back_and_one_reading_discarded(
    accepted: Accepted,
) -> None:
    wire = ScriptedTransport(
        [
            (":SOUR0:POW:STAT?", "1"),
            (":SOUR0:POW:UNIT?", "+0"),
            *accepted(":SOUR0:POW:UNIT 1"),
            (":SOUR0:POW?", "+3.00000000E+000"),
            (":SOUR0:POW?", "+1.99526231E-003"),
        ]
    )
    assert KeysightN7776C(wire).power_w() == 1.99526231e-3
    wire.finish()


def test_a_dark_laser_emits_no_power() -> None:
    wire = ScriptedTransport([(":SOUR0:POW:STAT?", "0")])
    assert KeysightN7776C(wire).power_w() == 0.0


@pytest.mark.parametrize("power_w", [0.0, 9.9e-5, 1.01e-2, -1e-3, float("nan"), float("inf")])
def test_a_power_beyond_the_limits_is_not_sent(power_w: float) -> None:
    wire = ScriptedTransport([WATTS, *POWERS])
    with pytest.raises(LimitError, match=r"0\.0001 to 0\.01 W"):
        KeysightN7776C(wire).set_power(power_w)
    wire.finish()


def test_the_light_is_switched_and_waited_for(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            *accepted(":SOUR0:POW:STAT 1"),
            (":SOUR0:POW:STAT?", "0"),
            (":SOUR0:POW:STAT?", "1"),
            ("*OPC?", "0"),
            READY,
        ]
    )
    KeysightN7776C(wire).set_emission(True)
    wire.finish()
    assert wire.clock.now_s() > 0


def test_the_pin_opens_the_lock_before_light_only(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            *accepted(":LOCK 0,1234", ":SOUR0:POW:STAT 1"),
            (":SOUR0:POW:STAT?", "1"),
            READY,
            *accepted(":SOUR0:POW:STAT 0"),
            (":SOUR0:POW:STAT?", "0"),
            READY,
        ]
    )
    laser = KeysightN7776C(wire, N7776COptions(pin="1234"))
    laser.set_emission(True)
    laser.set_emission(False)
    wire.finish()


def test_a_wrong_pin_is_told_without_telling_it() -> None:
    refused: list[Any] = [(":LOCK 0,9876", None), ("SYST:ERR?", '-222,"Wrong"'), ("SYST:ERR?", OK)]
    laser = KeysightN7776C(ScriptedTransport(refused), N7776COptions(pin="9876"))
    with pytest.raises(InstrumentReportedError, match="':LOCK 0,<pin>'") as raised:
        laser.set_emission(True)
    assert "9876" not in str(raised.value)


def test_a_locked_laser_refuses() -> None:
    refused = '-200,"Execution error"'
    wire = ScriptedTransport(
        [
            (":LOCK?", "1"),
            (":SOUR0:POW:STAT 1", None),
            ("SYST:ERR?", refused),
            ("SYST:ERR?", OK),
        ]
    )
    laser = KeysightN7776C(wire)
    assert laser.locked()
    with pytest.raises(InstrumentReportedError, match=r"-200.*':SOUR0:POW:STAT 1'"):
        laser.set_emission(True)
    wire.finish()


def test_light_that_never_comes_times_out(accepted: Accepted) -> None:
    dark = [(":SOUR0:POW:STAT?", "0")] * 300
    wire = ScriptedTransport([*accepted(":SOUR0:POW:STAT 1"), *dark])
    laser = KeysightN7776C(wire, N7776COptions(settling_timeout_s=5.0))
    with pytest.raises(InstrumentTimeoutError, match="did not switch on within 5 s"):
        laser.set_emission(True)
    assert 5 <= wire.clock.now_s() < 5.2


@pytest.mark.parametrize("reply", ["2", "-1", "0.5", "", "on", "nan"])
def test_garbage_is_no_state(reply: str) -> None:
    with pytest.raises(ReplyError, match=r"POW:STAT\?"):
        KeysightN7776C(ScriptedTransport([(":SOUR0:POW:STAT?", reply)])).emission()


def test_frequencies_travel_as_wavelengths_in_metres(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            *WAVELENGTHS,
            *accepted(":SOUR0:WAV 1.5501200000E-06"),
            READY,
            (":SOUR0:WAV?", "+1.55012000E-006"),
        ]
    )
    laser = KeysightN7776C(wire)
    laser.set_frequency(299_792_458.0 / 1550.12e-9)
    assert laser.frequency_hz() == pytest.approx(193.3995e12, rel=1e-6)
    wire.finish()


def test_the_limits_are_themselves_allowed(accepted: Accepted) -> None:
    wire = ScriptedTransport(
        [
            *WAVELENGTHS,
            *WAVELENGTHS,
            *accepted(":SOUR0:WAV 1.6400000000E-06"),
            READY,
            *WAVELENGTHS,
            *accepted(":SOUR0:WAV 1.4900000000E-06"),
            READY,
        ]
    )
    laser = KeysightN7776C(wire)
    lowest, highest = laser.frequency_limits_hz()
    assert lowest < highest
    laser.set_frequency(lowest)
    laser.set_frequency(highest)
    wire.finish()


class Tuned(ScriptedTransport):
    """A laser that tunes to any wavelength."""

    wavelength = ""

    def write(self, command: str) -> None:
        self.wavelength = command.removeprefix(":SOUR0:WAV ")

    def query(self, command: str) -> str:
        known = {"SYST:ERR?": OK, "*OPC?": "1", ":SOUR0:WAV?": self.wavelength}
        return known.get(command) or dict(WAVELENGTHS)[command]


@settings(deadline=None)
@given(st.floats(1490e-9, 1640e-9))
def test_what_was_tuned_to_is_read_back_within_a_tenth_of_the_resolution(
    wavelength_m: float,
) -> None:
    laser = KeysightN7776C(Tuned([]))
    frequency_hz = wavelength_to_frequency_hz(wavelength_m)
    laser.set_frequency(frequency_hz)
    assert laser.frequency_hz() == pytest.approx(frequency_hz, abs=1.4e6)


@pytest.mark.parametrize("frequency_hz", [0.0, 182.8e12, 201.3e12, -1.0, float("nan"), 1550e-9])
def test_a_frequency_beyond_the_limits_is_not_sent(frequency_hz: float) -> None:
    wire = ScriptedTransport(WAVELENGTHS)
    with pytest.raises(LimitError, match=r"to .* Hz"):
        KeysightN7776C(wire).set_frequency(frequency_hz)
    wire.finish()


@pytest.mark.parametrize("reply", ["0", "-1.5E-006", "x", ""])
def test_garbage_is_no_wavelength(reply: str) -> None:
    with pytest.raises(ReplyError, match=r"WAV\?"):
        KeysightN7776C(ScriptedTransport([(":SOUR0:WAV?", reply)])).frequency_hz()


SWEEP = (
    ":TRIG0:INP IGN",
    ":SOUR0:WAV:SWE:MODE CONT",
    ":SOUR0:WAV:SWE:CYCL 1",
    ":SOUR0:WAV:SWE:REP ONEW",
    ":SOUR0:WAV:SWE:STAR 1.5300000000E-06",
    ":SOUR0:WAV:SWE:STOP 1.5700000000E-06",
    ":SOUR0:WAV:SWE:SPE 5.000000E-08",
)
CHECK = ":SOUR0:WAV:SWE:CHEC?"


def test_a_sweep_with_logged_wavelengths(accepted: Accepted) -> None:
    wavelengths = np.array([1.53e-6, 1.55e-6, 1.57e-6])
    wire = ScriptedTransport(
        [
            *WAVELENGTHS,
            *accepted(*SWEEP),
            (CHECK, "0,OK"),
            *accepted(
                ":SOUR0:AM:STAT 0",
                ":SOUR0:WAV:SWE:STEP 2.0000000000E-08",
                ":TRIG0:OUTP STF",
                ":SOUR0:WAV:SWE:LLOG 1",
            ),
            (CHECK, "0,OK"),
            *accepted(":SOUR0:WAV:SWE 1"),
            (":SOUR0:WAV:SWE?", "+1"),
            (":SOUR0:WAV:SWE?", "+2"),
            (":SOUR0:WAV:SWE?", "+0"),
            (":SOUR0:READ:POIN? LLOG", "+3"),
            (":SOUR0:READ:DATA? LLOG", wavelengths.astype("<f8").tobytes()),
            *accepted(":SOUR0:WAV:SWE:LLOG 0", ":SOUR0:WAV:SWE 0"),
        ]
    )
    laser = KeysightN7776C(wire)
    laser.configure_sweep(1530e-9, 1570e-9, 50e-9)
    laser.log_wavelengths(20e-9)
    laser.start_sweep()
    assert [laser.sweeping() for _ in range(3)] == [True, True, False]
    np.testing.assert_array_equal(laser.logged_wavelengths_m(), wavelengths)
    laser.log_wavelengths(None)
    laser.stop_sweep()
    wire.finish()


def test_nothing_logged_is_an_empty_array() -> None:
    wire = ScriptedTransport([(":SOUR0:READ:POIN? LLOG", "+0")])
    assert KeysightN7776C(wire).logged_wavelengths_m().shape == (0,)


def test_a_log_of_another_length_is_a_reply_error() -> None:
    wire = ScriptedTransport(
        [(":SOUR0:READ:POIN? LLOG", "+3"), (":SOUR0:READ:DATA? LLOG", bytes(16))]
    )
    with pytest.raises(ReplyError, match=r"expected 3 wavelengths .* got 16 bytes"):
        KeysightN7776C(wire).logged_wavelengths_m()


@pytest.mark.parametrize(
    ("start_m", "stop_m"),
    [(1.57e-6, 1.53e-6), (1.5e-6, 1.5e-6), (1.4e-6, 1.5e-6), (1.5e-6, 1.7e-6), (0, float("nan"))],
)
def test_a_sweep_beyond_the_limits_is_not_sent(start_m: float, stop_m: float) -> None:
    wire = ScriptedTransport(WAVELENGTHS)
    with pytest.raises(LimitError, match=r"start_m, stop_m.*ascending"):
        KeysightN7776C(wire).configure_sweep(start_m, stop_m, 50e-9)


@pytest.mark.parametrize("speed_m_s", [0.0, 50.0, 60e-9, -50e-9, float("nan"), float("inf")])
def test_a_speed_that_the_laser_has_not_is_not_sent(speed_m_s: float) -> None:
    wire = ScriptedTransport(WAVELENGTHS)
    with pytest.raises(LimitError, match=r"speed_m_s.*5e-10 or 1e-09 or 5e-08"):
        KeysightN7776C(wire).configure_sweep(1530e-9, 1570e-9, speed_m_s)


def test_another_model_s_speeds_are_an_option(accepted: Accepted) -> None:
    sweep = (*SWEEP[:-1], ":SOUR0:WAV:SWE:SPE 4.000000E-08")
    wire = ScriptedTransport([*WAVELENGTHS, *accepted(*sweep), (CHECK, "0,OK"), *WAVELENGTHS])
    laser = KeysightN7776C(wire, N7776COptions(sweep_speeds_nm_s=[]))
    laser.configure_sweep(1530e-9, 1570e-9, 40e-9)
    with pytest.raises(LimitError, match="above 0 and finite"):
        laser.configure_sweep(1530e-9, 1570e-9, float("inf"))
    wire.finish()


def test_what_the_laser_objects_to_in_a_sweep_is_raised(accepted: Accepted) -> None:
    verdict = (CHECK, '372,"LambdaStep is too small"')
    wire = ScriptedTransport([*WAVELENGTHS, *accepted(*SWEEP), verdict])
    with pytest.raises(InstrumentReportedError, match=r"372, LambdaStep.*CHEC\?") as raised:
        KeysightN7776C(wire).configure_sweep(1530e-9, 1570e-9, 50e-9)
    assert raised.value.code == 372


@pytest.mark.parametrize("reply", ["", "OK", "x,OK"])
def test_a_verdict_that_is_none_is_a_reply_error(accepted: Accepted, reply: str) -> None:
    wire = ScriptedTransport([*WAVELENGTHS, *accepted(*SWEEP), (CHECK, reply)])
    with pytest.raises(ReplyError, match=r"of the sweep check|expected a reply"):
        KeysightN7776C(wire).configure_sweep(1530e-9, 1570e-9, 50e-9)


@pytest.mark.parametrize("step_m", [0.0, -1e-12, float("nan"), float("inf")])
def test_a_step_must_be_positive(step_m: float) -> None:
    with pytest.raises(LimitError, match="step_m"):
        KeysightN7776C(ScriptedTransport([])).log_wavelengths(step_m)


@pytest.mark.parametrize("reply", ["3", "-1", "x"])
def test_garbage_is_no_sweep_state(reply: str) -> None:
    with pytest.raises(ReplyError, match=r"SWE\?"):
        KeysightN7776C(ScriptedTransport([(":SOUR0:WAV:SWE?", reply)])).sweeping()


def test_a_time_out_passes_through_and_close_ends_the_session() -> None:
    silent: Any = InstrumentTimeoutError("scripted", "no answer", "*IDN?")
    wire = ScriptedTransport([("*IDN?", silent), ("SYST:ERR?", OK), ("*IDN?", silent)])
    laser = KeysightN7776C(wire)
    with pytest.raises(InstrumentTimeoutError):
        laser.identify()
    laser.close()
    assert wire.closed


def test_sweeps_there_and_back_are_asked_for_by_name(accepted: Accepted) -> None:
    there_and_back = [line.replace("REP ONEW", "REP TWOW") for line in SWEEP]
    there_and_back[2] = ":SOUR0:WAV:SWE:CYCL 4"
    wire = ScriptedTransport([*WAVELENGTHS, *accepted(*there_and_back), (CHECK, "0,OK")])
    KeysightN7776C(wire).configure_sweep(1530e-9, 1570e-9, 50e-9, cycles=4, two_way=True)
    wire.finish()
