"""The tail of honest noise ratios: F where noise is white, Monte Carlo where it is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import f as fisher

from labctl.protocols.verification.noise_ratio import NoiseRatio, normal_isf, normal_sf


@pytest.mark.parametrize("probability", [0.3, 0.05, 1e-3, 1e-6, 1e-10])
@pytest.mark.parametrize(
    ("degrees", "calibration", "error"),
    [(1, 19, 0.13), (2, 999, 0.05), (19, 19, 0.005), (1000, 1000, 1e-3), (1e6, 1e8, 1e-3)],
)
def test_white_noise_is_fisher_s_f(
    degrees: float, calibration: float, error: float, probability: float
) -> None:
    """Never below the exact probability: the few per cent at one degree of freedom are reserve."""
    ratio = NoiseRatio((degrees, 0.0), (1.0, 2.0), calibration)
    exact = float(fisher.isf(probability, degrees, calibration)) * degrees
    assert ratio.tail(exact) == pytest.approx(probability, rel=error)
    assert ratio.tail(exact) > probability * (1.0 - 1e-5)
    assert ratio.tail(ratio.quantile(probability)) == pytest.approx(probability, rel=1e-6)


@pytest.mark.parametrize(
    "expected",
    [
        NoiseRatio((40.0, 10.0), (1.0, 2.0), 200.0),
        NoiseRatio((40.0, 10.0), (1.0, 2.0), 200.0, doubt=20.0),
        NoiseRatio((0.0, 12.0), (1.0, 3.0), 50.0),
    ],
    ids=["clones", "doubt", "nothing but clones"],
)
def test_noise_that_is_not_white_by_monte_carlo(expected: NoiseRatio) -> None:
    """400,000 draws, seed 1: four binomial errors."""
    random, draws = np.random.default_rng(1), 400_000
    power = expected.doubt * random.standard_normal(draws)
    for degrees, variance in zip(expected.degrees, expected.variances, strict=True):
        power += variance * random.chisquare(degrees, draws) if degrees else 0.0
    power /= random.chisquare(expected.calibration, draws) / expected.calibration
    for probability in (0.2, 0.05, 0.01, 1e-3):
        found = float(np.mean(power > expected.quantile(probability)))
        error = math.sqrt(probability / draws)
        assert found == pytest.approx(probability, abs=4.0 * error)


def test_a_fit_to_the_mean_alone_would_alarm_too_often() -> None:
    """White noise of the same mean: at 1e-6 the loud modes exceed its quantile 9 times as often."""
    loud = NoiseRatio((20.0, 20.0), (1.0, 3.0), 1e6)
    white = NoiseRatio((40.0, 0.0), (2.0, 2.0), 1e6)
    assert loud.tail(white.quantile(1e-6)) > 5e-6


@settings(deadline=None, max_examples=100)
@given(
    degrees=st.tuples(st.floats(0.5, 1e9), st.floats(0.0, 1e6)),
    variances=st.tuples(st.floats(0.9, 3.0), st.floats(0.9, 30.0)),
    calibration=st.floats(1.0, 1e10),
    doubt=st.floats(0.0, 1e3),
    ratio=st.floats(1e-6, 1e16),
)
def test_tails_are_probabilities_and_fall(
    degrees: tuple[float, float],
    variances: tuple[float, float],
    calibration: float,
    doubt: float,
    ratio: float,
) -> None:
    expected = NoiseRatio(degrees, variances, calibration, doubt)
    here, further = expected.tail(ratio), expected.tail(1.5 * ratio)
    assert 0.0 <= further <= here + 1e-6
    assert here <= 1.0
    assert math.isfinite(expected.quantile(1e-4))


def test_a_search_ends_where_double_precision_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2e14 samples, as plans have, rounding lets no step fall below 1e-12 deviations."""
    rounds = 0
    cumulants = NoiseRatio._cumulants

    def counted(self: NoiseRatio, point: float, ratio: float) -> tuple[float, float, float, float]:
        nonlocal rounds
        rounds += 1
        return cumulants(self, point, ratio)

    monkeypatch.setattr(NoiseRatio, "_cumulants", counted)
    expected = NoiseRatio((2e14, 5e11), (1.0, 1.002), 2e14)
    # A standard deviation of the ratio is sqrt(2/2e14 + 2/2e14) of it, 1.41e-7.
    mean = 2e14 + 1.002 * 5e11
    assert expected.tail(mean * (1.0 + 3e-7)) == pytest.approx(normal_sf(3.0 / 1.41), rel=0.02)
    assert 3 < rounds < 100


@pytest.mark.parametrize("value", [-3.0, 0.0, 1.0, 6.47])
def test_normal_tail_and_its_inverse(value: float) -> None:
    assert normal_isf(normal_sf(value)) == pytest.approx(value, abs=1e-9)


def test_two_sided_1e_10_is_6_47_standard_deviations() -> None:
    assert normal_isf(0.5e-10) == pytest.approx(6.47, abs=0.005)
