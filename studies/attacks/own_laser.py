"""A client that keeps the server's light and returns its own: its best guess, or none.

It keeps the light of some modes, drawn once for the session, reads it, and returns its own laser's
light instead. From query to query its guess gets better, as the server sends the same light again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from labctl import checks
from labctl.data.models import Network
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Mark
from labctl.studies.attacks.marks import Change, LayerPath, pooled_mark
from labctl.studies.attacks.mounted import WeightThief
from labctl.studies.attacks.share import OfAShare
from labctl.studies.attacks.stations import (
    HETERODYNE_NOISE,
    BestGuess,
    FixedModes,
    Nothing,
    Refill,
    Replacement,
)
from labctl.studies.attacks.tampered_link import Path
from labctl.studies.attacks.weights_estimate import Mask, Notebook


@dataclass(frozen=True)
class OwnLaser(OfAShare):
    """Returns its best guess of a share of the modes."""

    name: ClassVar[str] = "own-laser"

    def mount(self, network: Network, settings: SessionSettings) -> WeightThief:
        """Return the client with its own laser."""
        return _mounted(self.share, BestGuess(settings.light.mean_photons), settings)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return the mark of one query; see `mark_after`."""
        return self.mark_after(1, network, settings)

    def mark_after(self, queries: int, network: Network, settings: SessionSettings) -> Mark:
        """Return the mark pooled over the first queries.

        In query q the guess has slope r = q S/(1 + q S), S = mu T at the client, and noise
        2 r^2/q.
        """
        checks.at_least("queries", queries, 1)

        def change(path: LayerPath) -> Change:
            strength = settings.light.mean_photons * path.leg
            slopes = [q * strength / (1.0 + q * strength) for q in range(1, queries + 1)]
            noise = sum(HETERODYNE_NOISE * r**2 / q for q, r in enumerate(slopes, 1)) / queries
            return of_these_modes(self.share, slopes, path, path.leg * noise)

        return pooled_mark(network, settings, change)


@dataclass(frozen=True)
class NothingReturned(OfAShare):
    """Returns no light in a share of the modes."""

    name: ClassVar[str] = "nothing-returned"

    def mount(self, network: Network, settings: SessionSettings) -> WeightThief:
        """Return the client that keeps the light."""
        return _mounted(self.share, Nothing(), settings)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return 1 - f in amplitude, and the unevenness between modes as noise."""

        def change(path: LayerPath) -> Change:
            return of_these_modes(self.share, [0.0], path, 0.0)

        return pooled_mark(network, settings, change)


def _mounted(share: float, refill: Refill, settings: SessionSettings) -> WeightThief:
    notebook = Notebook(settings.light.mean_photons)
    keeps = Replacement(FixedModes(share, settings.seed), refill, notebook, own=True)
    path = replace(Path.honest(settings), entering=(keeps,))
    return WeightThief.on(settings, path.with_notes(notebook), notebook)


def of_these_modes(
    share: float, slopes: list[float], path: LayerPath, noise: float, chosen: Mask | None = None
) -> Change:
    """Return the change of a share of the modes that come back with these slopes in turn.

    `chosen`: those modes (rows, n), drawn one by one unless given.
    """
    if chosen is None:
        chosen = FixedModes(share, path.settings.seed).of(path.light())
    power = path.power_share(chosen)
    mean = 1.0 - power * (1.0 - sum(slopes) / len(slopes))
    square = 1.0 - power * (1.0 - sum(r**2 for r in slopes) / len(slopes))
    return Change(mean, square - mean**2, float(chosen.mean()) * noise)
