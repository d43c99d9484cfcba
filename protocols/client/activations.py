"""The client: owns the data, measures what one layer needs, and never learns the weights."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from labctl.errors import SettingError
from labctl.protocols.carried import Inputs
from labctl.protocols.encoding import Blocks, Floats, modes_of, pad_to_modes, unit_norm
from labctl.protocols.hiding.collection import Collected, Collection

# Labels are bytes.
_MOST_CLASSES = 256


class Client:
    """Holds activations and the public layer sizes; its memory is one vector per image.

    images: (B, N) with N the network's input size, finite. inputs: which of their values are fed,
    None for all; sizes[0] says how many. The others are left out before the input is scaled to unit
    norm, so that no light is spent on them. block_modes: modes that the receiver collects at a
    time, None for a whole row.

    Where a row is sent in blocks, the receiver is set to each block's direction x_j/|x_j|, and the
    row's value is the sum of |x_j| times the block's value. The squares of the |x_j| add up to 1,
    so the sum has the signal and the noise of one value of the whole row.

    signed: hidden neurons come with unknown signs; instead of rectified values y the next layer is
    fed with y and |y|, next to each other. collection: which modes are collected so that the input
    does not show, None for the input's own mode alone.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        images: Floats,
        block_modes: int | None = None,
        *,
        signed: bool = False,
        collection: Collection | None = None,
        inputs: Inputs | None = None,
    ) -> None:
        fed = (inputs or Inputs(sizes[0])).taken(images)
        if fed.shape[1] != sizes[0]:
            raise SettingError("inputs fed", fed.shape[1], f"{sizes[0]}, as the first layer has")
        if not np.isfinite(images).all():
            raise SettingError("images", "NaN or infinite pixels", "finite")
        if sizes[-1] > _MOST_CLASSES:
            raise SettingError("classes", sizes[-1], f"at most {_MOST_CLASSES}")
        self._sizes = sizes
        self._collection = collection
        self._collected: Collected | None = None
        # With a collection (B, A, N): what travels beside the own input comes after it.
        self._activations = fed if collection is None else collection.inputs(fed)
        self._block_modes = block_modes
        self._signed = signed
        self._layer = 0

    def coefficients(self) -> Floats:
        """Return the receiver setting (B, 2n) for the layer that comes next.

        Columns 2k and 2k + 1 are the real and imaginary part of the coefficient of mode k. A row
        that is sent whole has unit norm, or is all zero where the activations are. Of a row sent
        in blocks each block has unit norm: where the activations vanish it is flat, so that the
        server cannot tell dark blocks by the missing noise of the clone. With a collection of K
        modes per block, (B, K, 2n): orthonormal in each block.
        """
        if self._collection is not None:
            return self._together(self._collection).coefficients
        unit, blocks = pad_to_modes(unit_norm(self._activations)), self._blocks()
        if blocks.count == 1:
            return unit
        directions = np.empty_like(unit)
        for part, size in zip(blocks.slices(2), blocks.sizes, strict=True):
            direction = unit_norm(unit[:, part])
            direction[~direction.any(axis=1), 0::2] = 1.0 / math.sqrt(size)
            directions[:, part] = direction
        return directions

    def receive(self, measured: Floats) -> Floats:
        """Take a layer's measured values (B, rows * blocks); return those of its rows (B, rows).

        With a collection of K modes measured are (B, K, rows * blocks). They continue to the next
        layer rectified (see `signed`), unless it is the last.
        """
        self.require_values(measured, self._activations.shape[0])
        rows, blocks = self._sizes[self._layer + 1 :], self._blocks()
        values = self._combined(measured, rows[0], blocks)
        self._layer += 1
        self._collected = None
        last = len(rows) == 1
        self._activations = values if last else self._activated(values)
        return values if self._collection is None else values[:, 0]

    def require_values(self, measured: Floats, images: int) -> None:
        """Raise SettingError if these cannot be the values of `images` images in the layer."""
        rows = self._sizes[self._layer + 1 :]
        if not rows:
            raise SettingError("measured values", measured.shape, "none after the last layer")
        blocks = self._blocks()
        lines: tuple[int, ...] = ()
        if self._collection is not None:
            lines = (self._together(self._collection).coefficients.shape[1],)
        if measured.shape != (images, *lines, rows[0] * blocks.count):
            raise SettingError(
                "measured values",
                measured.shape,
                f"one per image, mode collected, {rows[0]} rows and {blocks.count} blocks per row",
            )

    def _combined(self, measured: Floats, rows: int, blocks: Blocks) -> Floats:
        """Return the rows' values (B, rows), or of all that travels (B, A, rows)."""
        if self._collection is not None:
            shares = self._together(self._collection).shares
            together = np.zeros((*shares.shape[:2], rows), np.float32)
            for block in range(blocks.count):
                together += shares[..., block] @ measured[..., block :: blocks.count]
            return together
        if blocks.count == 1:
            return measured
        partial = measured.reshape(len(measured), rows, blocks.count)
        values: Floats = np.einsum("irb,ib->ir", partial, self._lengths(blocks))
        return values

    def _activated(self, values: Floats) -> Floats:
        """Return what a hidden layer's values (..., rows) feed into the next layer."""
        if self._signed:
            return np.concatenate([values, np.abs(values)], axis=-1)
        return np.maximum(values, np.float32(0.0))

    def classes(self) -> npt.NDArray[np.uint8]:
        """Return the class of each image, known to the client alone."""
        own = self._activations if self._collection is None else self._activations[:, 0]
        classes: npt.NDArray[np.uint8] = np.argmax(own, axis=1).astype(np.uint8)
        return classes

    def _blocks(self) -> Blocks:
        return Blocks.of(modes_of(self._activations.shape[-1]), self._block_modes)

    def _together(self, collection: Collection) -> Collected:
        """Return what is collected of the layer that comes next."""
        if self._collected is None:
            activations = self._activations
            unit = unit_norm(activations.reshape(-1, activations.shape[-1]))
            inputs = pad_to_modes(unit.reshape(activations.shape))
            self._collected = collection.collected(self._layer, inputs, self._blocks())
        return self._collected

    def _lengths(self, blocks: Blocks) -> Floats:
        """Return the length (B, blocks) of each block of the unit-norm activations."""
        split = blocks.split(pad_to_modes(unit_norm(self._activations)))
        return np.asarray(np.linalg.norm(split, axis=2), np.float32)


def directions_of(images: Floats, block_modes: int | None) -> npt.NDArray[np.complex64]:
    """Return what an honest client's receiver is set to, c (B, n), for images (B, N)."""
    client = Client((images.shape[1], 1), images, block_modes)
    halves = np.ascontiguousarray(client.coefficients(), np.float32)
    return halves.view(np.complex64)
