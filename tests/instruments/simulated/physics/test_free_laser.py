"""The client's own laser: its phase against the signal's, and what a detector sees of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labctl.instruments.simulated.physics.free_laser import FreeLaser, FrequencyError
from labctl.instruments.simulated.physics.grid import Noise, Window
from labctl.instruments.simulated.physics.laser import LaserParameters

GRID_HZ, SIGNAL_HZ = 160e6, 193.4e12


def laser(
    *, linewidth_hz: float = 0.0, off_hz: float = 0.0, drift_hz_s: float = 0.0, now_s: float = 0.0
) -> FreeLaser:
    return FreeLaser(
        LaserParameters(linewidth_hz, -150.0),
        GRID_HZ,
        Noise(np.random.SeedSequence(1)),
        error=FrequencyError(off_hz, drift_hz_s),
        now_s=lambda: now_s,
    )


def beat_hz(phase_rad: np.ndarray) -> float:
    steps = np.diff(phase_rad.astype(np.float64))
    turned = np.remainder(steps + math.pi, 2.0 * math.pi) - math.pi
    return float(np.mean(turned)) * GRID_HZ / (2.0 * math.pi)


@pytest.mark.parametrize(("set_hz", "off_hz"), [(30e6, 0.0), (30e6, 4e6), (-20e6, 1e6)])
def test_it_turns_by_the_difference_of_both_frequencies(set_hz: float, off_hz: float) -> None:
    head = laser(off_hz=off_hz)
    head.set_emission(True, 1e-3, SIGNAL_HZ + set_hz)
    for start in (0, 10**9):
        seen = beat_hz(head.phase_over(Window(start, 4000), SIGNAL_HZ))
        assert seen == pytest.approx(set_hz + off_hz, abs=50.0)
    assert head.frequency_hz == pytest.approx(SIGNAL_HZ + set_hz + off_hz, abs=1.0)


def test_it_drifts_with_the_bench_clock() -> None:
    """1 MHz a second: 5 s later it beats 5 MHz faster."""
    head = laser(drift_hz_s=1e6, now_s=5.0)
    head.set_emission(True, 1e-3, SIGNAL_HZ + 10e6)
    seen = beat_hz(head.phase_over(Window(round(5.0 * GRID_HZ), 4000), SIGNAL_HZ))
    assert seen == pytest.approx(15e6, abs=100.0)
    assert head.frequency_hz == pytest.approx(SIGNAL_HZ + 15e6, abs=1.0)


def test_its_linewidth_is_a_wiener_phase_of_its_own() -> None:
    """400,000 steps, seed 1: five standard errors of their variance are 1.1 %."""
    head = laser(linewidth_hz=20e3)
    head.set_emission(True, 1e-3, SIGNAL_HZ)
    steps = np.diff(head.phase_over(Window(0, 400_000), SIGNAL_HZ).astype(np.float64))
    turned = np.remainder(steps + math.pi, 2.0 * math.pi) - math.pi
    assert np.var(turned) == pytest.approx(2.0 * math.pi * 20e3 / GRID_HZ, rel=0.012)


def test_single_instants_have_the_same_turning() -> None:
    head = laser()
    head.set_emission(True, 1e-3, SIGNAL_HZ + 10e6)
    instants = np.arange(0, 1600, 16)
    # 16 samples of the grid are one whole turn at 10 MHz.
    turned = np.remainder(head.phase_against(instants, SIGNAL_HZ) + 1.0, 2.0 * math.pi)
    assert np.ptp(turned) < 1e-3


@pytest.mark.parametrize(("beat", "within"), [(70e6, True), (-79e6, True), (81e6, False)])
def test_a_beat_beyond_the_grid_is_told(beat: float, within: bool) -> None:
    head = laser()
    head.set_emission(True, 1e-3, SIGNAL_HZ + beat)
    assert head.beats_within(SIGNAL_HZ) is within
