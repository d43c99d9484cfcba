"""Levels that the drive sends are in the network written, and dither blurs them in their cells."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.encoding import unit_rms
from labctl.protocols.weight_distribution import WeightsKind
from labctl.protocols.weight_search import look_at
from labctl.studies.training.channel import TrainingChannel, dithered, levels
from labctl.studies.training.evaluation import noisy_accuracy
from labctl.studies.training.loop import train
from labctl.studies.training.settings import TrainingSettings

needs_training = pytest.mark.skipif(
    find_spec("jax") is None or find_spec("optax") is None,
    reason="JAX or Optax is not installed (extra test-full)",
)


SMALL = TrainingSettings(
    sizes=(16, 24, 3), epochs=6, batch_size=20, learning_rate=0.01, signal_to_noise=4.0
)


def lessons(count: int = 400) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return images whose brightest third is their label."""
    images = np.random.default_rng(1).random((count, 16), dtype=np.float32)
    parts = [images[:, first::3].mean(axis=1) for first in range(3)]
    return images, np.argmax(parts, axis=0).astype(np.uint8)


def trained(channel: TrainingChannel) -> Network:
    return train(replace(SMALL, channel=channel), *lessons(), lambda report: None)


@needs_training
@pytest.mark.long
def test_a_network_trained_for_few_bits_has_these_levels() -> None:
    network = trained(TrainingChannel(weight_bits=3))
    for found in look_at(network, 50.0).layers:
        assert found.kind is WeightsKind.LEVELS
        assert found.levels <= 7
    # Rounding what is rounded changes nothing.
    for layer in network.layers:
        np.testing.assert_allclose(
            levels(np, TrainingChannel(weight_bits=3), layer), layer, atol=1e-6
        )


@needs_training
def test_dither_over_the_whole_cell_leaves_no_levels_and_the_same_seed_the_same_network() -> None:
    channel = TrainingChannel(weight_bits=3, weight_dither=1.0)
    network = trained(channel)
    assert look_at(network, 50.0).layers[0].kind is WeightsKind.CONTINUOUS
    assert trained(channel).sha256 == network.sha256
    images, labels = lessons()
    # Measured as written: no second rounding takes the dither off.
    assert noisy_accuracy(network, images, labels, 4.0, 0, channel) == noisy_accuracy(
        network, images, labels, 4.0, 0
    )


def test_dither_stays_within_its_share_of_the_cell_and_keeps_the_power() -> None:
    random = np.random.default_rng(2)
    unit = unit_rms(random.standard_normal((50, 60)).astype(np.float32))
    channel = TrainingChannel(weight_bits=3, weight_dither=0.5)
    rounded = levels(np, channel, unit)
    step = float(np.abs(unit).max()) / 3.0
    moved = dithered(np, channel, unit, random.random(unit.shape))
    assert float(np.mean(moved**2)) == pytest.approx(1.0, abs=1e-5)
    # Uniform over half a cell adds (step/2)^2/12 to the power, which is then taken off again.
    power = float(np.mean(rounded**2)) + (0.5 * step) ** 2 / 12.0
    away = moved * np.sqrt(power) - rounded
    assert np.abs(away).max() < 0.25 * step * 1.03
    assert float(np.std(away)) == pytest.approx(0.5 * step / np.sqrt(12.0), rel=0.05)


@pytest.mark.parametrize(("bits", "dither"), [(None, 0.5), (3, 1.5), (3, -0.1)])
def test_dither_needs_levels_and_stays_in_the_cell(bits: int | None, dither: float) -> None:
    with pytest.raises(SettingError, match="weight_dither"):
        TrainingChannel(weight_bits=bits, weight_dither=dither)


def test_dither_is_told_only_where_it_is_used() -> None:
    assert "weight_dither" not in json.loads(SMALL.as_json())["channel"]
    blurred = replace(SMALL, channel=TrainingChannel(weight_bits=3, weight_dither=1.0))
    assert json.loads(blurred.as_json())["channel"]["weight_dither"] == 1.0
