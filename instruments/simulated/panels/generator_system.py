"""Front-panel matters of a function generator: display text, beeper, sync and trigger connectors.

Source: 33500 Series Operating and Service Guide, programming reference (DISPlay, SYSTem, OUTPut
subsystems), as in docs/wire/keysight_33512b.md, section Triggers and bursts.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from labctl.instruments.codecs.scpi import Command, action, readout, setting
from labctl.instruments.codecs.scpi_values import Boolean, Text, Word


@dataclass(frozen=True)
class Connectors:
    """Settings of the sync and trigger-out connectors, kept only, and of the display."""

    sync: bool = True
    sync_source: str = "CH1"
    trigger_out: bool = False
    trigger_slope: str = "POS"
    display: bool = True
    text: str = ""


class GeneratorSystem:
    """Settings that belong to no output."""

    def __init__(self, outputs: Collection[int]) -> None:
        self._channels = [f"CH{number}" for number in outputs]
        self.reset()

    def reset(self) -> None:
        """Restore the defaults."""
        self._settings = Connectors()

    def commands(self) -> list[Command]:
        """Declare the commands."""
        return [
            action(":SYSTem:BEEPer[:IMMediate]", lambda _: None),
            readout(":SYSTem:VERSion", lambda _: "1999.0"),
            action(":DISPlay:TEXT:CLEar", lambda _: self._put(replace(self._settings, text=""))),
            setting(
                ":DISPlay:TEXT[:DATA]",
                Text(40),
                lambda _: self._settings.text,
                lambda _, v: self._put(replace(self._settings, text=v)),
            ),
            setting(
                ":DISPlay",
                Boolean(),
                lambda _: self._settings.display,
                lambda _, v: self._put(replace(self._settings, display=v)),
            ),
            setting(
                ":OUTPut:SYNC[:STATe]",
                Boolean(),
                lambda _: self._settings.sync,
                lambda _, v: self._put(replace(self._settings, sync=v)),
            ),
            setting(
                ":OUTPut:SYNC:SOURce",
                Word(*self._channels),
                lambda _: self._settings.sync_source,
                lambda _, v: self._put(replace(self._settings, sync_source=v)),
            ),
            setting(
                ":OUTPut:TRIGger[:STATe]",
                Boolean(),
                lambda _: self._settings.trigger_out,
                lambda _, v: self._put(replace(self._settings, trigger_out=v)),
            ),
            setting(
                ":OUTPut:TRIGger:SLOPe",
                Word("POSitive", "NEGative"),
                lambda _: self._settings.trigger_slope,
                lambda _, v: self._put(replace(self._settings, trigger_slope=v)),
            ),
        ]

    def _put(self, settings: Connectors) -> None:
        self._settings = settings
