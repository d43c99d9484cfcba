"""A client that spends the noise of an honest clone on something else: the server sees the same.

What is checked of single queries is the noise per mode, pooled, by row and by mode. An honest clone
puts n_sp g on one mode of each block; a client that wants to know the weights puts as much on all
modes alike, and clones more weakly with what it has left, or not at all: then it has no result of
its query.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from labctl import checks
from labctl.protocols.link import LayerLight
from labctl.protocols.receiver import CloneReceiver, Receiver
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Attacker
from labctl.studies.attacks.marks import Change, LayerPath
from labctl.studies.attacks.tampered_link import Path, Waypoint

# A hundred times an honest clone's noise is no attack that hides; a slip beyond.
MOST_BUDGET = 100.0


@dataclass(frozen=True)
class NoiseSpender:
    """An attack that spends `budget` times an honest clone's noise, 0 to 100; 1 leaves no clone.

    Below 1 it clones with what is left, and so serves its own queries, with more noise.
    """

    budget: float
    name: ClassVar[str]
    party: ClassVar[Attacker] = Attacker.CLIENT

    def __post_init__(self) -> None:
        require_budget(self.name, self.budget)

    @property
    def strength(self) -> float:
        """Budget."""
        return self.budget


# What rounding leaves of a budget of 1.
_LEAST_CLONE = 1e-9


def require_budget(attack: str, value: float) -> None:
    """Raise SettingError unless a budget is 0 to 100 times an honest clone's noise."""
    checks.require(
        0.0 <= value <= MOST_BUDGET, f"{attack} budget", value, f"0 (honest) to {MOST_BUDGET:g}"
    )


def noise_per_mode(settings: SessionSettings, light: LayerLight) -> float:
    """Return what an honest clone adds to a mode of this light on average, in SNU at the client."""
    return settings.receiver.returned_noise * light.blocks.count / light.modes


def path_with(settings: SessionSettings, station: Waypoint, budget: float) -> Path:
    """Return the path of a client with the station, its clone being what the budget leaves."""
    left, honest = 1.0 - budget, Path.honest(settings)
    if left < _LEAST_CLONE:
        return replace(honest, entering=(station,), modes_cloned=0)
    return replace(honest, entering=(station,), receiver=weaker(settings.receiver, left))


def weaker(receiver: Receiver, share: float) -> Receiver:
    """Return a receiver of the same kind whose clone adds `share` (above 0, to 1) of the noise.

    An amplifier's is n_sp (2 - 2/G), a tap's proportional to (1 - s)/(1 + s), s^2 = tau.
    """
    if share == 1.0:
        return receiver
    if isinstance(receiver, CloneReceiver):
        return replace(receiver, gain=1.0 / (1.0 - share * (1.0 - 1.0 / receiver.gain)))
    added = share * receiver.vacuum_amplitude**2
    return replace(receiver, tap_transmittance=((1.0 - added) / (1.0 + added)) ** 2)


def overspent(budget: float, path: LayerPath) -> Change:
    """Return what shows of a budget: the noise beyond an honest clone's, nothing up to 1."""
    return Change(noise=path.leg * path.clone_noise * max(budget - 1.0, 0.0))
