"""The laser: a Wiener phase that no window boundary disturbs, and the stated intensity noise."""

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from scipy import signal

from labctl.instruments.simulated.physics.grid import Noise, Window
from labctl.instruments.simulated.physics.laser import Laser, LaserParameters

GRID_HZ = 100e6
LINEWIDTH_HZ = 20e3
PER_SAMPLE_RAD2 = 2.0 * math.pi * LINEWIDTH_HZ / GRID_HZ


def laser(seed: int, linewidth_hz: float = LINEWIDTH_HZ, rin_db_hz: float = -140.0) -> Laser:
    parameters = LaserParameters(linewidth_hz, rin_db_hz)
    return Laser(parameters, GRID_HZ, Noise(np.random.SeedSequence(seed)))


def wrapped(phase_rad: npt.ArrayLike) -> npt.NDArray[np.float64]:
    phase = np.asarray(phase_rad, np.float64)
    return np.remainder(phase + np.pi, 2.0 * np.pi) - np.pi


@pytest.mark.parametrize("lag", [1, 10, 500])
def test_phase_spreads_as_a_wiener_process(lag: int) -> None:
    """2,000,000 samples, seed 1: m = samples / lag independent steps, five standard errors."""
    phase = laser(1).phase(Window(0, 2_000_000)).astype(np.float64)
    steps = np.diff(phase[::lag])
    expected = PER_SAMPLE_RAD2 * lag
    assert np.var(steps) == pytest.approx(expected, rel=5.0 * math.sqrt(2.0 / len(steps)))


@pytest.mark.parametrize(("samples", "gap"), [(2, 0), (5, 0), (2, 3), (5, 40), (1, 1), (3, 1000)])
def test_phase_goes_on_over_windows_and_gaps(samples: int, gap: int) -> None:
    """10,000 windows, seed 2: the step from one to the next has 2 pi dnu tau, five errors."""
    source, windows = laser(2), 10_000
    phases = [source.phase(Window(k * (samples + gap), samples)) for k in range(windows)]
    steps = wrapped([b[0] - np.float64(a[-1]) for a, b in pairwise(phases)])
    expected = PER_SAMPLE_RAD2 * (gap + 1)
    assert np.var(steps) == pytest.approx(expected, rel=5.0 * math.sqrt(2.0 / len(steps)))


def test_a_window_that_reaches_back_has_the_phase_that_was_told() -> None:
    source = laser(3)
    told = source.phase(Window(0, 1000))
    again = source.phase(Window(900, 1000))
    assert np.array_equal(again[:100], told[900:])
    steps = np.diff(again.astype(np.float64))
    assert abs(wrapped(steps[99])) < 6.0 * math.sqrt(PER_SAMPLE_RAD2)
    assert np.array_equal(source.phase(Window(950, 50)), again[50:100])


def test_a_window_before_the_last_one_starts_where_the_phase_was_left() -> None:
    source = laser(3)
    last = source.phase(Window(1000, 1000))[-1]
    assert wrapped(source.phase(Window(0, 10))[0] - last) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("gap", [1, 40, 1000])
def test_the_phase_at_instants_spreads_by_the_time_between_them(gap: int) -> None:
    """20,000 instants in 20 calls after a window, seed 6: steps of 2 pi dnu tau, five errors."""
    source = laser(6)
    before = source.phase(Window(0, 100))
    instants = 99 + gap * np.arange(1, 20_001)
    phase = np.concatenate([before[-1:], *map(source.phase_at, np.split(instants, 20))])
    steps = wrapped(np.diff(phase.astype(np.float64)))
    assert np.var(steps) == pytest.approx(PER_SAMPLE_RAD2 * gap, rel=5.0 * math.sqrt(1e-4))


def test_after_a_long_gap_every_phase_is_as_likely() -> None:
    """2,000 gaps of 1 s, seed 4: the mean phasor of uniform phases is 0 +- 4/sqrt(m)."""
    source = laser(4)
    period = round(GRID_HZ)
    phases = np.array([source.phase(Window(k * period, 1))[0] for k in range(1, 2001)])
    assert abs(np.mean(np.exp(1j * phases))) < 4.0 / math.sqrt(len(phases))


def test_a_laser_without_linewidth_keeps_its_phase() -> None:
    source = laser(5, linewidth_hz=0.0)
    first, second = source.phase(Window(0, 100)), source.phase(Window(10**9, 100))
    assert not np.ptp(first)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("rin_db_hz", [-150.0, -120.0])
def test_intensity_noise_has_the_stated_density(rin_db_hz: float) -> None:
    """1,000,000 samples, seed 6, about 1,950 spectra averaged: flat within five errors."""
    amplitude = laser(6, rin_db_hz=rin_db_hz).relative_amplitude(1_000_000).astype(np.float64)
    frequency, density = signal.welch(
        amplitude**2, fs=GRID_HZ, nperseg=512, noverlap=0, window="boxcar"
    )
    assert np.mean(amplitude**2) == pytest.approx(1.0, abs=1e-3)
    # A float32 amplitude near 1 is rounded to 6e-8: -180 dB/Hz here, far below either level.
    inside = (frequency > 0.0) & (frequency < GRID_HZ / 2.0)
    expected = 10.0 ** (rin_db_hz / 10.0)
    assert np.all(np.abs(density[inside] / expected - 1.0) < 5.0 / math.sqrt(1953))
    assert np.mean(density[inside]) == pytest.approx(expected, rel=5.0 * math.sqrt(2.0 / 1e6))


def test_only_a_laser_that_is_on_emits() -> None:
    source = laser(7)
    assert source.emitted_power_w() == 0.0
    source.set_emission(True, 0.02, 193.1e12)
    assert (source.emitted_power_w(), source.frequency_hz) == (0.02, 193.1e12)
    source.set_emission(False, 0.02, 193.1e12)
    assert source.emitted_power_w() == 0.0
