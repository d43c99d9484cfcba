"""Measurements and screen of the oscilloscope panel, checked on signals that are known."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import matplotlib.image
import numpy as np
import numpy.typing as npt
import pytest

from labctl.instruments.codecs.ieee488 import decode_block
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.keysight_infiniivision import InfiniiVisionPanel
from labctl.instruments.simulated.panels.oscilloscope_screen import HEIGHT, WIDTH
from labctl.instruments.simulated.ports import Capture, CaptureWindow

Times = npt.NDArray[np.float64]
Signal = Callable[[Times], Times]
PERIOD_S, HIGH_S, EDGE_S = 100e-6, 30e-6, 10e-6
NOTHING = "+9.9E+37"


def pulses(times_s: Times) -> Times:
    """From -0.5 V to 1.5 V for 30 us of every 100 us, between the middles of 10 us edges."""
    since_s = np.mod(times_s + EDGE_S / 2, PERIOD_S)
    return np.interp(
        since_s, [0, EDGE_S, HIGH_S, HIGH_S + EDGE_S, PERIOD_S], [-0.5, 1.5, 1.5, -0.5, -0.5]
    )


def sine(times_s: Times) -> Times:
    """10 kHz, 1 V peak, around 0.25 V."""
    wave: Times = 0.25 + np.sin(2 * np.pi * 1e4 * times_s)
    return wave


class FrontEnd:
    """A digitizer that sees one signal on all channels, with 1 mV of noise."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._noise = np.random.default_rng(1)

    def arm(self, window: CaptureWindow, deliver: Callable[[Capture], None]) -> None:
        raise AssertionError("no external trigger is used here")

    def disarm(self) -> None:
        """Nothing is ever armed."""

    def capture_now(self, window: CaptureWindow) -> Capture:
        times_s = window.start_s + np.arange(window.samples) / window.sample_rate_hz
        values = self._signal(times_s) + self._noise.normal(0.0, 1e-3, times_s.size)
        return {number: values.astype(np.float32) for number in window.channels}


class Scope:
    """The panel's host: half a millisecond on the screen, 4 V high."""

    def __init__(self, signal: Signal) -> None:
        self._panel = InfiniiVisionPanel(
            "scope",
            BenchClock(),
            FrontEnd(signal),
            2,
            max_sample_rate_hz=1e8,
            memory_samples=20_000,
        )
        self.send(":TIM:RANG 500E-6;:CHAN1:RANG 4;:TRIG:EDGE:LEV 0.5")

    def send(self, message: str) -> None:
        self._panel.write(message.encode() + b"\n", end=True)

    def block(self, message: str) -> bytes:
        self.send(message)
        return self._panel.read(1 << 24)[0]

    def ask(self, message: str) -> str:
        return self.block(message).decode().strip()

    def measured(self, *names: str) -> dict[str, float]:
        return {name: float(self.ask(f":MEAS:{name}?")) for name in names}


def near(expected: Mapping[str, float]) -> dict[str, object]:
    """Return what is to come, to 1 %, or 10 mV."""
    return {name: pytest.approx(value, rel=1e-2, abs=1e-2) for name, value in expected.items()}


def test_pulses_are_measured_as_they_are_made() -> None:
    scope = Scope(pulses)
    scope.send(":DIG CHAN1")
    levels = {"VMAX": 1.5, "VMIN": -0.5, "VPP": 2.0, "VTOP": 1.5, "VBAS": -0.5, "VAMP": 2.0}
    assert scope.measured(*levels) == near(levels)
    times = {"PER": PERIOD_S, "PWID": HIGH_S, "NWID": PERIOD_S - HIGH_S}
    passages = {"RIS": 0.8 * EDGE_S, "FALL": 0.8 * EDGE_S}
    for name, expected_s in {**times, **passages}.items():
        assert float(scope.ask(f":MEAS:{name}? CHAN1")) == pytest.approx(expected_s, rel=1e-2)
    assert scope.measured("FREQ", "DUTY") == near({"FREQ": 1 / PERIOD_S, "DUTY": 30.0})
    mean_v = -0.5 + 2.0 * HIGH_S / PERIOD_S
    assert scope.measured("VAV") == near({"VAV": mean_v})
    assert float(scope.ask(":MEAS:VAV? CYCL,CHAN1")) == pytest.approx(mean_v, abs=0.01)
    assert scope.ask(":MEAS:SOUR?") == "CHAN1"


def test_a_sine_has_its_root_mean_square_and_no_flat_top() -> None:
    scope = Scope(sine)
    scope.send(":DIG CHAN1")
    assert float(scope.ask(":MEAS:VRMS? CYCL,AC")) == pytest.approx(np.sqrt(0.5), rel=1e-2)
    assert float(scope.ask(":MEAS:VRMS? DISP,DC")) == pytest.approx(np.sqrt(0.5625), rel=1e-2)
    assert scope.measured("FREQ") == near({"FREQ": 1e4})


@pytest.mark.parametrize("name", ["FREQ", "PER", "PWID", "NWID", "DUTY", "RIS", "FALL"])
@pytest.mark.parametrize("signal", [lambda t: 0.0 * t, lambda t: np.where(t > 1.0, 1.0, 0.0)])
def test_what_the_screen_does_not_show_is_not_measured(name: str, signal: Signal) -> None:
    scope = Scope(signal)
    scope.send(":CHAN1:RANG 40;:DIG CHAN1")
    assert scope.ask(":MEAS:VPP? CHAN2") == NOTHING
    scope.send(":TIM:RANG 20E-9;:DIG CHAN1")
    assert scope.ask(f":MEAS:{name}? CHAN1") == NOTHING


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (":MEAS:VPP? CHAN3", -224),
        (":MEAS:VPP? CHAN1,CHAN1", -108),
        (":MEAS:VRMS? LONG", -224),
        (":MEAS:VAV? CYCL,DISP,CHAN1", -108),
        (":DISP:DATA? TIFF", -224),
        (":DISP:DATA? PNG,COL,1", -108),
    ],
)
def test_wrong_parameters_are_refused(message: str, code: int) -> None:
    scope = Scope(sine)
    scope.send(":DIG CHAN1")
    scope.send(message)
    assert int(scope.ask(":SYST:ERR?").partition(",")[0]) == code


def pixels(block: bytes, form: str) -> npt.NDArray[np.int64]:
    """Return a picture's colours from 0 to 255, shape (rows, columns, 3)."""
    data = bytes(decode_block(block))
    if form == "PNG":
        image = matplotlib.image.imread(io.BytesIO(data), format="png")
        colours: npt.NDArray[np.int64] = np.rint(image[:, :, :3] * 255).astype(np.int64)
        return colours
    assert (data[:2], int.from_bytes(data[2:6], "little")) == (b"BM", len(data))
    shape = (HEIGHT, WIDTH, 3)
    return np.frombuffer(data, np.uint8, offset=54).reshape(shape)[::-1, :, ::-1].astype(int)


def test_the_screen_shows_the_trace_where_it_is() -> None:
    scope = Scope(lambda t: np.where(t < 0.0, -1.0, 1.0))
    scope.send(":TRIG:EDGE:LEV 0;:DIG CHAN1")
    shown = pixels(scope.block(":DISP:DATA? PNG, COLOR"), "PNG")
    assert shown.shape == (HEIGHT, WIDTH, 3)
    yellow = (shown == (255, 255, 0)).all(axis=2)
    # +1 V and -1 V in a window of 4 V: a quarter from the top and from the bottom.
    assert yellow[:, 10].nonzero()[0] == pytest.approx(0.75 * HEIGHT, abs=2)
    assert yellow[:, -10].nonzero()[0] == pytest.approx(0.25 * HEIGHT, abs=2)
    assert np.array_equal(pixels(scope.block(":DISP:DATA?"), "BMP"), shown)
    grey = pixels(scope.block(":DISP:DATA? PNG,GRAY"), "PNG")
    assert (grey == grey[:, :, :1]).all()
    assert np.array_equal(grey.any(axis=2), shown.any(axis=2))


def test_the_ink_saver_makes_the_background_white_and_a_channel_off_is_not_drawn() -> None:
    scope = Scope(sine)
    scope.send(":DIG CHAN1;:HARD:INKS 1;:CHAN1:DISP 0")
    assert scope.ask(":HARD:INKS?") == "1"
    shown = pixels(scope.block(":DISP:DATA? PNG"), "PNG")
    assert (shown[7, 7] == 255).all()
    assert not (shown == (255, 255, 0)).all(axis=2).any()
