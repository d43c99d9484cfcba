"""Training with the physical noise in the loop: what is measured is what is learned from.

Every layer is simulated as it runs on light: unit-L2 input, unit-RMS weights times √F, unit
Gaussian noise on each measured value. F is the signal-to-noise of one inner product.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.data.models import Network
from labctl.errors import DatasetError, SettingError, UsageError

if TYPE_CHECKING:
    from jax import Array

    Weights = dict[str, Any]

# Added to a squared norm, far below that of any image or measured layer, so that an all-zero
# vector stays zero instead of becoming NaN.
_TINY = 1e-12


@dataclass(frozen=True)
class TrainingSettings:
    """What a training run depends on besides the images; the same settings give the same network.

    sizes: inputs, hidden widths, classes. signal_to_noise: F > 0, or None to train without noise.
    learning_rate: Adam's, decayed to zero along a cosine. initial_rms: of the weights at the
    start; small values make the first steps large, because only the direction of a layer counts.
    max_shift_px: each image is moved at random by up to that many pixels (square images only).
    peak_limit: after each step weights are cut to so many times their layer's RMS, or None; a
    modulator sends the largest weight at full drive, so outliers cost the others their light.
    Raises SettingError.
    """

    signal_to_noise: float | None = None
    sizes: tuple[int, ...] = (784, 784, 10)
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    initial_rms: float = 0.01
    max_shift_px: float = 0.0
    peak_limit: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_architecture()
        if self.signal_to_noise is not None:
            _require_positive("signal_to_noise", self.signal_to_noise)
        _require_positive("learning_rate", self.learning_rate)
        _require_positive("initial_rms", self.initial_rms)
        for name, low in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if not _is_whole(value) or not low <= value < 2**31:
                raise SettingError(name, value, f"a whole number from {low} to 2^31 - 1")
        if self.peak_limit is not None and not 2 <= self.peak_limit < math.inf:
            raise SettingError("peak_limit", self.peak_limit, "2 or more times the RMS, or None")
        self._check_shift()

    def _check_architecture(self) -> None:
        if len(self.sizes) < 2 or not all(_is_whole(size) and size > 0 for size in self.sizes):
            raise SettingError("sizes", self.sizes, "two or more whole numbers above 0")
        if self.sizes[-1] < 2:
            raise SettingError("sizes", self.sizes, "sizes that end with at least 2 classes")

    def _check_shift(self) -> None:
        side = math.isqrt(self.sizes[0])
        limit = side if side**2 == self.sizes[0] else 0
        if not (self.max_shift_px == 0 or 0 < self.max_shift_px < limit):
            valid = f"0, or below the side of square pictures (inputs: {self.sizes[0]})"
            raise SettingError("max_shift_px", self.max_shift_px, valid)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise SettingError(name, value, "a finite number above 0")


# Training at a lower F than the one to work at gives the better network there as well.
RECIPES: Mapping[str, TrainingSettings] = MappingProxyType(
    {
        "reference": TrainingSettings(epochs=20, initial_rms=0.05),
        "noise-aware": TrainingSettings(
            signal_to_noise=0.3, epochs=150, learning_rate=2e-3, max_shift_px=0.7, peak_limit=8.0
        ),
    }
)


@dataclass(frozen=True)
class EpochReport:
    """Mean loss (nats) and accuracy over one pass, as trained: with noise and moved images."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float


def train(
    settings: TrainingSettings,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    on_epoch: Callable[[EpochReport], None],
    name: str = "trained",
) -> Network:
    """Train a bias-free dense ReLU network; same settings, images and machine, same bits.

    images: (n, inputs) in [0, 1], labels: (n,) below the number of classes, n at least one batch.
    Every pass visits the images in a new order and leaves out the last incomplete batch.
    Layers of the returned network have unit RMS. Raises DatasetError, SettingError, and
    UsageError when jax or optax is not installed.
    """
    _check_images(settings, images, labels)
    jax = _optional("jax")
    optax = _optional("optax")
    batches = len(images) // settings.batch_size
    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.epochs * batches)
    optimiser = optax.adam(schedule)
    run_epoch = jax.jit(partial(_run_epoch, settings, optimiser))
    key, start = jax.random.split(jax.random.key(settings.seed))
    weights = _initial_weights(settings, start)
    state = (weights, optimiser.init(weights))
    data = (jax.numpy.asarray(images), jax.numpy.asarray(labels.astype(np.int32)))
    for epoch in range(settings.epochs):
        state, (losses, hits) = run_epoch(state, jax.random.fold_in(key, epoch), data)
        accuracy = float(hits.mean())
        on_epoch(EpochReport(epoch + 1, settings.epochs, float(losses.mean()), accuracy))
    layers = tuple(_unit_rms(np.asarray(layer)) for layer in state[0]["layers"])
    return Network(layers, name, _provenance(settings, name, images, labels))


def _optional(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as problem:
        raise UsageError(
            f"training needs {module}, which cannot be imported ({problem}): "
            "pip install 'labctl[train]'"
        ) from problem


def _check_images(
    settings: TrainingSettings, images: NDArray[np.float32], labels: NDArray[np.uint8]
) -> None:
    inputs, classes = settings.sizes[0], settings.sizes[-1]
    if images.ndim != 2 or images.shape[1] != inputs:
        raise DatasetError(f"images have shape {images.shape}: must be (n, {inputs})")
    if labels.shape != (len(images),):
        raise DatasetError(f"labels have shape {labels.shape}: must be ({len(images)},)")
    if len(images) < settings.batch_size:
        raise SettingError("batch_size", settings.batch_size, f"at most {len(images)} (all images)")
    if not (images.min() >= 0 and images.max() <= 1):
        raise DatasetError(f"pixels run from {images.min()} to {images.max()}: must be in [0, 1]")
    if int(labels.max()) >= classes:
        raise DatasetError(f"labels go up to {labels.max()}: must be below {classes}")


def _initial_weights(settings: TrainingSettings, key: Array) -> Weights:
    jax = _optional("jax")
    shapes = list(zip(settings.sizes[1:], settings.sizes[:-1], strict=True))
    layers = [
        settings.initial_rms * jax.random.normal(part, shape)
        for part, shape in zip(jax.random.split(key, len(shapes)), shapes, strict=True)
    ]
    return {"layers": layers, "log_scale": jax.numpy.zeros(())}


def _run_epoch(
    settings: TrainingSettings, optimiser: Any, state: Any, key: Array, data: tuple[Array, Array]
) -> Any:
    """One pass over the images: new state, then loss and accuracy of every batch."""
    jax = _optional("jax")
    images, labels = data
    batches = len(images) // settings.batch_size
    order_key, batch_key = jax.random.split(key)
    order = jax.random.permutation(order_key, len(images))[: batches * settings.batch_size]
    gradient = jax.value_and_grad(partial(_loss, settings), has_aux=True)

    def step(state: Any, batch: Any) -> Any:
        weights, moments = state
        rows, part = batch
        shift_key, noise_key = jax.random.split(part)
        moved = _shifted(settings, images[rows], shift_key)
        (loss, hits), slope = gradient(weights, moved, labels[rows], noise_key)
        change, moments = optimiser.update(slope, moments)
        weights = jax.tree.map(lambda old, new: old + new, weights, change)
        weights["layers"] = [_cut(settings, layer) for layer in weights["layers"]]
        return (weights, moments), (loss, hits)

    rows = order.reshape(batches, settings.batch_size)
    return jax.lax.scan(step, state, (rows, jax.random.split(batch_key, batches)))


def _cut(settings: TrainingSettings, layer: Array) -> Any:
    """Cut a layer's outliers at the peak limit."""
    if settings.peak_limit is None:
        return layer
    jnp = _optional("jax").numpy
    largest = settings.peak_limit * jnp.sqrt(jnp.mean(layer**2))
    return jnp.clip(layer, -largest, largest)


def _shifted(settings: TrainingSettings, images: Array, key: Array) -> Any:
    """Move each picture by a random fraction of pixels, linear between them and dark outside."""
    if settings.max_shift_px == 0:
        return images
    jax = _optional("jax")
    jnp = jax.numpy
    side = math.isqrt(settings.sizes[0])
    reach = settings.max_shift_px
    shift = jax.random.uniform(key, (2, len(images), 1, 1), minval=-reach, maxval=reach)
    pixel = jnp.arange(side)
    rows, columns = jax.nn.relu(1 - jnp.abs(pixel[:, None] - pixel - shift))
    moved = rows @ images.reshape(-1, side, side) @ columns.transpose(0, 2, 1)
    return moved.reshape(images.shape)


def _loss(
    settings: TrainingSettings, weights: Weights, images: Array, labels: Array, key: Array
) -> Any:
    """Cross-entropy in nats of the measured outputs times a trained scale, and the accuracy."""
    jax = _optional("jax")
    jnp = jax.numpy
    values = images
    for depth, layer in enumerate(weights["layers"]):
        unit = layer * jax.lax.rsqrt(jnp.mean(layer**2))
        if depth:
            values = jax.nn.relu(values)
        norm = jax.lax.rsqrt(jnp.sum(values**2, axis=1, keepdims=True) + _TINY)
        values = (values * norm) @ unit.T
        if settings.signal_to_noise is not None:
            noise = jax.random.normal(jax.random.fold_in(key, depth), values.shape)
            values = math.sqrt(settings.signal_to_noise) * values + noise
    hits = jnp.mean(jnp.argmax(values, axis=1) == labels)
    logs = jax.nn.log_softmax(values * jnp.exp(weights["log_scale"]), axis=1)
    return -jnp.mean(jnp.take_along_axis(logs, labels[:, None], axis=1)), hits


def _unit_rms(layer: NDArray[np.float32]) -> NDArray[np.float32]:
    exact = layer.astype(np.float64)
    scaled: NDArray[np.float32] = (exact / np.sqrt(np.mean(exact**2))).astype(np.float32)
    return scaled


def _provenance(
    settings: TrainingSettings,
    name: str,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
) -> dict[str, str]:
    data = hashlib.sha256(np.ascontiguousarray(images, dtype="<f4").tobytes())
    data.update(np.ascontiguousarray(labels, dtype=np.uint8).tobytes())
    return {
        "recipe": name,
        "settings": json.dumps(asdict(settings)),
        "seed": str(settings.seed),
        "images": str(len(images)),
        "data_sha256": data.hexdigest(),
        **{package: version(package) for package in ("labctl", "jax", "jaxlib", "optax", "numpy")},
    }


def noisy_accuracy(
    network: Network,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    signal_to_noise: float,
    seed: int,
) -> float:
    """Fraction of images classified correctly when every inner product has signal-to-noise F.

    images: (n, inputs); labels: (n,). signal_to_noise: F > 0, math.inf for no noise.
    """
    if not signal_to_noise > 0:
        raise SettingError("signal_to_noise", signal_to_noise, "above 0 (inf: no noise)")
    random = np.random.default_rng(seed)
    hits = sum(
        int(np.count_nonzero(_classes(network, part, signal_to_noise, random) == expected))
        for part, expected in _parts(images, labels, 2500)
    )
    return hits / len(images)


def _parts(
    images: NDArray[np.float32], labels: NDArray[np.uint8], rows: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    for first in range(0, len(images), rows):
        yield images[first : first + rows], labels[first : first + rows]


def _classes(
    network: Network,
    images: NDArray[np.float32],
    signal_to_noise: float,
    random: np.random.Generator,
) -> NDArray[np.intp]:
    noise_rms = np.float32(1 / math.sqrt(signal_to_noise))
    values = images
    for depth, layer in enumerate(network.layers):
        if depth:
            values = np.maximum(values, 0)
        norm = np.sqrt(np.sum(values**2, axis=1, keepdims=True) + np.float32(_TINY))
        values = (values / norm) @ _unit_rms(layer).T
        if noise_rms:
            values += noise_rms * random.standard_normal(values.shape, dtype=np.float32)
    classes: NDArray[np.intp] = np.argmax(values, axis=1)
    return classes


def with_measured_accuracy(
    network: Network,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    signal_to_noise: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0),
    seeds: int = 5,
) -> Network:
    """The network with its accuracies on these images added to its provenance.

    One entry without noise, and one per F with the mean over noise seeds 0, 1, … and its spread.
    """
    exact = noisy_accuracy(network, images, labels, math.inf, 0)
    found = {"accuracy noise-free": f"{exact:.4f} on {len(images)} images"}
    for ratio in signal_to_noise:
        runs = [noisy_accuracy(network, images, labels, ratio, seed) for seed in range(seeds)]
        found[f"accuracy at F = {ratio:g}"] = (
            f"{np.mean(runs):.4f} on {len(images)} images, "
            f"mean of {seeds} noise seeds from {min(runs):.4f} to {max(runs):.4f}"
        )
    return replace(network, provenance={**network.provenance, **found})
