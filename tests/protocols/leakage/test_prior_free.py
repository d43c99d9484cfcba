"""The prior-free figure: no Gaussian prior or attack does better, and one comes close."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.protocols.leakage import (
    holevo_bits_per_mode,
    prior_free_bits_per_mode,
    thermal_entropy_bits,
)
from labctl.protocols.leakage.multipliers import Prices, best_attacks, interception_gain
from labctl.protocols.leakage.prior_free import _bits_per_direction

SETTINGS = [(4.0, 2.0, 0.4783), (0.57, 1.3, 0.1229), (8.91, 1.0128, 0.2494), (21, 1.0048, 0.3050)]


def honest_noise(gain: float) -> float:
    return (2.0 - 2.0 / gain) / 392


@pytest.mark.parametrize(("mean_photons", "gain", "per_real"), SETTINGS)
def test_known_answers(mean_photons: float, gain: float, per_real: float) -> None:
    found = prior_free_bits_per_mode(mean_photons, 1.0, honest_noise(gain))
    assert found / 2 == pytest.approx(per_real, abs=6e-5)


@settings(max_examples=40)
@given(
    st.floats(-3.0, 3.0),
    st.one_of(st.just(1.0), st.floats(0.05, 1.0)),
    st.floats(-8.0, 1.0),
    st.floats(-4.0, 0.0),
)
def test_no_less_than_the_honest_figure_on_any_fraction_of_the_modes(
    log_photons: float, transmittance: float, log_noise: float, log_fraction: float
) -> None:
    photons, noise, fraction = 10.0**log_photons, 10.0**log_noise, 10.0**log_fraction
    found = prior_free_bits_per_mode(photons, transmittance, noise)
    alike = holevo_bits_per_mode(photons / fraction, transmittance, noise / fraction)
    assert found >= fraction * alike * (1 - 1e-6)
    assert found >= holevo_bits_per_mode(photons, transmittance, noise) * (1 - 1e-6)
    assert found <= thermal_entropy_bits(2 * photons + 1) * (1 + 1e-12)
    assert found <= prior_free_bits_per_mode(photons, transmittance, 1.1 * noise) * (1 + 1e-5)


@pytest.mark.parametrize(
    ("mean_photons", "transmittance", "excess_noise"),
    # The best attack of the first holds nearly all: it lies on a curved edge.
    [(1e-3, 0.25, 1e-3), (8.91, 1.0, honest_noise(1.0128)), (30.0, 0.9, 1e-3)],
)
def test_no_attack_of_a_dense_grid_does_better(
    mean_photons: float, transmittance: float, excess_noise: float
) -> None:
    fractions = 1.0 / (1.0 + np.exp(-np.linspace(-20.0, 14.0, 1500)))
    squeezes = np.concatenate([[0.0], np.logspace(-9.0, 1.1, 800)])
    bits = _bits_per_direction(
        mean_photons, transmittance, excess_noise, fractions[:, None], squeezes[None, :]
    )
    found = prior_free_bits_per_mode(mean_photons, transmittance, excess_noise)
    assert 2.0 * bits.max() <= found <= 2.0 * bits.max() * (1 + 1e-2)


@pytest.mark.parametrize("transmittance", [0.1, 0.9])
def test_no_less_than_the_honest_figure_at_the_dimmest_light(transmittance: float) -> None:
    honest = holevo_bits_per_mode(1e-12, transmittance, 1e-5)
    assert prior_free_bits_per_mode(1e-12, transmittance, 1e-5) >= honest > 0.0


def test_nothing_leaks_where_nothing_was_touched() -> None:
    assert prior_free_bits_per_mode(4.0, 1.0, 0.0) == 0.0


@pytest.mark.parametrize(("mean_photons", "gain", "per_real"), SETTINGS)
def test_a_tap_and_a_squeezer_on_light_of_one_quadrature_come_close(
    skew_tap: Callable[..., Any], mean_photons: float, gain: float, per_real: float
) -> None:
    """X alone modulated on a half of the modes' directions: T = 1, and the honest noise on average.

    Noise above vacuum on X is made up for by noise below it on P, which carries nothing.
    """
    noise = honest_noise(gain)
    total = 2.0 + 2.0 * noise
    along = (total + math.sqrt(total**2 - 4.0)) / 2.0
    attack = skew_tap(math.acos(1.0 / math.sqrt(along)), 0.0, math.sqrt(along))
    prior = np.diag([4.0 * mean_photons, 0.0])
    slope, excess = attack.seen(prior)
    assert slope == pytest.approx(1.0, abs=1e-12)
    assert excess == pytest.approx(noise, rel=1e-9)
    learned = attack.learned(prior)
    assert learned <= 2.0 * per_real
    if mean_photons >= 4.0:
        assert learned > 0.88 * 2.0 * per_real
    assert learned > 7.0 * holevo_bits_per_mode(mean_photons, 1.0, noise)


@pytest.mark.parametrize(
    ("mean_photons", "transmittance", "excess_noise", "log_along", "log_ratio", "amplitude"),
    [
        (8.91, 1.0, honest_noise(1.0128), 6.34857, -0.01474, -0.93913),
        (0.57, 1.0, honest_noise(1.3), 2.89837, -0.04029, -1.26298),
        (4.0, 1.0, honest_noise(2.0), 3.39887, -0.11538, -0.81744),
        (4.0, 0.95, 0.01, 2.34903, -0.31835, -0.74008),
    ],
)
def test_prices_admit_no_measure_of_directions_that_beats_it(
    mean_photons: float,
    transmittance: float,
    excess_noise: float,
    log_along: float,
    log_ratio: float,
    amplitude: float,
) -> None:
    """Weak duality: at any prices the bound here holds for every measure of brightness, amplitude,
    noise along and noise across. These prices, found by a simplex search, leave nothing above the
    figure beyond the grid of brightness.
    """
    prices = Prices(
        math.exp(log_along), math.exp(log_along + log_ratio), amplitude, math.sqrt(transmittance)
    )
    mean = 2.0 * mean_photons
    variances = np.concatenate([[0.0], mean * 10.0 ** np.linspace(-3.0, 3.0, 241)])
    gain = best_attacks(variances, prices).gain
    gain = np.maximum(gain, interception_gain(variances, prices))
    dim = variances <= mean * (1 + 1e-12)
    low, high = variances[dim][:, None], variances[~dim][None, :]
    share = (mean - low) / (high - low)
    mixed = (1 - share) * gain[dim][:, None] + share * gain[~dim][None, :]
    bound = (prices.along + prices.across) * excess_noise + float(mixed.max())
    found = prior_free_bits_per_mode(mean_photons, transmittance, excess_noise) / 2.0
    assert bound == pytest.approx(found, rel=0.007)
