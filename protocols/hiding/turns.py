"""What a bench's rotation unit can hide: it collects one mode of each block in each turn.

All turns of a block come before any of its light leaves: the unit has to store it for so long.
"""

from __future__ import annotations

from labctl.dsp.layout import FrameLayout
from labctl.errors import SettingError
from labctl.protocols.hiding.hiding import Hiding


def check_turns(hiding: Hiding, turns: int) -> None:
    """Raise SettingError where a rotation unit of `turns` turns cannot collect what hides."""
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


def check_storage(layout: FrameLayout, storage_s: float | None) -> None:
    """Raise SettingError where a unit that delays light by `storage_s` lets go of a block too soon.

    layout: of a layer, its rows being blocks. None: not known, which is enough for a single turn.
    """
    if storage_s is None and layout.turns == 1:
        return
    needed_s = layout.row_slots / layout.symbol_rate_hz
    if storage_s is None or storage_s < needed_s:
        raise SettingError(
            "client.constants.storage_s",
            storage_s,
            f"{needed_s:.4g} s or more in the station file, and so long a delay in the rotation "
            f"unit: all turns ({layout.turns}) of a block of {layout.modes} modes; or smaller "
            "blocks (block_modes), fewer turns",
        )
