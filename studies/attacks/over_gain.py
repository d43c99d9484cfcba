"""A client that amplifies mode b more than agreed and so measures its inner products better.

With G' it reads at F = 2 mu/D(G') and gives itself away by g(G') - g(G) on each cloned mode. No
gain is better than G = 2 + sqrt 2: beyond it the client gives away more and learns less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from labctl import checks
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.receiver import GAIN_RANGE, MOST_GAIN, CloneReceiver, Receiver, TapReceiver
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Attacker, Mark
from labctl.studies.attacks.marks import Change, LayerPath, pooled_mark
from labctl.studies.attacks.mounted import WeightThief
from labctl.studies.attacks.tampered_link import Path
from labctl.studies.attacks.weights_estimate import Notebook


@dataclass(frozen=True)
class OverGain:
    """Uses `gain` G', at least the agreed G; mounting it with less raises SettingError."""

    gain: float
    name: ClassVar[str] = "over-gain"
    party: ClassVar[Attacker] = Attacker.CLIENT

    def __post_init__(self) -> None:
        checks.require(1.0 < self.gain <= MOST_GAIN, f"{self.name} gain", self.gain, GAIN_RANGE)

    @property
    def strength(self) -> float:
        """The gain G'."""
        return self.gain

    def mount(self, network: Network, settings: SessionSettings) -> WeightThief:
        """Return the client with its gain turned up."""
        notebook = Notebook(settings.light.mean_photons)
        path = replace(Path.honest(settings), receiver=self._receiver(settings))
        return WeightThief.on(settings, path.with_notes(notebook), notebook)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return n_sp (g(G') - g(G)) B/n, dimmed by the way back."""
        now, agreed = self._receiver(settings).returned_noise, settings.receiver.returned_noise

        def change(path: LayerPath) -> Change:
            return Change(noise=path.leg * (now - agreed) * path.loud_modes / path.modes)

        return pooled_mark(network, settings, change)

    def _receiver(self, settings: SessionSettings) -> Receiver:
        agreed = settings.receiver
        if self.gain < agreed.gain * (1.0 - 1e-12):
            valid = f"at least the agreed gain {agreed.gain:g}"
            raise SettingError(f"{self.name} gain", self.gain, valid)
        if isinstance(agreed, CloneReceiver):
            return replace(agreed, gain=self.gain)
        return TapReceiver.of_gain(self.gain, agreed.homodyne)
