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
    TERMS,
    RowMoments,
    monomials,
    paired,
    unit_scale,
)

Doubles = npt.NDArray[np.float64]

# Few enough rows that the powers of their weights stay in the cache.
_ROWS_AT_ONCE = 28


@dataclass(frozen=True, eq=False)
class ModeGains:
    """Sums of each mode, of what was read times what was sent, without gain and turn of rows.

    Weights have unit root mean square. `along` (modes,), in the units of the sums by weight;
    `sent` (modes,): squares of the weights as often as they were read; `terms` (modes, 20): the
    same sums of each term of a bench's distortion; `taken` (modes, 2 rows): H is its product with
    itself.
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
        rows, by_row = moments.row_fit(), moments.by_row()
        solved = np.einsum("klr,ltr->ktr", rows.inverse, by_row)
        factor = _factors(rows.inverse)
        weights, read, scale = paired(pattern), paired(sums.sums), unit_scale(pattern)
        count, modes = len(weights), weights.shape[1] // 2
        along, sent, terms = np.zeros(modes), np.zeros(modes), np.zeros((2 * TERMS, modes))
        taken = np.empty((2, count, modes))
        for first in range(0, count, _ROWS_AT_ONCE):
            part = slice(first, first + _ROWS_AT_ONCE)
            block = _Block(weights[part] / scale, read[part], sums.shares[:, part, None])
            reach = block.reach
            along += block.products - np.einsum("kr,krn->n", rows.coefficients[:, part], reach)
            sent += reach[0].sum(axis=0)
            terms += block.terms
            for one in (0, 1):
                terms -= solved[one, :, part] @ reach[one]
                np.multiply(factor[0, one, part, None], reach[0], out=taken[one, part])
                taken[one, part] += factor[1, one, part, None] * reach[1]
        return cls(along, sent, terms.T, taken.reshape(2 * count, modes).T)


class _Block:
    """Some rows: weights and sums (rows, 2n), `shares` (3, rows, 1) of cos^2, cos sin, sin^2.

    `reach` (2, rows, n): what gain and turn of each row add to each mode's sum. `products` (n,): of
    weights and sums; `terms` (20, n): what each term on X, then on P, adds to the modes' sums.
    """

    def __init__(self, weights: Floats, read: Floats, shares: Doubles) -> None:
        x, p = (weights[:, part::2].astype(np.float64) for part in (0, 1))
        xx, xp, pp = shares
        # W (x, p) and W (p, -x): what a reading shows of a row's gain and of its turn.
        gain = xx * x + xp * p, xp * x + pp * p
        turn = xx * p - xp * x, xp * p - pp * x
        self.reach = np.stack([gain[0] * x + gain[1] * p, turn[0] * x + turn[1] * p])
        self.products = np.einsum("rn,rn->n", x, read[:, 0::2]) + np.einsum(
            "rn,rn->n", p, read[:, 1::2]
        )
        powers = monomials(x, p)
        self.terms = np.concatenate([np.einsum("rtn,rn->tn", powers, each) for each in gain])


def _factors(inverse: Doubles) -> Doubles:
    """Return L (2, 2, rows) with L L^T = `inverse` of each row, which may be singular."""
    first = np.sqrt(inverse[0, 0])
    below = np.divide(inverse[1, 0], first, out=np.zeros_like(first), where=first > 0.0)
    factors = np.zeros_like(inverse)
    factors[0, 0], factors[1, 0] = first, below
    factors[1, 1] = np.sqrt(np.maximum(inverse[1, 1] - below**2, 0.0))
    return factors
