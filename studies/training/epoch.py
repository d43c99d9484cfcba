"""One pass over the images in JAX: every batch through the noisy layers, and a step of Adam.

Random numbers come from keys alone, so that an epoch can be repeated to the same bits.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from labctl.studies.training.channel import TINY, TrainingChannel, dithered, value_limits
from labctl.studies.training.extra import optional
from labctl.studies.training.pictures import moved_pictures
from labctl.studies.training.settings import TrainingSettings

if TYPE_CHECKING:
    from jax import Array

    Weights = dict[str, Any]


def initial_weights(settings: TrainingSettings, key: Array) -> Weights:
    """Draw layers of normal weights; the scale of the outputs starts at 1."""
    jax = optional("jax")
    shapes = list(zip(settings.sizes[1:], settings.sizes[:-1], strict=True))
    layers = [
        settings.initial_rms * jax.random.normal(part, shape)
        for part, shape in zip(jax.random.split(key, len(shapes)), shapes, strict=True)
    ]
    return {"layers": layers, "log_scale": jax.numpy.zeros(())}


def run_epoch(
    settings: TrainingSettings, optimiser: Any, state: Any, key: Array, data: tuple[Array, ...]
) -> Any:
    """One pass over the images: new state, then loss and accuracy of every batch.

    data: images, their labels, and the indices of the inputs that are fed (None: all).
    """
    jax = optional("jax")
    images, labels, inputs = data
    batches = len(images) // settings.batch_size
    order_key, batch_key = jax.random.split(key)
    order = jax.random.permutation(order_key, len(images))[: batches * settings.batch_size]

    def step(state: Any, batch: Any) -> Any:
        weights, moments, mean = state
        rows, part = batch
        shift_key, noise_key = jax.random.split(part)
        moved = fed(moved_pictures(settings.max_shift_px, images[rows], shift_key), inputs)
        ratio = _drawn_signal_to_noise(settings, noise_key)
        gradient = jax.value_and_grad(partial(noisy_loss, settings, ratio), has_aux=True)
        (loss, hits), slope = gradient(weights, moved, labels[rows], noise_key)
        change, moments = optimiser.update(slope, moments)
        weights = jax.tree.map(lambda old, new: old + new, weights, change)
        weights["layers"] = [_cut(settings, layer) for layer in weights["layers"]]
        if mean is not None:
            keep = settings.averaging
            mean = jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, mean, weights)
            mean["layers"] = [_cut(settings, layer) for layer in mean["layers"]]
        return (weights, moments, mean), (loss, hits)

    rows = order.reshape(batches, settings.batch_size)
    return jax.lax.scan(step, state, (rows, jax.random.split(batch_key, batches)))


def fed(images: Array, inputs: Array | None) -> Any:
    """Return the values of images (n, N) that are fed."""
    return images if inputs is None else images[:, inputs]


def _drawn_signal_to_noise(settings: TrainingSettings, key: Array) -> Any:
    """Return the F to train at, or one per image (batch, 1) where the settings give a range."""
    low, high = settings.signal_to_noise_range
    if low == high:
        return low
    jax = optional("jax")
    # Layers draw their noise from the key with their number folded in.
    own = jax.random.fold_in(key, len(settings.sizes))
    limits = {"minval": math.log(low), "maxval": math.log(high)}
    return jax.numpy.exp(jax.random.uniform(own, (settings.batch_size, 1), **limits))


def _cut(settings: TrainingSettings, layer: Array) -> Any:
    """Cut a layer's outliers at the peak limit."""
    if settings.peak_limit is None:
        return layer
    jnp = optional("jax").numpy
    largest = settings.peak_limit * jnp.sqrt(jnp.mean(layer**2))
    return jnp.clip(layer, -largest, largest)


def noisy_loss(
    settings: TrainingSettings,
    signal_to_noise: Any,
    weights: Weights,
    images: Array,
    labels: Array,
    key: Array,
) -> Any:
    """Cross-entropy in nats of the measured outputs times a trained scale, and the accuracy.

    signal_to_noise: F, one for all images or one per image (n, 1); math.inf for no noise.
    """
    jax = optional("jax")
    jnp = jax.numpy
    values = images
    for depth, layer in enumerate(weights["layers"]):
        if depth:
            values = jax.nn.relu(values)
        part = jax.random.fold_in(key, depth)
        values = _measured(settings.channel, signal_to_noise, layer, values, part)
    hits = jnp.mean(jnp.argmax(values, axis=1) == labels)
    logs = jax.nn.log_softmax(values * jnp.exp(weights["log_scale"]), axis=1)
    return -jnp.mean(jnp.take_along_axis(logs, labels[:, None], axis=1)), hits


def _measured(channel: TrainingChannel, ratio: Any, layer: Array, inputs: Array, key: Array) -> Any:
    """Return one layer's measured values, in RMS of the noise that F counts."""
    jax = optional("jax")
    jnp = jax.numpy
    unit = layer * jax.lax.rsqrt(jnp.mean(layer**2))
    if channel.weight_bits is not None:
        moves = jax.random.uniform(jax.random.fold_in(key, 1), unit.shape)
        unit = _straight_through(unit, dithered(jnp, channel, unit, moves))
    norm = jax.lax.rsqrt(jnp.sum(inputs**2, axis=1, keepdims=True) + TINY)
    values = (inputs * norm) @ unit.T
    if not (isinstance(ratio, float) and ratio == math.inf):
        amplitude = math.sqrt(ratio) if isinstance(ratio, float) else jnp.sqrt(ratio)
        noise = jax.random.normal(key, values.shape)
        if channel.technical_noise:
            noise *= math.sqrt(1 + channel.technical_noise)
        values = amplitude * values + noise
    if channel.value_bits is None:
        return values
    step, low, high = value_limits(jnp, channel, ratio)
    clipped = jnp.clip(values, low, high)
    return _straight_through(clipped, jnp.round(clipped / step) * step)


def _straight_through(exact: Array, rounded: Array) -> Any:
    """Return what was rounded with the gradient of what was not (Bengio, arXiv:1308.3432)."""
    return exact + optional("jax").lax.stop_gradient(rounded - exact)
