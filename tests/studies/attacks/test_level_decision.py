"""Quantised weights are read and resent: nothing shows, and the levels are found in the light."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sessions import PATIENT, ideal_session

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.carried import carried
from labctl.protocols.encoding import unit_rms
from labctl.protocols.leakage.prior_free import prior_free_bits_per_mode
from labctl.protocols.levels import Levels, decision_error_probability
from labctl.studies.attacks.attack import carry_out
from labctl.studies.attacks.level_decision import LevelDecision
from labctl.studies.attacks.level_fit import fitted_levels

GENERATOR = np.random.default_rng(3)
MULTIPLES = np.arange(-3, 4)
SHARES = np.array([0.002, 0.008, 0.04, 0.9, 0.04, 0.008, 0.002])
NETWORK = Network(
    tuple(
        GENERATOR.choice(MULTIPLES, size, p=SHARES).astype(np.float32) * np.float32(0.037)
        for size in ((200, 80), (10, 200))
    ),
    "seven levels",
    {},
)
IMAGES = LabelledImages(GENERATOR.random((30, 80), dtype=np.float32), np.zeros(30, np.uint8))
SETTINGS = ideal_session(21.0, 1.0048, seed=2, verification=PATIENT)


def some(count: int) -> LabelledImages:
    return LabelledImages(IMAGES.images[:count], IMAGES.labels[:count])


def test_in_bright_light_every_weight_is_read_and_nothing_shows() -> None:
    """One query of 9,000 modes, seed 2: the client does not know the levels."""
    due = max(decision_error_probability(layer, mean_photons=21.0) for layer in NETWORK.layers)
    assert due < 1e-4
    outcome = carry_out(LevelDecision(1.0), NETWORK, SETTINGS, some(1))
    assert outcome.learned.weights_wrong is not None
    assert outcome.learned.weights_wrong <= 2e-4
    sent = carried(NETWORK).network.layers
    entropy = sum(layer.size * Levels.of(layer).entropy_bits for layer in sent)
    entropy /= sum(layer.size for layer in sent)
    assert outcome.learned.weights_bits_discrete == pytest.approx(entropy, rel=0.01)
    # Above what any Gaussian prior allows at the honest noise, and yet accepted.
    honest = 0.5 * prior_free_bits_per_mode(21.0, 1.0, (2 - 2 / 1.0048) / 40.0)
    assert outcome.learned.weights_bits_discrete is not None
    assert outcome.learned.weights_bits_discrete > honest
    verdict = outcome.verification
    assert verdict.accepted, verdict.reason
    assert verdict.excess_noise is not None
    assert verdict.excess_noise_standard_error is not None
    assert abs(verdict.excess_noise) < 4.0 * verdict.excess_noise_standard_error


@pytest.mark.parametrize(("photons", "share"), [(2.0, 1.0), (4.0, 0.3)])
def test_where_decisions_err_the_mark_is_what_the_verdict_finds(
    photons: float, share: float
) -> None:
    """12 queries of 9,000 modes, seed 2, five standard errors and 3 % for levels not yet known."""
    settings = replace(SETTINGS, light=replace(SETTINGS.light, mean_photons=photons))
    attack = LevelDecision(share)
    mark = attack.mark_after(12, NETWORK, settings)
    assert mark is not None
    verdict = carry_out(attack, NETWORK, settings, some(12)).verification
    assert verdict.excess_noise is not None
    assert verdict.excess_noise_expected is not None
    assert verdict.excess_noise_standard_error is not None
    assert verdict.transmittance is not None
    found = verdict.excess_noise - verdict.excess_noise_expected
    error = 5.0 * verdict.excess_noise_standard_error + 0.03 * mark.excess_noise
    assert found == pytest.approx(mark.excess_noise, abs=error)
    slope = 5.0 * math.sqrt(1.5 / (2.0 * photons * verdict.samples))
    assert verdict.transmittance == pytest.approx(
        mark.transmittance_ratio, abs=2.0 * slope + 0.03 * (1.0 - mark.transmittance_ratio)
    )
    assert mark.excess_noise > 0.0


def test_weights_that_are_no_levels_are_no_prey() -> None:
    layer = np.random.default_rng(8).standard_normal((100, 80)).astype(np.float32)
    network = Network((layer,), "gaussian", {})
    attack = LevelDecision(1.0)
    assert attack.mark(network, SETTINGS) is None
    outcome = carry_out(attack, network, SETTINGS, some(2))
    assert outcome.caught
    assert outcome.learned.weights_bits_discrete is None
    assert outcome.learned.remark is not None
    assert "no levels, so there is nothing to decide" in outcome.learned.remark
    assert carry_out(attack, NETWORK, SETTINGS, some(2)).learned.remark is None


def readings(noise: float, count: int) -> tuple[NDArray[np.float32], Levels]:
    levels = Levels.of(NETWORK.layers[0])
    random = np.random.default_rng(4)
    true = unit_rms(NETWORK.layers[0]).ravel()[:count]
    return (true + noise * random.standard_normal(count)).astype(np.float32), levels


@pytest.mark.parametrize(("noise", "count"), [(0.2, 400), (0.4, 8000)])
def test_the_grid_is_found_in_noisy_readings(noise: float, count: int) -> None:
    read, levels = readings(noise, count)
    found, step = fitted_levels(read, noise)
    wanted = float(np.diff(levels.values).min())
    error = 6.0 * noise / math.sqrt(count)
    assert step == pytest.approx(wanted, abs=error)
    again, close = fitted_levels(read, noise, near=1.01 * step)
    assert close == pytest.approx(step, abs=error)
    assert len(again.values) <= len(levels.values) + 1
    assert found.shares[np.argmin(np.abs(found.values))] == pytest.approx(0.9, abs=0.1)


def test_a_share_is_a_share() -> None:
    with pytest.raises(SettingError, match="share"):
        LevelDecision(1.5)
