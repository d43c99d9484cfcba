"""What a change of the weights does to leakage and to a thief: measures that do not protect.

For each change of the shipped network: the F that keeps 96 %, the closed form and this network's
bound at the light for that F, in bits per weight and in kbit per query, and the accuracy of the
copy that a client makes by reading principal directions at exactly the honest noise. The thief is
simple: directions from public images, noise drawn at the level of single values, no verdict.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import load_network
from labctl.protocols.carried import carried
from labctl.protocols.encoding import modes_of
from labctl.protocols.leakage import holevo_bits_per_mode, prior_free_bits_per_mode
from labctl.protocols.leakage.network import Spectrum, layer_variances, network_bits_per_mode
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver

Reals = npt.NDArray[np.float64]

GAIN = 1.3
ACCURACY = 0.96
SEED = 7
DIRECTIONS = 100
PUBLIC = slice(5000, 10000)
TESTED = slice(0, 5000)


@dataclass(frozen=True, eq=False)
class Changed:
    """A network as it is sent after a change, and what the client feeds and reads.

    `fed`: turns images (B, N) into inputs; `read`: turns a layer's values into those of the
    network's own neurons.
    """

    name: str
    layers: tuple[Reals, ...]
    fed: Callable[[Reals], Reals]
    read: tuple[Callable[[Reals], Reals], ...]


def same(values: Reals) -> Reals:
    """Return the values."""
    return values


def unit(layer: Reals) -> Reals:
    """Return a layer of unit RMS."""
    return layer / math.sqrt(float(np.mean(layer**2)))


def plain(name: str) -> Changed:
    """Return a shipped network as it is sent."""
    sent = carried(load_network(name))
    layers = tuple(layer.astype(float) for layer in sent.network.layers)

    def fed(images: Reals) -> Reals:
        return sent.inputs.taken(images.astype(np.float32)).astype(float)

    return Changed(name, layers, fed, (same, same))


def changes(public: Reals) -> list[Changed]:
    """Return the changes of `noise-aware`, and its narrower, wider and pruned kin."""
    base = plain("noise-aware")
    first, second = base.layers
    random = np.random.default_rng(SEED)
    rms = np.sqrt(np.mean(first**2, axis=1))
    turn = np.linalg.qr(random.standard_normal((784, 784)))[0]
    decoys = random.standard_normal(first.shape) * math.sqrt(float(np.mean(first**2)))
    values, vectors = np.linalg.eigh(first.T @ first / len(first))
    half = np.sqrt(values + 0.01 * values.mean())
    whiten, colour = (vectors / half) @ vectors.T, (vectors * half) @ vectors.T
    return [
        base,
        Changed("rows equalised", (first / rms[:, None], second), same, (lambda y: y * rms, same)),
        Changed("public mixing", (first @ turn, second), lambda x: x @ turn, (same, same)),
        Changed(
            "decoy rows (as many)",
            (np.concatenate([first, decoys]), second),
            same,
            (lambda y: y[:, :784], same),
        ),
        Changed("whitened", (first @ whiten, second), lambda x: x @ colour, (same, same)),
        plain("few-rows"),
        plain("pruned"),
        plain("many-rows"),
    ]


def values_of(one: Changed, images: Reals, ratio: float, seed: int) -> Reals:
    """Return what the client reads of the last layer at signal-to-noise F (inf: no noise)."""
    random = np.random.default_rng(seed)
    values = one.fed(images)
    for depth, (layer, read) in enumerate(zip(one.layers, one.read, strict=True)):
        values = np.maximum(values, 0.0) if depth else values
        norms = np.linalg.norm(values, axis=1, keepdims=True)
        values = (values / np.maximum(norms, 1e-12)) @ unit(layer).T
        if ratio < math.inf:
            values += random.standard_normal(values.shape) / math.sqrt(ratio)
        values = read(values)
    return values


def accuracy(one: Changed, data: LabelledImages, ratio: float) -> float:
    """Return the share of the tested images that the client classifies correctly."""
    named = np.argmax(values_of(one, data.images[TESTED].astype(float), ratio, SEED), axis=1)
    return float(np.mean(named == data.labels[TESTED]))


def needed(one: Changed, data: LabelledImages) -> float:
    """Return the least F for the accuracy, to 3 %."""
    low, high = 0.02, 20.0
    if accuracy(one, data, high) < ACCURACY:
        return math.inf
    while high / low > 1.03:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if accuracy(one, data, middle) >= ACCURACY else (middle, high)
    return high


def stolen(one: Changed, public: Reals, mean_photons: float, queries: int) -> Changed:
    """Return the copy of a thief that reads principal directions at the honest noise g per row.

    A QND reading of strength b adds 1/b SNU and puts b on the other quadrature; sum b = 2 g per
    row, spent on the directions by the square root of their variance.
    """
    random = np.random.default_rng(SEED + 1)
    budget = 2.0 * (2.0 - 2.0 / GAIN) * queries
    layers: list[Reals] = []
    values = one.fed(public)
    for layer, read in zip(one.layers, one.read, strict=True):
        values = np.maximum(values, 0.0) if layers else values
        norms = np.linalg.norm(values, axis=1, keepdims=True)
        inputs = values / np.maximum(norms, 1e-12)
        powers, vectors = np.linalg.eigh(inputs.T @ inputs / len(inputs))
        basis = vectors[:, ::-1][:, :DIRECTIONS]
        sent = unit(layer) * math.sqrt(2.0 * mean_photons)
        along = sent @ basis
        # What is known of each direction beforehand: its variance over the rows (generous).
        prior = np.mean(along**2, axis=0)
        wanted = np.sqrt(prior * powers[::-1][: basis.shape[1]])
        strength = budget * wanted / wanted.sum()
        noise = 1.0 / np.maximum(strength, 1e-12)
        seen = along + random.standard_normal(along.shape) * np.sqrt(noise)
        layers.append((seen * (prior / (prior + noise))) @ basis.T)
        values = read(inputs @ unit(layers[-1]).T)
    return Changed(one.name, tuple(layers), one.fed, one.read)


def main() -> None:
    """Print one line of JSON for each change."""
    data = load_test_images()
    public = data.images[PUBLIC].astype(float)
    added = 2.0 - 2.0 / GAIN
    receiver = CloneReceiver(GAIN, 1.0, IDEAL_HOMODYNE)
    for one in changes(public):
        ratio = needed(one, data)
        row: dict[str, object] = {"change": one.name, "F": ratio}
        if math.isfinite(ratio):
            mean_photons = 0.5 * ratio * receiver.referred_noise
            spectrum = Spectrum(
                np.concatenate([layer_variances(x.astype(np.float32)) for x in one.layers]),
                sum(2 * len(x) * modes_of(x.shape[1]) for x in one.layers),
            )
            weights = sum(layer.size for layer in one.layers)
            modes = weights / 2
            noise = added * sum(len(layer) for layer in one.layers) / modes
            honest = holevo_bits_per_mode(mean_photons, 1.0, noise) / 2
            free = prior_free_bits_per_mode(mean_photons, 1.0, noise) / 2
            own = network_bits_per_mode(spectrum, mean_photons, 1.0, noise) / 2
            copies = {
                str(queries): accuracy(stolen(one, public, mean_photons, queries), data, math.inf)
                for queries in (1, 10)
            }
            row |= {
                "mean_photons": mean_photons,
                "weights": weights,
                "photons": mean_photons * modes,
                "honest": honest,
                "prior_free": free,
                "network": own,
                "kbit_network": own * weights / 1e3,
                "copy": copies,
            }
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
