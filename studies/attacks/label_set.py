"""A server that reads all J + 1 labels of a client with decoys, and names one of them.

It knows all but the client's secrets: that J decoys of other classes travel, the public guess by
which they are drawn, gain, mismatch and loss, and a gallery of pictures of known label. Its model:
input and decoys are pictures of the gallery, no two of one guessed class, all such sets equally
likely and each picture of a set equally likely the input. By Bayes' rule a label's probability is
the expected share of the set that has it. The expectation is over sets drawn from the posterior:
one picture after the other is drawn again given all others (Gibbs' sampler; Geman and Geman, IEEE
PAMI 6, 721 (1984)), from the pictures of each guessed class that are likeliest alone. The largest
probability is named.

A gallery that holds inputs and decoys themselves finds the very set where there is light enough.
It names one of J + 1 then: what returns says nothing of which is the input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl import checks
from labctl.data.mnist import LabelledImages
from labctl.errors import DatasetError, SettingError
from labctl.protocols.client import Client, directions_of
from labctl.protocols.encoding import Floats
from labctl.protocols.hiding.decoys import Decoys
from labctl.protocols.labels.reading import Reading
from labctl.studies.attacks.attack import Learned
from labctl.studies.attacks.label_reading import DIMENSIONS, Labels
from labctl.studies.attacks.label_span import Places, SpanSeen, span_view
from labctl.studies.attacks.wishart import Complexes


@dataclass(frozen=True)
class Search:
    """How sets are looked for.

    per_class: pictures of each guessed class that are looked at. chains: times that it starts
    again. sweeps: rounds through all places of the set, of which the first `unused` do not count.
    """

    per_class: int = 12
    chains: int = 1
    sweeps: int = 6
    unused: int = 2

    def __post_init__(self) -> None:
        for name in ("per_class", "chains"):
            checks.at_least(name, getattr(self, name), 1)
        if not 0 <= self.unused < self.sweeps:
            raise SettingError("sweeps", self.sweeps, f"more than the {self.unused} unused")


SEARCH = Search()


class SetReader:
    """Names labels of inputs that travel with decoys.

    gallery: pictures (T, N) of known label. decoys: the client's, of which the server uses the
    public guess and their number alone; the draws use all of it. light: see `LabelReader`.
    """

    def __init__(
        self,
        gallery: LabelledImages,
        decoys: Decoys,
        reading: Reading,
        *,
        light: Complexes | None = None,
        dimensions: int = DIMENSIONS,
        search: Search = SEARCH,
    ) -> None:
        if not len(gallery.labels) or gallery.images.shape[1] != decoys.store.images.shape[1]:
            raise DatasetError(
                f"gallery of shape {gallery.images.shape}: must be pictures of "
                f"{decoys.store.images.shape[1]} pixels"
            )
        self._decoys, self._search = decoys, search
        self._labels = gallery.labels
        self._guessed = decoys.guess.of(gallery.images)
        self._classes = np.unique(self._guessed)
        self._together = decoys.decoys + 1
        if len(self._classes) < self._together:
            raise DatasetError(
                f"gallery of {len(self._classes)} guessed classes: must be {self._together} or more"
            )
        directions = directions_of(gallery.images, None)
        self.view = span_view(directions, reading, light, dimensions, self._together)

    def modes(self, images: Floats) -> Complexes:
        """Return what the client collects of images (B, N): modes (B, K, n)."""
        sizes = (images.shape[1], 1)
        client = Client(sizes, images, collection=self._decoys)
        return np.ascontiguousarray(client.coefficients()).view(np.complex64)

    def named(self, seen: SpanSeen, generator: np.random.Generator) -> int:
        """Return the label that is named for what returned of one image."""
        candidates = self._likely(seen.alone())
        guessed, among = self._guessed[candidates], seen.among(candidates)
        shares = np.zeros(len(candidates))
        for _ in range(self._search.chains):
            drawn: list[int] = []
            for sweep in range(self._search.sweeps):
                for place in range(self._together):
                    others = drawn[:place] + drawn[place + 1 :]
                    scores = among.given(np.array(others, np.intp))
                    for other in others:
                        scores[guessed == guessed[other]] = -np.inf
                    drawn[place : place + 1] = [_drawn(scores, generator)]
                    # Not one draw but its probabilities: less scatter.
                    if sweep >= self._search.unused:
                        shares += _probabilities(scores)
        labels = self._labels[candidates]
        named = np.unique(labels)
        return int(named[np.argmax([shares[labels == one].sum() for one in named])])

    def _likely(self, scores: npt.NDArray[np.float64]) -> Places:
        """Return the likeliest pictures of each guessed class."""
        kept = []
        for one in self._classes:
            places = np.flatnonzero(self._guessed == one)
            order = np.argsort(-scores[places], kind="stable")
            kept.append(places[order[: self._search.per_class]])
        return np.concatenate(kept)


def set_success(reader: SetReader, images: Floats, labels: Labels, seed: int) -> Learned:
    """Return how often `reader` names the labels (B,) of images (B, N), B at least 1."""
    if labels.shape != (len(images),) or not len(images):
        raise DatasetError(f"{len(images)} images with labels {labels.shape}: must be as many")
    checks.at_least("seed", seed, 0)
    generator, right = np.random.default_rng(seed), 0
    for modes, label in zip(reader.modes(images), labels, strict=True):
        right += reader.named(reader.view.observe(generator, modes), generator) == label
    return Learned(samples=len(labels), label_success=right / len(labels))


def _probabilities(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    weights = np.exp(scores - np.max(scores))
    return np.asarray(weights / weights.sum())


def _drawn(scores: npt.NDArray[np.float64], generator: np.random.Generator) -> int:
    total = np.cumsum(_probabilities(scores))
    return min(int(np.searchsorted(total, generator.random() * total[-1])), len(scores) - 1)
