"""Words of a codebook are read and resent: nothing shows, and figures for bits are exceeded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sessions import PATIENT, ideal_session

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.encoding import Floats, unit_rms
from labctl.protocols.leakage.prior_free import prior_free_bits_per_mode
from labctl.protocols.session import Session
from labctl.studies.attacks.attack import carry_out
from labctl.studies.attacks.block_decision import BlockDecision

GENERATOR = np.random.default_rng(3)


def words_apart(count: int, distance: float) -> Floats:
    """Return normal words of 8 weights, none closer to another."""
    kept: list[Floats] = []
    while len(kept) < count:
        word = GENERATOR.standard_normal(8, dtype=np.float32)
        if all(np.linalg.norm(word - other) >= distance for other in kept):
            kept.append(word)
    return np.stack(kept)


# 1.03 bit per weight, each weight alone as good as continuous.
WORDS = words_apart(300, 2.6)


def worded(rows: int, columns: int) -> Floats:
    """Return whole blocks of words, and what is left of each row continuous."""
    chosen = GENERATOR.integers(0, len(WORDS), (rows, columns // 8))
    behind = GENERATOR.standard_normal((rows, columns % 8), dtype=np.float32)
    return np.concatenate([WORDS[chosen].reshape(rows, -1), behind], axis=1)


NETWORK = Network((worded(245, 160), worded(100, 245)), "words", {})
IMAGES = LabelledImages(GENERATOR.random((12, 160), dtype=np.float32), np.zeros(12, np.uint8))
SETTINGS = ideal_session(21.0, 1.0048, seed=2, verification=PATIENT)


def some(count: int) -> LabelledImages:
    return LabelledImages(IMAGES.images[:count], IMAGES.labels[:count])


def test_in_bright_light_every_word_is_read_and_nothing_shows() -> None:
    """One query of 19,600 modes, seed 2."""
    network = Network(NETWORK.layers[:1], "words", {})
    outcome = carry_out(BlockDecision(1.0), network, SETTINGS, some(1))
    learned, verdict = outcome.learned, outcome.verification
    assert learned.weights_wrong is not None
    assert learned.weights_wrong <= 1e-3
    words = np.unique(network.layers[0].reshape(-1, 8), axis=0, return_counts=True)[1]
    shares = words / words.sum()
    entropy = -float(np.sum(shares * np.log2(shares))) / 8
    assert learned.weights_bits_discrete is not None
    assert learned.weights_bits_discrete == pytest.approx(entropy, rel=0.02)
    # Twice what any Gaussian prior allows at the honest noise, and yet accepted.
    allowed = 0.5 * prior_free_bits_per_mode(21.0, 1.0, (2 - 2 / 1.0048) / 80.0)
    assert learned.weights_bits_discrete > 2.0 * allowed
    assert verdict.accepted, verdict.reason
    assert verdict.excess_noise is not None
    assert verdict.excess_noise_standard_error is not None
    assert abs(verdict.excess_noise) < 4.0 * verdict.excess_noise_standard_error


def test_what_lies_behind_whole_blocks_is_not_called_known() -> None:
    mounted = BlockDecision(1.0).mount(NETWORK, SETTINGS)
    outcome = carry_out(BlockDecision(1.0), NETWORK, SETTINGS, some(1))
    behind = 100 * (245 % 8)
    wrong = outcome.learned.weights_wrong
    assert wrong == pytest.approx(behind / (245 * 160 + 100 * 245), abs=1e-3)
    assert [known is not None and known.blocks for known in mounted.reader.formats] == [20, 30]


@pytest.mark.parametrize(("photons", "share"), [(0.8, 1.0), (1.5, 0.3)])
def test_where_decisions_err_the_mark_is_what_the_verdict_finds(
    photons: float, share: float
) -> None:
    """6 queries of 19,600 modes, seed 2: five standard errors, and 6 % for 1,000 drawn words."""
    network = Network(NETWORK.layers[:1], "words", {})
    settings = replace(SETTINGS, light=replace(SETTINGS.light, mean_photons=photons))
    attack = BlockDecision(share)
    mark = attack.mark_after(6, network, settings)
    assert mark is not None
    outcome = carry_out(attack, network, settings, some(6))
    verdict = outcome.verification
    assert verdict.excess_noise is not None
    assert verdict.excess_noise_expected is not None
    assert verdict.excess_noise_standard_error is not None
    assert verdict.transmittance is not None
    found = verdict.excess_noise - verdict.excess_noise_expected
    error = 5.0 * verdict.excess_noise_standard_error + 0.06 * mark.excess_noise
    assert found == pytest.approx(mark.excess_noise, abs=error)
    assert verdict.transmittance == pytest.approx(mark.transmittance_ratio, abs=0.02)
    assert mark.excess_noise > 0.02
    assert outcome.caught


def test_bits_of_mistaken_words_are_not_counted() -> None:
    network = Network(NETWORK.layers[:1], "words", {})
    dim = replace(SETTINGS, light=replace(SETTINGS.light, mean_photons=0.05))
    learned = carry_out(BlockDecision(1.0), network, dim, some(1)).learned
    assert learned.weights_wrong is not None
    assert learned.weights_wrong > 0.9
    # No more than the light carries: (1/2) log2(1 + mu) of a heterodyne reading per weight.
    assert learned.weights_bits_discrete is not None
    assert learned.weights_bits_discrete <= 0.5 * np.log2(1.05)


def test_inputs_that_are_not_sent_are_left_out_of_their_blocks() -> None:
    weights = NETWORK.layers[0].copy()
    weights[:, [3, 17, 18]] = 0.0
    outcome = carry_out(BlockDecision(1.0), Network((weights,), "dark", {}), SETTINGS, some(1))
    assert outcome.learned.weights_wrong is not None
    # Words that differ there alone lie closer; blocks out of step would all be mistaken.
    assert outcome.learned.weights_wrong <= 0.05


def test_continuous_weights_are_no_prey() -> None:
    layer = np.random.default_rng(8).standard_normal((100, 80)).astype(np.float32)
    network = Network((layer,), "gaussian", {})
    attack = BlockDecision(1.0)
    assert attack.mark(network, SETTINGS) is None
    images = LabelledImages(IMAGES.images[:2, :80], IMAGES.labels[:2])
    outcome = carry_out(attack, network, SETTINGS, images)
    assert outcome.verification.accepted, outcome.verification.reason
    assert outcome.learned.weights_bits_discrete is None
    assert outcome.learned.weights_wrong == 1.0


def test_stolen_weights_are_the_networks() -> None:
    network = Network(NETWORK.layers[:1], "words", {})
    mounted = BlockDecision(1.0).mount(network, SETTINGS)
    list(Session(network, SETTINGS, mounted.link, server=mounted.server).run(IMAGES.images[:1]))
    (stolen,) = mounted.stolen(network)
    assert np.mean((stolen - unit_rms(network.layers[0])) ** 2) < 1e-3


def test_a_share_is_a_share() -> None:
    with pytest.raises(SettingError, match="share"):
        BlockDecision(1.5)
