"""The closed form of a client that decides on levels agrees with decisions counted one by one."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from labctl.errors import SettingError
from labctl.protocols.levels import Decision, Levels, decision_error_probability

DRAWS = 400_000
SEVEN = np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
SHARES = np.array([0.0004, 0.004, 0.06, 0.87, 0.055, 0.01, 0.0006])


def seven() -> Levels:
    rms = math.sqrt(float(SHARES / SHARES.sum() @ SEVEN**2))
    return Levels(SEVEN / rms, SHARES / SHARES.sum())


def drawn(levels: Levels, photons: float, seed: int) -> tuple[NDArray[np.float32], ...]:
    """Return true levels, weights and one heterodyne reading of each."""
    random = np.random.default_rng(seed)
    true = random.choice(levels.values, DRAWS, p=levels.shares)
    weights = true + levels.spread * random.standard_normal(DRAWS)
    # X of mean sqrt(2 mu) w, read with the vacuum of the light and that of the split: 2 SNU.
    read = math.sqrt(2.0 * photons) * weights + math.sqrt(2.0) * random.standard_normal(DRAWS)
    return tuple(
        each.astype(np.float32) for each in (true, weights, read / math.sqrt(2.0 * photons))
    )


@pytest.mark.parametrize("photons", [0.3, 2.0, 8.0])
@pytest.mark.parametrize("spread", [0.0, 0.4])
def test_errors_are_counted_as_often_as_they_are_due(photons: float, spread: float) -> None:
    """400,000 weights, seed 3; five standard errors."""
    exact = seven()
    levels = Levels(exact.values, exact.shares, spread)
    true, weights, read = drawn(levels, photons, 3)
    decision = Decision.at(levels, mean_photons=photons)
    decided = decision.decide(read)
    wrong = np.abs(decided - true) > 1e-4
    due = decision.error_probability
    assert wrong.mean() == pytest.approx(due, abs=5.0 * math.sqrt(due / DRAWS) + 1e-9)
    squares = (decided - weights).astype(np.float64) ** 2
    error = 5.0 * float(squares.std()) / math.sqrt(DRAWS)
    assert squares.mean() == pytest.approx(decision.mean_square_error, abs=error)


def test_no_other_rule_errs_less() -> None:
    """Against the posterior of each reading by hand, at a mu where rare levels are never chosen."""
    levels, photons = seven(), 0.05
    decision = Decision.at(levels, mean_photons=photons)
    assert len(decision.chosen) < len(levels.values)
    readings = np.linspace(-60.0, 60.0, 6001).astype(np.float32)
    away = (readings[:, None] - levels.values) ** 2
    posterior = np.log(levels.shares) - 0.5 * photons * away
    wanted = levels.values[posterior.argmax(axis=1)]
    assert np.mean(np.abs(decision.decide(readings) - wanted) > 1e-4) < 0.002


@pytest.mark.parametrize(("readings", "transmittance"), [(4, 1.0), (8, 0.5)])
def test_readings_add_up_and_loss_takes_away(readings: int, transmittance: float) -> None:
    levels = seven()
    many = Decision.at(
        levels, mean_photons=1.0, transmittance=transmittance, readings=readings
    ).error_probability
    assert many == pytest.approx(Decision.at(levels, mean_photons=4.0).error_probability)


def test_two_levels_of_equal_share_are_the_textbook() -> None:
    # Signs: w = -1, 1; half the distance over the noise is sqrt(mu).
    weights = np.tile(np.array([1.0, -1.0], np.float32), 50)
    found = decision_error_probability(weights, mean_photons=2.25)
    assert found == pytest.approx(0.5 * math.erfc(1.5 / math.sqrt(2.0)), rel=1e-6)


def test_more_light_means_fewer_errors_down_to_none() -> None:
    errors = [Decision.at(seven(), mean_photons=mu).error_probability for mu in (0.1, 1, 4, 21)]
    assert all(few > fewer for few, fewer in pairwise(errors))
    assert errors[-1] < 1e-7


def test_levels_are_read_off_weights() -> None:
    weights = np.repeat([0.5, -1.5, 0.0], [30, 10, 60]).astype(np.float32).reshape(10, 10)
    levels = Levels.of(weights)
    rms = math.sqrt(np.mean(np.square(weights, dtype=np.float64)))
    assert levels.values == pytest.approx(np.array([-1.5, 0.0, 0.5]) / rms, rel=1e-6)
    assert levels.shares == pytest.approx([0.1, 0.6, 0.3])
    entropy = -(0.1 * math.log2(0.1) + 0.6 * math.log2(0.6) + 0.3 * math.log2(0.3))
    assert levels.entropy_bits == pytest.approx(entropy)


def test_weights_that_are_no_levels_are_always_mistaken() -> None:
    weights = np.random.default_rng(1).standard_normal((60, 60)).astype(np.float32)
    assert decision_error_probability(weights, mean_photons=100.0) == 1.0
    with pytest.raises(SettingError, match="at most 1024"):
        Levels.of(weights)


@pytest.mark.parametrize(
    ("values", "shares", "spread", "said"),
    [
        ([1.0, 0.0], [0.5, 0.5], 0.0, "rising"),
        ([0.0, math.nan], [0.5, 0.5], 0.0, "finite"),
        ([0.0, 1.0], [0.5, 0.6], 0.0, "adding up"),
        ([0.0, 1.0], [1.0, 0.0], 0.0, "above 0"),
        ([0.0, 1.0], [0.5, 0.5], -1.0, "spread"),
    ],
)
def test_what_cannot_be_levels_is_refused(
    values: list[float], shares: list[float], spread: float, said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        Levels(np.array(values), np.array(shares), spread)


@pytest.mark.parametrize("photons", [0.0, -1.0, math.inf, math.nan])
def test_no_light_is_no_reading(photons: float) -> None:
    with pytest.raises(SettingError, match="photons read"):
        Decision.at(seven(), mean_photons=photons)
