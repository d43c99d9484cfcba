"""The server's verdict on the light that came back: the checks, and the leakage at the bounds.

1. T and excess noise of the channel are estimated from sums of what was sent and read (`channel`).
2. Both are bounded at the failure probability, with the calibration's own uncertainty (`bounds`).
3. The leakage of the weights at these bounds is the prior-free figure; that of the network and the
   honest one are given beside it.
4. Sums by weight give the noise that repeats from query to query (`collective_noise`). Its bound is
   stated with a failure probability of its part.
5. All checks share the false-alarm probability (`checks`). One that fails rejects, and so does a
   leakage above the limit that was set. The reasons are whole sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.protocols.leakage import (
    Assumptions,
    Spectrum,
    holevo_bits_per_mode,
    network_bits_per_mode,
    prior_free_bits_per_mode,
)
from labctl.protocols.link import MonitorReading
from labctl.protocols.settings import VerificationSettings
from labctl.protocols.verification.bounds import BoundedChannel, Bounds, Clones, bounds_of
from labctl.protocols.verification.channel import (
    Estimate,
    Expectation,
    estimate_channel,
    excess_noise_upper,
    transmittance_lower,
)
from labctl.protocols.verification.checks import CheckResult, run_checks
from labctl.protocols.verification.collective_bounds import CollectiveEvidence, collective_evidence
from labctl.protocols.verification.collective_noise import CollectiveNoise
from labctl.protocols.verification.collective_record import (
    CollectiveRecord,
    CollectiveSums,
    collective_sums,
    record_of,
)
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
    with `failure_probability`, the doubt about the constants of the bench included, as do the rest:
    `mean_photons_upper`; `client_transmittance_lower` and `client_noise_upper`, of the channel that
    is left without `link_transmittance`, the loss that is trusted where any is.
    `weights_bits_prior_free_upper` is the prior-free leakage at these bounds, the one that the
    verdict uses; `weights_bits_network_upper` that of the network sent, None where it was not
    given; `weights_bits_honest_upper` the honest-prior figure, which bounds no trained network.
    `collective`: noise of the mode that carries a weight in all queries of this light, and
    `collective_bounds` with it; those fail with `failure_probability` too.
    `discrete_weights`: why the figures in bits, which are for Gaussian weights, do not hold for the
    network sent, None where a session sees no reason.
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
    weights_bits_prior_free_upper: float | None
    samples: int
    calibration_samples: int
    failure_probability: float
    false_alarm_probability: float
    checks: tuple[CheckResult, ...] = ()
    collective: CollectiveNoise | None = None
    collective_bounds: Bounds | None = None
    mean_photons_upper: float | None = None
    client_transmittance_lower: float | None = None
    client_noise_upper: float | None = None
    link_transmittance: float | None = None
    weights_bits_network_upper: float | None = None
    weights_bits_honest_upper: float | None = None
    discrete_weights: str | None = None

    @property
    def bounds(self) -> Bounds | None:
        """The bounds, None where no returned light was read."""
        if (
            self.transmittance_lower is None
            or self.excess_noise_upper is None
            or self.client_transmittance_lower is None
            or self.client_noise_upper is None
            or self.mean_photons_upper is None
            or self.link_transmittance is None
        ):
            return None
        return Bounds(
            BoundedChannel(self.transmittance_lower, self.excess_noise_upper),
            BoundedChannel(self.client_transmittance_lower, self.client_noise_upper),
            self.mean_photons_upper,
            self.link_transmittance,
        )

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
        weights_bits_prior_free_upper=None,
        samples=0,
        calibration_samples=0,
        failure_probability=settings.failure_probability,
        false_alarm_probability=settings.false_alarm_probability,
    )


def _reasons(
    checks: Sequence[CheckResult], bits: float | None, limit: float | None, samples: int
) -> list[str]:
    """Return what speaks against the session, a sentence each; none where it is accepted."""
    reasons = [check.sentence for check in checks if check.passed is False]
    if limit is not None and bits is not None and bits > limit:
        reasons.append(
            f"prior-free leakage bound {bits:.4g} bit per weight is above the limit of {limit:.4g} "
            f"({samples} samples pooled)"
        )
    return reasons


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
    history: CollectiveRecord | None = None,
    spectrum: Spectrum | None = None,
    own: Sequence[LayerEvidence] | None = None,
    figures: bool = True,
) -> VerificationReport:
    """Judge the evidence.

    Rejects when any check shows what an honest round trip does not, by more than its share of the
    false-alarm probability allows, or when the leakage at the confidence bounds exceeds the limit
    set. `technical_noise` is the trusted share in SNU, if the assumptions trust it. `monitor`:
    the blocked receiver during the session, None if it was not looked at. `history`: sums by
    weight of what this client was sent of the network before, for the checks alone: a client that
    was honest before would dilute what it does now. `spectrum`: of the network sent, for its own
    bound. `own`: the part of the evidence that figures and bounds are of, all by default; what
    worthless queries show must not replace what real ones show. `figures`: False leaves out the
    leakage in bits and the collective bound, most of the work, unless there is a limit to judge
    it by: the checks alone are counted over many sessions.
    """
    figures = figures or settings.weights_bits_limit is not None
    bounded = own if own is not None and any(part.samples for part in own) else evidence
    estimate = estimate_channel(bounded, calibration)
    bounds = bounds_of(
        estimate,
        calibration,
        expectation,
        settings.failure_probability,
        mean_photons=mean_photons,
        clones=Clones.of(bounded),
    )
    in_bits = partial(bounds.bits, assumptions, technical_noise)
    bits = in_bits(prior_free_bits_per_mode) if figures else None
    honest = in_bits(holevo_bits_per_mode) if figures else None
    network = None
    if figures and spectrum is not None:
        network = in_bits(partial(network_bits_per_mode, spectrum))
    sums = _sums_of(bounded, calibration, expectation, mean_photons)
    judged = sums
    if (history is not None and history.parts) or bounded is not evidence:
        judged = _sums_of(evidence, calibration, expectation, mean_photons, history)
    checks = run_checks(
        evidence,
        estimate if bounded is evidence else estimate_channel(evidence, calibration),
        calibration,
        expectation,
        settings.false_alarm_probability,
        monitor,
        judged,
    )
    together = None
    if sums is not None and figures:
        together = _together(sums, expectation, settings, mean_photons)
    reasons = _reasons(checks, bits, settings.weights_bits_limit, estimate.samples)
    return VerificationReport(
        accepted=not reasons,
        reason="; ".join(reasons) or "consistent with honest use",
        transmittance=estimate.transmittance,
        transmittance_lower=bounds.round_trip.transmittance,
        excess_noise=estimate.excess_noise,
        excess_noise_standard_error=estimate.excess_noise_error,
        excess_noise_upper=bounds.round_trip.excess_noise,
        excess_noise_expected=expectation.excess_noise,
        weights_bits_prior_free_upper=bits,
        weights_bits_network_upper=network,
        weights_bits_honest_upper=honest,
        samples=estimate.samples,
        calibration_samples=calibration.samples,
        failure_probability=settings.failure_probability,
        false_alarm_probability=settings.false_alarm_probability,
        checks=checks,
        mean_photons_upper=bounds.mean_photons,
        client_transmittance_lower=bounds.in_client.transmittance,
        client_noise_upper=bounds.in_client.excess_noise,
        link_transmittance=bounds.link_transmittance,
        collective=None if together is None else together.noise,
        collective_bounds=None if together is None else together.bounds,
    )


def _together(
    sums: CollectiveSums,
    expectation: Expectation,
    settings: VerificationSettings,
    mean_photons: float,
) -> CollectiveEvidence:
    return collective_evidence(
        sums,
        expectation.doubts,
        settings.failure_probability,
        mean_photons=mean_photons,
        link_transmittance=expectation.link_transmittance,
    )


def _sums_of(
    evidence: Sequence[LayerEvidence],
    calibration: ReceiverCalibration,
    expectation: Expectation,
    mean_photons: float,
    history: CollectiveRecord | None = None,
) -> CollectiveSums | None:
    record = record_of(evidence, calibration, expectation, mean_photons)
    return collective_sums(evidence, record, history)
