"""Square pictures moved at random, so that where the pen was set down counts less."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from labctl.studies.training.extra import optional

if TYPE_CHECKING:
    from jax import Array


def moved_pictures(max_shift_px: float, images: Array, key: Array) -> Any:
    """Move each picture by a random fraction of pixels, linear between them and dark outside.

    images: (n, side²); max_shift_px: most that rows and columns move by, 0 for not at all.
    """
    if max_shift_px == 0:
        return images
    jax = optional("jax")
    jnp = jax.numpy
    side = math.isqrt(images.shape[1])
    limits = {"minval": -max_shift_px, "maxval": max_shift_px}
    shift = jax.random.uniform(key, (2, len(images), 1, 1), **limits)
    pixel = jnp.arange(side)
    rows, columns = jax.nn.relu(1 - jnp.abs(pixel[:, None] - pixel - shift))
    moved = rows @ images.reshape(-1, side, side) @ columns.transpose(0, 2, 1)
    return moved.reshape(images.shape)
