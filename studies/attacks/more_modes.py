"""A client that clones further modes besides that of its input, each orthogonal to all others.

Each query then shows it k numbers of a row instead of one. The others are drawn again for every
query, so that over many queries all weights come into view.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Attacker, Mark
from labctl.studies.attacks.marks import Change, LayerPath, pooled_mark
from labctl.studies.attacks.mounted import WeightThief
from labctl.studies.attacks.tampered_link import Path
from labctl.studies.attacks.weights_estimate import Notebook

# More modes than any block has; a slip beyond.
MOST_CLONES = 1_000_000


@dataclass(frozen=True)
class CloneMoreModes:
    """Clones `modes` modes of each block; a block of fewer modes is cloned wholly."""

    modes: float
    name: ClassVar[str] = "clone-more-modes"
    party: ClassVar[Attacker] = Attacker.CLIENT

    def __post_init__(self) -> None:
        if not (1 <= self.modes <= MOST_CLONES and float(self.modes).is_integer()):
            valid = f"a whole number of modes, 1 (honest) to {MOST_CLONES}"
            raise SettingError(f"{self.name} modes", self.modes, valid)

    @property
    def strength(self) -> float:
        """Modes cloned per block."""
        return float(self.modes)

    def mount(self, network: Network, settings: SessionSettings) -> WeightThief:
        """Return the client with a receiver on each of its modes."""
        notebook = Notebook(settings.light.mean_photons)
        path = replace(Path.honest(settings), modes_cloned=int(self.modes))
        return WeightThief.on(settings, path.with_notes(notebook), notebook)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return (k - K) n_sp g B/n for the K modes agreed, dimmed by the way back."""
        added = settings.receiver.returned_noise

        def change(path: LayerPath) -> Change:
            others = max(path.blocks.collected(int(self.modes)) - path.loud_modes, 0)
            return Change(noise=path.leg * added * others / path.modes)

        return pooled_mark(network, settings, change)
