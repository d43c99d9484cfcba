"""An outsider who takes a share of the light off the fibre and reads it.

The server sees it in the transmittance alone. Light that returns is dimmed after the clone: there
the honest noise shrinks a little as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from labctl import checks
from labctl.data.models import Network
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Attacker, Mark
from labctl.studies.attacks.marks import Change, LayerPath, pooled_mark
from labctl.studies.attacks.mounted import WeightThief
from labctl.studies.attacks.outsider import Leg, mounted_on, name_on
from labctl.studies.attacks.stations import Splitter
from labctl.studies.attacks.weights_estimate import Notebook


@dataclass(frozen=True)
class Tap:
    """Takes `share` of the power, 0 to below 1, and reads X and P of it by heterodyne."""

    share: float
    leg: Leg = Leg.OUT
    party: ClassVar[Attacker] = Attacker.OUTSIDER

    def __post_init__(self) -> None:
        checks.below(f"{self.name} share", self.share, 0.0, 1.0)

    @property
    def name(self) -> str:
        """Its name: tap, or tap-return."""
        return name_on(self.leg, "tap")

    @property
    def strength(self) -> float:
        """Share of the power."""
        return self.share

    def mount(self, network: Network, settings: SessionSettings) -> WeightThief:
        """Return the link with the tap on it."""
        notebook = Notebook(settings.light.mean_photons)
        return mounted_on(self.leg, settings, Splitter(self._kept, notebook), notebook)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return 1 - share in transmittance."""
        dimmed = self.share if self.leg is Leg.RETURN else 0.0

        def change(path: LayerPath) -> Change:
            noise = -dimmed * path.leg * path.clone_noise
            return Change(math.sqrt(1.0 - self.share), 0.0, noise)

        return pooled_mark(network, settings, change)

    def _kept(self, modes: int) -> float:
        return 1.0 - self.share
