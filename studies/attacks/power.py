"""How surely the pooled checks catch what an attack leaves in the light, in closed form.

The pooled noise over that of the calibration is a scaled F variable, whose scale an attack raises;
the pooled slope is normal, its mean times the attack's amplitude. Slope and residual of a Gaussian
regression are independent, so the union of both follows from the product of the misses; that both
divide by one calibration is neglected there. Honest noise counts as white: clones change the widths
by the order of g/n. An attack's noise may sit on few modes: then its sum scatters more, as that of
fewer degrees of freedom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from labctl import checks
from labctl.calibration.distributions import fisher_above, fisher_quantile
from labctl.protocols.verification.checks import SHARES
from labctl.protocols.verification.noise_ratio import normal_isf, normal_sf
from labctl.studies.attacks.attack import Mark

# A year and a half of light at 20 MBd: what is not caught until then is called never caught.
MOST_MODES = 10**15


@dataclass(frozen=True)
class HonestLight:
    """What the server expects and with what it looks.

    `excess_noise` in SNU and `transmittance` of honest use at the server; `mean_photons` per mode
    as sent; `shot_noise`: blocked variance referred to the light, (1 + v_el)/eta, in SNU.
    """

    mean_photons: float
    transmittance: float = 1.0
    excess_noise: float = 0.0
    shot_noise: float = 1.0

    def __post_init__(self) -> None:
        for name in ("mean_photons", "transmittance"):
            checks.positive(name, getattr(self, name))
        checks.not_negative("excess_noise", self.excess_noise, ", in SNU")
        checks.at_least("shot_noise", self.shot_noise, 1.0, note=", in SNU")

    @property
    def variance(self) -> float:
        """Variance of what is read beside the light sent, in SNU."""
        return self.shot_noise + self.excess_noise


@dataclass(frozen=True)
class Detectability:
    """Probabilities that the pooled noise, the pooled gain (low or high), or either alarms."""

    noise: float
    gain: float
    either: float


def detection(
    mark: Mark,
    honest: HonestLight,
    modes: int,
    calibration_samples: int,
    false_alarm_probability: float,
    *,
    monitored: bool = True,
    repeated: bool = True,
) -> Detectability:
    """Return how surely a session of `modes` pooled modes catches an attack of this mark.

    With the thresholds of a session of that false-alarm probability, of which each check has its
    share (`checks.SHARES`); `monitored`: whether the shot-noise monitor has its own; `repeated`:
    whether there are two queries, so that sums by weight have theirs. An attack
    that lowers the noise of an honest session is caught by its gain alone.
    """
    _require(modes, calibration_samples, false_alarm_probability)
    checks.not_negative("transmittance_ratio", mark.transmittance_ratio)
    of_all = shares_in_use(monitored=monitored, repeated=repeated)
    noise = noise_detection(
        mark,
        honest,
        modes,
        calibration_samples,
        false_alarm_probability * SHARES["pooled noise"] / of_all,
    )
    low, high = (
        false_alarm_probability * SHARES[name] / of_all for name in ("low gain", "high gain")
    )
    gain = gain_detection(mark, honest, modes, calibration_samples, low, high)
    return Detectability(noise, gain, 1.0 - (1.0 - noise) * (1.0 - gain))


def shares_in_use(*, monitored: bool, repeated: bool) -> float:
    """Return the sum of the shares of the checks that a session has something to check by."""
    unused = 0.0 if monitored else SHARES["shot noise"]
    return 1.0 - unused - (0.0 if repeated else SHARES["collective noise"])


def noise_detection(
    mark: Mark, honest: HonestLight, modes: int, calibration_samples: int, probability: float
) -> float:
    """Return the probability that the pooled noise crosses the threshold of `probability`.

    P(F > f_alpha / s), F with ((modes - 1)/k, calibration samples - 1) degrees of freedom, s the
    attack's variance over the honest and k the scatter of its mark.
    """
    degrees = (modes - 1, calibration_samples - 1)
    scale = max(honest.variance + mark.excess_noise, 0.0) / honest.variance
    if scale == 0.0:
        return 0.0
    limit = fisher_quantile(1.0 - probability, degrees)
    return fisher_above(limit / scale, (degrees[0] / mark.scatter, degrees[1]))


def gain_detection(
    mark: Mark,
    honest: HonestLight,
    modes: int,
    calibration_samples: int,
    low: float,
    high: float,
) -> float:
    """Return the probability that the pooled slope falls below, or rises above, its thresholds.

    `low` and `high`: false-alarm probabilities of the two. Expected slope over its error is
    sqrt(2 mu T m / variance); the calibration's square root adds slope^2/(2 samples) to the spread.
    """
    expected = math.sqrt(2.0 * honest.mean_photons * honest.transmittance * modes / honest.variance)
    shown = expected * math.sqrt(mark.transmittance_ratio)
    noise = max(honest.variance + mark.excess_noise, 0.0) / honest.variance
    degrees = 2.0 * (calibration_samples - 1)
    spread = math.sqrt(noise + shown**2 / degrees)
    below, above = (_limit(expected, degrees, sign, p) for sign, p in ((-1.0, low), (1.0, high)))
    if spread == 0.0:
        return float(shown < below or shown > above)
    return normal_sf((shown - below) / spread) + normal_sf((above - shown) / spread)


def _limit(expected: float, degrees: float, sign: float, probability: float) -> float:
    """Return the slope over its error where (slope - expected)/spread is the share's quantile."""
    reach = normal_isf(probability) ** 2
    a = 1.0 - reach / degrees
    root = math.sqrt(max(expected**2 - a * (expected**2 - reach), 0.0))
    return (expected + sign * root) / a if a > 0.0 else sign * math.inf


def _require(modes: int, calibration_samples: int, probability: float) -> None:
    for name, value in (("modes", modes), ("calibration_samples", calibration_samples)):
        checks.at_least(name, value, 2)
    checks.probability("false_alarm_probability", probability)
