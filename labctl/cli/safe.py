"""`labctl safe`: switch a bench off from outside, also one that a program holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from labctl.addresses import canonical
from labctl.cli import options, output
from labctl.errors import InstrumentError, StillLitError
from labctl.station import Station
from labctl.visible import visible_line


def safe(
    file: Annotated[Path, typer.Argument(help="Station file (TOML).")],
    json: options.Json = False,
) -> None:
    """Leave every instrument of a station safe, what emits first, also where some do not answer.

    Connections of its own are used: it works while another program holds the bench, after a crash
    of one, and beside one that hangs. A program that still runs may switch on again: end it first.
    Exit code 4 if something may still emit light, 1 if something else could not be made safe.
    """
    from labctl.station.owner import owner_of
    from labctl.station.rescue import make_safe

    station = Station.read(file)
    for address in {canonical(table.address) for table in station.table.instruments.values()}:
        owner = owner_of(address)
        if owner is not None:
            print(visible_line(f"labctl: {owner}; it may switch on again"), file=sys.stderr)
    left = make_safe(station)
    if json:
        output.print_json(
            {"file": str(file), "failures": list(left.failures), "may_still_emit": list(left.lit)}
        )
    else:
        for name in station.names:
            failed = [each for each in left.failures if each.startswith(f"{name}:")]
            output.people.print(failed[0] if failed else f"{name}: safe", soft_wrap=True)
    if left:
        kind = StillLitError if left.lit else InstrumentError
        raise kind(station.table.name, f"not left safe: {left}")
