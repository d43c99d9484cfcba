"""Sums of known symbols and their values over blocks of slots: all that a phase fit needs.

With y = a Re s + b Im s + noise, the sums of products of Re s, Im s and y hold all that a block
contains about a and b, so that a long frame is read through once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labctl.dsp.layout import Complexes, Floats, Indices
from labctl.dsp.pulses import Doubles


@dataclass(frozen=True)
class SymbolSums:
    """Sums over blocks of symbols: `xx`, `xp`, `pp` of theirs, `xy`, `py` with the values.

    `count` symbols lie in each block, between slots `first` and `last`; `length` slots are a
    block. `yy` sums all values' squares.
    """

    xx: Doubles
    xp: Doubles
    pp: Doubles
    xy: Doubles
    py: Doubles
    yy: float
    count: Indices
    first: Indices
    last: Indices
    length: int

    @staticmethod
    def over(read: Floats, symbols: Complexes, slots: Indices, length: int) -> SymbolSums:
        """Sum over blocks of `length` slots."""
        starts = _starts(slots, length)
        x, p = np.ascontiguousarray(symbols.real), np.ascontiguousarray(symbols.imag)
        products = (x * x, x * p, p * p, x * read, p * read)
        xx, xp, pp, xy, py = (
            np.add.reduceat(product, starts).astype(np.float64) for product in products
        )
        ends = np.append(starts[1:], len(slots))
        return SymbolSums(
            xx=xx,
            xp=xp,
            pp=pp,
            xy=xy,
            py=py,
            yy=float(np.dot(read, read)),
            count=ends - starts,
            first=slots[starts],
            last=slots[ends - 1],
            length=length,
        )

    def merged(self, length: float) -> SymbolSums:
        """Return sums over blocks of about `length` slots, as many whole ones as fit in."""
        whole = max(int(length / self.length), 1) * self.length
        starts = _starts(self.first, whole)
        parts = (self.xx, self.xp, self.pp, self.xy, self.py)
        xx, xp, pp, xy, py = (np.add.reduceat(part, starts) for part in parts)
        return SymbolSums(
            xx=xx,
            xp=xp,
            pp=pp,
            xy=xy,
            py=py,
            yy=self.yy,
            count=np.add.reduceat(self.count, starts),
            first=self.first[starts],
            last=self.last[np.append(starts[1:], len(self.last)) - 1],
            length=whole,
        )

    @property
    def middle(self) -> Doubles:
        """Middles of the blocks in slots."""
        return (self.first + self.last) / 2.0

    def fit(self) -> tuple[Doubles, Doubles]:
        """Return a = A cos phi and b = A sin phi of each block on its own."""
        # Keeps blocks solvable whose symbols lie on one axis or are dark; elsewhere it changes a
        # and b by some 1e-6 of themselves, far below noise.
        ridge = 1e-6 * (self.xx + self.pp) + 1e-300
        xx, pp = self.xx + ridge, self.pp + ridge
        determinant = xx * pp - self.xp**2
        a = (pp * self.xy - self.xp * self.py) / determinant
        b = (xx * self.py - self.xp * self.xy) / determinant
        return a, b

    def projected(self, cosine: Doubles, sine: Doubles) -> tuple[Doubles, Doubles]:
        """Return per block the sums of squares, and with the values, of cosine x + sine p."""
        power = cosine**2 * self.xx + 2.0 * cosine * sine * self.xp + sine**2 * self.pp
        return power, cosine * self.xy + sine * self.py


def _starts(slots: Indices, length: int) -> Indices:
    """Return where in `slots` each block of `length` slots begins."""
    edges = np.arange(int(slots[0]) // length, int(slots[-1]) // length + 1) * length
    starts = np.searchsorted(slots, edges)
    return starts[np.append(np.diff(starts), len(slots) - starts[-1]) > 0]
