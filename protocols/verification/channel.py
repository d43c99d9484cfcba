"""The round trip as the pooled light shows it: transmittance, excess noise, and bounds on both.

The server regresses what its homodyne reads on what it sent. The slope gives the transmittance;
the residual variance, over that of the blocked receiver, gives the excess noise. Both variances
are estimates, so their ratio follows Fisher's F distribution and the calibration's own sample
size is part of every bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.errors import SettingError
from labctl.protocols.verification.evidence import LayerEvidence


def shot_noise_at_server(calibration: ReceiverCalibration) -> float:
    """Return the blocked variance referred to the light in front of the receiver, in SNU."""
    return (1.0 + calibration.electronic_noise) / calibration.efficiency


@dataclass(frozen=True)
class Expectation:
    """What an honest round trip shows: the link's and the client's known share.

    The uncertainties are standard uncertainties of these expectations themselves.
    `client_transmittance` is the share of the transmittance that is the client's rotation's.
    `clone_noise`: what one clone, of a block of one row, adds to the mode that it collects, in SNU
    at the server; part of `excess_noise` on average. `gain_uncertainty`: relative standard
    uncertainty of how alike an honest link carries the amplitudes of single rows and modes.
    """

    transmittance: float
    excess_noise: float
    transmittance_uncertainty: float = 0.0
    excess_noise_uncertainty: float = 0.0
    client_transmittance: float = 1.0
    clone_noise: float = 0.0
    gain_uncertainty: float = 0.0


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
    return estimate_of_sums(
        calibration,
        samples=sum(part.samples for part in evidence),
        fitted=sum(part.fitted for part in evidence),
        sent=sum(part.sent_power for part in evidence),
        cross=sum(part.cross_power for part in evidence),
        received=sum(part.received_power for part in evidence),
    )


def estimate_of_sums(
    calibration: ReceiverCalibration,
    *,
    samples: int,
    fitted: float,
    sent: float,
    cross: float,
    received: float,
) -> Estimate:
    """Return the estimate from sums of sent^2, sent times read and read^2.

    `fitted`: parameters fitted to the readings besides the slope. Raises SettingError as
    `estimate_channel`.
    """
    if samples < 2:
        raise SettingError("verification samples", samples, "2 or more")
    if not sent > 0.0:
        raise SettingError("light sent in the quadratures read", sent, "above 0")
    slope = cross / sent
    variance = max(received - slope * cross, 0.0) / max(samples - 1.0 - fitted, 1.0)
    slope_error = math.sqrt(variance / sent)
    ratio = variance / calibration.blocked_variance
    unit = shot_noise_at_server(calibration)
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
    unit = shot_noise_at_server(calibration)
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
    unit = shot_noise_at_server(calibration)
    return slope**2 * unit / blocked
