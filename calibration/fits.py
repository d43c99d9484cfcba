"""Weighted least-squares fits with parameter covariance, chi-square and a runs test."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from labctl.errors import CalibrationError

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fit:
    """Parameters with their covariance, and how well the model describes the data.

    The covariance is that of the stated errors, widened by chi-square per degree of freedom where
    that is above 1: a model that does not fit tells less.
    """

    values: Reals
    covariance: Reals
    chi_square: float
    degrees_of_freedom: int
    runs_probability: float

    def standard_uncertainty(self, index: int) -> float:
        """Return one parameter's standard uncertainty."""
        return math.sqrt(float(self.covariance[index, index]))


def fit_curve(
    model: Callable[..., Reals],
    x: Reals,
    y: Reals,
    errors: Reals,
    start: Sequence[float],
    *,
    what: str,
) -> Fit:
    """Fit `model(x, *parameters)` to y with standard errors; raises CalibrationError naming `what`.

    Levenberg-Marquardt by scipy.optimize.curve_fit.
    """
    try:
        values, covariance = optimize.curve_fit(
            model, x, y, p0=list(start), sigma=errors, absolute_sigma=True, maxfev=20_000
        )
    except (RuntimeError, ValueError) as error:
        raise CalibrationError(f"{what}: no curve fits the readings ({error})") from error
    residuals = (y - model(x, *values)) / errors
    freedom = len(y) - len(values)
    chi_square = float(residuals @ residuals)
    scale = max(chi_square / freedom, 1.0) if freedom > 0 else 1.0
    if not np.all(np.isfinite(covariance)):
        raise CalibrationError(f"{what}: the readings do not fix the curve")
    return Fit(values, covariance * scale, chi_square, freedom, runs_probability(residuals))


def runs_probability(residuals: Reals) -> float:
    """Return the chance of so few runs of one sign, were the residuals independent.

    Wald and Wolfowitz, Ann. Math. Stat. 11, 147 (1940), normal approximation.
    """
    signs = residuals > 0.0
    above, below = int(signs.sum()), int((~signs).sum())
    if above == 0 or below == 0:
        return 0.0 if len(residuals) > 4 else 1.0
    total = above + below
    runs = 1 + int(np.count_nonzero(signs[1:] != signs[:-1]))
    mean = 1.0 + 2.0 * above * below / total
    variance = (mean - 1.0) * (mean - 2.0) / (total - 1.0)
    if variance <= 0.0:
        return 1.0
    return float(stats.norm.cdf((runs + 0.5 - mean) / math.sqrt(variance)))
