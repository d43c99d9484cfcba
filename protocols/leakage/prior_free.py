"""The weights' leakage for the worst Gaussian prior of a given mean power: no network is known.

The bound of a prior is a sum over its directions (`direction`), under constraints on sums over
them: only the measure of directions counts, not how they are spread over modes, rows, layers or
queries, so a bound per direction at the means holds for any split. Taken is the worst of the
measures that have a fraction k of directions equally bright, attacked alike, and dark ones whose
noise the client squeezes so that the noise across the bright ones and along them both average to
what the server pools. `tests/protocols/leakage/test_prior_free.py` checks with the multipliers of
the optimum, at four settings, that no measure of several brightnesses, amplitudes or attacks does
better there. In dim light some do: a few bright directions that are amplified pay for many dim ones
that are tapped (decision 29): 6 % more at mu = 0.15 and the noise of G = 2, 15 % at 0.02, 34 % at
0.01. There the figure is no bound.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from labctl.protocols.leakage.direction import Doubles, entropy_bits, learned_bits
from labctl.protocols.leakage.holevo import holevo_bits_per_mode, thermal_entropy_bits

# The figure is smooth in the logit of the fraction and the logarithm of the squeeze, up to the edge
# where the client holds all. The hill's top may lie on that edge, which is curved: the best squeeze
# is found for each fraction, then the best fraction. Each search is a coarse grid, then one that
# shrinks around the best point: to 1e-6 of the figure or better (tested against a dense grid).
_LOGITS = np.concatenate([np.linspace(-20.0, -2.0, 32), np.linspace(-1.8, 14.0, 48), [40.0]])
_SQUEEZES = np.concatenate([[0.0], np.logspace(-9.0, -1.0, 33), np.logspace(-0.9, 1.1, 21)])
_STEPS = np.linspace(-1.0, 1.0, 9)
# Each round's 9 points reach 0.45 of the last round's, 1.8 of its steps, so that the top is not
# lost. After 16 rounds they are 6e-6 wide, and the figure is off by the square of that.
_REFINEMENTS = 16
_SHRINK = 0.45
# Squeezes from none to e^10 in steps of 6 %.
_INTERCEPTED = np.concatenate([[0.0], np.logspace(-9.0, 1.0, 400)])


@lru_cache(maxsize=4096)
def prior_free_bits_per_mode(
    mean_photons: float, transmittance: float, excess_noise: float
) -> float:
    """Return the maximum that a client learns per mode, for Gaussian priors of one brightness.

    `mean_photons`, `transmittance` (0 to 1) and `excess_noise` (SNU, 0 or more, at the server) are
    pooled over all that was sent. Never below the honest figure at the same values, never above
    the entropy of thermal light of this power.
    """
    logits = _LOGITS
    best = 0.0
    for refinement in range(_REFINEMENTS):
        bits = _bits_at_best_squeeze(mean_photons, transmittance, excess_noise, logits)
        place = int(np.argmax(bits))
        if bits[place] > best:
            best = float(bits[place])
        elif refinement == 0:
            break
        logits = logits[place] + _SHRINK**refinement * _STEPS
    best = max(best, _bits_of_interception(mean_photons, transmittance, excess_noise))
    # Light so dim that the search's rounding shows is bounded by the honest figure's own entropies.
    honest = holevo_bits_per_mode(mean_photons, transmittance, excess_noise)
    return min(max(2.0 * best, honest), thermal_entropy_bits(2.0 * mean_photons + 1.0))


def _bits_at_best_squeeze(
    mean_photons: float, transmittance: float, excess_noise: float, logits: Doubles
) -> Doubles:
    """Return bits per direction at each logit of the fraction, at its best squeeze."""
    fraction = (1.0 / (1.0 + np.exp(-logits)))[:, None]
    squeezes = np.broadcast_to(_SQUEEZES, (len(logits), len(_SQUEEZES)))
    best = np.zeros(len(logits))
    rows = np.arange(len(logits))
    for refinement in range(_REFINEMENTS):
        bits = _bits_per_direction(mean_photons, transmittance, excess_noise, fraction, squeezes)
        places = np.argmax(bits, axis=1)
        best = np.maximum(best, bits[rows, places])
        around = squeezes[rows, places][:, None]
        squeezes = around * np.exp(_SHRINK**refinement * _STEPS)
    return best


def _bits_of_interception(mean_photons: float, transmittance: float, excess_noise: float) -> float:
    """Return bits per direction for the largest fraction of which the client can hold all.

    theta + phi >= pi/2 means A >= T + 1/B. More light in more directions is more to hold, so that
    the largest fraction is the best; it is bisected for each squeeze.
    """
    # Logarithms of the fraction, 1e-13 to 1. 48 halvings of 30 reach 1e-13.
    low, high = np.full_like(_INTERCEPTED, -30.0), np.zeros_like(_INTERCEPTED)
    for _ in range(48):
        middle = 0.5 * (low + high)
        along, across = _noise(np.exp(middle), _INTERCEPTED, excess_noise)
        held = (across > -1.0) & (along > -1.0)
        safe = np.where(held, across, 0.0)
        held &= 1.0 + along >= transmittance + 1.0 / (1.0 + safe)
        low, high = np.where(held, middle, low), np.where(held, high, middle)
    fraction = np.exp(high)
    bits = fraction * entropy_bits(1.0 + 2.0 * mean_photons / fraction)
    return float(np.where(low > -30.0, bits, 0.0).max())


def _noise(fraction: Doubles, squeeze: Doubles, excess_noise: float) -> tuple[Doubles, Doubles]:
    """Return the noise along and across bright directions that dark ones leave room for."""
    dark = 1.0 - fraction
    along = (excess_noise - dark * np.expm1(-squeeze)) / fraction
    across = (excess_noise - dark * np.expm1(squeeze)) / fraction
    return along, across


def _bits_per_direction(
    mean_photons: float,
    transmittance: float,
    excess_noise: float,
    fraction: Doubles,
    squeeze: Doubles,
) -> Doubles:
    """Return bits per direction; 0 where no such channel exists.

    Dark directions return with variance exp(-squeeze) along and exp(squeeze) across: what that
    spares in one of the two sums of noise is spent in bright ones.
    """
    along, across = _noise(fraction, squeeze, excess_noise)
    impurity = along + across + along * across
    loss = 1.0 + along - transmittance
    possible = (across > -1.0) & (impurity >= 0.0) & (loss >= 0.0)
    tap = np.arctan2(np.sqrt(np.maximum(loss, 0.0)), math.sqrt(transmittance))
    back_action = np.arctan(np.sqrt(np.maximum(impurity, 0.0)))
    variance = 2.0 * mean_photons / fraction
    whole = tap + back_action >= math.pi / 2.0
    bits = learned_bits(variance, np.where(whole, 0.0, tap), np.where(whole, 0.0, back_action))
    return np.asarray(np.where(possible & ~whole, fraction * bits, 0.0), np.float64)
