"""The schedule of taps spends what it may, no other of the same noise learns more, and it does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sessions import PATIENT, ideal_session

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.leakage.prior_free import prior_free_bits_per_mode
from labctl.protocols.link import LayerLight
from labctl.protocols.receiver import Homodyne, TapReceiver
from labctl.studies.attacks.adaptive_tap import (
    AdaptiveTap,
    RefilledTap,
    spent_noise,
    tap_schedule,
)
from labctl.studies.attacks.attack import carry_out
from labctl.studies.attacks.tampered_link import Beam
from labctl.studies.attacks.weights_estimate import Notebook

SETTINGS = ideal_session(4.0, 2.0, seed=4, verification=PATIENT)
GENERATOR = np.random.default_rng(17)
NETWORK = Network((GENERATOR.standard_normal((250, 96)).astype(np.float32),), "gaussian", {})
IMAGES = LabelledImages(GENERATOR.random((40, 96), dtype=np.float32), np.zeros(40, np.uint8))


@pytest.mark.parametrize("queries", [1, 2, 30, 300])
@pytest.mark.parametrize("noise", [1e-4, 3e-2])
def test_the_budget_is_spent_to_the_last(queries: int, noise: float) -> None:
    taps = tap_schedule(queries, queries * noise)
    assert taps.shape == (queries,)
    assert np.all((taps > 0.0) & (taps <= 1.0))
    assert spent_noise(taps) == pytest.approx(queries * noise, rel=1e-6)


def test_one_query_is_a_tap_receiver_on_all_modes() -> None:
    receiver = TapReceiver.of_gain(1.3, Homodyne(1.0, 0.0))
    (tap,) = tap_schedule(1, receiver.returned_noise)
    assert 1.0 - tap == pytest.approx(receiver.tap_transmittance)


@pytest.mark.parametrize("queries", [2, 5, 40])
def test_no_other_schedule_of_the_same_noise_knows_more(queries: int) -> None:
    """2,000 schedules near it, seed 8, each scaled to the same noise; taps of a few percent."""
    noise = queries * 1e-3
    best = tap_schedule(queries, noise)
    random = np.random.default_rng(8)
    for size in (0.05, 0.5):
        for _ in range(1000):
            other = best * np.exp(size * random.standard_normal(queries))
            # For small taps noise and knowledge both grow with the scale: equal noise by Newton.
            for _ in range(3):
                other = np.minimum(other * noise / spent_noise(other), 1.0)
            assert other.sum() < best.sum() * (1.0 + 1e-3)


def test_what_is_known_grows_with_the_square_of_the_queries() -> None:
    for queries in (10, 100, 400):
        noise = 1e-5
        known = 0.5 * tap_schedule(queries, queries * noise).sum()
        assert known == pytest.approx(0.25 * noise * queries * (queries + 3), rel=0.12)


def test_more_noise_than_all_light_makes_takes_all_light() -> None:
    assert np.array_equal(tap_schedule(4, 100.0), np.ones(4))
    assert np.array_equal(tap_schedule(4, 0.0), np.zeros(4))
    assert spent_noise(np.ones(1)) == 2.0


@pytest.mark.parametrize(("queries", "noise"), [(0, 0.1), (3, -0.1), (3, math.nan), (3, math.inf)])
def test_what_is_no_budget_is_refused(queries: int, noise: float) -> None:
    with pytest.raises(SettingError):
        tap_schedule(queries, noise)


def test_what_goes_on_has_the_mean_that_came_and_the_noise_that_was_planned() -> None:
    """60,000 rows of one mode, 5 queries, seed 6: five standard errors; taps are not small here."""
    rows, queries, budget = 60_000, 5, 0.9
    light = LayerLight(0, np.tile(np.array([1.7, -0.6], np.float32), (rows, 1)))
    tap = RefilledTap(SETTINGS, budget, Notebook(4.0))
    tap.plan(queries)
    taps = tap_schedule(queries, queries * budget)
    assert taps.max() > 0.5
    noise = (1.0 - np.sqrt(1.0 - taps)) ** 2 / np.cumsum(0.5 * taps)
    generator = np.random.default_rng(6)
    for query in range(queries):
        beam = Beam(light, generator)
        tap.meet(beam)
        left: NDArray[np.complex128] = beam.field[:, 0].astype(np.complex128)
        assert beam.transmittance == 1.0
        variance = 1.0 + float(noise[query])
        for part, mean in ((left.real, 1.7), (left.imag, -0.6)):
            assert part.mean() == pytest.approx(mean, abs=5.0 * math.sqrt(variance / rows))
            assert part.var() == pytest.approx(variance, rel=5.0 * math.sqrt(2.0 / rows))


@pytest.mark.parametrize("budget", [0.5, 1.0])
def test_it_learns_what_its_taps_hold_and_less_than_any_prior(budget: float) -> None:
    """40 queries of 24,000 independent weights, seed 4: five standard errors of a correlation."""
    outcome = carry_out(AdaptiveTap(budget), NETWORK, SETTINGS, IMAGES)
    signal = 8.0 * 0.5 * tap_schedule(40, 40 * budget / 48.0).sum()
    wanted = math.sqrt(signal / (1.0 + signal))
    found = outcome.learned.weights_correlation
    assert found == pytest.approx(wanted, abs=5.0 * (1.0 - wanted**2) / math.sqrt(24_000))
    bits = outcome.learned.weights_bits_per_real
    assert bits is not None
    assert bits < 0.5 * 40 * prior_free_bits_per_mode(4.0, 1.0, 1.0 / 48.0)
    # 40 queries of 24,000 weights: single queries show nothing, the sums by weight do.
    assert [check.name for check in outcome.verification.failed] == ["collective noise"]
