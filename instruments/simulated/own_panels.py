"""Front panels of other packages: found by entry point, wired to parts of a bench by name.

A package has a panel with its bench table; `labctl.panels` is the group of entry points that
name it (docs/panels.md). A bench file then has a table whose `type` is the entry point's name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from labctl.clock import Clock
from labctl.entry_points import entry_points
from labctl.errors import SettingError
from labctl.instruments.simulated.panel import FrontPanel
from labctl.instruments.simulated.ports import (
    AttenuatorPort,
    DigitizerPort,
    DrivePort,
    LaserPort,
    PowerSensorPort,
    SourcePort,
    TriggerPort,
)

GROUP = "labctl.panels"
"""The group of entry points that name front panels."""

Part: TypeAlias = Literal["load", "laser", "attenuator", "input", "drive"]
"""What an instrument can be wired to: a load, a probe line's laser or attenuator, a light that a
power head sees (a probe line or a tap), or one of the bench's electrical drives."""


@dataclass(frozen=True)
class Wire:
    """One connection: the `part` of the bench, its `name`, and the `keys` of the table that say it.

    An input may be shared; of every other part each can be wired once.
    """

    part: Part
    name: str
    keys: tuple[str, ...]


class InstrumentTable(BaseModel):
    """An instrument in a bench file: which panel, its VISA address, and what it is wired to."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    type: str
    address: str

    def wires(self) -> tuple[Wire, ...]:
        """Return all connections; checked for parts that are missing or taken already."""
        return ()


class BenchParts(Protocol):
    """What a panel may be wired to, by the names of the bench file; see `Part` for the words."""

    @property
    def clock(self) -> Clock:
        """The bench's time."""
        ...

    @property
    def trigger(self) -> TriggerPort:
        """The trigger cable."""
        ...

    def load(self, name: str) -> SourcePort:
        """Return an output with a load of `[loads]` on it."""
        ...

    def laser(self, name: str) -> LaserPort:
        """Return the laser of a line of `[probes]`."""
        ...

    def attenuator(self, name: str) -> AttenuatorPort:
        """Return the attenuator of a line of `[probes]`."""
        ...

    def input(self, panel: str, name: str) -> PowerSensorPort:
        """Return a new power head of `panel` on a line of `[probes]`, the monitor or a tap."""
        ...

    def drive(self, name: str) -> DrivePort:
        """Return one of the electrical inputs of the link's optics."""
        ...

    def digitizer(self, receiver: Literal["client", "server"]) -> DigitizerPort:
        """Return a new digitizer at a receiver's outputs."""
        ...


class PanelKind(Protocol):
    """A front panel that a bench file can name: a class with its table and how it is wired."""

    table: ClassVar[type[InstrumentTable]]

    @classmethod
    def on_bench(cls, name: str, table: Any, parts: BenchParts) -> FrontPanel:
        """Return the panel of instrument `name`; `table` is one of the class's own."""
        ...


def find(name: str) -> PanelKind | None:
    """Return the panel of another package under this name, None if there is none.

    Raises SettingError if it cannot be imported, or has no table.
    """
    point = _found().get(name)
    if point is None:
        return None
    try:
        kind: PanelKind = point.load()
        if not issubclass(kind.table, InstrumentTable):
            raise TypeError(f"{kind.table!r} is no InstrumentTable")
    except Exception as error:  # another package may fail in any way while it is imported
        raise SettingError(
            "panel", name, f"importable, with a table; {point.value} raises {error!r}"
        ) from error
    return kind


def table_of(value: Any, *, but: Collection[str]) -> InstrumentTable | None:
    """Read a table of a bench file whose panel is in another package; None for any other.

    `but`: types that are not looked for. Raises PydanticCustomError, naming the first key that is
    wrong.
    """
    name = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    kind = find(name) if isinstance(name, str) and name not in but else None
    if kind is None:
        return None
    if isinstance(value, kind.table):
        return value
    try:
        return kind.table.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        # A template's braces would be filled in.
        said = f"{key}: {first['msg']}".replace("{", "(").replace("}", ")")
        raise PydanticCustomError("panel_table", said) from error


def _found() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
