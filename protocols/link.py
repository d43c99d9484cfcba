"""The seam between engine and optics: light goes out, measured values and returned light come in.

A link is everything physical between the two parties, their receivers included. It is the
only place where the server's light and the client's rotation meet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.protocols.encoding import Blocks, Floats


@dataclass(frozen=True, eq=False)
class LayerLight:
    """What the server sends for one layer, as mean interleaved quadratures (rows, 2n) in SNU.

    `block_modes`: modes that the client's receiver collects at a time, None for a whole row.
    `clones`: orthogonal modes that it collects of each block, all of a block that has no more.
    `plain` and `order`: light that this one is with its rows in another order, row i being row
    `order[i]` of it; what is known of that need not be worked out again. None: of no other.
    """

    layer: int
    quadratures: Floats
    block_modes: int | None = None
    clones: int = 1
    plain: LayerLight | None = None
    order: npt.NDArray[np.intp] | None = None

    @property
    def rows(self) -> int:
        """Rows of the layer, each sent as one train of pulses."""
        return int(self.quadratures.shape[0])

    @property
    def modes(self) -> int:
        """Modes per row."""
        return int(self.quadratures.shape[1]) // 2

    @property
    def blocks(self) -> Blocks:
        """The blocks of each row."""
        return Blocks.of(self.modes, self.block_modes)

    @property
    def loud_modes(self) -> int:
        """Modes of each row that return with a clone's noise."""
        return self.blocks.collected(self.clones)

    @cached_property
    def photons(self) -> npt.NDArray[np.float64]:
        """Mean photons of each block of each row as sent, (rows, blocks)."""
        if self.plain is not None:
            return self.plain.photons[self.order]
        parts = [self.quadratures[:, columns] for columns in self.blocks.slices(2)]
        squares = [np.einsum("ij,ij->i", part, part).astype(np.float64) for part in parts]
        return 0.25 * np.stack(squares, axis=1)

    @cached_property
    def by_quadrature(self) -> Floats:
        """Mean X of each mode of all rows, then mean P, (2 rows, n); of `plain` if there is one."""
        if self.plain is not None:
            return self.plain.by_quadrature
        return np.concatenate([self.quadratures[:, 0::2], self.quadratures[:, 1::2]])

    def rows_read(self, on_x: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
        """Return which row of `by_quadrature` is read of each row; `on_x` (rows,): whether X is."""
        own = np.arange(self.rows) if self.order is None else self.order
        return own + np.where(on_x, 0, self.rows)

    @cached_property
    def x(self) -> Floats:
        """Mean X of each mode, (rows, n)."""
        return self._in_order(self.by_quadrature[: self.rows])

    @cached_property
    def p(self) -> Floats:
        """Mean P of each mode, (rows, n)."""
        return self._in_order(self.by_quadrature[self.rows :])

    def _in_order(self, rows: Floats) -> Floats:
        return rows if self.order is None else rows.take(self.order, axis=0)

    @cached_property
    def row_powers(self) -> npt.NDArray[np.float64]:
        """Sums of X^2, 2 X P and P^2 of each row, (3, rows): what weighs cos^2, cos sin, sin^2."""
        if self.plain is not None:
            return self.plain.row_powers[:, self.order]
        pairs = ((1.0, self.x, self.x), (2.0, self.x, self.p), (1.0, self.p, self.p))
        return np.stack(
            [factor * np.einsum("ij,ij->i", a, b, dtype=np.float64) for factor, a, b in pairs]
        )

    @cached_property
    def quadrature_sums(self) -> npt.NDArray[np.float64]:
        """Sums of X and of P of each row, (2, rows)."""
        if self.plain is not None:
            return self.plain.quadrature_sums[:, self.order]
        return np.stack([np.sum(part, axis=1, dtype=np.float64) for part in (self.x, self.p)])


@dataclass(frozen=True, eq=False)
class Reordered:
    """One light for many images, of which each gets rows and columns in its own order.

    `columns` (images, inputs) and `rows` (images, rows): slot i of an image carries what is at
    that index in `light`; None: as they are.
    """

    light: LayerLight
    columns: npt.NDArray[np.intp] | None
    rows: npt.NDArray[np.intp] | None


@dataclass(frozen=True, eq=False)
class ReturnedLight:
    """What the server's homodyne receiver reads for one image and layer.

    `measured`: (rows, n), one quadrature per mode in the receiver's own units; those of
    `ReceiverCalibration.blocked_variance` are their square. `cosine` and `sine`,
    (rows, 1): the quadrature that the local oscillator chose for each row, X cos + P sin.
    `fitted`: how many parameters were fitted to these very values, phases for example; their
    scatter lacks that many degrees of freedom. `offset_removed`: whether their mean was taken off.
    """

    measured: Floats
    cosine: Floats
    sine: Floats
    fitted: float = 0.0
    offset_removed: bool = False


@dataclass(frozen=True, eq=False)
class Exchange:
    """Outcome of sending one layer to a batch of images.

    `measured`: (images, rows * blocks), the client's value of each block, those of a row next to
    each other; (images, rows) where rows are sent whole. Where K modes of each block are collected,
    (images, K, rows * blocks). `returned`: one item per image if the
    returned light is verified, else empty. Use each item before asking for the next, whose
    arrays it shares; `measured` is final once all items are taken. `arriving`: photons in each
    block of each row (rows, blocks) as they reach the client, the same for all images; None where
    nobody measures them.
    """

    measured: Floats
    returned: Iterable[ReturnedLight]
    arriving: npt.NDArray[np.float64] | None = None


class Link(Protocol):
    """Carries layers between the parties."""

    def calibrate(self) -> ReceiverCalibration:
        """Measure the verifier's noise with the signal blocked, before a session."""
        ...

    def exchange(self, light: LayerLight, coefficients: Floats) -> Exchange:
        """Send a layer to clients whose receivers are set to `coefficients` (images, 2n).

        The coefficients have unit norm in each block, or are all zero in it. A receiver that
        collects K modes of each block is set to (images, K, 2n), orthogonal to each other as
        complex vectors; X of each is measured, and all pass the same amplifier and arm.
        """
        ...


@dataclass(frozen=True)
class MonitorReading:
    """Variance of the blocked receiver during a session, in its own units, of `samples` samples."""

    blocked_variance: float
    samples: int

    def pooled(self, other: MonitorReading) -> MonitorReading:
        """Return both readings as one; as if their means were one, which costs one degree each."""
        first, second = self.samples - 1, other.samples - 1
        total = self.blocked_variance * first + other.blocked_variance * second
        return MonitorReading(total / (first + second), first + second + 1)


@runtime_checkable
class MonitoredLink(Link, Protocol):
    """A link whose receiver is blocked now and then during a session, to be measured again."""

    def monitor(self) -> MonitorReading | None:
        """Return what the blocked slots since the last call showed; None if there were none."""
        ...
