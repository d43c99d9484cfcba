"""`labctl sweep`: a grid of settings, here, in processes or on a cluster, into one results file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from labctl.cli import options, output
from labctl.errors import LabctlError, SettingError
from labctl.studies.sweep.results_file import ResultRecord, read_results
from labctl.studies.sweep.run import Plan, estimate_s, plan, run_sweep
from labctl.studies.sweep.summary import Average, SummaryFigure, averages, spoken, write_csv
from labctl.studies.sweep.sweep_file import Sweep, read_sweep
from labctl.studies.sweep.workers import OpenWorkers, TlsFiles, cluster, here, processes

# A terminal's page; files have all.
_MOST_ROWS = 40
_MOST_FAILURES = 5


def sweep(
    file: Annotated[Path, typer.Argument(help="Sweep file (TOML).", metavar="FILE")],
    out: options.OptionalOut = None,
    processes_: options.OptionalProcesses = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address of a Dask scheduler, as tcp://host:8786 or tls://host:8786."),
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option("--tls-ca", help="Certificate of the scheduler's authority, PEM."),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", help="Our certificate for the scheduler, PEM.")
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option("--tls-key", help="Its key, PEM (default: in the certificate's file)."),
    ] = None,
    dry_run: options.DryRun = False,
    no_run: Annotated[
        bool, typer.Option("--no-run", help="Run nothing; show the contents of the results file.")
    ] = False,
    mix_versions: Annotated[
        bool,
        typer.Option(
            "--mix-versions", help="Keep points that another version of the code has computed."
        ),
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Write a row per point to this file.")] = None,
    figure: options.OptionalFigure = None,
    x: Annotated[
        str | None, typer.Option(help="Axis along the figure (default: the first).")
    ] = None,
    y: Annotated[str | None, typer.Option(help="Value that the figure shows.")] = None,
    json: options.Json = False,
) -> None:
    """Run a grid of settings; the same command continues where a killed one stopped.

    --out is the results file, labctl-runs/FILE.jsonl unless given; if it exists, it is continued.
    Without --processes points run one after another in this process. The figure shows --y against
    --x.
    """
    if processes_ is not None and scheduler is not None:
        raise SettingError("--processes", processes_, "left out with --scheduler")
    if dry_run and no_run:
        raise SettingError("--dry-run", True, "left out with --no-run")
    workers = _workers(processes_, scheduler, _tls(scheduler, tls_ca, tls_cert, tls_key))
    output.require_png(figure)
    output.require_folder(csv)
    read = read_sweep(file)
    drawing = _figure(read, figure, x, y)
    path = out if out is not None else options.DEFAULT_RUNS / f"{file.stem}.jsonl"
    todo = plan(read, path, mix_versions=mix_versions or no_run)
    if dry_run:
        _announce(read, todo, path, processes_ or 1, json)
        return
    if todo.remaining and not no_run:
        _run(read, todo, path, workers)
    records = read_results(path).of(read)
    if csv is not None:
        write_csv(csv, read, records)
    if drawing is not None:
        drawing.draw(read, records)
    _tell(read, records, todo, path, json)
    _require_success(read, records, no_run)


def _tls(
    scheduler: str | None, authority: Path | None, certificate: Path | None, key: Path | None
) -> TlsFiles | None:
    """Return the files of an encrypted way to the scheduler; None for an open one."""
    if authority is None and certificate is None and key is None:
        if (scheduler or "").startswith("tls://"):
            raise SettingError("--scheduler", scheduler, "given with --tls-ca and --tls-cert")
        return None
    if authority is None or certificate is None:
        raise SettingError("--tls-ca and --tls-cert", str(authority or certificate), "both")
    if not (scheduler or "").startswith("tls://"):
        raise SettingError("--scheduler", scheduler, "an address as tls://host:8786, with --tls-ca")
    return TlsFiles(authority, certificate, key)


def _workers(count: int | None, scheduler: str | None, tls: TlsFiles | None) -> OpenWorkers:
    if scheduler is not None:
        return cluster(scheduler, tls)
    return here if count is None else processes(count)


def _figure(sweep: Sweep, path: Path | None, x: str | None, y: str | None) -> SummaryFigure | None:
    if path is None:
        for name, given in (("--x", x), ("--y", y)):
            if given is not None:
                raise SettingError(name, given, "left out without --figure")
        return None
    figure = SummaryFigure(path, x or next(iter(sweep.axes), ""), y or sweep.task.headline[0])
    figure.check(sweep)
    return figure


def _run(sweep: Sweep, todo: Plan, path: Path, workers: OpenWorkers) -> None:
    try:
        with output.progress(sweep.name, len(todo.remaining), "points") as advance:
            run_sweep(
                sweep,
                todo.remaining,
                path,
                workers,
                on_point=lambda: advance(1),
                on_step=output.say_step,
            )
    except KeyboardInterrupt as stopped:
        done = sum(record.values is not None for record in read_results(path).of(sweep).values())
        stopped.add_note(
            f"{done} of {len(sweep.points)} points are in {path}; the same command continues"
        )
        raise


def _announce(sweep: Sweep, todo: Plan, path: Path, workers: int, json: bool) -> None:
    """Show what a run would do."""
    alone_s = estimate_s(sweep, todo, path)
    values = {
        **_counts(sweep, todo.done, todo.failed, path),
        "remaining": len(todo.remaining),
        "workers": workers,
        "estimate_s": alone_s / workers,
    }
    if json:
        output.print_json(values)
        return
    output.facts(
        f"Sweep {sweep.name}: {sweep.task.name} over {', '.join(sweep.axes) or 'one setting'}",
        {
            "points": f"{len(sweep.points)}, {todo.done} of them done, {todo.failed} failed",
            "to run": str(len(todo.remaining)),
            "time": f"about {_duration(alone_s / workers)} with {workers} at a time",
            "results": str(path),
        },
    )


def _duration(seconds: float) -> str:
    if seconds < 100.0:
        return f"{seconds:.2g} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 6000.0 else f"{seconds / 3600.0:.1f} h"


def _counts(sweep: Sweep, done: int, failed: int, path: Path) -> dict[str, Any]:
    return {
        "name": sweep.name,
        "task": sweep.task.name,
        "axes": list(sweep.axes),
        "points": len(sweep.points),
        "done": done,
        "failed": failed,
        "results": str(path),
        "assumptions": list(sweep.assumptions),
    }


def _tell(
    sweep: Sweep, records: Mapping[str, ResultRecord], todo: Plan, path: Path, json: bool
) -> None:
    """Show what the results file holds."""
    failures = [record.error for record in records.values() if record.error is not None]
    done = len(records) - len(failures)
    kernels = sorted({record.blas for record in records.values() if record.blas})
    if json:
        values = {"reused": todo.done, "failures": failures[:_MOST_FAILURES], "blas": kernels}
        output.print_json({**_counts(sweep, done, len(failures), path), **values})
        return
    columns = {name: averages(sweep, records, name) for name in sweep.task.headline}
    rows = _rows(sweep, columns)
    output.table(
        f"Sweep {sweep.name}: {done} of {len(sweep.points)} points",
        [*sweep.axes, *columns],
        rows[:_MOST_ROWS],
    )
    if len(rows) > _MOST_ROWS:
        output.people.print(
            f"and {len(rows) - _MOST_ROWS} more: --csv writes them all", style="dim"
        )
    if len(kernels) > 1:
        output.people.print(
            f"computed by different BLAS kernels, last bits may differ: {'; '.join(kernels)}"
        )
    output.people.print("assumes: " + "; ".join(sweep.assumptions), style="dim")
    output.people.print(f"results: {path}")


def _rows(sweep: Sweep, columns: Mapping[str, list[Average]]) -> list[list[str]]:
    """Return a row for each setting that has a value: its axes, then value ± standard error."""
    found: dict[tuple[Any, ...], dict[str, str]] = {}
    for name, column in columns.items():
        for average in column:
            error = average.standard_error
            spread = "" if not error else f" ± {output.number(error, 2)}"
            row = found.setdefault(tuple(average.axes.values()), {})
            row[name] = output.number(average.mean) + spread
    return [
        [*(spoken(value) for value in axes), *(row.get(name, "–") for name in columns)]
        for axes, row in found.items()
    ]


def _require_success(sweep: Sweep, records: Mapping[str, ResultRecord], no_run: bool) -> None:
    failures = [record.error for record in records.values() if record.error is not None]
    if failures and not no_run:
        raise LabctlError(
            f"{len(failures)} of {len(sweep.points)} points failed, the first: {failures[0]}; "
            "the same command tries them again"
        )
