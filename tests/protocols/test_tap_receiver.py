"""Tap, dual homodyne and displacement against a Monte Carlo of every beam splitter and detector."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labctl.errors import SettingError
from labctl.protocols.receiver import (
    IDEAL_HOMODYNE,
    CloneReceiver,
    Homodyne,
    ReceiverKind,
    TapReceiver,
    added_noise,
    receiver_of,
)

Values = NDArray[np.float64]

SAMPLES = 1_000_000
# Relative standard error of a variance is sqrt(2/SAMPLES) = 0.0014, of a mean in SNU 0.001 sigma.
FOUR_SIGMA = 4.0 * math.sqrt(2.0 / SAMPLES)

RECEIVERS = [
    TapReceiver(0.5, IDEAL_HOMODYNE),
    TapReceiver(0.98, IDEAL_HOMODYNE),
    TapReceiver(1.0 / 9.0, IDEAL_HOMODYNE),
    TapReceiver(0.7, Homodyne(efficiency=0.6, electronic_noise=0.1)),
    TapReceiver(0.05, Homodyne(efficiency=0.85, electronic_noise=0.03)),
]


def simulate(receiver: TapReceiver, x: float, p: float, seed: int) -> tuple[Values, Values, Values]:
    """Return X and P of what returns and the measured X; the displacement restores the mean.

    Quadrature by quadrature: tap, splitter of the dual homodyne, detectors, displacement.
    """
    random = np.random.default_rng(seed)

    def vacuum() -> Values:
        return random.standard_normal(SAMPLES)

    tau, homodyne = receiver.tap_transmittance, receiver.homodyne
    efficiency = homodyne.efficiency

    def half(value: float, sign: float) -> tuple[Values, Values]:
        light, dark, other = value + vacuum(), vacuum(), vacuum()
        tapped = math.sqrt(1.0 - tau) * light - math.sqrt(tau) * dark
        line = math.sqrt(tau) * light + math.sqrt(1.0 - tau) * dark
        port = (tapped + sign * other) / math.sqrt(2.0)
        record = math.sqrt(efficiency) * port + math.sqrt(1.0 - efficiency) * vacuum()
        record += math.sqrt(homodyne.electronic_noise) * vacuum()
        per_unit = math.sqrt(efficiency / 2.0) * math.sqrt(1.0 - tau)
        return line + (1.0 - math.sqrt(tau)) / per_unit * record, record

    returned_x, measured = half(x, 1.0)
    returned_p, _ = half(p, -1.0)
    return returned_x, returned_p, measured


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_optics_give_the_closed_form(receiver: TapReceiver) -> None:
    """1e6 samples, seed 1, four standard errors."""
    x, p = 1.5, -0.7
    returned_x, returned_p, measured = simulate(receiver, x, p, seed=1)
    returned = 1.0 + receiver.returned_noise
    for values, mean in ((returned_x, x), (returned_p, p)):
        assert values.var() == pytest.approx(returned, rel=FOUR_SIGMA)
        assert values.mean() == pytest.approx(mean, abs=4e-3 * math.sqrt(returned))
    noise = receiver.measured_noise
    assert measured.var() == pytest.approx(noise, rel=FOUR_SIGMA)
    assert measured.mean() == pytest.approx(
        receiver.amplitude_gain * x, abs=4e-3 * math.sqrt(noise)
    )
    # What the record tells of what returns, beyond the mean.
    covariance = float(np.cov(returned_x, measured)[0, 1])
    efficiency, root = receiver.homodyne.efficiency, math.sqrt(receiver.tap_transmittance)
    joint = receiver.amplitude_gain + receiver.vacuum_amplitude * math.sqrt(efficiency / 2.0) * (
        1.0 - root
    )
    joint += receiver.displacement * (1.0 - efficiency + receiver.homodyne.electronic_noise)
    assert covariance == pytest.approx(joint, abs=5e-3 * math.sqrt(noise * returned))


@settings(deadline=None)
@given(st.floats(1.001, 1000.0))
def test_ideal_tap_of_a_gain_returns_what_the_amplifier_returns(gain: float) -> None:
    """G = (1 + s)/(2 s), so s = 1/(2G - 1): unit gain and 2 - 2/G in both quadratures."""
    tap = TapReceiver.of_gain(gain, IDEAL_HOMODYNE)
    assert tap.gain == pytest.approx(gain, rel=1e-9)
    assert tap.emission_factor == 1.0
    assert tap.returned_noise == pytest.approx(2.0 - 2.0 / gain, rel=1e-9)


@settings(deadline=None)
@given(st.floats(1.001, 1000.0), st.floats(0.05, 1.0), st.floats(0.0, 3.0))
def test_gain_and_factor_together_say_what_returns(
    gain: float, efficiency: float, electronic: float
) -> None:
    """So that leakage and expectation need not know which receiver it is."""
    homodyne = Homodyne(efficiency, electronic)
    tap = TapReceiver.of_gain(gain, homodyne)
    as_amplifier = CloneReceiver(tap.gain, tap.emission_factor, homodyne)
    assert tap.returned_noise == pytest.approx(as_amplifier.returned_noise, rel=1e-9)
    assert tap.returned_noise == pytest.approx(added_noise(gain) * (1.0 + electronic) / efficiency)


def test_a_tap_measures_more_of_what_it_disturbs_only_where_it_disturbs_little() -> None:
    """D = (2G - 1)^2/(2G(G - 1)): half the amplifier's noise at G near 1, 2.25 against 2 at 2."""
    ratio = {
        gain: TapReceiver.of_gain(gain, IDEAL_HOMODYNE).referred_noise
        / CloneReceiver(gain, 1.0, IDEAL_HOMODYNE).referred_noise
        for gain in (1.001, 1.3, 2.0, 100.0)
    }
    assert ratio[1.001] == pytest.approx(0.5, abs=0.002)
    assert ratio[1.3] < 1.0
    assert ratio[2.0] == pytest.approx(2.25 / 2.0, rel=1e-9)
    for gain in ratio:
        tap = TapReceiver.of_gain(gain, IDEAL_HOMODYNE)
        closed = (2.0 * gain - 1.0) ** 2 / (2.0 * gain * (gain - 1.0))
        assert tap.referred_noise == pytest.approx(closed, rel=1e-9)


@settings(deadline=None)
@given(st.floats(1e-6, 0.9999), st.floats(0.05, 1.0), st.floats(0.0, 3.0))
def test_a_tap_keeps_the_limits_of_quantum_mechanics(
    tau: float, efficiency: float, electronic: float
) -> None:
    """Each quadrature's measured noise times the other's back-action is 1 or more; both are seen.

    A measurement of both quadratures has D of 2 or more, and its record disturbs by at most 2
    beyond what detectors add.
    """
    tap = TapReceiver(tau, Homodyne(efficiency, electronic))
    ideal = TapReceiver(tau, IDEAL_HOMODYNE)
    assert (tap.referred_noise - 1.0) * tap.returned_noise >= 1.0 - 1e-9
    assert tap.referred_noise >= ideal.referred_noise >= 2.0
    assert tap.returned_noise >= ideal.returned_noise
    assert ideal.returned_noise <= 2.0
    assert tap.signal_to_noise(4.0, 0.5) <= ideal.signal_to_noise(4.0, 1.0)


def test_bad_detectors_of_a_tap_show_behind_it_unlike_those_of_an_amplifier() -> None:
    good, bad = IDEAL_HOMODYNE, Homodyne(0.6, 0.1)
    assert TapReceiver(0.5, bad).returned_noise > 1.8 * TapReceiver(0.5, good).returned_noise
    amplifiers = [CloneReceiver(2.0, 1.0, homodyne).returned_noise for homodyne in (good, bad)]
    assert amplifiers[0] == amplifiers[1]


def test_a_setting_says_which_receiver() -> None:
    homodyne = Homodyne(0.8, 0.05)
    assert receiver_of(ReceiverKind.AMPLIFIER, 1.3, 1.2, homodyne) == CloneReceiver(
        1.3, 1.2, homodyne
    )
    tap = receiver_of(ReceiverKind("tap"), 1.3, 1.0, homodyne)
    assert tap == TapReceiver.of_gain(1.3, homodyne)
    with pytest.raises(SettingError, match="no amplifier"):
        receiver_of(ReceiverKind.TAP, 1.3, 1.2, homodyne)


@pytest.mark.parametrize("tau", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf, 1e-30])
def test_a_tap_passes_some_light_and_not_all(tau: float) -> None:
    with pytest.raises(SettingError) as caught:
        TapReceiver(tau, IDEAL_HOMODYNE)
    assert caught.value.name == "tap_transmittance"


@pytest.mark.parametrize("gain", [1.0, 0.5, math.nan, math.inf])
def test_a_tap_of_no_gain_is_refused(gain: float) -> None:
    with pytest.raises(SettingError) as caught:
        TapReceiver.of_gain(gain, IDEAL_HOMODYNE)
    assert caught.value.name == "gain"


@pytest.mark.parametrize("gain", [1e6, 1.0 + 1e-9])
def test_extreme_gains_have_a_tap(gain: float) -> None:
    tap = TapReceiver.of_gain(gain, IDEAL_HOMODYNE)
    assert 1.0 < tap.gain <= 1e6
    assert 0.0 < tap.returned_noise <= 2.0
