"""Gain of single modes with gain and turn of single rows taken off.

A row whose gain or phase is off adds to the sums of all modes that it reaches. What is fitted to
the row's own sums by weight (`row_fit`) is taken off the sums of the modes, and off the terms of
a bench's distortion, of which a row's gain and turn take a part (Frisch and Waugh). White noise of
variance v in every reading then leaves the modes' sums the covariance v (D - H): D diagonal, what
was sent in each mode squared; H what rows take. H is small where a row has many modes, and exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.protocols.encoding import Floats
from labctl.protocols.verification.collective import WeightSums
from labctl.protocols.verification.row_moments import (
    OWN_P,
    OWN_X,
    POWERS,
    SUMS,
    TERMS,
    MomentsBuilder,
    RowMoments,
    by_quadrature,
    paired,
    term_blocks,
    unit_scale,
)

Doubles = npt.NDArray[np.float64]

# Few enough rows that all that is made of their weights stays in the cache.
_ROWS_AT_ONCE = 56


# Powers of x and p to the fourth order, as in `monomials`: places of x^2, x p and p^2.
_XX, _XP, _PP = 3, 4, 5
# Places of each term times x, and times p.
_TIMES_X = [1, 3, 4, 6, 7, 8, 10, 11, 12, 13]
_TIMES_P = [2, 4, 5, 7, 8, 9, 11, 12, 13, 14]


@dataclass(frozen=True, eq=False)
class ModeSums:
    """Sums of each mode over its rows, weights of unit root mean square.

    `along` (modes,): of the sums by weight times the weight. `counted` (3, POWERS, modes): of all
    powers, each row counted as often as X, both and P of it were read.
    """

    along: Doubles
    counted: Doubles


def layer_moments(sums: WeightSums, pattern: Floats) -> tuple[RowMoments, ModeSums]:
    """Return what rows and modes of a layer come to whose columns keep their places.

    `pattern` (rows, columns): the weights, on any scale. Every power of the weights is worked out
    once for both.
    """
    modes = paired(pattern).shape[1] // 2
    built = MomentsBuilder(len(pattern))
    along, counted = np.zeros(modes), np.zeros((POWERS, 3, modes))
    for part, planes in term_blocks(pattern, sums.sums, POWERS):
        built.add(part, planes)
        powers = planes[SUMS:]
        for own, read in ((OWN_X, planes[0]), (OWN_P, planes[1])):
            along += np.einsum("rn,rn->n", powers[own], read)
        counted += sums.shares[:, part] @ powers
    return built.moments(sums.shares), ModeSums(along, counted.swapaxes(0, 1))


@dataclass(frozen=True, eq=False)
class ModeGains:
    """Sums of each mode, of what was read times what was sent, without gain and turn of rows.

    Weights have unit root mean square. `along` (modes,), in the units of the sums by weight;
    `sent` (modes,): squares of the weights as often as they were read; `terms` (modes, 20): the
    same sums of each term of a bench's distortion; `taken` (2 rows, modes): H is its transpose
    times it.
    """

    along: Doubles
    sent: Doubles
    terms: Doubles
    taken: Doubles

    @classmethod
    def of(cls, modes: ModeSums, pattern: Floats, moments: RowMoments) -> ModeGains:
        """Return them; `modes` and `moments` as `layer_moments` found them of the `pattern`."""
        rows = moments.row_fit()
        # What gain and turn of each row take of what was read, and of each term.
        solved = np.einsum("klr,ltr->ktr", rows.inverse, moments.by_row())
        fitted = np.concatenate([rows.coefficients[:, None], solved], axis=1)
        factor = _factors(rows.inverse)
        weights, scale = paired(pattern), unit_scale(pattern)
        count, number = len(weights), weights.shape[1] // 2
        left, taken = np.zeros((1 + 2 * TERMS, number)), np.empty((2, count, number))
        for first in range(0, count, _ROWS_AT_ONCE):
            part = slice(first, first + _ROWS_AT_ONCE)
            gain, turn = _reach(by_quadrature(weights[part] / scale), moments.shares[:, part, None])
            left += fitted[0, :, part] @ gain
            left += fitted[1, :, part] @ turn
            np.multiply(factor[1, 1, part, None], turn, out=taken[1, part])
            turn *= factor[1, 0, part, None]
            gain *= factor[0, 0, part, None]
            np.add(gain, turn, out=taken[0, part])
        xx, xp, pp = modes.counted
        terms = [xx[_TIMES_X] + xp[_TIMES_P], xp[_TIMES_X] + pp[_TIMES_P]]
        return cls(
            modes.along - left[0],
            xx[_XX] + 2.0 * xp[_XP] + pp[_PP],
            (np.concatenate(terms) - left[1:]).T,
            taken.reshape(2 * count, number),
        )


def _reach(weights: Doubles, shares: Doubles) -> tuple[Doubles, Doubles]:
    """Return what gain and turn of each row add to each mode's sum (rows, n).

    A reading shows W (x, p) of a gain and W (p, -x) of a turn, W = [[xx, xp], [xp, pp]] being the
    `shares` (3, rows, 1); the sum is their product with (x, p), the `weights` (rows, 2, n).
    """
    (xx, xp, pp), x, p = shares, weights[:, 0], weights[:, 1]
    turn = x * p
    mixed = 2.0 * xp * turn if xp.any() else None
    turn *= xx - pp
    square, other = x * x, p * p
    if mixed is not None:
        turn += xp * (other - square)
    square *= xx
    other *= pp
    square += other
    if mixed is not None:
        square += mixed
    return square, turn


def _factors(inverse: Doubles) -> Doubles:
    """Return L (2, 2, rows) with L L^T = `inverse` of each row, which may be singular."""
    first = np.sqrt(inverse[0, 0])
    below = np.divide(inverse[1, 0], first, out=np.zeros_like(first), where=first > 0.0)
    factors = np.zeros_like(inverse)
    factors[0, 0], factors[1, 0] = first, below
    factors[1, 1] = np.sqrt(np.maximum(inverse[1, 1] - below**2, 0.0))
    return factors
