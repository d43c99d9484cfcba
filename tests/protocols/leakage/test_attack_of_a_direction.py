"""One direction of the light: the formula is the channel's, and the search finds its best."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from labctl.protocols.leakage.direction import learned_bits
from labctl.protocols.leakage.multipliers import Prices, best_attacks, interception_gain


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
    "prices",
    [Prices(300.0, 300.0, 0.0, 1.0), Prices(100.0, 104.0, -1.0, 1.0), Prices(10, 8, -0.7, 0.97)],
)
def test_no_random_attack_of_a_direction_gains_more_than_the_one_found(prices: Prices) -> None:
    variances = np.logspace(-4, 4, 9)
    best = best_attacks(variances, prices)
    most = np.maximum(best.gain, interception_gain(variances, prices))
    rng = np.random.default_rng(1)
    for variance, gain, place in zip(variances, most, best.place.T, strict=True):
        near = place[:, None] + rng.normal(size=(3, 20_000)) * 10.0 ** rng.uniform(-3, 0.5, 20_000)
        far = np.stack([rng.normal(0.0, 0.3, 20_000), *rng.uniform(-12.0, 0.4, (2, 20_000))])
        root, tap, back = np.exp(np.concatenate([near, far], axis=1))
        allowed = tap + back <= math.pi / 2.0
        root, tap, back = root[allowed], tap[allowed], back[allowed]
        misfit = root * np.cos(tap) - prices.pooled_amplitude
        tried = learned_bits(np.full_like(tap, variance), tap, back)
        tried -= prices.along * (root**2 - 1) + prices.across * (1 / (root * np.cos(back)) ** 2 - 1)
        tried -= (prices.along + prices.across) * variance * misfit**2
        tried -= prices.amplitude * variance * misfit
        assert tried.max() <= gain + 1e-6 * abs(gain) + 1e-12
