"""`labctl station check|show`: look at a station file without, or with, opening instruments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labctl.cli import output
from labctl.data import shipped_station_path
from labctl.safety import interruptible
from labctl.station import Station, describe

app = typer.Typer(help="Check or show a station file.", no_args_is_help=True, rich_markup_mode=None)

_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Station file (TOML).")],
    json: _JSON = False,
) -> None:
    """Check a station file: keys, types, roles, drivers. Opens nothing."""
    station = Station.read(file)
    count = len(station.table.instruments)
    if json:
        output.print_json({"file": str(file), "valid": True, "instruments": count})
    else:
        output.people.print(f"{file}: valid, {count} instruments, nothing opened", soft_wrap=True)


@app.command()
def show(
    file: Annotated[Path | None, typer.Argument(help="Station file (default: the demo's).")] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Connect, ask each instrument who it is, leave it safe.")
    ] = False,
    json: _JSON = False,
) -> None:
    """Show instruments, drivers, addresses and roles; with --open, who answers."""
    station = Station.read(file or shipped_station_path())
    identities: dict[str, dict[str, str]] = {}
    if open_:
        with interruptible(), station:
            identities = describe(station.identities)
    rows = instrument_rows(station, identities)
    if json:
        keys = ("instrument", "driver", "address", "roles", "identity")
        output.print_json(
            {
                "file": str(station.path),
                "name": station.table.name,
                "library": station.table.library,
                "instruments": [dict(zip(keys, row, strict=True)) for row in rows],
            }
        )
        return
    columns = ["instrument", "driver", "address", "roles"]
    if open_:
        columns.append("identity")
    output.table(
        f"{station.table.name} ({station.path})", columns, [row[: len(columns)] for row in rows]
    )


def instrument_rows(station: Station, identities: dict[str, dict[str, str]]) -> list[list[str]]:
    """Return one row per instrument: name, driver, address, roles, who answered."""
    roles = list(station.table.roles())
    return [
        [
            name,
            table.driver,
            table.address,
            ", ".join(role for role, instrument in roles if instrument == name),
            " ".join(identities.get(name, {}).values()),
        ]
        for name, table in station.table.instruments.items()
    ]
