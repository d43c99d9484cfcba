"""The N7776C panel as a host sees it, and what its head emits."""

import numpy as np
import pytest
from laser_head import LaserHead
from panel_host import PanelHost

from labctl.instruments.codecs.ieee488 import decode_block
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.keysight_n7776c import KeysightN7776CPanel


class Host(PanelHost[KeysightN7776CPanel]):
    def __init__(self, *, locked: bool = False, slot: int = 0) -> None:
        self.clock, self.head = BenchClock(), LaserHead()
        super().__init__(
            KeysightN7776CPanel("laser", self.clock, self.head, locked=locked, slot=slot)
        )

    def set_sweep(self, *more: str) -> None:
        """Set a sweep from 1550 nm to 1560 nm in ten seconds."""
        self.send("sour0:wav:swe:star 1550.000000nm", "sour0:wav:swe:stop 1560.000000nm")
        self.send("sour0:wav:swe:speed 1.000000nm/s", "sour0:wav:swe:mode CONT", *more)
        assert self.errors() == []


@pytest.fixture
def host() -> Host:
    return Host()


def test_the_error_queue_starts_empty(host: Host) -> None:
    assert host.ask("SYST:ERR?") == '+0,"No error"'
    assert host.ask("*OPC?") == "1"
    assert host.ask("*STB?") == "+0"
    assert host.ask("STAT:OPER?") == "+0"


@pytest.mark.parametrize(
    ("setting", "reply"),
    [
        ("SOUR0:POW:STAT 1", "1"),
        ("SOUR0:CHAN1:POW:STAT ON", "1"),
        (":SOUR0:POW 3.000000 dBm", "+3.00000000E+000"),
        ("SOUR0:POW 2", "+2.00000000E+000"),
        ("SOUR0:POW 1 mW", "+0.00000000E+000"),
        ("SOUR0:POW:UNIT 1", "+1"),
        ("SOUR0:POW:UNIT dBm", "+0"),
        ("SOUR0:POW:ATT 3 dB", "+3.00000000E+000"),
        ("SOUR0:POW:ATT:AUTO 0", "0"),
        ("sour0:wav 1550.120000nm", "+1.55012000E-006"),
        ("sour0:wav 1.55e-6", "+1.55000000E-006"),
        ("sour0:wav 1.55UM", "+1.55000000E-006"),
        ("wav:swe:star 1500 nm", "+1.50000000E-006"),
        ("sour0:wav:swe:stop 1600nm", "+1.60000000E-006"),
        ("sour0:wav:swe:step 5 pm", "+5.00000000E-012"),
        ("sour0:wav:swe:speed 50.000000nm/s", "+5.00000000E-008"),
        ("sour0:wav:swe:mode STEP", "STEP"),
        ("sour0:wav:swe:cycl 3", "+3"),
        ("sour0:wav:swe:dwel 0.5 s", "+5.00000000E-001"),
        ("sour0:wav:swe:rep TWOW", "TWOW"),
        ("SOUR0:WAV:SWE:LLOG 1", "1"),
        ("sour0:am:stat 1", "1"),
        ("TRIG0:OUTP STF", "STF"),
        ("TRIG0:INP SWS", "SWS"),
        ("trig:conf LOOP", "LOOP"),
    ],
)
def test_settings_are_read_back(host: Host, setting: str, reply: str) -> None:
    host.send(setting)
    assert host.ask(setting.partition(" ")[0] + "?") == reply
    assert host.errors() == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("SOUR0:WAV 1400nm", -222),
        ("SOUR0:WAV 1550", -222),
        ("SOUR0:WAV 1550 W", -131),
        ("SOUR2:WAV 1550nm", -114),
        ("SOUR0:CHAN2:POW:STAT 1", -114),
        ("SOUR0:POW 1 W", -222),
        ("SOUR0:POW 30", -222),
        ("SOUR0:POW 1 nm", -131),
        ("SOUR0:POW", -109),
        ("SOUR0:POW:UNIT 2", -224),
        ("SOUR0:WAV:SWE:SPE 2nm/s", -222),
        ("SOUR0:WAV:SWE:MODE FAST", -224),
        ("SOUR0:WAV:SWE 4", -222),
        ("SOUR0:WAV:SWE GO", -224),
        ("SOUR0:WAV:SWE:SOFT", -211),
        ("SOUR0:WAV:SWE 2", -200),
        ("SOUR0:WAV:SWE:STEP:NEXT", -200),
        ("SOUR0:READ:DATA? LLOG", -230),
        ("SOUR0:READ:DATA?", -109),
        ("LOCK 0,9999", -224),
        ("LOCK 0", -109),
        ("SLOT3:IDN?", -114),
        ("SOUR0:WAVE 1550nm", -113),
    ],
)
def test_wrong_messages_are_reported(host: Host, message: str, code: int) -> None:
    host.send(message)
    assert host.errors() == [code]


def test_limits_are_told(host: Host) -> None:
    assert host.ask("SOUR0:WAV? MIN") == "+1.48000000E-006"
    assert host.ask("SOUR0:WAV? MAX") == "+1.62000000E-006"
    host.send("SOUR0:POW:UNIT W")
    assert host.ask("SOUR0:POW? MAX") == "+2.00000000E-002"
    assert host.number("SOUR0:WAV:SWE:PMAX? 1550nm,1560nm") == 20e-3


def test_the_head_emits_what_is_set(host: Host) -> None:
    host.send("SOUR0:WAV 1550nm", "SOUR0:POW 10 mW")
    assert host.head.emitted_power_w() == 0.0
    host.send("SOUR0:POW:STAT 1")
    assert host.head.emitted_power_w() == pytest.approx(10e-3)
    assert host.head.wavelength_nm == pytest.approx(1550.0)
    host.send("SOUR0:POW:ATT 10", "SOUR0:POW:ATT:AUTO 0")
    assert host.head.emitted_power_w() == pytest.approx(1e-3)
    host.send("*RST")
    assert host.head.emitted_power_w() == 0.0


def test_a_locked_laser_stays_dark() -> None:
    host = Host(locked=True)
    assert host.ask("LOCK?") == "1"
    host.send("SOUR0:POW:STAT 1")
    assert host.errors() == [-200]
    host.send("LOCK 0,1234", "SOUR0:POW:STAT 1")
    assert (host.ask("SOUR0:POW:STAT?"), host.errors()) == ("1", [])
    host.send("LOCK 1,1234")
    assert (host.ask("SOUR0:POW:STAT?"), host.head.emitted_power_w()) == ("0", 0.0)


def test_a_sweep_moves_the_light_with_bench_time(host: Host) -> None:
    host.set_sweep("sour0:wav:swe 1")
    host.clock.sleep(4.0)
    assert host.ask("sour0:wav:swe?") == "+1"
    assert host.head.wavelength_nm == pytest.approx(1554.0)
    assert host.number("sour0:wav?") == pytest.approx(1554e-9)
    host.clock.sleep(6.0)
    assert host.ask("sour0:wav:swe:stat?") == "+0"
    assert host.head.wavelength_nm == pytest.approx(1560.0)
    assert host.errors() == []


def test_a_sweep_is_paused_continued_and_stopped(host: Host) -> None:
    host.set_sweep("sour0:wav:swe STAR")
    host.clock.sleep(2.0)
    host.send("sour0:wav:swe PAUS")
    host.clock.sleep(50.0)
    assert host.ask("sour0:wav:swe?") == "+2"
    host.send("sour0:wav:swe CONT")
    host.clock.sleep(1.0)
    host.send("sour0:wav:swe 0")
    assert host.ask("sour0:wav:swe?") == "+0"
    assert host.number("sour0:wav?") == pytest.approx(1553e-9)


def test_a_running_sweep_refuses_its_settings(host: Host) -> None:
    host.set_sweep("sour0:wav:swe 1")
    host.send("sour0:wav 1500nm", "sour0:wav:swe 1")
    assert host.errors() == [-200, -200]


def test_a_two_way_sweep_without_end_comes_back(host: Host) -> None:
    host.set_sweep("sour0:wav:swe:rep TWOW", "sour0:wav:swe:cycl 0", "sour0:wav:swe 1")
    host.clock.sleep(1015.0)
    assert host.number("sour0:wav?") == pytest.approx(1555e-9)
    assert host.ask("sour0:wav:swe?") == "+1"


def test_a_stepped_sweep_dwells(host: Host) -> None:
    host.set_sweep("wav:swe:mode STEP", "wav:swe:step 2nm", "wav:swe:dwel 100 ms", "wav:swe 1")
    host.clock.sleep(0.25)
    assert host.number("sour0:wav?") == pytest.approx(1554e-9)


def test_a_manual_sweep_steps_on_command(host: Host) -> None:
    host.set_sweep("wav:swe:mode MAN", "wav:swe:step 5nm", "wav:swe 1")
    host.send("sour0:wav:swe:step:next", "sour0:wav:swe:step:next")
    assert host.head.wavelength_nm == pytest.approx(1560.0)
    host.send("sour0:wav:swe:step:next")
    assert host.errors() == [-222]
    host.send("sour0:wav:swe:step:prev", "wav:swe 0")
    assert host.number("wav?") == pytest.approx(1555e-9)


def test_a_sweep_can_wait_for_its_trigger(host: Host) -> None:
    host.set_sweep("TRIG0:INP SWS", "sour0:wav:swe 1")
    host.clock.sleep(5.0)
    assert int(host.ask("sour0:wav:swe:flag?")) % 2 == 1
    assert host.number("wav?") == pytest.approx(1550e-9)
    host.send("sour0:wav:swe:soft")
    host.clock.sleep(5.0)
    assert host.number("wav?") == pytest.approx(1555e-9)
    assert host.ask("sour0:wav:swe:flag?") == "+1"
    host.clock.sleep(6.0)
    assert (host.ask("sour0:wav:swe:flag?"), host.ask("sour0:wav:swe?")) == ("+2", "+0")


def test_the_flag_counts_two_for_a_cycle_without_trigger(host: Host) -> None:
    """816x Programming Guide, page 169."""
    host.set_sweep("sour0:wav:swe:cycl 3", "sour0:wav:swe 1")
    flags = [host.ask("sour0:wav:swe:flag?")]
    for _ in range(3):
        host.clock.sleep(10.5)
        flags.append(host.ask("sour0:wav:swe:flag?"))
    assert flags == ["+0", "+2", "+4", "+6"]


def test_steps_can_follow_triggers(host: Host) -> None:
    host.set_sweep("TRIG0:INP NEXT", "wav:swe:step 1nm", "wav:swe 1", "wav:swe:soft")
    assert host.number("wav?") == pytest.approx(1551e-9)


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["wav:swe:stop 1550nm"], 368),
        (["wav:swe:stop 1550.0001nm"], 369),
        (["trig0:outp stf", "wav:swe:step 0.1pm", "wav:swe:spe 80nm/s"], 371),
        (["wav:swe:llog 1", "am:stat 1"], 374),
        (["wav:swe:llog 1"], 375),
        (["wav:swe:llog 1", "trig0:outp stf", "wav:swe:mode step"], 376),
        (["wav:swe:step 1.23456pm"], 377),
    ],
)
def test_impossible_sweeps_are_told_and_refused(host: Host, messages: list[str], code: int) -> None:
    host.set_sweep()
    assert host.ask("sour0:wav:swe:chec?") == "0,OK"
    host.send(*messages)
    assert host.ask("sour0:wav:swe:chec?").startswith(f'{code},"')
    host.send("sour0:wav:swe 1")
    assert host.errors() == [code]


def test_lambda_logging_returns_the_wavelengths_of_the_triggers(host: Host) -> None:
    host.set_sweep("wav:swe:step 0.5nm", "trig0:outp stf", "sour0:wav:swe:llog 1")
    assert host.ask("wav:swe:exp?") == "+21"
    host.send("wav:swe 1")
    host.clock.sleep(3.0)
    assert host.ask("sour0:read:points? llog") == "+7"
    host.clock.sleep(8.0)
    assert host.ask("sour0:read:poin? llog") == "+21"
    block = decode_block(host.query("sour0:read:data? llog"))
    np.testing.assert_allclose(np.frombuffer(block, "<f8"), np.linspace(1550e-9, 1560e-9, 21))
    pairs = np.frombuffer(
        decode_block(host.query("sour0:read:data? pmax")), [("m", "<f8"), ("w", "<f4")]
    )
    np.testing.assert_allclose(pairs["w"], 20e-3)


def test_a_laser_in_a_slot_has_its_index() -> None:
    host = Host(slot=3)
    assert host.ask("SLOT3:IDN?").count(",") == 3
    host.send("SOUR3:WAV 1560nm")
    assert (host.number("SOUR3:WAV?"), host.errors()) == (1560e-9, [])
    host.send("SOUR0:WAV 1550nm")
    assert host.errors() == [-114]


def test_many_errors_end_in_an_overflow(host: Host) -> None:
    host.send(*["NONSENSE"] * 50)
    assert host.errors() == [-113] * 19 + [-350]
