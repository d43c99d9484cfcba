"""The most that a direction yields when returned noise has a price: one step of the dual problem.

For prices of the noise along (alpha) and across (beta) a direction, and of its amplitude (gamma),
all in bits per SNU, the best attack of a direction of variance lambda (`direction`) gains

    J = learned - alpha (A - 1) - beta (B - 1) - (alpha + beta) lambda (t - s)^2
        - gamma lambda (t - s).

What all directions learn under the constraints is at most the sum of the largest J plus (alpha +
beta) eps for each direction, at any prices: a bad choice of prices, or a search for them that stops
early, makes that bound higher. In the moments t, A + lambda t^2, tau and B the gain
J is concave (a client that tosses a coin between two attacks learns no more than by the Gaussian
attack of the mean moments), so that a place without slope is the largest J. It is found by damped
Newton steps in the logarithms of t/s, theta, phi and v/phi, or of sqrt(A)/s in place of t/s where
the light is dim (`ridge`). The misfit of bright light is counted from t/s itself: from sqrt(A) and
the angles its rounding, times lambda, would hide what is gained by the angles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.protocols.leakage.direction import Doubles, entropy_bits, entropy_slope, held
from labctl.protocols.leakage.downhill import PricePoint
from labctl.protocols.leakage.ridge import Ridge
from labctl.protocols.leakage.uphill import Domain, Whole, climb, differences, evened, shifted

# Logarithms of t/s, theta, phi and v/phi stay where no value overflows. Below the least v mixing is
# worth less than rounding of what is learned.
LEAST = np.array([[-30.0], [-30.0], [-30.0], [-20.0]])
MOST = np.array([[30.0], [math.log(math.pi / 2.0)], [math.log(math.pi / 2.0)], [6.0]])
_AXES = len(LEAST)
# From a place nearby 5 to 20 do.
_STEPS = 60
# Of the largest: below it a curvature is rounding, and its direction flat.
_ROUNDING = 1e-14
# tan() and 1/cos() of angles up to this stay finite.
_WIDEST = math.pi / 2.0 - 1e-4
# Attacks begin near those of weak noise, where cost of the noise is second order in the tap: theta
# goes like alpha^(-1/4) and phi like alpha^(-1/2).
_TAP_AT_1, _BACK_ACTION_AT_1 = 0.65, 0.2
_WIDEST_START = 1.4
# Mixing is of little use in most light: its logarithm beside the back-action's to begin from.
_FIRST_RATIO = -4.0


@dataclass(frozen=True)
class Prices:
    """Prices of noise along and across, and of amplitude; the pooled amplitude s = sqrt(T)."""

    along: float
    across: float
    amplitude: float
    pooled_amplitude: float


# exp(60) bits per SNU is more than any noise is worth; a search step beyond would overflow.
_DEAREST = 60.0


def prices_of(logs: Doubles, pooled_amplitude: float) -> Prices:
    """Return the prices that a search describes by `logs` (3,): along, across and, as is, gamma."""
    along, across = np.exp(np.minimum(logs[:2], _DEAREST))
    return Prices(float(along), float(across), float(logs[2]), pooled_amplitude)


def bound_at(
    prices: Prices,
    *,
    excess_noise: float,
    gain: float,
    taken: Doubles,
    bends: Doubles,
    place: Doubles,
) -> PricePoint:
    """Return the bound per direction at these prices, and its slopes by their logarithms.

    gain: mean J of all directions; taken: what it takes of each constraint, (3,), which is its
    slope downward by the prices; bends: its second derivatives (3, 3); place: of the attacks.
    """
    scale = np.array([prices.along, prices.across, 1.0])
    slopes = (np.array([excess_noise, excess_noise, 0.0]) - taken) * scale
    by_logs = bends * np.outer(scale, scale) + np.diag([slopes[0], slopes[1], 0.0])
    logs = np.array([math.log(prices.along), math.log(prices.across), prices.amplitude])
    bound = (prices.along + prices.across) * excess_noise + gain
    return PricePoint(logs, bound, slopes, by_logs, place)


@dataclass(frozen=True)
class PricedAttack:
    """Attacks of directions at some prices: the gain J in bits and its slopes.

    `slopes`: by the logarithm of lambda, then by each logarithm of `place`, shape (5, directions).
    `taken`: noise along, noise across (each with the misfit) and amplitude, shape (3, directions).
    """

    gain: Doubles
    slopes: Doubles
    taken: Doubles


@dataclass(frozen=True)
class Best:
    """The best attack of each direction.

    `place`: logarithms of t/s, theta, phi and v/phi, shape (4, directions). `most`: the largest J
    of each direction; where the search for it did not come to a top, what no J exceeds.
    """

    place: Doubles
    attack: PricedAttack
    most: Doubles

    @property
    def gain(self) -> Doubles:
        """The largest J found of each direction, in bits."""
        return self.attack.gain


def attack_at(
    variance: Doubles,
    place: Doubles,
    prices: Prices,
    *,
    gains: int | None = None,
    paying: Doubles | None = None,
) -> PricedAttack:
    """Return the attacks at `place` (see `Best`) of directions of this `variance` (SNU).

    `gains`: the number of directions, from the first on, whose gain is wanted; None for all.
    `paying`: the variance by which misfit and amplitude count, where it is another one.
    """
    tap, back_action, ratio = np.exp(place[1:])
    mixing = ratio * back_action
    amplitude = prices.pooled_amplitude * np.exp(place[0])
    root = amplitude / np.cos(tap + mixing)
    has = held(variance, tap, back_action, mixing)
    larger, smaller, alone = has.modes
    noise = 1.0 + alone
    misfit = prices.pooled_amplitude * np.expm1(place[0])
    paying = variance if paying is None else paying
    pulled, bent = paying * misfit, paying * misfit**2
    along = root**2 - 1.0 + bent
    across = noise / root**2 - 1.0 + bent
    cost = np.array([along, across, pulled])
    paid = cost[:, :gains] * [[prices.along], [prices.across], [prices.amplitude]]
    gain = has.bits(gains) - paid[0] - paid[1] - paid[2]

    # The entropies depend on S = a + b and on a b: da = (a dS - d(ab))/(a - b), db its mirror.
    apart = np.maximum(has.apart, 1e-12 * has.total) + 1e-300
    at_larger, at_smaller, at_alone = entropy_slope(has.modes)
    by_sum = (at_larger * larger - at_smaller * smaller) / apart
    by_log_product = ((at_smaller - at_larger) / apart - by_sum) * has.product
    tangent = has.tangent
    by_noise = 2.0 * tangent * noise
    both = tap + back_action
    seen = variance * np.sin(both) ** 2 * noise
    turned = by_sum * variance * np.sin(2.0 * both) * noise
    squeezed = by_sum * 2.0 * tangent * (seen + noise) - at_alone * by_noise
    squeezed += 2.0 * tangent * by_log_product - prices.across / root**2 * by_noise
    common = by_log_product / np.tan(both + mixing)
    price = prices.along + prices.across
    pull = (2.0 * price * misfit + prices.amplitude) * paying
    # Where t stays, log sqrt(A) rises by tan(theta + v) with theta + v.
    by_root = 2.0 * (prices.across * noise / root**2 - prices.along * root**2)
    follows = by_root * np.tan(tap + mixing)
    by_tap = turned + by_log_product / np.tan(tap) + common + follows
    by_back_action = turned + squeezed + by_log_product / np.tan(back_action) + common
    by_mixing = (squeezed + by_log_product / np.tan(mixing) + common + follows) * mixing
    slopes = np.array(
        [
            by_sum * seen + by_log_product - price * bent - prices.amplitude * pulled,
            by_root - pull * amplitude,
            by_tap * tap,
            by_back_action * back_action + by_mixing,
            by_mixing,
        ]
    )
    return PricedAttack(gain, slopes, cost)


def is_attack(place: Doubles) -> npt.NDArray[np.bool_]:
    """Return at which places the angles are within a quarter turn."""
    _, tap, back_action, ratio = np.exp(place)
    mixing = ratio * back_action
    return np.asarray((tap + mixing < _WIDEST) & (back_action + mixing < _WIDEST), bool)


def first_place(variance: Doubles, prices: Prices) -> Doubles:
    """Return places to begin from at these prices, for directions of this variance (SNU)."""
    lost = math.acos(min(prices.pooled_amplitude, 1.0))
    tap = min(max(_TAP_AT_1 * prices.along**-0.25, lost), _WIDEST_START)
    back_action = min(_BACK_ACTION_AT_1 * prices.along**-0.5, 0.3 * (math.pi / 2.0 - tap))
    mixing = math.exp(_FIRST_RATIO) * back_action
    angles = np.array([[math.log(tap)], [math.log(back_action)], [_FIRST_RATIO]])
    # Bright directions return their amplitude, dim ones their noise: t = s, or A = 1.
    dim = Ridge.of(variance, prices.pooled_amplitude).dim
    returned = dim * math.log(math.cos(tap + mixing) / prices.pooled_amplitude)
    return np.concatenate([returned[None, :], np.repeat(angles, len(variance), axis=1)])


def between(place: Doubles, known: Doubles, wanted: Doubles) -> Doubles:
    """Return places at the `wanted` logarithms of variance, from `place` (4, known) at those."""
    return np.stack([np.interp(wanted, known, axis) for axis in place])


def best_attacks(
    variance: Doubles,
    prices: Prices,
    start: Doubles | None = None,
    *,
    enough: Doubles | float = 1e-16,
    paying: Doubles | None = None,
) -> Best:
    """Return the best attack at these prices of directions of this prior variance (SNU).

    `start`: a place to begin from, (4, directions). The best is less than `enough` bits higher, or
    60 steps away. With `paying`, a lower variance, misfit and amplitude count by that: what is
    learned grows with the variance, what is paid for them may be more or less, so that no variance
    between the two gains more than the larger of the best with and without.
    """
    counted = variance if paying is None else paying

    ridge = Ridge.of(variance, prices.pooled_amplitude)

    def evaluate(straight: Doubles, which: Whole) -> tuple[Doubles, Doubles]:
        place = ridge.true(straight, which)
        attack = attack_at(
            variance[which], place, prices, gains=len(variance), paying=counted[which]
        )
        return attack.gain, ridge.slopes(attack.slopes[1:], place, which)

    tops = climb(
        evaluate,
        ridge.straight(first_place(variance, prices) if start is None else start),
        Domain(LEAST, MOST, is_attack),
        steps=_STEPS,
        enough=np.broadcast_to(np.asarray(enough, np.float64), variance.shape),
    )
    place = ridge.true(tops.place)
    attack = attack_at(variance, place, prices, paying=counted)
    most = (
        attack.gain
        if tops.found.all()
        else np.where(tops.found, attack.gain, largest_gain(variance, prices, counted))
    )
    return Best(place, attack, most)


def largest_gain(variance: Doubles, prices: Prices, paying: Doubles | None = None) -> Doubles:
    """Return what no attack of directions of this variance (SNU) gains more than, in bits.

    Nothing tells more than the entropy of what was sent; since A B is 1 or more, the noises cost
    2 sqrt(alpha beta) - alpha - beta or more; and misfit and amplitude are a parabola in t - s.
    """
    dark = (math.sqrt(prices.along) - math.sqrt(prices.across)) ** 2
    misfit = prices.amplitude**2 / (4.0 * (prices.along + prices.across))
    return entropy_bits(variance) + dark + misfit * (variance if paying is None else paying)


def bends_of_prices(variance: Doubles, place: Doubles, prices: Prices) -> Doubles:
    """Return second derivatives (directions, 3, 3) of the largest J by the three prices.

    Of each direction by itself, at its best `place`.
    """
    around = attack_at(np.tile(variance, 2 * _AXES), shifted(place), prices)
    return bends_at_top(around.slopes[1:], around.taken, _AXES)


def bends_at_top(slopes: Doubles, taken: Doubles, axes: int) -> Doubles:
    """Return second derivatives (places, 3, 3) of the largest gain F by the three prices.

    `slopes` (axes, ...) and what is `taken` (3, ...) at the `uphill.shifted` places around the top.
    The gain is linear in prices: F_p = -taken. At the best place z(p) its slopes vanish, so that
    z_p = -F_zz^-1 F_zp, and the largest gain bends by -F_pz F_zz^-1 F_zp, which is never downward:
    it is convex in the prices.
    """
    bends, taken = differences(slopes, axes), differences(taken, axes)
    even, units = evened(bends)
    taken = taken * units[:, None, :]
    inverse = np.linalg.pinv(even, rcond=_ROUNDING)
    return np.asarray(-taken @ inverse @ taken.transpose(0, 2, 1), np.float64)
