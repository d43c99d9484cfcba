"""What readings along known directions tell of a network's weights, in bits.

A query shows of each row w of a layer A d.w plus noise, for K directions d. The prior of w is that
of this network's bound: Gaussian with this layer's own covariance C times the row's own brightness
b, which is known. The mutual information of a row is log2 det(1 + b C H)/2. H is the sum of
A^2 d d^T over the noise of all looks (Cover and Thomas, Elements of Information Theory, section
9.4). Kicks of directions that do not commute are left out of the noise, so that the figure is not
too low.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from labctl.data.models import Network
from labctl.protocols.carried import carried
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage.network import rows_alike
from labctl.studies.attacks.copies.neighbours import Doubles
from labctl.studies.attacks.weights_estimate import bits_of_rows

Look = tuple[Doubles, float, Doubles]
"""Directions (K, N), the amplitude A, and the noise (K,) of what is read along them, in SNU."""


def bits_per_weight(network: Network, looks: Sequence[Iterable[Look]]) -> float:
    """Return the bits per weight that is sent which the looks at each layer tell together."""
    layers = carried(network).network.layers
    total = math.fsum(
        _layer_bits(weights, of_layer) for weights, of_layer in zip(layers, looks, strict=True)
    )
    return total / sum(weights.size for weights in layers)


def _layer_bits(weights: Floats, looks: Iterable[Look]) -> float:
    brightness, alike = rows_alike(weights)
    size = weights.shape[1]
    precision = np.zeros((size, size))
    for directions, amplitude, noise in looks:
        precision += amplitude**2 * (directions.T / noise) @ directions
    values, vectors = np.linalg.eigh(alike.T @ alike / len(alike))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return bits_of_rows(brightness, np.linalg.eigvalsh(root.T @ precision @ root))
