"""What any inference service gives away: the classes of some inputs that the client chose itself.

The thief has public images without labels and lets the service name those that represent most
others: the centres of clusters on the neighbour graph. Each answer spreads over the graph. With
fewer answers than classes, the clusters not asked about are given the classes not seen, in
random order: of Q answers (Q + 1)/classes are then right at best. All optics is honest, nothing
but the class is used: every other thief is compared with this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.encoding import Floats
from labctl.protocols.settings import SessionSettings
from labctl.protocols.streams import stream
from labctl.studies.attacks.attack import Attacker, Learned, Mark
from labctl.studies.attacks.copies.neighbours import Doubles, Indices
from labctl.studies.attacks.copies.recording import RecordingLink
from labctl.studies.attacks.copies.stolen import Copy, PublicImages, named
from labctl.studies.attacks.mounted import BesideHonestServer

# Branch of the session's seed for the pictures that are asked for.
_KEY = 11


@dataclass(frozen=True)
class ClassesAlone:
    """Asks for the classes of `queries` public images, the most telling first."""

    public: PublicImages
    queries: int
    name: ClassVar[str] = "classes-alone"
    party: ClassVar[Attacker] = Attacker.CLIENT

    def __post_init__(self) -> None:
        most = len(self.public.images) // 4
        if not 1 <= self.queries <= most:
            valid = f"1 to {most}, a quarter of the public images"
            raise SettingError(f"{self.name} queries", self.queries, valid)

    @property
    def strength(self) -> float:
        """Number of queries."""
        return float(self.queries)

    def mount(self, network: Network, settings: SessionSettings) -> ClassesThief:
        """Return the client with its list of questions."""
        return ClassesThief(self, network.sizes, settings)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return no mark at all: the client is honest."""
        return Mark()


class ClassesThief(BesideHonestServer):
    """The mounted attack."""

    def __init__(
        self, attack: ClassesAlone, sizes: tuple[int, ...], settings: SessionSettings
    ) -> None:
        self._public = attack.public
        self._classes = sizes[-1]
        self._generator = stream(settings.seed, _KEY)
        # Fewer clusters than this merge classes: the largest of them are asked about.
        clusters = max(attack.queries, self._classes)
        self._clusters, centres = attack.public.graph.clusters(clusters, settings.seed)
        self._asked = centres[: attack.queries]
        self.link = RecordingLink(settings)

    @property
    def public(self) -> PublicImages:
        """The images that it has without their labels."""
        return self._public

    def inputs(self, images: Floats) -> Floats:
        """Return the chosen public images in place of the first `images`; more are left out."""
        return self._public.images[self._asked[: len(images)]]

    def copy(self) -> Copy:
        """Return what the answers say of all public images, and through them of any other."""
        answers = named(self.link.values_of_last_layer())
        shares: Doubles = np.zeros((self._public.graph.size, self._classes))
        shares[self._asked[: len(answers)], answers] = 1.0
        spread = self._public.graph.smoothed(shares)
        # Every class is as frequent as any other, as far as the thief knows.
        spread /= np.maximum(spread.sum(axis=0), 1e-300)
        labels = named(spread)
        unseen = np.setdiff1d(np.arange(self._classes), answers)
        if len(answers) < self._classes and len(unseen):
            self._guess(labels, unseen, len(answers))
        return LabelledGraph(self._public, labels, self._classes)

    def _guess(self, labels: Indices, unseen: Indices, asked: int) -> None:
        """Give the clusters not asked about the classes not seen."""
        drawn = self._generator.permutation(unseen)
        for place, cluster in enumerate(range(asked, self._classes)):
            labels[self._clusters == cluster] = drawn[place % len(drawn)]

    def learned(self, network: Network, images: LabelledImages) -> Learned:
        """Score nothing: no weight was estimated."""
        return Learned(sum(one.size for one in network.layers))


@dataclass(frozen=True, eq=False)
class LabelledGraph:
    """Public images with the labels that a thief gave them; others are named by vote."""

    public: PublicImages
    labels: Indices
    classes: int

    def scores(self, images: Floats) -> Doubles:
        """Return votes (B, classes)."""
        return self.public.graph.vote(images, self.labels, self.classes)
