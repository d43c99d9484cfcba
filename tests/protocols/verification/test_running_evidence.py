"""The running estimate: sums of sessions add up, calibrations count once each, JSON keeps all."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.session import Session
from labctl.protocols.verification.channel import estimate_channel, excess_noise_upper
from labctl.protocols.verification.running_evidence import CalibratedSums, PooledEvidence
from labctl.studies.attacks.false_alarms import HONEST

PART = CalibratedSums(
    efficiency=0.7,
    electronic_noise=0.1,
    blocked_variance=2.0,
    calibration_samples=1000,
    sessions=1,
    samples=500,
    clones=0.0,
    fitted=0.0,
    sent=4000.0,
    cross=4200.0,
    received=5600.0,
)


def drawn(random: np.random.Generator, calibration: ReceiverCalibration, noise: float) -> Any:
    """Return sums of 2000 samples with the distribution that Gaussian readings give them."""
    unit = (1.0 + calibration.electronic_noise) / calibration.efficiency
    samples, sent = 2000, 16000.0
    # Truth in the receiver's units: its blocked variance is 1 there.
    variance, slope = 1.0 + noise / unit, math.sqrt(0.8 / unit)
    cross = slope * sent + random.normal() * math.sqrt(sent * variance)
    return CalibratedSums(
        efficiency=calibration.efficiency,
        electronic_noise=calibration.electronic_noise,
        blocked_variance=calibration.blocked_variance,
        calibration_samples=calibration.samples,
        sessions=1,
        samples=samples,
        clones=0.0,
        fitted=0.0,
        sent=sent,
        cross=cross,
        received=cross**2 / sent + variance * float(random.chisquare(samples - 1)),
    )


def calibrated(random: np.random.Generator, samples: int) -> ReceiverCalibration:
    return ReceiverCalibration(
        efficiency=0.7,
        electronic_noise=0.1,
        blocked_variance=float(random.chisquare(samples - 1)) / (samples - 1),
        samples=samples,
    )


def test_a_pool_of_one_session_is_that_session() -> None:
    weights = np.random.default_rng(1).normal(size=(12, 20)).astype(np.float32)
    session = Session(Network((weights,), "random", {}), HONEST, ModeLink(HONEST))
    list(session.run(np.random.default_rng(2).random((6, 20), dtype=np.float32)))
    calibration = session.calibrate()
    assert calibration is not None
    pool = PooledEvidence().with_session(session.server.evidence, calibration)
    alone, pooled = estimate_channel(session.server.evidence, calibration), pool.estimate()
    assert pooled.transmittance == pytest.approx(alone.transmittance, rel=1e-9)
    assert pooled.excess_noise == pytest.approx(alone.excess_noise, abs=1e-9)
    assert pooled.excess_noise_error == pytest.approx(alone.excess_noise_error, rel=1e-4)
    assert pool.samples == alone.samples
    assert pool.sessions == 1
    # Nobody kept how the light lies: the pool counts clones along it in full, a session does not.
    assert pool.excess_noise_upper(0.01) == pytest.approx(
        excess_noise_upper(alone, calibration, 0.01, clones=6 * 12), rel=1e-3
    )
    report = session.verdict()
    both = pool.bounds(session.expectation(), report.failure_probability, mean_photons=1.0)
    assert report.transmittance_lower is not None
    assert both.round_trip.transmittance <= report.transmittance_lower
    assert both.round_trip.excess_noise == pytest.approx(report.excess_noise_upper, rel=1e-3)


@pytest.mark.parametrize("shared", [True, False], ids=["one calibration", "one each"])
def test_bounds_hold_as_often_as_stated_however_calibrations_are_shared(shared: bool) -> None:
    """1500 pools of five sessions at 5 %: four errors, 2.3 %; the noise bound is exact."""
    random = np.random.default_rng(3)
    noise, missed_noise, missed_light = 0.05, 0, 0
    for _ in range(1500):
        pool, calibration = PooledEvidence(), calibrated(random, 3000)
        for _ in range(5):
            pool = pool.with_sums(drawn(random, calibration, noise))
            calibration = calibration if shared else calibrated(random, 3000)
        missed_noise += pool.excess_noise_upper(0.05) < noise
        missed_light += pool.transmittance_lower(0.05) > 0.8
        assert len(pool.parts) == (1 if shared else 5)
    assert missed_noise / 1500 == pytest.approx(0.05, abs=0.023)
    assert missed_light / 1500 <= 0.05 + 0.023


def test_more_sessions_tighten_the_bound() -> None:
    random = np.random.default_rng(4)
    calibration = calibrated(random, 10**8)
    pool, bounds = PooledEvidence(), []
    for count in range(1, 65):
        pool = pool.with_sums(drawn(random, calibration, 0.05))
        if count in (1, 8, 64):
            bounds.append(pool.excess_noise_upper(1e-6))
    assert bounds == sorted(bounds, reverse=True)
    assert pool.sessions == 64


def test_an_empty_pool_proves_nothing() -> None:
    with pytest.raises(SettingError, match="pooled samples"):
        PooledEvidence().estimate()
    assert PooledEvidence().with_session([], short_calibration()) == PooledEvidence()


def short_calibration() -> ReceiverCalibration:
    return replace(PART.calibration, samples=10)
