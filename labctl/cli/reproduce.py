"""`labctl reproduce`: the paper's figures again, ours beside theirs, with the differences named."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from labctl.cli import output
from labctl.cli.choices import DEFAULT_RUNS, images_of
from labctl.data.models import load_network
from labctl.errors import SettingError
from labctl.safety import interruptible
from labctl.studies.reproduce.figure import Reproduction
from labctl.studies.reproduce.run import FIGURES, Request, Written, write

_DEFAULT_OUT = DEFAULT_RUNS / "reproduction"
DEFAULT_MODELS = "reference,noise-aware"
_ALL_IMAGES = 10_000
_MOST_RUNS = 1000


def reproduce(
    figures: Annotated[
        list[str] | None,
        typer.Argument(help=f"Of {', '.join(FIGURES)} (default: all).", metavar="[FIGURE]..."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for data, pictures and page.")] = _DEFAULT_OUT,
    images: Annotated[int, typer.Option(help="Images to measure accuracy on.")] = _ALL_IMAGES,
    model: Annotated[
        str, typer.Option(help="Networks with commas between: shipped names or files.")
    ] = DEFAULT_MODELS,
    runs: Annotated[int, typer.Option(help="Runs per F, each with its own noise.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the first run's noise.")] = 0,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with idx test images, or a task's name (default: MNIST)."),
    ] = None,
    vector: Annotated[
        list[str] | None, typer.Option("--vector", help="Also pdf or svg; may be repeated.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write the paper's figures: CSV, JSON with assumptions and provenance, PNG, and a page."""
    if not 1 <= runs <= _MOST_RUNS:
        raise SettingError("--runs", runs, f"1 to {_MOST_RUNS}")
    if seed < 0:
        raise SettingError("--seed", seed, "0 or more")
    names = [name.strip() for name in model.split(",")]
    if not all(names):
        raise SettingError("--model", model, "names or files with single commas between")
    request = Request(
        figures=tuple(figures or FIGURES),
        networks=tuple(load_network(name) for name in names),
        images=images_of(data, images),
        runs=runs,
        seed=seed,
        formats=("png", *(vector or ())),
        command=_command(figures or [], out, images, names, runs, seed, data, vector or []),
    )
    with interruptible():
        written = _write(request, out)
    if json:
        output.print_json(_as_json(written, out))
    else:
        _show(written, out)


def _write(request: Request, out: Path) -> Written:
    done: list[Path] = []
    try:
        with output.progress("accuracy against F", request.passes, "passes") as advance:
            return write(request, out, on_pass=advance, on_files=done.extend)
    except KeyboardInterrupt as stopped:
        stopped.add_note(f"{len(done)} whole files are in {out}" if done else "nothing written")
        raise


def _command(
    figures: list[str],
    out: Path,
    images: int,
    names: list[str],
    runs: int,
    seed: int,
    data: Path | None,
    vector: list[str],
) -> str:
    """Return the command that makes the same figures, with what is random or large said."""
    words = ["labctl", "reproduce", *figures, "--out", str(out), "--images", str(images)]
    words += ["--model", ",".join(names), "--runs", str(runs), "--seed", str(seed)]
    if data is not None:
        words += ["--data", str(data)]
    for kind in vector:
        words += ["--vector", kind]
    return shlex.join(words)


def _as_json(written: Written, out: Path) -> dict[str, object]:
    return {
        "folder": str(out),
        "files": [str(path) for path in written.files],
        "figures": [
            {
                "name": one.name,
                "title": one.title,
                "caption": one.caption,
                "footnote": one.footnote,
                "differences": [
                    {
                        "what": difference.what,
                        "where": difference.where,
                        "published": difference.published,
                        "here": difference.here,
                        "unit": difference.unit,
                    }
                    for difference in one.differences
                ],
                "assumptions": list(one.assumptions),
            }
            for one in written.reproductions
        ],
    }


def _show(written: Written, out: Path) -> None:
    for one in written.reproductions:
        output.table(one.title, ["what differs", "where", "published way", "here"], _rows(one))
    output.people.print(f"{len(written.files)} files in {out}")


def _rows(one: Reproduction) -> list[list[str]]:
    return [
        [
            difference.what,
            difference.where,
            output.number(difference.published),
            f"{output.number(difference.here)} {difference.unit}",
        ]
        for difference in one.differences
    ]
