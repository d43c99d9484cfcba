"""`labctl calibrate`: measure what is known about a station's hardware, with uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from labctl import checks
from labctl.calibration.applicability import Judgement
from labctl.calibration.calibrator import Calibrator
from labctl.calibration.catalogue import ROUTINES
from labctl.calibration.record import Record
from labctl.calibration.store import Store
from labctl.cli import options, output
from labctl.cli.calibration import (
    check_output,
    entries_of,
    record_json,
    write_report,
)
from labctl.cli.sites import own_routines, site_of
from labctl.data import shipped_lab_path
from labctl.errors import LabctlError, SettingError
from labctl.safety import interruptible
from labctl.station import Station


def calibrate(
    station: Annotated[
        Path | None, typer.Argument(help="Station file (default: the shipped lab).")
    ] = None,
    routines: Annotated[
        list[str] | None, typer.Argument(help="Routines, with what they need (default: all).")
    ] = None,
    stale: Annotated[
        bool, typer.Option("--only-stale", help="Run only routines that have no applicable record.")
    ] = False,
    store: options.Calibrations = options.DEFAULT_CALIBRATIONS,
    effort: options.Effort = 1.0,
    seed: options.Seed = 0,
    report: options.OptionalReport = None,
    json: options.Json = False,
) -> None:
    """Calibrate a station: run routines in order, keep a record of each, leave all safe.

    The report is one HTML file of all that is known. A server's site of two runs what needs no
    light from the client's; a client's site has nothing to run by itself.
    """
    path = _station_path(station, routines or ())
    if report is not None:
        check_output(report, ".html")
    table = Station.read(path)
    own = own_routines(table, ROUTINES, routines or ())
    kept = Store(store)
    records: list[Record] | None = None
    late: BaseException | None = None
    try:
        with interruptible() as check, table:

            def step(what: str) -> None:
                check()
                output.say_step(what)

            calibrator = Calibrator(
                table, site_of(table), kept, own, effort=effort, seed=seed, on_step=step
            )
            records = _measured(calibrator, routines or calibrator.names, stale)
    except BaseException as error:
        if records is None:
            raise
        # The station could not be left safe, say: after what was measured is shown.
        late = error
    standing = calibrator.standing()
    written = None
    if report is not None:
        written = write_report(report, kept, entries_of(table.table.name, standing))
    if json:
        _print(path, store, records, standing.judgements, written)
    else:
        _show(table.table.name, store, records, standing.judgements, written)
    if late is not None:
        raise late


def _station_path(station: Path | None, routines: Sequence[str]) -> Path:
    """Return the station file; raises SettingError for routines that there are none of."""
    known = [routine.name for routine in ROUTINES]
    for name in routines:
        checks.one_of("routine", name, known)
    if station is not None and str(station) in known and not station.exists():
        raise SettingError("STATION", str(station), "a station file; routines come after it")
    return station or shipped_lab_path()


def _measured(calibrator: Calibrator, names: Sequence[str], stale: bool) -> list[Record]:
    """Run routines with a progress bar; what becomes stale on the way makes the bar longer."""
    planned = calibrator.planned(names)
    if stale:
        open_ = set(calibrator.stale())
        planned = tuple(name for name in planned if name in open_)
    run = calibrator.stale_steps(names) if stale else calibrator.steps(names)
    records: list[Record] = []
    try:
        with output.progress("calibration", len(planned), "routines") as advance:
            for record in run:
                records.append(record)
                advance(1)
    except (LabctlError, KeyboardInterrupt) as error:
        if records:
            done = ", ".join(record.routine for record in records)
            error.add_note(f"records of {done} are kept; --only-stale continues from there")
        raise
    return records


def _print(
    station: Path,
    store: Path,
    records: Sequence[Record],
    judgements: Mapping[str, Judgement],
    report: Path | None,
) -> None:
    output.print_json(
        {
            "station": str(station),
            "store": str(store),
            "records": [record_json(each, judgements[each.routine]) for each in records],
            "states": {
                name: {"state": str(each.state), "reason": each.reason}
                for name, each in judgements.items()
            },
            "report": None if report is None else str(report),
        }
    )


def _show(
    station: str,
    store: Path,
    records: Sequence[Record],
    judgements: Mapping[str, Judgement],
    report: Path | None,
) -> None:
    rows = [
        [record.routine, name, str(row.quantity()), str(judgements[record.routine].state)]
        for record in records
        for name, row in record.quantities.items()
    ]
    if rows:
        columns = ["routine", "quantity", "value ± standard uncertainty", "state"]
        output.table(f"Calibration of {station}", columns, rows)
    else:
        output.people.print(f"{station}: nothing to do, every record asked for is applicable")
    for record in records:
        for remark in record.remarks:
            output.people.print(f"{record.routine}: {remark}")
    left = {name: str(each) for name, each in judgements.items() if not each.usable}
    output.facts(
        "Kept", {"records": str(store), **left, **({"report": str(report)} if report else {})}
    )
