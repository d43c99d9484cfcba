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
from labctl.protocols.verification.collective import TERMS, WeightSums, monomials, paired
from labctl.protocols.verification.row_fit import RowFit

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
    def of(cls, sums: WeightSums, pattern: Floats) -> ModeGains:
        """Return what sums by weight come to whose columns keep their places in all queries.

        `pattern` (rows, columns): the weights, on any scale.
        """
        # Terms of unit size; a dark layer keeps a scale above 0.
        scale = max(float(np.sqrt(np.mean(np.square(pattern), dtype=np.float64))), 1e-30)
        weights, read = paired(pattern), paired(sums.sums)
        modes = weights.shape[1] // 2
        along, sent, terms = np.zeros(modes), np.zeros(modes), np.zeros((2 * TERMS, modes))
        taken = []
        for first in range(0, len(weights), _ROWS_AT_ONCE):
            part = slice(first, first + _ROWS_AT_ONCE)
            block = _Block(weights[part] / scale, read[part], sums.shares[:, part, None])
            rows = block.rows
            along += block.products.sum(axis=0)
            along -= np.einsum("kr,krn->n", rows.coefficients, block.reach)
            sent += block.reach[0].sum(axis=0)
            by_mode, by_row = block.terms()
            solved = np.einsum("klr,ltr->ktr", rows.inverse, by_row)
            terms += by_mode - np.einsum("ktr,krn->tn", solved, block.reach)
            factor = _factors(rows.inverse)
            taken.append(np.einsum("klr,krn->nlr", factor, block.reach).reshape(modes, -1))
        return cls(along, sent, terms.T, np.concatenate(taken, axis=1))


class _Block:
    """Some rows: weights and sums (rows, 2n), `shares` (3, rows, 1) of cos^2, cos sin, sin^2."""

    def __init__(self, weights: Floats, read: Floats, shares: Doubles) -> None:
        self._x, self._p = (weights[:, part::2].astype(np.float64) for part in (0, 1))
        x, p, (xx, xp, pp) = self._x, self._p, shares
        on_x, on_p = (read[:, part::2].astype(np.float64) for part in (0, 1))
        # W (x, p) and W (p, -x): what a reading shows of a row's gain and of its turn.
        self._gain = xx * x + xp * p, xp * x + pp * p
        self._turn = xx * p - xp * x, xp * p - pp * x
        # Of gain and turn of each row: what they add to each mode's sum.
        self.reach = np.stack(
            [self._gain[0] * x + self._gain[1] * p, self._turn[0] * x + self._turn[1] * p]
        )
        self.products = x * on_x + p * on_p
        self.rows = RowFit.of(
            np.stack([self.products.sum(axis=1), (p * on_x - x * on_p).sum(axis=1)]),
            self.reach[0].sum(axis=1),
            self.reach[1].sum(axis=1),
            (self._turn[0] * p - self._turn[1] * x).sum(axis=1),
        )

    def terms(self) -> tuple[Doubles, Doubles]:
        """Return what each term on X, then on P, adds to the sums of modes, and of rows.

        By mode (20, n); by row, to the products with weights and turned weights, (2, 20, rows).
        """
        powers = monomials(self._x, self._p)
        by_mode = np.concatenate([np.einsum("trn,rn->tn", powers, each) for each in self._gain])
        by_row = np.stack(
            [
                np.concatenate([np.einsum("trn,rn->tr", powers, each) for each in seen])
                for seen in (self._gain, self._turn)
            ]
        )
        return by_mode, by_row


def _factors(inverse: Doubles) -> Doubles:
    """Return L (2, 2, rows) with L L^T = `inverse` of each row, which may be singular."""
    first = np.sqrt(inverse[0, 0])
    below = np.divide(inverse[1, 0], first, out=np.zeros_like(first), where=first > 0.0)
    factors = np.zeros_like(inverse)
    factors[0, 0], factors[1, 0] = first, below
    factors[1, 1] = np.sqrt(np.maximum(inverse[1, 1] - below**2, 0.0))
    return factors
