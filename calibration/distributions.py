"""How errors are distributed: coverage of sums of sources, and intervals beside a physical limit.

The coverage factor of a sum whose sources are not all normal is found by propagating their
distributions (GUM Supplement 1, JCGM 101:2008), numerically but without chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

Reals = npt.NDArray[np.float64]
Cdf = Callable[[float], float]

# Each source is cut into pieces of the same probability; the sum's is known on a grid.
_PIECES, _GRID = 400, 1201
# A limit farther away than this number of coverage factors has no effect.
_FAR = 2.0


class Shape(StrEnum):
    """How a source's error is distributed (JCGM 101:2008, section 6.4).

    normal: a scatter, by Student's t if it is from few readings. rectangular: anywhere between two
    bounds, with equal chance. arcsine: a sine of unknown phase.
    """

    NORMAL = "normal"
    RECTANGULAR = "rectangular"
    ARCSINE = "arcsine"

    def errors(self, standard_uncertainty: float) -> Reals:
        """Return errors of a bounded source, one in the middle of each of its equal pieces."""
        share = (np.arange(_PIECES) + 0.5) / _PIECES
        if self is Shape.RECTANGULAR:
            return np.asarray(standard_uncertainty * math.sqrt(3.0) * (2.0 * share - 1.0))
        return np.asarray(standard_uncertainty * math.sqrt(2.0) * np.sin(np.pi * (share - 0.5)))


def student_quantile(share: float, freedom: float) -> float:
    """Return the value that this share of Student's t lies below; normal for infinite freedom."""
    found = special.ndtri(share) if math.isinf(freedom) else special.stdtrit(freedom, share)
    return float(found)


def fisher_below(ratio: float, degrees: tuple[float, float]) -> float:
    """Return the probability that Fisher's F, of these two degrees of freedom, is at most this.

    Here and below as `scipy.stats.f` has it, whose import alone takes half a second.
    """
    return float(special.fdtr(*degrees, ratio))


def fisher_above(ratio: float, degrees: tuple[float, float]) -> float:
    """Return the probability that Fisher's F exceeds a ratio."""
    return float(special.fdtrc(*degrees, ratio))


def fisher_quantile(share: float, degrees: tuple[float, float]) -> float:
    """Return the ratio that Fisher's F is below with a probability."""
    return float(special.fdtri(*degrees, share))


def _student_share(value: Reals, freedom: float) -> Reals:
    share = special.ndtr(value) if math.isinf(freedom) else special.stdtr(freedom, value)
    return np.asarray(share, np.float64)


@lru_cache(maxsize=512)
def factor_of_sum(
    normal: float, freedom: float, bounded: tuple[tuple[Shape, float], ...], confidence: float
) -> float:
    """Return k of a symmetric interval, half of it over the whole standard uncertainty.

    `normal`: standard uncertainty of all normal sources together, of which `freedom` are the
    degrees of freedom; `bounded`: shape and standard uncertainty of each other source. To 0.5 %.
    """
    tail = 0.5 + confidence / 2.0
    core = student_quantile(tail, freedom)
    bounded = tuple((shape, part) for shape, part in bounded if part > 0.0)
    whole = math.hypot(normal, *(part for _, part in bounded))
    if not bounded or whole == 0.0:
        return core
    reach = core * normal + 2.0 * sum(part for _, part in bounded)
    grid = np.linspace(-reach, reach, _GRID)
    share = (grid > 0.0) + 0.5 * (grid == 0.0)
    if normal > 0.0:
        share = _student_share(grid / normal, freedom)
    # Widest last: what has been summed up is smooth by then.
    for shape, part in sorted(bounded, key=lambda source: source[1]):
        moved = grid[:, None] - shape.errors(part)
        share = np.interp(moved.ravel(), grid, share).reshape(moved.shape).mean(axis=1)
    half = share[_GRID // 2 :]
    return float(np.interp(tail, half, grid[_GRID // 2 :])) / whole


def interval_above(
    found: float, factor: Callable[[float], float], cdf: Cdf, confidence: float
) -> tuple[float, float]:
    """Return the interval of a quantity that is 0 or more, of a reading with a unit error.

    `found`: the reading, of either sign; `cdf`: of its symmetric error, `factor` its k. The
    classical interval with the likelihood-ratio ordering of Feldman and Cousins (Phys. Rev. D 57,
    3873 (1998), section IV.B, theirs for a normal error): it holds the truth with `confidence`
    for any true value, the limit itself included, and is never empty.
    """
    from scipy import optimize

    reach, one_sided = factor(confidence), factor(2.0 * confidence - 1.0)

    def accepted(true: float) -> tuple[float, float]:
        """Return the readings that a truth goes with, as distances below and above it."""
        if true >= reach:
            return reach, reach
        if true <= 0.0:
            return math.inf, one_sided

        def missing(above: float) -> float:
            return cdf(above) - cdf(-_below(above, true)) - confidence

        above = optimize.brentq(missing, 0.5 * one_sided, reach)
        return _below(above, true), above

    def upper_end(true: float) -> float:
        return true - accepted(true)[0] - found

    def lower_end(true: float) -> float:
        return true + accepted(true)[1] - found

    most = max(found, 0.0) + 4.0 * reach
    high = float(optimize.brentq(upper_end, 1e-6, most)) if upper_end(1e-6) < 0.0 else 0.0
    low = float(optimize.brentq(lower_end, 0.0, most)) if lower_end(0.0) < 0.0 else 0.0
    return low, high


def _below(above: float, true: float) -> float:
    """Return how far below the truth a reading has the likelihood ratio of one `above` it.

    Below the limit the best truth is the limit: exp(x m - m^2/2) = exp(-d^2/2).
    """
    return above if above <= true else 0.5 * (true + above**2 / true)


def feels_limit(distance: float, factor: float) -> bool:
    """Tell whether a limit this many standard uncertainties away makes an interval asymmetric."""
    return distance < _FAR * factor
