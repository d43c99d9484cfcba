"""What a thief compares pictures by: pixels, or local histograms of gradient directions.

Histograms of gradients (Dalal and Triggs, CVPR 2005) say two pictures of one digit are alike where
pixels do not: strokes may shift by some pixels. Nothing in them was learned from labels.
"""

from __future__ import annotations

import math
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from labctl.errors import SettingError
from labctl.protocols.encoding import Floats, unit_norm

# 7 x 7 cells of a digit and directions 45 degrees apart: coarse, so that a stroke that is shifted
# by a pixel or two has almost the same histogram.
_CELL = 4
_DIRECTIONS = 8
# Pictures whose gradients are held at once: 50 MB of 28 x 28 pixels.
_AT_ONCE = 2000


class Features(StrEnum):
    """What pictures are compared by."""

    PIXELS = "pixels"
    GRADIENTS = "gradients"


def features_of(images: Floats, kind: Features) -> Floats:
    """Return features (n, d) of images (n, N); gradients need square pictures, row by row.

    Raises SettingError for gradients of what is no square of at least two cells.
    """
    if kind is Features.PIXELS:
        return images
    side = math.isqrt(images.shape[1])
    if side * side != images.shape[1] or side < 2 * _CELL:
        valid = f"a square picture of {2 * _CELL} pixels or more a side, or features of pixels"
        raise SettingError("inputs", images.shape[1], valid)
    parts = [
        _gradients(images[first : first + _AT_ONCE].reshape(-1, side, side))
        for first in range(0, len(images), _AT_ONCE)
    ]
    return np.concatenate(parts)


def _gradients(pictures: Floats) -> Floats:
    """Return histograms of gradient directions in overlapping cells, square-rooted, unit norm."""
    count, side, _ = pictures.shape
    across, down = np.zeros_like(pictures), np.zeros_like(pictures)
    across[:, :, 1:-1] = pictures[:, :, 2:] - pictures[:, :, :-2]
    down[:, 1:-1] = pictures[:, 2:] - pictures[:, :-2]
    strength = np.hypot(across, down)
    turn = np.arctan2(down, across) * (_DIRECTIONS / (2.0 * math.pi))
    lower = np.floor(turn)
    upper_share = turn - lower
    first = lower.astype(np.intp) % _DIRECTIONS
    split: Floats = np.zeros((count, _DIRECTIONS, side, side), np.float32)
    for share, bins in (
        (strength * (1.0 - upper_share), first),
        (strength * upper_share, (first + 1) % _DIRECTIONS),
    ):
        held = np.take_along_axis(split, bins[:, None], axis=1)
        np.put_along_axis(split, bins[:, None], held + share[:, None], axis=1)
    pool = _pooling(side)
    pooled = np.matmul(np.matmul(pool, split), pool.T).reshape(count, -1)
    return unit_norm(np.sqrt(pooled))


def _pooling(side: int) -> npt.NDArray[np.float32]:
    """Return triangular weights (cells, side), each cell fading out at its neighbours' centres."""
    centres = (np.arange(side // _CELL) + 0.5) * _CELL - 0.5
    distance = np.abs(np.arange(side) - centres[:, None]) / _CELL
    return np.maximum(0.0, 1.0 - distance).astype(np.float32)
