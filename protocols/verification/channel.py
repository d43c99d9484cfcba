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

from labctl import checks
from labctl.calibration.distributions import fisher_quantile, student_quantile
from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.protocols.verification.doubts import EXACT, Doubts
from labctl.protocols.verification.evidence import LayerEvidence
from labctl.protocols.verification.noise_ratio import NoiseRatio, normal_isf

# A clone's variance is looked for from what is seen, in doubling steps, to where nothing is known.
# 1e-9 SNU is below what any session resolves; exp(60) SNU is above all light.
_LEAST_CLONE, _MOST_LOG_CLONE, _CLONE_STEP = 1e-9, 60.0, 0.5
# Relative accuracy of what is found; a probability above 0, so that its normal score is finite.
_CLOSE, _LEAST_HEAD = 1e-9, 1e-300


def shot_noise_at_server(calibration: ReceiverCalibration) -> float:
    """Return the blocked variance referred to the light in front of the receiver, in SNU."""
    return calibration.blocked_over_shot_noise / calibration.efficiency


@dataclass(frozen=True)
class Expectation:
    """What an honest round trip shows: the link's and the client's known share.

    The uncertainties are standard uncertainties of these expectations themselves.
    `client_transmittance` is the share of the transmittance that is the client's rotation's.
    `clone_noise`: what one clone, of a block of one row, adds to the mode that it collects, in SNU
    at the server; part of `excess_noise` on average. `gain_uncertainty`: relative standard
    uncertainty of how alike an honest link carries the amplitudes of single rows and modes.
    `doubts`: of the constants that turn readings into mu, transmittance and excess noise.
    """

    transmittance: float
    excess_noise: float
    transmittance_uncertainty: float = 0.0
    excess_noise_uncertainty: float = 0.0
    client_transmittance: float = 1.0
    clone_noise: float = 0.0
    gain_uncertainty: float = 0.0
    doubts: Doubts = EXACT

    @property
    def link_transmittance(self) -> float:
        """The link's own, the client's rotation left out: what trusted loss is trusted for."""
        return min(self.transmittance / self.client_transmittance, 1.0)


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
    fitted: float = 0.0

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the residual variance."""
        return max(self.samples - 1.0 - self.fitted, 1.0)


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

    `fitted`: parameters fitted to the readings in addition to the slope. Raises SettingError as
    `estimate_channel`.
    """
    checks.at_least("verification samples", samples, 2)
    checks.require(sent > 0.0, "light sent in the quadratures read", sent, "above 0")
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
        fitted=fitted,
    )


def excess_noise_upper(
    estimate: Estimate,
    calibration: ReceiverCalibration,
    failure_probability: float,
    *,
    clones: float = 0.0,
) -> float:
    """Return the excess noise that the truth exceeds with `failure_probability` at most.

    White noise: exact for Gaussian samples of any number, for the ratio of the two sample variances
    over the ratio of the true ones is F-distributed with (samples - 1, calibration samples - 1).
    A clone's noise is on one mode of each of `clones` blocks: the more it is concentrated, the more
    often its power comes out low. So the bound is that of the worst case, all of the noise there;
    infinite where so few blocks say nothing.
    """
    power = NoisePower(estimate.variance_ratio, estimate.degrees, calibration.samples - 1.0)
    return power.upper(failure_probability, clones) * shot_noise_at_server(calibration)


@dataclass(frozen=True)
class NoisePower:
    """A noise power over that of the blocked receiver, with the degrees of freedom of both."""

    ratio: float
    degrees: float
    calibration: float

    @property
    def _both(self) -> tuple[float, float]:
        return self.degrees, self.calibration

    def upper(self, probability: float, clones: float) -> float:
        """Return the excess, over the blocked variance, that the truth rarely exceeds.

        White, or all of it on `clones` of the readings, the one that allows more; see
        `excess_noise_upper`.
        """
        white = self.ratio / fisher_quantile(probability, self._both) - 1.0
        if white <= 0.0 or not clones > 0.0:
            return white
        loud = min(clones, self.degrees)
        clone = self._clone(loud, probability, above=True)
        return max(white, clone * loud / self.degrees)

    def lower(self, probability: float, clones: float) -> float:
        """Return the excess that the truth rarely falls below, in the same way."""
        white = self.ratio / fisher_quantile(1.0 - probability, self._both) - 1.0
        if white <= 0.0 or not clones > 0.0:
            return white
        loud = min(clones, self.degrees)
        clone = self._clone(loud, probability, above=False)
        return min(white, clone * loud / self.degrees)

    def _clone(self, loud: float, probability: float, *, above: bool) -> float:
        """Return the variance on `loud` readings that shows as little (`above`), or as much, as
        rarely; infinite where none does."""
        from scipy.optimize import brentq

        shown = self.ratio * self.degrees
        wanted = normal_isf(probability)

        def score(log_clone: float) -> float:
            variances = (1.0, 1.0 + math.exp(log_clone))
            noise = NoiseRatio((self.degrees - loud, loud), variances, self.calibration)
            if above:
                return normal_isf(max(noise.head(shown), _LEAST_HEAD)) - wanted
            return wanted - normal_isf(max(noise.tail(shown), _LEAST_HEAD))

        seen = (shown - self.degrees) / loud
        low, high, step = math.log(_LEAST_CLONE), math.log(max(seen, _LEAST_CLONE)), _CLONE_STEP
        while score(high) < 0.0:
            if high >= _MOST_LOG_CLONE:
                return math.inf
            low, high, step = high, min(high + step, _MOST_LOG_CLONE), 2.0 * step
        if score(low) >= 0.0:
            return _LEAST_CLONE if above else 0.0
        return math.exp(float(brentq(score, low, high, xtol=_CLOSE)))


def transmittance_lower(
    estimate: Estimate,
    calibration: ReceiverCalibration,
    failure_probability: float,
    *,
    slope_noise: float = 0.0,
) -> float:
    """Return the transmittance that the truth falls below with `failure_probability` at most.

    Half of the probability goes to the slope (Student's t), half to the shot-noise unit; 0 when
    the slope is not resolved. `slope_noise`: variance that clones add to the slope beyond white
    noise, over the blocked one.
    """
    from scipy.special import gammaincinv

    half = failure_probability / 2.0
    reach = -student_quantile(half, estimate.degrees)
    reach *= math.sqrt(1.0 + slope_noise)
    slope = max(estimate.slope - reach * estimate.slope_error, 0.0)
    degrees = calibration.samples - 1
    # Chi-square's quantile is twice that of the gamma distribution of half the degrees.
    chi_square = 2.0 * float(gammaincinv(degrees / 2, half))
    blocked = calibration.blocked_variance * degrees / chi_square
    unit = shot_noise_at_server(calibration)
    return slope**2 * unit / blocked
