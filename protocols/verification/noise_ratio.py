"""How often an honest noise power, over that of the blocked receiver, comes out this high.

Honest noise is not white: the clone adds its noise to one mode of each block, which one only the
client knows. The power read is then a weighted sum of chi-squared variables, the calibration one
more in the denominator. Its tail follows from the cumulant function by the saddlepoint
approximation in its r* form (Barndorff-Nielsen, Biometrika 73, 307 (1986); Lugannani and Rice,
Adv. Appl. Prob. 12, 475 (1980)), whose relative error is small however far out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

# A halving each, where Newton's or the secant's step leads out of the bracket: 200 are more than
# double precision can show.
_ROUNDS = 200
# In standard deviations: far closer than the approximation itself.
_CLOSE = 1e-12
# The cumulant function has a pole at 1/(2 variance): the search ends a rounding before it.
_INSIDE = 1.0 - 1e-14
# In standard deviations from the mean. Closer to it r and u are equal but for rounding, which would
# decide log(u/r)/r; what Edgeworth's first term leaves out is smaller than this.
_NEAR_MEAN = 1e-4


@dataclass(frozen=True)
class NoiseRatio:
    """Distribution of sum(variances chi^2(degrees)) over chi^2(calibration)/calibration.

    `degrees` and `variances` in pairs, variances over that of the blocked receiver, at least one
    degree in all. `calibration`: degrees of freedom of the calibration. `doubt`: standard deviation
    of what is added to the numerator because its mean is not known better.
    """

    degrees: tuple[float, float]
    variances: tuple[float, float]
    calibration: float
    doubt: float = 0.0

    def tail(self, ratio: float) -> float:
        """Return the probability of at least this ratio."""
        return self._tail_at(self._saddlepoint(ratio), ratio) if ratio > 0.0 else 1.0

    def head(self, ratio: float) -> float:
        """Return the probability of at most this ratio, precise where that is small."""
        if ratio <= 0.0:
            return 0.0
        return self._beyond(self._saddlepoint(ratio), ratio, -1.0)

    def quantile(self, probability: float) -> float:
        """Return the ratio that is exceeded with this probability, below 0.4.

        The normal score of the tail is nearly linear in the saddlepoint: secants, kept in between.
        """
        low, high, score = 0.0, self._pole, 0.0
        wanted = normal_isf(probability)
        curvature = self._cumulants(0.0, self._ratio_at(0.0))[2]
        point = min(wanted / math.sqrt(curvature), 0.5 * high)
        for _ in range(_ROUNDS):
            ratio = self._ratio_at(point)
            tail = self._tail_at(point, ratio) if ratio < math.inf else 0.0
            found = normal_isf(tail) if tail > 0.0 else math.inf
            if abs(found - wanted) < _CLOSE or high - low < _CLOSE * high:
                break
            aim = low + (point - low) * (wanted - score) / (found - score)
            if found > wanted:
                high = point
            else:
                low, score = point, found
            point = aim if low < aim < high else 0.5 * (low + high)
        ratio = self._ratio_at(point)
        return ratio if ratio < math.inf else self._ratio_at(low)

    @cached_property
    def _pole(self) -> float:
        return _INSIDE / (2.0 * max(variance for _, variance in self._parts))

    @cached_property
    def _parts(self) -> list[tuple[float, float]]:
        pairs = zip(self.degrees, self.variances, strict=True)
        return [(count, variance) for count, variance in pairs if count > 0.0]

    def _ratio_at(self, point: float) -> float:
        """Return the ratio whose saddlepoint this is, infinite beyond all ratios."""
        mean = point * self.doubt**2
        for count, variance in self._parts:
            mean += count * variance / (1.0 - 2.0 * point * variance)
        left = 1.0 - 2.0 * point * mean / self.calibration
        return mean / left if left > 0.0 else math.inf

    def _saddlepoint(self, ratio: float) -> float:
        """Return where the cumulant function is flat: Newton's steps, kept in between."""
        low, high = -self.calibration / (2.0 * ratio), self._pole
        point = 0.0
        for _ in range(_ROUNDS):
            _, slope, curvature, _ = self._cumulants(point, ratio)
            low, high = (low, point) if slope > 0.0 else (point, high)
            step = slope / curvature
            aim = point - step
            if abs(step) * math.sqrt(curvature) < _CLOSE:
                break
            before, point = point, aim if low < aim < high else 0.5 * (low + high)
            if point == before:
                # The slope's rounding may be above `_CLOSE` where samples are very many: all
                # further rounds would end here too.
                break
        return point

    def _cumulants(self, point: float, ratio: float) -> tuple[float, float, float, float]:
        """Return the cumulant function of numerator less ratio times denominator.

        With its first three derivatives.
        """
        doubt = self.doubt**2
        share = 2.0 * point * ratio / self.calibration
        tilted = ratio / (1.0 + share)
        value = 0.5 * doubt * point**2 - 0.5 * self.calibration * math.log1p(share)
        first, second = doubt * point - tilted, doubt + 2.0 * tilted**2 / self.calibration
        # A variance times chi^2 of k degrees has cumulants k v, 2 k v^2 and 8 k v^3; tilting by the
        # point makes v the variance over 1 - 2 point v. The calibration enters with v = -ratio/k.
        third = -8.0 * tilted**3 / self.calibration**2
        for count, variance in self._parts:
            tilted = variance / (1.0 - 2.0 * point * variance)
            value -= 0.5 * count * math.log1p(-2.0 * point * variance)
            first += count * tilted
            second += 2.0 * count * tilted**2
            third += 8.0 * count * tilted**3
        return value, first, second, third

    def _tail_at(self, point: float, ratio: float) -> float:
        return self._beyond(point, ratio, 1.0)

    def _beyond(self, point: float, ratio: float, sign: float) -> float:
        """Return the probability above the ratio (sign 1) or below it (sign -1)."""
        value, _, second, third = self._cumulants(point, ratio)
        deviation = point * math.sqrt(second)
        if abs(deviation) < _NEAR_MEAN:
            # Both terms of r* diverge here: the first term of Edgeworth's series at the mean.
            skewness = third / (second * math.sqrt(second))
            correction = skewness / (6.0 * math.sqrt(2.0 * math.pi))
            return normal_sf(sign * deviation) - sign * correction
        # r* = r + log(u/r)/r: r the signed root of minus twice the cumulant function, u the
        # deviation.
        root = math.copysign(math.sqrt(max(-2.0 * value, 1e-300)), point)
        return normal_sf(sign * (root + math.log(deviation / root) / root))


def normal_sf(value: float) -> float:
    """Return the probability that a standard normal variable exceeds a value."""
    return 0.5 * math.erfc(value / math.sqrt(2.0))


def normal_isf(probability: float) -> float:
    """Return the value that a standard normal variable exceeds with a probability."""
    from scipy.special import ndtri

    return -float(ndtri(probability))
