"""`labctl reproduce`: the paper's figures again, ours beside theirs, with the differences named."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from labctl import checks
from labctl.cli import options, output
from labctl.cli.choices import images_of, names_of
from labctl.data.models import load_network
from labctl.safety import interruptible
from labctl.studies.reproduce.figure import Reproduction
from labctl.studies.reproduce.run import FIGURES, Request, Written, write

_DEFAULT_OUT = options.DEFAULT_RUNS / "reproduction"
DEFAULT_MODELS = "reference,noise-aware"
# The whole MNIST test set, as the authors use it.
_ALL_IMAGES = 10_000
# The error is then 1/30 of one run's; a slip beyond.
_MOST_RUNS = 1000


def reproduce(
    figures: Annotated[
        list[str] | None,
        typer.Argument(help=f"Of {', '.join(FIGURES)} (default: all).", metavar="[FIGURE]..."),
    ] = None,
    out: options.Out = _DEFAULT_OUT,
    images: options.Images = _ALL_IMAGES,
    models: options.Models = DEFAULT_MODELS,
    runs: options.NoiseRuns = 2,
    seed: options.Seed = 0,
    data: options.OptionalData = None,
    vector: Annotated[
        list[str] | None,
        typer.Option("--vector", help="Also write this format: pdf or svg; may be repeated."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Write the paper's figures: CSV, JSON with assumptions and provenance, PNG, and a page.

    --out is a folder.
    """
    checks.within("--noise-runs", runs, 1, _MOST_RUNS)
    checks.at_least("--seed", seed, 0)
    names = names_of("--models", models)
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
    words += ["--models", ",".join(names), "--noise-runs", str(runs), "--seed", str(seed)]
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
