"""Bounds that hold as often as stated: few samples, doubtful constants, loss beyond the trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.data.models import Network
from labctl.protocols.disguise import PLAIN
from labctl.protocols.leakage import (
    Assumptions,
    Trust,
    holevo_bits_per_mode,
    thermal_entropy_bits,
)
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.session import Session
from labctl.protocols.settings import Channel, Light, Sampling, SessionSettings
from labctl.protocols.verification.bounds import Bounds, Clones, bounds_of
from labctl.protocols.verification.channel import (
    Estimate,
    Expectation,
    estimate_of_sums,
    excess_noise_upper,
)
from labctl.protocols.verification.doubts import Doubts, Source
from labctl.protocols.verification.noise_ratio import NoiseRatio
from labctl.protocols.verification.trust import under_every_trust

Doubles = NDArray[np.float64]

UNTRUSTED = Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED)
LOSS_TRUSTED = Assumptions(Trust.TRUSTED, Trust.UNTRUSTED)
METER = Source("power meter", 0.03)


@dataclass(frozen=True)
class Sent:
    """Light sent to a receiver with one clone per row: what is true, and how much is read."""

    rows: int = 12
    modes: int = 4
    clone: float = 1.5
    calibration_samples: int = 1_000_000

    @property
    def samples(self) -> int:
        return self.rows * self.modes

    @property
    def excess_noise(self) -> float:
        return self.clone / self.modes

    def ratios(self, random: np.random.Generator, count: int) -> Doubles:
        """Draw variance ratios of returned light, all clone noise on one mode of each row.

        The slope is fitted: what lies along the light sent is taken off.
        """
        sent = random.standard_normal((count, self.rows, self.modes))
        read = random.standard_normal(sent.shape)
        read[..., 0] += math.sqrt(self.clone) * random.standard_normal((count, self.rows))
        power, cross, square = (
            np.einsum("kij,kij->k", a, b) for a, b in ((sent, sent), (sent, read), (read, read))
        )
        degrees = self.calibration_samples - 1
        blocked = random.chisquare(degrees, count) / degrees
        found: Doubles = (square - cross**2 / power) / (self.samples - 1.0) / blocked
        return found

    def estimate(self, ratio: float) -> Estimate:
        """Return an estimate that shows this variance ratio."""
        return estimate_of_sums(
            self.calibration(),
            samples=self.samples,
            fitted=0.0,
            sent=1.0,
            cross=0.0,
            received=ratio * (self.samples - 1.0),
        )

    def least_covered(self, probability: float, clones: float) -> float:
        """Return the variance ratio from which on the bound holds the truth."""

        def missing(ratio: float) -> float:
            found = excess_noise_upper(
                self.estimate(ratio), self.calibration(), probability, clones=clones
            )
            return found - self.excess_noise

        return float(brentq(missing, 0.3, 3.0))

    def calibration(self) -> ReceiverCalibration:
        return ReceiverCalibration(1.0, 0.0, 1.0, self.calibration_samples)


def test_the_lower_tail_is_that_of_the_weighted_sum() -> None:
    # 1e6 draws, seed 1: 4 sigma of a share of 0.005 are 0.0003; the approximation adds 2 %.
    random = np.random.default_rng(1)
    drawn = random.chisquare(36, 10**6) + 2.5 * random.chisquare(12, 10**6)
    shown = NoiseRatio((36.0, 12.0), (1.0, 2.5), 1e9)
    for probability in (0.3, 0.05, 0.005):
        found = shown.head(float(np.quantile(drawn, probability)))
        assert found == pytest.approx(probability, rel=0.02, abs=3e-4)
    assert shown.head(40.0) + shown.tail(40.0) == pytest.approx(1.0, abs=1e-3)
    assert shown.head(0.0) == 0.0


@pytest.mark.parametrize("probability", [0.05, 0.005])
def test_noise_on_one_mode_of_each_row_is_bounded_as_often_as_stated(probability: float) -> None:
    # 2e5 sessions of 48 samples, seed 2: 4 sigma of 0.005 are 0.0006, of 0.05 0.002.
    sent, count = Sent(), 200_000
    shown = sent.ratios(np.random.default_rng(2), count)
    missed = float(np.mean(shown < sent.least_covered(probability, sent.rows)))
    assert 0.8 * probability < missed < probability + 4.0 * math.sqrt(probability / count)
    # As white noise it fails a third more often than stated.
    white = float(np.mean(shown < sent.least_covered(probability, 0.0)))
    assert white > 1.3 * probability


def test_the_pooled_bound_tends_to_that_of_white_noise() -> None:
    calibration = ReceiverCalibration(1.0, 0.0, 1.0, 10**9)
    one = 311_248
    gaps = []
    for images in (1, 100, 10_000):
        samples = one * images
        found = estimate_of_sums(
            calibration,
            samples=samples,
            fitted=0.0,
            sent=1.0 * samples,
            cross=1.0 * samples,
            received=samples * 2.00118,
        )
        white = excess_noise_upper(found, calibration, 5e-11)
        loud = excess_noise_upper(found, calibration, 5e-11, clones=794.0 * images)
        gaps.append(loud / white - 1.0)
    assert gaps == sorted(gaps, reverse=True)
    assert 0.0 < gaps[2] < 0.02
    assert 0.02 < gaps[0] < 0.25


def test_too_few_clones_say_nothing_at_a_small_probability() -> None:
    calibration = ReceiverCalibration(1.0, 0.0, 1.0, 10**6)
    found = estimate_of_sums(
        calibration, samples=400, fitted=0.0, sent=400.0, cross=400.0, received=810.0
    )
    assert excess_noise_upper(found, calibration, 5e-11, clones=1.0) > 1e3
    assert excess_noise_upper(found, calibration, 0.05, clones=1.0) < 50.0


def bounded(
    expectation: Expectation,
    *,
    probability: float = 1e-10,
    transmittance: float = 1.0,
    excess_noise: float = 6.5e-5,
    mean_photons: float = 8.91,
    samples: int = 10**10,
) -> Bounds:
    """Return the bounds of light that shows its true values, pooled long enough."""
    calibration = ReceiverCalibration(1.0, 0.0, 1.0, 10**12)
    sent = 2.0 * mean_photons * samples
    slope = math.sqrt(transmittance)
    found = estimate_of_sums(
        calibration,
        samples=samples,
        fitted=0.0,
        sent=sent,
        cross=slope * sent,
        received=slope**2 * sent + (1.0 + excess_noise) * samples,
    )
    return bounds_of(
        found,
        calibration,
        expectation,
        probability,
        mean_photons=mean_photons,
        clones=Clones(samples / 392.0, 0.1),
    )


def test_a_doubtful_unit_moves_both_bounds_and_doubtful_light_mu_and_transmittance() -> None:
    honest = Expectation(0.9, 6.5e-5)
    exact = bounded(honest, transmittance=0.9)
    unit = bounded(replace(honest, doubts=Doubts(unit=(METER,))), transmittance=0.9)
    light = bounded(replace(honest, doubts=Doubts(light=(METER,))), transmittance=0.9)
    # Normal at 1e-11: 6.71 sigma of 3 %.
    reach = 0.03 * 6.706
    assert unit.round_trip.transmittance == pytest.approx(
        exact.round_trip.transmittance * (1.0 - reach), rel=1e-3
    )
    assert unit.round_trip.excess_noise == pytest.approx(
        exact.round_trip.excess_noise / (1.0 - reach), rel=0.05
    )
    assert unit.mean_photons == exact.mean_photons == 8.91
    assert light.mean_photons == pytest.approx(8.91 / (1.0 - reach), rel=1e-3)
    assert light.round_trip.transmittance == pytest.approx(unit.round_trip.transmittance, rel=1e-3)


def test_six_percent_of_the_transmittance_are_most_of_a_bit() -> None:
    # Known answers: two standard uncertainties of 3 % that an exact efficiency left out.
    exact = bounded(Expectation(1.0, 6.5e-5)).bits(UNTRUSTED, 0.0, holevo_bits_per_mode)
    doubted = holevo_bits_per_mode(8.91, 0.94, 6.5e-5) / 2.0
    assert exact < 0.01
    assert doubted == pytest.approx(0.73, abs=0.02)
    at_2_sigma = Expectation(1.0, 6.5e-5, doubts=Doubts(unit=(METER,)))
    # A one-sided 2.275 % for T, a tenth of the whole probability.
    found = bounded(at_2_sigma, probability=0.2275).bits(UNTRUSTED, 0.0, holevo_bits_per_mode)
    assert found == pytest.approx(doubted, rel=0.02)
    assert bounded(at_2_sigma).bits(UNTRUSTED, 0.0, holevo_bits_per_mode) > 1.2


def test_a_client_that_taps_a_tenth_learns_less_than_its_trusted_loss_bound() -> None:
    """Accepted, for the expected T is known to 3 % alone; the bounds are above what it holds."""
    network = Network(
        (np.random.default_rng(1).standard_normal((100, 60)).astype(np.float32),), "small", {}
    )
    agreed = SessionSettings(
        light=Light(8.91, PLAIN),
        channel=Channel(loss_db=-10.0 * math.log10(0.9)),
        receiver=CloneReceiver(1.0128, 1.0, IDEAL_HOMODYNE),
        verifier=IDEAL_HOMODYNE,
        assumptions=LOSS_TRUSTED,
        sampling=Sampling.ALL,
        seed=4,
    )
    tapped = replace(agreed, channel=replace(agreed.channel, loss_db=-10.0 * math.log10(0.81)))
    session = Session(network, agreed, ModeLink(tapped))
    images = np.random.default_rng(2).random((50, 60), np.float32)
    assert len(list(session.run(images))) > 0
    # 3 % doubt in T: 10 % less are 3.3 standard uncertainties, not yet an alarm at 1e-6.
    unsure = replace(
        session.expectation(),
        transmittance_uncertainty=0.027,
        doubts=Doubts(share=(Source("transmittance", 0.03),)),
    )
    # A tapped tenth is a coherent state per mode whose weights scatter its X and P by 2 mu/10.
    learned = thermal_entropy_bits(1.0 + 0.1 * 2.0 * 8.91) / 2.0
    assert learned == pytest.approx(0.94, abs=0.005)
    for expectation in (unsure, replace(unsure, doubts=Doubts())):
        report = session.verdict(expectation)
        assert report.accepted
        assert report.weights_bits_prior_free_upper is not None
        assert report.weights_bits_prior_free_upper > learned
        for each in under_every_trust(agreed, report):
            assert each.bits_upper is not None
            assert each.bits_upper > learned


def test_loss_as_expected_is_trusted() -> None:
    expected = Expectation(0.9, 6.5e-5)
    honest = bounded(expected, transmittance=0.9)
    assert honest.bits(LOSS_TRUSTED, 0.0, holevo_bits_per_mode) < 0.02
    assert honest.bits(UNTRUSTED, 0.0, holevo_bits_per_mode) > 0.9
    unsure = replace(expected, doubts=Doubts(share=(Source("records", 0.01),)))
    assert bounded(unsure, transmittance=0.9).bits(LOSS_TRUSTED, 0.0, holevo_bits_per_mode) > 0.3


def test_a_loss_that_is_trusted_but_not_known_is_bounded_as_if_it_were_not_trusted() -> None:
    expected = Expectation(0.9, 6.5e-5, doubts=Doubts(share=(Source("one reading", 0.3, 1.0),)))
    unsure = bounded(expected, transmittance=0.9)
    untrusted = unsure.bits(UNTRUSTED, 0.0, holevo_bits_per_mode)
    assert unsure.bits(LOSS_TRUSTED, 0.0, holevo_bits_per_mode) == untrusted < 2.0


def test_light_that_says_nothing_bounds_nothing() -> None:
    few = Source("two readings", 0.05, 1.0)
    lost = bounded(Expectation(1.0, 0.0, doubts=Doubts(unit=(few,))))
    assert lost.bits(UNTRUSTED, 0.0, holevo_bits_per_mode) == math.inf
    dim = bounded(Expectation(1.0, 0.0, doubts=Doubts(light=(few,))))
    assert dim.bits(UNTRUSTED, 0.0, holevo_bits_per_mode) == math.inf
