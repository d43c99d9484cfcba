"""How often a client mistakes a word of a codebook of which only some words were seen.

The other words are taken to be drawn from the Gaussian of the seen ones' covariance. Of such
codebooks, K words and one reading, the likeliest word is wrong with a probability of at most
E exp(-max(i - ln((K - 1)/2), 0)), i = ln p(y|x)/p(y) the information that the reading y carries of
the true word x: the dependence-testing bound (Polyanskiy, Poor and Verdu, IEEE Trans. Inf. Theory
56, 2307 (2010), theorem 17). Lattices and words chosen far apart are mistaken less often.

How many words there are at least follows from those that came once (f1) and twice (f2): f1^2/2 f2
were not seen (Chao, Scand. J. Stat. 11, 265 (1984)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.protocols.encoding import Floats

Doubles = npt.NDArray[np.float64]

# The longest blocks in which `clumped_blocks` looks for words.
_TOGETHER = 8


@dataclass(frozen=True)
class Mistaken:
    """Share of words mistaken at most, and mean square error per weight of what is resent.

    Where a word is mistaken, the client is taken to resend the linear estimate of the block.
    """

    share: float
    off: float


def unseen(once: int, twice: int) -> float:
    """Return how many words at least were not seen, of those that came once and twice.

    With none that came twice it is the same as with one, without bias.
    """
    return once * (once - 1.0) / (2.0 * (twice + 1.0))


def mistaken(
    words: Doubles, scales: Doubles, bits: Doubles, mean_photons: float, seed: int
) -> Mistaken:
    """Return how often words are taken for others, by a reading of variance 1/mu per weight.

    words: drawn ones (draws, length) in RMS of the layer, `scales` of each. bits: what names each,
    -log2 of its probability. Monte Carlo: of 1,000 draws a share of 0.1 is off by 0.01.
    """
    told, linear = _told(words, scales, mean_photons, seed)
    wrong = np.exp(-np.maximum(told - (bits - 1.0) * math.log(2.0), 0.0))
    return Mistaken(float(np.mean(wrong)), float(np.mean(wrong * linear)))


def mistaken_lines(lines: Floats, bits: float, mean_photons: float, seed: int = 0) -> Mistaken:
    """Return the same of whole lines (lines, weights), each of them one word that `bits` name.

    Blocks of 8 weights of a line are taken as independent of each other, given their covariance.
    """
    count = lines.shape[1] // _TOGETHER
    blocks = lines[:, : count * _TOGETHER].reshape(-1, _TOGETHER).astype(np.float64)
    told, linear = _told(blocks, np.ones(len(blocks)), mean_photons, seed)
    told, linear = told.reshape(len(lines), -1).sum(axis=1), linear.reshape(len(lines), -1)
    wrong = np.exp(-np.maximum(told - (bits - 1.0) * math.log(2.0), 0.0))
    return Mistaken(float(np.mean(wrong)), float(np.mean(wrong * linear.mean(axis=1))))


def _told(
    words: Doubles, scales: Doubles, mean_photons: float, seed: int
) -> tuple[Doubles, Doubles]:
    """Return what a reading of each word tells of it in nats, and the linear estimate's error."""
    random = np.random.default_rng(seed)
    powers, axes = np.linalg.eigh(words.T @ words / len(words))
    powers = np.maximum(powers, 0.0)
    true = words @ axes
    precision = mean_photons * np.square(scales)[:, None]
    noise = random.standard_normal(true.shape) / np.sqrt(precision)
    explained = np.square(true + noise) / (powers + 1.0 / precision)
    told = 0.5 * np.sum(
        np.log1p(powers * precision) + explained - np.square(noise) * precision, axis=1
    )
    linear = np.square(scales) * np.mean(powers / (1.0 + powers * precision), axis=1)
    return told, linear
