"""Tap and squeeze: unseen in the pooled checks, and below every figure that says bound."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from labctl.data.mnist import load_test_images
from labctl.data.models import Network, load_network
from labctl.errors import SettingError
from labctl.protocols.leakage import Leakage, holevo_bits_per_mode, spectrum_of
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.session import Session
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import AttackOutcome
from labctl.studies.attacks.false_alarms import HONEST
from labctl.studies.attacks.tap_and_squeeze import Squeezing, TapAndSqueeze, tapped_bits

SETTINGS: SessionSettings = replace(
    HONEST,
    light=replace(HONEST.light, mean_photons=4.0),
    receiver=CloneReceiver(2.0, 1.0, IDEAL_HOMODYNE),
    channel=replace(HONEST.channel, loss_db=0.0, technical_noise=0.0),
)


def attacked(
    network: Network, settings: SessionSettings, queries: int
) -> tuple[AttackOutcome, Leakage]:
    """Run the attack at the honest client's noise; return what came of it and what may leak."""
    mounted = TapAndSqueeze(1.0).mount(network, settings)
    session = Session(network, settings, mounted.link)
    images = load_test_images().images[:queries, : network.sizes[0]]
    list(session.run(images + np.float32(0.01)))
    spectrum = spectrum_of(network)
    outcome = AttackOutcome(
        mounted.learned(network, load_test_images()), session.verdict(spectrum=spectrum)
    )
    return outcome, session.leakage(spectrum)


@pytest.mark.parametrize("bright", [0.5, 0.8, 1.0, 0.1])
@pytest.mark.parametrize("noise", [1e-3, 0.1, 3.0])
def test_the_pool_shows_a_slope_of_one_and_the_noise_that_was_to_be_spent(
    bright: float, noise: float
) -> None:
    power = np.array([bright, 1.0 - bright]) * 4.0
    chosen = Squeezing.spending(noise, *power)
    stretch = np.exp([chosen.log_gain, -chosen.log_gain])
    slopes = math.sqrt(1.0 - chosen.share) * stretch
    assert power @ slopes / power.sum() == pytest.approx(1.0, rel=1e-9)
    # Behind the tap each quadrature is vacuum again, after any tap; then it is stretched.
    seen = np.mean(stretch**2 - 1.0 + power * (slopes - 1.0) ** 2)
    assert seen == pytest.approx(noise, rel=1e-6)


def test_light_of_one_quadrature_is_tapped_far_beyond_the_honest_figure_and_below_the_bounds() -> (
    None
):
    """256 rows of 392 modes, P four orders dimmer than X; 4 queries are accepted."""
    random = np.random.default_rng(4)
    first = random.standard_normal((256, 784)).astype(np.float32)
    first[:, 1::2] *= 1e-4
    network = Network((first,), "on X", {})
    outcome, leakage = attacked(network, SETTINGS, 4)
    verdict, learned = outcome.verification, outcome.learned
    assert verdict.accepted is True
    bits = learned.weights_bits_holevo
    assert bits is not None
    share = Squeezing.spending(leakage.excess_noise, 16.0, 0.0).share
    # Principal directions of X are separate modes: H(1 + share lambda) of each.
    on_x = first[:, 0::2].astype(np.float64)
    values = np.linalg.eigvalsh(on_x.T @ on_x) * 16.0 * 392 / np.square(on_x).sum()
    own = sum(holevo_of_x(share * max(value, 0.0)) for value in values) / 784.0
    assert bits == pytest.approx(own, rel=1e-3)
    print(
        bits,
        leakage.weights_bits_per_real,
        leakage.weights_bits_network,
        leakage.weights_bits_prior_free,
    )
    assert bits > 6.0 * leakage.weights_bits_per_real
    network_bits = leakage.weights_bits_network
    assert network_bits is not None
    assert bits <= network_bits <= leakage.weights_bits_prior_free
    upper = verdict.weights_bits_prior_free_upper
    assert upper is not None
    assert bits <= upper
    measured = learned.weights_bits_network
    assert measured is not None
    # Of all four queries together.
    assert 0.0 < measured <= 4.0 * bits


def holevo_of_x(variance: float) -> float:
    """Entropy in bits of a mode with variances 1 + variance and 1."""
    nu = math.sqrt(1.0 + variance)
    up, down = (nu + 1.0) / 2.0, (nu - 1.0) / 2.0
    return up * math.log2(up) - (down * math.log2(down) if down > 0.0 else 0.0)


def test_on_a_shipped_network_it_stays_below_the_networks_own_bound() -> None:
    settings = replace(
        SETTINGS,
        light=replace(SETTINGS.light, mean_photons=0.57),
        receiver=CloneReceiver(1.3, 1.0, IDEAL_HOMODYNE),
    )
    outcome, leakage = attacked(load_network("pruned"), settings, 1)
    bits, bound = outcome.learned.weights_bits_holevo, leakage.weights_bits_network
    assert bits is not None
    assert bound is not None
    assert 0.0 < bits < bound < leakage.weights_bits_prior_free


def test_tapped_light_of_one_mode_has_the_entropy_of_that_mode() -> None:
    """Thermal in both quadratures: half the Holevo information of a mode that is kept whole."""
    random = np.random.default_rng(5)
    sent = random.standard_normal((400_000, 2)).astype(np.float32) * np.float32(math.sqrt(8.0))
    # 800,000 numbers: their variance is known to 0.2 %.
    kept = 0.5 * holevo_bits_per_mode(4.0, 1e-12, 0.0)
    assert tapped_bits(sent, 1.0) == pytest.approx(kept, rel=2e-3)


def test_without_a_budget_nothing_is_tapped() -> None:
    assert Squeezing.spending(0.0, 4.0, 1.0) == Squeezing(0.0, 0.0)
    with pytest.raises(SettingError, match="tap-and-squeeze budget"):
        TapAndSqueeze(-1.0)
