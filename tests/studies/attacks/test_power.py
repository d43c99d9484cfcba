"""The power of the pooled checks: theory against sessions that are judged."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import f as fisher

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.errors import SettingError
from labctl.protocols.link import LayerLight
from labctl.protocols.verification.channel import Expectation, estimate_channel
from labctl.protocols.verification.checks import SHARES, run_checks
from labctl.protocols.verification.evidence import LayerEvidence
from labctl.studies.attacks.attack import Mark
from labctl.studies.attacks.power import (
    HonestLight,
    detection,
    noise_detection,
    shares_in_use,
)

HONEST = HonestLight(mean_photons=4.0, transmittance=0.8, excess_noise=0.01, shot_noise=1.4)


def judged(
    mark: Mark, modes: int, calibration_samples: int, probability: float, sessions: int
) -> tuple[float, float, float]:
    """Return how often the noise check, a gain check and either failed; sums drawn exactly."""
    random = np.random.default_rng(1)
    light = LayerLight(0, np.ones((1, 2), np.float32))
    expected = Expectation(HONEST.transmittance, HONEST.excess_noise)
    variance = HONEST.variance + mark.excess_noise
    slope = math.sqrt(HONEST.transmittance * mark.transmittance_ratio)
    counts = np.zeros(3)
    for _ in range(sessions):
        part = LayerEvidence(light)
        sent = 2.0 * HONEST.mean_photons * modes
        cross = slope * sent + random.normal() * math.sqrt(sent * variance)
        part.samples, part.sent_power, part.cross_power = modes, sent, cross
        part.received_power = cross**2 / sent + variance * float(random.chisquare(modes - 1))
        degrees = calibration_samples - 1
        blocked = HONEST.shot_noise * float(random.chisquare(degrees)) / degrees
        calibration = ReceiverCalibration(
            efficiency=1.0,
            electronic_noise=HONEST.shot_noise - 1.0,
            blocked_variance=blocked,
            samples=calibration_samples,
        )
        estimate = estimate_channel([part], calibration)
        checks = run_checks([part], estimate, calibration, expected, probability, None)
        failed = {check.name for check in checks if check.passed is False}
        noise, gain = "pooled noise" in failed, bool(failed & {"low gain", "high gain"})
        counts += (noise, gain, noise or gain)
    noise_rate, gain_rate, either = counts / sessions
    return float(noise_rate), float(gain_rate), float(either)


# Without sums by row and mode and without monitor, the shares of the pooled checks are all there
# is: the theory is asked with the probability that gives it the same shares.
_POOLED = 0.55 + 2.0 * 0.021


@pytest.mark.parametrize(
    "mark",
    [Mark(0.02), Mark(0.05), Mark(0.0, 0.99), Mark(0.0, 1.015), Mark(0.03, 0.985), Mark()],
    ids=["noise", "more noise", "loss", "gain", "both", "honest"],
)
def test_theory_agrees_with_sessions(mark: Mark) -> None:
    """800 sessions of 20,000 modes, 100,000 of calibration, at 5 %: four errors."""
    sessions = 800
    found = judged(mark, 20_000, 100_000, 0.05, sessions)
    theory = detection(mark, HONEST, 20_000, 100_000, 0.05 / _POOLED)
    for measured, expected in zip(found, (theory.noise, theory.gain, theory.either), strict=True):
        error = 4.0 * math.sqrt(max(expected * (1.0 - expected), 0.002) / sessions)
        assert measured == pytest.approx(expected, abs=error + 0.004)


def test_honest_light_is_caught_as_often_as_the_checks_share() -> None:
    found = detection(Mark(), HONEST, 10**6, 10**7, 1e-3)
    assert found.noise == pytest.approx(0.45e-3, rel=1e-6)
    assert found.gain == pytest.approx(0.042e-3, rel=1e-3)
    alone = detection(Mark(), HONEST, 10**6, 10**7, 1e-3, monitored=False)
    assert alone.noise == pytest.approx(0.45e-3 / 0.8, rel=1e-6)


def test_power_grows_with_modes_noise_and_loss() -> None:
    by_modes = [
        detection(Mark(0.01), HONEST, modes, 10**8, 1e-6).either for modes in (10**4, 10**5, 10**6)
    ]
    by_noise = [detection(Mark(e), HONEST, 10**5, 10**8, 1e-6).noise for e in (0.0, 0.02, 0.05)]
    by_loss = [detection(Mark(0.0, t), HONEST, 10**5, 10**8, 1e-6).gain for t in (1.0, 0.99, 0.97)]
    for curve in (by_modes, by_noise, by_loss):
        assert all(before < after for before, after in pairwise(curve))


def caught(mark: Mark, modes: int, calibration_samples: int) -> float:
    return detection(mark, HONEST, modes, calibration_samples, 1e-6).either


def test_the_calibration_limits_what_can_be_seen() -> None:
    """0.002 SNU: 1.2e9 modes' worth of scatter in 1e5 calibration samples hides it for ever."""
    assert caught(Mark(0.002), 10**12, 10**5) < 0.99
    assert caught(Mark(0.002), 10**9, 10**10) > 0.99


def test_power_by_hand() -> None:
    """Noise alone, normal limit: 99 % at sqrt(2/m) (4.87 v + 2.326 (v + e)) = e."""
    variance = HONEST.variance
    sigmas = 4.871 * variance + 2.326 * (variance + 0.02)
    least = 2.0 * (sigmas / 0.02) ** 2
    assert caught(Mark(0.02), round(0.98 * least), 10**14) < 0.99
    assert caught(Mark(0.02), round(1.02 * least), 10**14) > 0.99


def test_nothing_returned_is_caught_with_few_modes() -> None:
    assert caught(Mark(0.0, 0.0), 100, 100) > 0.99


def test_honest_light_is_caught_at_the_false_alarms_alone() -> None:
    assert caught(Mark(), 10**12, 10**12) < 1e-6


def test_scattered_noise_is_caught_as_with_fewer_degrees_of_freedom() -> None:
    white, scattered = (
        noise_detection(Mark(0.1, 1.0, scatter), HONEST, 10**4, 10**8, 1e-3)
        for scatter in (1.0, 1.2)
    )
    variance, limit = HONEST.variance, float(fisher.isf(1e-3, 10**4 - 1, 10**8 - 1))
    scale = (variance + 0.1) / variance
    # 200,000 sums of 10,000 / 1.2 squares, seed 4; the standard error is 0.0011 at most.
    draw = np.random.default_rng(4)
    degrees = (10**4 - 1) / 1.2
    counted = np.mean(scale * draw.chisquare(degrees, 200_000) / degrees > limit)
    assert scattered == pytest.approx(counted, abs=0.005)
    assert abs(scattered - 0.5) < abs(white - 0.5)


def test_settings_out_of_range_are_refused() -> None:
    for call in (
        lambda: detection(Mark(), HONEST, 1, 10, 0.1),
        lambda: detection(Mark(), HONEST, 10, 1, 0.1),
        lambda: detection(Mark(), HONEST, 10, 10, 0.0),
        lambda: detection(Mark(0.0, -1.0), HONEST, 10, 10, 0.1),
        lambda: HonestLight(mean_photons=0.0),
        lambda: HonestLight(mean_photons=1.0, shot_noise=0.5),
        lambda: HonestLight(mean_photons=1.0, excess_noise=-0.5),
    ):
        with pytest.raises(SettingError):
            call()


def test_one_query_has_the_share_of_the_sums_by_weight_to_give_to_the_other_checks() -> None:
    shares = {
        pair: shares_in_use(monitored=pair[0], repeated=pair[1])
        for pair in ((True, True), (True, False), (False, False))
    }
    assert shares[True, True] == 1.0
    assert shares[True, False] == pytest.approx(1.0 - SHARES["collective noise"])
    assert shares[False, False] == pytest.approx(
        1.0 - SHARES["collective noise"] - SHARES["shot noise"]
    )
    mark, honest = Mark(0.01), HonestLight(mean_photons=2.0)
    once, often = (
        detection(mark, honest, 20_000, 100_000, 1e-3, repeated=repeated)
        for repeated in (False, True)
    )
    assert once.noise > often.noise
