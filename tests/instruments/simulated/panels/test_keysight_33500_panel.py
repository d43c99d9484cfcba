"""The generator panel as a host sees it, and what it puts on its connectors."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panel_host import PanelHost

from labctl.instruments.codecs.ieee488 import encode_block
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.keysight_33500 import Keysight33500Panel
from labctl.instruments.simulated.ports import Drive


@dataclass
class Connector:
    """An output connector that notes what was put on it."""

    played: list[Drive | None] = field(default_factory=list)

    def play(self, drive: Drive | None) -> None:
        self.played.append(drive)

    @property
    def drive(self) -> Drive:
        last = self.played[-1]
        assert last is not None
        return last


@dataclass
class Cable:
    """A trigger cable that notes its pulses."""

    on_fire: Callable[[], None] = lambda: None
    pulses: int = 0
    listeners: list[Callable[[float], None]] = field(default_factory=list)

    def fire(self) -> None:
        self.pulses += 1
        self.on_fire()

    def listen(self, callback: Callable[[float], None]) -> None:
        self.listeners.append(callback)


class Bench(PanelHost[Keysight33500Panel]):
    """A generator with two connectors and two trigger cables."""

    def __init__(self, memory_samples: int = 1_000_000) -> None:
        self.clock = BenchClock()
        self.one, self.two = Connector(), Connector()
        self.out, self.into = Cable(), Cable()
        outputs = {1: self.one, 2: self.two}
        super().__init__(
            Keysight33500Panel(
                "awg", self.clock, outputs, self.out, self.into, memory_samples=memory_samples
            )
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


RAMP = np.linspace(-1.0, 1.0, 16, dtype=np.float32)


def upload(name: str, samples: np.ndarray[tuple[int], np.dtype[np.float32]]) -> bytes:
    return f"SOUR1:DATA:ARB {name},".encode() + encode_block(samples.astype(">f4").tobytes())


def play_ramp(bench: Bench, *more: str) -> None:
    bench.send(upload("RAMP16", RAMP), "FUNC:ARB RAMP16", "FUNC ARB", "FUNC:ARB:SRAT 1E6")
    bench.send("VOLT 2", *more, "OUTP ON")
    assert bench.errors() == []


def test_identity_is_the_one_that_public_drivers_accept(bench: Bench) -> None:
    assert bench.ask("*IDN?") == ("Agilent Technologies,33512B,MY52302264,3.03-1.19-2.00-52-00")


@pytest.mark.parametrize(
    ("setting", "reply"),
    [
        ("SOUR2:FUNC SQUARE", "SQU"),
        ("SOUR2:FREQ 2 MHZ", "+2.000000000000000E+06"),
        ("SOUR2:VOLT 1.5", "+1.500000000000000E+00"),
        ("SOUR2:VOLT 500 mVpp", "+5.000000000000000E-01"),
        ("SOUR2:VOLT:OFFS -0.25", "-2.500000000000000E-01"),
        ("SOUR2:VOLT:UNIT VRMS", "VRMS"),
        ("SOUR2:PHAS 90", "+9.000000000000000E+01"),
        ("SOUR2:FUNC:ARB:SRAT 1.6E8", "+1.600000000000000E+08"),
        ("SOUR2:FUNC:ARB:FILT STEP", "STEP"),
        ("SOUR2:FUNC:ARB:PTP 3", "+3.000000000000000E+00"),
        ("SOUR2:BURS:STAT 1", "1"),
        ("SOUR2:BURS:NCYC 12", "+1.200000000000000E+01"),
        ("SOUR2:BURS:NCYC INF", "9.9E+37"),
        ("SOUR2:BURS:INT:PER 1 ms", "+1.000000000000000E-03"),
        ("SOUR2:BURS:MODE TRIG", "TRIG"),
        ("OUTP2 ON", "1"),
        ("OUTP2:LOAD INF", "9.9E+37"),
        ("OUTP2:POL INV", "INV"),
        ("TRIG2:SOUR BUS", "BUS"),
        ("TRIG2:SLOP NEG", "NEG"),
        ("TRIG2:DEL 1us", "+1.000000000000000E-06"),
        ("FORM:BORD SWAP", "SWAP"),
    ],
)
def test_settings_are_read_back(bench: Bench, setting: str, reply: str) -> None:
    bench.send(setting)
    assert bench.ask(setting.partition(" ")[0] + "?") == reply
    assert bench.errors() == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("SOUR3:FREQ 1", -114),
        ("FREQ 21E6", -222),
        ("FREQ", -109),
        ("FUNC BLUE", -224),
        ("VOLT 11", -222),
        ("VOLT 0.0001", -222),
        ("VOLT:OFFS 5", -221),
        ("VOLT:HIGH -1", -221),
        ("OUTP:LOAD 0", -222),
        ("BURS:MODE GAT", -221),
        ("FUNC:ARB MISSING", -224),
        ("DATA:ARB A", -109),
        ("DATA:ARB ABCDEFGHIJKLM,1,1,1,1,1,1,1,1", -150),
        ("DATA:ARB 1A,1,1,1,1,1,1,1,1", -224),
        ("DATA:ARB A,1,1", -222),
        ("DATA:ARB A,0,0,0,0,0,0,0,1.1", -222),
        ("DATA:ARB A,0,0,0,0,0,0,0,nan", -222),
        ("DATA:ARB A,0,0,0,0,0,0,0,x", -104),
        ("DATA:ARB A,0,0,0,0,0,0,0,'1'", -104),
        ("DATA:ARB A,#15abcde", -161),
        ("*TRG", -211),
    ],
)
def test_wrong_messages_are_reported_and_change_nothing(
    bench: Bench, message: str, code: int
) -> None:
    bench.send(message)
    assert bench.errors() == [code]
    assert bench.ask("FREQ?;VOLT?;VOLT:OFFS?") == (
        "+1.000000000000000E+03;+1.000000000000000E-01;+0.000000000000000E+00"
    )
    assert bench.ask("DATA:VOL:CAT?") == '""'


@settings(deadline=None)
@given(st.floats(-2.0, 2.0), st.floats(0.01, 3.0))
def test_levels_and_amplitude_are_two_views_of_one_thing(low_v: float, span_v: float) -> None:
    bench = Bench()
    high_v = low_v + span_v
    bench.send("VOLT 0.01", f"VOLT:OFFS {low_v:.9f}", "VOLT:LOW -4.9", f"VOLT:HIGH {high_v:.9f}")
    bench.send(f"VOLT:LOW {low_v:.9f}")
    assert bench.errors() == []
    assert float(bench.ask("VOLT?")) == pytest.approx(span_v, abs=1e-6)
    assert float(bench.ask("VOLT:OFFS?")) == pytest.approx(low_v + span_v / 2, abs=1e-6)


def test_units_follow_the_waveform(bench: Bench) -> None:
    bench.send("FUNC SIN", "VOLT 0 dBm")
    assert float(bench.ask("VOLT?")) == pytest.approx(0.632456, rel=1e-5)
    bench.send("VOLT:UNIT VRMS")
    assert float(bench.ask("VOLT?")) == pytest.approx(0.223607, rel=1e-5)
    bench.send("OUTP:LOAD INF", "VOLT:UNIT DBM", "VOLT 0 DBM")
    assert bench.errors() == [-221, -221]


def test_a_load_setting_changes_the_display_and_not_the_output(bench: Bench) -> None:
    bench.send("FUNC DC", "VOLT:OFFS 1", "OUTP ON")
    before = bench.one.drive.samples_v
    bench.send("OUTP:LOAD INF")
    assert float(bench.ask("VOLT:OFFS?")) == pytest.approx(2.0)
    np.testing.assert_allclose(bench.one.drive.samples_v, before)


@pytest.mark.parametrize("function", ["SIN", "SQU", "RAMP", "TRI", "PULS", "NOIS"])
def test_standard_waveforms_fill_their_levels(bench: Bench, function: str) -> None:
    bench.send(f"FUNC {function}", "FREQ 1E5", "VOLT 2", "VOLT:OFFS 0.5", "OUTP ON")
    drive = bench.one.drive
    assert drive.cycles is None
    assert drive.samples_v.min() == pytest.approx(-0.5, abs=0.01)
    assert drive.samples_v.max() == pytest.approx(1.5, abs=0.01)
    if function != "NOIS":
        assert drive.sample_rate_hz / drive.samples_v.size == pytest.approx(1e5)


def test_sine_phase_is_that_of_the_first_sample(bench: Bench) -> None:
    bench.send("VOLT 2", "PHAS 90", "OUTP ON")
    assert bench.one.drive.samples_v[0] == pytest.approx(1.0)


def test_output_off_opens_the_relay(bench: Bench) -> None:
    bench.send("OUTP ON", "OUTP OFF")
    assert bench.one.played[-1] is None


def test_an_uploaded_waveform_plays_around_its_offset(bench: Bench) -> None:
    play_ramp(bench, "VOLT:OFFS 0.5", "OUTP:POL INV")
    drive = bench.one.drive
    np.testing.assert_allclose(drive.samples_v, 0.5 - RAMP, atol=1e-6)
    assert drive.sample_rate_hz == 1e6
    assert drive.samples_v.dtype == np.dtype(np.float32)


@pytest.mark.parametrize(("order", "element"), [("NORM", ">"), ("SWAP", "<")])
@pytest.mark.parametrize(("node", "kind", "scale"), [("", "f4", 1.0), (":DAC", "i2", 32767.0)])
def test_blocks_and_lists_upload_the_same(
    bench: Bench, order: str, element: str, node: str, kind: str, scale: float
) -> None:
    values = np.round(RAMP * scale) if node else RAMP
    block = encode_block(values.astype(element + kind).tobytes())
    bench.send(f"FORM:BORD {order}", f"DATA:ARB{node} BLOCK,".encode() + block)
    bench.send(f"DATA:ARB{node} LIST, " + ", ".join(f"{value:.9g}" for value in values))
    bench.send("FUNC ARB", "VOLT 2", "OUTP ON", "FUNC:ARB BLOCK")
    first = bench.one.drive.samples_v
    bench.send("FUNC:ARB LIST")
    assert bench.errors() == []
    np.testing.assert_array_equal(first, bench.one.drive.samples_v)
    np.testing.assert_allclose(first, values / scale, rtol=1e-6)


def test_volatile_memory_is_a_catalogue_of_bounded_size() -> None:
    bench = Bench(memory_samples=40)
    bench.send(upload("A", RAMP), upload("B", RAMP), upload("A", RAMP), upload("C", RAMP))
    assert bench.errors() == [786, -225]
    assert bench.ask("DATA:VOL:CAT?;:DATA:VOL:FREE?") == '"A","B";+8'
    assert bench.ask("SOUR2:DATA:VOL:FREE?") == "+40"
    bench.send("FUNC:ARB a", "DATA:VOL:CLE")
    assert bench.ask("DATA:VOL:CAT?;:DATA:VOL:FREE?;:FUNC:ARB?") == '"";+40;""'


def test_a_burst_rests_at_its_first_sample_until_the_bus_trigger(bench: Bench) -> None:
    play_ramp(bench, "BURS:STAT ON", "BURS:NCYC 3", "TRIG:SOUR BUS", "TRIG:DEL 2E-6")
    rest = bench.one.drive
    assert (rest.samples_v.tolist(), rest.cycles, rest.idle_v) == ([-1.0], None, -1.0)
    bench.clock.sleep(1.0)
    played_before_the_pulse = []
    bench.out.on_fire = lambda: played_before_the_pulse.append(bench.one.drive)
    bench.send("*TRG")
    (drive,) = played_before_the_pulse
    assert (drive.start_s, drive.cycles, drive.idle_v) == (1.0 + 2e-6, 3, -1.0)
    np.testing.assert_allclose(drive.samples_v, RAMP, atol=1e-6)
    assert bench.out.pulses == 1


def test_triggers_during_a_burst_are_ignored(bench: Bench) -> None:
    play_ramp(bench, "BURS:STAT ON", "BURS:NCYC 1000", "TRIG:SOUR BUS")
    bench.send("*TRG", "*TRG")
    assert (bench.out.pulses, bench.errors()) == (1, [-211])
    bench.clock.sleep(0.016)
    bench.send("*TRG")
    assert (bench.out.pulses, bench.errors()) == (2, [])


def test_an_external_pulse_starts_bursts_that_wait_for_it(bench: Bench) -> None:
    play_ramp(bench, "BURS:STAT ON", "TRIG:SOUR EXT", "BURS:NCYC INF")
    for listener in bench.into.listeners:
        listener(7.0)
    assert (bench.one.drive.start_s, bench.one.drive.cycles) == (7.0, None)
    assert bench.two.played == [None]


def test_an_internal_burst_repeats_with_its_period(bench: Bench) -> None:
    play_ramp(bench, "BURS:STAT ON", "BURS:NCYC 2", "BURS:INT:PER 100E-6")
    samples_v = bench.one.drive.samples_v
    assert samples_v.size == 100
    np.testing.assert_allclose(samples_v[:32], np.tile(RAMP, 2), atol=1e-6)
    assert set(samples_v[32:].tolist()) == {-1.0}


def test_levels_change_without_a_restart_frequency_with_one(bench: Bench) -> None:
    bench.clock.sleep(1.0)
    bench.send("OUTP ON", "OUTP2 ON")
    bench.clock.sleep(1.0)
    bench.send("VOLT 1")
    assert bench.one.drive.start_s == 1.0
    bench.send("FREQ 2E3")
    assert (bench.one.drive.start_s, bench.two.drive.start_s) == (2.0, 1.0)
    bench.clock.sleep(1.0)
    bench.send("PHAS:SYNC")
    assert (bench.one.drive.start_s, bench.two.drive.start_s) == (3.0, 3.0)


def test_reset_brings_defaults_and_silence(bench: Bench) -> None:
    play_ramp(bench, "FORM:BORD SWAP")
    bench.send("*RST")
    assert bench.one.played[-1] is None
    assert bench.ask("FUNC?;:FORM:BORD?;:DATA:VOL:CAT?") == 'SIN;NORM;""'


@pytest.mark.parametrize(
    ("function", "setting", "above"),
    [
        ("SQU", "FUNC:SQU:DCYC 20", 0.2),
        ("PULS", "FUNC:PULS:WIDT 300E-6", 0.3),
        ("PULS", "FUNC:PULS:DCYC 70", 0.7),
        ("RAMP", "FUNC:RAMP:SYMM 25", 0.5),
    ],
)
def test_duty_cycle_width_and_symmetry_shape_the_period(
    bench: Bench, function: str, setting: str, above: float
) -> None:
    bench.send(f"FUNC {function}", "FREQ 1E3", "VOLT 2", setting, "OUTP ON")
    volts = bench.one.drive.samples_v
    assert np.mean(volts > 0) == pytest.approx(above, abs=2e-3)
    rising = np.mean(np.diff(volts) > 0)
    assert rising == pytest.approx(0.25 if function == "RAMP" else 0.0, abs=2e-3)
    assert bench.errors() == []


def test_pulses_keep_their_width_or_their_duty_cycle(bench: Bench) -> None:
    bench.send("FUNC PULS", "FREQ 1E3", "FUNC:PULS:WIDT 1E-4", "FREQ 2E3")
    assert float(bench.ask("FUNC:PULS:DCYC?")) == pytest.approx(20.0)
    bench.send("FUNC:PULS:HOLD DCYC", "FUNC:PULS:PER 1E-3")
    assert float(bench.ask("FUNC:PULS:WIDT?")) == pytest.approx(2e-4)
    assert float(bench.ask("FREQ?")) == pytest.approx(1e3)
    bench.send("FUNC:PULS:WIDT 2E-3")
    assert bench.errors() == [-221]


@pytest.mark.parametrize(
    ("setting", "reply"),
    [
        ("FUNC:PULS:TRAN:BOTH 20E-9", "+2.000000000000000E-08"),
        ("SOUR2:FREQ:MODE CW", "CW"),
        ("SOUR2:BURS:GATE:POL INV", "INV"),
        ("SOUR2:BURS:PHAS 90", "+9.000000000000000E+01"),
        ("TRIG2:TIM 0.1", "+1.000000000000000E-01"),
        ("TRIG2:COUN 3", "+3.000000000000000E+00"),
        ("OUTP:SYNC 0", "0"),
        ("OUTP:SYNC:SOUR CH2", "CH2"),
        ("OUTP:TRIG 1", "1"),
        ("FUNC:ARB:ADV SRAT", "SRAT"),
        ("DISP:TEXT 'at work'", '"at work"'),
    ],
)
def test_further_settings_are_read_back(bench: Bench, setting: str, reply: str) -> None:
    bench.send(setting)
    node = setting.partition(" ")[0].removesuffix(":BOTH")
    assert bench.ask(f"{node}?") == reply
    bench.send("SYST:BEEP", "DISP:TEXT:CLE")
    assert bench.errors() == []


def test_apply_sets_a_signal_and_switches_it_on(bench: Bench) -> None:
    bench.send("APPL:SQU 2E3, 1.5, 0.25")
    assert bench.ask("OUTP?") == "1"
    assert (bench.one.drive.samples_v.max(), bench.one.drive.samples_v.min()) == (1.0, -0.5)
    reply = bench.ask("APPL?")
    assert reply.startswith('"SQU ')
    values = [float(word) for word in reply.strip('"').removeprefix("SQU ").split(",")]
    assert values == [2e3, 1.5, 0.25]
    bench.send("APPL:SIN 1,2,3,4")
    assert bench.errors() == [-108]


def test_a_burst_starts_at_its_phase_and_repeats_with_the_timer(bench: Bench) -> None:
    bench.send("FREQ 1E3", "VOLT 2", "BURS:NCYC 1", "BURS:PHAS 90", "TRIG:SOUR TIM")
    bench.send("TRIG:TIM 5E-3", "BURS:STAT ON", "OUTP ON")
    drive = bench.one.drive
    assert drive.samples_v[0] == pytest.approx(1.0)
    assert drive.samples_v.size / drive.sample_rate_hz == pytest.approx(5e-3)
