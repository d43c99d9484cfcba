"""What readings along known directions tell of a network's weights, in bits.

A query shows of each row w of a layer A d.w plus noise, for K directions d. With w Gaussian of this
layer's own second moments C, the mutual information of a row is log2 det(1 + C H)/2. H is the sum
of A^2 d d^T over the noise of all looks (Cover and Thomas, Elements of Information Theory, section
9.4). Kicks of directions that do not commute are left out of the noise, so that the figure is not
too low.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from labctl.data.models import Network
from labctl.protocols.carried import carried
from labctl.protocols.encoding import unit_rms
from labctl.studies.attacks.copies.neighbours import Doubles

Look = tuple[Doubles, float, Doubles]
"""Directions (K, N), the amplitude A, and the noise (K,) of what is read along them, in SNU."""


def bits_per_weight(network: Network, looks: Sequence[Iterable[Look]]) -> float:
    """Return the bits per weight that is sent which the looks at each layer tell together."""
    layers = carried(network).network.layers
    total = math.fsum(
        len(weights) * _row_bits(unit_rms(weights).astype(np.float64), of_layer)
        for weights, of_layer in zip(layers, looks, strict=True)
    )
    return total / sum(weights.size for weights in layers)


def _row_bits(weights: Doubles, looks: Iterable[Look]) -> float:
    size = weights.shape[1]
    precision = np.zeros((size, size))
    for directions, amplitude, noise in looks:
        precision += amplitude**2 * (directions.T / noise) @ directions
    values, vectors = np.linalg.eigh(weights.T @ weights / len(weights))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    _, logarithm = np.linalg.slogdet(np.eye(size) + root.T @ precision @ root)
    return float(logarithm) / (2.0 * math.log(2.0))
