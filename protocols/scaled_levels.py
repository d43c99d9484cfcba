"""Levels that scales hide: of columns, of rows and columns together, of blocks; and blurred ones.

A client that heterodynes a query estimates a scale from all readings that share it, and then tells
the levels behind it. So weights are looked at with their scales taken out: column by column, with
rows and columns scaled to the same largest value in turn, and block by block, as quantised
networks are stored. Lines count one by one: levels in some of them are levels. Levels whose blur
fills the gaps between them are seen as peaks with valleys between.

Not looked for are levels in another basis: a rotation of the inputs that the client knows lets it
read them there, and nothing tells which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from labctl.protocols.encoding import Floats, unit_rms
from labctl.protocols.levels import Levels

Doubles = npt.NDArray[np.float64]
Find = Callable[[Floats], Levels | None]

# Values closer than this, in RMS of the layer, are one: float16 keeps 5e-4 of a value, float32 far
# more.
SAME = 1e-6
# Lines fainter than that, in RMS of the layer, carry nothing worth a decision.
_FAINT = 0.05
_LEAST_LINES = 0.01
# Minimum number of weights of a level, and of those that share a scale.
LEAST_PER_LEVEL = 8
_BALANCING_ROUNDS = 4
_BLOCKS = (16, 32, 64, 128, 256)
# At most every other value of a block is a new one. Shipped networks have 87 of 100 and more, also
# half precision leaves most of a row's values different.
_DISTINCT = 0.5
_MOST_BLOCKS = 256
_QUICK_LINES = 32
# Of a smoothed histogram in steps of the RMS: a valley is less than this share of the lower peak
# beside it, and each peak has at least this share of the weights, more than chance sets apart.
_STEP, _SMOOTHED, _VALLEY, _LEAST_PEAK, _LEAST_WEIGHTS = 0.02, 5.0, 0.2, 0.1, 2000


def levels_of_lines(unit: Floats, find: Find) -> list[Levels]:
    """Return the exact levels of those rows (lines, length) that have some, none if too few do."""
    rising = np.sort(unit, axis=1)
    distinct = 1 + np.count_nonzero(np.diff(rising, axis=1) > SAME, axis=1)
    bright = np.sqrt(np.mean(np.square(unit), axis=1)) > _FAINT
    few = unit[bright & (distinct > 1) & (distinct * LEAST_PER_LEVEL <= unit.shape[1])]
    levels = [find(line) for line in few]
    found = [each for each in levels if each is not None and each.spread == 0.0]
    return found if len(found) >= max(_LEAST_LINES * len(unit), 1.0) else []


def balanced_levels(unit: Floats, find: Find) -> Levels | None:
    """Return the levels that are left when scales of columns, or of rows and columns, are out.

    None where fewer than 8 weights share a scale: the scales are then about as many as the weights,
    and what they leave proves nothing. Two rows that are opposite, as of two classes, are such.
    """
    if min(unit.shape) < LEAST_PER_LEVEL:
        return None
    found = [levels for each in _balanced(unit) if (levels := find(each)) is not None]
    return min(found, key=lambda levels: len(levels.values), default=None)


def _balanced(unit: Floats) -> Iterator[Floats]:
    # The largest magnitude of a line is its outermost level, as often as lines are long.
    both = unit
    for turn in range(2 * _BALANCING_ROUNDS):
        largest = np.abs(both).max(axis=turn % 2, keepdims=True)
        scale: Floats = np.where(largest > SAME, largest, 1.0)
        both = both / scale
        if turn == 0:
            yield unit_rms(both)
    yield unit_rms(both)


def levels_of_blocks(unit: Floats) -> list[Levels]:
    """Return the levels of blocks of rows (evenly chosen ones) where most values come twice."""
    length = unit.shape[1]
    for size in (*(each for each in _BLOCKS if each < length), length):
        blocks = unit[:, : length // size * size].reshape(-1, size)
        blocks = blocks[np.abs(blocks).max(axis=1) > _FAINT]
        if not len(blocks):
            continue
        rising = np.sort(blocks, axis=1)
        distinct = 1 + np.count_nonzero(np.diff(rising, axis=1) > SAME, axis=1)
        if np.mean(distinct) <= _DISTINCT * size:
            chosen = rising[distinct > 1][:: max(len(rising) // _MOST_BLOCKS, 1)]
            return [_ties(block.astype(np.float64)) for block in chosen]
    return []


def repeats(weights: Floats) -> bool:
    """Say whether weights (rows, columns) plainly take few values: a quick look, not the whole one.

    Most values of rows, or of blocks of them, or of columns, come twice, or one in a hundred is
    exactly zero. Blurred and other hidden levels take the whole look (`weight_search`).
    """
    zero = float(np.mean(weights == 0.0))
    if zero == 1.0:
        return False
    step = max(len(weights) // _QUICK_LINES, 1), max(weights.shape[1] // _QUICK_LINES, 1)
    unit = unit_rms(weights)
    lines = unit[:: step[0]], np.ascontiguousarray(unit[:, :: step[1]].T)
    return zero >= _LEAST_LINES or any(levels_of_blocks(each) for each in lines)


def _ties(rising: Doubles) -> Levels:
    starts = np.flatnonzero(np.diff(rising, prepend=-math.inf) > SAME)
    counts = np.diff(starts, append=rising.size)
    return Levels(np.add.reduceat(rising, starts) / counts, counts / rising.size)


def blurred_levels(unit: Floats) -> Levels | None:
    """Return levels whose blur fills their gaps: peaks of the distribution, valleys between."""
    if unit.size < _LEAST_WEIGHTS:
        return None
    rising = np.sort(unit.astype(np.float64), axis=None)
    edges = np.arange(rising[0] - 1.0, rising[-1] + 1.0, _STEP)
    counts = np.histogram(rising, edges)[0].astype(np.float64)
    # Four standard deviations of the smoothing to either side.
    reach = np.arange(-20, 21)
    kernel = np.exp(-0.5 * (reach / _SMOOTHED) ** 2)
    density = np.convolve(counts, kernel / kernel.sum(), mode="same")
    cuts = _valleys(density, _LEAST_PEAK * rising.size)
    if not cuts:
        return None
    starts = np.concatenate([[0], np.searchsorted(rising, edges[cuts])])
    sizes = np.diff(starts, append=rising.size)
    values = np.add.reduceat(rising, starts) / sizes
    spread = float(np.sqrt(np.mean((rising - np.repeat(values, sizes)) ** 2)))
    return Levels(values, sizes / rising.size, spread)


def _valleys(density: Doubles, least: float) -> list[int]:
    """Return the places that separate peaks of at least `least` weights, all with deep valleys."""
    cuts: list[int] = []
    start, peak, lowest, at = 0, 0.0, math.inf, 0
    for place, value in enumerate(density):
        if value < lowest:
            lowest, at = float(value), place
        left = float(density[start:at].sum())
        if value > peak and (lowest >= _VALLEY * peak or left < least):
            # Still on the way up the first peak, or what lay before is too little to be one.
            peak, lowest, at = float(value), float(value), place
        elif lowest < _VALLEY * min(peak, float(value)) and left >= least:
            if float(density[at:].sum()) < least:
                break
            cuts.append(at)
            start, peak, lowest, at = at, float(value), float(value), place
    return cuts
