"""A client that feeds in basis vectors instead of images and so reads single weights.

With honest optics it measures weight after weight of the first layer at F = 2 mu T/D each: of
Q <= N chosen queries the correlation with all weights of that layer is sqrt(Q/N F/(1 + F)), just
that of Q images in all directions. The returned light is that of honest use. What counts is the
number of queries, and that the ledger of leakage counts them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.encoding import Floats
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Learned, Mark
from labctl.studies.attacks.mounted import BesideHonestServer
from labctl.studies.attacks.share import OfAShare
from labctl.studies.attacks.tampered_link import Path, TamperedLink
from labctl.studies.attacks.weights_estimate import Notebook

# Branch of the session's seed for the order of basis vectors.
_ORDER_KEY = 9


@dataclass(frozen=True)
class ChosenInputs(OfAShare):
    """Feeds in the next basis vector in a share of the queries, spread evenly; images in the rest.

    The basis vectors come in an order drawn once, after the last the first again.
    """

    name: ClassVar[str] = "chosen-inputs"

    def mount(self, network: Network, settings: SessionSettings) -> BasisClient:
        """Return the client with its list of inputs."""
        notebook = Notebook(settings.light.mean_photons)
        link = TamperedLink(settings, Path.honest(settings).with_notes(notebook))
        return BasisClient(link, notebook, self.share, settings.seed)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return no mark at all: the optics is honest."""
        return Mark()

    def correlation(self, queries: int, inputs: int, signal_to_noise: float) -> float:
        """Return the correlation expected with all first-layer weights after chosen queries.

        `inputs` N of the layer, `signal_to_noise` F of one inner product. The X of the receiver
        alone is counted: a tap's P shows the other weight of the mode as well.
        """
        rounds, left = divmod(queries, inputs)
        known = [(rounds, inputs - left), (rounds + 1, left)]
        share = sum(n * q * signal_to_noise / (1.0 + q * signal_to_noise) for q, n in known)
        return math.sqrt(share / inputs)


@dataclass(frozen=True, eq=False)
class BasisClient(BesideHonestServer):
    """The mounted attack."""

    link: TamperedLink
    notebook: Notebook
    share: float
    seed: int

    def inputs(self, images: Floats) -> Floats:
        """Return the images (B, N) with a share of them replaced by basis vectors."""
        fed = images.copy()
        due = np.floor(np.arange(len(images) + 1) * self.share)
        chosen = np.flatnonzero(np.diff(due))
        fed[chosen] = 0.0
        seed = np.random.SeedSequence(self.seed, spawn_key=(_ORDER_KEY,))
        order = np.random.default_rng(seed).permutation(images.shape[1])
        fed[chosen, order[np.arange(len(chosen)) % len(order)]] = 1.0
        return fed

    def learned(self, network: Network, images: LabelledImages) -> Learned:
        """Score what the notebook says of all weights of the network."""
        return self.notebook.learned(network)

    def stolen(self, network: Network) -> tuple[Floats, ...]:
        """Return the notebook's best estimate of each layer's weights."""
        return self.notebook.estimates(network)
