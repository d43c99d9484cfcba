"""No accepted attack of the catalogue learns more bits than a figure that is printed as a bound.

What it learned is counted under the prior of this network's bound. Sessions run from light to
verdict, at a false-alarm probability of 1e-6, loss and noise untrusted, one image, seed 0.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from labctl.data.mnist import load_test_images
from labctl.data.models import Network, load_network
from labctl.protocols.disguise import PLAIN
from labctl.protocols.encoding import Floats, unit_rms
from labctl.protocols.leakage import Assumptions, Leakage, Trust
from labctl.protocols.leakage.network import Spectrum, spectrum_of
from labctl.protocols.link import LayerLight
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.session import Session
from labctl.protocols.settings import (
    Channel,
    Light,
    Sampling,
    SessionSettings,
    VerificationSettings,
)
from labctl.studies.attacks.attack import Attack, AttackOutcome
from labctl.studies.attacks.catalogue import ATTACKS, attack_of
from labctl.studies.attacks.hidden_tap import HiddenTap
from labctl.studies.attacks.local_oscillator import LocalOscillator
from labctl.studies.attacks.weights_estimate import LayerEstimate, layer_bits

UNWATCHED = LocalOscillator(0.9)
INPUTS, ROWS = 49, 90
GENERATOR = np.random.default_rng(23)
# A few bright directions and rows of very different power; 49 inputs leave half a mode dark.
SPIKED = (
    GENERATOR.standard_normal((ROWS, INPUTS))
    * 0.6 ** np.arange(INPUTS)
    * np.exp(GENERATOR.standard_normal((ROWS, 1)))
).astype(np.float32)
SMALL = Network((SPIKED, GENERATOR.standard_normal((10, ROWS)).astype(np.float32)), "spiked", {})
# Strengths that are accepted in a single query behind a decibel.
QUIET = {
    "adaptive-tap": 1.0,
    "heterodyne-resend": 0.01,
    "hidden-tap": 1.0,
    "intercept-resend": 0.01,
    "intercept-resend-return": 0.01,
    "quantum-memory": 1.0,
    "tap": 0.01,
    "tap-and-squeeze": 1.0,
    "tap-return": 0.01,
}


def settings(
    mean_photons: float, gain: float, loss_db: float, monitor_samples: int = 1000
) -> SessionSettings:
    return SessionSettings(
        light=Light(mean_photons, PLAIN),
        channel=Channel(loss_db),
        receiver=CloneReceiver(gain, 1.0, IDEAL_HOMODYNE),
        verifier=IDEAL_HOMODYNE,
        assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
        sampling=Sampling.ALL,
        seed=0,
        verification=VerificationSettings(monitor_samples=monitor_samples),
    )


@cache
def shipped() -> tuple[Network, Spectrum]:
    network = load_network("noise-aware")
    return network, spectrum_of(network)


def attacked(
    attack: Attack, network: Network, spectrum: Spectrum, asked: SessionSettings, images: Floats
) -> tuple[AttackOutcome, Leakage]:
    mounted = attack.mount(network, asked)
    session = Session(network, asked, mounted.link)
    list(session.run(mounted.inputs(images)))
    learned = mounted.learned(network, load_test_images())
    return AttackOutcome(learned, session.verdict(spectrum=spectrum)), session.leakage(spectrum)


def assert_below_every_bound(outcome: AttackOutcome, leakage: Leakage) -> None:
    verdict = outcome.verification
    bounds = {
        "network": leakage.weights_bits_network,
        "prior-free": leakage.weights_bits_prior_free,
        "network upper": verdict.weights_bits_network_upper,
        "prior-free upper": verdict.weights_bits_prior_free_upper,
    }
    told = outcome.learned.weights_bits_network, outcome.learned.weights_bits_holevo
    for bits in (each for each in told if each is not None):
        for name, bound in bounds.items():
            assert bound is not None, name
            assert 0.0 < bits < bound, name


@pytest.mark.parametrize(
    ("attack", "asked"),
    [
        (HiddenTap(1.0), settings(8.91, 1.0128, 3.0)),
        pytest.param(HiddenTap(1.0), settings(8.91, 1.0128, 0.3), marks=pytest.mark.long),
        pytest.param(HiddenTap(1.0), settings(21.0, 1.0048, 1.0), marks=pytest.mark.long),
        pytest.param(HiddenTap(1.0), settings(100.0, 1.001, 1.0), marks=pytest.mark.long),
        (UNWATCHED, settings(0.57, 1.3, 10.0, monitor_samples=0)),
    ],
    ids=lambda each: each.name if isinstance(each, HiddenTap | LocalOscillator) else None,
)
def test_behind_loss_that_is_not_trusted_a_shipped_network_leaks_less_than_its_bounds(
    attack: Attack, asked: SessionSettings
) -> None:
    network, spectrum = shipped()
    outcome, leakage = attacked(attack, network, spectrum, asked, load_test_images().images[:1])
    assert outcome.verification.accepted is True
    assert_below_every_bound(outcome, leakage)


@pytest.mark.parametrize("name", QUIET)
def test_an_accepted_attack_on_rows_of_unlike_brightness_learns_less_than_every_bound(
    name: str,
) -> None:
    image = np.random.default_rng(3).random((1, INPUTS), dtype=np.float32)
    asked = settings(50.0, 1.4, 1.0)
    outcome, leakage = attacked(
        attack_of(name, QUIET[name]), SMALL, spectrum_of(SMALL), asked, image
    )
    assert outcome.verification.accepted is True
    assert_below_every_bound(outcome, leakage)


def prior_of(weights: Floats) -> tuple[Floats, Floats]:
    """Return each row's brightness, and the covariance of the rows scaled to brightness 1."""
    rows = weights.astype(np.float64)
    rows /= np.sqrt(np.mean(rows**2))
    brightness = np.mean(rows**2, axis=1)
    alike = rows / np.sqrt(brightness)[:, None]
    return brightness, alike.T @ alike / len(rows)


def test_looks_at_rows_alike_tell_what_a_determinant_for_each_row_tells() -> None:
    """Row r: log2 det(1 + b_r C H)/2, C of the rows scaled to brightness 1 (no eigenvalues)."""
    light = LayerLight(0, np.pad(unit_rms(SPIKED), [(0, 0), (0, 1)]))
    page = LayerEstimate(light, mean_photons=2.0)
    outcomes = np.zeros((ROWS, INPUTS // 2 + 1), np.complex64)
    page.look_at_modes(outcomes, None, amplitude=0.8, noise=2.0)
    brightness, covariance = prior_of(SPIKED)
    precision = 2.0 * 2.0 * 0.8**2 / 2.0
    expected = sum(
        np.linalg.slogdet(np.eye(INPUTS) + each * precision * covariance)[1] for each in brightness
    ) / (2.0 * np.log(2.0))
    assert layer_bits(SPIKED, page) == pytest.approx(expected, rel=1e-6)


def test_rows_looked_at_each_in_its_own_modes_count_with_all_rows_brightness() -> None:
    """Half of 25 modes, drawn for each row: 16 rows represent 90 within 4 errors of 2.5 %."""
    random = np.random.default_rng(8)
    weights = (
        random.standard_normal((ROWS, INPUTS)) * np.exp(random.standard_normal((ROWS, 1)))
    ).astype(np.float32)
    light = LayerLight(0, np.pad(unit_rms(weights), [(0, 0), (0, 1)]))
    page = LayerEstimate(light, mean_photons=2.0)
    modes = INPUTS // 2 + 1
    chosen = np.random.default_rng(9).random((ROWS, modes)) < 0.5
    page.look_at_modes(np.zeros((ROWS, modes), np.complex64), chosen, amplitude=0.8, noise=2.0)
    brightness, covariance = prior_of(weights)
    looked = np.repeat(chosen, 2, axis=1)[:, :INPUTS] * (2.0 * 2.0 * 0.8**2 / 2.0)
    told = [
        np.linalg.slogdet(np.eye(INPUTS) + one * covariance * mask)[1]
        for one in brightness
        for mask in looked
    ]
    expected = sum(told) / ROWS / (2.0 * np.log(2.0))
    assert layer_bits(weights, page) == pytest.approx(expected, rel=0.1)


def test_every_attack_that_reads_weights_by_single_looks_is_tried() -> None:
    """What is left out clones by itself, keeps light back, decides on levels or steals copies."""
    thieves = {name for name, kind in ATTACKS.items() if str(kind.party) != "server"}
    left_out = {
        "block-decision",
        "chosen-inputs",
        "chosen-principal-inputs",
        "classes-alone",
        "clone-more-modes",
        "level-decision",
        "local-oscillator",
        "model-copy",
        "nothing-returned",
        "over-gain",
        "own-laser",
        "principal-modes",
    }
    assert thieves - left_out == set(QUIET)
