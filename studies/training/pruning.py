"""Pruning: a trained network cut down to the hidden neurons and inputs that count, to train on.

What counts is judged on the training images without noise. A hidden neuron counts by the RMS of its
rectified value times the norm of the weights that it feeds: its share in the power of the next
layer's values. An input counts likewise, by the RMS of its value. Neurons are chosen first, layer
by layer from the inputs, then the inputs by the neurons that are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labctl.data.models import load_network
from labctl.errors import SettingError

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Pruning:
    """Where training starts: a network, of which a number of inputs is kept.

    `network`: a shipped network's name, or a file's path. `inputs`: values of an image that are
    kept; hidden widths are those of the settings. The others' weights are exact zeros, which are
    not sent. Raises SettingError.
    """

    network: str
    inputs: int

    def __post_init__(self) -> None:
        if isinstance(self.inputs, bool) or not self.inputs >= 1:
            raise SettingError("inputs kept", self.inputs, "1 or more")


@dataclass(frozen=True, eq=False)
class Start:
    """What training starts from: weights of what is kept (unit RMS), and the inputs kept."""

    layers: tuple[Floats, ...]
    inputs: Indices

    def whole(self, layers: tuple[Floats, ...], width: int) -> tuple[Floats, ...]:
        """Return layers for all `width` inputs: zeros at those that are not kept."""
        first = np.zeros((len(layers[0]), width), np.float32)
        first[:, self.inputs] = layers[0]
        return (first, *layers[1:])


def pruned(pruning: Pruning, sizes: tuple[int, ...], images: Floats) -> Start:
    """Return the network cut down to these sizes (inputs as in the images, classes as they are).

    images: (n, inputs) to judge by. Raises ModelError for a network that cannot be read, and
    SettingError for one of other inputs, classes or depth, or with fewer neurons than `sizes`.
    """
    network = load_network(Path(pruning.network) if "." in pruning.network else pruning.network)
    same_ends = (network.sizes[0], network.sizes[-1]) == (sizes[0], sizes[-1])
    fits = len(network.sizes) == len(sizes) and all(
        wanted <= there for wanted, there in zip(sizes, network.sizes, strict=True)
    )
    if not (same_ends and fits and pruning.inputs <= sizes[0]):
        there = "-".join(map(str, network.sizes))
        raise SettingError("sizes", (*sizes, f"{pruning.inputs} inputs kept"), f"within {there}")
    layers, values = list(network.layers), images
    for depth, wanted in enumerate(sizes[1:-1]):
        values = np.maximum(_unit(values) @ layers[depth].T, np.float32(0.0))
        kept = _best(_counts(values, layers[depth + 1]), wanted)
        layers[depth] = layers[depth][kept]
        layers[depth + 1] = layers[depth + 1][:, kept]
        values = values[:, kept]
    inputs = _best(_counts(_unit(images), layers[0]), pruning.inputs)
    layers[0] = layers[0][:, inputs]
    return Start(tuple(layer / np.sqrt(np.mean(layer**2)) for layer in layers), inputs)


def _unit(values: Floats) -> Floats:
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    unit: Floats = values / np.maximum(norms, np.float32(1e-12))
    return unit


def _counts(values: Floats, weights: Floats) -> NDArray[np.float64]:
    """Return how much each column of weights (m, N) counts with values (n, N) on it."""
    rms = np.sqrt(np.mean(np.square(values, dtype=np.float64), axis=0))
    return np.asarray(rms * np.linalg.norm(weights.astype(np.float64), axis=0))


def _best(counts: NDArray[np.float64], wanted: int) -> Indices:
    """Return the indices, rising, of the `wanted` that count most; ties go to the first."""
    return np.sort(np.argsort(-counts, kind="stable")[:wanted])
