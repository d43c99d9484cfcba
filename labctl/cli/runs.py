"""`labctl runs list|show|verify|repair`: run files, what they hold, and whether they are whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from labctl.cli import options, output
from labctl.data.run_file import Health, Run, is_written_now, read_run, repair_run, verify_run
from labctl.data.runs_folder import remove_leftovers
from labctl.errors import RunFileError, UsageError

app = typer.Typer(
    help="List, show, verify and repair run files.", no_args_is_help=True, rich_markup_mode=None
)

_PATHS = Annotated[
    list[Path] | None,
    typer.Argument(help="Run files, or folders of them.", show_default=str(options.DEFAULT_RUNS)),
]
_FILE = Annotated[Path, typer.Argument(metavar="FILE", help="Run file (.h5).")]


@app.command("list")
def list_(paths: _PATHS = None, json: options.Json = False) -> None:
    """List runs, oldest first: whose file, when, how they ended, network, images and accuracy.

    A file that is no run, or is damaged, is listed with what is wrong.
    """
    found = [(path, *_tried(path)) for path in _files(paths)]
    if json:
        output.print_json({"runs": [_listed(*each) for each in found]})
        return
    if not found:
        output.people.print("no run files; labctl infer makes them")
        return
    columns = ["file", "party", "started (UTC)", "status", "network", "images", "accuracy"]
    output.table("Runs", columns, [_row(*each) for each in found])


@app.command()
def show(file: _FILE, json: options.Json = False) -> None:
    """Show what a run was asked, how it ended, what it proved and what leaked."""
    run = read_run(file)
    if json:
        output.print_json(_run_json(run) | {"settings": dict(run.settings)})
        return
    ended = f"{run.status}: {run.reason}" if run.reason else run.status
    if is_written_now(file):
        ended = "being written"
    output.facts(
        str(file),
        {
            "party": _party(run),
            "other party's file": run.peer_file or "–",
            "started": run.started_utc,
            "finished": run.finished_utc or "–",
            "status": ended,
            "network": f"{run.model.name} {'-'.join(map(str, run.model.sizes))}",
            "network's SHA-256": run.model.sha256,
            "images": str(len(run.images)),
            "accuracy": _percent(_accuracy(run)),
            "raw data": ", ".join(run.raw_names) or "none",
            "versions": ", ".join(f"{name} {value}" for name, value in run.versions.items()),
            "seed": str(run.seed),
        },
    )
    session = _session_json(run)
    if session is not None:
        known = {name: str(value) for name, value in session.items() if value is not None}
        output.facts("Session", known)
    output.facts("Settings", {name: str(value) for name, value in run.settings.items()})
    for title, values in (("Verdict", run.verification), ("Leakage", run.leakage)):
        if values is not None:
            output.facts(title, {name: str(value) for name, value in values.items()})


@app.command()
def verify(paths: _PATHS = None, json: options.Json = False) -> None:
    """Read every block of run files against its checksum; exit code 1 if any is damaged."""
    found = [verify_run(path) for path in _files(paths)]
    damaged = [health for health in found if health.damage]
    if json:
        output.print_json({"files": [_health_json(health) for health in found]})
    else:
        for health in found:
            output.people.print(f"{health.path}: {_in_words(health)}")
        if not found:
            output.people.print("no run files")
    if damaged:
        raise RunFileError(f"{len(damaged)} of {len(found)} run files are damaged")


@app.command()
def repair(paths: _PATHS = None, json: options.Json = False) -> None:
    """Make runs that were killed readable for every HDF5 tool; remove what killed writers left.

    What was acknowledged before the kill is untouched. A run that is still written is left alone, a
    damaged one is named: damaged values cannot be restored.
    """
    repaired, problems = [], []
    folders = [path for path in paths or [options.DEFAULT_RUNS] if path.is_dir()]
    removed = [path for folder in folders for path in remove_leftovers(folder)]
    for path in _files(paths):
        try:
            repair_run(path)
            repaired.append(path)
        except RunFileError as problem:
            problems.append(str(problem))
    if json:
        values = {"repaired": repaired, "removed": removed}
        listed = {name: [str(path) for path in found] for name, found in values.items()}
        output.print_json({**listed, "not_repaired": problems})
    else:
        for path in removed:
            output.people.print(f"{path}: left by a killed writer, removed")
        output.people.print(f"{len(repaired)} run files can be opened by every HDF5 tool")
    if problems:
        raise RunFileError("; ".join(problems))


def _files(paths: list[Path] | None) -> list[Path]:
    """Return the run files that paths name; raises UsageError for one that is not there."""
    files: list[Path] = []
    for path in paths or [options.DEFAULT_RUNS]:
        if path.is_dir():
            files += sorted(path.glob("*.h5"))
        elif path.exists():
            files.append(path)
        elif paths:
            raise UsageError(f"{path}: no such file or folder")
    return files


def _tried(path: Path) -> tuple[Run | None, str]:
    try:
        return read_run(path), ""
    except RunFileError as problem:
        return None, str(problem).removeprefix(f"{path}: ")


def _accuracy(run: Run) -> float | None:
    """Return the share of right classes; None where a file has none, as a server's."""
    return float((run.labels == run.predictions).mean()) if len(run.labels) else None


def _party(run: Run) -> str:
    return "both" if run.party is None else str(run.party)


def _session_json(run: Run) -> dict[str, Any] | None:
    return None if run.session is None else run.session.model_dump(mode="json")


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _row(path: Path, run: Run | None, problem: str) -> list[str]:
    if run is None:
        return [path.name, "–", "–", f"not readable: {problem}", "–", "–", "–"]
    status = "being written" if is_written_now(path) else run.status
    started = run.started_utc[:19].replace("T", " ")
    images, accuracy = str(len(run.images)), _percent(_accuracy(run))
    return [path.name, _party(run), started, status, run.model.name, images, accuracy]


def _listed(path: Path, run: Run | None, problem: str) -> Mapping[str, Any]:
    if run is None:
        return {"file": str(path), "problem": problem}
    return _run_json(run)


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "file": str(run.path),
        "party": _party(run),
        "peer_file": run.peer_file,
        "started_utc": run.started_utc,
        "finished_utc": run.finished_utc,
        "status": run.status,
        "reason": run.reason,
        "written_now": is_written_now(run.path),
        "network": run.model.name,
        "network_sha256": run.model.sha256,
        "images": len(run.images),
        "accuracy": _accuracy(run),
        "raw": list(run.raw_names),
        "verification": run.verification,
        "leakage": run.leakage,
        "session": _session_json(run),
    }


def _health_json(health: Health) -> dict[str, Any]:
    return {
        "file": str(health.path),
        "status": health.status,
        "written_now": health.written_now,
        "checksums": health.checksums,
        "blocks": health.blocks,
        "values_bytes": health.values_bytes,
        "damage": list(health.damage),
    }


def _in_words(health: Health) -> str:
    if health.damage:
        return "DAMAGED: " + "; ".join(health.damage)
    if not health.checksums:
        return f"readable ({health.status}); of version 1, which has no checksums"
    now = ", being written" if health.written_now else ""
    return f"whole ({health.status}{now}): {health.blocks} blocks, {health.values_bytes} bytes"
