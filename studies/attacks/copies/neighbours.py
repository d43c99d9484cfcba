"""A graph of public images by similarity, on which few or doubtful labels are spread to all.

Each image is joined to those nearest to it, weights fall off with the squared distance over both
images' own scale (Zelnik-Manor and Perona, NIPS 2004). Labels spread by F = a S F + (1 - a) Y with
S the symmetrically normalised weights (Zhou et al., NIPS 2003). What is not in the graph is named
by a vote of its nearest members. The same graph serves every thief, so that copies compare fairly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.cluster.vq import kmeans2
from scipy.sparse.linalg import eigsh

from labctl import checks
from labctl.errors import SettingError
from labctl.protocols.encoding import Floats
from labctl.studies.attacks.copies.features import Features, features_of

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# 94 % of the variance of 392 features of digits; distances in fewer dimensions are found faster.
_DIMENSIONS = 64
# Few neighbours, or classes become joined; the scale is the distance to the seventh, as in Zelnik-
# Manor and Perona's paper, and labels keep 0.99 of what is spread, as in that of Zhou et al.
_NEIGHBOURS = 12
_SCALE_NEIGHBOUR = 7
_VOTERS = 10
_KEPT = 0.99
_STEPS = 300
# Slow modes of diffusion: about as many as there are classes, or classes fall apart.
_EMBEDDED = 12
_DIFFUSION_STEPS = 8
_STARTS = 10
_MANY = 60
_AT_ONCE = 1000
# Public and judged images, and room for two more.
_REMEMBERED = 4
LEAST_IMAGES = 100


@dataclass(frozen=True)
class _Projection:
    """Features less their mean, along their principal directions (d, dimensions)."""

    kind: Features
    mean: Floats
    directions: Floats

    @classmethod
    def of(cls, features: Floats, kind: Features) -> _Projection:
        mean = np.asarray(features.mean(axis=0), np.float32)
        centred = features - mean
        _, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64))
        return cls(kind, mean, vectors[:, ::-1][:, :_DIMENSIONS].astype(np.float32))

    def __call__(self, images: Floats) -> Floats:
        centred = features_of(images, self.kind) - self.mean
        return np.asarray(centred @ self.directions, np.float32)


class NeighbourGraph:
    """The graph of images (n, N), n at least 100; raises SettingError for fewer."""

    def __init__(self, images: Floats, kind: Features = Features.GRADIENTS) -> None:
        checks.at_least("public images", len(images), LEAST_IMAGES)
        self._project = _Projection.of(features_of(images, kind), kind)
        self._points = self._project(images)
        self._spread = _normalised(self._points)
        self._asked: list[tuple[Floats, tuple[Indices, Doubles]]] = []

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self._points)

    def smoothed(self, shares: Doubles) -> Doubles:
        """Spread shares (n, classes), zero where nothing is known; return new ones alike."""
        spread = shares.copy()
        for _ in range(_STEPS):
            spread = _KEPT * (self._spread @ spread) + (1.0 - _KEPT) * shares
        return spread

    def vote(self, images: Floats, labels: Indices, classes: int) -> Doubles:
        """Return votes (B, classes) on images (B, N), given the labels of all members."""
        nearest, squares = self._voters(images)
        weights = np.exp(-squares / np.maximum(squares.mean(axis=1, keepdims=True), 1e-12))
        votes = np.zeros((len(images), classes))
        for index in range(classes):
            votes[:, index] = np.sum(weights * (labels[nearest] == index), axis=1)
        return votes

    def _voters(self, images: Floats) -> tuple[Indices, Doubles]:
        """Return the nearest members, remembered for the arrays of images asked about last."""
        known = next((one for one in self._asked if one[0] is images), None)
        if known is None:
            known = images, _nearest(self._project(images), self._points, _VOTERS)
        others = [one for one in self._asked if one[0] is not images]
        self._asked = [known, *others][:_REMEMBERED]
        return known[1]

    def clusters(self, count: int, seed: int) -> tuple[Indices, Indices]:
        """Return each member's cluster (n,) and each cluster's most central member (count,).

        By k-means over the slowest modes of diffusion; the best of several starts. Clusters come
        in falling order of size.
        """
        points, generator = self._embedded, np.random.default_rng(seed)
        best: tuple[float, Doubles, Indices] | None = None
        # Many clusters come out well from any start, and take long.
        for _ in range(_STARTS if count <= _MANY else 2):
            centres, drawn = kmeans2(points, count, iter=30, minit="++", rng=generator)
            near: Indices = drawn.astype(np.intp)
            cost = float(np.sum((points - centres[near]) ** 2))
            if len(np.unique(near)) == count and (best is None or cost < best[0]):
                best = cost, centres, near
        if best is None:
            raise SettingError("clusters", count, f"well below the {self.size} public images")
        _, centres, member = best
        order = np.argsort(-np.bincount(member, minlength=count), kind="stable")
        rank = np.empty(count, np.intp)
        rank[order] = np.arange(count)
        central = np.empty(count, np.intp)
        for new, old in enumerate(order):
            inside = np.flatnonzero(member == old)
            away = np.sum((points[inside] - centres[old]) ** 2, axis=1)
            central[new] = inside[np.argmin(away)]
        return rank[member], central

    @cached_property
    def _embedded(self) -> Doubles:
        start = np.full(self.size, self.size**-0.5)
        values, vectors = eigsh(self._spread, k=_EMBEDDED, v0=start)
        points = vectors * np.maximum(values, 0.0) ** _DIFFUSION_STEPS
        return np.asarray(points / (np.linalg.norm(points, axis=1, keepdims=True) + 1e-12))


def _normalised(points: Floats) -> sparse.csr_array:
    """Return the graph's weights, each over the root of both ends' sums."""
    count = len(points)
    nearest, squares = _nearest(points, points, _NEIGHBOURS + 1)
    scale = np.sqrt(np.sort(squares, axis=1)[:, _SCALE_NEIGHBOUR]) + 1e-12
    weights = np.exp(-squares / (scale[:, None] * scale[nearest]))
    weights[nearest == np.arange(count)[:, None]] = 0.0
    ends = np.arange(0, nearest.size + 1, nearest.shape[1])
    graph = sparse.csr_array((weights.ravel(), nearest.ravel(), ends), shape=(count, count))
    graph = graph.maximum(graph.T)
    root = 1.0 / np.sqrt(np.maximum(np.asarray(graph.sum(axis=1)), 1e-12))
    return sparse.csr_array(sparse.diags_array(root) @ graph @ sparse.diags_array(root))


def _nearest(points: Floats, members: Floats, count: int) -> tuple[Indices, Doubles]:
    """Return the `count` members nearest to each point, and their squared distances."""
    square = np.einsum("ij,ij->i", members, members)
    found, squares = [], []
    for first in range(0, len(points), _AT_ONCE):
        part = points[first : first + _AT_ONCE]
        away = square - 2.0 * (part @ members.T) + np.einsum("ij,ij->i", part, part)[:, None]
        nearest = np.argpartition(away, count - 1, axis=1)[:, :count]
        found.append(nearest)
        squares.append(np.maximum(np.take_along_axis(away, nearest, axis=1), 0.0))
    return np.concatenate(found), np.concatenate(squares).astype(np.float64)
