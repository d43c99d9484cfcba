"""What a bench's rotation unit can hide: it collects one mode of each block in each turn."""

from __future__ import annotations

from labctl.errors import SettingError
from labctl.protocols.hiding.hiding import Hiding


def check_turns(hiding: Hiding, turns: int) -> None:
    """Raise SettingError where a rotation unit of so many turns cannot collect what hides."""
    if hiding.return_modes is not None:
        raise SettingError(
            "return_modes",
            hiding.return_modes,
            "none on a bench: a public subspace is modelled with an ideal rotation alone",
        )
    if hiding.decoys + 1 > turns:
        raise SettingError(
            "decoys",
            hiding.decoys,
            f"at most {turns - 1}: they need a rotation unit of {hiding.decoys + 1} turns, the "
            f"station's makes {turns}",
        )
