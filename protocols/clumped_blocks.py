"""Blocks of weights that lie in clumps: words of a codebook behind scales, blur or an offset.

A client that knows how blocks of a network of this kind are distributed reads a block by heterodyne
and resends the mean block given what it read. Here that is done: the distribution is a sample of
other blocks of the same layer, or the Gaussian of their covariance where no block of the sample
fits. What is resent so is off by no less than the least mean square, so that no structure is made
up; words, as often in the sample as they come, are found, with noise on them too as long as light
does not resolve it.

Weights of which many are near zero, or that are bright in places, are guessed well without any
words. So the same is done with each weight changed by a random factor, which keeps all that but the
words, and with each principal component of a block changed so, which keeps smooth rows smooth.
Blocks lie in clumps where the change, and Gaussian blocks, make resending much worse.

Rows and columns are first scaled to the same power in turn (as Sinkhorn and Knopp, Pac. J. Math.
21, 343 (1967), do with sums), since a client takes scales from all readings that share them; noise
then differs from weight to weight, which is counted. Looked at are blocks of 2, 3, 4 and 8 weights
along rows and columns, beginning anywhere, and patches of pixels; other words show as their parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.protocols.encoding import Floats

Doubles = npt.NDArray[np.float64]

# Four first: words of eight show in fours as halves, and words of two as pairs.
_LENGTHS = (4, 8, 2, 3)
_PATCHES = ((2, 2), (2, 4), (4, 2))
# Blocks read, blocks that the client knows, and the share of the noise of changed blocks above
# which no further look is taken. The first look is at every order, so that it must be quick.
_LOOKS = ((14, 2000, 0.7), (100, 8000, 0.6))
_LAST = (300, 30_000)
# Standard deviation of the logarithm of the factors: more than light leaves of a weight of the RMS
# from mu = 10 on, and little beside how weights of trained layers differ.
_CHANGE = 0.3
# Scales come from at least this many weights each; fewer leave more error than blur.
_LEAST_SHARING = 64
_ROUNDS = 2
# Scales below that, in RMS of the layer, carry no light worth a decision.
_FAINT = 1e-3
# Single precision tells blocks apart up to that light. Brighter light resolves blur itself.
_MOST_PHOTONS = 1e4
# Dimmer light leaves Gaussian weights 1/1.001 of the noise of guessing: nothing halves it.
_LEAST_PHOTONS = 1e-3
_LEAST_BLOCKS = 200
_CHUNK = 50


@dataclass(frozen=True)
class Clumps:
    """Blocks of `length` weights that lie in clumps, `order` says how.

    `noise`: in SNU, what resending the mean block leaves on average; `otherwise`: the least of what
    it leaves of changed blocks and of Gaussian ones.
    """

    length: int
    order: str
    noise: float
    otherwise: float


def clumps_of(unit: Floats, mean_photons: float, most: float) -> Clumps | None:
    """Return how a layer's weights (rows, columns) in RMS lie in clumps; None if they do not.

    `most`: share of what is left otherwise that resending may leave at most. Seeded: the same
    weights give the same answer.
    """
    if mean_photons < _LEAST_PHOTONS:
        return None
    photons = min(mean_photons, _MOST_PHOTONS)
    random = np.random.default_rng(1)
    for order, values, scales in _orders(unit):
        for length in _lengths(order):
            for offset in range(length if "pixels" not in order else 1):
                view = _View(values, scales, length, offset)
                if view.blocks < _LEAST_BLOCKS:
                    continue
                if any(view.resent(photons, look[:2], random).share > look[2] for look in _LOOKS):
                    continue
                last = view.resent(photons, _LAST, random, components=True)
                if last.share <= most:
                    return Clumps(length, order, last.noise, last.otherwise)
    return None


def _lengths(order: str) -> tuple[int, ...]:
    for high, wide in _PATCHES:
        if f"{high} x {wide}" in order:
            return (high * wide,)
    return _LENGTHS


def _orders(unit: Floats) -> Iterator[tuple[str, Floats, Floats]]:
    """Yield names, weights as lines along which blocks lie, and the scales taken out of each."""
    shared = [count >= _LEAST_SHARING for count in unit.shape]
    choices = [("behind scales", *_balanced(unit))] if any(shared) else []
    if not all(shared):
        choices.append(("as they are", unit, np.ones_like(unit)))
    for name, values, scales in choices:
        yield f"along rows {name}", values, scales
        yield (
            f"along columns {name}",
            np.ascontiguousarray(values.T),
            np.ascontiguousarray(scales.T),
        )
        side = math.isqrt(unit.shape[1])
        if side * side != unit.shape[1]:
            continue
        for high, wide in _PATCHES:
            if side % high == 0 == side % wide:
                rearranged = [_patched(each, side, high, wide) for each in (values, scales)]
                yield f"in patches of {high} x {wide} pixels {name}", rearranged[0], rearranged[1]


def _patched(lines: Floats, side: int, high: int, wide: int) -> Floats:
    image = lines.reshape(len(lines), side // high, high, side // wide, wide)
    return image.transpose(0, 1, 3, 2, 4).reshape(lines.shape)


def _balanced(unit: Floats) -> tuple[Floats, Floats]:
    """Return weights of which rows and columns have RMS 1, as far as many share a scale."""
    values, scales = unit, np.ones_like(unit)
    for turn in range(2 * _ROUNDS):
        axis = turn % 2
        if unit.shape[axis] < _LEAST_SHARING:
            continue
        power = np.einsum("ij,ij->" + "ji"[axis], values, values) / np.float32(unit.shape[axis])
        scale = np.sqrt(power)
        scale = np.expand_dims(np.where(scale > 1e-12, scale, np.float32(1.0)), axis)
        values, scales = values / scale, scales * scale
    return values, np.maximum(scales, np.float32(_FAINT))


@dataclass(frozen=True)
class _Resent:
    """Noise in SNU that resending leaves, and the least of changed and of Gaussian blocks."""

    noise: float
    otherwise: float

    @property
    def share(self) -> float:
        return self.noise / self.otherwise if self.otherwise > 0.0 else math.inf


class _View:
    """The blocks of one length and offset of weights as lines."""

    def __init__(self, values: Floats, scales: Floats, length: int, offset: int) -> None:
        self._values, self._scales = values, scales
        self._length, self._offset = length, offset
        self._count = max((values.shape[1] - offset) // length, 0)

    @property
    def blocks(self) -> int:
        blocks: int = self._count * len(self._values)
        return blocks

    def resent(
        self,
        photons: float,
        sizes: tuple[int, int],
        random: np.random.Generator,
        *,
        components: bool = False,
    ) -> _Resent:
        """Read some blocks, know some others; `components`: change principal components as well."""
        read = min(sizes[0], self.blocks // 4)
        known = min(sizes[1], self.blocks - read)
        chosen = random.permutation(random.choice(self.blocks, read + known, replace=False))
        blocks = self._taken(self._values, chosen)
        precision = np.float32(photons) * np.square(self._taken(self._scales, chosen[:read]))
        drawn = random.standard_normal(precision.shape, dtype=np.float32)
        noise: Floats = np.divide(drawn, np.sqrt(precision), dtype=np.float32)
        left, gaussian = _resent(blocks, noise, precision)
        factors = np.exp(
            np.float32(_CHANGE) * random.standard_normal(blocks.shape, dtype=np.float32)
        )
        otherwise = [gaussian, _resent(blocks * factors, noise, precision)[0]]
        if components:
            axes = np.linalg.eigh(blocks.T @ blocks)[1]
            otherwise.append(_resent(((blocks @ axes) * factors) @ axes.T, noise, precision)[0])
        return _Resent(left, min(otherwise))

    def _taken(self, lines: Floats, chosen: npt.NDArray[np.int64]) -> Floats:
        rows, block = np.divmod(chosen, self._count)
        columns = self._offset + self._length * block[:, None] + np.arange(self._length)
        return lines[rows[:, None], columns]


def _resent(blocks: Floats, noise: Floats, precision: Floats) -> tuple[float, float]:
    """Return the mean noise of resending by a sample of other blocks, and by their Gaussian.

    The first blocks are read with `noise`, the others known. precision: (blocks read, length).
    Light of variance 2 mu s^2 carries a weight of scale s, so that an error e returns as
    2 mu s^2 e^2, twice the precision times e^2.
    """
    true, others = blocks[: len(noise)], blocks[len(noise) :]
    read, length = true + noise, true.shape[1]
    covariance = (others.T @ others).astype(np.float64) / len(others) + 1e-9 * np.eye(length)
    at_reading = covariance + np.eye(length) / precision[:, None, :].astype(np.float64)
    solved = np.linalg.solve(at_reading, read[:, :, None].astype(np.float64))[:, :, 0]
    gaussian = solved @ covariance
    # Evidence of the Gaussian, and of the sample as a mixture of its blocks, both equally likely.
    evidence = -0.5 * (np.sum(read * solved, axis=1) + np.linalg.slogdet(at_reading)[1])
    best = np.empty(true.shape)
    weighted = np.concatenate([others, -0.5 * np.square(others)], axis=1).T
    for at in range(0, len(true), _CHUNK):
        part = slice(at, at + _CHUNK)
        near, sharp = read[part], precision[part]
        scores = np.concatenate([sharp * near, sharp], axis=1) @ weighted
        top = scores.max(axis=1, keepdims=True)
        chances = np.exp(scores - top)
        total = chances.sum(axis=1)
        mean = (chances @ others) / total[:, None]
        own = top[:, 0] - 0.5 * np.sum(sharp * near**2, axis=1) + np.log(total / len(others))
        own = own.astype(np.float64) + 0.5 * np.sum(np.log(sharp.astype(np.float64)), axis=1)
        # exp(700) is near the largest double.
        trust = 1.0 / (1.0 + np.exp(np.clip(evidence[part] - own, -700.0, 700.0)))[:, None]
        best[part] = trust * mean + (1.0 - trust) * gaussian[part]
    off = np.mean(2.0 * precision * np.square(best - true))
    plain = np.mean(2.0 * precision * np.square(gaussian - true))
    return float(off), float(plain)
