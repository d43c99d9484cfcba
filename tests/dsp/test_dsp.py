"""From record to modes: records are made here from the pulse's formula, at any delay and phase."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labctl.dsp.dsp import Sync, fit_phase, read_slots, synchronise
from labctl.dsp.layout import FrameLayout
from labctl.errors import SynchronisationError
from labctl.instruments.capabilities import Trace

SAMPLE_RATE_HZ = 160e6
SAMPLES_PER_SLOT = 8
LONGEST_DELAY_S = 100 / SAMPLE_RATE_HZ
LAYOUT = FrameLayout(
    symbol_rate_hz=20e6,
    sample_rate_hz=SAMPLE_RATE_HZ,
    preamble_symbols=63,
    guard_symbols=8,
    rows=6,
    modes=5,
)
# Norm of the sampled pulse: a matched filter reads a unit symbol as this many V.
PULSE_NORM = math.sqrt(SAMPLES_PER_SLOT * 0.875 * 3.0 / 8.0)

Symbols = NDArray[np.complex128]


def frame_symbols(seed: int = 1) -> Symbols:
    """Return random rows behind a preamble of unit modulus."""
    random = np.random.default_rng(seed)
    symbols = np.zeros(LAYOUT.slots, np.complex128)
    index = np.arange(63)
    symbols[:63] = np.exp(-1j * math.pi * index * (index + 1) / 63)
    payload = 6 * 7
    symbols[71 : 71 + payload] = 0.3 * (
        random.normal(size=payload) + 1j * random.normal(size=payload)
    )
    return symbols


def record(
    symbols: Symbols,
    delay_samples: float,
    phase_rad: float,
    *,
    amplitude_v: float = 1.0,
    noise_v: float = 0.0,
    offset_v: float = 0.0,
    samples: int = 1200,
    seed: int = 2,
) -> Trace:
    """Return what a homodyne receiver records of a train of Hann pulses, 7/8 slot each."""
    time_slots = (np.arange(samples) - delay_samples) / SAMPLES_PER_SLOT
    voltage = np.full(samples, offset_v)
    read = amplitude_v * np.real(symbols * np.exp(-1j * phase_rad))
    for slot, value in enumerate(read):
        inside = (time_slots > slot - 0.125) & (time_slots < slot + 0.75)
        phase = 2.0 * math.pi * (time_slots[inside] - slot + 0.125) / 0.875
        voltage[inside] += value * 0.5 * (1.0 - np.cos(phase))
    voltage += noise_v * np.random.default_rng(seed).standard_normal(samples)
    return Trace(-3e-7, 1.0 / SAMPLE_RATE_HZ, voltage.astype(np.float32))


def start_samples(sync: Sync) -> float:
    return (sync.start_s + 3e-7) * SAMPLE_RATE_HZ


def phase_error(sync: Sync, phase_rad: float) -> float:
    return abs(math.remainder(sync.phase_rad - phase_rad, 2.0 * math.pi))


delays = st.floats(1.0, 99.0)
phases = st.floats(-math.pi, math.pi)


@settings(deadline=None, max_examples=60)
@given(delays, phases, st.floats(1e-3, 10.0))
def test_frame_is_found_at_any_delay_and_phase(
    delay_samples: float, phase_rad: float, amplitude_v: float
) -> None:
    trace = record(frame_symbols(), delay_samples, phase_rad, amplitude_v=amplitude_v)
    sync = synchronise(trace, LAYOUT, LONGEST_DELAY_S)
    assert start_samples(sync) == pytest.approx(delay_samples, abs=0.1)
    assert phase_error(sync, phase_rad) < 0.01
    assert sync.amplitude == pytest.approx(amplitude_v * PULSE_NORM, rel=0.03)
    assert sync.peak > 7.0


@settings(deadline=None, max_examples=60)
@given(delays, phases, st.integers(0, 2**32 - 1))
def test_frame_is_found_in_noise_26_db_below_the_preamble(
    delay_samples: float, phase_rad: float, seed: int
) -> None:
    """Phase of 63 symbols: sigma = 0.05/(1.62 sqrt(63/2)) = 5.5 mrad; 0.04 is 7 sigma."""
    trace = record(frame_symbols(), delay_samples, phase_rad, noise_v=0.05, seed=seed)
    sync = synchronise(trace, LAYOUT, LONGEST_DELAY_S)
    assert start_samples(sync) == pytest.approx(delay_samples, abs=0.15)
    assert phase_error(sync, phase_rad) < 0.04
    assert sync.noise == pytest.approx(0.05, rel=0.6)


def test_start_is_right_on_average_in_noise() -> None:
    """40 records, seeds 0 to 39: the error's mean lies within 0.03 and each below 0.1 sample."""
    symbols = frame_symbols()
    errors = [
        start_samples(
            synchronise(
                record(symbols, 30.0 + seed / 40.0, 0.7 * seed, noise_v=0.02, seed=seed),
                LAYOUT,
                LONGEST_DELAY_S,
            )
        )
        - (30.0 + seed / 40.0)
        for seed in range(40)
    ]
    assert max(map(abs, errors)) < 0.1
    assert abs(float(np.mean(errors))) < 0.03


def test_constant_offset_does_not_hide_the_frame() -> None:
    trace = record(frame_symbols(), 40.3, 1.0, offset_v=5.0)
    assert start_samples(synchronise(trace, LAYOUT, LONGEST_DELAY_S)) == pytest.approx(
        40.3, abs=1.5
    )


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_no_frame(seed: int) -> None:
    trace = record(np.zeros(LAYOUT.slots, np.complex128), 0.0, 0.0, noise_v=0.1, seed=seed)
    with pytest.raises(SynchronisationError, match="no preamble"):
        synchronise(trace, LAYOUT, LONGEST_DELAY_S)


@pytest.mark.parametrize("offset_v", [0.0, 0.3])
def test_a_dead_detector_is_no_frame(offset_v: float) -> None:
    trace = record(np.zeros(LAYOUT.slots, np.complex128), 0.0, 0.0, offset_v=offset_v)
    with pytest.raises(SynchronisationError, match="is the laser on"):
        synchronise(trace, LAYOUT, LONGEST_DELAY_S)


@pytest.mark.parametrize("samples", [0, 1, 63 * 8 - 1])
def test_record_shorter_than_the_preamble_is_told(samples: int) -> None:
    with pytest.raises(SynchronisationError, match="shorter than the preamble"):
        synchronise(record(frame_symbols(), 0.0, 0.0, samples=samples), LAYOUT, LONGEST_DELAY_S)


@pytest.mark.parametrize("interval_s", [1 / 69e6, 1 / 40e6, 1.0])
def test_digitizer_too_slow_for_the_symbols_is_told(interval_s: float) -> None:
    trace = Trace(0.0, interval_s, np.zeros(5000, np.float32))
    with pytest.raises(SynchronisationError, match=r"must be 3\.5 or more"):
        synchronise(trace, LAYOUT, LONGEST_DELAY_S)


def test_a_record_that_is_not_a_number_is_no_frame() -> None:
    voltage = record(frame_symbols(), 40.0, 0.0).voltage_v.copy()
    voltage[700] = np.nan
    with pytest.raises(SynchronisationError, match="no preamble"):
        synchronise(Trace(0.0, 1.0 / SAMPLE_RATE_HZ, voltage), LAYOUT, LONGEST_DELAY_S)


def test_noise_never_looks_like_a_frame() -> None:
    """200 records of noise, seeds 100 to 299: no one is taken for a frame."""
    found = 0
    for seed in range(100, 300):
        voltage = np.random.default_rng(seed).normal(size=2000).astype(np.float32)
        try:
            synchronise(Trace(0.0, 1.0 / SAMPLE_RATE_HZ, voltage), LAYOUT, 1000 / SAMPLE_RATE_HZ)
        except SynchronisationError:
            continue
        found += 1
    assert found == 0


# The matched filter.


@pytest.mark.parametrize("delay_samples", [40.0, 40.37, 40.75])
def test_slots_read_the_quadrature_that_the_local_oscillator_chose(delay_samples: float) -> None:
    """At the delay's fraction the filter keeps what of the pulse lies in its eight samples."""
    symbols, phase_rad = frame_symbols(), 0.6
    trace = record(symbols, delay_samples, phase_rad)
    start_s = trace.start_s + delay_samples * trace.interval_s
    read = read_slots(trace, LAYOUT, start_s, 71, 42)
    expected = PULSE_NORM * np.real(symbols[71 : 71 + 42] * np.exp(-1j * phase_rad))
    assert read.shape == (42,)
    assert np.allclose(read, expected, rtol=0.03, atol=0.02)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.999])
def test_white_noise_keeps_its_variance(fraction: float) -> None:
    """20,000 slots, seed 5: four standard errors of a variance are 4 %."""
    voltage = np.random.default_rng(5).normal(0.0, 0.2, 160_010).astype(np.float32)
    trace = Trace(0.0, 1.0 / SAMPLE_RATE_HZ, voltage)
    read = read_slots(trace, LAYOUT, fraction / SAMPLE_RATE_HZ, 0, 20_000)
    assert float(np.var(read)) == pytest.approx(0.04, rel=0.04)
    neighbours = float(np.mean(read[1:] * read[:-1])) / 0.04
    assert neighbours == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize(("start_samples", "first_slot"), [(-1.0, 0), (0.0, 100), (1.0, 99)])
def test_slots_outside_the_record_are_told(start_samples: float, first_slot: int) -> None:
    trace = Trace(0.0, 1.0 / SAMPLE_RATE_HZ, np.zeros(800, np.float32))
    with pytest.raises(SynchronisationError, match="the record has 800"):
        read_slots(trace, LAYOUT, start_samples / SAMPLE_RATE_HZ, first_slot, 1)


# Phase.


def test_phase_fit_recovers_a_linear_drift_exactly_without_noise() -> None:
    random = np.random.default_rng(6)
    symbols = random.normal(size=200) + 1j * random.normal(size=200)
    times_s = np.linspace(0.0, 2e-4, 200)
    truth = np.array([0.8, -900.0, 0.3, 1500.0])
    read = (truth[0] + truth[1] * times_s) * symbols.real
    read += (truth[2] + truth[3] * times_s) * symbols.imag
    assert np.allclose(fit_phase(read, symbols, times_s), truth, rtol=1e-9)


def test_phase_fit_follows_a_drifting_path_on_pilots_alone() -> None:
    """400 alternating pilots, noise 0.05, seed 7: sigma of the angle is below 10 mrad."""
    random = np.random.default_rng(7)
    symbols = np.where(np.arange(400) % 2, 1j, 1.0)
    times_s = np.arange(400) * 1e-6
    angle = 0.4 + 500.0 * times_s
    read = 2.0 * np.real(symbols * np.exp(-1j * angle)) + random.normal(0.0, 0.05, 400)
    a0, a1, b0, b1 = fit_phase(read.astype(np.float32), symbols, times_s)
    found = np.arctan2(b0 + b1 * times_s, a0 + a1 * times_s)
    assert float(np.max(np.abs(found - angle))) < 0.03
