"""Bits that readings along directions tell: known answers, principal modes beside the bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.copies.spend import honest_noise
from labctl.protocols.encoding import unit_rms
from labctl.protocols.leakage.network import network_bits_per_mode, spectrum_of
from labctl.protocols.leakage.prior_free import prior_free_bits_per_mode
from labctl.studies.attacks.attack import carry_out
from labctl.studies.attacks.copies.principal_modes import PrincipalModes
from labctl.studies.attacks.copies.read_bits import bits_per_weight

GENERATOR = np.random.default_rng(4)
LAYER = GENERATOR.standard_normal((50, 6)).astype(np.float32) * np.arange(1, 7)
NETWORK = Network((LAYER,), "one", {})


def test_one_reading_of_one_direction_tells_half_a_log_of_one_plus_the_ratio() -> None:
    direction = GENERATOR.standard_normal((1, 6))
    rows = unit_rms(LAYER).astype(np.float64)
    brightness = np.mean(rows**2, axis=1)
    # Rows share one covariance; the reader knows how bright each of them is.
    variance = float(np.mean((rows @ direction[0]) ** 2 / brightness))
    look = (direction, 1.7, np.array([2.5]))
    expected = np.log2(1.0 + 1.7**2 * variance * brightness / 2.5).sum() / 2.0
    assert bits_per_weight(NETWORK, [[look]]) * LAYER.size == pytest.approx(expected)


def test_two_like_looks_tell_what_one_of_half_the_noise_tells() -> None:
    directions = GENERATOR.standard_normal((3, 6))
    noise = np.array([1.0, 2.0, 3.0])
    twice = bits_per_weight(NETWORK, [[(directions, 1.0, noise)] * 2])
    assert twice == pytest.approx(bits_per_weight(NETWORK, [[(directions, 1.0, noise / 2.0)]]))


def test_no_look_tells_nothing() -> None:
    assert bits_per_weight(NETWORK, [[]]) == 0.0


@pytest.mark.parametrize("mean_photons", [0.5, 4.0])
@pytest.mark.parametrize("queries", [1, 10])
def test_principal_modes_through_the_verdict_learn_less_than_the_bounds(
    small: Any, mean_photons: float, queries: int
) -> None:
    """At honest noise: accepted, below this network's bound and below the prior-free one."""
    settings = small.settings(mean_photons, 1.4, seed=3)
    images = LabelledImages(small.judged.images[:queries], small.judged.labels[:queries])
    outcome = carry_out(PrincipalModes(small.public), small.network, settings, images)
    assert not outcome.caught
    learned = outcome.learned.weights_bits_network
    assert learned is not None
    noise = honest_noise(small.network.sizes, settings)
    # Half a mode per weight.
    prior_free = 0.5 * prior_free_bits_per_mode(mean_photons, 1.0, noise)
    own = 0.5 * network_bits_per_mode(spectrum_of(small.network), mean_photons, 1.0, noise)
    assert 0.0 < learned < queries * own < queries * prior_free
