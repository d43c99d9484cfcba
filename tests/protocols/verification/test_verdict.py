"""What the verdict rejects, its bits at the bounds, its limit, and evidence that is none."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
from judged_evidence import SETTINGS, UNTRUSTED, BoundedChannel, judge, layer, perfect_calibration
from numpy.typing import NDArray

from labctl.errors import SettingError, SignalError
from labctl.protocols.link import LayerLight, ReturnedLight
from labctl.protocols.settings import VerificationSettings
from labctl.protocols.verification.verdict import (
    Expectation,
    LayerEvidence,
    VerificationReport,
    no_verification,
    verify,
)


def light_verdict(read: NDArray[np.float64], light: LayerLight) -> VerificationReport:
    evidence = LayerEvidence(light)
    ones, zeros = np.ones((light.rows, 1), np.float32), np.zeros((light.rows, 1), np.float32)
    evidence.add(ReturnedLight(read.astype(np.float32), ones, zeros))
    return judge([evidence], perfect_calibration(), Expectation(1.0, 0.0))


def test_nothing_returned_is_rejected() -> None:
    random = np.random.default_rng(17)
    light = layer(random, 20, 10, 4.0)
    for read in (np.zeros((20, 10)), random.standard_normal((20, 10))):
        report = light_verdict(read, light)
        assert report.accepted is False
        assert "transmittance" in report.reason
        assert report.transmittance == pytest.approx(0.0, abs=0.05)
        assert report.transmittance_lower == 0.0
        assert report.weights_bits_prior_free_upper == math.inf


def test_light_of_the_wrong_sign_is_no_transmittance() -> None:
    random = np.random.default_rng(18)
    light = layer(random, 20, 10, 4.0)
    report = light_verdict(-light.x + random.standard_normal((20, 10)), light)
    assert report.accepted is False
    assert report.transmittance == 0.0


def test_another_laser_s_light_is_rejected() -> None:
    random = np.random.default_rng(19)
    light, other = layer(random, 20, 10, 4.0), layer(random, 20, 10, 4.0)
    report = light_verdict(other.x + random.standard_normal((20, 10)), light)
    assert report.accepted is False
    assert "excess noise" in report.reason
    assert "transmittance" in report.reason


def test_bits_at_the_bounds_fall_to_the_known_answer_as_samples_grow() -> None:
    """mu = 4, G = 2, n = 392, lossless, never from below: 0.0437 (honest), 0.478 (prior-free)."""
    random = np.random.default_rng(20)
    bits, honest = [], []
    for samples in (10**4, 10**6, 10**8, 10**14):
        channel = BoundedChannel(1.0, 1.0 / 392.0, 1.0, 0.0, samples, samples)
        report = channel.verdict(random, VerificationSettings())
        assert report.weights_bits_prior_free_upper is not None
        assert report.weights_bits_honest_upper is not None
        bits.append(report.weights_bits_prior_free_upper)
        honest.append(report.weights_bits_honest_upper)
    assert bits == sorted(bits, reverse=True)
    assert honest == sorted(honest, reverse=True)
    assert honest[0] > 0.3
    assert honest[-1] == pytest.approx(0.0437, abs=3e-4)
    assert honest[-1] >= 0.0436
    assert bits[-1] == pytest.approx(0.4783, abs=1e-3)
    assert bits[-1] >= 0.478


@pytest.mark.usefixtures("no_leakage")
def test_honest_bits_at_the_bounds_cover_the_true_leakage() -> None:
    """T and noise estimated low or high: the true 0.0437 bit lies above 5 % of the time at most.

    1000 sessions, four errors 2.8 %.
    """
    random = np.random.default_rng(21)
    channel = BoundedChannel(1.0, 1.0 / 392.0, 1.0, 0.0, 10**6, 10**6)
    reports = [channel.verdict(random) for _ in range(1000)]
    bits = np.array([report.weights_bits_honest_upper for report in reports], float)
    assert np.mean(bits < 0.04365) <= 0.05 + 0.028


def test_prior_free_bits_at_the_bounds_cover_the_true_leakage() -> None:
    """The true 0.478 bit lies above 5 % of the time at most; 100 sessions, four errors 8.7 %."""
    random = np.random.default_rng(21)
    channel = BoundedChannel(1.0, 1.0 / 392.0, 1.0, 0.0, 10**6, 10**6)
    reports = [channel.verdict(random) for _ in range(100)]
    bits = np.array([report.weights_bits_prior_free_upper for report in reports], float)
    assert np.mean(bits < 0.478) <= 0.05 + 0.087
    assert np.max(bits) < 0.85


def test_a_limit_rejects_what_cannot_be_bounded_and_accepts_what_can() -> None:
    random = np.random.default_rng(22)
    limited = VerificationSettings(weights_bits_limit=0.6)
    few = BoundedChannel(1.0, 1.0 / 392.0, 1.0, 0.0, 311_248, 10**8)
    report = few.verdict(random, limited)
    assert report.accepted is False
    assert "above the limit of 0.6" in report.reason
    assert "311248 samples pooled" in report.reason
    assert few.verdict(random, VerificationSettings()).accepted is True
    many = replace(few, samples=10**11, calibration_samples=10**11)
    assert many.verdict(random, limited).accepted is True


def test_checks_alone_are_those_of_the_whole_verdict_and_a_limit_is_judged_by_its_figure() -> None:
    def judged(settings: VerificationSettings, *, figures: bool) -> VerificationReport:
        random, channel = np.random.default_rng(15), BoundedChannel()
        return verify(
            [channel.evidence(random)],
            channel.calibrate(random),
            channel.expectation,
            settings,
            mean_photons=4.0,
            technical_noise=0.0,
            assumptions=UNTRUSTED,
            figures=figures,
        )

    whole, alone = (judged(SETTINGS, figures=figures) for figures in (True, False))
    assert whole.weights_bits_prior_free_upper is not None
    assert alone == replace(
        whole,
        weights_bits_prior_free_upper=None,
        weights_bits_honest_upper=None,
        collective=None,
    )
    limited = replace(SETTINGS, weights_bits_limit=1e-3)
    assert judged(limited, figures=False) == judged(limited, figures=True)
    assert judged(limited, figures=False).accepted is False


@pytest.mark.parametrize("samples", [2, 3, 10])
def test_a_limit_is_never_met_by_a_handful_of_samples(samples: int) -> None:
    """Bounds of 1e20 SNU must not round to a leakage of nothing."""
    random = np.random.default_rng(23)
    for _ in range(20):
        channel = BoundedChannel(1.0, 0.0, 1.0, 0.0, samples, 10**6)
        report = channel.verdict(random, VerificationSettings(weights_bits_limit=1.0))
        assert report.accepted is False
        assert report.weights_bits_prior_free_upper is not None
        assert report.weights_bits_prior_free_upper > 1.0


def test_reports_repeat_the_question() -> None:
    report = BoundedChannel().verdict(np.random.default_rng(24))
    assert (report.samples, report.calibration_samples) == (20, 1000)
    assert (report.failure_probability, report.false_alarm_probability) == (0.05, 0.05)
    assert report.excess_noise_expected == 0.05


def test_without_returned_light_nothing_is_claimed() -> None:
    report = no_verification(SETTINGS)
    assert report.accepted is None
    assert "no statement" in report.reason
    assert report.samples == report.calibration_samples == 0
    figures = (
        report.transmittance,
        report.transmittance_lower,
        report.excess_noise,
        report.excess_noise_standard_error,
        report.excess_noise_upper,
        report.excess_noise_expected,
        report.weights_bits_prior_free_upper,
    )
    assert figures == (None,) * 7


def test_assumptions_of_a_verdict_have_no_defaults() -> None:
    parameters = inspect.signature(verify).parameters
    for name in ("assumptions", "technical_noise", "mean_photons", "calibration", "expectation"):
        assert parameters[name].default is inspect.Parameter.empty


def test_one_sample_has_no_variance() -> None:
    light = LayerLight(0, np.ones((1, 2), np.float32))
    with pytest.raises(SettingError, match="2 or more"):
        light_verdict(np.ones((1, 1)), light)
    with pytest.raises(SettingError, match="2 or more"):
        judge([LayerEvidence(light)], perfect_calibration(), Expectation(1.0, 0.0))


def test_quadratures_that_carried_nothing_prove_nothing() -> None:
    light = LayerLight(0, np.tile(np.array([0.0, 1.0], np.float32), (3, 1)))
    with pytest.raises(SettingError, match="light sent in the quadratures read"):
        light_verdict(np.ones((3, 1)), light)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_light_that_is_not_finite_is_refused_and_not_pooled(value: float) -> None:
    light = layer(np.random.default_rng(25), 4, 3, 4.0)
    evidence = LayerEvidence(light)
    read = light.x.copy()
    read[1, 2] = value
    with pytest.raises(SignalError, match="finite"):
        evidence.add(ReturnedLight(read, np.ones((4, 1), np.float32), np.zeros((4, 1), np.float32)))
    assert evidence.samples == 0


@pytest.mark.parametrize("shape", [(4, 2), (3, 3), (12,)])
def test_light_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    light = layer(np.random.default_rng(26), 4, 3, 4.0)
    ones = np.ones((4, 1), np.float32)
    with pytest.raises(SettingError, match="returned light"):
        LayerEvidence(light).add(ReturnedLight(np.zeros(shape, np.float32), ones, ones))


def test_bounds_are_of_the_networks_own_light_where_other_light_is_judged_beside() -> None:
    random = np.random.default_rng(12)
    robbed, quiet = BoundedChannel(excess_noise=0.4, samples=400), BoundedChannel(samples=4000)
    own, beside = [robbed.evidence(random)], [quiet.evidence(random)]
    calibration = quiet.calibrate(random)

    def verdict(evidence: list[LayerEvidence], of: list[LayerEvidence]) -> VerificationReport:
        return verify(
            evidence,
            calibration,
            quiet.expectation,
            SETTINGS,
            mean_photons=4.0,
            technical_noise=0.0,
            assumptions=UNTRUSTED,
            own=of,
        )

    alone, diluted = verdict(own, own), verdict([*own, *beside], [])
    both = verdict([*own, *beside], own)
    assert both.bounds == alone.bounds
    assert both.weights_bits_prior_free_upper == alone.weights_bits_prior_free_upper
    assert both.samples == 400
    assert (both.excess_noise_upper or 0.0) > 1.2 * (diluted.excess_noise_upper or 9.0)
    assert [check.statistic for check in both.checks] == [
        check.statistic for check in diluted.checks
    ]
