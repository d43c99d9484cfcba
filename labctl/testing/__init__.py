"""A kit for testing drivers, front panels and experiments, here and in other packages.

Scripted transports replace an instrument; `driver_checks` and `panel_fuzz` are what every driver
and every front panel has to pass; the pytest plugin gives each test a fresh simulated bench, or
the same tests a station of real instruments (docs/testing.md). It needs `labctl[testing]`: pytest
and hypothesis. Nothing of labctl imports it at run time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labctl.instruments.simulated.faults.plan import (
        FaultPlan,
        FaultyBench,
        PlannedFault,
        read_plan,
    )
    from labctl.testing.bench import Bench, close_idle_benches
    from labctl.testing.checks import Check, driver_checks
    from labctl.testing.fuzz import panel_fuzz
    from labctl.testing.scripts import (
        ScriptedClock,
        ScriptedFrames,
        ScriptedLines,
        ScriptedTransport,
        ScriptError,
        accepted,
    )
    from labctl.testing.walk import panel_walk
    from labctl.testing.wires import GarbageWire, SilentWire
    from labctl.testing.words import messages_in

__all__ = [
    "Bench",
    "Check",
    "FaultPlan",
    "FaultyBench",
    "GarbageWire",
    "PlannedFault",
    "ScriptError",
    "ScriptedClock",
    "ScriptedFrames",
    "ScriptedLines",
    "ScriptedTransport",
    "SilentWire",
    "accepted",
    "close_idle_benches",
    "driver_checks",
    "messages_in",
    "panel_fuzz",
    "panel_walk",
    "read_plan",
]

_FAULTS = "labctl.instruments.simulated.faults.plan"

# Where each name is found: pytest loads the plugin in every project, and with it this module.
_PLACES = {
    "Bench": "bench",
    "Check": "checks",
    "GarbageWire": "wires",
    "SilentWire": "wires",
    "close_idle_benches": "bench",
    "FaultPlan": _FAULTS,
    "FaultyBench": _FAULTS,
    "PlannedFault": _FAULTS,
    "driver_checks": "checks",
    "messages_in": "words",
    "panel_fuzz": "fuzz",
    "panel_walk": "walk",
    "read_plan": _FAULTS,
}


def _loaded(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'labctl.testing' has no attribute {name!r}")
    place = _PLACES.get(name, "scripts")
    module = place if "." in place else f"labctl.testing.{place}"
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


if not TYPE_CHECKING:  # type checkers read the imports above, and so know a wrong name
    __getattr__ = _loaded


def __dir__() -> list[str]:
    return list(__all__)
