"""A copy of the network in a thief's hands: what it holds, how it is finished, what it is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.linalg import eigh

from labctl.data.mnist import LabelledImages
from labctl.errors import SettingError
from labctl.protocols.carried import Inputs
from labctl.protocols.encoding import Floats, unit_norm
from labctl.studies.attacks.copies.features import Features
from labctl.studies.attacks.copies.looks import RowPrior
from labctl.studies.attacks.copies.neighbours import Doubles, Indices, NeighbourGraph

# 300 directions hold 99 % of the power of digits of 784 pixels; all others get one variance.
MOST_DIRECTIONS = 300


@dataclass(frozen=True, eq=False)
class PublicImages:
    """Images like the client's that anybody has, without labels: (n, N), in [0, 1].

    `features`: what the thief compares them by.
    """

    images: Floats
    features: Features = Features.GRADIENTS

    @cached_property
    def graph(self) -> NeighbourGraph:
        """The graph of these images, built when first asked for."""
        return NeighbourGraph(self.images, self.features)

    @cached_property
    def principal(self) -> RowPrior:
        """What rows of weights that meet these images look like."""
        return principal_prior(self.images)

    def principal_of(self, inputs: Inputs) -> RowPrior:
        """Return the same of those values of an image alone that are fed."""
        return self.principal if inputs.fed is None else principal_prior(inputs.taken(self.images))


def principal_prior(inputs: Floats, most: int = MOST_DIRECTIONS) -> RowPrior:
    """Return the prior of rows that meet such inputs (n, N): at most `most` directions.

    About the origin, not the mean: a row of weights meets the input as it is.
    """
    unit = unit_norm(inputs)
    moments = (unit.T @ unit).astype(np.float64) / len(unit)
    size = len(moments)
    kept = [max(size - most, 0), size - 1]
    values, vectors = eigh(moments, subset_by_index=kept)
    return RowPrior.along(vectors[:, ::-1], values[::-1], float(np.trace(moments)))


class Copy(Protocol):
    """What a thief classifies with."""

    def scores(self, images: Floats) -> Doubles:
        """Return scores (B, classes) of images (B, N), the largest naming the class."""
        ...


@dataclass(frozen=True, eq=False)
class StolenNetwork:
    """Layers as the thief estimates them, in any units: a class does not change with them.

    `inputs`: which values of an image they are fed with, None for all.
    """

    layers: tuple[Doubles, ...]
    inputs: Inputs | None = None

    def activations(self, images: Floats, layer: int) -> Floats:
        """Return what feeds layer `layer`: the images, or hidden values (B, m) in unit norm."""
        values = unit_norm(images if self.inputs is None else self.inputs.taken(images))
        for weights in self.layers[:layer]:
            values = passed_on(values, weights)
        return values

    def scores(self, images: Floats) -> Doubles:
        """Return the last layer's values (B, classes)."""
        last = len(self.layers) - 1
        return np.asarray(self.activations(images, last) @ self.layers[last].T, np.float64)


def passed_on(values: Floats, weights: Doubles) -> Floats:
    """Return the output of a hidden layer of weights (m, N) for values (B, N), in unit norm."""
    return unit_norm(np.maximum(values @ weights.T.astype(np.float32), np.float32(0.0)))


def shares_of(scores: Doubles) -> Doubles:
    """Return scores as shares of the classes: a softmax in units of their own spread."""
    spread = float(np.std(scores - scores.mean(axis=1, keepdims=True)))
    scaled = (scores - scores.max(axis=1, keepdims=True)) / max(spread, 1e-300)
    shares = np.exp(scaled)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


@dataclass(frozen=True, eq=False)
class SmoothedCopy:
    """A copy finished on the graph of public images: doubtful classes follow their neighbours."""

    copy: Copy
    public: PublicImages

    @property
    def labels(self) -> Indices:
        """The class of each public image, smoothed."""
        return named(self._weighed)

    @cached_property
    def _weighed(self) -> Doubles:
        shares = shares_of(self.copy.scores(self.public.images)) ** 2
        shares /= shares.sum(axis=1, keepdims=True)
        # About what it says on average, and each class in units of its own spread, so that a
        # leaning towards one class does not win: classes are about as frequent as each other.
        spread = self.public.graph.smoothed(shares - shares.mean(axis=0))
        return np.asarray(spread / np.maximum(np.abs(spread).mean(axis=0), 1e-300))

    def scores(self, images: Floats) -> Doubles:
        """Return the votes of the nearest public images."""
        return self.public.graph.vote(images, self.labels, self._weighed.shape[1])


def named(scores: Doubles) -> Indices:
    """Return the class of the largest score of each row."""
    return np.asarray(np.argmax(scores, axis=1), np.intp)


@dataclass(frozen=True)
class CopyWorth:
    """Share of `images` that a copy classifies correctly, as stolen and finished on the graph."""

    raw: float
    smoothed: float
    images: int

    @property
    def best(self) -> float:
        """The better of both: which it is, the thief may know."""
        return max(self.raw, self.smoothed)

    @property
    def standard_error(self) -> float:
        """Binomial standard error of the better one, above 0 (Laplace's rule)."""
        share = (self.best * self.images + 1.0) / (self.images + 2.0)
        return math.sqrt(share * (1.0 - share) / self.images)


def worth_of(copy: Copy, public: PublicImages, judged: LabelledImages) -> CopyWorth:
    """Return what a copy is worth on labelled images that are not among the public ones.

    Raises SettingError for no images.
    """
    if len(judged.labels) == 0:
        raise SettingError("judged images", 0, "1 or more")
    raw = _share(copy, judged)
    smoothed = _share(SmoothedCopy(copy, public), judged)
    return CopyWorth(raw, smoothed, len(judged.labels))


def _share(copy: Copy, judged: LabelledImages) -> float:
    return float(np.mean(named(copy.scores(judged.images)) == judged.labels))
