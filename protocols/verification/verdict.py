"""The server's verdict on the light that came back: the checks, and the leakage at the bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.protocols.leakage import Assumptions, weights_bits_shown
from labctl.protocols.link import MonitorReading
from labctl.protocols.settings import VerificationSettings
from labctl.protocols.verification.channel import (
    Estimate,
    Expectation,
    estimate_channel,
    excess_noise_upper,
    transmittance_lower,
)
from labctl.protocols.verification.checks import CheckResult, run_checks
from labctl.protocols.verification.evidence import LayerEvidence

__all__ = [
    "CheckResult",
    "Estimate",
    "Expectation",
    "LayerEvidence",
    "VerificationReport",
    "estimate_channel",
    "excess_noise_upper",
    "no_verification",
    "transmittance_lower",
    "verify",
]


@dataclass(frozen=True)
class VerificationReport:
    """The server's verdict on the light that came back.

    `accepted` is None when no returned light was read. Excess noise in SNU at the server,
    `standard_error` of it; `excess_noise_upper` and `transmittance_lower` hold together except
    with `failure_probability`. `weights_bits_per_real_upper` is the leakage at these bounds.
    `checks`: everything that was looked at; together they reject an honest session with
    `false_alarm_probability` at most.
    """

    accepted: bool | None
    reason: str
    transmittance: float | None
    transmittance_lower: float | None
    excess_noise: float | None
    excess_noise_standard_error: float | None
    excess_noise_upper: float | None
    excess_noise_expected: float | None
    weights_bits_per_real_upper: float | None
    samples: int
    calibration_samples: int
    failure_probability: float
    false_alarm_probability: float
    checks: tuple[CheckResult, ...] = ()

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.passed is False)


def no_verification(settings: VerificationSettings) -> VerificationReport:
    """Return the report of a run that did not look at the returned light."""
    return VerificationReport(
        accepted=None,
        reason="returned light not read: no statement about tampering",
        transmittance=None,
        transmittance_lower=None,
        excess_noise=None,
        excess_noise_standard_error=None,
        excess_noise_upper=None,
        excess_noise_expected=None,
        weights_bits_per_real_upper=None,
        samples=0,
        calibration_samples=0,
        failure_probability=settings.failure_probability,
        false_alarm_probability=settings.false_alarm_probability,
    )


def verify(
    evidence: Sequence[LayerEvidence],
    calibration: ReceiverCalibration,
    expectation: Expectation,
    settings: VerificationSettings,
    *,
    mean_photons: float,
    technical_noise: float,
    assumptions: Assumptions,
    monitor: MonitorReading | None = None,
) -> VerificationReport:
    """Judge the evidence.

    Rejects when any check shows what an honest round trip does not, by more than its share of the
    false-alarm probability allows, or when the leakage at the confidence bounds exceeds the limit
    set. `technical_noise` is the trusted share in SNU, if the assumptions trust it. `monitor`:
    the blocked receiver during the session, None if it was not looked at.
    """
    estimate = estimate_channel(evidence, calibration)
    half = settings.failure_probability / 2.0
    upper = excess_noise_upper(estimate, calibration, half)
    lower = transmittance_lower(estimate, calibration, half)
    bits = weights_bits_shown(
        lower,
        upper,
        mean_photons=mean_photons,
        technical_noise=technical_noise,
        assumptions=assumptions,
        client_transmittance=expectation.client_transmittance,
    )
    checks = run_checks(
        evidence, estimate, calibration, expectation, settings.false_alarm_probability, monitor
    )
    reasons = [check.sentence for check in checks if check.passed is False]
    limit = settings.weights_bits_limit
    if limit is not None and bits > limit:
        reasons.append(
            f"leakage bound {bits:.4g} bit per weight is above the limit of {limit:.4g} "
            f"({estimate.samples} samples pooled)"
        )
    return VerificationReport(
        accepted=not reasons,
        reason="; ".join(reasons) or "consistent with honest use",
        transmittance=estimate.transmittance,
        transmittance_lower=lower,
        excess_noise=estimate.excess_noise,
        excess_noise_standard_error=estimate.excess_noise_error,
        excess_noise_upper=upper,
        excess_noise_expected=expectation.excess_noise,
        weights_bits_per_real_upper=bits,
        samples=estimate.samples,
        calibration_samples=calibration.samples,
        failure_probability=settings.failure_probability,
        false_alarm_probability=settings.false_alarm_probability,
        checks=checks,
    )
