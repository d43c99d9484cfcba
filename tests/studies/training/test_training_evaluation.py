"""What a network reaches is measured through the same channel that it is trained with."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.studies.training.channel import IDEAL_CHANNEL, TrainingChannel, levels, value_limits
from labctl.studies.training.evaluation import (
    confusion,
    measured_accuracies,
    noisy_accuracy,
    with_measured_accuracy,
)

IDENTITY = Network((np.eye(4, dtype=np.float32),), "identity", {"made": "by hand"})


def one_hot(count: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    labels = (np.arange(count) % 4).astype(np.uint8)
    return np.eye(4, dtype=np.float32)[labels], labels


def test_accuracy_follows_the_noise_in_closed_form() -> None:
    """Values are 2 (unit RMS of the identity) for the class, 0 for the others, noise 1/sqrt F.

    The class is read if it beats three others: the integral of phi(t - 2 sqrt F) Phi(t)^3.
    """
    images, labels = one_hot(20_000)
    t = np.linspace(-8, 12, 4001)
    below = 0.5 * (1 + np.vectorize(math.erf)(t / math.sqrt(2)))
    for ratio in (0.3, 1.0):
        density = np.exp(-((t - 2 * math.sqrt(ratio)) ** 2) / 2) / math.sqrt(2 * math.pi)
        expected = float(np.sum(density * below**3) * (t[1] - t[0]))
        # 20,000 images: five standard errors are at most 0.018.
        assert noisy_accuracy(IDENTITY, images, labels, ratio, 0) == pytest.approx(
            expected, abs=0.018
        )


def test_technical_noise_is_a_lower_signal_to_noise() -> None:
    images, labels = one_hot(20_000)
    plain = noisy_accuracy(IDENTITY, images, labels, 0.4, 0)
    # Twice the variance at twice the F: the very same noise.
    technical = TrainingChannel(technical_noise=1.0)
    assert noisy_accuracy(IDENTITY, images, labels, 0.8, 0, technical) == pytest.approx(
        plain, abs=1e-3
    )


def test_without_noise_the_seed_does_not_matter() -> None:
    images, labels = one_hot(40)
    assert noisy_accuracy(IDENTITY, images, labels, math.inf, 0) == 1.0
    coarse = TrainingChannel(technical_noise=5.0, weight_bits=2, value_bits=2)
    assert noisy_accuracy(IDENTITY, images, labels, math.inf, 1, coarse) == 1.0


def test_every_ratio_is_measured_and_told() -> None:
    images, labels = one_hot(400)
    points = measured_accuracies(IDENTITY, images, labels, (0.5, 2.0), seeds=3)
    assert [point.signal_to_noise for point in points] == [0.5, 2.0, math.inf]
    assert [point.seeds for point in points] == [3, 3, 1]
    for point in points:
        assert point.lowest <= point.accuracy <= point.highest
        share = point.accuracy
        assert point.standard_error == pytest.approx(math.sqrt(share * (1 - share) / 400))
    told = with_measured_accuracy(IDENTITY, images, labels, (0.5,), seeds=3).provenance
    assert told["made"] == "by hand"
    assert told["accuracy noise-free"] == "1.0000 on 400 images"
    assert told["accuracy at F = 0.5"].startswith(f"{points[0].accuracy:.4f} on 400 images, mean")


def test_confusions_are_counted_by_true_class() -> None:
    images, labels = one_hot(400)
    counts = confusion(IDENTITY, images, labels, 0.5, 0)
    assert counts.sum(axis=1).tolist() == [100] * 4
    assert np.trace(counts) / 400 == noisy_accuracy(IDENTITY, images, labels, 0.5, 0)
    shifted = confusion(IDENTITY, images, (labels + 1) % 4, math.inf, 0)
    np.testing.assert_array_equal(shifted, 100 * np.roll(np.eye(4), 1, axis=0))


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.nan])
def test_a_ratio_that_cannot_be_is_refused(ratio: float) -> None:
    images, labels = one_hot(4)
    with pytest.raises(SettingError, match="signal_to_noise"):
        noisy_accuracy(IDENTITY, images, labels, ratio, 0)


@settings(deadline=None)
@given(st.integers(2, 16), st.integers(0, 2**32 - 1))
def test_a_modulator_has_as_many_levels_as_its_bits_allow(bits: int, seed: int) -> None:
    unit = np.random.default_rng(seed).standard_normal((5, 7)).astype(np.float32)
    sent = levels(np, TrainingChannel(weight_bits=bits), unit)
    largest = np.abs(unit).max()
    step = largest / (2 ** (bits - 1) - 1)
    assert np.abs(sent).max() == pytest.approx(largest, rel=1e-5)
    assert np.abs(sent - unit).max() <= step / 2 * 1.001
    np.testing.assert_allclose(sent / step, np.round(sent / step), atol=0.01)
    assert levels(np, IDEAL_CHANNEL, unit) is unit


@settings(deadline=None)
@given(st.integers(2, 20), st.floats(0.01, 100.0), st.floats(0.0, 10.0))
def test_a_digitizer_covers_its_range_in_steps(bits: int, ratio: float, extra: float) -> None:
    channel = TrainingChannel(technical_noise=extra, value_bits=bits, value_range=3.0)
    step, low, high = value_limits(np, channel, ratio)
    assert low == pytest.approx(-3.0 * math.sqrt(1 + extra + ratio))
    assert (high - low) / step == pytest.approx(2**bits - 1)
