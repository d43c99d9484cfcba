"""What was found of a network's weights: continuous, few levels, words, a spike, and what follows.

`weight_search` finds it; `WeightDistribution` says it in words and numbers, with what bounds such
weights where figures for Gaussian ones do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from labctl.protocols.leakage import WEIGHTS_PER_MODE, thermal_entropy_bits

# Distinguished: light halves the errors that guessing the likeliest level makes.
TOLD_APART = 0.5


class WeightsKind(StrEnum):
    """How the weights of a layer are distributed."""

    CONTINUOUS = "continuous"
    LEVELS = "levels"
    LEVELS_PER_ROW = "levels per row"
    LEVELS_PER_COLUMN = "levels per column"
    LEVELS_PER_BLOCK = "levels per block"
    LEVELS_SCALED = "levels behind scales of rows and columns"
    LEVELS_OFFSET = "levels behind offsets of rows and columns"
    LEVELS_BLURRED = "blurred levels"
    SPIKE = "spike"
    CODEBOOK = "words of a codebook"
    CHAIN = "weights that follow from those before"
    CLUMPS = "blocks in clumps"
    LOW_RANK = "rows that repeat or combine few others"


@dataclass(frozen=True)
class LayerDistribution:
    """What the weights of one layer look like to a client that heterodynes one query.

    `resend_noise`: SNU that it leaves where it resends its best guesses of all weights. `levels`:
    how many (2 for a spike and the rest, 0 for continuous ones). `error_rate`: share of
    weights that it takes for another level; `guess_error_rate`: the same without light, always the
    likeliest. `entropy_bits`: of the level of a weight, None where there are none; `exact`: whether
    the level is all there is to a weight. Of a codebook, `levels` counts the words, `error_rate`
    those mistaken, `length` the weights in each, `order` says how they lie, as of clumps; of a low
    rank, `levels` is the rank. `resent`: whether these leave at most half the noise that single
    weights, or Gaussian ones, do.
    """

    kind: WeightsKind
    weights: int
    resend_noise: float
    levels: int = 0
    error_rate: float = 0.0
    guess_error_rate: float = 0.0
    entropy_bits: float | None = None
    exact: bool = False
    length: int = 1
    order: str = ""
    resent: bool = False

    @property
    def told_apart(self) -> bool:
        """Whether light at least halves the errors of guessing, or the noise of resending."""
        return self.resent or (
            self.levels > 1 and self.error_rate <= TOLD_APART * self.guess_error_rate
        )


@dataclass(frozen=True)
class WeightDistribution:
    """What was found of each layer that is sent, at this many photons per mode."""

    layers: tuple[LayerDistribution, ...]
    mean_photons: float

    @property
    def discrete(self) -> bool:
        """Whether a layer has levels or a spike, so that Gaussian figures do not hold for it."""
        return any(layer.kind is not WeightsKind.CONTINUOUS for layer in self.layers)

    @property
    def told_apart(self) -> bool:
        """Whether a heterodyning client tells the levels of a layer apart in one query."""
        return any(layer.told_apart for layer in self.layers)

    @property
    def error_rate(self) -> float:
        """Share of the discrete layers' weights that such a client takes for another level."""
        return self._mean([layer.error_rate for layer in self.layers])

    @property
    def guess_error_rate(self) -> float:
        """The same without any light."""
        return self._mean([layer.guess_error_rate for layer in self.layers])

    @property
    def resend_noise(self) -> float:
        """Noise in SNU, pooled over all layers, of a client that reads and resends all of them."""
        total = sum(one.weights for one in self.layers)
        return math.fsum(one.resend_noise * one.weights for one in self.layers) / total

    @property
    def most_bits_per_real(self) -> float:
        """Bits per real weight and query that nothing exceeds: the light's, or all there is."""
        light = thermal_entropy_bits(2.0 * self.mean_photons + 1.0) / WEIGHTS_PER_MODE
        most = [
            min(light, layer.entropy_bits)
            if layer.exact and layer.entropy_bits is not None
            else light
            for layer in self.layers
            if layer.kind is not WeightsKind.CONTINUOUS
        ]
        return max(most, default=light)

    @property
    def coded_bits_per_real(self) -> float:
        """Bits per real weight that heterodyning one query tells of words chosen for it, unseen.

        (1/2) log2(1 + mu): the capacity of a Gaussian channel (Shannon 1948) with noise 1/mu beside
        weights of variance 1. A client that knows the code mistakes no word and resends all.
        """
        return 0.5 * math.log2(1.0 + self.mean_photons)

    def statement(self) -> str:
        """Say in words what was found and what follows for the figures."""
        if not self.discrete:
            return (
                "weights without levels, spikes or codewords in their own order: figures for "
                "continuous weights apply (not looked for: in another basis, behind scales and "
                "offsets together, or words that this light tells apart no better than half; "
                "words that a key makes, none of them twice, no look finds: their client would "
                f"read up to {self.coded_bits_per_real:.3g} bit per weight and query unseen)"
            )
        found = "; ".join(
            f"layer {number}: {_words(layer)}"
            for number, layer in enumerate(self.layers, 1)
            if layer.kind is not WeightsKind.CONTINUOUS
        )
        return (
            f"discrete weights ({found}): the figures for Gaussian weights DO NOT HOLD; a client "
            f"that heterodynes one query {self._mistaken()}leaves "
            f"{self.resend_noise:.3g} SNU where it resends its guesses; bounded is "
            f"only {self.most_bits_per_real:.3g} bit per real weight (their entropy, or all that "
            "the light carries)"
        )

    def _mistaken(self) -> str:
        if not any(layer.entropy_bits for layer in self.layers):
            return ""
        return (
            f"mistakes {self.error_rate:.3g} of them (guessing: {self.guess_error_rate:.3g}) and "
        )

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "discrete": self.discrete,
            "told_apart": self.told_apart,
            "level_error_rate": self.error_rate if self.discrete else None,
            "guess_error_rate": self.guess_error_rate if self.discrete else None,
            "resend_noise_snu": self.resend_noise,
            "coded_bits_per_real": self.coded_bits_per_real,
            "most_bits_per_real": self.most_bits_per_real if self.discrete else None,
            "layers": [_layer_json(layer) for layer in self.layers],
            "in_words": self.statement(),
        }

    def _mean(self, rates: list[float]) -> float:
        counts = [0 if one.entropy_bits is None else one.weights for one in self.layers]
        pairs = zip(rates, counts, strict=True)
        return math.fsum(rate * count for rate, count in pairs) / max(sum(counts), 1)


def _words(layer: LayerDistribution) -> str:
    if layer.kind is WeightsKind.SPIKE:
        return "one value stands out among continuous ones"
    if layer.kind is WeightsKind.LOW_RANK:
        return f"{layer.kind}: rank {layer.levels}, {layer.weights} weights"
    if layer.kind is WeightsKind.CLUMPS:
        return f"{layer.kind} of {layer.length} weights {layer.order}, as words with noise on them"
    if layer.kind is WeightsKind.CHAIN:
        return f"{layer.kind} {layer.order}, {layer.entropy_bits:.3g} bit per weight"
    if layer.kind is WeightsKind.CODEBOOK:
        return (
            f"{layer.levels} {layer.kind}, each {layer.length} weights {layer.order}, "
            f"{layer.entropy_bits:.3g} bit per weight"
        )
    return f"{layer.levels} {layer.kind}, {layer.entropy_bits:.3g} bit per weight"


def _layer_json(layer: LayerDistribution) -> Mapping[str, Any]:
    return {
        "kind": str(layer.kind),
        "levels": layer.levels or None,
        "weights_per_level": layer.length,
        "entropy_bits": layer.entropy_bits,
        "level_error_rate": layer.error_rate if layer.entropy_bits is not None else None,
        "guess_error_rate": layer.guess_error_rate if layer.entropy_bits is not None else None,
    }
