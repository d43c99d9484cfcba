"""Training with the physical noise in the loop: what is measured is what is learned from.

Every layer is simulated as it runs on light: unit-L2 input, unit-RMS weights times √F, unit
Gaussian noise on each measured value. F is the signal-to-noise of one inner product.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labctl.data.models import Network
from labctl.errors import DatasetError, SettingError, UsageError
from labctl.studies.training.channel import dithered
from labctl.studies.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from labctl.studies.training.dataset import held_out_split
from labctl.studies.training.epoch import fed, initial_weights, noisy_loss, run_epoch
from labctl.studies.training.evaluation import (
    noisy_accuracy,
    unit_rms,
    with_measured_accuracy,
)
from labctl.studies.training.extra import optional
from labctl.studies.training.pruning import pruned
from labctl.studies.training.settings import RECIPES, TrainingSettings

if TYPE_CHECKING:
    from jax import Array

    Weights = dict[str, Any]

# Apart from the drawing of held-out images, which starts from the seed and their number.
_DITHER_STREAM = 2**32

__all__ = [
    "RECIPES",
    "EpochReport",
    "Training",
    "TrainingSettings",
    "noisy_accuracy",
    "train",
    "with_measured_accuracy",
]


@dataclass(frozen=True)
class EpochReport:
    """Mean loss (nats) and accuracy over one pass, as trained: with noise and moved images.

    The held-out figures are of the network so far on the images that are not learned from, at the
    settings' working point, None where there are none; `best` has the lowest loss on them so far.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    held_out_loss: float | None = None
    held_out_accuracy: float | None = None
    best: bool = True


def train(
    settings: TrainingSettings,
    images: NDArray[np.float32],
    labels: NDArray[np.uint8],
    on_epoch: Callable[[EpochReport], None],
    name: str = "trained",
) -> Network:
    """Train a bias-free dense ReLU network; same settings, images and machine, same bits.

    images: (n, inputs) in [0, 1], labels: (n,) below the number of classes, n at least one batch.
    Layers of the returned network have unit RMS. Raises DatasetError, SettingError, and
    UsageError when jax or optax is not installed.
    """
    training = Training(settings, images, labels)
    for report in training.run():
        on_epoch(report)
    return training.network(name)


@dataclass(frozen=True, eq=False)
class _Done:
    """What a run has come to: weights, moments and running mean; the weights to keep; reports."""

    state: Any
    best: Weights
    reports: tuple[EpochReport, ...]


class Training:
    """One training run, epoch by epoch; can be left after any of them and gone on with later.

    Every pass visits the images in a new order and leaves out the last incomplete batch. All
    random numbers of an epoch come from the seed and the epoch's number.
    """

    def __init__(
        self, settings: TrainingSettings, images: NDArray[np.float32], labels: NDArray[np.uint8]
    ) -> None:
        _check_images(settings, images, labels)
        self.settings = settings
        self._data_sha256 = _data_sha256(images, labels)
        self._count = len(images)
        jax = optional("jax")
        learned, held_out = held_out_split(settings.seed, settings.held_out, len(images))
        self._start = None
        if settings.pruning is not None:
            self._start = pruned(settings.pruning, settings.sizes, images[learned])
        inputs = None if self._start is None else jax.numpy.asarray(self._start.inputs)
        self._learned = (*_on_device(images[learned], labels[learned]), inputs)
        self._held_out = None
        if held_out.size:
            pictures, names = _on_device(images[held_out], labels[held_out])
            self._held_out = (fed(pictures, inputs), names)
        batches = len(learned) // settings.batch_size
        optional("optax")
        # Compiled code depends on all but the seed.
        optimiser, self._run_epoch, self._measure = _compiled(replace(settings, seed=0), batches)
        self._key, start = jax.random.split(jax.random.key(settings.seed))
        weights = initial_weights(settings, start)
        if self._start is not None:
            weights["layers"] = [
                jax.numpy.asarray(settings.initial_rms * layer) for layer in self._start.layers
            ]
        mean = jax.tree.map(lambda values: values, weights) if settings.averaging else None
        self._done = _Done((weights, optimiser.init(weights), mean), weights, ())

    @property
    def reports(self) -> tuple[EpochReport, ...]:
        """One report for every epoch that is done."""
        return self._done.reports

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the loss on held-out images has stopped falling."""
        return len(self.reports) >= self.settings.epochs or self._out_of_patience

    @property
    def best_epoch(self) -> int:
        """Number of the epoch whose network is kept; 0 before the first is done."""
        return max((report.epoch for report in self.reports if report.best), default=0)

    def run(self) -> Iterator[EpochReport]:
        """Train what is left to be trained, and yield a report after every epoch."""
        while not self.finished:
            yield self._next_epoch()

    def network(self, name: str) -> Network:
        """Return the network so far: of the last epoch, or of the lowest loss on held-out images.

        Raises UsageError before the first epoch is done.
        """
        if not self.reports:
            raise UsageError("no epoch is done yet: there is no network")
        layers = self._sent([unit_rms(np.asarray(layer)) for layer in self._done.best["layers"]])
        if self._start is not None:
            layers = self._start.whole(layers, self.settings.sizes[0])
        return Network(layers, name, self._provenance(name))

    def _sent(self, layers: list[NDArray[np.float32]]) -> tuple[NDArray[np.float32], ...]:
        """Return unit-RMS layers as the drive sends them; the dither is drawn from the seed."""
        channel = self.settings.channel
        if channel.weight_bits is None:
            return tuple(layers)
        random = np.random.default_rng([self.settings.seed, _DITHER_STREAM])
        moved = (dithered(np, channel, one, random.random(one.shape)) for one in layers)
        return tuple(unit_rms(np.asarray(one, np.float32)) for one in moved)

    def save(self, path: Path) -> None:
        """Write all that is needed to continue later; raises UsageError if it cannot be written."""
        leaves = optional("jax").tree.leaves((self._done.state, self._done.best))
        reports = [list(vars(report).values()) for report in self.reports]
        about = (self.settings.as_json(), self._data_sha256)
        save_checkpoint(path, Checkpoint(*about, reports, [np.asarray(leaf) for leaf in leaves]))

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint, to the same bits as if the run had never been left.

        Raises UsageError if it is damaged, or is of other settings or images.
        """
        jax = optional("jax")
        checkpoint = load_checkpoint(path, self.settings.as_json(), self._data_sha256)
        own, structure = jax.tree.flatten((self._done.state, self._done.best))
        shapes = [leaf.shape for leaf in own]
        if [leaf.shape for leaf in checkpoint.leaves] != shapes:
            raise UsageError(f"{path}: damaged checkpoint (weights of another shape)")
        leaves = [jax.numpy.asarray(leaf) for leaf in checkpoint.leaves]
        state, best = jax.tree.unflatten(structure, leaves)
        reports = tuple(EpochReport(*values) for values in checkpoint.reports)
        self._done = _Done(state, best, reports)

    @property
    def _out_of_patience(self) -> bool:
        patience = self.settings.patience
        return patience is not None and len(self.reports) - self.best_epoch >= patience

    def _next_epoch(self) -> EpochReport:
        jax = optional("jax")
        done = len(self.reports)
        key = jax.random.fold_in(self._key, done)
        state, (losses, hits) = self._run_epoch(self._done.state, key, self._learned)
        loss, accuracy = float(losses.mean()), float(hits.mean())
        if not math.isfinite(loss):
            raise SettingError(
                "learning_rate", self.settings.learning_rate, "lower: the loss is not finite"
            )
        weights = state[0] if state[2] is None else state[2]
        held_out_loss, held_out_accuracy = self._on_held_out(weights)
        lowest = min((r.held_out_loss or 0.0 for r in self.reports), default=math.inf)
        best = held_out_loss is None or held_out_loss < lowest
        report = EpochReport(
            done + 1, self.settings.epochs, loss, accuracy, held_out_loss, held_out_accuracy, best
        )
        kept = weights if best else self._done.best
        # One assignment: an interruption must not part the weights from the count of epochs.
        self._done = _Done(state, kept, (*self.reports, report))
        return report

    def _on_held_out(self, weights: Weights) -> tuple[float, float] | tuple[None, None]:
        """Return loss and accuracy on held-out images, with the same noise after every epoch."""
        if self._held_out is None:
            return None, None
        key = optional("jax").random.fold_in(self._key, self.settings.epochs)
        loss, accuracy = self._measure(weights, *self._held_out, key)
        return float(loss), float(accuracy)

    def _provenance(self, name: str) -> dict[str, str]:
        packages = ("labctl", "jax", "jaxlib", "optax", "numpy")
        return {
            "recipe": name,
            "settings": self.settings.as_json(),
            "seed": str(self.settings.seed),
            "images": str(self._count),
            "data_sha256": self._data_sha256,
            "epochs done": f"{len(self.reports)}, weights of epoch {self.best_epoch}",
            **{package: version(package) for package in packages},
        }


def _check_images(
    settings: TrainingSettings, images: NDArray[np.float32], labels: NDArray[np.uint8]
) -> None:
    inputs, classes = settings.sizes[0], settings.sizes[-1]
    if images.ndim != 2 or images.shape[1] != inputs:
        raise DatasetError(f"images have shape {images.shape}: must be (n, {inputs})")
    if labels.shape != (len(images),):
        raise DatasetError(f"labels have shape {labels.shape}: must be ({len(images)},)")
    learned, _ = held_out_split(settings.seed, settings.held_out, len(images))
    if len(learned) < settings.batch_size:
        raise SettingError(
            "batch_size", settings.batch_size, f"at most {len(learned)} (all images to learn from)"
        )
    if not (images.min() >= 0 and images.max() <= 1):
        raise DatasetError(f"pixels run from {images.min()} to {images.max()}: must be in [0, 1]")
    if int(labels.max()) >= classes:
        raise DatasetError(f"labels go up to {labels.max()}: must be below {classes}")
    if labels.min() == labels.max():
        raise DatasetError(f"all labels are {labels.max()}: must be of two classes or more")


def _data_sha256(images: NDArray[np.float32], labels: NDArray[np.uint8]) -> str:
    data = hashlib.sha256(np.ascontiguousarray(images, dtype="<f4").tobytes())
    data.update(np.ascontiguousarray(labels, dtype=np.uint8).tobytes())
    return data.hexdigest()


def _on_device(images: NDArray[np.float32], labels: NDArray[np.uint8]) -> tuple[Array, Array]:
    jnp = optional("jax").numpy
    return jnp.asarray(images), jnp.asarray(labels.astype(np.int32))


@lru_cache(maxsize=8)
def _compiled(settings: TrainingSettings, batches: int) -> tuple[Any, Any, Any]:
    """Return Adam, a whole epoch, and the loss at the working point, compiled on first use."""
    jax, optax = optional("jax"), optional("optax")
    steps = settings.epochs * batches
    optimiser = optax.adam(optax.cosine_decay_schedule(settings.learning_rate, steps))
    epoch = jax.jit(partial(run_epoch, settings, optimiser))
    return optimiser, epoch, jax.jit(partial(noisy_loss, settings, settings.working_point))
