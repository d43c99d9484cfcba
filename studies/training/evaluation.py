"""What a network reaches through the noise: accuracy against F with its error, and confusions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.carried import carried
from labctl.studies.training.channel import (
    IDEAL_CHANNEL,
    TINY,
    TrainingChannel,
    levels,
    value_limits,
)

# Half an octave to an octave apart, over what sessions use.
SIGNAL_TO_NOISE = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0)
# Values of 784 neurons for this many images take 8 MB.
_IMAGES_AT_ONCE = 2500


@dataclass(frozen=True)
class MeasuredAccuracy:
    """Share of images classified correctly at one F, the mean over noise seeds.

    standard_error: of the share in the population that the images are drawn from, for one run;
    lowest and highest: over the seeds, which differ in their noise alone. signal_to_noise is
    math.inf without noise.
    """

    signal_to_noise: float
    accuracy: float
    standard_error: float
    lowest: float
    highest: float
    images: int
    seeds: int


def noisy_accuracy(
    network: Network,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    signal_to_noise: float,
    seed: int,
    channel: TrainingChannel = IDEAL_CHANNEL,
) -> float:
    """Fraction of images classified correctly when every inner product has signal-to-noise F.

    images: (n, inputs); labels: (n,). signal_to_noise: F > 0, math.inf for no noise.
    """
    found = noisy_classes(network, images, signal_to_noise, seed, channel)
    return int(np.count_nonzero(found == labels)) / len(images)


def noisy_classes(
    network: Network,
    images: NDArray[np.float32],
    signal_to_noise: float,
    seed: int,
    channel: TrainingChannel = IDEAL_CHANNEL,
) -> NDArray[np.intp]:
    """Classes (n,) that the client reads when every inner product has signal-to-noise F."""
    if not signal_to_noise > 0:
        raise SettingError("signal_to_noise", signal_to_noise, "above 0 (inf: no noise)")
    random = np.random.default_rng(seed)
    sent = carried(network)
    # Dither is in the network's own weights: rounding again would take it off.
    rounding = channel if channel.weight_dither == 0 else IDEAL_CHANNEL
    layers = [levels(np, rounding, unit_rms(layer)) for layer in sent.network.layers]
    parts = _parts(sent.inputs.taken(images))
    return np.concatenate(
        [_classes(layers, part, signal_to_noise, channel, random) for part in parts]
    )


def measured_accuracies(
    network: Network,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    signal_to_noise: Sequence[float] = SIGNAL_TO_NOISE,
    seeds: int = 5,
    channel: TrainingChannel = IDEAL_CHANNEL,
) -> tuple[MeasuredAccuracy, ...]:
    """Measure at every F with noise seeds 0, 1, …, then once without noise (F = math.inf)."""
    return tuple(
        _measured(network, images, labels, ratio, seeds if ratio < math.inf else 1, channel)
        for ratio in (*signal_to_noise, math.inf)
    )


def confusion(
    network: Network,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    signal_to_noise: float,
    seed: int,
    channel: TrainingChannel = IDEAL_CHANNEL,
) -> NDArray[np.int64]:
    """Count images by true class (row) and class read by the client (column)."""
    found = noisy_classes(network, images, signal_to_noise, seed, channel)
    counts = np.zeros((network.sizes[-1], network.sizes[-1]), np.int64)
    np.add.at(counts, (labels.astype(np.intp), found), 1)
    return counts


def with_measured_accuracy(
    network: Network,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    signal_to_noise: tuple[float, ...] = SIGNAL_TO_NOISE,
    seeds: int = 5,
) -> Network:
    """The network with its accuracies on these images added to its provenance.

    One entry without noise, and one per F with the mean over noise seeds 0, 1, … and its spread.
    """
    measured = measured_accuracies(network, images, labels, signal_to_noise, seeds)
    return with_accuracies(network, measured)


def with_accuracies(network: Network, measured: Sequence[MeasuredAccuracy]) -> Network:
    """The network with accuracies that were measured added to its provenance."""
    found = {}
    for point in measured:
        if point.signal_to_noise == math.inf:
            found["accuracy noise-free"] = f"{point.accuracy:.4f} on {point.images} images"
            continue
        found[f"accuracy at F = {point.signal_to_noise:g}"] = (
            f"{point.accuracy:.4f} on {point.images} images, mean of {point.seeds} "
            f"noise seeds from {point.lowest:.4f} to {point.highest:.4f}"
        )
    return replace(network, provenance={**network.provenance, **found})


def unit_rms(layer: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale a layer to unit RMS, as it is sent."""
    exact = layer.astype(np.float64)
    scaled: NDArray[np.float32] = (exact / np.sqrt(np.mean(exact**2))).astype(np.float32)
    return scaled


def _measured(
    network: Network,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    signal_to_noise: float,
    seeds: int,
    channel: TrainingChannel,
) -> MeasuredAccuracy:
    runs = [
        noisy_accuracy(network, images, labels, signal_to_noise, seed, channel)
        for seed in range(seeds)
    ]
    mean = float(np.mean(runs))
    error = math.sqrt(mean * (1 - mean) / len(images))
    return MeasuredAccuracy(signal_to_noise, mean, error, min(runs), max(runs), len(images), seeds)


def _parts(images: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for first in range(0, len(images), _IMAGES_AT_ONCE):
        yield images[first : first + _IMAGES_AT_ONCE]


def _classes(
    layers: Sequence[NDArray[np.float32]],
    images: NDArray[np.float32],
    signal_to_noise: float,
    channel: TrainingChannel,
    random: np.random.Generator,
) -> NDArray[np.intp]:
    noise_rms = np.float32(math.sqrt((1 + channel.technical_noise) / signal_to_noise))
    values = images
    for depth, layer in enumerate(layers):
        if depth:
            values = np.maximum(values, 0)
        norm = np.sqrt(np.sum(values**2, axis=1, keepdims=True) + np.float32(TINY))
        values = (values / norm) @ layer.T
        if noise_rms:
            values += noise_rms * random.standard_normal(values.shape, dtype=np.float32)
        values = _digitized(values, channel, signal_to_noise)
    classes: NDArray[np.intp] = np.argmax(values, axis=1)
    return classes


def _digitized(
    values: NDArray[np.float32], channel: TrainingChannel, signal_to_noise: float
) -> NDArray[np.float32]:
    """Return values, in units of what F = 1 measures, as the digitizer gives them."""
    if channel.value_bits is None:
        return values
    limits = value_limits(np, channel, signal_to_noise)
    unit = 1.0 if signal_to_noise == math.inf else math.sqrt(signal_to_noise)
    step, low, high = (limit / unit for limit in limits)
    quantised: NDArray[np.float32] = np.clip(np.round(values / step) * step, low, high)
    return quantised.astype(np.float32)
