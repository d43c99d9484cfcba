"""The shipped networks classify as well as their files say, by plain NumPy."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest

from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import SHIPPED_NETWORKS, Network, load_network
from labctl.studies.training.loop import RECIPES


@pytest.fixture(scope="module")
def digits() -> LabelledImages:
    return load_test_images()


def share_correct(network: Network, digits: LabelledImages, ratio: float, seed: int) -> float:
    """Classify all images: unit-L2 inputs, unit-RMS weights, noise of variance 1/F."""
    random = np.random.default_rng([seed, 31])
    values = digits.images
    for layer in network.layers:
        inputs = np.maximum(values, 0)
        inputs = inputs / np.linalg.norm(inputs, axis=1, keepdims=True)
        values = inputs @ (layer / np.sqrt(np.mean(layer**2))).T
        if ratio < math.inf:
            noise = random.standard_normal(values.shape, dtype=np.float32)
            values = values + noise / np.float32(math.sqrt(ratio))
    return float(np.mean(np.argmax(values, axis=1) == digits.labels))


def stated(network: Network, definition: str) -> float:
    return float(network.provenance[definition].split()[0])


@pytest.mark.parametrize("name", SHIPPED_NETWORKS)
def test_a_shipped_network_says_how_it_was_trained(name: str) -> None:
    network = load_network(name)
    assert (network.name, network.provenance["recipe"]) == (name, name)
    assert network.sizes == RECIPES[name].sizes
    expected = json.loads(RECIPES[name].as_json())
    assert json.loads(network.provenance["settings"]) == expected
    assert re.fullmatch("[0-9a-f]{64}", network.provenance["data_sha256"])
    assert network.provenance["images"] == "60000"


@pytest.mark.parametrize(
    ("name", "least"),
    [("reference", 0.98), ("noise-aware", 0.98), ("deep", 0.985), ("pruned", 0.975)],
)
def test_noise_free_accuracy(digits: LabelledImages, name: str, least: float) -> None:
    network = load_network(name)
    found = share_correct(network, digits, math.inf, 0)
    assert found >= least
    # Rounding may turn a few images at the edge between two classes.
    assert found == pytest.approx(stated(network, "accuracy noise-free"), abs=0.0005)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("reference", 0.5, 0.7), ("noise-aware", 0.97, 1.0), ("deep", 0.98, 1.0)],
)
def test_accuracy_at_low_light(
    digits: LabelledImages, name: str, least: float, most: float
) -> None:
    network = load_network(name)
    found = float(np.mean([share_correct(network, digits, 0.3, seed) for seed in range(5)]))
    assert least <= found <= most
    # 10,000 images and 5 seeds on either side: the noise of a mean is below 0.0025.
    assert found == pytest.approx(stated(network, "accuracy at F = 0.3"), abs=0.01)
