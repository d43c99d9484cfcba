"""Weighted least-squares fits with parameter covariance, chi-square and a runs test."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from labctl.errors import CalibrationError

# Smallest eigenvalue of the parameters' correlation: below it double precision, 2e-16, leaves
# errors of a thousandth and more.
_LEAST_INDEPENDENCE = 1e-13

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fit:
    """Parameters with their covariance, and how well the model describes the data.

    The covariance is that of the stated errors, widened by chi-square per degree of freedom where
    that is above 1 and its chance below what the caller said: a poor fit is less certain.
    """

    values: Reals
    covariance: Reals
    chi_square: float
    degrees_of_freedom: int
    runs_probability: float

    def standard_uncertainty(self, index: int) -> float:
        """Return one parameter's standard uncertainty."""
        return math.sqrt(float(self.covariance[index, index]))

    @property
    def chi_square_probability(self) -> float:
        """Return the chance of so large a chi-square, were the model and the errors right."""
        return float(special.chdtrc(self.degrees_of_freedom, self.chi_square))


def fit_curve(
    model: Callable[..., Reals],
    x: Reals,
    y: Reals,
    errors: Reals,
    start: Sequence[float],
    *,
    what: str,
    widen_below: float = 1.0,
) -> Fit:
    """Fit `model(x, *parameters)` to y with standard errors; raises CalibrationError naming `what`.

    `widen_below`: chance of so large a chi-square below which the errors count as too small. 1
    suits errors that are guessed; errors that are known well are right in spite of a chi-square
    that is above its mean by chance.

    `x` (its last axis), `y`, `errors`: as long as each other and longer than `start`; finite,
    errors above 0.
    Levenberg-Marquardt by scipy.optimize.curve_fit. A parameter that is in the model other
    than linearly must not start at 0, where its step has no scale.
    """
    from scipy import optimize

    _check_readings(x, y, errors, len(start), what)
    try:
        with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
            # An infinite covariance is reported below.
            warnings.simplefilter("ignore", optimize.OptimizeWarning)
            values, covariance = optimize.curve_fit(
                model, x, y, p0=list(start), sigma=errors, absolute_sigma=True, maxfev=20_000
            )
            residuals = (y - model(x, *values)) / errors
    except (RuntimeError, ValueError) as error:
        raise CalibrationError(f"{what}: no curve fits the readings ({error})") from error
    freedom = len(y) - len(values)
    chi_square = float(residuals @ residuals)
    if not math.isfinite(chi_square) or not _is_fixed(covariance):
        raise CalibrationError(f"{what}: the readings do not fix the curve: do they cover it?")
    unlikely = float(special.chdtrc(freedom, chi_square)) < widen_below
    scale = max(chi_square / freedom, 1.0) if unlikely else 1.0
    return Fit(values, covariance * scale, chi_square, freedom, runs_probability(residuals))


def _is_fixed(covariance: Reals) -> bool:
    """Tell whether every parameter and every combination of them has a finite uncertainty.

    A combination that no reading determines has a correlation of 1, but for what numerical
    derivatives leave: 1e-8, squared.
    """
    spread = np.diagonal(covariance)
    if not np.all(np.isfinite(covariance)) or not np.all(spread > 0.0):
        return False
    deviation = np.sqrt(spread)
    correlation = covariance / deviation[:, None] / deviation[None, :]
    return bool(np.linalg.eigvalsh(correlation)[0] > _LEAST_INDEPENDENCE)


def _check_readings(x: Reals, y: Reals, errors: Reals, parameters: int, what: str) -> None:
    points = np.shape(x)[-1]
    if not points == len(y) == len(errors):
        raise CalibrationError(f"{what}: {points} points, {len(y)} readings, {len(errors)} errors")
    if len(y) <= parameters:
        raise CalibrationError(
            f"{what}: {len(y)} readings for {parameters} parameters: more are needed to tell how "
            "well the curve fits"
        )
    for name, values in (("points", x), ("readings", y), ("errors", errors)):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise CalibrationError(f"{what}: {bad} of {np.size(values)} {name} are not finite")
    if not np.all(errors > 0.0):
        raise CalibrationError(f"{what}: readings without scatter: is the instrument answering?")


def runs_probability(residuals: Reals) -> float:
    """Return the chance of so few runs of one sign, were the residuals independent.

    Wald and Wolfowitz, Ann. Math. Stat. 11, 147 (1940), normal approximation with continuity
    correction. If all are of one sign, the chance of that for fair signs: 2^(1-n).
    """
    signs = residuals > 0.0
    above, below = int(signs.sum()), int((~signs).sum())
    if above == 0 or below == 0:
        return min(2.0 ** (1 - len(residuals)), 1.0)
    total = above + below
    runs = 1 + int(np.count_nonzero(signs[1:] != signs[:-1]))
    mean = 1.0 + 2.0 * above * below / total
    variance = (mean - 1.0) * (mean - 2.0) / (total - 1.0)
    if variance <= 0.0:
        return 1.0
    return float(special.ndtr((runs + 0.5 - mean) / math.sqrt(variance)))
