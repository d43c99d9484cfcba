"""`labctl station check|show`: look at a station file without, or with, opening instruments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from labctl.addresses import canonical
from labctl.cli import options, output
from labctl.data import shipped_station_path
from labctl.errors import StationFileError
from labctl.safety import interruptible
from labctl.station import Station, describe
from labctl.station.check import missing_benches
from labctl.station.file import SIMULATED, library_of
from labctl.toml_file import place, read_toml

app = typer.Typer(help="Check or show a station file.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Station file (TOML).")],
    json: options.Json = False,
) -> None:
    """Check a station file: keys, drivers, options, limits, roles, bench. Opens nothing."""
    station = Station.read(file)
    missing = list(missing_benches(station.table, station.path))
    faults = [*(missing or _without_a_panel(station)), *_unfit_roles(station)]
    if faults:
        raise StationFileError("\n".join(faults))
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
    json: options.Json = False,
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


def _without_a_panel(station: Station) -> Iterator[str]:
    """Yield the instruments at whose address their simulated bench has no front panel."""
    from labctl.instruments.simulated.bench_tables import BenchFile

    panels: dict[Path, set[str]] = {}
    for name, table in station.table.instruments.items():
        library = library_of(station.table, station.path, name)
        bench = Path(library.removesuffix(SIMULATED))
        if library == SIMULATED or not library.endswith(SIMULATED):
            continue
        if bench not in panels:
            found = read_toml(bench, BenchFile).panels.values()
            panels[bench] = {canonical(panel.address) for panel in found}
        if canonical(table.address) not in panels[bench]:
            where = place(station.path, "instruments", name, "address")
            yield f"{where}: {name}: {bench.name} has no front panel at {table.address}"


def _unfit_roles(station: Station) -> Iterator[str]:
    """Yield what is wrong with the roles, if the file gives any."""
    from labctl.station.equipment import require_roles

    given = station.table.model_fields_set
    if given & {"frame", "server", "client"}:
        # A station may be the site of one party: the roles of the other are not missing.
        parties = [party for party in ("server", "client") if party in given]
        try:
            require_roles(station, parties or ("server", "client"))
        except StationFileError as error:
            yield str(error)


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
