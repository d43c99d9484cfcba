"""The TSL-570 panel as a host sees it, and what its head emits."""

import numpy as np
import pytest
from laser_head import LaserHead
from panel_host import PanelHost

from labctl.instruments.codecs.ieee488 import decode_block
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.santec_tsl570 import SantecTSL570Panel


class Host(PanelHost[SantecTSL570Panel]):
    terminator = b"\r"
    says_end = False

    def __init__(self, *, warm_up_s: float = 0.0, terminator: bytes = b"\r") -> None:
        self.clock, self.head = BenchClock(), LaserHead()
        super().__init__(
            SantecTSL570Panel(
                "laser", self.clock, self.head, warm_up_s=warm_up_s, terminator=terminator
            )
        )

    def set_sweep(self, *more: str) -> None:
        """Set a one-way continuous sweep from 1550 nm to 1560 nm in two seconds."""
        self.send(":WAV:SWE:STAR 1550", ":WAV:SWE:STOP 1560", ":WAV:SWE:SPE 5", ":WAV:SWE:MOD 1")
        self.send(*more)
        assert self.errors() == []


@pytest.fixture
def host() -> Host:
    return Host()


def test_it_says_who_it_is(host: Host) -> None:
    assert host.reply("*IDN?") == b"SANTEC,TSL-570,21020001,0026.0026.0011\r"
    assert host.ask(":SYST:ERR?") == '0,"No error"'
    assert host.ask(":SYST:ALER?") == "No alerts."


def test_the_terminator_is_an_option() -> None:
    assert Host(terminator=b"\r\n").reply("*OPC?") == b"1\r\n"


def test_warming_up_is_an_alert() -> None:
    host = Host(warm_up_s=60.0)
    assert host.ask(":SYST:ALER?") == "No23.,Ongoing Warm up"
    host.clock.sleep(60.0)
    assert host.ask(":SYST:ALER?") == "No alerts."


@pytest.mark.parametrize(
    ("setting", "reply"),
    [
        (":POW:STAT 1", "1"),
        (":POW:SHUT 1", "1"),
        (":POWer 10", "+10.00"),
        (":POW:UNIT 1", "1"),
        (":POW:ATT:AUT 0", "0"),
        (":WAV 1550", "1550.0000"),
        (":WAVelength 1550.12345", "1550.1234"),
        (":WAV 1.56um", "1560.0000"),
        (":WAV:UNIT 1", "1"),
        (":WAV:FREQ 193.5", "193.50000"),
        (":FREQ 194", "194.00000"),
        (":WAV:FIN -12.5", "-12.50"),
        (":COHC 1", "1"),
        (":WAV:SWE:STAR 1540", "1540.0000"),
        (":WAV:SWE:STOP 1560.5", "1560.5000"),
        (":WAV:SWE:STEP 0.1", "0.1000"),
        (":WAV:SWE:SPE 50", "50"),
        (":WAV:SWE:DWEL 1.5", "1.5"),
        (":WAV:SWE:DEL 0.5", "0.5"),
        (":WAV:SWE:CYCL 5", "5"),
        (":WAV:SWE:MOD 3", "3"),
        (":FREQ:SWE:STAR 193", "193.00000"),
        (":TRIG:OUTP 3", "3"),
        (":TRIG:OUTP:STEP 0.01", "0.0100"),
        (":TRIG:OUTP:SETT 1", "1"),
        (":TRIG:INP:EXT 1", "1"),
        (":SYST:COMM:COD 1", "1"),
        (":SYST:COMM:CODE LEGACY", "0"),
        (":SYST:COMM:CODE SCPI", "1"),
        (":POW 2mW", "+3.01"),
        (":POWer:LEVel 1 dBm", "+1.00"),
        (":POW:ATT 12.34", "12.34"),
        (":WAVelength:FINetuning 3", "+3.00"),
        (":WAV:SWE:SPE 100.0000", "100"),
        (":FREQ:SWE:STEP 0.1", "0.10000"),
        (":WAVelength:FREQuency:SWEep:STOP 192", "192.00000"),
        (":TRIG:INP:STAN 1", "1"),
        (":TRIG:INP:ACT 1", "1"),
        (":TRIG:OUTP:ACT 1", "1"),
        (":TRIGger:THRough 1", "1"),
        ("SOUR:WAV 1551.5nm", "1551.5000"),
        ("SOUR:COHC 1", "1"),
    ],
)
def test_settings_are_read_back(host: Host, setting: str, reply: str) -> None:
    host.send(setting)
    assert host.ask(setting.partition(" ")[0] + "?") == reply
    assert host.errors() == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (":WAV 1300", -222),
        (":WAV", -109),
        (":WAV red", -148),
        (":WAV 1550 W", -148),
        (":WAV 1550,1", -108),
        (":WAVE 1550", -113),
        (":POW 14", -222),
        (":POW:UNIT 2", -222),
        (":WAV:SWE:SPE 3", -222),
        (":WAV:SWE:MOD 4", -222),
        (":WAV:SWE:DWEL 1000", -222),
        (":WAV:FIN 101", -222),
        (":TRIG:INP:SOFT", -200),
        (":WAV:SWE:STOP 1480;:WAV:SWE:STAR 1480;:WAV:SWE 1", -200),
        ("%&", -102),
        (":WAV 1 2", -148),
    ],
)
def test_wrong_messages_have_the_codes_of_the_laser(host: Host, message: str, code: int) -> None:
    host.send(message)
    assert host.errors() == [code]


def test_units_follow_the_command_set(host: Host) -> None:
    host.send(":WAV 1550", ":SYST:COMM:COD 1")
    assert host.ask(":WAV?") == "+1.55000000E-006"
    host.send(":WAV 1.56e-6")
    assert host.head.wavelength_nm == pytest.approx(1560.0)
    assert host.number(":WAV:FREQ?") == pytest.approx(299792458.0 / 1560e-9, rel=1e-8)
    host.send(":WAV 1550")
    assert host.errors() == [-222]


def test_limits_are_told(host: Host) -> None:
    assert (host.ask(":WAV:MIN?"), host.ask(":WAV:MAX?")) == ("1480.0000", "1640.0000")
    assert host.ask(":WAV:SWE:RANG:MAX?") == "1640.0000"
    assert host.number(":WAV:FREQ:MIN?") == pytest.approx(182.80028)
    assert host.number(":FREQ:SWE:RANG:MAX?") == pytest.approx(202.56247)


def test_the_head_emits_what_is_set(host: Host) -> None:
    host.send(":POW 10")
    assert host.ask(":POW:ACT?") == "-99.99"
    host.send(":POW:STAT 1")
    assert host.ask(":POW:ACT?") == "+10.00"
    host.send(":POW:UNIT 1", ":POW 2.5")
    assert host.head.emitted_power_w() == pytest.approx(2.5e-3)
    assert host.ask(":POW:ACT?") == "+2.50"
    host.send(":POW:SHUT 1")
    assert host.head.emitted_power_w() == 0.0


def test_a_sweep_prepares_runs_and_stops(host: Host) -> None:
    host.set_sweep(":WAV:SWE 1")
    assert host.ask(":WAV:SWE?") == "4"
    host.clock.sleep(1.5)
    assert host.ask(":WAV:SWE:STAT?") == "1"
    assert host.head.wavelength_nm == pytest.approx(1555.0)
    host.send(":WAV 1550")
    assert host.errors() == [-200]
    host.clock.sleep(1.0)
    assert host.ask(":WAV:SWE?") == "0"
    assert host.head.wavelength_nm == pytest.approx(1560.0)
    assert host.ask(":WAV:SWE:COUN?") == "1"


def test_a_sweep_is_stopped_where_it_is(host: Host) -> None:
    host.set_sweep(":WAV:SWE:REP")
    host.clock.sleep(0.5 + 20.0 + 0.4)
    assert host.ask(":WAV:SWE:COUN?") == "10"
    host.send(":WAV:SWE 0")
    assert host.number(":WAV?") == pytest.approx(1552.0, abs=1e-3)
    assert host.ask(":WAV:SWE?") == "0"


def test_cycles_pause_between(host: Host) -> None:
    host.set_sweep(":WAV:SWE:CYCL 2", ":WAV:SWE:DEL 3", ":WAV:SWE:MOD 3", ":WAV:SWE 1")
    host.clock.sleep(0.5 + 4.0 + 3.0 + 1.0)
    assert host.number(":WAV?") == pytest.approx(1555.0)


def test_a_stepped_sweep_dwells_and_tunes(host: Host) -> None:
    host.set_sweep(":WAV:SWE:MOD 0", ":WAV:SWE:STEP 2", ":WAV:SWE:DWEL 1", ":WAV:SWE 1")
    host.clock.sleep(0.5 + 2.2)
    assert host.number(":WAV?") == pytest.approx(1554.0)


def test_a_sweep_can_wait_for_a_trigger(host: Host) -> None:
    host.set_sweep(":TRIG:INP:EXT 1", ":WAV:SWE 1")
    host.clock.sleep(10.0)
    assert host.ask(":WAV:SWE?") == "3"
    host.send(":TRIG:INP:SOFT")
    assert host.ask(":WAV:SWE?") == "1"
    host.clock.sleep(1.0)
    assert host.number(":WAV?") == pytest.approx(1555.0)


def test_triggers_log_wavelengths_without_a_terminator(host: Host) -> None:
    host.set_sweep(":TRIG:OUTP 3", ":TRIG:OUTP:STEP 0.5", ":WAV:SWE 1")
    host.clock.sleep(3.0)
    assert host.ask(":READ:POIN?") == "21"
    reply = host.reply(":READ:DAT?")
    assert len(reply) == 4 + 21 * 4
    tenths_pm = np.frombuffer(decode_block(reply), "<u4")
    np.testing.assert_array_equal(tenths_pm, np.arange(15_500_000, 15_600_001, 5_000))


def test_without_step_triggers_nothing_is_logged(host: Host) -> None:
    host.set_sweep(":WAV:SWE 1")
    host.clock.sleep(3.0)
    assert host.ask(":READ:POIN?") == "0"


def test_replies_come_in_pieces_and_clear_drops_them(host: Host) -> None:
    host.send("*IDN?")
    assert host.panel.read(6) == (b"SANTEC", False)
    assert host.panel.status_byte() & 16
    host.panel.clear()
    assert host.panel.read(100) == (b"", False)


def test_on_a_wire_with_end_a_new_query_interrupts(host: Host) -> None:
    host.panel.write(b"*IDN?", end=True)
    host.panel.read(3)
    host.panel.write(b"*OPC?", end=True)
    assert host.panel.read(100) == (b"1\r", True)
    assert host.errors() == [-410]


@pytest.mark.parametrize(
    ("query", "legacy", "scpi"),
    [
        (":WAV? MIN", "1480.0000", "+1.48000000E-006"),
        (":WAVelength? MAXimum", "1640.0000", "+1.64000000E-006"),
        (":WAV:FREQ? MIN", "182.80028", "+1.82800279E+014"),
        (":POW? MIN", "-15.00", "-15.00"),
        (":POWer? MAXimum", "+13.00", "+13.00"),
    ],
)
def test_limits_are_also_asked_for_by_word(host: Host, query: str, legacy: str, scpi: str) -> None:
    """Two public drivers, one after the manual of version 1.7, ask `? MIN` and `? MAX`."""
    assert host.ask(query) == legacy
    host.send(":SYST:COMM:COD 1")
    assert host.ask(query) == scpi
    assert host.errors() == []


def test_power_limits_are_in_the_unit_in_force(host: Host) -> None:
    host.send(":POW:UNIT 1")
    assert host.number(":POW? MAX") == pytest.approx(19.95, abs=0.01)
    host.send(":POW -3dBm")
    assert host.number(":POW?") == pytest.approx(0.50)


def test_without_automatic_power_the_attenuator_takes_light(host: Host) -> None:
    host.send(":POW 10", ":POW:ATT 3", ":POW:STAT 1")
    assert host.head.settings[-1][1] == pytest.approx(10e-3)
    host.send(":POW:ATT:AUT 0")
    assert host.head.settings[-1][1] == pytest.approx(10e-3 / 10**0.3)


def test_standby_waits_for_a_trigger_too(host: Host) -> None:
    host.set_sweep(":TRIG:INP:STAN 1", ":WAV:SWE 1")
    host.clock.sleep(5.0)
    assert host.ask(":WAV:SWE?") == "3"
    host.send(":TRIG:INP:SOFT")
    assert host.ask(":WAV:SWE?") == "1"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (":POW 100 mW", -222),
        (":POW 0 mW", -222),
        (":POW 1 nm", -148),
        (":POW:ATT 31", -222),
        (":SYST:COMM:COD 2", -222),
        (":SYST:COMM:COD NEW", -222),
        (":WAV? DEF", -108),
        (":FREQ:SWE:STEP 1 kHz", -222),
    ],
)
def test_what_is_no_setting_is_reported(host: Host, message: str, code: int) -> None:
    host.send(message)
    assert host.errors() == [code]


def test_the_firmware_and_the_interlock_are_told(host: Host) -> None:
    assert (host.ask(":SYST:VERS?"), host.ask(":SYST:LOCK?")) == ("0026.0026.0011", "0")
