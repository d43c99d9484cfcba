"""A client that dims the server's local oscillator between shot-noise calibration and run.

All light that the receiver reads shrinks with the oscillator's power, by k, shot noise included,
while the server still reckons in the old shot-noise unit: excess noise of (1 - k)/eta SNU vanishes
from its books. The signal shrinks as well, by k in power, unless the client undoes as much of the
link's loss; then nothing shows, and it may read and resend modes until the excess noise is back
at what honest use shows. Where there is no loss to undo, the transmittance gives it away; a server
that blocks its receiver now and then during the session sees the oscillator itself. The client is
not taken to know when.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Attacker, Mark
from labctl.studies.attacks.marks import Change, LayerPath, pooled_mark
from labctl.studies.attacks.mounted import WeightThief
from labctl.studies.attacks.share import require_share
from labctl.studies.attacks.stations import HETERODYNE_NOISE, DrawnModes, Replacement, Resent
from labctl.studies.attacks.tampered_link import Path
from labctl.studies.attacks.weights_estimate import Notebook

# Eleven times the power; a slip beyond.
MOST_BRIGHTENING = 10.0


@dataclass(frozen=True)
class LocalOscillator:
    """Dims the oscillator by `dimming` = 1 - k (below 0: brightens) and resends modes.

    `share` of the modes read by heterodyne and resent; None: as many as the dimming hides.
    """

    dimming: float
    share: float | None = None
    name: ClassVar[str] = "local-oscillator"
    party: ClassVar[Attacker] = Attacker.CLIENT

    def __post_init__(self) -> None:
        if not -MOST_BRIGHTENING <= self.dimming < 1.0:
            valid = f"{-MOST_BRIGHTENING:g} or more and below 1 (share of the power taken away)"
            raise SettingError(f"{self.name} dimming", self.dimming, valid)
        if self.share is not None:
            require_share(self.name, "share", self.share)

    @property
    def strength(self) -> float:
        """Share of the oscillator's power that is taken away."""
        return self.dimming

    @property
    def factor(self) -> float:
        """Power of the oscillator in the run over that during calibration, k."""
        return 1.0 - self.dimming

    def mount(self, network: Network, settings: SessionSettings) -> WeightThief:
        """Return the client with its hand on the oscillator."""

        def leg(modes: int) -> float:
            return self._leg(settings.leg_transmittance_of(modes))

        notebook = Notebook(settings.light.mean_photons)
        share = self.resent_share(network, settings)
        reads = Replacement(DrawnModes(share), Resent(1.0), notebook, own=True)
        path = replace(
            Path.honest(settings),
            leg_transmittance=leg,
            entering=(reads,),
            oscillator_factor=self.factor,
        )
        return WeightThief.on(settings, path.with_notes(notebook), notebook)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return k e' - (1 - k)/eta less the honest noise, and k T'/T.

        e' is the noise at the server and T' the transmittance, both true.
        """
        return self._mark(network, settings, self.resent_share(network, settings))

    def resent_share(self, network: Network, settings: SessionSettings) -> float:
        """Return the share of modes resent: that which leaves the excess noise as expected."""
        if self.share is not None:
            return self.share
        none = self._mark(network, settings, 0.0).excess_noise
        every = self._mark(network, settings, 1.0).excess_noise
        # Behind all too much loss, what is resent does not show at all.
        if every >= 0.0 > none:
            return -none / (every - none)
        return 0.0 if none >= 0.0 else 1.0

    def _mark(self, network: Network, settings: SessionSettings, share: float) -> Mark:
        factor, technical = self.factor, settings.channel.technical_noise

        def change(path: LayerPath) -> Change:
            leg = self._leg(path.leg)
            true = leg * (path.clone_noise + HETERODYNE_NOISE * share) + technical
            believed = factor * true - self.dimming / settings.verifier.efficiency
            slope = math.sqrt(factor) * leg / path.leg
            return Change(slope, 0.0, believed - path.leg * path.clone_noise - technical)

        return pooled_mark(network, settings, change)

    def _leg(self, honest: float) -> float:
        """Return the transmittance of a leg that makes up for the oscillator, 1 at most."""
        return min(honest / math.sqrt(self.factor), 1.0)
