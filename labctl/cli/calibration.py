"""`labctl calibration list|show|plot|report|coverage`: calibration records, and their worth."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labctl import checks
from labctl.calibration.applicability import (
    Judgement,
    Standing,
    State,
    duration,
    judge_all,
    standing_of,
)
from labctl.calibration.calibrator import Calibrator, utc_now
from labctl.calibration.catalogue import ROUTINES
from labctl.calibration.quantity import written
from labctl.calibration.record import Record
from labctl.calibration.report import ReportEntry, report_html
from labctl.calibration.store import Store
from labctl.cli import options, output
from labctl.cli.sites import own_routines, site_of
from labctl.data import shipped_station_path
from labctl.errors import RecordError, SettingError
from labctl.safety import interruptible
from labctl.station import Station

if TYPE_CHECKING:
    from labctl.studies.coverage.count import Coverage

app = typer.Typer(
    help="List, show, plot and report calibration records; count how often intervals hold.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_ID = Annotated[str, typer.Argument(metavar="ID", help="Id of a record, or how it begins.")]

# Enough of an id to tell records apart by eye, and for the command line to find one.
_SHORT = 8
# As for sweeps: more processes than any one machine here has processors.
_MOST_PROCESSES = 256
_TITLES = {routine.name: routine.title for routine in ROUTINES}


@app.command("list")
def list_(
    store: options.Calibrations = options.DEFAULT_CALIBRATIONS,
    station: options.OptionalStation = None,
    json: options.Json = False,
) -> None:
    """List records, newest last, with their states.

    Without --station, age and foundations are judged. With it, the station is opened, and records
    are judged also by its instruments and settings.
    """
    rows, missing = _judged(_opened(store), station)
    if json:
        output.print_json(
            {
                "store": str(store),
                "judged_by_station": station is not None,
                "records": [record_json(record, judgement) for record, judgement in rows],
                "missing": missing,
            }
        )
        return
    now = utc_now()
    lines = [_line(record, judgement, now) for record, judgement in rows]
    lines += [["–", "–", routine, "–", str(State.MISSING), "never measured"] for routine in missing]
    if lines:
        columns = ["id", "station", "routine", "age", "state", "because"]
        output.table(f"Calibration records in {store}", columns, lines)
    else:
        output.people.print(f"no records in {store}; labctl calibrate makes them")


@app.command()
def show(
    identifier: _ID,
    store: options.Calibrations = options.DEFAULT_CALIBRATIONS,
    json: options.Json = False,
) -> None:
    """Show all that a record says: quantities with their budgets, conditions, what it rests on."""
    kept = _opened(store)
    record = kept.record(identifier)
    judgement = next(each for found, each in _judged(kept, None)[0] if found.id == record.id)
    if json:
        output.print_json(record_json(record, judgement))
        return
    output.facts(f"{record.routine} of {record.station}", _facts(record, judgement))
    output.table(
        "Quantities",
        ["quantity", "value ± standard uncertainty", "95 % interval", "source", "contributes"],
        [row for name in record.quantities for row in _quantity_rows(record, name)],
    )
    output.facts("Instruments", record.subject)
    if record.settings:
        output.facts("Settings", {name: str(value) for name, value in record.settings.items()})
    if record.conditions:
        output.facts(
            "Conditions",
            {
                name: f"{row.value:.6g} {row.unit}, tolerated ± {row.tolerance:.2g}"
                for name, row in record.conditions.items()
            },
        )


@app.command()
def plot(
    identifier: _ID,
    out: options.OptionalOut = None,
    store: options.Calibrations = options.DEFAULT_CALIBRATIONS,
    json: options.Json = False,
) -> None:
    """Copy a record's figure (PNG) of data and fit, and print where it is.

    --out is ROUTINE-ID.png in this folder unless given.
    """
    kept = _opened(store)
    record = kept.record(identifier)
    figure = kept.figure(record)
    path = out or Path(f"{record.routine}-{record.id}.png")
    check_output(path, ".png")
    try:
        shutil.copyfile(figure, path)
    except OSError as error:
        raise SettingError("--out", str(path), f"a file to write to ({error.strerror})") from error
    _tell("figure", path, json)


@app.command()
def report(
    out: options.Out = Path("calibration.html"),
    store: options.Calibrations = options.DEFAULT_CALIBRATIONS,
    station: options.OptionalStation = None,
    json: options.Json = False,
) -> None:
    """Write a report of the newest records: one HTML file with figures, to read or print.

    With --station the station is opened, and records are judged also by its instruments and
    settings.
    """
    check_output(out, ".html")
    kept = _opened(store)
    entries = [
        entry
        for name, standing in _standings(kept, station).items()
        for entry in entries_of(name, standing)
    ]
    if not any(entry.record for entry in entries):
        raise RecordError(f"no records to report in {store}; labctl calibrate makes them")
    _tell("report", write_report(out, kept, entries), json)


@app.command()
def coverage(
    routines: Annotated[
        list[str] | None,
        typer.Argument(
            help="Routines, with what they need (default: all); `session`: all, then a session."
        ),
    ] = None,
    benches: Annotated[
        int, typer.Option(min=1, max=10**6, help="Number of benches to draw, 1 to 1000000.")
    ] = 200,
    first_seed: options.FirstSeed = 1000,
    effort: options.Effort = 0.05,
    processes: options.OptionalProcesses = None,
    bench: Annotated[
        Path | None,
        typer.Option(help="Bench file to draw from (default: the shipped laboratory's)."),
    ] = None,
    station: options.OptionalStation = None,
    out: options.OptionalOut = None,
    json: options.Json = False,
) -> None:
    """Calibrate simulated benches with hidden truths; count how often intervals hold them.

    Benches are drawn around the shipped laboratory unless --bench and --station name files. --out
    is a table in Markdown. --processes is one for each processor unless given.
    """
    from labctl.studies.coverage import benches as drawn
    from labctl.studies.coverage import count
    from labctl.studies.coverage.run import run

    if out is not None:
        check_output(out, ".md")
    if processes is not None:
        checks.within("--processes", processes, 1, _MOST_PROCESSES)
    folder = shipped_station_path().parent
    setup = drawn.setup(
        bench or folder / "lab_bench.toml", station or folder / "lab.toml", routines or (), effort
    )
    with (
        interruptible() as check,
        output.progress("coverage", benches, "benches") as advance,
    ):
        results = run(
            setup,
            range(first_seed, first_seed + benches),
            processes or os.cpu_count() or 1,
            check=check,
            on_bench=lambda result: advance(1),
        )
    found = count.counted(results)
    if out is not None:
        asked = {"--benches": benches, "--first-seed": first_seed, "--effort": f"{effort:g}"}
        asked |= {} if bench is None else {"--bench": bench}
        asked |= {} if station is None else {"--station": station}
        options = [str(word) for pair in asked.items() for word in pair]
        command = ["labctl", "calibration", "coverage", *(routines or ()), *options]
        write_text(out, count.markdown(found, shlex.join(command)))
    if json:
        asked_for = {"benches": benches, "first_seed": first_seed, "effort": effort}
        output.print_json({**asked_for, **_coverage_json(found), "table": out and str(out)})
        return
    _show_coverage(found)
    if out is not None:
        output.people.print(str(out), soft_wrap=True)


@app.command()
def bounds(
    sessions: options.Sessions = 4000,
    first_seed: options.FirstSeed = 0,
    json: options.Json = False,
) -> None:
    """Run sessions whose constants are hidden; count how often the bounds of a verdict fail.

    Efficiency, electronic noise, light and the link's transmittance are drawn around what a
    calibration states; one session in three has a client that taps a tenth. `as_exact` is what
    fails if the constants are taken as exact and all noise as white.
    """
    from labctl.studies.coverage.bounds import run

    checks.at_least("--sessions", sessions, 1)
    with interruptible() as check, output.progress("bounds", sessions, "sessions") as advance:

        def on_session(count: int) -> None:
            check()
            advance(count)

        found = run(range(first_seed, first_seed + sessions), on_session)
    if json:
        rows = [{**asdict(count), "holds": count.holds} for count in found]
        output.print_json({"sessions": sessions, "first_seed": first_seed, "bounds": rows})
        return
    columns = ["failure probability", "bound", "failed", "share", "95 % range", "as stated"]
    output.table(
        f"Bounds of {sessions} sessions with hidden constants",
        columns,
        [
            [
                f"{count.probability:g}",
                count.name,
                f"{count.failures} / {count.sessions}",
                f"{100.0 * count.failures / count.sessions:.2f} %",
                f"{100.0 * count.low:.2f} to {100.0 * count.high:.2f} %",
                "yes" if count.holds else "no",
            ]
            for count in found
        ],
    )


def entries_of(station: str, standing: Standing) -> list[ReportEntry]:
    """Return what a report says of a station's routines."""
    return [
        ReportEntry(station, name, _TITLES.get(name, ""), standing.records.get(name), judgement)
        for name, judgement in standing.judgements.items()
    ]


def write_report(path: Path, store: Store, entries: Sequence[ReportEntry]) -> Path:
    """Write a report as a whole or not at all; returns its path."""
    return write_text(path, report_html(store, entries, utc_now()))


def write_text(path: Path, text: str) -> Path:
    """Write a file as a whole or not at all; returns its path."""
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise SettingError(
            "output file", str(path), f"a file to write to ({error.strerror})"
        ) from error
    return path


def check_output(path: Path, suffix: str) -> None:
    """Refuse a file that cannot be written before there is anything to lose."""
    if path.suffix.lower() != suffix:
        raise SettingError("output file", str(path), f"a name that ends in {suffix}")
    if path.is_dir() or not path.parent.is_dir():
        raise SettingError("output file", str(path), "a file in a folder that exists")


def record_json(record: Record, judgement: Judgement) -> dict[str, Any]:
    """Return a record and its state as plain values."""
    return {
        **record.model_dump(mode="json"),
        "state": str(judgement.state),
        "reason": judgement.reason,
    }


def _coverage_json(found: Coverage) -> dict[str, Any]:
    return {
        "quantities": [
            {**asdict(row), "share": row.share, "in_band": row.in_band} for row in found.rows
        ],
        "unjudged": found.unjudged,
        "refused": [asdict(each) for each in found.refusals],
    }


def _show_coverage(found: Coverage) -> None:
    from labctl.studies.coverage.count import COLUMNS, cells

    rows = [cells(row) for row in found.rows]
    output.table(f"Coverage on {found.benches} benches", COLUMNS, rows)
    if found.unjudged:
        output.facts("Not judged", found.unjudged)
    if found.refusals:
        output.facts("Refused", {each.routine: str(each) for each in found.refusals})


def _opened(folder: Path) -> Store:
    store = Store(folder)
    torn = store.torn()
    if torn is not None:
        output.say_step(torn)
    return store


def _calibrator(store: Store, file: Path) -> tuple[str, Calibrator]:
    """Open a station, see who is there, leave it safe; return its name and what judges for it."""
    station = Station.read(file)
    with interruptible(), station:
        own = own_routines(station, ROUTINES)
        return station.table.name, Calibrator(station, site_of(station), store, own)


def _by_station(store: Store) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in store.records():
        found.setdefault(record.station, []).append(record)
    return found


def _standings(store: Store, file: Path | None) -> dict[str, Standing]:
    """Return the standing of one station by what answers there, or of all by their records."""
    if file is not None:
        name, calibrator = _calibrator(store, file)
        return {name: calibrator.standing()}
    now = utc_now()
    return {name: standing_of(each, now, None) for name, each in _by_station(store).items()}


def _judged(store: Store, file: Path | None) -> tuple[list[tuple[Record, Judgement]], list[str]]:
    """Return records with their states, and the routines of the station that have none."""
    if file is not None:
        _, calibrator = _calibrator(store, file)
        states = calibrator.judgements()
        missing = [name for name, each in states.items() if each.state is State.MISSING]
        return calibrator.judged(), missing
    now = utc_now()
    histories = _by_station(store).values()
    return [pair for each in histories for pair in judge_all(each, now, None)], []


def _line(record: Record, judgement: Judgement, now: datetime) -> list[str]:
    age = duration(record.age_s(now))
    return [
        record.id[:_SHORT],
        record.station,
        record.routine,
        age,
        str(judgement.state),
        judgement.reason,
    ]


def _facts(record: Record, judgement: Judgement) -> dict[str, str]:
    return {
        "id": record.id,
        "state": str(judgement),
        "taken": f"{record.taken_at:%Y-%m-%d %H:%M:%S} UTC by labctl {record.version}",
        "valid until": f"{record.valid_until:%Y-%m-%d %H:%M:%S} UTC",
        **{f"rests on {routine}": used for routine, used in record.used.items()},
        "raw data": record.raw or "none",
        "figure": record.figure or "none",
        **({"remarks": "\n".join(record.remarks)} if record.remarks else {}),
    }


def _quantity_rows(record: Record, name: str) -> list[list[str]]:
    quantity = record.quantity(name)
    factor = quantity.coverage_factor()
    expanded = written(quantity.value, factor * quantity.standard_uncertainty)
    if quantity.span is not None:
        low, high = quantity.interval()
        expanded = f"{low:.4g} to {high:.4g}"
    first_cells = [name, str(quantity), f"{expanded} (k = {factor:.3g})"]
    parts = sorted(quantity.budget.items(), key=lambda part: -part[1]) or [("–", 0.0)]
    return [
        [*(first_cells if index == 0 else ["", "", ""]), source, f"{part:.2g} {quantity.unit}"]
        for index, (source, part) in enumerate(parts)
    ]


def _tell(what: str, path: Path, json: bool) -> None:
    if json:
        output.print_json({what: str(path)})
    else:
        output.people.print(str(path), soft_wrap=True)
