"""The beat of two lasers found from drawn frames: frequency, sign, and where the frame begins."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labctl.dsp.beat import beat_at, find_beat
from labctl.dsp.heterodyne import best_beat_hz, demodulated, highest_beat_hz
from labctl.dsp.layout import PEAK, FrameLayout
from labctl.dsp.matched_filter import read_slots
from labctl.errors import SynchronisationError
from labctl.instruments.capabilities import Trace

SAMPLE_HZ = 160e6
LAYOUT = FrameLayout(20e6, 160e6, 257, 16, 40, 32)
LONGEST_S = 100e-6


class Drawn:
    """A record of a frame that comes `delay_s` late and beats at `beat_hz`.

    symbol_rad2: phase variance of one symbol of modulus 1 alone, from white noise.
    """

    def __init__(
        self,
        layout: FrameLayout,
        *,
        beat_hz: float,
        delay_s: float = 20e-6,
        symbol_rad2: float = 0.1,
        seed: int = 1,
    ) -> None:
        draw = np.random.default_rng(seed)
        weights = draw.normal(0.0, 0.1, (layout.rows, 2 * layout.modes)).astype(np.float32)
        self.symbols = layout.server_symbols(weights, 1.0)
        samples = round((layout.duration_s + 1.1 * LONGEST_S) * SAMPLE_HZ)
        time_s = np.arange(samples) / SAMPLE_HZ
        place = (time_s - delay_s) * layout.symbol_rate_hz
        # A Hann pulse begins an eighth of a slot before its slot.
        slot = np.floor(place + 0.125).astype(np.int64)
        inside = (slot >= 0) & (slot < len(self.symbols))
        field = np.zeros(samples, np.complex128)
        field[inside] = self.symbols[slot[inside]]
        field *= layout.pulse_shape.field(place - slot)
        self.phase = draw.uniform(-math.pi, math.pi)
        light = (field * np.exp(-1j * (2.0 * math.pi * beat_hz * time_s + self.phase))).real
        # A pulse's samples have an energy of 3/8 of its length; a matched filter reads its root.
        self.amplitude = math.sqrt(3.0 / 8.0 * 7.0 / 8.0 * SAMPLE_HZ / layout.symbol_rate_hz)
        noise = self.amplitude * math.sqrt(symbol_rad2 / 2.0) * draw.standard_normal(samples)
        self.trace = Trace(0.0, 1.0 / SAMPLE_HZ, (light + noise).astype(np.float32))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("symbol_rad2", [0.02, 0.15])
def test_any_beat_and_delay_are_found(symbol_rad2: float, seed: int) -> None:
    """Against the noise of 257 symbols the frequency is known to 2 kHz, to 10 kHz at five errors.

    The start is known to a quarter of a sample.
    """
    draw = np.random.default_rng(100 + seed)
    beat_hz = float(draw.uniform(15e6, 50e6) * draw.choice([-1.0, 1.0]))
    delay_s = float(draw.uniform(1e-6, 95e-6))
    drawn = Drawn(LAYOUT, beat_hz=beat_hz, delay_s=delay_s, symbol_rad2=symbol_rad2, seed=seed)
    found = find_beat(drawn.trace, LAYOUT, longest_delay_s=LONGEST_S, highest_hz=70e6)
    assert found.frequency_hz == pytest.approx(beat_hz, abs=10e3)
    assert abs(found.frequency_hz - beat_hz) < 5.0 * found.error_hz + 100.0
    assert found.sync.start_s == pytest.approx(delay_s, abs=0.3 / SAMPLE_HZ)


def test_near_a_known_start_one_spectrum_is_enough() -> None:
    drawn = Drawn(LAYOUT, beat_hz=35.2e6)
    found = beat_at(drawn.trace, LAYOUT, start_s=20e-6, near_hz=34e6)
    assert found.frequency_hz == pytest.approx(35.2e6, abs=10e3)


def test_symbols_come_back_in_both_quadratures() -> None:
    """At 3/(2 L) the image is gone: without noise symbols are read to 1 % of the largest."""
    beat_hz = best_beat_hz(LAYOUT)
    drawn = Drawn(LAYOUT, beat_hz=beat_hz, symbol_rad2=0.0)
    record = demodulated(drawn.trace, LAYOUT, beat_hz)
    parts = [
        read_slots(part, LAYOUT, 20e-6, 0, LAYOUT.slots)
        for part in (record.in_phase, record.quadrature)
    ]
    read = (parts[0] + 1j * parts[1]) * np.exp(1j * drawn.phase) / drawn.amplitude
    assert np.max(np.abs(read - drawn.symbols)) < 0.01 * PEAK


def test_half_of_a_homodyne_receivers_efficiency_is_left() -> None:
    """White noise doubles in each part, signals do not: 2e5 slots, seed 2, five errors of 0.3 %."""
    layout = FrameLayout(20e6, 160e6, 257, 16, 2000, 100)
    draw = np.random.default_rng(2)
    samples = round(layout.duration_s * SAMPLE_HZ) + 100
    noise = Trace(0.0, 1.0 / SAMPLE_HZ, draw.standard_normal(samples).astype(np.float32))
    record = demodulated(noise, layout, best_beat_hz(layout))
    for part in (record.in_phase, record.quadrature):
        assert np.var(read_slots(part, layout, 0.0, 0, layout.slots)) == pytest.approx(
            2.0, rel=0.016
        )


@pytest.mark.parametrize("beat_hz", [45e6, -50e6, 57e6])
def test_a_beat_beyond_the_receivers_band_is_not_taken_for_another(beat_hz: float) -> None:
    drawn = Drawn(LAYOUT, beat_hz=beat_hz)
    with pytest.raises(SynchronisationError, match=r"no beat|at most 40 MHz are in the receiver"):
        find_beat(drawn.trace, LAYOUT, longest_delay_s=LONGEST_S, highest_hz=40e6)


def test_no_light_is_no_beat() -> None:
    draw = np.random.default_rng(7)
    noise = draw.standard_normal(60_000).astype(np.float32)
    trace = Trace(0.0, 1.0 / SAMPLE_HZ, noise)
    with pytest.raises(SynchronisationError, match=r"no beat .* own laser's frequency"):
        find_beat(trace, LAYOUT, longest_delay_s=LONGEST_S, highest_hz=60e6)
    with pytest.raises(SynchronisationError, match=r"no beat .* near \+34 MHz"):
        beat_at(trace, LAYOUT, start_s=20e-6, near_hz=34e6)


def test_a_frame_that_does_not_tell_its_begin_is_refused() -> None:
    """One row has one pilot: at 0.3 rad^2 a symbol, two neighbouring slots are as likely."""
    layout = FrameLayout(20e6, 160e6, 257, 16, 1, 4)
    refused = 0
    for seed in range(8):
        drawn = Drawn(layout, beat_hz=34e6, symbol_rad2=0.3, seed=seed)
        try:
            found = find_beat(drawn.trace, layout, longest_delay_s=LONGEST_S, highest_hz=60e6)
        except SynchronisationError as error:
            refused += "one of two slots" in str(error)
        else:
            assert found.sync.start_s == pytest.approx(20e-6, abs=1.0 / SAMPLE_HZ)
    assert refused > 0


def test_a_record_of_too_few_samples_for_the_beat_is_refused() -> None:
    drawn = Drawn(LAYOUT, beat_hz=34e6)
    assert highest_beat_hz(drawn.trace, LAYOUT) == pytest.approx(80e6 - 20e6 * 8.0 / 7.0)
    with pytest.raises(SynchronisationError, match=r"beat of \+60 MHz"):
        demodulated(drawn.trace, LAYOUT, 60e6)


def test_a_record_that_is_too_short_is_refused() -> None:
    short = Trace(0.0, 1.0 / SAMPLE_HZ, np.zeros(1000, np.float32))
    with pytest.raises(SynchronisationError, match="shorter than the preamble"):
        find_beat(short, LAYOUT, longest_delay_s=LONGEST_S, highest_hz=60e6)
