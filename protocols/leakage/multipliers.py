"""The most that a direction yields when returned noise has a price: one step of the dual problem.

For prices of the noise along (alpha) and across (beta) a direction, and of its amplitude (gamma),
all in bits per SNU, the best attack of a direction of variance lambda (`direction`) gains

    J = learned - alpha (A - 1) - beta (B - 1) - (alpha + beta) lambda (t - s)^2
        - gamma lambda (t - s).

What all directions learn under the constraints is at most the sum of the largest J plus
(alpha + beta) eps for each direction, at any prices: a bad choice of prices, or a search
for them that stops early, makes that bound higher and never wrong. The largest J of each direction
is found by damped Newton steps in the logarithms of r = sqrt(A), theta and phi.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labctl.protocols.leakage.direction import Doubles, entropy_bits, learned_bits

# Logarithms of r, theta and phi stay where no value overflows.
_LEAST = np.array([[-8.0], [-30.0], [-30.0]])
_MOST = np.array([[3.0], [math.log(math.pi / 2.0)], [math.log(math.pi / 2.0) - 1e-6]])
# A weak tap with little back-action: r = 1, theta = 0.14, phi = 0.03.
_START = (0.0, -2.0, -3.5)
# At most a factor of 4.5 in each of r, theta and phi at once: farther off the parabola says little.
_LONGEST_STEP = 1.5
# For second derivatives as differences of slopes: rounding costs 1e-10, curvature 1e-12.
_DIFFERENCE = 1e-6
# sin^2(phi). The cost goes to infinity at both ends of 0 to 1.
_INTERCEPTIONS = np.linspace(0.02, 0.98, 49)


@dataclass(frozen=True)
class Prices:
    """Prices of noise along and across, and of amplitude; the pooled amplitude s = sqrt(T)."""

    along: float
    across: float
    amplitude: float
    pooled_amplitude: float


@dataclass(frozen=True)
class Best:
    """The best attack of each direction: gain J in bits, and what it takes of each constraint.

    `place`: logarithms of r, theta and phi, shape (3, directions); the rest has one value each.
    """

    gain: Doubles
    place: Doubles
    noise_along: Doubles
    noise_across: Doubles
    misfit: Doubles
    amplitude: Doubles


def best_attacks(
    variance: Doubles, prices: Prices, start: Doubles | None = None, steps: int = 40
) -> Best:
    """Return the best attack at these prices of directions of this prior variance (SNU).

    `start`: a place to begin from, (3, directions).
    """
    if start is None:
        start = np.repeat(np.array(_START)[:, None], len(variance), axis=1)
    # Levenberg's rule: less damping by ten after a step uphill, more by ten after one downhill.
    place, damping = start.copy(), np.full(len(variance), 1e-2)
    gain = _gain(variance, place, prices)
    for _ in range(steps):
        tried = np.clip(place + _step(variance, place, prices, damping), _LEAST, _MOST)
        reached = _gain(variance, tried, prices)
        better = reached >= gain
        climbed = np.where(better, reached - gain, 0.0)
        place, gain = np.where(better, tried, place), np.where(better, reached, gain)
        damping = np.where(better, 0.1 * damping, 10.0 * np.maximum(damping, 1e-2))
        # Far below the bins' width, which the bound carries anyway.
        if better.all() and bool(np.all(climbed <= 1e-10 * np.abs(gain) + 1e-16)):
            break
    root, tap, back_action = np.exp(place)
    amplitude = root * np.cos(tap) - prices.pooled_amplitude
    return Best(
        gain=gain,
        place=place,
        noise_along=root**2 - 1.0,
        noise_across=1.0 / (root * np.cos(back_action)) ** 2 - 1.0,
        misfit=variance * amplitude**2,
        amplitude=variance * amplitude,
    )


def interception_gain(variance: Doubles, prices: Prices) -> Doubles:
    """Return the maximum that J can be where the client holds all that a direction tells.

    There A = t^2/sin^2(phi) and B = tan^2(phi)/t^2. The cost is convex in t, whose logarithm takes
    Newton steps; phi is on a grid.
    """
    sine = _INTERCEPTIONS[None, :]
    along, across = prices.along / sine, prices.across * sine / (1.0 - sine)
    curve = ((prices.along + prices.across) * variance)[:, None]
    pull = (prices.amplitude * variance)[:, None]
    pooled = prices.pooled_amplitude
    log_t = np.full((len(variance), len(_INTERCEPTIONS)), math.log(pooled))
    # Newton's steps on a convex cost: 12 reach rounding, or add up to a factor of e^12 in t.
    for _ in range(12):
        t = np.exp(log_t)
        slope = 2.0 * along * t**2 - 2.0 * across / t**2
        slope += 2.0 * curve * (t - pooled) * t + pull * t
        bend = 4.0 * along * t**2 + 4.0 * across / t**2
        bend += np.abs(2.0 * curve * (2.0 * t - pooled) * t + pull * t)
        log_t -= np.clip(slope / bend, -1.0, 1.0)
    t = np.exp(log_t)
    cost = along * t**2 - prices.along + across / t**2 - prices.across
    cost += curve * (t - pooled) ** 2 + pull * (t - pooled)
    return np.asarray(entropy_bits(1.0 + variance) - cost.min(axis=1), np.float64)


def _gain(variance: Doubles, place: Doubles, prices: Prices) -> Doubles:
    root, tap, back_action = np.exp(place)
    misfit = root * np.cos(tap) - prices.pooled_amplitude
    cost = prices.along * (root**2 - 1.0)
    cost += prices.across * (1.0 / (root * np.cos(back_action)) ** 2 - 1.0)
    cost += (prices.along + prices.across) * variance * misfit**2
    cost += prices.amplitude * variance * misfit
    return np.asarray(learned_bits(variance, tap, back_action) - cost, np.float64)


def _entropy_slope(determinant: Doubles) -> Doubles:
    """Return dH/dy at the determinant y; kept finite at y = 1, where factors of 0 meet it."""
    eigenvalue = np.sqrt(np.maximum(determinant, 1.0 + 1e-15))
    ratio = (eigenvalue + 1.0) / (eigenvalue - 1.0)
    return np.asarray(np.log2(ratio) / (4.0 * eigenvalue), np.float64)


def _slopes(variance: Doubles, place: Doubles, prices: Prices) -> Doubles:
    """Return the derivatives of J by the logarithms of r, theta and phi, (3, directions)."""
    root, tap, back_action = np.exp(place)
    noise = 1.0 / np.cos(back_action) ** 2
    noise_slope = 2.0 * np.tan(back_action) * noise
    both = tap + back_action
    seen = 1.0 + variance * np.sin(both) ** 2
    turn = noise * variance * np.sin(2.0 * both)
    at_seen, at_noise = _entropy_slope(noise * seen), _entropy_slope(noise)
    amplitude = root * np.cos(tap)
    pull = 2.0 * (prices.along + prices.across) * (amplitude - prices.pooled_amplitude)
    pull = (pull + prices.amplitude) * variance
    across = prices.across / root**2
    return np.stack(
        [
            2.0 * across * noise - 2.0 * prices.along * root**2 - pull * amplitude,
            (at_seen * turn + pull * root * np.sin(tap)) * tap,
            (at_seen * (turn + noise_slope * seen) - (at_noise + across) * noise_slope)
            * back_action,
        ]
    )


def _step(variance: Doubles, place: Doubles, prices: Prices, damping: Doubles) -> Doubles:
    """Return a damped Newton step uphill; directions of upward curvature count as downward."""
    slopes = _slopes(variance, place, prices)
    bends = np.empty((len(variance), 3, 3))
    for axis in range(3):
        shift = np.zeros((3, 1))
        shift[axis] = _DIFFERENCE
        difference = _slopes(variance, place + shift, prices)
        difference -= _slopes(variance, place - shift, prices)
        bends[:, :, axis] = difference.T / (2.0 * _DIFFERENCE)
    sizes, axes = np.linalg.eigh(0.5 * (bends + bends.transpose(0, 2, 1)))
    sizes = np.abs(sizes)
    # A flat direction gets a long step, which is clipped, and no division by 0.
    sizes = np.maximum(sizes, 1e-12 * sizes.max(axis=1, keepdims=True) + 1e-300)
    along_axes = np.einsum("nij,in->nj", axes, slopes) / (sizes * (1.0 + damping[:, None]))
    step = np.einsum("nij,nj->in", axes, along_axes)
    return np.asarray(np.clip(step, -_LONGEST_STEP, _LONGEST_STEP), np.float64)
