"""Levels of weights from noisy readings of them: a mixture on a grid of unknown step.

Quantised weights are whole multiples of one step. Readings of them are a mixture of Gaussians of
known width around these multiples; for each step tried, expectation and maximisation find how often
each multiple occurs (Dempster, Laird and Rubin, J. R. Stat. Soc. B 39, 1 (1977)), and the step is
that of the largest likelihood less log(N)/2 for each multiple in use (Schwarz, Ann. Stat. 6, 461
(1978)), without which half a step would always fit as well.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from labctl.protocols.encoding import Floats
from labctl.protocols.levels import Levels

Doubles = npt.NDArray[np.float64]

# How many steps of the grid are tried at first.
_LEAST_STEPS, _MOST_STEPS = 40, 600
# Each of three further looks is that many times finer than the one before.
_REFINED = 7
_ROUNDS = 25
# Bins of a sixth of the noise add 1/432 of its variance.
_BINS_PER_NOISE = 6.0
_MOST_BINS = 3000
# Up to 81 levels, more than six bits have.
_MOST_MULTIPLE = 40
# Steps below the noise are not seen: the mixture is as smooth as one Gaussian.
_STEPS_PER_NOISE = 1.0


def fitted_levels(
    readings: Floats, noise: float, near: float | None = None
) -> tuple[Levels, float]:
    """Return the levels that readings (any shape) show, and the step of their grid.

    `noise`: standard deviation of a reading around its level. `near`: look for steps within a few
    percent of this one alone. Steps below the noise itself are not tried.
    """
    values = np.asarray(readings, np.float64).ravel()
    reach = float(np.abs(values).max()) + noise
    bins = min(max(int(2.0 * reach / noise * _BINS_PER_NOISE), 8), _MOST_BINS)
    counts, edges = np.histogram(values, bins=bins, range=(-reach, reach))
    used = counts > 0
    places, counts = 0.5 * (edges[1:] + edges[:-1])[used], counts[used].astype(np.float64)
    least = max(_STEPS_PER_NOISE * noise, reach / _MOST_MULTIPLE)
    most = max(reach, 1.01 * least)
    # So close that the outermost multiple of the nearest step lies a quarter of the noise off.
    fine = math.log(most / least) * 2.0 * reach / noise
    steps = np.geomspace(least, most, min(max(int(fine), _LEAST_STEPS), _MOST_STEPS))
    if near is not None:
        steps = near * np.linspace(0.97, 1.03, 2 * _REFINED + 1)
    step = _best(places, counts, noise, steps)
    width = float(steps[1] / steps[0]) - 1.0
    for _ in range(3):
        step = _best(places, counts, noise, step * np.linspace(1 - width, 1 + width, 2 * _REFINED))
        width /= _REFINED
    multiples, shares, _ = _mixture(places, counts, noise, step)
    kept = shares > 0.5 / counts.sum()
    kept[np.argmax(shares)] = True
    return Levels(multiples[kept] * step, shares[kept] / shares[kept].sum()), step


def _best(places: Doubles, counts: Doubles, noise: float, steps: Doubles) -> float:
    total = counts.sum()

    def score(step: float) -> float:
        multiples, shares, likelihood = _mixture(places, counts, noise, step)
        each = 0.5 * math.log(total) + math.log(len(multiples))
        return likelihood - each * float(np.count_nonzero(shares > 0.5 / total))

    return max(map(float, steps), key=score)


def _mixture(
    places: Doubles, counts: Doubles, noise: float, step: float
) -> tuple[Doubles, Doubles, float]:
    """Return the multiples in reach, their shares, and the readings' logarithmic likelihood."""
    most = int(float(np.abs(places).max()) / step + 0.5)
    multiples = np.arange(-most, most + 1, dtype=np.float64)
    away = (places[:, None] - step * multiples) / noise
    density = np.exp(-0.5 * np.minimum(away**2, 1400.0))
    shares = np.full(len(multiples), 1.0 / len(multiples))
    for _ in range(_ROUNDS):
        total = density @ shares
        shares = shares * (density.T @ (counts / total)) / counts.sum()
    return multiples, shares, float(counts @ np.log(density @ shares))
