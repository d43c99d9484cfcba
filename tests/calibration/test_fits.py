"""Fits find the parameters, state honest uncertainties, and refuse what fixes no curve."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.calibration.fits import Fit, Reals, fit_curve, runs_probability
from labctl.errors import CalibrationError

X = np.linspace(0.0, 10.0, 21)


def straight(x: Reals, offset: float, slope: float) -> Reals:
    return np.asarray(offset + slope * x)


def fitted(y: Reals, error: float = 0.1, x: Reals = X) -> Fit:
    return fit_curve(straight, x, y, np.full(len(y), error), (0.0, 1.0), what="line")


def noise(seed: int, error: float = 0.1) -> Reals:
    return np.random.default_rng(seed).normal(0.0, error, len(X))


def test_a_line_is_that_of_the_normal_equations() -> None:
    y = straight(X, 1.0, 2.0) + noise(1)
    found = fitted(y)
    design = np.stack([np.ones_like(X), X], axis=1)
    covariance = 0.1**2 * np.linalg.inv(design.T @ design)
    expected = np.linalg.lstsq(design, y, rcond=None)[0]
    assert found.values == pytest.approx(expected, rel=1e-6)
    scale = max(found.chi_square / 19, 1.0)
    assert found.covariance == pytest.approx(covariance * scale, rel=1e-5)
    assert found.degrees_of_freedom == 19
    assert found.standard_uncertainty(1) == pytest.approx(math.sqrt(found.covariance[1, 1]))


def test_pulls_are_standard_normal() -> None:
    # 400 fits, seeds 0 to 399: the mean of squares of pulls is 1 with standard error 0.07; that
    # chi-square widens what is above 1 makes it a little less.
    pulls = []
    for seed in range(400):
        found = fitted(straight(X, 1.0, 2.0) + noise(seed))
        pulls.append((found.values[1] - 2.0) / found.standard_uncertainty(1))
    assert 0.65 < float(np.mean(np.square(pulls))) < 1.1


def test_a_model_that_does_not_fit_tells_less() -> None:
    good = fitted(straight(X, 1.0, 2.0) + noise(1))
    bent = fitted(straight(X, 1.0, 2.0) + 0.1 * (X - 5.0) ** 2)
    assert bent.standard_uncertainty(1) > 4.0 * good.standard_uncertainty(1)
    assert bent.chi_square_probability < 1e-6 < good.chi_square_probability
    assert bent.runs_probability < 0.01 < good.runs_probability


def test_small_scales_are_no_trouble() -> None:
    y = 1e-12 * (straight(X, 1.0, 2.0) + noise(3))
    found = fit_curve(straight, X, y, np.full(len(X), 1e-13), (1e-12, 1e-12), what="line")
    assert found.values == pytest.approx([1e-12, 2e-12], rel=0.1)


@pytest.mark.parametrize("name", ["x", "y", "errors"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_named(name: str, bad: float) -> None:
    given_: dict[str, Any] = {"x": X.copy(), "y": X.copy(), "errors": np.ones_like(X)}
    given_[name][3] = bad
    with pytest.raises(CalibrationError, match=r"line: 1 of 21 .* not finite"):
        fit_curve(straight, start=(0.0, 1.0), what="line", **given_)


@pytest.mark.parametrize("error", [0.0, -1.0])
def test_errors_are_above_zero(error: float) -> None:
    with pytest.raises(CalibrationError, match="line: readings without scatter"):
        fitted(X, error)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_more_readings_than_parameters_are_needed(count: int) -> None:
    with pytest.raises(CalibrationError, match=f"line: {count} readings for 2 parameters"):
        fitted(X[:count], x=X[:count])


def test_points_and_readings_go_together() -> None:
    with pytest.raises(CalibrationError, match="line: 21 points, 20 readings, 20 errors"):
        fitted(X[:20])


def test_readings_that_do_not_fix_the_curve_are_refused_without_a_warning() -> None:
    with pytest.raises(CalibrationError, match="do not fix the curve"):
        fit_curve(
            lambda x, a, b: np.asarray(a + b + 0.0 * x),
            X,
            np.ones_like(X),
            np.ones_like(X),
            (0.0, 1.0),
            what="sum",
        )


def test_a_model_that_runs_away_is_refused_without_a_warning() -> None:
    def exploding(x: Reals, rate: float) -> Reals:
        return np.asarray(np.exp(1e3 * rate * x))

    with pytest.raises(CalibrationError, match="explosion"):
        fit_curve(exploding, X, X, np.full(len(X), 1e-3), (5.0,), what="explosion")


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        ([1, -1] * 10, 1.0),
        ([1] * 10 + [-1] * 10, 0.0),
        ([1] * 5, 2.0**-4),
        ([-1], 1.0),
        ([], 1.0),
        ([1, -1], 1.0),
    ],
)
def test_few_runs_are_improbable(signs: list[int], expected: float) -> None:
    found = runs_probability(np.array(signs, dtype=np.float64))
    assert found == pytest.approx(expected, abs=2e-3)


def test_the_runs_probability_is_the_share_of_shuffles_with_as_few_runs() -> None:
    # 4000 shuffles, seed 5: standard error 0.008; the normal approximation adds 0.01 or so.
    signs = np.array([1.0] * 12 + [-1.0] * 9)
    draw = np.random.default_rng(5)
    shuffles = [draw.permutation(signs) for _ in range(4000)]
    runs = np.array([1 + np.count_nonzero(np.diff(each)) for each in shuffles])
    some = shuffles[0]
    share = float(np.mean(runs <= runs[0]))
    assert runs_probability(some) == pytest.approx(share, abs=0.03)


@given(residuals=st.lists(st.floats(-1e3, 1e3), max_size=60))
@settings(deadline=None)
def test_it_is_a_probability(residuals: list[float]) -> None:
    assert 0.0 <= runs_probability(np.array(residuals)) <= 1.0
