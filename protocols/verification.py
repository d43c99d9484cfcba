"""What the returned light proves: transmittance, excess noise, their bounds, and the verdict.

The server regresses what its homodyne reads on what it sent. The slope gives the transmittance;
the residual variance, over that of the blocked receiver, gives the excess noise. Both variances
are estimates, so their ratio follows Fisher's F distribution and the calibration's own sample
size is part of every bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.errors import SettingError, SignalError
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import WEIGHTS_PER_MODE, Assumptions, weights_bits_per_mode
from labctl.protocols.link import LayerLight, ReturnedLight
from labctl.protocols.settings import VerificationSettings

# Few enough rows that all passes over a block stay in the cache.
_ROWS_AT_ONCE = 112


class LayerEvidence:
    """Sums over all returned light of one layer, pooled over rows and images."""

    def __init__(self, light: LayerLight) -> None:
        self._light = light
        self._fresh: list[tuple[float, float, float, float]] = []
        self._scratch = np.zeros((2, _ROWS_AT_ONCE, light.modes), np.float32)
        self.samples = 0
        self.fitted = 0.0
        self.sent_power = 0.0
        self.cross_power = 0.0
        self.received_power = 0.0

    def add(self, returned: ReturnedLight) -> None:
        """Add one image.

        Raises SettingError if its shape is not that of the light sent, SignalError if it holds
        values that are not finite or whose squares are not.
        """
        read = returned.measured
        if read.shape != self._light.x.shape:
            raise SettingError("returned light", read.shape, f"of shape {self._light.x.shape}")
        sums = np.zeros(3)
        for first in range(0, len(read), _ROWS_AT_ONCE):
            part = slice(first, first + _ROWS_AT_ONCE)
            sums += self._sums(read[part], returned.cosine[part], returned.sine[part], part)
        if not np.isfinite(sums).all():
            raise SignalError("returned light holds values that are not finite, or beyond 1e19")
        sent, cross, received = map(float, sums)
        self.samples += read.size
        self.fitted += returned.fitted
        self.sent_power += sent
        self.cross_power += cross
        self.received_power += received
        self._fresh.append((float(read.size), sent, cross, received))

    def _sums(
        self, read: Floats, cosine: Floats, sine: Floats, rows: slice
    ) -> tuple[float, float, float]:
        """Return the sums of sent^2, sent times read and read^2 over some rows.

        Built from the residual, not from bright light: what float32 rounds stays far below vacuum.
        """
        expected, other = self._scratch[0][: len(read)], self._scratch[1][: len(read)]
        np.multiply(cosine, self._light.x[rows], out=expected)
        np.multiply(sine, self._light.p[rows], out=other)
        expected += other
        sent = float(np.vdot(expected, expected))
        along = float(np.vdot(expected, read))
        slope = np.float32(along / sent if sent > 0.0 and math.isfinite(along) else 0.0)
        np.multiply(expected, -slope, out=other)
        other += read
        remainder = float(np.vdot(expected, other))
        cross = float(slope) * sent + remainder
        return sent, cross, float(slope) * (cross + remainder) + float(np.vdot(other, other))

    def take_sums(self) -> npt.NDArray[np.float64]:
        """Return, once each, every image's sums (images, 4) for a run file.

        Columns: samples, sum of sent^2 (SNU), of sent times read, of read^2.
        """
        sums = np.array(self._fresh, np.float64).reshape(-1, 4)
        self._fresh.clear()
        return sums


@dataclass(frozen=True)
class Expectation:
    """What an honest round trip shows: the link's and the client's known share.

    The uncertainties are standard uncertainties of these expectations themselves.
    `client_transmittance` is the share of the transmittance that is the client's rotation's.
    """

    transmittance: float
    excess_noise: float
    transmittance_uncertainty: float = 0.0
    excess_noise_uncertainty: float = 0.0
    client_transmittance: float = 1.0


@dataclass(frozen=True)
class VerificationReport:
    """The server's verdict on the light that came back.

    `accepted` is None when no returned light was read. Excess noise in SNU at the server,
    `standard_error` of it; `excess_noise_upper` and `transmittance_lower` hold together except
    with `failure_probability`. `weights_bits_per_real_upper` is the leakage at these bounds.
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


@dataclass(frozen=True)
class Estimate:
    """Channel estimate from pooled evidence, with standard errors that include calibration."""

    transmittance: float
    transmittance_error: float
    excess_noise: float
    excess_noise_error: float
    slope: float
    slope_error: float
    variance_ratio: float
    samples: int


def estimate_channel(
    evidence: Sequence[LayerEvidence], calibration: ReceiverCalibration
) -> Estimate:
    """Return transmittance and excess noise at the server from all pooled evidence.

    sigma(eps) = s^2 sqrt(2/m + 2/m_cal): the second term is the shot-noise calibration's own.
    A negative slope is no transmittance: it counts as 0. Raises SettingError when fewer than two
    samples were pooled, or nothing was sent in the quadratures that were read.
    """
    samples = sum(part.samples for part in evidence)
    if samples < 2:
        raise SettingError("verification samples", samples, "2 or more")
    sent = sum(part.sent_power for part in evidence)
    if not sent > 0.0:
        raise SettingError("light sent in the quadratures read", sent, "above 0")
    cross = sum(part.cross_power for part in evidence)
    received = sum(part.received_power for part in evidence)
    slope = cross / sent
    fitted = 1.0 + sum(part.fitted for part in evidence)
    variance = max(received - slope * cross, 0.0) / max(samples - fitted, 1.0)
    slope_error = math.sqrt(variance / sent)
    ratio = variance / calibration.blocked_variance
    unit = (1.0 + calibration.electronic_noise) / calibration.efficiency
    spread = math.sqrt(2.0 / samples + 2.0 / calibration.samples)
    per_slope = max(slope, 0.0) * unit / calibration.blocked_variance
    transmittance = max(slope, 0.0) * per_slope
    return Estimate(
        transmittance=transmittance,
        transmittance_error=math.hypot(
            2.0 * per_slope * slope_error, transmittance * calibration.relative_uncertainty
        ),
        excess_noise=(ratio - 1.0) * unit,
        excess_noise_error=ratio * spread * unit,
        slope=slope,
        slope_error=slope_error,
        variance_ratio=ratio,
        samples=samples,
    )


def excess_noise_upper(
    estimate: Estimate, calibration: ReceiverCalibration, failure_probability: float
) -> float:
    """Return the excess noise that the truth exceeds with `failure_probability` at most.

    Exact for Gaussian samples of any number: the ratio of the two sample variances over the ratio
    of the true ones is F-distributed with (samples - 1, calibration samples - 1).
    """
    from scipy.stats import f as fisher

    quantile = float(fisher.ppf(failure_probability, estimate.samples - 1, calibration.samples - 1))
    unit = (1.0 + calibration.electronic_noise) / calibration.efficiency
    return (estimate.variance_ratio / quantile - 1.0) * unit


def transmittance_lower(
    estimate: Estimate, calibration: ReceiverCalibration, failure_probability: float
) -> float:
    """Return the transmittance that the truth falls below with `failure_probability` at most.

    Half of the probability goes to the slope (Student's t), half to the shot-noise unit; 0 when
    the slope is not resolved.
    """
    from scipy.stats import chi2
    from scipy.stats import t as student

    half = failure_probability / 2.0
    reach = float(student.isf(half, estimate.samples - 1))
    slope = max(estimate.slope - reach * estimate.slope_error, 0.0)
    degrees = calibration.samples - 1
    blocked = calibration.blocked_variance * degrees / float(chi2.ppf(half, degrees))
    unit = (1.0 + calibration.electronic_noise) / calibration.efficiency
    return slope**2 * unit / blocked


def verify(
    evidence: Sequence[LayerEvidence],
    calibration: ReceiverCalibration,
    expectation: Expectation,
    settings: VerificationSettings,
    *,
    mean_photons: float,
    technical_noise: float,
    assumptions: Assumptions,
) -> VerificationReport:
    """Judge the pooled evidence.

    Rejects when the excess noise lies above, or the transmittance below, what an honest round
    trip shows by more than the false-alarm probability allows, or when the leakage at the
    confidence bounds exceeds the limit set. `technical_noise` is the trusted share in SNU, if
    the assumptions trust it.
    """
    estimate = estimate_channel(evidence, calibration)
    half = settings.failure_probability / 2.0
    upper = excess_noise_upper(estimate, calibration, half)
    lower = transmittance_lower(estimate, calibration, half)
    own = expectation.client_transmittance
    bits = _bits_at_bounds(lower, upper, mean_photons, technical_noise, assumptions, own)
    half_alarm = settings.false_alarm_probability / 2.0
    noise_limit = _noise_limit(estimate, calibration, expectation, half_alarm)
    slope_limit = _slope_limit(estimate, calibration, expectation, half_alarm)
    reasons = []
    if estimate.excess_noise > noise_limit:
        reasons.append(
            f"excess noise {estimate.excess_noise:.5f} SNU is above {noise_limit:.5f}, "
            "the most that honest use explains"
        )
    if estimate.slope < slope_limit:
        unit = (1.0 + calibration.electronic_noise) / calibration.efficiency
        least = max(slope_limit, 0.0) ** 2 * unit / calibration.blocked_variance
        reasons.append(
            f"transmittance {estimate.transmittance:.5f} is below {least:.5f}, "
            "the least that honest use explains"
        )
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
    )


def _noise_limit(
    estimate: Estimate,
    calibration: ReceiverCalibration,
    expectation: Expectation,
    probability: float,
) -> float:
    """Return the excess noise in SNU that honest light exceeds with `probability`.

    From the variance that is expected, not from that measured: loud light would excuse itself.
    """
    from scipy.stats import f as fisher
    from scipy.stats import norm

    quantile = float(fisher.isf(probability, estimate.samples - 1, calibration.samples - 1))
    unit = (1.0 + calibration.electronic_noise) / calibration.efficiency
    spread = (quantile - 1.0) * (unit + expectation.excess_noise)
    known = float(norm.isf(probability)) * expectation.excess_noise_uncertainty
    return expectation.excess_noise + math.hypot(spread, known)


def _slope_limit(
    estimate: Estimate,
    calibration: ReceiverCalibration,
    expectation: Expectation,
    probability: float,
) -> float:
    """Return the slope that honest light falls below with `probability`; may be negative."""
    from scipy.stats import norm
    from scipy.stats import t as student

    unit = (1.0 + calibration.electronic_noise) / calibration.efficiency
    slope = math.sqrt(expectation.transmittance * calibration.blocked_variance / unit)
    relative = math.hypot(
        calibration.relative_uncertainty,
        expectation.transmittance_uncertainty / expectation.transmittance,
    )
    known = float(norm.isf(probability)) * 0.5 * slope * relative
    spread = float(student.isf(probability, estimate.samples - 1)) * estimate.slope_error
    return slope - math.hypot(spread, known)


def _bits_at_bounds(
    transmittance: float,
    excess_noise: float,
    mean_photons: float,
    technical_noise: float,
    assumptions: Assumptions,
    client_transmittance: float,
) -> float:
    if transmittance <= 0.0 or not math.isfinite(excess_noise):
        return math.inf
    bits = weights_bits_per_mode(
        mean_photons=mean_photons,
        transmittance=min(transmittance, 1.0),
        excess_noise=excess_noise,
        technical_noise=technical_noise,
        assumptions=assumptions,
        client_transmittance=client_transmittance,
    )
    return bits / WEIGHTS_PER_MODE
