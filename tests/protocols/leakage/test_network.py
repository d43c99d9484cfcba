"""This network's bound: the spectrum, shipped networks, and attacks that stay below."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from labctl.data.models import load_network
from labctl.protocols.leakage import holevo_bits_per_mode, network, prior_free_bits_per_mode
from labctl.protocols.leakage.direction import entropy_bits, learned_bits
from labctl.protocols.leakage.network import (
    Spectrum,
    layer_variances,
    network_bits_per_mode,
    spectrum_of,
)


@pytest.mark.parametrize(
    ("name", "mean_photons", "gain", "noise", "per_real"),
    [
        ("reference", 4.0, 2.0, 0.0, 0.41257),
        ("noise-aware", 0.57, 1.3, 0.0, 0.03939),
        ("noise-aware", 8.91, 1.0128, 0.0, 0.05785),
        ("noise-aware", 21.0, 1.0048, 0.0, 0.06538),
        ("many-rows", 2.35, 1.024, 0.001, 0.05820),
    ],
)
def test_shipped_networks(
    name: str, mean_photons: float, gain: float, noise: float, per_real: float
) -> None:
    excess = (2.0 - 2.0 / gain) / 392 + noise
    found = network_bits_per_mode(spectrum_of(load_network(name)), mean_photons, 1.0, excess)
    assert found / 2 == pytest.approx(per_real, rel=0.002)
    assert holevo_bits_per_mode(mean_photons, 1.0, excess) < found
    assert found < prior_free_bits_per_mode(mean_photons, 1.0, excess)


@pytest.mark.parametrize(
    ("name", "mean_photons", "transmittance", "noise"),
    [
        ("noise-aware", 21.0, 1.0, (2.0 - 2.0 / 1.0048) / 392),
        ("reference", 0.0015352, 1.0, 2.2598e-5),
        pytest.param("pruned", 800.69, 0.4707, 2.512, marks=pytest.mark.long),
        pytest.param("reference", 1.35, 3e-5, 0.342, marks=pytest.mark.long),
    ],
)
def test_a_little_more_light_or_noise_or_loss_makes_it_a_little_higher(
    name: str, mean_photons: float, transmittance: float, noise: float
) -> None:
    """Steps of 1e-4: no jump, and nothing lower by more than the search leaves, 1e-6."""
    spectrum = spectrum_of(load_network(name))
    here = network_bits_per_mode(spectrum, mean_photons, transmittance, noise)
    more = 1.0001
    # The first 1e-4 of untrusted loss tells much where little noise does.
    for most, there in (
        (3e-4, network_bits_per_mode(spectrum, more * mean_photons, transmittance, noise)),
        (1e-2, network_bits_per_mode(spectrum, mean_photons, transmittance / more, noise)),
        (3e-4, network_bits_per_mode(spectrum, mean_photons, transmittance, more * noise)),
    ):
        assert here * (1.0 - 1e-6) <= there <= here * (1.0 + most)


def test_spectrum_counts_all_directions_of_all_modes_and_all_light() -> None:
    spectrum = spectrum_of(load_network("reference"))
    assert spectrum.directions == 2 * (784 * 392 + 10 * 392)
    assert spectrum.variances.sum() == pytest.approx(spectrum.directions, rel=1e-6)
    bins = spectrum.bins(0.03)
    assert bins.counts.sum() == spectrum.directions
    assert 1.0 <= float(bins.edges @ bins.counts) / spectrum.directions < 1.03
    assert (bins.least <= bins.edges).all()


def test_dead_rows_and_alike_rows_leave_few_directions() -> None:
    weights = np.zeros((4, 6), np.float32)
    weights[:2] = [1.0, 2.0, 0.0, 0.0, 0.0, 0.0]
    variances = layer_variances(weights)
    assert np.count_nonzero(variances > 1e-9) == 2
    assert variances.max() == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("mean_photons", "transmittance", "noise"),
    [
        *[(mean_photons, 0.9, 1.0) for mean_photons in (0.001, 0.1, 0.5)],
        *[(mean_photons, 1.0, 0.05) for mean_photons in (1e3, 1e5, 1e7, 1e9)],
    ],
)
def test_noise_as_strong_as_vacuum_and_light_as_bright_as_allowed_are_bounded_too(
    mean_photons: float, transmittance: float, noise: float
) -> None:
    """A client that mixes the same noise into every direction learns no more; nobody all of it.

    It returns sqrt(T) of each amplitude with variance A = B = 1 + eps, so that v = 0,
    cos(theta) = sqrt(T/A) and cos(phi) = 1/A. The prior: 200 directions, of lognormal variances,
    and 20 dark ones.
    """
    variances = np.exp(2.0 * np.random.default_rng(1).normal(size=200))
    spectrum = Spectrum(variances / variances.mean(), 220)
    light = 2.0 * mean_photons * spectrum.variances
    returned = 1.0 + noise
    tap, back = math.acos(math.sqrt(transmittance / returned)), math.acos(1.0 / returned)
    learned = learned_bits(light, np.full(200, tap), np.full(200, back))
    bound = network_bits_per_mode(spectrum, mean_photons, transmittance, noise)
    lit = 200 / 220
    assert 2.0 * lit * learned.mean() <= bound <= 2.0 * lit * entropy_bits(light * 1.031).mean()


def test_directions_that_are_alike_give_the_bound_of_white_weights() -> None:
    white = Spectrum(np.ones(100), 100)
    noise = 1e-4
    found = network_bits_per_mode(white, 4.0, 1.0, noise)
    honest = holevo_bits_per_mode(4.0, 1.0, noise)
    assert honest < found < prior_free_bits_per_mode(4.0, 1.0, noise)


@pytest.mark.parametrize("seed", range(12))
def test_no_random_gaussian_attack_on_a_random_prior_learns_more(
    random_attack: Callable[..., Any], seed: int
) -> None:
    """Whole symplectic matrices on one to three modes and as many own ones, near the identity."""
    rng = np.random.default_rng(seed)
    modes, own = (int(size) for size in rng.integers(1, 4, 2))
    raw = rng.normal(size=(2 * modes, 2 * modes)) * np.exp(rng.normal(0.0, 1.5, 2 * modes))
    prior = raw @ raw.T
    attack = random_attack(modes, own, 10.0 ** rng.uniform(-3.0, -0.6), rng)
    slope, excess = attack.seen(prior)
    transmittance, noise = min(slope**2, 1.0), max(excess, 0.0)
    photons = float(np.trace(prior)) / (4 * modes)
    spectrum = Spectrum(np.linalg.eigvalsh(prior).astype(np.float64) / (2 * photons), 2 * modes)
    bound = network_bits_per_mode(spectrum, photons, transmittance, noise)
    learned = attack.learned(prior) / modes
    assert 0.0 < learned <= bound
    assert bound <= prior_free_bits_per_mode(photons, transmittance, noise)


@pytest.mark.parametrize(("mean_photons", "gain"), [(0.57, 1.3), (8.91, 1.0128)])
def test_readings_of_the_principal_modes_of_trained_rows_learn_less(
    reads_principal_modes: Callable[..., Any], mean_photons: float, gain: float
) -> None:
    """Rows of 32 inputs in the middle of the images; the noise goes where the light is."""
    weights = load_network("noise-aware").layers[0].reshape(-1, 28, 28)[:, 10:18, 12:16]
    weights = weights.reshape(len(weights), 32) / np.sqrt(np.mean(weights**2))
    attack, prior = reads_principal_modes(weights, mean_photons, (2.0 - 2.0 / gain) / 16)
    slope, excess = attack.seen(prior)
    assert slope == pytest.approx(1.0)
    spectrum = Spectrum(np.linalg.eigvalsh(prior) / (2.0 * mean_photons), 32)
    learned = attack.learned(prior) / 16
    assert learned > 1.3 * holevo_bits_per_mode(mean_photons, 1.0, excess)
    assert learned < network_bits_per_mode(spectrum, mean_photons, 1.0, excess)


@pytest.mark.parametrize(
    ("kinds", "photons", "noise", "attack"),
    [
        # What mixtures of attacks learn that a linear programme found, bit per direction.
        (
            [(0.77219850, 517), (1.01242073, 9482)],
            0.3534235696847952,
            9.567497056277891e-05,
            0.0025013,
        ),
        ([(0.8711286, 807), (1.0113129, 9193)], 1.27667, 1.01827e-05, 0.0015004),
    ],
)
def test_bright_directions_that_gain_less_than_dim_ones_do_not_lower_the_bound(
    kinds: list[tuple[float, int]], photons: float, noise: float, attack: float
) -> None:
    """Where an amplitude has a price, a bin's brightest variance is not its worst."""
    variances = np.concatenate([np.full(count, variance) for variance, count in kinds])
    spectrum = Spectrum(variances, len(variances))
    bound = network_bits_per_mode(spectrum, photons, 1.0, noise) / 2.0
    assert attack <= bound <= 1.03 * attack


def test_wide_bins_give_a_higher_bound_than_narrow_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(5)
    for _ in range(12):
        variances = np.repeat(np.exp(draw.normal(0.0, 0.4, 5)), draw.integers(1, 2000, 5))
        spectrum = Spectrum(variances / variances.mean(), len(variances))
        at = 10.0 ** draw.uniform(-1.5, 1.5), 1.0, 10.0 ** draw.uniform(-5.0, -2.0)
        monkeypatch.setattr(network, "_WIDTH", 1e-6)
        exact = network_bits_per_mode.__wrapped__(spectrum, *at)
        monkeypatch.setattr(network, "_WIDTH", 0.05)
        wide = network_bits_per_mode.__wrapped__(spectrum, *at)
        assert exact * (1.0 - 1e-6) <= wide
