"""Two kinds of directions that share the light: the worst measure at given prices has no more.

At prices of noise and amplitude (`multipliers`) directions of variance lambda gain J(lambda) each.
A measure of directions whose mean variance is L gains at most the concave envelope of J at L. That
lies on J itself, or on the chord between two brightnesses, of which one may be dark. Dark
directions learn nothing; the client returns them with variance exp(-q) along and exp(q) across.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from labctl.protocols.leakage.direction import Doubles
from labctl.protocols.leakage.multipliers import (
    LEAST,
    MOST,
    PricedAttack,
    Prices,
    attack_at,
    bends_at_top,
    is_attack,
)
from labctl.protocols.leakage.ridge import Ridge
from labctl.protocols.leakage.uphill import Domain, Whole, climb, shifted

# The top of a mixture is this close, of what it gains.
_ENOUGH = 1e-9
_STEPS = 40
# Logarithms of a variance beside that of the mean: exp(46) is 1e20.
_FARTHEST = 46.0
# Kinds closer to the mean than this, in the logarithm, are ALIKE.
_NEAREST = 1e-9


class Kinds(Enum):
    """Which directions carry the light."""

    ALIKE = auto()
    DARK_AND_LIT = auto()
    TWO_LIT = auto()


@dataclass(frozen=True)
class Shared:
    """What a mixture gains per direction, in bits; see `multipliers.PricedAttack`.

    `slopes`: by each number of the place; `taken`: mean noise along, noise across and amplitude.
    """

    gain: Doubles
    slopes: Doubles
    taken: Doubles


@dataclass(frozen=True)
class Mixture:
    """Kinds of directions of mean variance `mean` (SNU).

    A place is, for ALIKE, the attack's four logarithms (`multipliers.Best`). DARK_AND_LIT: q, the
    lit ones' logarithm of variance, then their attack. TWO_LIT: the dim ones' variance and attack,
    then the bright ones'.
    """

    kinds: Kinds
    mean: float

    def at(self, place: Doubles, prices: Prices) -> Shared:
        """Return what is gained at places (numbers, places)."""
        if self.kinds is Kinds.ALIKE:
            alike = attack_at(np.full(place.shape[1], self.mean), place, prices)
            return Shared(alike.gain, alike.slopes[1:], alike.taken)
        if self.kinds is Kinds.DARK_AND_LIT:
            return self._with_dark(place, prices)
        return self._two(place, prices)

    def _range(self) -> Domain:
        """Return the range of places: dim ones below the mean, bright ones above, true attacks."""
        mean = np.array([[math.log(self.mean)]])
        if self.kinds is Kinds.ALIKE:
            return Domain(LEAST, MOST, is_attack)
        far = np.array([[_FARTHEST]])
        least, most = [mean + _NEAREST, LEAST], [mean + far, MOST]
        if self.kinds is Kinds.DARK_AND_LIT:
            return Domain(
                np.concatenate([-far, *least]),
                np.concatenate([far, *most]),
                lambda place: is_attack(place[2:]),
            )
        return Domain(
            np.concatenate([mean - far, LEAST, *least]),
            np.concatenate([mean - _NEAREST, MOST, *most]),
            lambda place: is_attack(place[1:5]) & is_attack(place[6:]),
        )

    def best(self, start: Doubles, prices: Prices) -> tuple[Doubles, bool]:
        """Return the place near `start`, (numbers, 1), that gains most; whether it is a top."""

        ridges = [
            (rows, Ridge.of(variance, prices.pooled_amplitude))
            for rows, variance in self._attacks(start)
        ]

        def true(straight: Doubles) -> Doubles:
            place = straight.copy()
            for rows, ridge in ridges:
                place[rows] = ridge.true(straight[rows])
            return place

        def evaluate(straight: Doubles, which: Whole) -> tuple[Doubles, Doubles]:
            place = true(straight)
            shared = self.at(place, prices)
            slopes = shared.slopes
            for rows, ridge in ridges:
                slopes[rows] = ridge.slopes(slopes[rows], place[rows])
            return shared.gain[:1], slopes

        straight = start.copy()
        for rows, ridge in ridges:
            straight[rows] = ridge.straight(start[rows])
        scale = np.abs(self.at(start, prices).gain) + 1e-300
        tops = climb(evaluate, straight, self._range(), steps=_STEPS, enough=_ENOUGH * scale)
        return true(tops.place), bool(tops.found[0])

    def _attacks(self, place: Doubles) -> list[tuple[slice, Doubles]]:
        """Return the rows of a place that are an attack, and the variance of its directions."""
        if self.kinds is Kinds.ALIKE:
            return [(slice(0, 4), np.array([self.mean]))]
        if self.kinds is Kinds.DARK_AND_LIT:
            return [(slice(2, 6), np.exp(place[1]))]
        return [(slice(1, 5), np.exp(place[0])), (slice(6, 10), np.exp(place[5]))]

    def bend_of_prices(self, place: Doubles, prices: Prices) -> Doubles:
        """Return second derivatives (3, 3) of the largest gain by the three prices."""
        around = self.at(shifted(place), prices)
        return np.asarray(bends_at_top(around.slopes, around.taken, len(place))[0], np.float64)

    def _with_dark(self, place: Doubles, prices: Prices) -> Shared:
        squeeze, variance = place[0], np.exp(place[1])
        lit = attack_at(variance, place[2:], prices)
        along, across = np.expm1(-squeeze), np.expm1(squeeze)
        dark = -prices.along * along - prices.across * across
        share = self.mean / variance
        by_squeeze = prices.along * (along + 1.0) - prices.across * (across + 1.0)
        slopes = [
            (1.0 - share) * by_squeeze,
            share * (lit.slopes[0] - (lit.gain - dark)),
            *(share * lit.slopes[1:]),
        ]
        taken = (1.0 - share) * np.stack([along, across, np.zeros_like(along)]) + share * lit.taken
        return Shared((1.0 - share) * dark + share * lit.gain, np.stack(slopes), taken)

    def _two(self, place: Doubles, prices: Prices) -> Shared:
        count = place.shape[1]
        variance = np.exp(np.concatenate([place[0], place[5]]))
        both = attack_at(variance, np.concatenate([place[1:5], place[6:]], axis=1), prices)
        dim, bright = _part(both, slice(0, count)), _part(both, slice(count, None))
        low, high = variance[:count], variance[count:]
        bright_share = (self.mean - low) / (high - low)
        dim_share = 1.0 - bright_share
        chord = (bright.gain - dim.gain) / (high - low)
        dim_slopes, bright_slopes = dim_share * dim.slopes, bright_share * bright.slopes
        # A kind that gets brighter leaves less light to the other.
        dim_slopes[0] -= dim_share * low * chord
        bright_slopes[0] -= bright_share * high * chord
        return Shared(
            dim_share * dim.gain + bright_share * bright.gain,
            np.concatenate([dim_slopes, bright_slopes]),
            dim_share * dim.taken + bright_share * bright.taken,
        )


def _part(attack: PricedAttack, of: slice) -> PricedAttack:
    return PricedAttack(attack.gain[of], attack.slopes[:, of], attack.taken[:, of])
