"""Training is repeatable from its seed, and noise in the loop pays where the light is weak."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from labctl.data.mnist import LabelledImages, load_test_images
from labctl.data.models import Network
from labctl.errors import DatasetError, SettingError, UsageError
from labctl.studies.training.loop import (
    EpochReport,
    TrainingSettings,
    noisy_accuracy,
    train,
    with_measured_accuracy,
)

needs_training = pytest.mark.skipif(
    find_spec("jax") is None or find_spec("optax") is None,
    reason="JAX or Optax is not installed (extra test-full)",
)


SMALL = TrainingSettings(
    sizes=(784, 32, 10), epochs=3, batch_size=50, signal_to_noise=1.0, max_shift_px=0.5
)
LEARNT, HELD_OUT = 2000, 1000


@pytest.fixture(scope="module")
def digits() -> LabelledImages:
    return load_test_images()


def trained(settings: TrainingSettings, digits: LabelledImages, **names: str) -> Network:
    return train(settings, digits.images[:LEARNT], digits.labels[:LEARNT], _ignore, **names)


def _ignore(report: EpochReport) -> None:
    """Take a report and do nothing."""


def accuracy(network: Network, digits: LabelledImages, ratio: float, seed: int = 1) -> float:
    part = slice(LEARNT, LEARNT + HELD_OUT)
    return noisy_accuracy(network, digits.images[part], digits.labels[part], ratio, seed)


@needs_training
def test_a_small_network_learns_and_reports_every_epoch(digits: LabelledImages) -> None:
    reports: list[EpochReport] = []
    network = train(SMALL, digits.images[:LEARNT], digits.labels[:LEARNT], reports.append)
    assert [(report.epoch, report.epochs) for report in reports] == [(1, 3), (2, 3), (3, 3)]
    assert reports[-1].loss < reports[0].loss
    assert reports[-1].accuracy > reports[0].accuracy
    # 1,000 unseen images: chance is 0.1, five standard errors of 0.8 are 0.06.
    assert accuracy(network, digits, math.inf) > 0.75
    assert network.sizes == (784, 32, 10)
    assert [float(np.mean(layer**2)) for layer in network.layers] == pytest.approx([1, 1], 1e-5)


@needs_training
def test_the_seed_decides_every_bit(digits: LabelledImages) -> None:
    first = trained(SMALL, digits)
    assert trained(SMALL, digits).sha256 == first.sha256
    assert trained(replace(SMALL, seed=1), digits).sha256 != first.sha256


@needs_training
@pytest.mark.long
def test_noise_in_the_loop_pays_where_the_light_is_weak(digits: LabelledImages) -> None:
    long = replace(SMALL, epochs=15, signal_to_noise=0.2)
    aware = trained(long, digits)
    unaware = trained(replace(long, signal_to_noise=None, initial_rms=0.05), digits)
    # 1,000 images and 5 noise seeds: the standard error of a mean is below 0.015.
    gain = np.mean(
        [
            accuracy(aware, digits, 0.2, seed) - accuracy(unaware, digits, 0.2, seed)
            for seed in range(5)
        ]
    )
    assert gain > 0.15


@needs_training
def test_where_a_network_comes_from_is_kept(digits: LabelledImages) -> None:
    network = trained(SMALL, digits, name="mine")
    assert network.name == network.provenance["recipe"] == "mine"
    assert {"settings", "seed", "data_sha256", "jax", "optax"} <= set(network.provenance)
    others = train(SMALL, digits.images[1:][:LEARNT], digits.labels[1:][:LEARNT], _ignore)
    assert others.provenance["data_sha256"] != network.provenance["data_sha256"]
    measured = with_measured_accuracy(network, digits.images[:500], digits.labels[:500], (0.3,), 2)
    assert measured.sha256 == network.sha256
    found = noisy_accuracy(network, digits.images[:500], digits.labels[:500], math.inf, 0)
    assert measured.provenance["accuracy noise-free"] == f"{found:.4f} on 500 images"
    assert "mean of 2 noise seeds" in measured.provenance["accuracy at F = 0.3"]


def test_images_that_do_not_fit_are_refused(digits: LabelledImages) -> None:
    images, labels = digits.images[:100], digits.labels[:100]
    with pytest.raises(DatasetError, match=r"must be \(n, 784\)"):
        train(SMALL, images[:, 1:], labels, _ignore)
    with pytest.raises(DatasetError, match=r"must be \(100,\)"):
        train(SMALL, images, labels[1:], _ignore)
    with pytest.raises(DatasetError, match=r"must be in \[0, 1\]"):
        train(SMALL, images * 255, labels, _ignore)
    with pytest.raises(DatasetError, match=r"must be in \[0, 1\]"):
        train(SMALL, images * np.float32(np.nan), labels, _ignore)
    with pytest.raises(DatasetError, match="must be below 9"):
        train(replace(SMALL, sizes=(784, 9)), images, labels, _ignore)
    with pytest.raises(SettingError, match="batch_size = 50: must be at most 49"):
        train(SMALL, images[:49], labels[:49], _ignore)
    with pytest.raises(SettingError, match="batch_size = 50: must be at most 45"):
        train(replace(SMALL, held_out=0.1), images[:50], labels[:50], _ignore)
    with pytest.raises(DatasetError, match="all labels are 7: must be of two classes or more"):
        train(SMALL, images, np.full_like(labels, 7), _ignore)


@needs_training
@pytest.mark.parametrize("module", ["jax", "optax"])
def test_training_without_the_extra_says_what_to_install(
    digits: LabelledImages, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        UsageError, match=rf"training needs {module}.*pip install 'labctl\[train\]'"
    ):
        trained(SMALL, digits)


def test_importing_the_module_does_not_load_jax() -> None:
    code = "import sys, labctl.studies.training.loop; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
