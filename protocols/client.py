"""The client: owns the data, measures what one layer needs, and never learns the weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labctl.errors import SettingError
from labctl.protocols.encoding import Floats, pad_to_modes, unit_norm

_MOST_CLASSES = 256


class Client:
    """Holds activations and the public layer sizes; its memory is one vector per image.

    images: (B, N) with N the network's input size, finite.
    """

    def __init__(self, sizes: tuple[int, ...], images: Floats) -> None:
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
        self._layer = 0

    def coefficients(self) -> Floats:
        """Return the receiver setting (B, 2n) for the layer that comes next.

        Columns 2k and 2k + 1 are the real and imaginary part of the coefficient of mode k;
        each row has unit norm, or is all zero where the activations are.
        """
        return pad_to_modes(unit_norm(self._activations))

    def receive(self, measured: Floats) -> None:
        """Take a layer's measured values (B, rows): rectify them unless it is the last layer."""
        rows = self._sizes[self._layer + 1 :]
        if not rows:
            raise SettingError("measured values", measured.shape, "none after the last layer")
        if measured.shape != (self._activations.shape[0], rows[0]):
            raise SettingError(
                "measured values", measured.shape, f"one per image and {rows[0]} rows"
            )
        self._layer += 1
        last = len(rows) == 1
        self._activations = measured if last else np.maximum(measured, np.float32(0.0))

    def classes(self) -> npt.NDArray[np.uint8]:
        """Return the class of each image, known to the client alone."""
        classes: npt.NDArray[np.uint8] = np.argmax(self._activations, axis=1).astype(np.uint8)
        return classes
