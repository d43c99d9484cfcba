"""Light instead of a layer's, to align by: as bright, as large, and without its weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from labctl.protocols.link import LayerLight
from labctl.protocols.streams import stream

# Of the stream of random numbers that places and signs come from.
_STAND_IN_KEY = 98


def stand_in(light: LayerLight, seed: int) -> LayerLight:
    """Return light of the layer's shape with its quadratures in random places, of random signs.

    Power and largest value are those of the layer, so that levels, scales and ranges found with it
    hold for the layer. What it tells is how often each magnitude occurs, and nothing of where:
    someone who keeps it learns the histogram of the layer's weights. In simulated runs the places
    follow from the seed.
    """
    generator = stream(seed, _STAND_IN_KEY, light.layer)
    shuffled = generator.permutation(light.quadratures.ravel())
    signs = generator.integers(0, 2, shuffled.size).astype(np.float32) * 2.0 - 1.0
    moved = (shuffled * signs).astype(np.float32).reshape(light.quadratures.shape)
    return replace(light, quadratures=moved)
