"""The weights' leakage for one network: its own covariance, against the best split of the noise.

The prior of a layer's rows is Gaussian, rows independent, with the covariance of the layer's own
rows over their real quadratures (what X and P of one mode share is kept: covariances of complex
amplitudes would hide it) and each row's own brightness. The client is taken to know both. It may
split the pooled noise over principal directions, rows and layers, and choose the amplitude of each,
as `direction` says; the best split is bounded by prices of the noise (`multipliers`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from labctl.data.models import Network
from labctl.protocols.carried import carried
from labctl.protocols.encoding import modes_of
from labctl.protocols.leakage.direction import Doubles, entropy_bits
from labctl.protocols.leakage.downhill import Descent, PricePoint
from labctl.protocols.leakage.multipliers import (
    bends_of_prices,
    best_attacks,
    between,
    bound_at,
    first_place,
    prices_of,
)
from labctl.protocols.leakage.prior_free import prior_free_bits_per_mode

# Variances are counted in bins. The search for prices counts each as its upper edge, and does with
# wide bins; at the prices found each bin counts as what no variance within gains more than. The
# bound grows by less than the width.
_WIDTH, _SEARCH_WIDTH, _LOOK_WIDTH = 0.01, 0.03, 0.25
# Directions darker than this share of the brightest count as that bright.
_DARKEST = 1e-9
# Prices tried for each width of bins: 5 to 10 do.
_MOST_TRIED = 30
# What a last step to the best attack of a direction gains at most, of the bound: far below the
# bins' width, which the bound carries anyway.
_ENOUGH = 1e-9


@dataclass(frozen=True, eq=False)
class Bins:
    """Directions by variance: each bin's upper edge, least variance and number of directions."""

    edges: Doubles
    least: Doubles
    counts: Doubles

    def times(self, factor: float) -> Bins:
        """Return the same directions with their variances multiplied by a factor."""
        return Bins(factor * self.edges, factor * self.least, self.counts)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Variances of the light's principal directions, all rows and layers, their mean being 1.

    `variances`: of each direction that is not dark; `directions`: their number, dark ones counted,
    two for each mode sent.
    """

    variances: Doubles
    directions: int

    def bins(self, width: float) -> Bins:
        """Return the directions by their variance, `width` apart in the logarithm, dark ones first.

        `_DARKEST` of the brightest is the least upper edge but 0.
        """
        top = float(self.variances.max())
        logs = np.log(np.maximum(self.variances / top, _DARKEST))
        edges, which, counts = np.unique(
            np.ceil(logs / width), return_inverse=True, return_counts=True
        )
        least = np.full(len(edges), np.inf)
        np.minimum.at(least, which, self.variances)
        dark = float(self.directions - len(self.variances))
        return Bins(
            np.concatenate([[0.0], top * np.exp(width * edges)]),
            np.concatenate([[0.0], least]),
            np.concatenate([[dark], counts.astype(np.float64)]),
        )


def rows_alike(weights: npt.NDArray[np.float32]) -> tuple[Doubles, Doubles]:
    """Return what the prior of a layer's rows rests on: their brightness, and all as bright.

    `weights`: (rows, inputs), sent at unit root mean square. The brightness (rows that carry light)
    is each row's mean square; the rows without it (rows that carry light, inputs) give the
    covariance that all share.
    """
    rows = weights.astype(np.float64)
    rows /= math.sqrt(float(np.mean(rows**2)))
    brightness = np.mean(rows**2, axis=1)
    lit = brightness > 0.0
    return brightness[lit], rows[lit] / np.sqrt(brightness[lit])[:, None]


def layer_variances(weights: npt.NDArray[np.float32]) -> Doubles:
    """Return the variances (rows that carry light times directions) of a layer's light.

    `weights`: (rows, inputs), sent at unit root mean square; the prior is that of `rows_alike`.
    """
    brightness, alike = rows_alike(weights)
    tall = alike.shape[0] >= alike.shape[1]
    gram = (alike.T @ alike if tall else alike @ alike.T) / len(alike)
    principal = np.maximum(np.linalg.eigvalsh(gram), 0.0)
    return np.outer(brightness, principal).ravel()


def spectrum_of(network: Network) -> Spectrum:
    """Return the spectrum of all light that one query of this network sends.

    Networks of the same weights share one; a change of the order or sign of rows changes nothing.
    """
    return _spectrum(_ByContent(network.sha256, network))


@dataclass(frozen=True)
class _ByContent:
    sha256: str
    network: Network = field(compare=False)


@lru_cache(maxsize=8)
def _spectrum(of: _ByContent) -> Spectrum:
    layers = carried(of.network).network.layers
    return Spectrum(
        np.concatenate([layer_variances(layer) for layer in layers]),
        sum(2 * layer.shape[0] * modes_of(layer.shape[1]) for layer in layers),
    )


@lru_cache(maxsize=256)
def network_bits_per_mode(
    spectrum: Spectrum, mean_photons: float, transmittance: float, excess_noise: float
) -> float:
    """Return the maximum that a client learns per mode of light of this spectrum, on average.

    `mean_photons` of every layer per mode, `transmittance` (above 0, at most 1) and `excess_noise`
    (SNU, 0 or more, at the server) pooled over all light. Never above the prior-free figure.
    """
    most = prior_free_bits_per_mode(mean_photons, transmittance, excess_noise)
    if most == 0.0:
        return 0.0
    brightness = 2.0 * mean_photons

    wide, middle, fine = (
        _Search(spectrum.bins(width).times(brightness), transmittance, excess_noise, most)
        for width in (_LOOK_WIDTH, _SEARCH_WIDTH, _WIDTH)
    )
    found = middle.least_near(wide.least(), wide)
    bound = min(fine.of_all_in_bins(found, middle), fine.whole_bits())
    return min(2.0 * bound, most)


def _mean(values: Doubles, counts: Doubles) -> float:
    return float(values @ counts / counts.sum())


class _Search:
    """The search for the prices that make the bound of a spectrum least: it is convex in them.

    scale: the size of the bound, in bits per mode.
    """

    def __init__(self, bins: Bins, transmittance: float, excess_noise: float, scale: float) -> None:
        self._variances, self._least, self._counts = bins.edges, bins.least, bins.counts
        self._amplitude, self._noise = math.sqrt(transmittance), excess_noise
        self._scale = scale

    def least(self) -> PricePoint:
        """Return the best point found from prices that the size of the bound suggests."""
        # With both prices at scale/(4 eps), (alpha + beta) eps is scale/2, the bound of a
        # direction. Noise of 0 counts as 1e-9 here, for a finite start.
        start = math.log(0.25 * self._scale / max(self._noise, 1e-9))
        logs = np.array([start, start, 0.0])
        places = first_place(self._variances, prices_of(logs, self._amplitude))
        return self._least_from(logs, places)

    def least_near(self, point: PricePoint, other: _Search) -> PricePoint:
        """Return the best point found from that of another search."""
        return self._least_from(point.logs, self._places(point, other))

    def _places(self, point: PricePoint, other: _Search) -> Doubles:
        # Dark directions, of variance 0, have a logarithm too.
        known = np.log(np.maximum(other._variances, 1e-30))
        wanted = np.log(np.maximum(self._variances, 1e-30))
        return between(point.place, known, wanted)

    def whole_bits(self) -> float:
        """Return what a client learns who keeps all light, in bits per direction."""
        return _mean(entropy_bits(self._variances), self._counts)

    def of_all_in_bins(self, point: PricePoint, other: _Search) -> float:
        """Return the bound at the prices of another search's point, for any variances in the bins.

        Bright directions of a bin may gain less than dim ones: what an amplitude beside the pooled
        one costs or yields grows with the variance too.
        """
        prices, start = prices_of(point.logs, self._amplitude), self._places(point, other)
        enough = _ENOUGH * self._scale
        above = best_attacks(self._variances, prices, start, enough=enough)
        below = best_attacks(
            self._variances, prices, above.place, enough=enough, paying=self._least
        )
        most = np.maximum(above.most, below.most)
        return (prices.along + prices.across) * self._noise + _mean(most, self._counts)

    def _least_from(self, logs: Doubles, places: Doubles) -> PricePoint:
        return Descent(self._at, most_tried=_MOST_TRIED).least(self._at(logs, places))

    def _at(self, logs: Doubles, start: Doubles) -> PricePoint:
        prices = prices_of(logs, self._amplitude)
        best = best_attacks(self._variances, prices, start, enough=_ENOUGH * self._scale)
        bends = bends_of_prices(self._variances, best.place, prices)
        return bound_at(
            prices,
            excess_noise=self._noise,
            gain=_mean(best.most, self._counts),
            taken=np.array([_mean(each, self._counts) for each in best.attack.taken]),
            bends=np.einsum("n,nij->ij", self._counts / self._counts.sum(), bends),
            place=best.place,
        )
