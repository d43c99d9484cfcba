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
    TERMS,
    RowMoments,
    monomials,
    paired,
    unit_scale,
)

Doubles = npt.NDArray[np.float64]

# Few enough rows that the powers of their weights stay in the cache.
_ROWS_AT_ONCE = 28


# Powers of x and p to the third order are `monomials`; then x^4 to p^4. Places of x^2, x p and p^2.
_POWERS, _XX, _XP, _PP = TERMS + 5, 3, 4, 5
# Places of each term times x, and times p.
_TIMES_X = [1, 3, 4, 6, 7, 8, 10, 11, 12, 13]
_TIMES_P = [2, 4, 5, 7, 8, 9, 11, 12, 13, 14]


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
    def of(cls, sums: WeightSums, pattern: Floats, moments: RowMoments) -> ModeGains:
        """Return what sums by weight come to whose columns keep their places in all queries.

        `pattern` (rows, columns): the weights, on any scale; `moments`: of both.
        """
        rows = moments.row_fit()
        # What gain and turn of each row take of what was read, and of each term.
        solved = np.einsum("klr,ltr->ktr", rows.inverse, moments.by_row())
        fitted = np.concatenate([rows.coefficients[:, None], solved], axis=1)
        factor = _factors(rows.inverse)
        weights, read, scale = paired(pattern), paired(sums.sums), unit_scale(pattern)
        count, modes = len(weights), weights.shape[1] // 2
        buffer = np.empty((_ROWS_AT_ONCE, _POWERS, modes))
        along, left = np.zeros(modes), np.zeros((1 + 2 * TERMS, modes))
        counted, taken = np.zeros((3, _POWERS * modes)), np.empty((2, count, modes))
        for first in range(0, count, _ROWS_AT_ONCE):
            part = slice(first, first + _ROWS_AT_ONCE)
            powers = _powers(weights[part] / scale, buffer)
            shares = sums.shares[:, part]
            along += np.einsum("rn,rn->n", powers[:, OWN_X], read[part, 0::2])
            along += np.einsum("rn,rn->n", powers[:, OWN_P], read[part, 1::2])
            counted += shares @ powers.reshape(len(powers), -1)
            gain, turn = _reach(powers, shares[:, :, None])
            left += fitted[0, :, part] @ gain + fitted[1, :, part] @ turn
            np.multiply(factor[0, 0, part, None], gain, out=taken[0, part])
            taken[0, part] += factor[1, 0, part, None] * turn
            np.multiply(factor[1, 1, part, None], turn, out=taken[1, part])
        xx, xp, pp = counted.reshape(3, _POWERS, modes)
        terms = [xx[_TIMES_X] + xp[_TIMES_P], xp[_TIMES_X] + pp[_TIMES_P]]
        return cls(
            along - left[0],
            xx[_XX] + 2.0 * xp[_XP] + pp[_PP],
            (np.concatenate(terms) - left[1:]).T,
            taken.reshape(2 * count, modes),
        )


def _powers(weights: Floats, buffer: Doubles) -> Doubles:
    """Return powers (rows, 15, n) to the fourth order of weights (rows, 2n), in `buffer`."""
    powers = buffer[: len(weights)]
    monomials(weights[:, 0::2], weights[:, 1::2], out=powers[:, :TERMS])
    for place, third in enumerate(range(TERMS - 4, TERMS), start=TERMS):
        np.multiply(powers[:, third], powers[:, OWN_X], out=powers[:, place])
    np.multiply(powers[:, TERMS - 1], powers[:, OWN_P], out=powers[:, _POWERS - 1])
    return powers


def _reach(powers: Doubles, shares: Doubles) -> tuple[Doubles, Doubles]:
    """Return what gain and turn of each row add to each mode's sum (rows, n).

    A reading shows W (x, p) of a gain and W (p, -x) of a turn, W = [[xx, xp], [xp, pp]] being the
    `shares` (3, rows, 1); the sum is their product with (x, p).
    """
    (xx, xp, pp), (square, both, other) = shares, (powers[:, at] for at in (_XX, _XP, _PP))
    gain, turn = xx * square, (xx - pp) * both
    gain += pp * other
    if xp.any():
        gain += 2.0 * xp * both
        turn += xp * (other - square)
    return gain, turn


def _factors(inverse: Doubles) -> Doubles:
    """Return L (2, 2, rows) with L L^T = `inverse` of each row, which may be singular."""
    first = np.sqrt(inverse[0, 0])
    below = np.divide(inverse[1, 0], first, out=np.zeros_like(first), where=first > 0.0)
    factors = np.zeros_like(inverse)
    factors[0, 0], factors[1, 0] = first, below
    factors[1, 1] = np.sqrt(np.maximum(inverse[1, 1] - below**2, 0.0))
    return factors
