"""Noise statistics: a variance's uncertainty is its scatter, and spoilt records are named."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.calibration.spectrum import (
    check_noise,
    effective_samples,
    pooled_variance,
    spectral_density,
)
from labctl.errors import CalibrationError


def correlated(draw: np.random.Generator, samples: int, neighbour: float) -> np.ndarray:
    """Return unit-variance noise of which neighbours alone are correlated: 1, r, 0, 0, ..."""
    angle = 0.5 * math.asin(2.0 * neighbour)
    white = draw.standard_normal(samples + 1)
    return np.asarray(math.cos(angle) * white[1:] + math.sin(angle) * white[:-1])


@pytest.mark.parametrize("neighbour", [0.0, 0.2, 0.45])
def test_uncertainty_of_a_variance_is_its_scatter_over_repeats(neighbour: float) -> None:
    """1000 records of 2000 samples, seed 1: the scatter itself is known to 2.2 %, four sigma."""
    draw = np.random.default_rng(1)
    found = [pooled_variance([correlated(draw, 2000, neighbour)]) for _ in range(1000)]
    scatter = float(np.std([each.variance for each in found]))
    stated = float(np.mean([each.standard_uncertainty for each in found]))
    assert stated == pytest.approx(scatter, rel=0.09)
    assert np.mean([each.variance for each in found]) == pytest.approx(1.0, abs=0.01)


@settings(deadline=None)
@given(st.floats(-0.49, 0.49))
def test_correlation_of_neighbours_costs_samples_in_closed_form(neighbour: float) -> None:
    """1 + 2 r^2 samples are worth one; 1e5 of them, seed 2."""
    values = correlated(np.random.default_rng(2), 100_000, neighbour)
    worth = 100_000 / effective_samples(values)
    assert worth == pytest.approx(1.0 + 2.0 * neighbour**2, abs=0.02)


@pytest.mark.parametrize("step", [0.05, 0.9])
def test_records_that_scatter_more_than_their_samples_say_so(step: float) -> None:
    """20 records, seed 3, every other one louder by `step` of the variance."""
    draw = np.random.default_rng(3)
    records = [draw.standard_normal(20_000) * math.sqrt(1.0 + step * (n % 2)) for n in range(20)]
    found = pooled_variance(records)
    assert found.steady_probability < 1e-3
    by_scatter = float(np.std([each.var() for each in records], ddof=1)) / math.sqrt(20.0)
    assert found.standard_uncertainty == pytest.approx(by_scatter, rel=0.05)


def test_steady_records_are_worth_all_their_samples() -> None:
    records = np.random.default_rng(4).standard_normal((10, 10_000))
    found = pooled_variance(list(records))
    assert found.steady_probability > 1e-3
    assert found.samples == pytest.approx(100_000, rel=0.01)


def quantised(values: np.ndarray, range_v: float, bits: int = 8) -> np.ndarray:
    step = range_v / 2**bits
    codes = np.clip(np.rint(values / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return np.asarray(codes * step, np.float32)


NOISE = np.random.default_rng(5).standard_normal(200_000)


@pytest.mark.parametrize("range_v", [12.0, 30.0, 200.0])
def test_sound_noise_passes(range_v: float) -> None:
    check_noise(quantised(NOISE, range_v), range_v, "server")


@pytest.mark.parametrize("reach", [0.5, 1.0, 2.0, 3.0])
def test_a_range_too_small_is_told(reach: float) -> None:
    with pytest.raises(CalibrationError, match=r"server: record is cut off .* range .* too small"):
        check_noise(quantised(NOISE, 2.0 * reach), 2.0 * reach, "server")


@pytest.mark.parametrize("swing", [0.5, 1.0, 2.0, 3.0])
def test_a_detector_that_saturates_is_told_from_it(swing: float) -> None:
    record = quantised(np.clip(NOISE, -swing, swing), 16.0)
    with pytest.raises(CalibrationError, match=r"client: .*the detector is saturated"):
        check_noise(record, 16.0, "client")


def test_one_sided_saturation_is_seen() -> None:
    with pytest.raises(CalibrationError, match="saturated"):
        check_noise(quantised(np.maximum(NOISE, -2.0), 16.0), 16.0, "client")


def test_noise_below_the_digitizers_steps_is_refused() -> None:
    with pytest.raises(CalibrationError, match="lost in the digitizer's steps"):
        check_noise(quantised(NOISE, 1000.0), 1000.0, "client")


@pytest.mark.parametrize("level", [0.0, -0.3])
def test_a_constant_record_is_refused(level: float) -> None:
    with pytest.raises(CalibrationError, match="constant"):
        check_noise(np.full(1000, level, np.float32), 1.0, "client")


@pytest.mark.parametrize("record", [np.zeros(1000), np.ones(50)])
def test_what_holds_no_noise_has_no_variance(record: np.ndarray) -> None:
    with pytest.raises(CalibrationError, match="noise"):
        pooled_variance([record])


def test_density_of_white_noise() -> None:
    """Unit variance at 100 MSa/s is 2e-8 V^2/Hz; 1e6 samples, seed 6, 128 bins to 2 % each."""
    record = np.random.default_rng(6).standard_normal(1_000_000)
    frequency_hz, density = spectral_density([record[:500_000], record[500_000:]], 1e-8)
    assert frequency_hz[0] > 0.0
    assert frequency_hz[-1] == pytest.approx(50e6)
    assert density[1:-1] == pytest.approx(2e-8, rel=0.09)
    assert float(np.mean(density[1:-1])) == pytest.approx(2e-8, rel=0.01)
