"""Newton's steps down a convex bound of few prices, which may have kinks.

At a kink the curvature of one side says nothing of the other: a step that does not go down is
shortened to where the slope along it would vanish, and tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labctl.protocols.leakage.uphill import Doubles

# The bound is this close to the least one, of itself.
_ENOUGH = 1e-7
# The prices' logarithms change by 1 in a first step at most; a shorter step than 1e-4 is none.
_FIRST_REACH, _LEAST_SHARE = 1.0, 1e-4


@dataclass(frozen=True)
class PricePoint:
    """The bound at some prices, and how it changes with them.

    `logs`: the prices, of noises by their logarithms, (prices,); `slopes` (prices,) and `bends`
    (prices, prices) by them. `place`: of the attacks there, to begin from at prices nearby.
    """

    logs: Doubles
    bound: float
    slopes: Doubles
    bends: Doubles
    place: Doubles


class Descent:
    """A search for the least bound, which counts the points that it `tried`."""

    def __init__(self, at: Callable[[Doubles, Doubles], PricePoint], *, most_tried: int) -> None:
        """`at` returns the point at prices, from places to begin with."""
        self._at, self._most = at, most_tried
        self.tried = 1

    def least(
        self, first: PricePoint, good: Callable[[PricePoint], bool] = lambda point: False
    ) -> PricePoint:
        """Return the point of the least bound found from `first` on; `good`: low enough anyway."""
        here, reach = first, _FIRST_REACH
        while self.tried < self._most and not good(here):
            step = _newton(here)
            if -float(here.slopes @ step) < _ENOUGH * here.bound:
                break
            step *= min(1.0, reach / float(np.abs(step).max()))
            there, share = self._lower(here, step)
            if there is None:
                break
            here, reach = there, _FIRST_REACH * max(2.0 * share, 0.1)
        return here

    def _lower(self, here: PricePoint, step: Doubles) -> tuple[PricePoint | None, float]:
        """Return a point of a lower bound along `step`, and how much of the step it is."""
        share = 1.0
        while share > _LEAST_SHARE and self.tried < self._most:
            self.tried += 1
            there = self._at(here.logs + share * step, here.place)
            if there.bound < here.bound:
                return there, share
            # Along the step the slope rises: where it crosses zero if it rises evenly.
            down, up = float(here.slopes @ step), float(there.slopes @ step)
            share *= min(max(down / (down - up), 0.1), 0.6) if up > 0.0 else 0.3
        return None, 0.0


def _newton(point: PricePoint) -> Doubles:
    """Return the step to the least bound; where it bends downward, as if it bent upward."""
    sizes, axes = np.linalg.eigh(0.5 * (point.bends + point.bends.T))
    sizes = np.abs(sizes)
    sizes = np.maximum(sizes, 1e-9 * sizes.max() + 1e-300)
    return np.asarray(-axes @ ((axes.T @ point.slopes) / sizes), np.float64)
