"""The clone-and-split receiver against a Monte Carlo of its optics, quadrature by quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labctl.errors import SettingError
from labctl.protocols.receiver import (
    BEST_GAIN,
    IDEAL_HOMODYNE,
    CloneReceiver,
    Homodyne,
    added_noise,
    emission_factor_of_noise_figure,
)

SAMPLES = 1_000_000
# Relative standard error of a variance is sqrt(2/SAMPLES) = 0.0014, of a mean in SNU 0.001 sigma.
FOUR_SIGMA = 4.0 * math.sqrt(2.0 / SAMPLES)

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Optics:
    """What leaves the optics: both quadratures of the returned arm, X of the measured one."""

    returned_x: Values
    returned_p: Values
    measured: Values


def simulate(receiver: CloneReceiver, x: float, p: float, seed: int) -> Optics:
    """Send a coherent state through amplifier, splitter and homodyne, vacuum by vacuum."""
    random = np.random.default_rng(seed)

    def vacuum() -> Values:
        return random.standard_normal(SAMPLES)

    gain = receiver.gain
    heat = math.sqrt(2.0 * receiver.emission_factor - 1.0)
    signal_x, signal_p = x + vacuum(), p + vacuum()
    idler_x, idler_p = heat * vacuum(), heat * vacuum()
    # a -> sqrt(G) a + sqrt(G - 1) e*, and the conjugate turns P of the idler over.
    bright_x = math.sqrt(gain) * signal_x + math.sqrt(gain - 1.0) * idler_x
    bright_p = math.sqrt(gain) * signal_p - math.sqrt(gain - 1.0) * idler_p
    dark_x, dark_p = vacuum(), vacuum()
    through, off = math.sqrt(1.0 / gain), math.sqrt(1.0 - 1.0 / gain)
    arm = off * bright_x - through * dark_x
    homodyne = receiver.homodyne
    detected = math.sqrt(homodyne.efficiency) * arm
    detected += math.sqrt(1.0 - homodyne.efficiency) * vacuum()
    detected += math.sqrt(homodyne.electronic_noise) * vacuum()
    return Optics(
        returned_x=through * bright_x + off * dark_x,
        returned_p=through * bright_p + off * dark_p,
        measured=detected,
    )


RECEIVERS = [
    CloneReceiver(2.0, 1.0, IDEAL_HOMODYNE),
    CloneReceiver(1.02, 1.0, IDEAL_HOMODYNE),
    CloneReceiver(BEST_GAIN, 1.0, IDEAL_HOMODYNE),
    CloneReceiver(1.3, 1.7, Homodyne(efficiency=0.6, electronic_noise=0.1)),
    CloneReceiver(8.0, 2.5, Homodyne(efficiency=0.85, electronic_noise=0.03)),
]


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_optics_give_the_closed_form(receiver: CloneReceiver) -> None:
    """1e6 samples, seed 1, four standard errors."""
    x, p = 1.5, -0.7
    seen = simulate(receiver, x, p, seed=1)
    returned = 1.0 + receiver.returned_noise
    for values, mean in ((seen.returned_x, x), (seen.returned_p, p)):
        assert values.var() == pytest.approx(returned, rel=FOUR_SIGMA)
        assert values.mean() == pytest.approx(mean, abs=4e-3 * math.sqrt(returned))
    noise = receiver.measured_noise
    assert seen.measured.var() == pytest.approx(noise, rel=FOUR_SIGMA)
    mean = receiver.amplitude_gain * x
    assert seen.measured.mean() == pytest.approx(mean, abs=4e-3 * math.sqrt(noise))


def test_inner_product_s_signal_to_noise_is_that_of_the_optics() -> None:
    """A mean drawn with variance 2 mu T, over the noise that the optics leave on it."""
    receiver = CloneReceiver(1.3, 1.7, Homodyne(efficiency=0.6, electronic_noise=0.1))
    seen = simulate(receiver, 0.0, 0.0, seed=2)
    unit = simulate(receiver, 1.0, 0.0, seed=2).measured - seen.measured
    ratio = 2.0 * 6.0 * 0.8 * float(unit.mean()) ** 2 / float(seen.measured.var())
    assert receiver.signal_to_noise(6.0, 0.8) == pytest.approx(ratio, rel=FOUR_SIGMA)


@pytest.mark.parametrize(
    ("mean_photons", "gain", "ratio"), [(4.0, 2.0, 4.0), (6.0, 1.3, 3.16), (0.57, 1.3, 0.3)]
)
def test_known_signal_to_noise(mean_photons: float, gain: float, ratio: float) -> None:
    receiver = CloneReceiver(gain, 1.0, IDEAL_HOMODYNE)
    assert receiver.signal_to_noise(mean_photons, 1.0) == pytest.approx(ratio, abs=0.005)


def test_best_gain_adds_1_828() -> None:
    best = CloneReceiver(2.0 + math.sqrt(2.0), 1.0, IDEAL_HOMODYNE)
    assert pytest.approx(2.0 + math.sqrt(2.0)) == BEST_GAIN
    assert best.referred_noise == pytest.approx(1.828, abs=0.0005)
    assert best.referred_noise == pytest.approx(2.0 * math.sqrt(2.0) - 1.0, rel=1e-12)


@settings(deadline=None)
@given(st.floats(1.0001, 1e4))
def test_ideal_receiver_in_closed_form_and_never_better_than_the_best(gain: float) -> None:
    receiver = CloneReceiver(gain, 1.0, IDEAL_HOMODYNE)
    assert receiver.measured_noise == pytest.approx((2 * gain**2 - 3 * gain + 2) / gain, rel=1e-9)
    assert receiver.amplitude_gain**2 == pytest.approx(gain - 1.0, rel=1e-9)
    assert receiver.returned_noise == pytest.approx(2.0 - 2.0 / gain, rel=1e-9)
    assert added_noise(gain) == pytest.approx(2.0 - 2.0 / gain, rel=1e-9)
    assert receiver.referred_noise >= 2.0 * math.sqrt(2.0) - 1.0 - 1e-9


@settings(deadline=None)
@given(st.floats(1.001, 100.0), st.floats(1.0, 10.0), st.floats(0.01, 1.0), st.floats(0.0, 5.0))
def test_imperfections_only_hurt(
    gain: float, emission: float, efficiency: float, electronic: float
) -> None:
    ideal = CloneReceiver(gain, 1.0, IDEAL_HOMODYNE)
    real = CloneReceiver(gain, emission, Homodyne(efficiency, electronic))
    assert real.referred_noise >= ideal.referred_noise * (1.0 - 1e-12)
    assert real.returned_noise >= ideal.returned_noise
    assert real.signal_to_noise(4.0, 0.5) <= ideal.signal_to_noise(4.0, 1.0)
    # What leaks to the server depends on what the client sends back, not on how it detects.
    assert real.returned_noise == CloneReceiver(gain, emission, IDEAL_HOMODYNE).returned_noise


def test_cloning_disturbs_at_least_as_much_as_it_learns() -> None:
    """Noise added to the measured quadrature times the back-action on the other is 1 or more."""
    for gain in (1.02, 1.3, 2.0, BEST_GAIN, 20.0):
        receiver = CloneReceiver(gain, 1.0, IDEAL_HOMODYNE)
        assert (receiver.referred_noise - 1.0) * receiver.returned_noise >= 1.0 - 1e-12


# Noise figure.


@settings(deadline=None)
@given(st.floats(1.01, 1e4), st.floats(1.0, 20.0))
def test_noise_figure_and_emission_factor_are_one_thing(gain: float, emission: float) -> None:
    """The signal-to-noise ratio of a bright state falls by F = (2 n_sp (G - 1) + 1)/G."""
    figure_db = 10.0 * math.log10((2.0 * emission * (gain - 1.0) + 1.0) / gain)
    assert emission_factor_of_noise_figure(figure_db, gain) == pytest.approx(emission, rel=1e-6)


def test_noise_figure_of_3_db_is_the_limit_of_high_gain() -> None:
    limit_db = 10.0 * math.log10(2.0)
    assert emission_factor_of_noise_figure(limit_db, 1e6) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("gain", "limit_db"), [(2.0, 1.761), (1.3, 0.902), (100.0, 2.989)])
def test_noise_figure_below_the_quantum_limit_is_refused(gain: float, limit_db: float) -> None:
    with pytest.raises(SettingError, match=f"at least {limit_db:.3f} dB"):
        emission_factor_of_noise_figure(limit_db - 0.01, gain)
    assert emission_factor_of_noise_figure(limit_db + 0.001, gain) < 1.01


# Refusals.

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("name", "call"),
    [
        *[
            ("gain", lambda gain=gain: CloneReceiver(gain, 1.0, IDEAL_HOMODYNE))
            for gain in (1.0, 0.5, -2.0, NAN, INF)
        ],
        *[
            ("emission_factor", lambda n_sp=n_sp: CloneReceiver(2.0, n_sp, IDEAL_HOMODYNE))
            for n_sp in (0.99, 0.0, NAN, INF)
        ],
        *[
            ("efficiency", lambda efficiency=efficiency: Homodyne(efficiency, 0.0))
            for efficiency in (0.0, -0.1, 1.01, NAN)
        ],
        *[
            ("electronic_noise", lambda noise=noise: Homodyne(0.9, noise))
            for noise in (-0.1, NAN, INF)
        ],
        *[
            ("gain", lambda gain=gain: emission_factor_of_noise_figure(5.0, gain))
            for gain in (1.0, 0.9, NAN)
        ],
        *[
            ("noise_figure_db", lambda figure=figure: emission_factor_of_noise_figure(figure, 2.0))
            for figure in (-3.0, NAN, INF)
        ],
    ],
)
def test_what_no_receiver_can_be_is_refused(name: str, call: Callable[[], object]) -> None:
    with pytest.raises(SettingError) as caught:
        call()
    assert caught.value.name == name
