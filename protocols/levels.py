"""How often a heterodyning client mistakes a weight that has few possible values: closed form.

Heterodyne reads a unit-RMS weight w as w + e with e of variance 1/(R mu T), R readings averaged: a
quadrature of mean sqrt(2 mu T) w is read with 2 SNU. The level with the largest posterior
probability is chosen (Kay, Fundamentals of Statistical Signal Processing 2, section 3.6). With
noise of one variance for all levels the log-posteriors are straight lines in what was read, so that
each level is chosen on one interval, or nowhere: their upper envelope. Entropies and Holevo bounds
of a Gaussian prior say nothing of such weights: a client that decides rightly resends exactly what
came, and its light shows no noise at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.errors import SettingError
from labctl.protocols.encoding import Floats, unit_rms

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# Four times what eight bits have. Decisions take matrices of levels by levels, 8 MB at that many.
MOST_LEVELS = 1024
# Single precision rounds weights of the RMS to 6e-8; what is further apart was meant to be.
_STEP = 1e-6


@dataclass(frozen=True, eq=False)
class Levels:
    """The values that weights take, in units of their root mean square, and how often.

    `values`: rising; `shares`: of the weights, above 0, adding up to 1. `spread`: standard
    deviation of what lies around each value (Gaussian), 0 for exact levels, in the same unit.
    """

    values: Doubles
    shares: Doubles
    spread: float = 0.0

    def __post_init__(self) -> None:
        values, shares = self.values, self.shares
        if (
            values.ndim != 1
            or not 1 <= len(values) <= MOST_LEVELS
            or not (np.isfinite(values).all() and (np.diff(values) > 0.0).all())
        ):
            raise SettingError("levels", values, f"1 to {MOST_LEVELS} rising finite values")
        whole = math.isclose(float(shares.sum()), 1.0, abs_tol=1e-6)
        if shares.shape != values.shape or not ((shares > 0.0).all() and whole):
            raise SettingError("shares of levels", shares, "one above 0 per level, adding up to 1")
        checks.not_negative("spread of levels", self.spread, ", finite")

    @classmethod
    def of(cls, weights: Floats) -> Levels:
        """Return the levels of a layer's weights (any shape), 1e-6 of their RMS apart or more.

        Raises SettingError if there are more than 1,024.
        """
        drawn = np.sort(unit_rms(weights).astype(np.float64), axis=None)
        starts = np.flatnonzero(np.diff(drawn, prepend=-math.inf) > _STEP)
        if len(starts) > MOST_LEVELS:
            valid = f"at most {MOST_LEVELS} different weights in a layer"
            raise SettingError("levels", len(starts), valid)
        counts = np.diff(starts, append=len(drawn))
        return cls(np.add.reduceat(drawn, starts) / counts, counts / len(drawn))

    @cached_property
    def entropy_bits(self) -> float:
        """Entropy of one weight in bits: what a client that mistakes none has learned."""
        return float(-np.sum(self.shares * np.log2(self.shares)))


@dataclass(frozen=True, eq=False)
class Decision:
    """Which level a reading is taken for.

    `chosen`: levels, by index, that are chosen at all; `limits`: readings at which one gives way to
    the next (one fewer), in units of the weights' RMS. `noise`: standard deviation of a reading
    around the level, 1/sqrt(R mu T) and the levels' own spread.
    """

    levels: Levels
    chosen: Indices
    limits: Doubles
    noise: float

    @classmethod
    def at(
        cls, levels: Levels, *, mean_photons: float, transmittance: float = 1.0, readings: int = 1
    ) -> Decision:
        """Return the decision on `readings` heterodyne readings, averaged, of light at mu, T.

        Raises SettingError for light that carries nothing.
        """
        signal = mean_photons * transmittance * readings
        checks.positive("photons read", signal, ", finite (R mu T)")
        noise = math.hypot(math.sqrt(1.0 / signal), levels.spread)
        chosen, limits = _envelope(levels, noise)
        return cls(levels, chosen, limits, noise)

    def decide(self, readings: Floats) -> Floats:
        """Return the level that each reading is taken for; both in units of the weights' RMS."""
        values = self.levels.values[self.chosen].astype(np.float32)
        return np.asarray(values[np.searchsorted(self.limits.astype(np.float32), readings)])

    @cached_property
    def probabilities(self) -> Doubles:
        """Probability of deciding for each chosen level (columns), by the true level (rows)."""
        from scipy.special import ndtr

        return np.asarray(np.diff(ndtr(self._edges), axis=1))

    @property
    def error_probability(self) -> float:
        """Share of weights taken for another level."""
        return float(self.levels.shares @ self._missed.sum(axis=1))

    @property
    def slope(self) -> float:
        """Mean product of decided value and weight: what light resent so keeps of its amplitude."""
        return 0.5 * (self._decided_square + 1.0 - self.mean_square_error)

    @property
    def residual(self) -> float:
        """Mean square of what the decided value has beside slope times weight, weights' variance 1.

        Resent light carries 2 mu T times this as noise, in SNU.
        """
        return max(self._decided_square - self.slope**2, 0.0)

    @property
    def _decided_square(self) -> float:
        squares = self.levels.values[self.chosen] ** 2
        return float(self.levels.shares @ (self.probabilities @ squares))

    @property
    def mean_square_error(self) -> float:
        """Mean square of the decided value less the weight, in units of the weights' variance."""
        away = self.levels.values[self.chosen] - self.levels.values[:, None]
        square = (self.probabilities * away**2).sum(axis=1)
        # A reading that lies off its level lies there by the spread in part: E(w - l | x) is that
        # part of x - l, whose mean over an interval is noise times the difference of densities.
        part = (self.levels.spread / self.noise) ** 2
        along = (self.noise * -np.diff(self._densities, axis=1) * away).sum(axis=1)
        return float(self.levels.shares @ (square - 2.0 * part * along)) + self.levels.spread**2

    @cached_property
    def _edges(self) -> Doubles:
        """Return the intervals' edges in standard deviations from each level (levels, edges)."""
        edges = np.concatenate([[-math.inf], self.limits, [math.inf]])
        return np.asarray((edges - self.levels.values[:, None]) / self.noise)

    @property
    def _densities(self) -> Doubles:
        """Return the standard normal density at these edges."""
        return np.asarray(np.exp(-0.5 * self._edges**2) / math.sqrt(2.0 * math.pi))

    @property
    def _missed(self) -> Doubles:
        """Return the probabilities with those of right decisions set to 0."""
        missed = self.probabilities.copy()
        missed[self.chosen, np.arange(len(self.chosen))] = 0.0
        return missed


def decision_error_probability(
    weights: Floats, *, mean_photons: float, transmittance: float = 1.0, readings: int = 1
) -> float:
    """Return the share of a layer's weights that a heterodyning client takes for another level.

    weights: of a layer, any shape; mu at the server, T from there to the client, `readings` queries
    averaged. 1 if they are too many different ones to be levels at all.
    """
    try:
        levels = Levels.of(weights)
    except SettingError:
        return 1.0
    return Decision.at(
        levels, mean_photons=mean_photons, transmittance=transmittance, readings=readings
    ).error_probability


def _envelope(levels: Levels, noise: float) -> tuple[Indices, Doubles]:
    """Return the levels on the upper envelope of log p_k + (x l_k - l_k^2/2)/noise^2, and limits.

    Two levels are as likely at x = (l + l')/2 + noise^2 log(p/p')/(l' - l).
    """
    values, logs = levels.values, np.log(levels.shares)

    def crossing(low: int, high: int) -> float:
        step = float(values[high] - values[low])
        return 0.5 * float(values[high] + values[low]) + (
            noise**2 * float(logs[low] - logs[high]) / step
        )

    chosen, limits = [0], list[float]()
    for level in range(1, len(values)):
        limit = crossing(chosen[-1], level)
        while limits and limit <= limits[-1]:
            chosen.pop()
            limits.pop()
            limit = crossing(chosen[-1], level)
        chosen.append(level)
        limits.append(limit)
    return np.array(chosen, np.intp), np.array(limits)
