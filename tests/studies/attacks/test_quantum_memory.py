"""The memory's coupling is the symplectic map that it says it is, and it shows over queries alone.

The reference is the matrix exponential of the Hamiltonian, composed over the queries; samples of
60,000 rows, seeds stated, five standard errors.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import expm
from sessions import PATIENT, ideal_session

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.leakage.prior_free import prior_free_bits_per_mode
from labctl.protocols.link import LayerLight
from labctl.protocols.receiver import CloneReceiver, Homodyne, Receiver, TapReceiver
from labctl.studies.attacks.attack import carry_out
from labctl.studies.attacks.budget import weaker
from labctl.studies.attacks.detection_curve import attacked_session, random_network
from labctl.studies.attacks.more_modes import CloneMoreModes
from labctl.studies.attacks.quantum_memory import Ancillas, QuantumMemory
from labctl.studies.attacks.tampered_link import Beam

Matrix = NDArray[np.float64]

ROWS, QUERIES = 60_000, 3
SETTINGS = ideal_session(4.0, 2.0, seed=4, verification=PATIENT)
GENERATOR = np.random.default_rng(17)
NETWORK = Network((GENERATOR.standard_normal((250, 96)).astype(np.float32),), "gaussian", {})
IMAGES = LabelledImages(GENERATOR.random((40, 96), dtype=np.float32), np.zeros(40, np.uint8))


def coupled(kappa: float) -> Matrix:
    """Return S over (X_1, P_1, ..., x_A, p_A, x_B, p_B) after each light has met both ancillas."""
    modes = QUERIES + 2
    form = np.kron(np.eye(modes), np.array([[0.0, 1.0], [-1.0, 0.0]]))
    total = np.eye(2 * modes)
    a, b = 2 * QUERIES, 2 * QUERIES + 2
    for query in range(QUERIES):
        hamiltonian = np.zeros((2 * modes, 2 * modes))
        for light, momentum in ((2 * query, a + 1), (2 * query + 1, b + 1)):
            hamiltonian[light, momentum] = hamiltonian[momentum, light] = kappa
        total = expm(form @ hamiltonian) @ total
    return total


def test_the_coupling_is_symplectic_and_exact() -> None:
    light = LayerLight(0, np.tile(np.array([1.7, -0.6], np.float32), (ROWS, 1)))
    ancillas = Ancillas(SETTINGS, 0.8)
    kappa = math.sqrt(0.8)
    generator = np.random.default_rng(5)
    seen = []
    for _ in range(QUERIES):
        beam = Beam(light, generator)
        ancillas.meet(beam)
        seen += [beam.field.real[:, 0], beam.field.imag[:, 0]]
    (_, pair), *_ = ancillas._pairs.values()
    seen += [pair.held.real[:, 0], pair.held.imag[:, 0]]
    drawn = np.stack(seen).astype(np.float64)
    matrix = coupled(kappa)
    kept = [*range(2 * QUERIES), 2 * QUERIES, 2 * QUERIES + 2]
    mean = (matrix @ np.array([1.7, -0.6] * QUERIES + [0.0] * 4))[kept]
    covariance = (matrix @ matrix.T)[np.ix_(kept, kept)]
    spread = np.sqrt(covariance.diagonal())
    assert np.all(np.abs(drawn.mean(axis=1) - mean) < 5.0 * spread / math.sqrt(ROWS))
    error = np.outer(spread, spread) * math.sqrt(2.0 / ROWS)
    assert np.all(np.abs(np.cov(drawn) - covariance) < 5.0 * error)
    assert pair.noise == pytest.approx(covariance[-1, -1]) == pytest.approx(covariance[-2, -2])
    assert mean[-2] == pytest.approx(QUERIES * kappa * 1.7)
    # Again: a single query shows kappa^2, the sum of all R of them R kappa^2.
    residual = drawn[: 2 * QUERIES : 2] - mean[: 2 * QUERIES : 2, None]
    summed = residual.sum(axis=0) / math.sqrt(QUERIES)
    assert residual.var() == pytest.approx(1.0 + 0.8, rel=0.02)
    assert summed.var() == pytest.approx(1.0 + QUERIES * 0.8, rel=5.0 * math.sqrt(2.0 / ROWS))


@pytest.mark.parametrize("budget", [0.5, 1.0])
def test_it_learns_more_than_the_sum_of_single_queries_and_less_than_any_prior(
    budget: float,
) -> None:
    """40 queries of 24,000 independent weights, seed 4: five standard errors of a correlation."""
    outcome = carry_out(QuantumMemory(budget), NETWORK, SETTINGS, IMAGES)
    noise, queries = budget / 48.0, 40
    met = queries * noise
    signal = 8.0 * queries * met / (1.0 + met + 0.25 * met**2)
    wanted = math.sqrt(signal / (1.0 + signal))
    found = outcome.learned.weights_correlation
    assert found is not None
    assert found == pytest.approx(wanted, abs=5.0 * (1.0 - wanted**2) / math.sqrt(24_000))
    # Independent weights: both ways to count bits agree, but for the columns' own chance moments.
    bits, network = outcome.learned.weights_bits_per_real, outcome.learned.weights_bits_network
    assert bits is not None
    assert network is not None
    assert network == pytest.approx(bits, rel=0.15)
    honest = 0.5 * queries * prior_free_bits_per_mode(4.0, 1.0, 1.0 / 48.0)
    assert max(bits, network) < honest


def test_where_the_budget_is_all_spent_there_is_no_result() -> None:
    link = QuantumMemory(1.0).mount(NETWORK, SETTINGS).link
    light = LayerLight(0, np.ones((5, 96), np.float32))
    exchange = link.exchange(light, np.full((2, 96), 96**-0.5, np.float32))
    assert len(list(exchange.returned)) == 2
    assert not exchange.measured.any()


@pytest.mark.parametrize(
    "receiver",
    [
        CloneReceiver(1.7, 1.4, Homodyne(0.8, 0.1)),
        TapReceiver.of_gain(1.7, Homodyne(0.8, 0.1)),
    ],
    ids=["amplifier", "tap"],
)
@pytest.mark.parametrize("share", [0.01, 0.4, 1.0])
def test_a_weaker_clone_adds_that_share_of_the_noise(receiver: Receiver, share: float) -> None:
    wanted = share * receiver.returned_noise
    assert weaker(receiver, share).returned_noise == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("budget", [-0.1, 101.0, math.nan])
def test_a_budget_is_a_number_of_honest_clones(budget: float) -> None:
    with pytest.raises(SettingError, match="budget"):
        QuantumMemory(budget)


def test_without_queries_nothing_is_known() -> None:
    mounted = QuantumMemory(1.0).mount(NETWORK, replace(SETTINGS, seed=9))
    assert mounted.learned(NETWORK, IMAGES).weights_correlation == 0.0
    assert not mounted.stolen(NETWORK)[0].any()


def test_the_sum_over_queries_gives_the_memory_away() -> None:
    """20 sessions of 100 queries, seeds 0 to 19: at G = 1.3 the check is 30 standard errors off.

    That ratio depends on gain and queries alone for square networks: (R/2) (g/n) sqrt(W/2), W = 2
    n^2 weights. Honest sessions pass.
    """
    network = random_network((40, 40, 10), 1)
    receiver = CloneReceiver(1.3, 1.0, Homodyne(1.0, 0.0))
    for seed in range(20):
        settings = replace(
            SETTINGS, seed=seed, receiver=receiver, light=replace(SETTINGS.light, mean_photons=0.57)
        )
        verdict = attacked_session(QuantumMemory(1.0), network, settings, 100)
        assert [check.name for check in verdict.failed] == ["collective noise"]
    honest = attacked_session(CloneMoreModes(1), network, replace(SETTINGS, receiver=receiver), 100)
    assert honest.accepted, honest.reason
