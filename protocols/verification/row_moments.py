"""Sums over each row of products of its weights' powers, and of these with what was read.

What a bench adds to a mode alike in every query is a polynomial of the mode's own quadratures.
Every fit of it, and of gain and turn of single rows, needs only how its terms overlap within a row:
ten numbers squared per row and not its hundreds of modes. They are worked out once, in double
precision, by one small matrix product per row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.protocols.encoding import Floats
from labctl.protocols.verification.row_fit import RowFit

Doubles = npt.NDArray[np.float64]

# Terms of a bench's distortion on each quadrature: see `monomials`.
TERMS = 10
# Places of a mode's own x and p among them.
OWN_X, OWN_P = _X, _P = 1, 2
# Of each term, how many factors it has.
DEGREES = np.array([0, 1, 1, 2, 2, 2, 3, 3, 3, 3])
# Places of a turn and of gains of X and P among the terms on X, then on P.
LINEAR = [_X, _P, TERMS + _X, TERMS + _P]
# Few enough rows that the powers of their weights stay in the cache.
_ROWS_AT_ONCE = 28


def monomials(x: Floats | Doubles, p: Floats | Doubles, out: Doubles | None = None) -> Doubles:
    """Return the terms (rows, TERMS, n) of what a bench adds to a mode alike in every query.

    Powers of the mode's own quadratures to third order, each on X and on P. First: residual
    carrier, a turn, quadratures of different gain. Second: modulator's children off their null.
    Third: curvature of modulator, drive and receivers. `x`, `p` (rows, n). In `out` if it is given.
    """
    terms = np.empty((len(x), TERMS, x.shape[1])) if out is None else out
    terms[:, 0], terms[:, _X], terms[:, _P] = 1.0, x, p
    own_x, own_p = terms[:, _X], terms[:, _P]
    products = ((_X, own_x), (_X, own_p), (_P, own_p), (3, own_x), (3, own_p), (5, own_x))
    for place, (first, second) in enumerate((*products, (5, own_p)), start=3):
        np.multiply(terms[:, first], second, out=terms[:, place])
    return terms


def paired(columns: Floats) -> Floats:
    """Return columns of X and P in turn; where their number is odd, with one more of zeros."""
    if columns.shape[1] % 2 == 0:
        return columns.astype(np.float32, copy=False)
    return np.pad(columns.astype(np.float32, copy=False), ((0, 0), (0, 1)))


def unit_scale(pattern: Floats) -> float:
    """Return what weights are divided by to have unit root mean square; above 0 in the dark."""
    # A dark layer keeps a scale above 0.
    return max(float(np.sqrt(np.mean(np.square(pattern), dtype=np.float64))), 1e-30)


@dataclass(frozen=True, eq=False)
class RowMoments:
    """Of each row's terms, its weights at unit root mean square over the layer.

    `on_x`, `mixed`, `on_p` (rows, TERMS, TERMS): products of terms, each mode counted as often as
    X, both and P of it were read. `seen` (rows, TERMS, 2): products with the sums on X and on P.
    `squares` (3, rows): of the sums, X times X, X times P and P times P.
    """

    on_x: Doubles
    mixed: Doubles
    on_p: Doubles
    seen: Doubles
    squares: Doubles

    @classmethod
    def of(
        cls,
        pattern: Floats,
        sums: Floats,
        shares: Doubles,
        entries: Floats | None,
        products: Doubles | None = None,
    ) -> RowMoments:
        """Return those of sums (rows, columns) of weights `pattern`, on any scale.

        shares (3, rows): how often X, both and P of a row were read, unless `entries` (rows,
        columns) says it by weight; X and P of one mode then count as read apart. `products`: those
        of `unit_products`, if they are known.
        """
        rows = len(pattern)
        seen, squares = np.empty((rows, TERMS, 2)), np.empty((3, rows))
        if entries is None:
            of_terms = np.empty((rows, TERMS, TERMS)) if products is None else products
        else:
            on_x, on_p = (np.empty((rows, TERMS, TERMS)) for _ in range(2))
            mixed = np.zeros_like(on_x)
        weights, read = paired(pattern), paired(sums)
        buffer = np.empty((_ROWS_AT_ONCE, TERMS, weights.shape[1] // 2))
        often = None if entries is None else paired(entries)
        scale = unit_scale(pattern)
        for first in range(0, rows, _ROWS_AT_ONCE):
            part = slice(first, first + _ROWS_AT_ONCE)
            unit = weights[part] / scale
            terms = monomials(unit[:, 0::2], unit[:, 1::2], buffer[: len(unit)])
            shown = np.stack([read[part, 0::2], read[part, 1::2]], axis=1).astype(np.float64)
            seen[part] = terms @ shown.swapaxes(1, 2)
            together = shown @ shown.swapaxes(1, 2)
            squares[:, part] = together[:, 0, 0], together[:, 0, 1], together[:, 1, 1]
            if often is None:
                if products is None:
                    of_terms[part] = terms @ terms.swapaxes(1, 2)
                continue
            for found, quadrature in ((on_x, 0), (on_p, 1)):
                counted = terms * often[part, None, quadrature::2]
                found[part] = counted @ terms.swapaxes(1, 2)
        if often is None:
            on_x, mixed, on_p = shares[:, :, None, None] * of_terms
        return cls(on_x, mixed, on_p, seen, squares)

    def scaled(self, amplitude: float, weight: float) -> RowMoments:
        """Return those of sums times `amplitude`, read times `weight` as often."""
        return RowMoments(
            self.on_x * weight,
            self.mixed * weight,
            self.on_p * weight,
            self.seen * amplitude,
            self.squares * amplitude**2,
        )

    @property
    def along(self) -> Doubles:
        """Products (2, rows) of the sums with weights (x, p) and with turned weights (p, -x)."""
        on_x, on_p = self.seen[:, :, 0], self.seen[:, :, 1]
        return np.stack([on_x[:, _X] + on_p[:, _P], on_x[:, _P] - on_p[:, _X]])

    @property
    def sent(self) -> Doubles:
        """Squares (rows,) of the weights as often as they were read."""
        both = 2.0 * self.mixed[:, _X, _P]
        return np.asarray(self.on_x[:, _X, _X] + both + self.on_p[:, _P, _P])

    def row_fit(self) -> RowFit:
        """Return gain and turn of each row."""
        on_x, mixed, on_p = self.on_x, self.mixed, self.on_p
        return RowFit.of(
            self.along,
            self.sent,
            on_x[:, _X, _P] - on_p[:, _X, _P] + mixed[:, _P, _P] - mixed[:, _X, _X],
            on_x[:, _P, _P] - 2.0 * mixed[:, _X, _P] + on_p[:, _X, _X],
        )

    def by_row(self) -> Doubles:
        """Return what each term on X, then on P, adds to the products that rows are fitted by.

        Shape (2, 2 TERMS, rows): products with weights (gain) and with turned weights (turn).
        """
        on_x, mixed, on_p = self.on_x, self.mixed, self.on_p
        gain = [on_x[:, :, _X] + mixed[:, :, _P], mixed[:, :, _X] + on_p[:, :, _P]]
        turn = [on_x[:, :, _P] - mixed[:, :, _X], mixed[:, :, _P] - on_p[:, :, _X]]
        return np.stack([np.concatenate(each, axis=1).T for each in (gain, turn)])

    def overlaps(self) -> Doubles:
        """Return the products (2 TERMS, 2 TERMS) of all terms on X and on P over all rows."""
        x, both, p = (each.sum(axis=0) for each in (self.on_x, self.mixed, self.on_p))
        return np.block([[x, both], [both.T, p]])


def unit_products(pattern: Floats) -> Doubles:
    """Return the products (rows, TERMS, TERMS) of all terms over the modes of each row.

    Weights of unit root mean square; `pattern` (rows, columns) on any scale.
    """
    weights, scale = paired(pattern), unit_scale(pattern)
    found = np.empty((len(weights), TERMS, TERMS))
    buffer = np.empty((_ROWS_AT_ONCE, TERMS, weights.shape[1] // 2))
    for first in range(0, len(weights), _ROWS_AT_ONCE):
        part = slice(first, first + _ROWS_AT_ONCE)
        unit = weights[part] / scale
        terms = monomials(unit[:, 0::2], unit[:, 1::2], buffer[: len(unit)])
        np.matmul(terms, terms.swapaxes(1, 2), out=found[part])
    return found
