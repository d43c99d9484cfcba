"""Sides of a bench: the doors of each panel, and what cannot be is refused with file and line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from ipaddress import IPv4Address
from itertools import combinations
from pathlib import Path

from labctl.errors import StationFileError
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.bench_wiring import refusal
from labctl.instruments.simulated.side_tables import (
    HIGHEST_PORT,
    LOOPBACK_NETWORK,
    PORTS_OF_A_PANEL,
    PanelDoors,
    SideTable,
)


def doors_of(table: BenchFile) -> dict[str, PanelDoors]:
    """Return the doors of each panel of a checked file that belongs to a side."""
    found = {}
    for side, doors in table.doors.items():
        for number, panel in enumerate(doors.panels):
            first = doors.first_port and doors.first_port + PORTS_OF_A_PANEL * number
            found[panel] = PanelDoors(
                side,
                doors.host,
                first or 0,
                first + 1 if first else 0,
                doors.networks,
                doors.users,
            )
    return found


def check_doors(table: BenchFile, path: Path) -> None:
    """Refuse panels that are not there or of two sides, ports that clash, doors for nobody."""
    _check_panels(table, path)
    for side, doors in table.doors.items():
        if doors.ports() and doors.ports()[-1] > HIGHEST_PORT:
            raise _refusal(
                path,
                side,
                "first_port",
                f" = {doors.first_port}: {len(doors.panels)} panels take {len(doors.ports())} "
                f"ports from it on; the highest port is {HIGHEST_PORT}",
            )
        _check_origins(side, doors, path)
    for (one, first), (other, second) in combinations(table.doors.items(), 2):
        shared = set(first.ports()) & set(second.ports())
        if shared and first.host == second.host:
            raise _refusal(
                path,
                other,
                "first_port",
                f" = {second.first_port}: port {min(shared)} of {first.host} belongs to "
                f"doors.{one}, which has {first.ports()[0]} to {first.ports()[-1]}",
            )


def _check_panels(table: BenchFile, path: Path) -> None:
    owners: dict[str, str] = {}
    for side, doors in table.doors.items():
        for panel in doors.panels:
            if panel not in table.panels:
                near = difflib.get_close_matches(panel, table.panels, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {_list(table.panels)}"
                raise _refusal(path, side, "panels", f": there is no panel {panel!r}; {hint}")
            if panel in owners:
                raise _refusal(
                    path,
                    side,
                    "panels",
                    f": panel {panel!r} stands in doors.{owners[panel]}.panels already; "
                    "each belongs to one side, once",
                )
            owners[panel] = side


def _check_origins(side: str, doors: SideTable, path: Path) -> None:
    """Refuse doors that nobody could reach: only loopback reaches loopback, and only it."""
    is_local = IPv4Address(doors.host) in LOOPBACK_NETWORK
    local = [network for network in doors.networks if network.overlaps(LOOPBACK_NETWORK)]
    if is_local and not local:
        raise _refusal(
            path,
            side,
            "from",
            f": connections to {doors.host} come from {LOOPBACK_NETWORK} alone, none of which is "
            f"in {_list(doors.networks)}",
        )
    if not is_local and all(network.subnet_of(LOOPBACK_NETWORK) for network in doors.networks):
        raise _refusal(
            path,
            side,
            "from" if "networks" in doors.model_fields_set else "host",
            f": no connection to {doors.host} comes from {LOOPBACK_NETWORK}; say with "
            f"doors.{side}.from which networks it is for",
        )


def _list(things: Iterable[object]) -> str:
    return ", ".join(map(str, things))


def _refusal(path: Path, side: str, key: str, fault: str) -> StationFileError:
    return refusal(path, ("doors", side, key), fault)
