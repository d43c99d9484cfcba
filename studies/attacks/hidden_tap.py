"""A client that swaps lossy fibres and couplers for lossless ones and taps what counts as lost.

The server sees exactly what it expects: nothing in the returned light distinguishes this from
honest loss, so there is no mark, and no check detects it. What can be learned is bounded by the
leakage with untrusted loss; the figure with trusted loss assumes that nobody does this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Mark
from labctl.studies.attacks.marks import layer_paths
from labctl.studies.attacks.mounted import WeightThief
from labctl.studies.attacks.share import OfAShare
from labctl.studies.attacks.stations import Splitter
from labctl.studies.attacks.tampered_link import Path
from labctl.studies.attacks.weights_estimate import Notebook


@dataclass(frozen=True)
class HiddenTap(OfAShare):
    """Taps a share of the loss, in dB, at the start of each leg; reads it by heterodyne.

    The loss is that of link and rotation. Raises SettingError when mounted where there is none.
    """

    name: ClassVar[str] = "hidden-tap"

    def mount(self, network: Network, settings: SessionSettings) -> WeightThief:
        """Return the client with its taps."""
        self._require_loss(network, settings)

        def tapped(modes: int) -> float:
            return float(settings.leg_transmittance_of(modes) ** self.share)

        def left(modes: int) -> float:
            return float(settings.leg_transmittance_of(modes) ** (1.0 - self.share))

        notebook = Notebook(settings.light.mean_photons)
        tap = Splitter(tapped, notebook)
        path = replace(
            Path.honest(settings), leg_transmittance=left, departing=(tap,), returning=(tap,)
        )
        return WeightThief.on(settings, path.with_notes(notebook), notebook)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return no mark at all."""
        self._require_loss(network, settings)
        return Mark()

    def _require_loss(self, network: Network, settings: SessionSettings) -> None:
        if all(path.leg == 1.0 for path in layer_paths(network, settings)):
            valid = "above 0 for a hidden tap: it hides in the loss of link and rotation"
            raise SettingError("loss_db", settings.channel.loss_db, valid)
