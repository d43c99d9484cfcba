"""Front panel of an Example VS1 voltage source: SCPI in, volts out.

Source: SCPI-99 volume 2, SOURce and OUTPut subsystems. Assumed: 10 V as the largest voltage, 0.1 A.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

from labctl.clock import Clock
from labctl.instruments.codecs.scpi import Command, ScpiCore, setting
from labctl.instruments.codecs.scpi_values import Boolean, Number
from labctl.instruments.simulated.own_panels import BenchParts, InstrumentTable, Wire
from labctl.instruments.simulated.ports import SourcePort


class VS1Table(InstrumentTable):
    """A VS1 with a load; `max_voltage_v` is the model's largest voltage in V."""

    type: Literal["example_vs1"]
    output: str
    max_voltage_v: float = 10.0

    def wires(self) -> tuple[Wire, ...]:
        """Return the one connection."""
        return (Wire("load", self.output, ("output",)),)


@dataclass(frozen=True)
class Settings:
    """What the front panel is set to."""

    voltage_v: float = 0.0
    on: bool = False


class VS1Panel:
    """One source with its load; satisfies `FrontPanel`."""

    table = VS1Table

    def __init__(
        self, name: str, clock: Clock, output: SourcePort, max_voltage_v: float = 10.0
    ) -> None:
        self.name = name
        self._output = output
        self._max_voltage_v = max_voltage_v
        self._scpi = ScpiCore(self._commands(), identity="Example,VS1,0001,1.0", reset=self._reset)
        self.write, self.read = self._scpi.write, self._scpi.read
        self.clear, self.status_byte = self._scpi.clear, self._scpi.status_byte
        self._reset()

    @classmethod
    def on_bench(cls, name: str, table: VS1Table, parts: BenchParts) -> Self:
        """Return the panel, wired to its load."""
        return cls(name, parts.clock, parts.load(table.output), table.max_voltage_v)

    def _reset(self) -> None:
        self._adopt(Settings())

    def _commands(self) -> list[Command]:
        limit_v = self._max_voltage_v
        return [
            setting(
                ":SOURce:VOLTage[:LEVel]",
                Number("V", -limit_v, limit_v, 0.0),
                lambda _: self._settings.voltage_v,
                lambda _, voltage_v: self._adopt(replace(self._settings, voltage_v=voltage_v)),
            ),
            setting(
                ":OUTPut[:STATe]",
                Boolean(),
                lambda _: self._settings.on,
                lambda _, on: self._adopt(replace(self._settings, on=on)),
            ),
        ]

    def _adopt(self, settings: Settings) -> None:
        self._settings = settings
        self._output.force_voltage(settings.on, settings.voltage_v, 0.1)
