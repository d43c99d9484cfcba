"""Fault plans: which faults a bench has, in a TOML file or in code, and the bench that has them.

A plan is a list of faults. One of a wire names the panel that it hits and the message that it
waits for; one of the light names the panel and the message at which it happens: what runs on a
bench shows in its messages alone. Nothing else knows of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from labctl.errors import SettingError
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.faults.light import (
    LIGHT_FAULTS,
    LightFaultKind,
    Repair,
    break_light,
)
from labctl.instruments.simulated.faults.wire import (
    FaultyPanel,
    WireFault,
    WireFaultKind,
    faulty,
)
from labctl.toml_file import read_toml

_FRAMED = frozenset({"itla"})
_WIRE_FAULTS = frozenset(
    kind for group in get_args(WireFaultKind) for kind in (get_args(group) or (group,))
)


class PlannedFault(BaseModel):
    """One fault of a plan.

    `kind`: what happens; `panel`: the name, in the bench file, of the panel at whose message it
    happens, which holds the text `on`, after `after` others that do, `times` times (0: each time;
    a fault of the light stays). `value`, `text`, `party`: see docs/faults.md.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    kind: WireFaultKind | LightFaultKind
    panel: str = Field(min_length=1)
    on: str = ""
    after: int = Field(default=0, ge=0)
    times: int = Field(default=1, ge=0)
    value: float = 0.0
    text: str = Field(default="", pattern=r"^[\x20-\x7e]*$")
    party: Literal["client", "server"] = "client"

    @property
    def of_light(self) -> bool:
        """Whether it is a fault of the light, not of a wire."""
        return self.kind in LIGHT_FAULTS


class FaultPlan(BaseModel):
    """Faults that a bench has; `[[faults]]` tables of a TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    faults: tuple[PlannedFault, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _as_tuple(cls, given: object) -> object:
        """Take the list that TOML and callers write."""
        if isinstance(given, dict) and isinstance(given.get("faults"), list):
            return {**given, "faults": tuple(given["faults"])}
        return given


def read_plan(path: str | Path) -> FaultPlan:
    """Read a plan; raises StationFileError with the file, the line and what is valid."""
    return read_toml(Path(path), FaultPlan)


class FaultyBench:
    """A bench whose panels are behind wires that can be faulty; do this before sessions open.

    Raises SettingError for a plan that names a panel which the bench has not.
    """

    def __init__(self, bench: LinkBench) -> None:
        self.bench = bench
        self._repairs: list[Repair] = []
        self._panels: dict[str, FaultyPanel] = {}
        for address, (name, kind) in bench.names.items():
            panel = faulty(bench.panels[address], bench.clock, framed=kind in _FRAMED)
            bench.panels[address] = panel
            self._panels[name] = panel

    def plan(self, plan: FaultPlan) -> None:
        """Let all faults of a plan wait for their messages."""
        for fault in plan.faults:
            self._panel(fault)
        for fault in plan.faults:
            self.arm(fault)

    def arm(self, fault: PlannedFault) -> None:
        """Let one fault wait for its message."""
        panel = self._panel(fault)
        if not fault.of_light:
            panel.arm(_of_wire(fault))
            return
        panel.arm(
            WireFault("panel", fault.on, fault.after, 1),
            lambda: self._repairs.append(_broken(self.bench, fault)),
        )

    def happen(self, fault: PlannedFault) -> None:
        """Let a fault of the light happen at once, one of a wire at the panel's next message."""
        if fault.of_light:
            self._repairs.append(_broken(self.bench, fault))
        else:
            self.arm(fault.model_copy(update={"on": "", "after": 0}))

    def repair(self) -> None:
        """End all faults; what instruments lost or were set to stays."""
        for panel in self._panels.values():
            panel.disarm()
        while self._repairs:
            self._repairs.pop()()

    def hits(self) -> int:
        """Return how often faults have acted so far."""
        return sum(panel.hits() for panel in self._panels.values())

    def _panel(self, fault: PlannedFault) -> FaultyPanel:
        if fault.panel not in self._panels:
            known = ", ".join(sorted(self._panels))
            raise SettingError("panel", fault.panel, f"one of the bench's: {known}")
        return self._panels[fault.panel]


def _of_wire(fault: PlannedFault) -> WireFault:
    kind = next(kind for kind in _WIRE_FAULTS if kind == fault.kind)
    return WireFault(kind, fault.on, fault.after, fault.times, fault.value, fault.text)


def _broken(bench: LinkBench, fault: PlannedFault) -> Repair:
    kind = next(kind for kind in LIGHT_FAULTS if kind == fault.kind)
    return break_light(bench, kind, fault.value, fault.party)
