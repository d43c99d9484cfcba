"""What the server keeps of each weight: its residual summed over queries.

A client with a memory disturbs the same weight in the same way in every query. Each query alone
then looks honest, and so do sums of squares; the plain sum of the residuals grows with the number
of queries where honest noise grows with its square root.

A homodyne reads X cos + P sin of a mode. With the shares a = (cos, sin), a mode's sums are
S = sum a e over its residuals e, and W = sum a a^T: white noise of variance v in every reading
gives S the covariance v W exactly, so that S^T W^-1 S is v times chi-squared with as many degrees
of freedom as W has rank, one or two. Where only X or only P is read, this is each weight's own sum
squared over how often it was read. Gain and turn of each row are fitted and taken off: they
repeat honestly (`row_fit`). So does what a bench distorts: twenty terms are fitted to each
layer, see `row_moments.monomials`, a handful of directions among as many as there are weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from labctl.errors import SettingError
from labctl.protocols.encoding import Floats
from labctl.protocols.verification.read_shares import ReadShares
from labctl.protocols.verification.row_fit import RowFit
from labctl.protocols.verification.row_moments import RowMoments

Doubles = npt.NDArray[np.float64]

# Terms of unit size that agree but for this are one, as for weights of two levels.
_ALIKE = 1e-4

# Relative to the square of the trace: below, the two quadratures of a row cannot be separated.
_SINGULAR = 1e-9

# Few enough rows that what is added to them stays in the cache.
_ROWS_AT_ONCE = 112
# Enough that the product of shares costs little per query, few enough that it needs no memory.
_PRODUCTS_AT_ONCE = 128


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

    @cached_property
    def changed_signs(self) -> Floats | None:
        """The rows' signs, None where all are 1."""
        return None if bool((self.row_signs == 1.0).all()) else self.row_signs


@dataclass(frozen=True)
class Power:
    """Squares of a layer's sums over their variance per unit, what gain and turn of each row leave.

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
    `moments`: of these very sums with the weights, where they are known already: see `knowing`.
    """

    sums: Floats
    shares: Doubles
    entries: Floats | None = None
    moments: RowMoments | None = field(default=None, init=False)

    def knowing(self, moments: RowMoments | None) -> WeightSums:
        """Return these sums with their moments; changed by `replace`, they have none again."""
        known = replace(self)
        object.__setattr__(known, "moments", moments)
        return known

    def scaled(self, amplitude: float, weight: float) -> WeightSums:
        """Return the sums times `amplitude`, and how often they were read times `weight`."""
        sums: Floats = self.sums * np.float32(amplitude)
        entries = None if self.entries is None else self.entries * np.float32(weight)
        moments = None if self.moments is None else self.moments.scaled(amplitude, weight)
        return WeightSums(sums, self.shares * weight, entries).knowing(moments)

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
        moments = self.moments or RowMoments.of(pattern, self.sums, self.shares, self.entries)
        power, read, scatter = self._row_powers(moments) if self.entries is None else self._each()
        rows = moments.row_fit()
        left = float(np.maximum(power - rows.explained, 0.0).sum())
        shown, terms = _distortion(moments, rows)
        return Power(max(left - shown, 0.0), max(read - rows.fitted - terms, 0), read, scatter)

    def _row_powers(self, moments: RowMoments) -> tuple[Doubles, int, float]:
        """Return the power of each row, how many weights were read, and the scatter."""
        (xx, xp, pp), (sxx, sxp, spp) = self.shares, moments.squares
        trace = xx + pp
        full = xx * pp - xp**2 > _SINGULAR * trace**2
        single = (trace > 0.0) & ~full
        determinant = np.where(full, xx * pp - xp**2, 1.0)
        power = np.where(full, (pp * sxx - 2.0 * xp * sxp + xx * spp) / determinant, 0.0)
        power += np.divide(sxx + spp, trace, out=np.zeros_like(trace), where=single)
        read = self.sums.shape[1] // 2 * int(2 * full.sum() + single.sum())
        return power, read, 1.0

    def _each(self) -> tuple[Doubles, int, float]:
        """Return the same weight by weight, as if no two were read together.

        Neighbours on one mode correlate with r = xp/sqrt(xx pp) at most, which leaves the mean and
        adds r^2 to the variance.
        """
        entries = self.by_entry()
        read = entries > 0.0
        squares = np.square(self.sums, dtype=np.float64)
        each = np.divide(squares, entries, out=np.zeros(squares.shape), where=read)
        xx, xp, pp = self.shares
        alike = np.divide(xp**2, xx * pp, out=np.zeros_like(xx), where=xx * pp > 0.0)
        return each.sum(axis=1), int(np.count_nonzero(read)), 1.0 + float(np.mean(alike))


class RowSums:
    """Collects sums of a layer whose weights keep their columns, and may change rows.

    Block by block of rows, as they are in the cache when the residuals are computed.
    """

    def __init__(self, rows: int, modes: int) -> None:
        self._modes = modes
        # X and P of a row next to each other: a block then touches memory that lies together.
        self._sums = np.zeros((2 * rows, modes), np.float32)
        self._shares = np.zeros((3, rows))
        self._own_rows = np.arange(rows)
        self._scratch = np.zeros((_ROWS_AT_ONCE, modes), np.float32)
        self._query: _Query | None = None
        self._places: npt.NDArray[np.intp] | None = None

    def begin(self, read: ReadShares, placed: Placement | None = None) -> None:
        """Begin a query; `placed` None: each weight in its place."""
        rows, signs = self._own_rows, None
        if placed is None:
            self._shares += read.squares
        else:
            rows, signs = placed.rows, placed.changed_signs
            # One at a time: numpy takes two and a half times as long for all three at once.
            for sums, share in zip(self._shares, read.squares, strict=True):
                sums[rows] += share
        self._query = _Query(read, rows, signs)
        single = read.on_x if signs is None else None
        self._places = None if single is None else 2 * rows + ~single

    def add(self, first: int, left: Floats) -> None:
        """Add residuals of slot rows from `first` on, (at most 112, modes), of the query begun."""
        query = self._query
        assert query is not None
        part, scratch = slice(first, first + len(left)), self._scratch[: len(left)]
        if self._places is not None:
            self._increase(self._places[part], left, scratch)
            return
        rows = query.rows[part]
        for quadrature, share in enumerate(query.shares):
            slots = np.flatnonzero(share[part])
            if len(slots):
                values = left[slots] * share[part][slots, None]
                self._increase(2 * rows[slots] + quadrature, values, scratch[: len(slots)])

    def _increase(self, places: npt.NDArray[np.intp], values: Floats, scratch: Floats) -> None:
        self._sums.take(places, axis=0, out=scratch, mode="clip")
        scratch += values
        self._sums[places] = scratch

    def sums(self) -> WeightSums:
        """Return a copy of what was collected."""
        rows = len(self._own_rows)
        both = np.empty((rows, 2 * self._modes), np.float32)
        both[:, 0::2], both[:, 1::2] = self._sums[0::2], self._sums[1::2]
        return WeightSums(both, self._shares.copy())


class _Query:
    """One query's shares: rows of the slots, and how much of X and of P each slot shows.

    `signs`: of the rows, None if all are 1.
    """

    def __init__(self, read: ReadShares, rows: npt.NDArray[np.intp], signs: Floats | None) -> None:
        self.read, self.rows, self.signs = read, rows, signs

    @cached_property
    def shares(self) -> tuple[Floats, Floats]:
        """How much of X and of P each slot shows, times the row's sign."""
        factor = np.float32(1.0) if self.signs is None else self.signs
        cosine, sine = self.read.cosine, self.read.sine
        return cosine.astype(np.float32) * factor, sine.astype(np.float32) * factor


class PlacedSums:
    """Collects the sums of a layer whose weights ride in other slots in every query.

    `columns`: real weights of a row, one that only fills up the last mode included. How often a
    weight was read is a product of its row's share and its column's, query by query: these are
    kept and multiplied many at a time.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self._shape = rows, columns
        self._straight: RowSums | None = None
        self._moved: _MovedSums | None = None
        self._current: RowSums | _MovedSums | None = None

    def begin(self, read: ReadShares, placed: Placement) -> None:
        """Begin a query; `read`: of the slot rows."""
        rows, columns = self._shape
        if placed.keeps_columns:
            if self._straight is None:
                self._straight = RowSums(rows, columns // 2)
            self._current = self._straight
        else:
            if self._moved is None:
                self._moved = _MovedSums(rows, columns)
            self._current = self._moved
        self._current.begin(read, placed)

    def add(self, first: int, left: Floats) -> None:
        """Add residuals of slot rows from `first` on, (at most 112, modes), of the query begun."""
        assert self._current is not None
        self._current.add(first, left)

    def sums(self) -> WeightSums:
        """Return a copy of what was collected, in the order of the weights."""
        if self._straight is not None and self._moved is None:
            return self._straight.sums()
        whole = WeightSums(
            np.zeros(self._shape, np.float32),
            np.zeros((3, self._shape[0])),
            np.zeros(self._shape, np.float32),
        )
        for part in (self._straight, self._moved):
            whole = whole if part is None else whole.merged(part.sums())
        return whole


class _MovedSums:
    """Sums of weights whose columns come in another order, or twice, in every query.

    Each block is put in the order of the weights, with zeros for columns that were not read; a
    gather along whole rows is several times faster than scattered additions.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self._sums = np.zeros((rows, columns), np.float32)
        self._entries = np.zeros((rows, columns), np.float32)
        self._shares = np.zeros((3, rows))
        self._waiting: list[tuple[Floats, Floats]] = []
        self._query: _Query | None = None
        self._padded = np.zeros((_ROWS_AT_ONCE, 1), np.float32)
        self._signs: list[Floats | None] = []
        self._gathers: list[list[npt.NDArray[np.intp]]] = []

    def begin(self, read: ReadShares, placed: Placement) -> None:
        """Begin a query; see `PlacedSums.begin`."""
        rows, columns = self._sums.shape
        self._shares[:, placed.rows] += read.squares
        self._query = _Query(read, placed.rows, placed.changed_signs)
        self._signs, self._gathers = [], []
        for quadrature, share in enumerate((read.cosine, read.sine)):
            carried = placed.columns[quadrature::2]
            signs = placed.column_signs[quadrature::2]
            self._signs.append(None if bool((signs == 1.0).all()) else signs)
            self._gathers.append(_gathers(carried, columns))
            by_row = np.zeros(rows, np.float32)
            by_row[placed.rows] = np.square(share)
            by_column = np.bincount(carried, minlength=columns).astype(np.float32)
            self._waiting.append((by_row, by_column))
        if len(self._waiting) >= _PRODUCTS_AT_ONCE:
            self._multiply()

    def add(self, first: int, left: Floats) -> None:
        """Add a block of rows; see `PlacedSums.add`."""
        query = self._query
        assert query is not None
        part = slice(first, first + len(left))
        if self._padded.shape[1] != left.shape[1] + 1:
            # The last column stays 0: what a weight takes that was not read.
            self._padded = np.zeros((_ROWS_AT_ONCE, left.shape[1] + 1), np.float32)
        for share, signs, gathers in zip(query.shares, self._signs, self._gathers, strict=True):
            slots = np.flatnonzero(share[part])
            if not len(slots):
                continue
            values = self._padded[: len(slots)]
            np.take(left, slots, axis=0, out=values[:, :-1], mode="clip")
            if query.read.on_x is None or query.signs is not None:
                values[:, :-1] *= share[part][slots, None]
            if signs is not None:
                values[:, :-1] *= signs
            rows = query.rows[part][slots]
            whole = self._sums[rows]
            for gather in gathers:
                whole += values.take(gather, axis=1, mode="clip")
            self._sums[rows] = whole

    def _multiply(self) -> None:
        """Add the products of the shares that wait to how often each weight was read."""
        if self._waiting:
            by_row, by_column = (np.stack(each) for each in zip(*self._waiting, strict=True))
            self._entries += by_row.T @ by_column
            self._waiting.clear()

    def sums(self) -> WeightSums:
        """Return a copy of what was collected."""
        self._multiply()
        return WeightSums(self._sums.copy(), self._shares.copy(), self._entries.copy())


def _gathers(carried: npt.NDArray[np.intp], columns: int) -> list[npt.NDArray[np.intp]]:
    """Return, for each weight column, the modes that carry it, as often as one is carried.

    One past the last mode where none does, or none further.
    """
    found, left = [], np.arange(len(carried))
    while len(left):
        gather = np.full(columns, len(carried))
        gather[carried[left]] = left
        found.append(gather)
        left = left[gather[carried[left]] != left]
    return found


def _distortion(moments: RowMoments, rows: RowFit) -> tuple[float, int]:
    """Return what the terms of a bench's distortion explain, and how many could be fitted.

    Weighted least squares with what is fitted to rows taken off the terms as off the sums
    (Frisch and Waugh): white noise loses one degree of freedom for each.
    """
    products = moments.by_row()
    seen = moments.seen.sum(axis=0).T.ravel() - np.einsum("kir,kr->i", products, rows.coefficients)
    sloped = sum(
        (products[one] * rows.inverse[one, two]) @ products[two].T
        for one in (0, 1)
        for two in (0, 1)
    )
    return _explained(seen, moments.overlaps(), np.asarray(sloped))


def _explained(seen: Doubles, overlaps: Doubles, sloped: Doubles) -> tuple[float, int]:
    """Return what terms explain of `seen`, by least squares, and how many could be distinguished.

    overlaps: of the terms, of which `sloped` is what gains and turns of rows have taken already.
    """
    before, left = np.diag(overlaps), np.diag(overlaps - sloped)
    scale = np.sqrt(np.where(left > _ALIKE * before, left, np.inf))
    values, vectors = np.linalg.eigh((overlaps - sloped) / np.outer(scale, scale))
    fitted_terms = values > _ALIKE
    parts = (vectors.T @ (seen / scale))[fitted_terms]
    return float((parts**2 / values[fitted_terms]).sum()), int(fitted_terms.sum())
