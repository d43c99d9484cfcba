"""The oscilloscope panel as a host sees it: captures in, blocks out."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panel_host import PanelHost

from labctl.instruments.codecs.ieee488 import decode_block
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.keysight_infiniivision import InfiniiVisionPanel
from labctl.instruments.simulated.panels.oscilloscope_settings import engineering
from labctl.instruments.simulated.ports import Capture, CaptureWindow

Signal = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


@dataclass
class FrontEnd:
    """A digitizer that samples functions of time; each channel has its own amplitude."""

    signal: Signal = lambda t: np.sin(2 * np.pi * 1e4 * t)
    windows: list[CaptureWindow] = field(default_factory=list)
    armed: tuple[CaptureWindow, Callable[[Capture], None]] | None = None

    def arm(self, window: CaptureWindow, deliver: Callable[[Capture], None]) -> None:
        self.armed = (window, deliver)

    def disarm(self) -> None:
        self.armed = None

    def capture_now(self, window: CaptureWindow) -> Capture:
        self.windows.append(window)
        times_s = window.start_s + np.arange(window.samples) / window.sample_rate_hz
        values = self.signal(times_s)
        return {number: (values / number).astype(np.float32) for number in window.channels}

    def trigger(self) -> None:
        assert self.armed is not None
        (window, deliver), self.armed = self.armed, None
        deliver(self.capture_now(window))


class Bench(PanelHost[InfiniiVisionPanel]):
    def __init__(self) -> None:
        self.front = FrontEnd()
        super().__init__(
            InfiniiVisionPanel(
                "scope", BenchClock(), self.front, 4, max_sample_rate_hz=1e8, memory_samples=10_000
            )
        )

    def read(self) -> bytes:
        return self.panel.read(1 << 24)[0]

    def volts(self) -> npt.NDArray[np.float64]:
        """Read the selected channel as the manual's formula has it."""
        fields = [float(text) for text in self.ask(":WAV:PRE?").split(",")]
        self.send(":WAV:DATA?")
        payload = decode_block(self.read())
        if fields[0] == 4:
            return np.array(bytes(payload).decode().split(","), float)
        order = "<" if self.ask(":WAV:BYT?") == "LSBF" else ">"
        sign = "u" if self.ask(":WAV:UNS?") == "1" else "i"
        codes = np.frombuffer(payload, f"{order}{sign}{1 + int(fields[0])}").astype(float)
        assert len(codes) == fields[2]
        return (codes - fields[9]) * fields[7] + fields[8]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_after_reset_the_scope_is_running_and_shows_what_there_is(bench: Bench) -> None:
    """Public programs read data without starting an acquisition first."""
    for message in ("", ":STOP;:SYST:PRES", ":SING;*RST"):
        bench.send(message)
        assert int(bench.ask(":OPER:COND?")) & 8
        assert np.ptp(bench.volts()) == pytest.approx(2.0, abs=40.0 / 256)
    bench.send(":STOP")
    assert not int(bench.ask(":OPER:COND?")) & 8


def capture(bench: Bench, *more: str) -> None:
    bench.send(":TIM:RANG 1E-3", ":CHAN1:RANG 4", ":CHAN2:RANG 2", ":TRIG:EDGE:SOUR EXT", *more)
    bench.send(":DIG CHAN1,CHAN2")
    bench.front.trigger()
    assert bench.errors() == []


@pytest.mark.parametrize(
    ("setting", "reply"),
    [
        (":CHAN2:RANG 800 mV", "+8.00000000E-01"),
        (":CHANNEL2:SCALe 0.1", "+1.00000000E-01"),
        (":CHAN2:OFFS -0.5", "-5.00000000E-01"),
        (":CHAN2:COUP AC", "AC"),
        (":CHAN2:IMP FIFTY", "FIFT"),
        (":CHAN2:DISP ON", "1"),
        (":CHAN2:BWL 1", "1"),
        (":CHAN2:INV 1", "1"),
        (":CHAN2:PROB 10", "+1.00000000E+01"),
        (':CHAN2:LAB "local"', '"local"'),
        (":TIM:RANG 2E-6", "+2.00000000E-06"),
        (":TIM:SCAL 10 us", "+1.00000000E-05"),
        (":TIM:POS 1E-6", "+1.00000000E-06"),
        (":TIM:REF LEFT", "LEFT"),
        (":TRIG:EDGE:SOUR EXTernal", "EXT"),
        (":TRIG:EDGE:LEV 0.7", "+7.00000000E-01"),
        (":TRIG:EDGE:SLOP NEG", "NEG"),
        (":ACQ:TYPE NORM", "NORM"),
        (":ACQ:COUN 16", "16"),
        (":WAV:SOUR CHAN3", "CHAN3"),
        (":WAV:FORM WORD", "WORD"),
        (":WAV:BYT LSBF", "LSBF"),
        (":WAV:UNS 0", "0"),
        (":WAV:POIN:MODE RAW", "RAW"),
        (":WAV:POIN 500", "+500"),
    ],
)
def test_settings_are_read_back(bench: Bench, setting: str, reply: str) -> None:
    bench.send(setting)
    assert bench.ask(setting.partition(" ")[0] + "?") == reply
    assert bench.errors() == []


def test_the_default_setup_is_what_a_reset_leaves(bench: Bench) -> None:
    before = bench.ask(":CHAN2?"), bench.ask(":TIM?")
    bench.send(":CHAN2:RANG 0.8", ":CHAN2:DISP ON", ":TIM:RANG 2E-6", ":SYSTem:PRESet")
    assert (bench.ask(":CHAN2?"), bench.ask(":TIM?")) == before
    assert bench.errors() == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (":CHAN5:RANG 1", -114),
        (":CHAN1:RANG 50", -222),
        (":CHAN1:RANG 0", -222),
        (":TIM:RANG 1E-9", -222),
        (":TIM:MODE XY", -224),
        (":ACQ:TYPE PEAK", -221),
        (":WAV:SOUR CHAN7", -224),
        (":TRIG:EDGE:SOUR EXT;:STOP;:WAV:DATA?", -230),
        (":TRIG:EDGE:SOUR EXT;:STOP;:WAV:PRE?", -230),
        (":DIG CHAN9", -224),
        (":CHAN1:DISP 0;:SING", -221),
    ],
)
def test_wrong_messages_are_reported(bench: Bench, message: str, code: int) -> None:
    bench.send(message)
    assert bench.errors() == [code]


@pytest.mark.parametrize(
    ("range_s", "rate_hz", "samples"), [(1e-6, 1e8, 100), (1e-4, 1e8, 10_000), (1e-2, 1e6, 10_000)]
)
def test_the_record_fits_the_memory(
    bench: Bench, range_s: float, rate_hz: float, samples: int
) -> None:
    bench.send(f":TIM:RANG {range_s}", ":TRIG:EDGE:SOUR LINE", ":DIG")
    (window,) = bench.front.windows
    assert window.sample_rate_hz == pytest.approx(rate_hz)
    assert window.samples == samples
    assert int(bench.ask(":WAV:POIN?")) == samples


@pytest.mark.parametrize(("reference", "part"), [("LEFT", 0.1), ("CENT", 0.5), ("RIGH", 0.9)])
def test_the_reference_point_places_the_trigger(bench: Bench, reference: str, part: float) -> None:
    capture(bench, f":TIM:REF {reference}", ":TIM:POS 2E-4")
    assert float(bench.ask(":WAV:XOR?")) == pytest.approx(2e-4 - part * 1e-3)
    assert float(bench.ask(":WAV:XINC?")) == pytest.approx(1e-7)


@pytest.mark.parametrize("unsigned", [0, 1])
@pytest.mark.parametrize("order", ["LSBF", "MSBF"])
@pytest.mark.parametrize(("form", "levels"), [("BYTE", 256), ("WORD", 65536)])
@pytest.mark.parametrize("offset_v", [0.0, 0.3])
def test_codes_become_volts_by_the_formula(
    bench: Bench, form: str, levels: int, order: str, unsigned: int, offset_v: float
) -> None:
    capture(bench, f":CHAN1:OFFS {offset_v}")
    bench.send(f":WAV:FORM {form}", f":WAV:BYT {order}", f":WAV:UNS {unsigned}")
    times_s = -5e-4 + np.arange(10_000) * 1e-7
    np.testing.assert_allclose(
        bench.volts(), np.sin(2 * np.pi * 1e4 * times_s), atol=0.51 * 4 / levels + 1e-6
    )


def test_text_holds_volts_behind_an_eight_digit_header(bench: Bench) -> None:
    capture(bench)
    bench.send(":WAV:FORM ASC", ":WAV:DATA?")
    assert bench.read()[:2] == b"#8"
    np.testing.assert_allclose(
        bench.volts()[:3], np.sin(2 * np.pi * 1e4 * np.arange(3) * 1e-7), atol=1e-5
    )


def test_defaults_of_the_transfer_are_those_of_the_manual(bench: Bench) -> None:
    capture(bench)
    assert bench.ask(":WAV:FORM?;BYT?;UNS?") == "BYTE;MSBF;1"
    assert bench.ask(":WAV:YREF?") == "+128"
    assert bench.ask(":WAV:FORM WORD;YREF?;XREF?") == "+32768;+0"


def test_several_channels_come_from_one_shot(bench: Bench) -> None:
    capture(bench)
    assert [sorted(window.channels) for window in bench.front.windows] == [[1, 2]]
    bench.send(":WAV:FORM WORD")
    one = bench.volts()
    bench.send(":WAV:SOUR CHAN2")
    np.testing.assert_allclose(bench.volts(), one / 2, atol=1e-4)
    bench.send(":WAV:SOUR CHAN3", ":WAV:DATA?")
    assert bench.errors() == [-230]


def test_volts_beyond_the_screen_are_clipped(bench: Bench) -> None:
    capture(bench, ":CHAN1:RANG 1")
    volts = bench.volts()
    assert (volts.min(), volts.max()) == pytest.approx((-0.5, 0.5 - 1 / 256))


def test_a_record_keeps_the_settings_it_was_made_with(bench: Bench) -> None:
    capture(bench)
    preamble, volts = bench.ask(":WAV:PRE?"), bench.volts()
    bench.send(":CHAN1:RANG 8", ":TIM:RANG 1E-6", ":CHAN1:OFFS 1", ":TIM:POS 1")
    assert bench.ask(":WAV:PRE?") == preamble
    np.testing.assert_array_equal(bench.volts(), volts)


def test_fewer_points_thin_the_record_out(bench: Bench) -> None:
    capture(bench)
    whole = bench.volts()
    bench.send(":WAV:POIN 1000")
    np.testing.assert_array_equal(bench.volts(), whole[::10])
    assert float(bench.ask(":WAV:XINC?")) == pytest.approx(1e-6)


def test_probe_and_inversion_are_at_the_screen(bench: Bench) -> None:
    bench.send(":CHAN1:PROB 10")
    assert float(bench.ask(":CHAN1:RANG?")) == 400.0
    bench.send(":TIM:RANG 1E-4", ":TIM:REF LEFT", ":TIM:POS 1E-5")
    bench.send(":CHAN1:RANG 40", ":CHAN1:OFFS 1", ":CHAN1:INV 1", ":TRIG:EDGE:SOUR LINE", ":DIG")
    window = bench.front.windows[0].channels[1]
    assert (window.range_v, window.offset_v) == (4.0, -0.1)
    bench.send(":WAV:FORM WORD")
    expected = -10 * np.sin(2 * np.pi * 1e4 * np.arange(10_000) * 1e-8)
    np.testing.assert_allclose(bench.volts(), expected, atol=1e-3)


def test_an_external_trigger_is_waited_for(bench: Bench) -> None:
    bench.send("*CLS", ":TRIG:EDGE:SOUR EXT", ":SING", "*OPC")
    assert bench.ask(":OPER:COND?;*ESR?") == "+40;0"
    bench.send("*OPC?")
    assert bench.read() == b""
    bench.panel.read_timed_out()
    bench.front.trigger()
    assert bench.read() == b"1\n"
    assert bench.ask(":OPER:COND?;*ESR?") == "+0;1"
    assert bench.errors() == []


def test_stop_and_device_clear_give_up_waiting(bench: Bench) -> None:
    bench.send(":TRIG:EDGE:SOUR EXT", ":SING", "*OPC?")
    bench.panel.clear()
    bench.send(":STOP")
    assert bench.front.armed is None
    assert bench.ask(":OPER:COND?;*OPC?") == "+0;1"


def test_a_new_acquisition_replaces_one_that_waits(bench: Bench) -> None:
    bench.send(":TRIG:EDGE:SOUR EXT", ":SING")
    assert bench.front.armed is not None
    stale = bench.front.armed
    bench.send(":TIM:RANG 1E-6", ":SING")
    stale[1](bench.front.capture_now(stale[0]))
    assert bench.ask(":OPER:COND?") == "+40"
    bench.front.trigger()
    assert bench.ask(":WAV:POIN?") == "+100"


def test_running_arms_again_after_each_record(bench: Bench) -> None:
    bench.send(":TRIG:EDGE:SOUR EXT", ":RUN")
    for _ in range(3):
        bench.front.trigger()
        assert bench.ask("*OPC?;:OPER:COND?") == "1;+40"
    bench.send(":STOP")
    assert bench.ask(":OPER:COND?") == "+0"
    assert int(bench.ask(":WAV:POIN?")) == 10_000


def test_running_on_the_line_takes_a_fresh_record_for_each_transfer(bench: Bench) -> None:
    bench.send(":TRIG:EDGE:SOUR LINE", ":RUN")
    before = len(bench.front.windows)
    bench.send(":WAV:DATA?")
    assert len(bench.front.windows) == before + 1


@pytest.mark.parametrize(("slope", "sign"), [("POS", 1), ("NEG", -1)])
@pytest.mark.parametrize("position_s", [-2e-4, 0.0, 3e-4])
def test_an_edge_of_a_channel_triggers(
    bench: Bench, slope: str, sign: int, position_s: float
) -> None:
    bench.front.signal = lambda t: np.sin(2 * np.pi * 3e3 * t + 1.0)
    bench.send(":TIM:RANG 1E-3", f":TIM:POS {position_s}", ":CHAN1:RANG 4", ":TRIG:EDGE:LEV 0.5")
    bench.send(f":TRIG:EDGE:SLOP {slope}", ":DIG", ":WAV:FORM WORD")
    volts = bench.volts()
    at = round(-float(bench.ask(":WAV:XOR?")) / 1e-7)
    assert len(volts) == 10_000
    if 0 < at < 10_000:
        assert (volts[at] - 0.5) * sign >= -1e-4
        assert (volts[at - 1] - 0.5) * sign <= 1e-4
    else:
        phase = np.arcsin(0.5) if sign > 0 else np.pi - np.arcsin(0.5)
        expected = np.sin(2 * np.pi * 3e3 * float(bench.ask(":WAV:XOR?")) + phase)
        assert volts[0] == pytest.approx(expected, abs=0.01)


def test_without_an_edge_the_record_is_untriggered(bench: Bench) -> None:
    bench.front.signal = lambda t: np.full(t.shape, 0.25)
    bench.send(":TRIG:EDGE:LEV 1", ":CHAN1:RANG 4", ":DIG", ":WAV:FORM WORD")
    np.testing.assert_allclose(bench.volts(), 0.25, atol=1e-4)


def test_autoscale_fits_the_signal(bench: Bench) -> None:
    bench.front.signal = lambda t: 0.2 + 0.1 * np.sin(2 * np.pi * 1e4 * t)
    bench.send(":AUT")
    assert float(bench.ask(":CHAN1:RANG?")) == pytest.approx(0.25, rel=0.01)
    assert float(bench.ask(":CHAN1:OFFS?")) == pytest.approx(0.2, rel=0.01)


def test_summaries_have_the_manual_s_form(bench: Bench) -> None:
    assert bench.ask(":CHAN1?") == (
        ":CHAN1:RANG +40.0E+00;OFFS +0.0E+00;COUP DC;IMP ONEM;DISP 1;BWL 0;INV 0;"
        'LAB "1";UNIT VOLT;PROB +1.0E+00;PROB:SKEW +0.00E+00;STYP SING'
    )
    assert bench.ask(":TIM?") == ":TIM:MODE MAIN;REF CENT;MAIN:RANG +1.0E-03;POS +0.0E+00"


@settings(deadline=None)
@given(st.floats(-1e12, 1e12))
def test_engineering_numbers_read_back(value: float) -> None:
    assert float(engineering(value)) == pytest.approx(value, rel=1e-8, abs=1e-99)


@pytest.mark.parametrize(
    ("kind", "code", "count"), [("NORM", 0, 1), ("HRES", 3, 1), ("AVER", 2, 4)]
)
@pytest.mark.parametrize("source", ["CHAN1", "LINE"])
def test_acquisition_types_are_told_in_the_preamble(
    bench: Bench, kind: str, code: int, count: int, source: str
) -> None:
    bench.send(f":ACQ:TYPE {kind}", ":ACQ:COUN 4", f":TRIG:EDGE:SOUR {source}", ":TIM:RANG 1E-3")
    bench.send(":DIG CHAN1")
    fields = bench.ask(":WAV:PRE?").split(",")
    assert (int(fields[1]), int(fields[3])) == (code, count)
    assert int(fields[2]) == int(bench.ask(":ACQ:POIN?"))
    assert bench.errors() == []
