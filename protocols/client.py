"""The client: owns the data, measures what one layer needs, and never learns the weights."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from labctl.errors import SettingError
from labctl.protocols.encoding import Blocks, Floats, modes_of, pad_to_modes, unit_norm

_MOST_CLASSES = 256


class Client:
    """Holds activations and the public layer sizes; its memory is one vector per image.

    images: (B, N) with N the network's input size, finite. block_modes: modes that the receiver
    collects at a time, None for a whole row.

    Where a row is sent in blocks, the receiver is set to each block's direction x_j/|x_j|, and the
    row's value is the sum of |x_j| times the block's value. The squares of the |x_j| add up to 1,
    so the sum has the signal and the noise of one value of the whole row.

    signed: hidden neurons come with unknown signs; instead of rectified values y the next layer is
    fed with y and |y|, next to each other.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        images: Floats,
        block_modes: int | None = None,
        *,
        signed: bool = False,
    ) -> None:
        if images.ndim != 2 or images.shape[1] != sizes[0]:
            raise SettingError(
                "images", images.shape, f"(images, {sizes[0]}): the network has {sizes[0]} inputs"
            )
        if not np.isfinite(images).all():
            raise SettingError("images", "NaN or infinite pixels", "finite")
        if sizes[-1] > _MOST_CLASSES:
            raise SettingError("classes", sizes[-1], f"at most {_MOST_CLASSES}")
        self._sizes = sizes
        self._activations = images
        self._block_modes = block_modes
        self._signed = signed
        self._layer = 0

    def coefficients(self) -> Floats:
        """Return the receiver setting (B, 2n) for the layer that comes next.

        Columns 2k and 2k + 1 are the real and imaginary part of the coefficient of mode k. A row
        that is sent whole has unit norm, or is all zero where the activations are. Of a row sent
        in blocks each block has unit norm: where the activations vanish it is flat, so that the
        server cannot tell dark blocks by the missing noise of the clone.
        """
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

        They go on to the next layer rectified (see `signed`), unless it is the last.
        """
        rows = self._sizes[self._layer + 1 :]
        if not rows:
            raise SettingError("measured values", measured.shape, "none after the last layer")
        blocks = self._blocks()
        if measured.shape != (self._activations.shape[0], rows[0] * blocks.count):
            raise SettingError(
                "measured values",
                measured.shape,
                f"one per image, {rows[0]} rows and blocks per row ({blocks.count})",
            )
        values = measured
        if blocks.count > 1:
            partial = measured.reshape(len(measured), rows[0], blocks.count)
            values = np.einsum("irb,ib->ir", partial, self._lengths(blocks))
        self._layer += 1
        last = len(rows) == 1
        self._activations = values if last else self._activated(values)
        return values

    def _activated(self, values: Floats) -> Floats:
        """Return what a hidden layer's values (B, rows) feed into the next layer."""
        if self._signed:
            return np.concatenate([values, np.abs(values)], axis=1)
        return np.maximum(values, np.float32(0.0))

    def classes(self) -> npt.NDArray[np.uint8]:
        """Return the class of each image, known to the client alone."""
        classes: npt.NDArray[np.uint8] = np.argmax(self._activations, axis=1).astype(np.uint8)
        return classes

    def _blocks(self) -> Blocks:
        return Blocks.of(modes_of(self._activations.shape[1]), self._block_modes)

    def _lengths(self, blocks: Blocks) -> Floats:
        """Return the length (B, blocks) of each block of the unit-norm activations."""
        split = blocks.split(pad_to_modes(unit_norm(self._activations)))
        return np.asarray(np.linalg.norm(split, axis=2), np.float32)
