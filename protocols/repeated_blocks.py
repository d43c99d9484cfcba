"""Stretches of weights that come again: how long most are, and where in a row they begin.

Continuous weights that are drawn one by one never come again, two beside each other: of N weights
N^2/2 pairs of stretches could be alike, each with the m-th power of the chance that two single
weights are, 1e-8 in single precision. Stretches are compared at every place with every other
place, by sorting a number made of each, longer and longer ones until less than a hundredth of a
pair is expected. So a codebook of K words shows as long as B blocks make B^2/2K pairs, far more
words than blocks (the birthday problem), for words of any length and beginning.

Each pair found is extended to both sides as far as it goes. What most pairs reach is a word's
length; where they begin tells where the words do. Chance is checked by the same count with the rows
of each column, and the columns of each row, in fresh order: weights of few digits, or of places
with few values, come again there as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.protocols.encoding import Floats

Indices = npt.NDArray[np.intp]
Numbers = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

# Values below that, in RMS of the layer, carry no word.
FAINT = 1e-3
# Of a ratio's logarithm; single precision keeps 1e-7 of a value.
_CELL = 1e-5
# Pairs of stretches that chance makes: fewer than one layer in a hundred has one.
_BY_CHANCE = 1e-2
# Fewer pairs say nothing: two neurons that are alike make one. By chance four come in one of 2e9
# layers at a hundredth expected. Where more are, this many times as many must be found and
# eight more: twelve where one is expected come in one of 1e9.
LEAST_FOUND = 4
_BEYOND = 4
# A value that is more often than that, as exact zeros are, makes stretches alike by itself, and so
# do weights that training drove against its limit: so near the largest of the layer.
_OFTEN = 0.01
_AT_LIMIT = 1e-3
# Words in use have up to 32 weights; longer repeats are rows, not words.
MOST_WEIGHTS = 64
_LONGEST_KEY = 16
# Pairs extended, evenly chosen, and the share that must agree on a length.
_EXTENDED = 20_000
_AGREED = 0.25
_IN_PLACE = 0.5
_SAMPLED = 200_000


@dataclass(frozen=True, eq=False)
class RepeatedStretches:
    """Stretches that come again. `length`: weights in most of them; `starts`: of each row's words.

    `starts` are below the length. `found`: pairs that were extended and differ. `in_place`: most
    come again at the same place of another row only, as behind scales of the columns. `begun`:
    share of the repeats that begin where their rows' words do. `first_bits` and `next_bits`: what
    names a stretch of `compared` weights, and one more behind it, by how many pairs are alike.
    """

    length: int
    starts: Indices
    found: int
    in_place: bool
    begun: float
    compared: int
    first_bits: float
    next_bits: float


def repeats_of(lines: Floats, *, scaled: bool = False) -> RepeatedStretches | None:
    """Return what stretches along the lines (rows, columns) come again; None if none do.

    Weights in RMS of the layer. `scaled`: up to a factor, so that ratios of neighbours are compared
    (single precision is needed then). Repeats of more than 64 weights are none.
    """
    symbols, dull = _symbols(lines, scaled=scaled)
    for size in range(2, min(_LONGEST_KEY, symbols.shape[1]) + 1):
        by_chance = _by_chance(symbols, dull, size)
        never = by_chance <= _BY_CHANCE
        keys, places = _stretches(symbols, dull, size)
        found = _pairs(keys) - LEAST_FOUND * (1 if never else 2)
        if found >= _BEYOND * by_chance and not _in_fresh_order(
            lines, size, found / _BEYOND, scaled=scaled
        ):
            return _extended(symbols, keys, places, size, more=1 if scaled else 0)
        if never:
            break
    return None


def _in_fresh_order(lines: Floats, size: int, most: float, *, scaled: bool) -> bool:
    """Say whether more than `most` stretches are alike with rows or columns in fresh order."""
    random = np.random.default_rng(1)
    for axis in (0, 1):
        symbols, dull = _symbols(random.permuted(lines, axis=axis), scaled=scaled)
        if _pairs(_stretches(symbols, dull, size)[0]) > most:
            return True
    return False


def _bits(keys: Numbers) -> float:
    """Return -log2 of the share of pairs of keys that are alike (Renyi's entropy of order 2)."""
    counts = _counted(keys)[1].astype(np.float64)
    alike = float(np.sum(counts * (counts - 1.0))) / (keys.size * (keys.size - 1.0))
    return -math.log2(alike)


def _symbols(lines: Floats, *, scaled: bool) -> tuple[Numbers, Mask]:
    """Return a number for each weight, or ratio of neighbours, and which tell nothing."""
    sizes = np.abs(lines)
    faint = (sizes <= FAINT) | (sizes >= np.float32(1.0 - _AT_LIMIT) * sizes.max())
    if scaled:
        ratio = np.divide(
            lines[:, 1:], lines[:, :-1], out=np.ones_like(lines[:, 1:]), where=~faint[:, :-1]
        ).astype(np.float64)
        logs = np.log(np.maximum(np.abs(ratio), FAINT**2))
        numbers = 2 * np.round(logs / _CELL).astype(np.int64) + (ratio < 0.0)
        symbols, dull = numbers.view(np.uint64), faint[:, 1:] | faint[:, :-1]
    else:
        # Adding zero makes -0.0 the same as 0.0.
        bits = np.ascontiguousarray(lines + np.float32(0.0)).view(np.uint32)
        symbols, dull = bits.astype(np.uint64), faint
    bright = symbols[~dull]
    values, counts = _counted(bright[:: max(bright.size // _SAMPLED, 1)])
    often = values[counts > max(_OFTEN * counts.sum(), 1)]
    return symbols, dull | np.isin(symbols, often) if len(often) else dull


def _counted(numbers: Numbers) -> tuple[Numbers, Indices]:
    values, counts = np.unique(numbers, return_counts=True)
    return values, counts


def _by_chance(symbols: Numbers, dull: Mask, size: int) -> float:
    """Return how many pairs of stretches chance makes alike where symbols do not depend."""
    bright = symbols[~dull]
    if bright.size < 2:
        return 0.0
    few = bright[:: max(bright.size // _SAMPLED, 1)]
    counts = _counted(few)[1].astype(np.float64)
    alike = float(np.sum(counts * (counts - 1.0))) / max(few.size * (few.size - 1.0), 1.0)
    return 0.5 * float(bright.size) ** 2 * alike**size


def _stretches(symbols: Numbers, dull: Mask, size: int) -> tuple[Numbers, Indices]:
    """Return a number for each stretch of `size` symbols that tells something, and its place."""
    width = symbols.shape[1] - size + 1
    mixers = np.random.default_rng(1).integers(1, 2**63, size, np.uint64) | np.uint64(1)
    keys = np.zeros((len(symbols), width), np.uint64)
    telling = np.ones(keys.shape, np.bool_)
    for step, mixer in enumerate(mixers):
        keys ^= symbols[:, step : step + width]
        keys *= mixer
        # Multiplication moves bits up only; the shift mixes the high half into the low one.
        keys ^= keys >> np.uint64(29)
        telling &= ~dull[:, step : step + width]
    rows, columns = np.nonzero(telling)
    return keys[telling], rows * symbols.shape[1] + columns


def _pairs(keys: Numbers) -> int:
    """Return how many keys come after one that is the same."""
    rising = np.sort(keys)
    return int(np.count_nonzero(rising[1:] == rising[:-1]))


def _extended(
    symbols: Numbers, keys: Numbers, places: Indices, size: int, *, more: int
) -> RepeatedStretches | None:
    """Extend pairs of stretches to both sides; `more`: weights than symbols."""
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    same = same[:: max(len(same) // _EXTENDED, 1)]
    first, second = places[order[same]], places[order[same + 1]]
    before = _reach(symbols, first, second, -1)
    after = _reach(symbols, first + size - 1, second + size - 1, 1)
    # One repeat shows at each of its places.
    begins = np.unique(
        np.stack([first - before, second - before, before + size + after], axis=1), axis=0
    )
    lengths = begins[:, 2] + more
    counts = np.bincount(np.minimum(lengths, MOST_WEIGHTS + 1))
    length = int(np.argmax(counts))
    if len(begins) < LEAST_FOUND or length > MOST_WEIGHTS:
        return None
    agreed = begins[lengths == length]
    if len(agreed) < _AGREED * len(begins):
        return None
    width = symbols.shape[1]
    rows, columns = np.divmod(agreed[:, :2], width)
    starts = _starts(rows.ravel(), columns.ravel(), len(symbols), length)
    return RepeatedStretches(
        length,
        starts,
        len(begins),
        in_place=bool(np.mean(columns[:, 0] == columns[:, 1]) > _IN_PLACE),
        begun=float(np.mean(columns % length == starts[rows])),
        compared=size + more,
        first_bits=_bits(keys),
        next_bits=-math.log2(max(float(np.mean(after > 0)), 0.5 / len(after))),
    )


def _reach(symbols: Numbers, first: Indices, second: Indices, step: int) -> Indices:
    """Return how many symbols more are alike on one side of two places, at most 64."""
    flat, width = symbols.ravel(), symbols.shape[1]
    reach = np.zeros(len(first), np.intp)
    going = np.arange(len(first))
    for count in range(1, MOST_WEIGHTS + 1):
        at, other = first[going] + count * step, second[going] + count * step
        # A stretch ends with its row.
        row, beside = first[going] // width, second[going] // width
        inside = (at // width == row) & (other // width == beside)
        inside &= (at >= 0) & (other >= 0)
        alike = inside.copy()
        alike[inside] = flat[at[inside]] == flat[other[inside]]
        going = going[alike]
        if not len(going):
            break
        reach[going] = count
    return reach


def _starts(rows: Indices, begins: Indices, count: int, length: int) -> Indices:
    """Return where words begin in each row, below their length: as most of its repeats do."""
    votes = np.zeros((count, length), np.intp)
    np.add.at(votes, (rows, begins % length), 1)
    all_rows = int(np.argmax(votes.sum(axis=0)))
    # A row with as many votes elsewhere begins as all do.
    votes[:, all_rows] += 1
    return np.asarray(np.argmax(votes, axis=1), np.intp)
