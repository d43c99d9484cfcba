"""An outsider who reads modes by heterodyne and sends coherent light of that amplitude on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from labctl.data.models import Network
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Attacker, Mark
from labctl.studies.attacks.marks import Change, LayerPath, pooled_mark
from labctl.studies.attacks.mounted import WeightThief
from labctl.studies.attacks.outsider import Leg, mounted_on, name_on
from labctl.studies.attacks.share import require_share
from labctl.studies.attacks.stations import HETERODYNE_NOISE, DrawnModes, Replacement, Resent
from labctl.studies.attacks.weights_estimate import Notebook


@dataclass(frozen=True)
class InterceptResend:
    """Reads and resends a share of the modes, drawn again for each query."""

    share: float
    leg: Leg = Leg.OUT
    party: ClassVar[Attacker] = Attacker.OUTSIDER

    def __post_init__(self) -> None:
        require_share(self.name, "share", self.share)

    @property
    def name(self) -> str:
        """Its name: intercept-resend, or intercept-resend-return."""
        return name_on(self.leg, "intercept-resend")

    @property
    def strength(self) -> float:
        """Share of the modes."""
        return self.share

    def mount(self, network: Network, settings: SessionSettings) -> WeightThief:
        """Return the link with the outsider on it."""
        notebook = Notebook(settings.light.mean_photons)
        reads = Replacement(DrawnModes(self.share), Resent(1.0), notebook, own=False)
        return mounted_on(self.leg, settings, reads, notebook)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return 2 f SNU, dimmed by the way that is left."""

        def change(path: LayerPath) -> Change:
            way = path.leg if self.leg is Leg.RETURN else path.leg**2
            return Change(noise=way * HETERODYNE_NOISE * self.share, share=self.share)

        return pooled_mark(network, settings, change)
