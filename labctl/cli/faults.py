"""`labctl faults`: what drivers and runs do when something breaks, measured; plans checked."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from labctl.cli import options, output
from labctl.data import shipped_fleet_station_path, shipped_station_path
from labctl.instruments.simulated.bench_file import load_bench
from labctl.instruments.simulated.faults.plan import FaultyBench, read_plan
from labctl.studies.faults import runs, wires
from labctl.studies.faults.catalogue import CATALOGUE

app = typer.Typer(
    help="Break things on a simulated bench and see what comes of it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class FaultSet(StrEnum):
    """Which faults are measured."""

    RUN = "run"
    WIRE = "wire"


@app.callback()
def group() -> None:
    """Break things on a simulated bench and see what comes of it."""


@app.command()
def table(
    which: Annotated[FaultSet, typer.Argument(help="Faults in a run, or at each driver's wire.")],
    only: Annotated[
        str, typer.Option("--only", help="Faults with this text in their name alone.")
    ] = "",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the rows as docs/faults.md has them.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Measure what each fault does, on the shipped benches.

    `run`: named faults in the middle of a session; each must be right, or stop with its own cause
    and a dark laser. `wire`: each wire fault at each driver's questions; no wrong value may be
    taken as right. Exits with 1 if one is not answered so.
    """
    measured = _run_rows(only) if which is FaultSet.RUN else _wire_rows(only)
    rows, good, values = measured
    if json:
        output.print_json({"table": which.value, "answered": sum(good), "faults": values})
    elif markdown:
        for row in rows:
            print("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |")
    else:
        output.table(f"{sum(good)} of {len(good)} faults answered", _COLUMNS[which], rows)
    if not all(good):
        raise typer.Exit(1)


_COLUMNS = {
    FaultSet.RUN: ["fault", "the run", "laser dark", "said"],
    FaultSet.WIRE: ["driver", "question", "fault", "answer", "later", "said"],
}
# Two lines of a terminal; --json has all.
_SHOWN = 150
_Rows = tuple[list[list[str]], list[bool], list[dict[str, object]]]


def _run_rows(only: str) -> _Rows:
    chosen = [fault for fault in CATALOGUE if only in fault.name]
    rows, good, values = [], [], []
    with output.progress("faults in a run", len(chosen), "faults") as advance:
        for found in runs.measured(shipped_station_path(), chosen):
            said = found.said if found.ending != "right" else "–"
            rows.append([found.fault, found.ending, "yes" if found.dark else "NO", _short(said)])
            good.append(found.is_answered)
            values.append({**asdict(found), "answered": found.is_answered})
            advance(1)
    return rows, good, values


def _wire_rows(only: str) -> _Rows:
    cases = [
        (question, name, fault)
        for question in wires.QUESTIONS
        for name, fault in wires.faults_of(question).items()
        if only in name
    ]
    rows, good, values = [], [], []
    with output.progress("faults on wires", len(cases), "cases") as advance:
        for question, name, fault in cases:
            found = wires.outcome_of(shipped_fleet_station_path(), question, name, fault)
            later = f"{wires.LATER - found.wrong_later - found.errors_later} of {wires.LATER}"
            said = _short(found.said) or "–"
            rows.append([found.instrument, found.question, name, found.answer, later, said])
            good.append(found.is_safe)
            values.append({**asdict(found), "answered": found.is_safe})
            advance(1)
    return rows, good, values


def _short(said: str) -> str:
    return said if len(said) <= _SHOWN else said[: _SHOWN - 1] + "…"


@app.command()
def check(
    plan: Annotated[Path, typer.Argument(help="Fault plan, TOML.")],
    bench: Annotated[Path | None, typer.Argument(help="Bench file (default: the demo's).")] = None,
    json: options.Json = False,
) -> None:
    """Check a fault plan against a bench: every panel that it names is there."""
    read = read_plan(plan)
    path = bench or shipped_station_path().with_name("demo_bench.toml")
    FaultyBench(load_bench(path)).plan(read)
    if json:
        output.print_json({"faults": [fault.model_dump() for fault in read.faults]})
        return
    rows = [[f.kind, f.panel, f.on or "any", str(f.after), str(f.times)] for f in read.faults]
    output.table(f"Plan {plan}", ["fault", "panel", "at message", "after", "times"], rows)
