"""The weights' leakage for the worst Gaussian prior of a given mean power: no network is known.

The bound of a prior is a sum over its directions (`direction`), under constraints on sums over
them: only the measure of directions counts, not how they are spread over modes, rows, layers or
queries. The worst measure of brightnesses, each with its own attack, is a linear problem with four
constraints: light, noise along, noise across, amplitude. Its dual has a price for each. At any
prices the sum of the constraints at their prices and of the largest that a direction then gains
(`multipliers`) bounds every measure, and so any network, any split of noise, any mixture of
attacks. The price of light is the slope of the concave envelope over brightness (`mixture`); the
other three are found here: the bound is convex in them, and Newton's steps go down. A search for
prices that stops early gives a higher bound. One for attacks that stops early would give a lower
one: it counts as what no attack exceeds, and no mixture found counts less than one tried
(docs/decisions/0057-tops-of-the-leakage-bounds.md).

`tests/protocols/leakage/test_prior_free.py` finds mixtures by a general optimiser that come up to
the bound, and none above it.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from labctl.protocols.leakage.direction import Doubles
from labctl.protocols.leakage.downhill import Descent, PricePoint
from labctl.protocols.leakage.holevo import holevo_bits_per_mode, thermal_entropy_bits
from labctl.protocols.leakage.mixture import Kinds, Mixture
from labctl.protocols.leakage.multipliers import (
    Best,
    Prices,
    best_attacks,
    between,
    bound_at,
    largest_gain,
    prices_of,
)

# Logarithms of the brightness beside the mean one, 0 among them: bright ones reach 1e4 times the
# mean or 1e5 SNU. Wide steps for a first look, and for faint ones: what a squeezed direction gains
# rises steeply from the dark on, like x log(1/x), so that some faint ones beat dark ones. Below
# 1e-7 of the mean that is worth less than 1e-6 of the bound.
_DIM, _WIDE, _STEP = -4.8, 1.2, 0.4
_FAINT = np.array([-16.0, -14.0, -12.0, -10.0, -8.0, -7.0, -6.2, -5.4])
_BRIGHTEST, _BRIGHTEST_SNU = 1e4, 1e5
# Points between two brightnesses, where the gain is the cubic through both values and slopes. The
# mixture found there is improved before its gain counts.
_BETWEEN = 16
# Brightnesses closer than this to each other and to the mean are one.
_ALIKE, _SAME = 0.25, 1e-3
# Prices tried: 5 to 12 do, but for light below 1e-3 photons, where kinds of directions come and go
# from one try to the next.
_MOST_TRIED = 30
# Where much noise allows a client to hold nearly all light, the entropy is lower than any bound.
_MOST_TRIED_ABOVE = 20
# Above what the tops of mixtures and brightnesses may be missed by, of the bound.
_MARGIN = 1e-7
# Of all that is gained, what one direction's gain may be off by while mixtures are looked for.
_LOOSE = 1e-6
# First prices: all noise, or a thousandth of what is lost, is worth a fifth of what light of this
# power may tell.
_FIRST_SHARE, _FIRST_AMPLITUDE, _LEAST_NOISE = 0.2, -1.0, 1e-12


@lru_cache(maxsize=4096)
def prior_free_bits_per_mode(
    mean_photons: float, transmittance: float, excess_noise: float
) -> float:
    """Return the maximum that a client learns per mode, for any Gaussian prior of this mean power.

    `mean_photons`, `transmittance` (0 to 1) and `excess_noise` (SNU, 0 or more, at the server) are
    pooled over all that was sent. Never below the honest figure at the same values, never above
    the entropy of thermal light of this power.
    """
    everything = thermal_entropy_bits(2.0 * mean_photons + 1.0)
    if mean_photons == 0.0 or transmittance <= 0.0:
        return everything
    honest = holevo_bits_per_mode(mean_photons, transmittance, excess_noise)
    if excess_noise == 0.0 and transmittance == 1.0:
        return honest
    dual = _Dual(2.0 * mean_photons, transmittance, excess_noise, honest, everything)
    bound = dual.least()
    # Light so dim that the search's rounding shows is bounded by the honest figure's own entropies.
    return min(max(2.0 * bound * (1.0 + _MARGIN), honest), everything)


class _Dual:
    """The bound of all measures of this mean variance (SNU) as a function of three prices.

    `honest` and `everything`: bits per mode of the honest figure and of all light.
    """

    def __init__(
        self,
        mean: float,
        transmittance: float,
        excess_noise: float,
        honest: float,
        everything: float,
    ) -> None:
        self._mean, self._noise = mean, excess_noise
        self._amplitude = math.sqrt(transmittance)
        # Bits per direction: the honest figure's, until a bound is found.
        self._scale = 0.5 * honest + 1e-300
        self._everything = 0.5 * everything
        top = math.log(max(_BRIGHTEST, _BRIGHTEST_SNU / mean))
        self._wide = mean * np.exp(np.arange(_DIM, top + _WIDE, _WIDE))
        steps = _STEP * np.arange(round(_DIM / _STEP), top / _STEP)
        self._variances = mean * np.exp(np.concatenate([_FAINT, steps]))
        self._logs = np.log(self._variances)

    def least(self) -> float:
        """Return the least bound found, in bits per direction."""
        descent = Descent(self._at, most_tried=_MOST_TRIED)

        def good(point: PricePoint) -> bool:
            """Keep the size of the bound in mind; say whether the entropy is lower anyway."""
            self._scale = point.bound
            return descent.tried >= _MOST_TRIED_ABOVE and point.bound > self._everything

        return descent.least(self._first(), good).bound

    def _first(self) -> PricePoint:
        noise = max(self._noise, 1e-3 * (1.0 - self._amplitude**2), _LEAST_NOISE)
        price = math.log(_FIRST_SHARE * min(_FIRST_SHARE * self._mean, 1.0) / noise)
        logs = np.array([price, price, _FIRST_AMPLITUDE])
        look = best_attacks(
            self._wide, prices_of(logs, self._amplitude), enough=self._enough(self._wide, 1e-2)
        )
        return self._at(logs, between(look.place, np.log(self._wide), self._logs))

    def _enough(self, variances: Doubles, share: float) -> Doubles:
        """Return what gains may be off by: what few bright directions gain counts little."""
        return np.asarray(share * self._scale * np.maximum(variances / self._mean, 1.0), np.float64)

    def _at(self, logs: Doubles, start: Doubles) -> PricePoint:
        prices = prices_of(logs, self._amplitude)
        enough = self._enough(self._variances, _LOOSE)
        best = best_attacks(self._variances, prices, start, enough=enough)
        mixture, place = self._worst(best, prices)
        place, found = mixture.best(place, prices)
        shared = mixture.at(place, prices)
        return bound_at(
            prices,
            excess_noise=self._noise,
            gain=self._most(float(shared.gain[0]), best, prices) if found else self._any(prices),
            taken=shared.taken[:, 0],
            bends=mixture.bend_of_prices(place, prices),
            place=best.place,
        )

    def _any(self, prices: Prices) -> float:
        """Return what no measure gains more than: the bound of a direction is concave."""
        return float(largest_gain(np.array([self._mean]), prices)[0])

    def _most(self, found: float, best: Best, prices: Prices) -> float:
        """Return the gain of the mixture that was found, or a larger one of brightnesses tried."""
        tried = _with_dark(self._variances, best.gain, prices)
        return max(found, float(_chords(*tried, self._mean).max()))

    def _worst(self, best: Best, prices: Prices) -> tuple[Mixture, Doubles]:
        """Return the mixture that the concave envelope at the mean variance rests on."""
        logs, gains = _cubics(self._logs, best)
        variances, gains = _with_dark(np.exp(logs), gains, prices)
        chords = _chords(variances, gains, self._mean)
        row, column = np.unravel_index(int(np.argmax(chords)), chords.shape)
        low, high = np.split(variances, [len(chords)])
        bright = float(np.log(high[column]))
        if row == 0:
            squeeze = 0.5 * math.log(prices.along / prices.across)
            place = np.concatenate([[squeeze, bright], self._attack(best, bright)])
            return Mixture(Kinds.DARK_AND_LIT, self._mean), place[:, None]
        faint, mean = float(np.log(low[row])), math.log(self._mean)
        if mean - faint < _SAME:
            # Few bright directions take little light from all others: by the tangent at the mean.
            slope = np.interp(mean, self._logs, best.attack.slopes[0]) / self._mean
            here = np.interp(mean, self._logs, best.gain)
            above = gains[len(low) :] - here - slope * (high - self._mean)
            far = int(np.argmax(above / high))
            faint, bright = mean - _SAME, float(np.log(high[far]))
            if not above[far] > 0.0:
                bright = faint
        if bright - faint < _ALIKE:
            return Mixture(Kinds.ALIKE, self._mean), self._attack(best, mean)[:, None]
        parts = [part for side in (faint, bright) for part in ([side], self._attack(best, side))]
        return Mixture(Kinds.TWO_LIT, self._mean), np.concatenate(parts)[:, None]

    def _attack(self, best: Best, log_variance: float) -> Doubles:
        return between(best.place, self._logs, np.array([log_variance]))[:, 0]


def _with_dark(variances: Doubles, gains: Doubles, prices: Prices) -> tuple[Doubles, Doubles]:
    """Return the variances and gains with those of dark directions before them."""
    dark = (math.sqrt(prices.along) - math.sqrt(prices.across)) ** 2
    return np.concatenate([[0.0], variances]), np.concatenate([[dark], gains])


def _chords(variances: Doubles, gains: Doubles, mean: float) -> Doubles:
    """Return what two kinds of directions gain that share the light, (dim ones, bright ones).

    `variances` rise; dim ones are up to the `mean`, which may be among them, and bright ones above.
    """
    dims = int(np.searchsorted(variances, mean * (1.0 + 1e-9), side="right"))
    low, high = variances[:dims, None], variances[None, dims:]
    # In place: these tables are large, and each price has its own.
    share = high - low
    np.divide(mean - low, share, out=share)
    chords = 1.0 - share
    chords *= gains[:dims, None]
    share *= gains[None, dims:]
    chords += share
    return chords


def _cubics(logs: Doubles, best: Best) -> tuple[Doubles, Doubles]:
    """Return brightnesses between those of `logs`, and gains there by value and slope of both."""
    w = np.linspace(0.0, 1.0, _BETWEEN, endpoint=False)[None, :]
    width = np.diff(logs)[:, None]
    left, right = best.gain[:-1, None], best.gain[1:, None]
    slopes = best.attack.slopes[0]
    from_left, from_right = slopes[:-1, None] * width, slopes[1:, None] * width
    gains = left * (1.0 + 2.0 * w) * (1.0 - w) ** 2 + from_left * w * (1.0 - w) ** 2
    gains = gains + right * w**2 * (3.0 - 2.0 * w) + from_right * w**2 * (w - 1.0)
    return (logs[:-1, None] + w * width).ravel(), gains.ravel()
