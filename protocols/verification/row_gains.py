"""Gain of single rows, with what an honest bench adds to it known by its form.

Rows that keep their places: each row's own sums by weight are fitted with a gain and a turn at once
(`row_fit`), since the server learns a row's phase from the row's own, distorted, light and so errs
alike in every query. The terms of a bench's distortion then add to the gain what they add to the
row's sums, solved with the row's own normal equations.

Rows in a fresh order: a slot carries another neuron in each query, read on X or on P by chance, and
its slope is the mean over what it carried. A difference between X's and P's gain, common to the
layer, so scatters from slot to slot; so does all that depends on what a row is like. What each
term adds to a slot is summed query by query. In a layer whose columns move as well, the powers of
a mode are new in every query; its turns and gains of X and P, which are sums of squares of the
row, are known all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.protocols.encoding import Floats
from labctl.protocols.verification.row_moments import (
    DEGREES,
    OWN_P,
    OWN_X,
    TERMS,
    RowMoments,
)

Doubles = npt.NDArray[np.float64]

# A row read on X alone tells a turn from a gain only by how unlike its X and P are. A gain that is
# known much worse for it would hide a thief in sessions of one query, where no turn shows yet: of
# an honest bench's it is one standard deviation of its brightest row (docs/cumulative-leakage.md).
_MOST_VARIANCE = 1.25
# Enough that a product costs little per query, few enough that those that wait need no memory.
_QUERIES_AT_ONCE = 128


@dataclass(frozen=True, eq=False)
class RowGains:
    """By how much the gain of each row differs from a common slope, for weights of unit rms.

    `gain` (rows,) in the units of the sums by weight; `sent` (rows,): squares of the weights as
    often as they were read; `variance` (rows,) for white noise of unit variance in each reading,
    infinite where nothing of a row was read; `terms` (rows, 2 TERMS): what each term of a bench's
    distortion adds to it.
    """

    gain: Doubles
    sent: Doubles
    variance: Doubles
    terms: Doubles

    @classmethod
    def of(cls, moments: RowMoments) -> RowGains:
        """Return those of rows that keep their places, each with its turn fitted.

        A turn that can hardly be separated from a gain is not fitted.
        """
        rows, sent = moments.row_fit(), moments.sent
        alone = np.divide(1.0, sent, out=np.full_like(sent, np.inf), where=sent > 0.0)
        apart = rows.inverse[0, 0] <= _MOST_VARIANCE * alone
        of_gain, of_turn = (
            np.where(apart, rows.inverse[0, 0], np.where(sent > 0.0, alone, 0.0)),
            np.where(apart, rows.inverse[0, 1], 0.0),
        )
        along, by_row = moments.along, moments.by_row()
        return cls(
            of_gain * along[0] + of_turn * along[1],
            sent,
            np.where(sent > 0.0, of_gain, np.inf),
            (of_gain * by_row[0] + of_turn * by_row[1]).T,
        )


class SlotTerms:
    """What each term of a bench's distortion adds to the products of sent and read of row slots.

    Weights of unit root mean square; read as X cos + P sin, a term t on X adds cos (cos x + sin p)
    t, one on P sin (cos x + sin p) t. `products` gives those of the weights' rows
    (`unit_products`): a query in their columns adds them in its order of rows, many queries in one
    sparse product.
    """

    def __init__(self, rows: int, products: Callable[[], Doubles]) -> None:
        self._products = products
        self._sums = np.zeros((rows, 2 * TERMS))
        self._waiting: list[tuple[npt.NDArray[np.intp], Floats | None, Doubles]] = []

    def add_rows(self, rows: npt.NDArray[np.intp], signs: Floats | None, shares: Doubles) -> None:
        """Add a query whose slots carry `rows` of the weights, in their columns, times `signs`.

        shares (3, rows): cos^2, cos sin, sin^2 of each slot.
        """
        self._waiting.append((rows, signs, shares))
        if len(self._waiting) >= _QUERIES_AT_ONCE:
            self._multiply()

    def add_powers(self, powers: Doubles, shares: Doubles) -> None:
        """Add a query of other columns, of which only sums of squares are known.

        powers (3, rows): sums of x^2, x p and p^2 over each row, of weights of unit rms.
        """
        (xx, xp, pp), (square, both, other) = powers, shares
        sums = self._sums
        sums[:, OWN_X] += square * xx + both * xp
        sums[:, OWN_P] += square * xp + both * pp
        sums[:, TERMS + OWN_X] += both * xx + other * xp
        sums[:, TERMS + OWN_P] += both * xp + other * pp

    @property
    def sums(self) -> Doubles:
        """The sums (rows, 2 TERMS) over the queries added."""
        self._multiply()
        return self._sums

    def _multiply(self) -> None:
        """Add the products of the queries that wait."""
        if not self._waiting:
            return
        rows = np.stack([each for each, _, _ in self._waiting], axis=1)
        shares = np.stack([each for _, _, each in self._waiting], axis=2)
        found = self._carried(rows, shares)
        if any(signs is not None for _, signs, _ in self._waiting):
            signed = [np.ones(len(rows)) if s is None else s for _, s, _ in self._waiting]
            # x and a term of degree d change sign together: (-1)^(d + 1).
            even = np.tile(DEGREES % 2 == 0, 2)
            found[:, even] = self._carried(rows, shares * np.stack(signed, axis=1))[:, even]
        self._sums += found
        self._waiting.clear()

    def _carried(self, rows: npt.NDArray[np.intp], shares: Doubles) -> Doubles:
        """Return the sums of slots that carried `rows` (slots, queries), as they were read."""
        from scipy.sparse import csr_array

        slots, queries = rows.shape
        places = rows.ravel(), np.arange(0, rows.size + 1, queries)
        with_x, with_p = (self._products()[:, :, own] for own in (OWN_X, OWN_P))
        found = np.zeros_like(self._sums)
        for share, on_x, on_p in zip(
            shares, (with_x, with_p, None), (None, with_x, with_p), strict=True
        ):
            if not share.any():
                continue
            often = csr_array((share.ravel(), *places), shape=(slots, len(with_x)))
            for half, own in ((0, on_x), (1, on_p)):
                if own is not None:
                    found[:, half * TERMS : (half + 1) * TERMS] += often @ own
        return found
