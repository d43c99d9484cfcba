"""Words of a codebook among weights: blocks of neighbouring weights that come again and again.

Vector quantisation stores a block of weights as the number of a word. Each single weight then takes
many values, so that no level shows, but a client that heterodynes the block and takes the likeliest
word mistakes few, and resends exactly what came. The codebook need not be public: blocks of
continuous weights never come twice, so those that do are the words.

Looked at are blocks of 2 to 8 and of 16 weights along rows and along columns, and patches of the
pixels where the inputs are a square image; as they are, with a scale for each row or column taken
out by the blocks' directions, and with columns or rows scaled to the same largest value. So are
blocks of the length and beginning that repeats anywhere in the layer have (`repeated_blocks`): they
show codebooks of more words than there are blocks. Which length it is shows by the shortest
description: the entropy of the words and the words themselves (Rissanen, Automatica 14, 465
(1978)). Words in another basis are not looked for.

Of a large codebook most words come once or not at all. How many there are is then estimated, and a
client that knows all of them mistakes a word as `unseen_words` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from labctl.protocols.encoding import Floats
from labctl.protocols.repeated_blocks import FAINT, LEAST_FOUND, RepeatedStretches, repeats_of
from labctl.protocols.unseen_words import mistaken, mistaken_lines, unseen

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# Lengths of words in use for networks: up to 8 in product quantisation and lattices, 16 beyond.
LENGTHS = (2, 3, 4, 5, 6, 7, 8, 16)
Patch = tuple[int, int]
_Real = TypeVar("_Real", np.float32, np.float64)
# Of words nearly all repeats begin where words do; of others as many as the length allows.
_BEGUN = 0.8
_ALONG_ROWS = "along rows"
_BEHIND = "behind scales of"
_PATCHES: tuple[Patch, ...] = ((2, 2), (4, 4), (2, 4), (4, 2))
# Blocks that come again by chance: of 30,000 pairs in half precision 0.2 %, in single none.
_REPEATED = 0.02
_SCREENED = 30_000
# Of a block's direction; single precision keeps 1e-7 of a value.
_CELL = 1e-5
# A word of the codebook is written with 32 bits per value.
_VALUE_BITS = 32.0
_FAINT_LINE = 0.05
_LEAST_BLOCKS = 50
# Where this share of the blocks are words that come again, all words count as seen, and no further
# orders are tried.
_MOST_BLOCKS = 0.9
# Words that come once are words that the client knows as long as it tells most of them.
_TOLD = 0.5
# Scaling lines to the same largest value makes one weight of each line repeat: lines are this long.
_LEAST_SHARING = 64
# Drawn words: an error rate of 10 % to 1 % of all.
_SAMPLED = 1000
# Blocks scored at once: their scores for 65,000 words take 26 MB.
_CHUNK = 50
# Alternations between words' sizes and lines' scales; each is a least-squares step.
_ROUNDS = 30


@dataclass(frozen=True, eq=False)
class Codebook:
    """Words (words, length) in RMS of the layer, and how often each comes.

    `shares`: of the blocks, adding up to 1. `scales`: of the blocks' lines, 1 where all are alike.
    `repeated`: share of the `blocks` whose word comes more than once. `order`: how words lie.
    `unseen`: words of the codebook, estimated, that come nowhere. `places`: number of codebooks
    that are alike but for scales, one for each place of a row.
    """

    words: Doubles
    shares: Doubles
    scales: Doubles
    repeated: float
    blocks: int
    order: str = _ALONG_ROWS
    unseen: float = 0.0
    places: int = 1

    @property
    def count(self) -> int:
        """Words of the codebook, seen or not."""
        return max(round((len(self.words) + self.unseen) / self.places), 1)

    @property
    def length(self) -> int:
        """Weights in a word."""
        return int(self.words.shape[1])

    @cached_property
    def entropy_bits(self) -> float:
        """Entropy of the words in bits per weight, scales not counted."""
        return float(self.shares @ self._bits) / self.length

    @cached_property
    def _bits(self) -> Doubles:
        """Return what names each word; one that comes once is as likely as any unseen."""
        bits = -np.log2(self.shares)
        if self.unseen:
            once = self._once
            others = (np.count_nonzero(once) + self.unseen) / float(self.shares[once].sum())
            bits[once] = math.log2(others)
        return np.maximum(bits - math.log2(self.places), 0.0)

    @property
    def _once(self) -> npt.NDArray[np.bool_]:
        return self.shares * self.blocks < 1.5

    @property
    def exact(self) -> bool:
        """Whether the words are all there is to the weights: none comes but once, none scaled."""
        return self.repeated == 1.0 and len(self.scales) == 1 and "scale" not in self.order

    @property
    def description_bits(self) -> float:
        """Bits per weight of the words' numbers and of the words themselves, written once."""
        return self.entropy_bits + _VALUE_BITS * len(self.words) / self.blocks

    def decided(self, mean_photons: float, seed: int = 0) -> tuple[float, float]:
        """Return the share of words mistaken, and the least mean square error per weight.

        Monte Carlo, 1,000 words read by heterodyne with variance 1/mu per weight, scale known: the
        likeliest word is taken, or their mean resent. The client knows or has collected the words.
        Where some were not seen, the share is a bound for words drawn at random (`unseen_words`);
        if most words that come once are mistaken, of those that come again alone.
        """
        random = np.random.default_rng(seed)
        if self.repeated <= _MOST_BLOCKS:
            return self._decided_unseen(mean_photons, random)
        true = random.choice(len(self.words), _SAMPLED, p=self.shares)
        scales = random.choice(self.scales, _SAMPLED)
        noise = 1.0 / math.sqrt(mean_photons)
        read = self.words[true] * scales[:, None] + noise * random.standard_normal(
            (_SAMPLED, self.length)
        )
        taken, mean = self.guessed(read, mean_photons, scales)
        off = float(np.sum(np.square((mean - self.words[true]) * scales[:, None])))
        wrong = int(np.count_nonzero(taken != true))
        return wrong / _SAMPLED, off / (_SAMPLED * self.length)

    def _decided_unseen(
        self, mean_photons: float, random: np.random.Generator
    ) -> tuple[float, float]:
        once = self._once
        found: list[tuple[float, float, float]] = []
        for part in (once, ~once):
            share = float(self.shares[part].sum())
            true = random.choice(np.flatnonzero(part), _SAMPLED, p=self.shares[part] / share)
            scales = random.choice(self.scales, _SAMPLED)
            each = mistaken(self.words[true], scales, self._bits[true], mean_photons, 0)
            found.append((share, each.share, each.off))
        if found[0][1] > _TOLD and self.repeated >= _REPEATED:
            return found[1][1], found[1][2]
        return (
            math.fsum(share * wrong for share, wrong, _ in found),
            math.fsum(share * off for share, _, off in found),
        )

    def guessed(
        self, read: npt.NDArray[_Real], mean_photons: float, scales: Doubles | None = None
    ) -> tuple[Indices, npt.NDArray[_Real]]:
        """Return the likeliest word of each block read, by number, and the mean word given it.

        read: (blocks, length) in RMS of the layer, each value with variance 1/mu; `scales` of the
        blocks, 1 unless given, are taken out of the mean. Single precision is faster.
        """
        words = self.words.astype(read.dtype)
        squares = np.square(words).sum(axis=1)
        logs = np.log(self.shares).astype(read.dtype)
        factors = np.ones(len(read)) if scales is None else scales
        factors = factors.astype(read.dtype)
        likeliest, mean = np.empty(len(read), np.intp), np.empty_like(read)
        for at in range(0, len(read), _CHUNK):
            part = slice(at, at + _CHUNK)
            scale = factors[part, None]
            scores = scale * (read[part] @ words.T) - 0.5 * scale**2 * squares
            scores = logs + mean_photons * scores
            likeliest[part] = np.argmax(scores, axis=1)
            chances = np.exp(scores - scores.max(axis=1, keepdims=True))
            mean[part] = chances @ words / chances.sum(axis=1, keepdims=True)
        return likeliest, mean


def along_rows(found: Codebook | None) -> Codebook | None:
    """Return a codebook if its words are whole blocks along the rows, as they are; else None."""
    return found if found is not None and found.order == _ALONG_ROWS else None


def codebook_of(unit: Floats) -> Codebook | None:
    """Return the words of which a layer's weights (rows, columns) in RMS are made; None if none."""
    found: list[Codebook] = []
    for scaled in (False, True):
        for order, lines in _orders(unit, scaled=scaled):
            repeats = None if _BEHIND in order else repeats_of(lines, scaled=scaled)
            for patch in _patches(order, lines):
                found += _in_order(order, lines, patch, repeats, scaled=scaled)
        if any(each.repeated > _MOST_BLOCKS for each in found):
            break
    return min(found, key=lambda each: each.description_bits, default=None)


def _in_order(
    order: str,
    lines: Floats,
    patch: Patch | None,
    repeats: RepeatedStretches | None,
    *,
    scaled: bool,
) -> Iterator[Codebook]:
    """Yield the words that blocks along lines, or patches of pixels, make; `repeats` of lines."""
    name, rearranged = _named(order, patch, scaled=scaled), _rearranged(lines, patch)
    if _repeats(lines, patch, scaled=scaled):
        for length in LENGTHS if patch is None else (math.prod(patch),):
            words = _words(rearranged, length, scaled=scaled)
            if words is not None and words.repeated >= _REPEATED:
                yield replace(words, order=name)
    if repeats is None:
        return
    # Pixels of a patch lie beside each other in rows as well: what shows there is looked for here.
    again = repeats if patch is None else repeats_of(rearranged, scaled=scaled)
    if again is None:
        return
    begun = _from_starts(rearranged, again.starts)
    words = _words(begun, again.length, scaled=scaled)
    if words is not None:
        places = begun.shape[1] // again.length if again.in_place else 1
        yield replace(words, order=_begun(name, again.starts), places=places)


@dataclass(frozen=True)
class Chain:
    """Weights of which each follows from some before it, and few bits: as of a trellis code.

    `bits`: for each weight of a line; `error_rate`: share of lines mistaken at most by a client
    that knows how weights follow; `off`: mean square error per weight that it resends.
    """

    bits: float
    error_rate: float
    off: float
    order: str


def chain_of(unit: Floats, mean_photons: float) -> Chain | None:
    """Return how a layer's weights (rows, columns) in RMS follow from each other; None if not.

    Repeats of a chain begin anywhere, those of words where words do. A chain is decided as a whole
    (Viterbi, IEEE Trans. Inf. Theory 13, 260 (1967)).
    """
    found: list[Chain] = []
    for order, lines in _orders(unit, scaled=True):
        repeats = repeats_of(lines)
        if repeats is None or repeats.begun > _BEGUN:
            continue
        bits = repeats.first_bits + repeats.next_bits * (lines.shape[1] - repeats.compared)
        told = mistaken_lines(lines, bits, mean_photons)
        found.append(Chain(bits / lines.shape[1], told.share, told.off, order))
    return min(found, key=lambda each: each.bits, default=None)


def _from_starts(lines: Floats, starts: Indices) -> Floats:
    """Return the lines from where words begin in each, all as long as the shortest."""
    if not starts.any():
        return lines
    columns = starts[:, None] + np.arange(lines.shape[1] - int(starts.max()))
    return np.take_along_axis(lines, columns, axis=1)


def _begun(name: str, starts: Indices) -> str:
    first = int(starts[0])
    if (starts != first).any():
        return f"{name}, beginning differently in each"
    return f"{name}, beginning at weight {first + 1}" if first else name


def _orders(unit: Floats, *, scaled: bool) -> Iterator[tuple[str, Floats]]:
    """Yield the weights as lines along which blocks may lie."""
    yield _ALONG_ROWS, unit
    yield "along columns", unit.T
    if scaled or min(unit.shape) < _LEAST_SHARING:
        return
    for axis, order in ((0, _ALONG_ROWS), (1, "along columns")):
        largest = np.abs(unit).max(axis=axis, keepdims=True)
        bright = np.sqrt(np.mean(np.square(unit), axis=axis, keepdims=True)) > _FAINT_LINE
        alike = np.where(bright, unit, 0.0) / np.where(bright, largest, np.float32(1.0))
        name = f"{order} {_BEHIND} {'columns' if axis == 0 else 'rows'}"
        yield name, (alike if axis == 0 else alike.T).astype(np.float32)


def _patches(order: str, lines: Floats) -> list[Patch | None]:
    """Return the sizes of pixel patches that fit; None means neighbours along the lines."""
    side = math.isqrt(lines.shape[1])
    if order != _ALONG_ROWS or side * side != lines.shape[1]:
        return [None]
    return [None, *(each for each in _PATCHES if side % each[0] == 0 == side % each[1])]


def _rearranged(lines: Floats, patch: Patch | None) -> Floats:
    """Return the lines with the pixels of a patch beside each other."""
    if patch is None:
        return lines
    (high, wide), side = patch, math.isqrt(lines.shape[1])
    image = lines.reshape(len(lines), side // high, high, side // wide, wide)
    return image.transpose(0, 1, 3, 2, 4).reshape(lines.shape)


def _named(order: str, patch: Patch | None, *, scaled: bool) -> str:
    where = order if patch is None else f"in patches of {patch[0]} x {patch[1]} pixels"
    return f"{where}, scaled line by line" if scaled else where


def _repeats(lines: Floats, patch: Patch | None, *, scaled: bool) -> bool:
    """Say whether neighbours come again: pairs, or directions of three, at any start of a word."""
    length = 3 if scaled else 2
    if lines.shape[1] < length:
        return False
    few = _rearranged(lines[:: max(lines.size // _SCREENED, 1)], patch)
    windows = np.lib.stride_tricks.sliding_window_view(few, length, axis=1)
    keys, bright = _keys(windows.reshape(-1, length), scaled=scaled)
    rising = np.sort(keys[bright])
    if rising.size < _LEAST_BLOCKS:
        return False
    return float(np.mean(rising[1:] == rising[:-1])) >= _REPEATED


def _keys(blocks: Floats, *, scaled: bool) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """Return a number for each block, alike for like ones, and which blocks carry anything."""
    # One value beside zeros has the direction of any other.
    bright = np.count_nonzero(np.abs(blocks) > FAINT, axis=1) >= (2 if scaled else 1)
    if scaled:
        norms = np.linalg.norm(blocks, axis=1, keepdims=True)
        cells = np.round(blocks / np.where(norms > 0.0, norms, 1.0) / _CELL).astype(np.int64)
        parts = cells.view(np.uint64)
    else:
        # Adding zero makes -0.0 the same as 0.0.
        parts = (blocks + np.float32(0.0)).view(np.uint32).astype(np.uint64)
    mixers = np.random.default_rng(1).integers(1, 2**63, blocks.shape[1], np.uint64) | np.uint64(1)
    keys = np.zeros(len(blocks), np.uint64)
    for part, mixer in zip(parts.T, mixers, strict=True):
        keys = (keys ^ part) * mixer
        # Multiplication moves bits up only; the shift mixes the high half into the low one.
        keys ^= keys >> np.uint64(29)
    return keys, bright


def _words(lines: Floats, length: int, *, scaled: bool) -> Codebook | None:
    count = lines.shape[1] // length
    if not count:
        return None
    blocks = np.ascontiguousarray(lines[:, : count * length]).reshape(-1, length)
    keys, bright = _keys(blocks, scaled=scaled)
    rows = np.repeat(np.arange(len(lines)), count)[bright]
    blocks = blocks[bright]
    _, first, word, counts = np.unique(
        keys[bright], return_index=True, return_inverse=True, return_counts=True
    )
    if np.count_nonzero(counts > 1) < LEAST_FOUND or len(counts) < 2:
        return None
    repeated = float(counts[counts > 1].sum() / len(blocks))
    words, scales = blocks[first].astype(np.float64), np.ones(1)
    if scaled:
        norms = np.linalg.norm(blocks, axis=1).astype(np.float64)
        sizes, scales = _two_way(np.log(norms), rows, word, counts)
        words *= (sizes / np.linalg.norm(words, axis=1))[:, None]
    return Codebook(
        words,
        counts / counts.sum(),
        scales,
        repeated,
        len(blocks),
        unseen=unseen(int(np.count_nonzero(counts == 1)), int(np.count_nonzero(counts == 2))),
    )


def _two_way(
    logs: Doubles, rows: Indices, word: Indices, counts: Indices
) -> tuple[Doubles, Doubles]:
    """Return sizes of words and scales of rows whose products are nearest the blocks' norms."""
    per_row = np.bincount(rows)
    row, size = np.zeros(len(per_row)), np.zeros(len(counts))
    for _ in range(_ROUNDS):
        row = np.bincount(rows, logs - size[word]) / np.maximum(per_row, 1)
        size = np.bincount(word, logs - row[rows]) / counts
    return np.exp(size), np.exp(row[per_row > 0])
