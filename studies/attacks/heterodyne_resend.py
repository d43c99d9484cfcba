"""A client that reads X and P of some modes and sends coherent light on in their place.

Heterodyne reads each quadrature with 2 SNU of noise; resent with the amplitude that was read the
light keeps its mean and carries 2 SNU above vacuum. Resent weaker, by r = S/(1 + S) with S = mu T,
it carries noise and missing amplitude of 2 r SNU together, the least there is; but the amplitude
that it lacks also lowers the transmittance, by 2 f (1 - r).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from labctl import checks
from labctl.data.models import Network
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Mark
from labctl.studies.attacks.marks import Change, LayerPath, of_some_modes, pooled_mark
from labctl.studies.attacks.mounted import WeightThief
from labctl.studies.attacks.share import OfAShare
from labctl.studies.attacks.stations import HETERODYNE_NOISE, DrawnModes, Replacement, Resent
from labctl.studies.attacks.tampered_link import Path
from labctl.studies.attacks.weights_estimate import Notebook


@dataclass(frozen=True)
class HeterodyneResend(OfAShare):
    """Reads and resends a share of the modes, drawn again for each query, then is honest.

    `rescaling`: amplitude sent over that read; 1 keeps the mean.
    """

    rescaling: float = 1.0
    name: ClassVar[str] = "heterodyne-resend"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.not_negative(f"{self.name} rescaling", self.rescaling, ", 1 keeps all")

    def mount(self, network: Network, settings: SessionSettings) -> WeightThief:
        """Return the client with a heterodyne receiver and a laser before its rotation."""
        notebook = Notebook(settings.light.mean_photons)
        reads = Replacement(DrawnModes(self.share), Resent(self.rescaling), notebook, own=True)
        path = replace(Path.honest(settings), entering=(reads,))
        return WeightThief.on(settings, path.with_notes(notebook), notebook)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return 2 f SNU dimmed by the way back, for light that keeps its mean."""

        def change(path: LayerPath) -> Change:
            noise = path.leg * HETERODYNE_NOISE * self.rescaling**2
            return of_some_modes(self.share, self.rescaling, noise)

        return pooled_mark(network, settings, change)
