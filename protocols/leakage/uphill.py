"""Damped Newton steps to the tops of many small hills at once.

Levenberg's rule: less damping by ten after a step uphill, more by ten after one downhill. Slopes
are given, second derivatives are their differences; a direction of upward curvature counts as
downward, so that a step never goes to a saddle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Whole = npt.NDArray[np.intp]
# Heights of the first places, one for each hill, and slopes (axes, places) at all places (axes,
# places). The second argument says of which hill, counted from 0, each place is.
Evaluate = Callable[[Doubles, Whole], tuple[Doubles, Doubles]]
Allowed = Callable[[Doubles], npt.NDArray[np.bool_]]

# For second derivatives as differences of slopes: rounding costs 1e-10, curvature 1e-12.
DIFFERENCE = 1e-6
# In logarithms a factor of 4.5: farther off the parabola says little.
_LONGEST_STEP = 1.5
_LEAST_DAMPING = 1e-2
# An axis that bends by less, of the most, counts as bending by that.
_FLAT = 1e-20
# Rounding keeps a few hills from the last steps.
_NEAR, _MOST_IDLE = 1e3, 5


def shifted(place: Doubles) -> Doubles:
    """Return each place moved up, then down, along each axis: (axes, 2 axes * places)."""
    moves = _moves(len(place))[:, 1:, None]
    return np.asarray((place[:, None, :] + moves).reshape(len(place), -1), np.float64)


@cache
def _moves(axes: int) -> Doubles:
    """Return no move, then one up, then down, along each axis: (axes, 1 + 2 axes)."""
    one = DIFFERENCE * np.eye(axes)
    return np.concatenate([np.zeros((axes, 1)), one, -one], axis=1)


def differences(values: Doubles, axes: int) -> Doubles:
    """Return derivatives (places, rows, axes) of `values` (rows, 2 axes * places) at `shifted`."""
    apart = values.reshape(len(values), 2, axes, -1)
    slopes = (apart[:, 0] - apart[:, 1]) / (2.0 * DIFFERENCE)
    return np.asarray(slopes.transpose(2, 0, 1), np.float64)


@dataclass(frozen=True)
class Tops:
    """Where a climb ended, (axes, hills), and for which hills that is a top: `found` (hills,).

    There the top is less than a thousand times `enough` of `climb` higher.
    """

    place: Doubles
    found: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Domain:
    """Where the hills are: each axis from `least` to `most` (axes, 1), and what `allowed` says."""

    least: Doubles
    most: Doubles
    allowed: Allowed

    def clipped(self, place: Doubles) -> Doubles:
        """Return the place of the box that is nearest."""
        return np.clip(place, self.least, self.most)


def climb(
    evaluate: Evaluate, start: Doubles, inside: Domain, *, steps: int, enough: Doubles
) -> Tops:
    """Return places near the tops of all hills, from `start` (axes, hills) on.

    A step goes no farther than the box of `inside`, and is refused where it is not allowed. At most
    `steps`; done before where each top is less than `enough` higher, or found while five
    steps in turn gain nothing, each a tenth as long: what is then ahead is rounding.
    """
    axes, hills = start.shape
    moves, which = _moves(axes)[:, :, None], np.tile(np.arange(hills), 1 + 2 * axes)

    def look(place: Doubles) -> tuple[Doubles, Doubles, Doubles]:
        """Return heights, slopes and bends: one call, for these arrays cost little but the call."""
        height, slopes = evaluate((place[:, None, :] + moves).reshape(axes, -1), which)
        return height, slopes[:, :hills], differences(slopes[:, hills:], axes)

    place, damping = inside.clipped(start), np.full(hills, _LEAST_DAMPING)
    height, slopes, bends = look(place)
    found, idle = np.zeros(hills, bool), np.zeros(hills)
    for _ in range(steps):
        step, ahead = _step(slopes, bends, damping)
        found = ahead <= _NEAR * enough
        if np.all((ahead <= enough) | (found & (idle >= _MOST_IDLE))):
            break
        tried = inside.clipped(place + step)
        allowed = inside.allowed(tried)
        reached, steep, bent = look(np.where(allowed, tried, place))
        better = allowed & (reached >= height)
        idle = np.where(allowed & (reached > height), 0.0, idle + 1.0)
        place, height = np.where(better, tried, place), np.where(better, reached, height)
        slopes, bends = (
            np.where(better, steep, slopes),
            np.where(better[:, None, None], bent, bends),
        )
        damping = np.where(better, 0.1 * damping, 10.0 * np.maximum(damping, _LEAST_DAMPING))
    return Tops(place, found)


def _step(slopes: Doubles, bends: Doubles, damping: Doubles) -> tuple[Doubles, Doubles]:
    """Return a damped Newton step uphill for each hill, (axes, hills), and the height ahead.

    That is by the parabola of the slopes and bends here, without damping.
    """
    even, scale = evened(bends)
    sizes, axes = np.linalg.eigh(even)
    sizes = np.abs(sizes)
    # A flat direction gets a long step, which is clipped, and no division by 0.
    sizes = np.maximum(sizes, 1e-12 * sizes.max(axis=1, keepdims=True) + 1e-300)
    turned = np.einsum("nij,ni->nj", axes, slopes.T * scale)
    step = np.einsum("nij,nj->ni", axes, turned / (sizes * (1.0 + damping[:, None])))
    ahead = 0.5 * np.sum(turned**2 / sizes, axis=1)
    return np.clip((step * scale).T, -_LONGEST_STEP, _LONGEST_STEP), ahead


def evened(bends: Doubles) -> tuple[Doubles, Doubles]:
    """Return second derivatives (..., axes, axes) where each axis bends by 1, and the axes' units.

    Bright light bends 1e13 times more along one axis than along another: of the whole matrix the
    other would be rounding. `units` (..., axes) are what the axes count in there.
    """
    even = 0.5 * (bends + np.swapaxes(bends, -1, -2))
    own = np.abs(np.diagonal(even, axis1=-2, axis2=-1))
    own = np.maximum(own, _FLAT * own.max(axis=-1, keepdims=True) + 1e-200)
    # Of a flat axis rounding may leave more beside the diagonal than on it.
    own = np.maximum(own, (even**2 / own[..., None, :]).max(axis=-1))
    units = 1.0 / np.sqrt(own)
    even *= units[..., :, None] * units[..., None, :]
    return np.asarray(even, np.float64), np.asarray(units, np.float64)
