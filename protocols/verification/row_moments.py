"""Sums over each row of products of its weights' powers, and of these with what was read.

What a bench adds to a mode alike in every query is a polynomial of the mode's own quadratures.
Every fit of it, and of gain and turn of single rows, needs only how its terms overlap within a row:
ten numbers squared per row and not its hundreds of modes. They are worked out once, in double
precision, by one small matrix product per row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from labctl.protocols.encoding import Floats
from labctl.protocols.verification.row_fit import RowFit

Doubles = npt.NDArray[np.float64]

# Terms of a bench's distortion on each quadrature: see `monomials`.
TERMS = 10
# Places of a mode's own x and p among them.
OWN_X, OWN_P = _X, _P = 1, 2
# With x^4 to p^4.
POWERS = TERMS + 5
# Sums on X and on P, which stand before the terms in `term_blocks`.
SUMS = 2
# First and last place of the terms of first, second and third degree.
_DEGREES = (1, 2), (3, 5), (6, 9)
# Of each term, how many factors it has.
DEGREES = np.array([0, 1, 1, 2, 2, 2, 3, 3, 3, 3])
# Places of a turn and of gains of X and P among the terms on X, then on P.
LINEAR = [_X, _P, TERMS + _X, TERMS + _P]
# Few enough rows that the powers of their weights stay in the cache.
_ROWS_AT_ONCE = 28


def monomials(x: Floats | Doubles, p: Floats | Doubles, out: Doubles | None = None) -> Doubles:
    """Return the terms (TERMS, rows, n) of what a bench adds to a mode alike in every query.

    Powers of the mode's own quadratures to third order, each on X and on P. First: residual
    carrier, a turn, quadratures of different gain. Second: modulator's children off their null.
    Third: curvature of modulator, drive and receivers. `x`, `p` (rows, n). In `out` if it is given;
    one of (POWERS, rows, n) gets x^4 to p^4 as well.
    """
    terms = np.empty((TERMS, *x.shape)) if out is None else out
    terms[0], terms[_X], terms[_P] = 1.0, x, p
    place = 3
    for first, last in _DEGREES[: 3 if len(terms) == POWERS else 2]:
        for factor in range(first, last + 1):
            np.multiply(terms[factor], terms[_X], out=terms[place])
            place += 1
        np.multiply(terms[last], terms[_P], out=terms[place])
        place += 1
    return terms


def term_blocks(pattern: Floats, sums: Floats, number: int) -> Iterator[tuple[slice, Doubles]]:
    """Yield rows with their sums and terms (SUMS + number, rows, n) in turn.

    `pattern` (rows, columns): the weights, on any scale; their terms are of unit root mean square.
    `sums` (rows, columns): those by weight, of which X and P come first. `number`: TERMS or POWERS.
    Use each block before asking for the next, whose memory it shares.
    """
    weights, read, scale = paired(pattern), paired(sums), unit_scale(pattern)
    # Each plane by itself: planes that are interleaved may overlap for all NumPy knows; it copies.
    buffer = np.empty((SUMS + number, _ROWS_AT_ONCE, weights.shape[1] // 2))
    for first in range(0, len(weights), _ROWS_AT_ONCE):
        part = slice(first, first + _ROWS_AT_ONCE)
        unit = weights[part] / scale
        planes = buffer[:, : len(unit)]
        planes[0], planes[1] = read[part, 0::2], read[part, 1::2]
        monomials(unit[:, 0::2], unit[:, 1::2], planes[SUMS:])
        yield part, planes


def paired(columns: Floats) -> Floats:
    """Return columns of X and P in turn; where their number is odd, with one more of zeros."""
    if columns.shape[1] % 2 == 0:
        return columns.astype(np.float32, copy=False)
    return np.pad(columns.astype(np.float32, copy=False), ((0, 0), (0, 1)))


def unit_scale(pattern: Floats) -> float:
    """Return what weights are divided by to have unit root mean square; above 0 in the dark."""
    # A dark layer keeps a scale above 0.
    return max(float(np.sqrt(np.mean(np.square(pattern), dtype=np.float64))), 1e-30)


def by_quadrature(columns: Floats) -> Doubles:
    """Return columns of X and P in turn (rows, 2n) as doubles, X and P apart (rows, 2, n)."""
    parts = np.empty((len(columns), 2, columns.shape[1] // 2))
    parts[:, 0], parts[:, 1] = columns[:, 0::2], columns[:, 1::2]
    return parts


@dataclass(frozen=True, eq=False)
class RowMoments:
    """Of each row's terms, its weights at unit root mean square over the layer.

    `products` (1 or 3, rows, TERMS, TERMS): of terms with each other, that `shares` (3, rows)
    multiply: how often X, both and P of a row were read; where weights were counted one by one,
    products of X, both and P that have this in them. `seen` (rows, TERMS, 2): with the sums on X
    and on P. `squares` (3, rows): of the sums, X times X, X times P and P times P.
    """

    products: Doubles
    shares: Doubles
    seen: Doubles
    squares: Doubles

    @classmethod
    def of(
        cls, pattern: Floats, sums: Floats, shares: Doubles, entries: Floats | None
    ) -> RowMoments:
        """Return those of sums (rows, columns) of weights `pattern`, on any scale.

        shares (3, rows): how often X, both and P of a row were read, unless `entries` (rows,
        columns) says it by weight; X and P of one mode then count as read apart.
        """
        built = MomentsBuilder(len(pattern))
        counted = None if entries is None else np.zeros((3, len(pattern), TERMS, TERMS))
        often = None if entries is None else paired(entries)
        for part, planes in term_blocks(pattern, sums, TERMS):
            built.add(part, planes)
            if counted is None or often is None:
                continue
            terms = planes[SUMS:]
            for quadrature in (0, 1):
                np.matmul(
                    (terms * often[part, quadrature::2]).swapaxes(0, 1),
                    terms.transpose(1, 2, 0),
                    out=counted[2 * quadrature, part],
                )
        found = built.moments(shares)
        if counted is None:
            return found
        return replace(found, products=counted, shares=np.ones(shares.shape))

    def scaled(self, amplitude: float, weight: float) -> RowMoments:
        """Return those of sums times `amplitude`, read times `weight` as often."""
        return RowMoments(
            self.products,
            self.shares * weight,
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
        return self._each(0, _X, _X) + 2.0 * self._each(1, _X, _P) + self._each(2, _P, _P)

    def row_fit(self) -> RowFit:
        """Return gain and turn of each row."""
        each = self._each
        return RowFit.of(
            self.along,
            self.sent,
            each(0, _X, _P) - each(2, _X, _P) + each(1, _P, _P) - each(1, _X, _X),
            each(0, _P, _P) - 2.0 * each(1, _X, _P) + each(2, _X, _X),
        )

    def _each(self, place: int, *term: int) -> Doubles:
        """Return products of rows with a term (TERMS, rows), or of two, as read on X, both, P."""
        products = self.products[place if len(self.products) > 1 else 0]
        return np.asarray(self.shares[place] * products[(slice(None), *term)].T)

    def by_row(self) -> Doubles:
        """Return what each term on X, then on P, adds to the products that rows are fitted by.

        Shape (2, 2 TERMS, rows): products with weights (gain) and with turned weights (turn).
        """
        each = self._each
        found = np.empty((2, 2 * TERMS, len(self.seen)))
        gain, turn = found
        np.add(each(0, _X), each(1, _P), out=gain[:TERMS])
        np.add(each(1, _X), each(2, _P), out=gain[TERMS:])
        np.subtract(each(0, _P), each(1, _X), out=turn[:TERMS])
        np.subtract(each(1, _P), each(2, _X), out=turn[TERMS:])
        return found

    def overlaps(self) -> Doubles:
        """Return the products (2 TERMS, 2 TERMS) of all terms on X and on P over all rows."""
        flat = self.products.reshape(len(self.products), len(self.seen), -1)
        x, both, p = (
            (share @ flat[place if len(flat) > 1 else 0]).reshape(TERMS, TERMS)
            for place, share in enumerate(self.shares)
        )
        return np.block([[x, both], [both.T, p]])


class MomentsBuilder:
    """Collects the moments of a layer's rows, block by block."""

    def __init__(self, rows: int) -> None:
        self._products = np.empty((rows, TERMS, TERMS))
        self._seen, self._squares = np.empty((rows, TERMS, 2)), np.empty((3, rows))

    def add(self, part: slice, planes: Doubles) -> None:
        """Add rows `part`, whose sums and terms are the first of the `planes` of `term_blocks`.

        All but one column of a matrix times its own transpose: of the whole one NumPy would have
        BLAS find one half and copy the other, three times as slow for matrices this small.
        """
        whole = planes[: SUMS + TERMS]
        found = whole.swapaxes(0, 1) @ whole[:-1].transpose(1, 2, 0)
        products = self._products[part]
        products[:, :, :-1] = found[:, SUMS:, SUMS:]
        products[:, :-1, -1] = found[:, -1, SUMS:]
        products[:, -1, -1] = np.einsum("rn,rn->r", whole[-1], whole[-1])
        self._seen[part] = found[:, SUMS:, :SUMS]
        self._squares[:, part] = found[:, 0, 0], found[:, 0, 1], found[:, 1, 1]

    def moments(self, shares: Doubles) -> RowMoments:
        """Return the moments of all rows, of which X, both and P were read `shares` (3, rows)."""
        return RowMoments(self._products[None], shares, self._seen, self._squares)


def unit_products(pattern: Floats) -> Doubles:
    """Return the products (rows, TERMS, TERMS) of all terms over the modes of each row.

    Weights of unit root mean square; `pattern` (rows, columns) on any scale.
    """
    built = MomentsBuilder(len(pattern))
    for part, planes in term_blocks(pattern, np.zeros_like(pattern), TERMS):
        built.add(part, planes)
    return np.asarray(built.moments(np.ones((3, len(pattern)))).products[0])
