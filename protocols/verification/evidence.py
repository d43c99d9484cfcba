"""What the server keeps of the light that returns: sums by row, mode and weight, and over all.

Everything the checks need is a sum of products of what was sent and what was read. What was sent
depends on the row's quadrature alone, so its squares are weighed once, at the verdict; per image
only what was read costs passes over the light.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from labctl.errors import SettingError, SignalError
from labctl.protocols.encoding import Blocks, Floats
from labctl.protocols.link import LayerLight, ReturnedLight
from labctl.protocols.verification.collective import RowSums, WeightSums
from labctl.protocols.verification.gain_terms import gain_terms
from labctl.protocols.verification.mode_gains import ModeGains, ModeSums, layer_moments
from labctl.protocols.verification.read_shares import ReadShares
from labctl.protocols.verification.row_gains import RowGains
from labctl.protocols.verification.row_moments import TERMS, RowMoments, unit_products

# Few enough rows that all passes over a block stay in the cache.
_ROWS_AT_ONCE = 112
# Its square is below the largest float32, 3.4e38.
_LARGEST_NORM = 1e19

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the light of each of several groups (rows or modes), `samples` readings in each.

    `sent`: of what was sent, squared, in SNU; `cross`: of sent times read; `residual`: of the
    square of what a slope fitted to the group itself leaves.
    """

    samples: float
    sent: Doubles
    cross: Doubles
    residual: Doubles

    def merged(self, size: int) -> tuple[Doubles, int]:
        """Return the residuals of runs of `size` neighbours, and how many have that size."""
        starts = np.arange(0, len(self.residual), size)
        return np.add.reduceat(self.residual, starts), len(starts)


@dataclass(frozen=True)
class Offsets:
    """Sums that show light which has nothing to do with what was sent, on X (0) and on P (1).

    `weight`: of the squared share of the quadrature in each reading; `sent` and `read`: of what
    was sent and read times that share. `removed`: whether somebody took a mean off the readings.
    """

    weight: tuple[float, float]
    sent: tuple[float, float]
    read: tuple[float, float]
    removed: bool


class LayerEvidence:
    """Sums over all returned light of one layer; its memory does not grow with the images."""

    def __init__(self, light: LayerLight) -> None:
        self._light = light
        self._fresh: list[tuple[float, float, float, float]] = []
        self._scratch = np.zeros((3, _ROWS_AT_ONCE, light.modes), np.float32)
        self._by_weight = RowSums(light.rows, light.modes)
        self._mode_terms: Doubles | None = None
        self._kept: WeightSums | None = None
        self._kept_modes: ModeSums | None = None
        self._products: Doubles | None = None
        self._ones = np.ones(max(light.modes, _ROWS_AT_ONCE), np.float32)
        self._reference: float | None = None
        self._shares = np.zeros((3, light.rows))
        self._row_sums = np.zeros((2, light.rows))
        self._mode_sums = np.zeros((2, light.modes))
        self._offsets = np.zeros((3, 2))
        self._offset_removed = False
        self.images = 0
        self.samples = 0
        self.fitted = 0.0
        self.sent_power = 0.0
        self.cross_power = 0.0
        self.received_power = 0.0

    @property
    def layer(self) -> int:
        """Index of the layer."""
        return self._light.layer

    @property
    def row_count(self) -> int:
        """Rows of the layer."""
        return self._light.rows

    @property
    def blocks(self) -> Blocks:
        """The blocks of each row."""
        return self._light.blocks

    @property
    def clones(self) -> int:
        """Modes collected of each block, or all that a smaller block has."""
        return self._light.clones

    @property
    def loud_modes(self) -> int:
        """Modes of each row that return with a clone's noise."""
        return self._light.loud_modes

    def add(self, returned: ReturnedLight) -> None:
        """Add one image.

        Raises SettingError if its shape is not that of the light sent, SignalError if it holds
        values that are not finite or whose squares are not.
        """
        self._add(returned, ReadShares.of_light(returned))

    def _add(self, returned: ReturnedLight, shares: ReadShares) -> None:
        read, sent_shape = returned.measured, (self._light.rows, self._light.modes)
        if read.shape != sent_shape:
            raise SettingError("returned light", read.shape, f"of shape {sent_shape}")
        sent_rows = np.einsum("ij,ij->j", shares.squares, self._light.row_powers)
        sent = float(sent_rows.sum())
        slope = self._reference
        if slope is None:
            slope = self._first_slope(returned, sent)
        self._require_finite(read, sent, slope)
        self._begin_weights(shares)
        self._kept = None
        rows, modes = self._passes(returned, shares, np.float32(slope))
        self._reference = slope
        self._keep_offsets(shares.cosine, shares.sine, rows[2], slope)
        self._offset_removed |= returned.offset_removed
        self._shares += shares.squares
        self._row_sums += rows[:2]
        self._mode_sums += modes
        along, square = float(rows[0].sum()), float(rows[1].sum())
        cross = slope * sent + along
        received = slope * (cross + along) + square
        self.images += 1
        self.samples += read.size
        self.fitted += returned.fitted
        self.sent_power += sent
        self.cross_power += cross
        self.received_power += received
        self._fresh.append((float(read.size), sent, cross, received))

    def _first_slope(self, returned: ReturnedLight, sent: float) -> float:
        """Return a slope that leaves little of bright light, as a float32 can say it.

        Sums are built from what it leaves: what float32 rounds stays far below vacuum.
        """
        expected = returned.cosine * self._light.x
        expected += returned.sine * self._light.p
        along = float(np.vdot(expected, returned.measured))
        return float(np.float32(along / sent)) if sent > 0.0 and math.isfinite(along) else 0.0

    def _require_finite(self, read: Floats, sent: float, slope: float) -> None:
        """Refuse light of which any sum would not be finite, before anything is added.

        No sum of squares or products exceeds the square of the norms added up (Schwarz).
        """
        with np.errstate(over="ignore", invalid="ignore"):
            square = float(np.vdot(read, read))
        reach = math.sqrt(square) if square >= 0.0 else math.nan
        if math.isfinite(sent):
            reach += (1.0 + abs(slope)) * math.sqrt(sent)
        if not (math.isfinite(sent) and reach < _LARGEST_NORM):
            raise SignalError("returned light holds values that are not finite, or beyond 1e19")

    def _passes(
        self, returned: ReturnedLight, shares: ReadShares, slope: np.float32
    ) -> tuple[Doubles, Doubles]:
        """Return sums of what `slope` leaves: times sent, squared, and (by row) itself.

        By row (3, rows) and by mode (2, modes).
        """
        rows, modes = np.empty((3, self._light.rows)), np.zeros((2, self._light.modes))
        across = self._ones[: self._light.modes]
        chosen = None if shares.on_x is None else self._light.rows_read(shares.on_x)
        for first in range(0, self._light.rows, _ROWS_AT_ONCE):
            part = slice(first, first + _ROWS_AT_ONCE)
            read = returned.measured[part]
            expected, product, left = self._scratch[:, : len(read)]
            down = self._ones[: len(read)]
            if chosen is None:
                self._expect(returned, part, expected, left)
            else:
                self._light.by_quadrature.take(chosen[part], 0, expected, "clip")
            np.multiply(expected, -slope, out=left)
            left += read
            np.multiply(expected, left, out=product)
            rows[2, part] = left @ across
            rows[0, part] = product @ across
            modes[0] += down @ product
            np.multiply(left, left, out=product)
            rows[1, part] = product @ across
            modes[1] += down @ product
            self._add_weights(first, left)
        return rows, modes

    def _expect(
        self, returned: ReturnedLight, part: slice, expected: Floats, scratch: Floats
    ) -> None:
        """Put into `expected` what was sent of some rows in the quadratures that were read."""
        np.multiply(returned.cosine[part], self._light.x[part], out=expected)
        np.multiply(returned.sine[part], self._light.p[part], out=scratch)
        expected += scratch

    def _begin_weights(self, shares: ReadShares) -> None:
        """Begin an image's part of the sums of each weight."""
        self._by_weight.begin(shares)

    def _add_weights(self, first: int, left: Floats) -> None:
        """Add what the slope left of rows from `first` on to the sums of each weight."""
        self._by_weight.add(first, left)

    def _keep_offsets(self, cosine: Doubles, sine: Doubles, left: Doubles, slope: float) -> None:
        sums = self._light.quadrature_sums
        sent = cosine * sums[0] + sine * sums[1]
        for quadrature, share in enumerate((cosine, sine)):
            expected = float(share @ sent)
            self._offsets[0, quadrature] += self._light.modes * float(share @ share)
            self._offsets[1, quadrature] += expected
            self._offsets[2, quadrature] += float(share @ left) + slope * expected

    def row_sums(self) -> Sums:
        """Return the sums of each row, over its modes and all images."""
        sent = np.einsum("ij,ij->j", self._shares, self._light.row_powers)
        return self._sums(self._light.rows, sent, self._row_sums)

    def mode_sums(self) -> Sums:
        """Return the sums of each mode, over all rows and images."""
        x, p = self._light.x, self._light.p
        sent = np.zeros(self._light.modes)
        for factor, share, a, b in zip(
            (1.0, 2.0, 1.0), self._shares, (x, x, p), (x, p, p), strict=True
        ):
            sent += factor * (share @ (a.astype(np.float64) * b))
        return self._sums(self._light.modes, sent, self._mode_sums)

    def _sums(self, groups: int, sent: Doubles, left: Doubles) -> Sums:
        along, square = left
        fitted = np.divide(along**2, sent, out=np.zeros_like(sent), where=sent > 0.0)
        return Sums(
            samples=self.samples / groups,
            sent=sent,
            cross=(self._reference or 0.0) * sent + along,
            residual=np.maximum(square - fitted, 0.0),
        )

    def weight_sums(self) -> WeightSums:
        """Return the sums of each weight over all images, in the receiver's units."""
        return self._by_weight.sums()

    @property
    def pattern(self) -> Floats:
        """The weights as `weight_sums` has them (rows, 2n), on any scale."""
        return self._light.quadratures

    @property
    def keeps_columns(self) -> bool:
        """Whether each mode carries the same columns in all queries: its gain can repeat."""
        return True

    def mode_terms(self) -> Doubles:
        """Return what a bench's distortion may add to the gain of each mode; see `gain_terms`."""
        if self._mode_terms is None:
            self._mode_terms = gain_terms(self.pattern)
        return self._mode_terms

    def mode_gains(self) -> ModeGains | None:
        """Return the sums of modes without gain and turn of rows; None if their columns move.

        A mode sums over its rows, in any order.
        """
        if not self.keeps_columns:
            return None
        sums = self.known_sums()
        assert sums.moments is not None
        assert self._kept_modes is not None
        return ModeGains.of(self._kept_modes, self.pattern, sums.moments)

    def row_gains(self) -> RowGains | None:
        """Return the gain of each row with its turn taken off; None where rows change places."""
        moments = self.known_sums().moments
        assert moments is not None
        return RowGains.of(moments)

    def slot_terms(self) -> Doubles:
        """Return what a bench's distortion may add to rows that change places; see `SlotTerms`."""
        return np.zeros((self.row_count, 2 * TERMS))

    def known_sums(self) -> WeightSums:
        """Return the sums of each weight with their moments; kept until light is added."""
        if self._kept is None:
            sums = self.weight_sums()
            if sums.entries is None:
                moments, self._kept_modes = layer_moments(sums, self.pattern)
                self._products = moments.products[0]
            else:
                moments = RowMoments.of(self.pattern, sums.sums, sums.shares, sums.entries)
            self._kept = sums.knowing(moments)
        return self._kept

    def _unit_products(self) -> Doubles:
        if self._products is None:
            self._products = unit_products(self.pattern)
        return self._products

    @property
    def carriers(self) -> int:
        """How many quadratures of a query carry one weight."""
        return 1

    def offsets(self) -> Offsets:
        """Return what shows light beside that sent."""
        weight, sent, read = self._offsets
        return Offsets(
            weight=(float(weight[0]), float(weight[1])),
            sent=(float(sent[0]), float(sent[1])),
            read=(float(read[0]), float(read[1])),
            removed=self._offset_removed,
        )

    @cached_property
    def strongest_direction(self) -> float:
        """Return the most that clone noise of unit variance per block can do to the cross sum.

        Per image: an honest receiver may collect any mode, so it is, for each block, the largest
        eigenvalue of the sum of x x^T + p p^T over the rows, in SNU. Of K orthogonal modes the
        noise of one quadrature has a covariance Re(U U^dagger) of eigenvalues up to 1 and trace K,
        so that it is the sum of the K largest (Ky Fan, PNAS 35, 652 (1949)).
        """
        total = 0.0
        for columns in self._light.blocks.slices():
            both = np.concatenate([self._light.x[:, columns], self._light.p[:, columns]])
            gram = both.T @ both if both.shape[1] <= len(both) else both @ both.T
            total += float(np.linalg.eigvalsh(gram.astype(np.float64))[-self._light.clones :].sum())
        return total

    def take_sums(self) -> Doubles:
        """Return, once each, every image's sums (images, 4) for a run file.

        Columns: samples, sum of sent^2 (SNU), of sent times read, of read^2.
        """
        sums = np.array(self._fresh, np.float64).reshape(-1, 4)
        self._fresh.clear()
        return sums
