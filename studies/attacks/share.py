"""Attacks on a share of what passes: how hard they try is that share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from labctl import checks
from labctl.studies.attacks.attack import Attacker


def require_share(attack: str, name: str, value: float) -> None:
    """Raise SettingError unless a share is 0 to 1."""
    checks.within(f"{attack} {name}", value, 0.0, 1.0)


@dataclass(frozen=True)
class OfAShare:
    """A client's attack on a share, 0 to 1, of what each class says; raises SettingError."""

    share: float
    name: ClassVar[str]
    party: ClassVar[Attacker] = Attacker.CLIENT

    def __post_init__(self) -> None:
        require_share(self.name, "share", self.share)

    @property
    def strength(self) -> float:
        """The share."""
        return self.share
