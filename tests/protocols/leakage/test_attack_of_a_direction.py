"""One direction of the light: the formula is the channel's, and the search finds its best."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from labctl.protocols.leakage import multipliers
from labctl.protocols.leakage.direction import entropy_bits, learned_bits
from labctl.protocols.leakage.multipliers import (
    LEAST,
    MOST,
    Prices,
    attack_at,
    best_attacks,
    is_attack,
    largest_gain,
)


@pytest.mark.parametrize(
    ("variance", "tap", "back_action", "root"),
    [(7.0, 0.2, 0.1, 1.05), (0.03, 0.01, 0.3, 0.9), (400.0, 0.0, 0.02, 1.0), (2.0, 0.7, 0.0, 1.3)],
)
def test_learned_is_the_holevo_information_of_the_attack(
    skew_tap: Callable[..., Any], variance: float, tap: float, back_action: float, root: float
) -> None:
    attack = skew_tap(tap, back_action, root)
    prior = np.diag([variance, 0.0])
    formula = learned_bits(np.array([variance]), np.array([tap]), np.array([back_action]))
    assert formula[0] == pytest.approx(attack.learned(prior), rel=1e-6)
    returned = attack.symplectic[:2] @ attack.symplectic[:2].T
    assert returned[0, 0] == pytest.approx(root**2)
    assert returned[1, 1] == pytest.approx(1.0 / (root * math.cos(back_action)) ** 2)
    assert attack.symplectic[0, 0] == pytest.approx(root * math.cos(tap))


@pytest.mark.parametrize(
    ("variance", "tap", "back_action", "mixing", "root"),
    [
        (7.0, 0.2, 0.1, 0.05, 1.05),
        (0.03, 0.3, 0.3, 0.2, 0.9),
        (400.0, 0.01, 0.3, 0.6, 1.0),
        (2.0, 0.7, 0.05, 0.01, 1.3),
        (5.0, 1.2, 0.9, 0.3, 1.1),
    ],
)
def test_a_client_with_two_modes_learns_what_purifies_the_moments(
    purified_bits: Callable[..., float],
    variance: float,
    tap: float,
    back_action: float,
    mixing: float,
    root: float,
) -> None:
    noise = 1.0 / math.cos(back_action + mixing) ** 2
    formula = learned_bits(*(np.array([x]) for x in (variance, tap, back_action, mixing)))
    learned = purified_bits(
        variance,
        through_x=root * math.cos(tap + mixing),
        through_p=math.sqrt(noise) / root * math.cos(tap + back_action),
        noise_x=root**2,
        noise_p=noise / root**2,
    )
    assert formula[0] == pytest.approx(learned, rel=1e-9)


def test_all_that_a_direction_tells_is_the_entropy_of_what_was_sent() -> None:
    """Little returns, with much noise: the client holds nearly all."""
    variance = np.array([0.1, 3.0, 200.0])
    quarter = math.pi / 2.0 - 1e-3
    held = learned_bits(variance, np.full(3, quarter), np.full(3, 1e-5), np.full(3, 1e-5))
    assert held == pytest.approx(entropy_bits(variance), rel=1e-4)
    assert np.all(held < entropy_bits(variance))


PRICES = [
    Prices(300.0, 300.0, 0.0, 1.0),
    Prices(100.0, 104.0, -1.0, 1.0),
    Prices(10.0, 8.0, -0.7, 0.97),
    # Cheap noise: the client mixes a second mode in.
    Prices(0.8, 0.2, 0.0, 1.0),
    Prices(0.15, 0.1, -0.7, 0.5),
]
VARIANCES = np.logspace(-4, 4, 9)


@pytest.mark.parametrize("prices", PRICES)
def test_no_random_attack_of_a_direction_gains_more_than_the_one_found(prices: Prices) -> None:
    best = best_attacks(VARIANCES, prices)
    rng = np.random.default_rng(1)
    for variance, gain, place in zip(VARIANCES, best.gain, best.place.T, strict=True):
        near = place[:, None] + rng.normal(size=(4, 20_000)) * 10.0 ** rng.uniform(-3, 0.5, 20_000)
        far = np.stack([rng.normal(0.0, 0.3, 20_000), *rng.uniform(-12.0, 0.4, (3, 20_000))])
        tried = np.clip(np.concatenate([near, far], axis=1), LEAST, MOST)
        tried = tried[:, is_attack(tried)]
        gains = attack_at(np.full(tried.shape[1], variance), tried, prices).gain
        assert gains.max() <= gain + 1e-6 * abs(gain) + 1e-12
    assert np.all(best.gain <= largest_gain(VARIANCES, prices) + 1e-12)
    found = best_attacks(VARIANCES, prices, enough=1e-9)
    assert np.array_equal(found.most, found.gain), "every top is found"


@pytest.mark.parametrize("prices", PRICES)
def test_a_search_that_is_cut_short_counts_what_no_attack_exceeds(
    prices: Prices, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = best_attacks(VARIANCES, prices).gain
    monkeypatch.setattr(multipliers, "_STEPS", 1)
    cut = best_attacks(VARIANCES, prices)
    assert np.any(cut.gain < true - 1e-6 * np.abs(true))
    assert np.all(cut.most >= true - 1e-9 * np.abs(true) - 1e-12)


@pytest.mark.parametrize("prices", PRICES)
def test_slopes_are_those_of_the_gain(prices: Prices) -> None:
    rng = np.random.default_rng(2)
    place = rng.normal([[0.0], [-2.0], [-2.5], [-1.5]], 0.3, (4, 200))
    variance = 10.0 ** rng.uniform(-2, 2, 200)
    slopes = attack_at(variance, place, prices).slopes
    step = 1e-6
    for axis in range(5):
        shift = np.zeros((5, 1))
        shift[axis] = step
        up = attack_at(variance * np.exp(shift[0]), place + shift[1:], prices).gain
        down = attack_at(variance * np.exp(-shift[0]), place - shift[1:], prices).gain
        scale = np.abs(slopes[axis]) + np.abs(up) + 1.0
        assert np.all(np.abs((up - down) / (2 * step) - slopes[axis]) < 1e-7 * scale)


@pytest.mark.parametrize("prices", PRICES)
def test_mixing_in_a_second_mode_is_worth_most_where_noise_is_cheap(prices: Prices) -> None:
    """Of a direction of variance 30: nothing at high prices, 0.15 % and more at low ones."""
    variance = np.array([30.0])
    best = best_attacks(variance, prices)
    without = best_attacks(variance, prices, np.array([[best.place[k, 0]] for k in range(4)]))
    tap_alone = attack_at(variance, np.vstack([best.place[:3], [[-20.0]]]), prices)
    assert without.gain[0] == pytest.approx(best.gain[0], rel=1e-9)
    if prices.along >= 10.0:
        assert tap_alone.gain[0] == pytest.approx(best.gain[0], rel=1e-6)
    else:
        assert tap_alone.gain[0] < best.gain[0]
