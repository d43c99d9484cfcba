"""What the server keeps of each weight: its residual summed over queries.

A client with a memory disturbs the same weight in the same way in every query. Each query alone
then looks honest, and so do sums of squares; the plain sum of the residuals grows with the number
of queries where honest noise grows with its square root.

A homodyne reads X cos + P sin of a mode. With the shares a = (cos, sin), a mode's sums are
S = sum a e over its residuals e, and W = sum a a^T: white noise of variance v in every reading
gives S the covariance v W exactly, so that S^T W^-1 S is v times chi-squared with as many degrees
of freedom as W has rank, one or two. Where only X or only P is read, this is each weight's own sum
squared over how often it was read. One slope is fitted to each row and taken off: the
gain of a row repeats honestly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from labctl.errors import SettingError
from labctl.protocols.encoding import Floats

Doubles = npt.NDArray[np.float64]

# Relative to the square of the trace: below, the two quadratures of a row were not told apart.
_SINGULAR = 1e-9


# Few enough rows that what is added to them stays in the cache.
_ROWS_AT_ONCE = 112


@dataclass(frozen=True, eq=False)
class Placement:
    """Which weight each slot of one query's light carries.

    Slot row i carries weight row `rows[i]`, quadrature j carries weight column `columns[j]`, both
    times their sign. Rows are all different; columns may come twice. `rows` (m,), `columns` (2n,).
    """

    rows: npt.NDArray[np.intp]
    row_signs: Floats
    columns: npt.NDArray[np.intp]
    column_signs: Floats

    @cached_property
    def keeps_columns(self) -> bool:
        """Whether every column is in its own place, with its own sign."""
        own = np.array_equal(self.columns, np.arange(len(self.columns)))
        return own and bool((self.column_signs == 1.0).all())


@dataclass(frozen=True)
class Power:
    """Squares of a layer's sums over their variance per unit, what a slope per row leaves of them.

    `degrees` of freedom; `read`: weights that were read. `scatter`: variance over that of
    chi-squared, 1 unless two weights of a mode were read together.
    """

    value: float
    degrees: int
    read: int
    scatter: float


@dataclass(frozen=True, eq=False)
class WeightSums:
    """Residuals of the weights of one layer summed over queries, and how often each was read.

    `sums` (rows, columns), X and P of a mode next to each other. `shares` (3, rows): sums of cos^2,
    cos sin and sin^2 over the queries of each row. `entries` (rows, columns): sum of each weight's
    own squared share where weights change places, None where a row's shares are its weights'.
    """

    sums: Floats
    shares: Doubles
    entries: Floats | None = None

    def scaled(self, amplitude: float, weight: float) -> WeightSums:
        """Return the sums times `amplitude`, and how often they were read times `weight`."""
        sums: Floats = self.sums * np.float32(amplitude)
        entries = None if self.entries is None else self.entries * np.float32(weight)
        return WeightSums(sums, self.shares * weight, entries)

    def merged(self, other: WeightSums) -> WeightSums:
        """Return both together; raises SettingError if they are of different layers."""
        if self.sums.shape != other.sums.shape:
            raise SettingError("sums by weight", other.sums.shape, f"of shape {self.sums.shape}")
        entries = None
        if self.entries is not None or other.entries is not None:
            entries = self.by_entry() + other.by_entry()
        return WeightSums(self.sums + other.sums, self.shares + other.shares, entries)

    def beyond(self, before: WeightSums) -> WeightSums:
        """Return what was added since `before`, of the same layer."""
        entries = None if self.entries is None else self.entries - before.by_entry()
        return WeightSums(self.sums - before.sums, self.shares - before.shares, entries)

    def by_entry(self) -> Floats:
        """Return the sum of each weight's squared share (rows, columns)."""
        if self.entries is not None:
            return self.entries
        entries = np.empty(self.sums.shape, np.float32)
        entries[:, 0::2], entries[:, 1::2] = self.shares[0][:, None], self.shares[2][:, None]
        return entries

    def power(self, pattern: Floats) -> Power:
        """Return what the sums come to; `pattern` (rows, columns): the weights, on any scale."""
        return self._row_power(pattern) if self.entries is None else self._entry_power(pattern)

    def _row_power(self, pattern: Floats) -> Power:
        (xx, xp, pp), (wx, wp) = self.shares, (pattern[:, 0::2], pattern[:, 1::2])
        x, p = self.sums[:, 0::2], self.sums[:, 1::2]
        sxx, sxp, spp = (_products(a, b) for a, b in ((x, x), (x, p), (p, p)))
        trace = xx + pp
        full = xx * pp - xp**2 > _SINGULAR * trace**2
        single = (trace > 0.0) & ~full
        determinant = np.where(full, xx * pp - xp**2, 1.0)
        power = np.where(full, (pp * sxx - 2.0 * xp * sxp + xx * spp) / determinant, 0.0)
        power += np.divide(sxx + spp, trace, out=np.zeros_like(trace), where=single)
        along = _products(wx, x) + _products(wp, p)
        sent = xx * _products(wx, wx) + 2.0 * xp * _products(wx, wp) + pp * _products(wp, wp)
        left, fitted = _without_slope(power, along, sent)
        read = self.sums.shape[1] // 2 * int(2 * full.sum() + single.sum())
        return Power(left, read - fitted, read, 1.0)

    def _entry_power(self, pattern: Floats) -> Power:
        """Return the power weight by weight, as if no two were read together.

        Neighbours on one mode correlate with r = xp/sqrt(xx pp) at most, which leaves the mean and
        adds r^2 to the variance.
        """
        entries = self.by_entry()
        read = entries > 0.0
        squares = np.square(self.sums, dtype=np.float64)
        each = np.divide(squares, entries, out=np.zeros(squares.shape), where=read)
        along = _products(pattern, self.sums)
        sent = np.einsum("ij,ij,ij->i", pattern, pattern, entries, dtype=np.float64)
        left, fitted = _without_slope(each.sum(axis=1), along, sent)
        count = int(np.count_nonzero(read))
        xx, xp, pp = self.shares
        alike = np.divide(xp**2, xx * pp, out=np.zeros_like(xx), where=xx * pp > 0.0)
        return Power(left, count - fitted, count, 1.0 + float(np.mean(alike)))


class RowSums:
    """Collects the sums of a layer whose light is the same for every query."""

    def __init__(self, rows: int, modes: int) -> None:
        self._modes = modes
        # X of all rows, then P of all rows.
        self._sums = np.zeros((2 * rows, modes), np.float32)
        self._shares = np.zeros((3, rows))
        self._indices = np.arange(rows)

    def add(self, left: Floats, cosine: Doubles, sine: Doubles) -> None:
        """Add what one query left: residuals (rows, modes) read as X cos + P sin, by row."""
        rows = len(self._indices)
        self._shares += np.stack([cosine**2, cosine * sine, sine**2])
        if bool((((cosine == 1.0) & (sine == 0.0)) | ((cosine == 0.0) & (sine == 1.0))).all()):
            places = self._indices + np.where(cosine == 1.0, 0, rows)
            for first in range(0, rows, _ROWS_AT_ONCE):
                part = slice(first, first + _ROWS_AT_ONCE)
                self._sums[places[part]] += left[part]
            return
        self._sums[:rows] += cosine.astype(np.float32)[:, None] * left
        self._sums[rows:] += sine.astype(np.float32)[:, None] * left

    def sums(self) -> WeightSums:
        """Return a copy of what was collected."""
        rows = len(self._indices)
        both = np.empty((rows, 2 * self._modes), np.float32)
        both[:, 0::2], both[:, 1::2] = self._sums[:rows], self._sums[rows:]
        return WeightSums(both, self._shares.copy())


class PlacedSums:
    """Collects the sums of a layer whose weights ride in other slots in every query.

    `columns`: real weights of a row, one that only fills up the last mode included.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self._sums = np.zeros((rows, columns), np.float32)
        self._entries = np.zeros((rows, columns), np.float32)
        self._shares = np.zeros((3, rows))
        # Of queries whose columns kept their places: X, then P, and squared shares by row.
        self._halves = np.zeros((2, rows, columns // 2), np.float32)
        self._row_entries = np.zeros((2, rows), np.float32)

    def add(self, left: Floats, cosine: Doubles, sine: Doubles, placed: Placement) -> None:
        """Add what one query left, put back in the order of the weights."""
        self._shares[:, placed.rows] += np.stack([cosine**2, cosine * sine, sine**2])
        for quadrature, share in enumerate((cosine, sine)):
            slots = np.flatnonzero(share)
            if placed.keeps_columns:
                self._add_rows(quadrature, slots, share, left, placed)
                continue
            columns = placed.columns[quadrature::2]
            squares = np.square(share[slots]).astype(np.float32)[:, None]
            signs = (placed.row_signs[slots] * share[slots].astype(np.float32))[:, None]
            values = left[slots] * (signs * placed.column_signs[quadrature::2])
            # A weight that rides twice in one query may come twice among these columns.
            order = np.argsort(columns, kind="stable")
            found, starts = np.unique(columns[order], return_index=True)
            times = np.ones(len(columns), np.float32)
            if len(found) < len(columns):
                columns, values = found, np.add.reduceat(values[:, order], starts, axis=1)
                times = np.diff(np.append(starts, len(order))).astype(np.float32)
            place = np.ix_(placed.rows[slots], columns)
            self._sums[place] += values
            self._entries[place] += squares * times

    def _add_rows(
        self,
        quadrature: int,
        slots: npt.NDArray[np.intp],
        share: Doubles,
        left: Floats,
        placed: Placement,
    ) -> None:
        """Add one quadrature of a query whose columns are in their own places."""
        signs = placed.row_signs[slots] * share[slots].astype(np.float32)
        rows, half = placed.rows[slots], self._halves[quadrature]
        self._row_entries[quadrature, rows] += np.square(share[slots])
        for first in range(0, len(slots), _ROWS_AT_ONCE):
            part = slice(first, first + _ROWS_AT_ONCE)
            half[rows[part]] += left[slots[part]] * signs[part, None]

    def sums(self) -> WeightSums:
        """Return a copy of what was collected."""
        sums, entries = self._sums.copy(), self._entries.copy()
        for quadrature in range(2):
            columns = slice(quadrature, 2 * self._halves.shape[2], 2)
            sums[:, columns] += self._halves[quadrature]
            entries[:, columns] += self._row_entries[quadrature][:, None]
        return WeightSums(sums, self._shares.copy(), entries)


def _products(first: Floats, second: Floats) -> Doubles:
    products: Doubles = np.einsum("ij,ij->i", first, second, dtype=np.float64)
    return products


def _without_slope(power: Doubles, along: Doubles, sent: Doubles) -> tuple[float, int]:
    """Return the sum of what is left of rows' powers, and how many slopes were fitted."""
    fitted = sent > 0.0
    left = power - np.divide(along**2, sent, out=np.zeros_like(sent), where=fitted)
    return float(np.maximum(left, 0.0).sum()), int(fitted.sum())
