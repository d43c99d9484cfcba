"""A network is cut down to what counts, trained on, and filled up with zeros that are not sent."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from labctl.data.models import Network, load_network, save_network
from labctl.errors import SettingError
from labctl.protocols.carried import carried
from labctl.studies.training.loop import train
from labctl.studies.training.pruning import Pruning, pruned
from labctl.studies.training.settings import TrainingSettings

needs_training = pytest.mark.skipif(
    find_spec("jax") is None or find_spec("optax") is None,
    reason="JAX or Optax is not installed (extra test-full)",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """9-6-3 of which inputs 1 and 4 count little, neuron 2 is never lit, neuron 5 feeds little."""
    random = np.random.default_rng(1)
    first, second = (random.uniform(0.5, 1.0, shape) for shape in ((6, 9), (3, 6)))
    first[:, [1, 4]] *= 1e-3
    first[2] *= -1.0
    second[:, 5] *= 1e-3
    path = tmp_path / "net.safetensors"
    layers = (first.astype(np.float32), second.astype(np.float32))
    save_network(Network(layers, "net", {}), path)
    return path


def images(count: int = 40, seed: int = 2) -> np.ndarray:
    drawn = np.random.default_rng(seed).random((count, 9), dtype=np.float32)
    drawn[:, 7] *= 0.0
    return drawn


def test_what_counts_least_goes_first(file: Path) -> None:
    start = pruned(Pruning(str(file), inputs=6), (9, 4, 3), images())
    assert start.inputs.tolist() == [0, 2, 3, 5, 6, 8]
    network = load_network(file)
    kept = np.array([0, 1, 3, 4])
    first = network.layers[0][np.ix_(kept, start.inputs)]
    np.testing.assert_allclose(start.layers[0], first / np.sqrt(np.mean(first**2)), rtol=1e-5)
    second = network.layers[1][:, kept]
    np.testing.assert_allclose(start.layers[1], second / np.sqrt(np.mean(second**2)), rtol=1e-5)


@needs_training
def test_what_is_not_kept_is_exact_zeros_that_are_not_sent(file: Path) -> None:
    settings = TrainingSettings(
        sizes=(9, 4, 3),
        epochs=2,
        batch_size=10,
        signal_to_noise=4.0,
        initial_rms=0.1,
        pruning=Pruning(str(file), inputs=6),
    )
    labels = (images()[:, :3].argmax(axis=1)).astype(np.uint8)
    network = train(settings, images(), labels, lambda report: None)
    assert network.sizes == (9, 4, 3)
    assert carried(network).network.sizes == (6, 4, 3)
    again = train(settings, images(), labels, lambda report: None)
    assert again.sha256 == network.sha256


@pytest.mark.parametrize(
    ("sizes", "inputs"), [((9, 7, 3), 6), ((9, 4, 2), 6), ((8, 4, 3), 6), ((9, 4, 3), 10)]
)
def test_what_does_not_fit_in_the_network_is_refused(
    file: Path, sizes: tuple[int, ...], inputs: int
) -> None:
    with pytest.raises(SettingError, match="within 9-6-3"):
        pruned(Pruning(str(file), inputs=inputs), sizes, images()[:, : sizes[0]])


def test_no_inputs_at_all_are_refused() -> None:
    with pytest.raises(SettingError, match="1 or more"):
        Pruning("noise-aware", inputs=0)
