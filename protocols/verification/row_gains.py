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
    unit_moments,
)

Doubles = npt.NDArray[np.float64]

# A row read on X alone tells a turn from a gain only by how unlike its X and P are. A gain that is
# known much worse for it would hide a thief in sessions of one query, where no turn shows yet: of
# an honest bench's it is one standard deviation of its brightest row (docs/cumulative-leakage.md).
_MOST_VARIANCE = 1.25


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
    t, one on P sin (cos x + sin p) t.
    """

    def __init__(self, rows: int) -> None:
        self._sums = np.zeros((rows, 2 * TERMS))
        self._own: Doubles | None = None

    def add_rows(
        self,
        pattern: Floats,
        rows: npt.NDArray[np.intp],
        signs: Floats | None,
        shares: Doubles,
    ) -> None:
        """Add a query whose slots carry `rows` of `pattern`, in its columns, times `signs`.

        shares (3, rows): cos^2, cos sin, sin^2 of each slot.
        """
        if self._own is None:
            self._own = unit_moments(pattern)
        products = self._own[rows]
        if signs is not None:
            # x and a term of degree d change sign together: (-1)^(d + 1).
            products[:, np.tile(DEGREES % 2 == 0, 2)] *= signs[:, None]
        self._add(products, shares)

    def add_powers(self, powers: Doubles, shares: Doubles) -> None:
        """Add a query of other columns, of which only sums of squares are known.

        powers (3, rows): sums of x^2, x p and p^2 over each row, of weights of unit rms.
        """
        products = np.zeros((len(self._sums), 2 * TERMS))
        xx, xp, pp = powers
        products[:, OWN_X], products[:, OWN_P] = xx, xp
        products[:, TERMS + OWN_X], products[:, TERMS + OWN_P] = xp, pp
        self._add(products, shares)

    def _add(self, products: Doubles, shares: Doubles) -> None:
        """Add a query's products of terms with x, then with p."""
        with_x, with_p = products[:, :TERMS], products[:, TERMS:]
        square, both, other = shares[:, :, None]
        self._sums[:, :TERMS] += square * with_x + both * with_p
        self._sums[:, TERMS:] += both * with_x + other * with_p

    @property
    def sums(self) -> Doubles:
        """The sums (rows, 2 TERMS) over the queries added."""
        return self._sums
