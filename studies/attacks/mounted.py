"""Attacks in place: what those beside an honest server share, and those with a notebook."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.encoding import Floats
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Learned
from labctl.studies.attacks.tampered_link import Path, TamperedLink
from labctl.studies.attacks.weights_estimate import Notebook


class BesideHonestServer:
    """What mounted attacks have in common that leave the server and the images as they are."""

    @property
    def server(self) -> None:
        """The server is the honest one."""
        return None

    def inputs(self, images: Floats) -> Floats:
        """Return the images as they are."""
        return images


@dataclass(frozen=True, eq=False)
class WeightThief(BesideHonestServer):
    """An attacker after the weights, with an honest server and its own images."""

    link: TamperedLink
    notebook: Notebook

    @classmethod
    def on(cls, settings: SessionSettings, path: Path, notebook: Notebook) -> WeightThief:
        """Return the attack mounted on a path."""
        return cls(TamperedLink(settings, path), notebook)

    def learned(self, network: Network, images: LabelledImages) -> Learned:
        """Score what the notebook says of all weights of the network."""
        return self.notebook.learned(network)

    def stolen(self, network: Network) -> tuple[Floats, ...]:
        """Return the notebook's best estimate of each layer's weights."""
        return self.notebook.estimates(network)
