"""How much returned light must be pooled before it proves a bound on the leakage.

Works on the estimate that honest light gives: its noise ratio and slope are put where only one
honest session in 20 (`1 - ASSURANCE`) comes out worse, and go through the same bounds as a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from labctl import checks
from labctl.calibration.distributions import fisher_quantile
from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.protocols.leakage import (
    Assumptions,
    WeightsFigure,
    holevo_bits_per_mode,
    thermal_entropy_bits,
)
from labctl.protocols.receiver import Homodyne
from labctl.protocols.settings import VerificationSettings
from labctl.protocols.verification.bounds import Clones, bounds_of
from labctl.protocols.verification.channel import shot_noise_at_server
from labctl.protocols.verification.noise_ratio import normal_isf
from labctl.protocols.verification.verdict import Estimate, Expectation

# One honest session in 20 misses its bound, and is repeated.
ASSURANCE = 0.95
# Thirty years at an image a second; a slip beyond.
MOST_IMAGES = 10**9
# Well within the 1 % that is promised.
_CLOSE = 0.003
# Where the root is looked for first, and how much further each time it is not there.
_FIRST, _WIDER = 3000, 60
# In place of infinity, which too few images give and a root finder cannot use.
_FAR = 50.0


@dataclass(frozen=True)
class Evidence:
    """What comes back from honest clients: the round trip, the light, and samples per image.

    `technical_noise`: the link's share of the excess noise, in SNU at the server.
    `clones_per_image`: blocks of rows that hold one clone each, 0 to take all noise as white;
    `clones_along`: the most of a block's light in one direction, 0 to 1, where that is known.
    """

    expectation: Expectation
    mean_photons: float
    technical_noise: float
    samples_per_image: int
    verifier: Homodyne
    assumptions: Assumptions
    clones_per_image: int = 0
    clones_along: float = 1.0
    weights_figure: WeightsFigure = WeightsFigure.PRIOR_FREE

    def __post_init__(self) -> None:
        checks.at_least("samples_per_image", self.samples_per_image, 1)
        checks.at_least("clones_per_image", self.clones_per_image, 0)
        checks.within("clones_along", self.clones_along, 0.0, 1.0)


@dataclass(frozen=True)
class Pool:
    """The light to pool for a bound: images, samples of theirs, and of the shot-noise unit."""

    images: int
    samples: int
    calibration_samples: int
    weights_bits_upper: float


@dataclass(frozen=True)
class SentBefore:
    """What had been sent by the time the proof is in, in bits per real weight.

    `additive`: of an honest client, query after query, as if none had to do with another.
    `honest`: the same light taken together, as much as a client could make of its clones that keeps
    them all: R copies of one state are one of R times the light. `anybody`: of a client that sends
    back none of it until the proof is asked for: all of R times the light.
    """

    images: int
    additive: float
    honest: float
    anybody: float


def sent_before(evidence: Evidence, pool: Pool, weights_bits: float) -> SentBefore:
    """Return what was sent until a pool is full, honest use leaking `weights_bits` per query."""
    together = evidence.mean_photons * pool.images
    round_trip = evidence.expectation.transmittance
    return SentBefore(
        images=pool.images,
        additive=pool.images * weights_bits,
        honest=0.5 * holevo_bits_per_mode(together, round_trip, evidence.expectation.excess_noise),
        anybody=0.5 * thermal_entropy_bits(2.0 * together + 1.0),
    )


def bound_after(
    evidence: Evidence,
    images: int,
    settings: VerificationSettings,
    *,
    calibration_samples: int | None = None,
) -> Pool:
    """Return the bound on bits per real weight that honest light of some images proves.

    In 95 of 100 sessions it is no higher. `calibration_samples`: of the shot-noise unit, None for
    as many as samples are pooled.
    """
    checks.at_least("images", images, 1)
    samples = max(images * evidence.samples_per_image, 2)
    calibration = _calibration(evidence.verifier, calibration_samples or samples)
    unit = shot_noise_at_server(calibration)
    unlucky = fisher_quantile(ASSURANCE, (samples - 1, calibration.samples - 1))
    ratio = (1.0 + evidence.expectation.excess_noise / unit) * unlucky
    blocked = calibration.blocked_variance
    slope = math.sqrt(evidence.expectation.transmittance * blocked / unit)
    slope_error = math.sqrt(ratio * blocked / (2.0 * evidence.mean_photons * samples))
    lower = max(slope - normal_isf(1.0 - ASSURANCE) * slope_error, 0.0)
    estimate = Estimate(
        transmittance=lower**2 * unit / blocked,
        transmittance_error=2.0 * lower * slope_error * unit / blocked,
        excess_noise=(ratio - 1.0) * unit,
        excess_noise_error=ratio * math.sqrt(2.0 / samples + 2.0 / calibration.samples) * unit,
        slope=lower,
        slope_error=slope_error,
        variance_ratio=ratio,
        samples=samples,
    )
    bits = bounds_of(
        estimate,
        calibration,
        evidence.expectation,
        settings.failure_probability,
        mean_photons=evidence.mean_photons,
        clones=Clones(float(images * evidence.clones_per_image), evidence.clones_along),
    ).bits(evidence.assumptions, evidence.technical_noise, evidence.weights_figure.figure)
    return Pool(images, samples, calibration.samples, bits)


def pool_for(
    evidence: Evidence,
    weights_bits: float,
    settings: VerificationSettings,
    *,
    calibration_samples: int | None = None,
    most_images: int = MOST_IMAGES,
) -> Pool | None:
    """Return the least pool (to 1 %) whose bound is at most `weights_bits` per real weight.

    None if `most_images` images do not prove it: the bound then lies below what honest use leaks,
    or the shot-noise unit is not known well enough.
    """

    def bound(images: int) -> Pool:
        return bound_after(evidence, images, settings, calibration_samples=calibration_samples)

    return _least(bound, weights_bits, most_images)


def _least(bound: Callable[[int], Pool], weights_bits: float, most: int) -> Pool | None:
    """Return the least pool to 1 %: bracketed first, then by root finding over log images."""
    from scipy.optimize import brentq

    def excess(log_images: float) -> float:
        bits = bound(max(round(math.exp(log_images)), 1)).weights_bits_upper
        return min(math.log(bits / weights_bits), _FAR)

    low, high = 0.0, min(math.log(_FIRST), math.log(most))
    while excess(high) > 0.0:
        if high >= math.log(most):
            return None
        low, high = high, min(high + math.log(_WIDER), math.log(most))
    if excess(low) <= 0.0:
        high = low
    elif high > low:
        high = float(brentq(excess, low, high, xtol=_CLOSE))
    images = max(round(math.exp(high)), 1)
    found = bound(images)
    while found.weights_bits_upper > weights_bits and images < most:
        images = min(images + math.ceil(_CLOSE * images), most)
        found = bound(images)
    return found if found.weights_bits_upper <= weights_bits else None


def _calibration(verifier: Homodyne, samples: int) -> ReceiverCalibration:
    return ReceiverCalibration(
        efficiency=verifier.efficiency,
        electronic_noise=verifier.electronic_noise,
        blocked_variance=1.0 + verifier.electronic_noise,
        samples=samples,
    )
