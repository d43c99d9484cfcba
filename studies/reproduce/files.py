"""A figure as files: CSV, JSON with assumptions and provenance, pictures, and a page of all."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from labctl.errors import UsageError
from labctl.studies.reproduce.drawing import draw
from labctl.studies.reproduce.figure import ColourMap, Difference, Reproduction

PREFIX = "reproduction"
SOURCES = (
    "Sulimany, Vadlamani, Hamerly, Iyengar, Englund, Phys. Rev. X 15, 041056 (2025); "
    "arXiv:2408.05629",
    "their analysis scripts: github.com/kfirsuli/Quantum-secure-multiparty-deep-learning",
)
_CSV_HEADER = ("panel", "series", "origin", "level", "x", "y", "y_error")


def write_figure(
    reproduction: Reproduction,
    folder: Path,
    provenance: Mapping[str, Any],
    formats: Sequence[str],
) -> list[Path]:
    """Write CSV, JSON and pictures of one figure, each of them whole or not at all.

    Returns the files. Raises UsageError where one cannot be written.
    """
    contents = {
        "csv": _as_csv(reproduction).encode(),
        "json": (json.dumps(as_json(reproduction, provenance), indent=1) + "\n").encode(),
        **{kind: draw(reproduction, kind) for kind in formats},
    }
    return [
        write_whole(folder / f"{PREFIX}-{reproduction.name}.{kind}", content)
        for kind, content in contents.items()
    ]


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file by way of another name, so that it is never there in part."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as problem:
        raise UsageError(f"{path}: cannot be written ({problem.strerror})") from problem
    finally:
        if part.is_file():
            part.unlink()
    return path


def as_json(reproduction: Reproduction, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return all of a figure as plain values."""
    return {**asdict(reproduction), "sources": list(SOURCES), "provenance": dict(provenance)}


def _as_csv(reproduction: Reproduction) -> str:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(_CSV_HEADER)
    for panel in reproduction.panels:
        if panel.colours is not None:
            writer.writerows(_of_map(panel.title, panel.colours))
        family = ""
        for series in panel.series:
            family = series.label or family
            errors = series.y_error or ("",) * len(series.x)
            for x, y, error in zip(series.x, series.y, errors, strict=True):
                row = (panel.title, family, str(series.origin), series.tag, x, y, error)
                writer.writerow(row)
    return written.getvalue()


def _of_map(title: str, colours: ColourMap) -> Iterator[tuple[str | float, ...]]:
    """Yield one row per value of a map, its place on the vertical axis under "level"."""
    for level, row in zip(colours.y, colours.values, strict=True):
        for x, value in zip(colours.x, row, strict=True):
            yield (title, colours.label, str(colours.origin), level, x, value, "")


def section(reproduction: Reproduction) -> str:
    """Return a figure's part of the page: picture, caption, differences, assumptions."""
    rows = "\n".join(_row(difference) for difference in reproduction.differences)
    assumptions = "\n".join(f"- {one}" for one in dict.fromkeys(reproduction.assumptions))
    return (
        f"## {reproduction.title}\n\n"
        f"![{reproduction.title}]({PREFIX}-{reproduction.name}.png)\n\n"
        f"{reproduction.caption}\n\n"
        f"| what differs | where | published way | here | unit |\n|---|---|---|---|---|\n{rows}\n\n"
        f"Assumes:\n\n{assumptions}\n"
    )


def _row(difference: Difference) -> str:
    return (
        f"| {difference.what} | {difference.where} | {_digits(difference.published)} | "
        f"{_digits(difference.here)} | {difference.unit} |"
    )


def _digits(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 10.0 else f"{value:.4g}"


def page(reproductions: Sequence[Reproduction], provenance: Mapping[str, Any]) -> str:
    """Return a Markdown page of the figures and where they come from."""
    networks = "".join(
        f"* network `{one['name']}`, sha256 `{one['sha256']}`\n" for one in provenance["networks"]
    )
    versions = ", ".join(f"{name} {number}" for name, number in provenance["versions"].items())
    images = provenance["images"]
    measured = (
        f"{networks}* {images['count']} images, sha256 `{images['sha256']}`, "
        f"{provenance['runs']} runs each, seed {provenance['seed']}\n"
        if networks
        else ""
    )
    return (
        "# The paper's figures, ours beside theirs\n\n"
        "The figures of the paper and of its scripts, each beside what this package finds, with "
        "every\ndifference named. Sources:\n\n"
        + "".join(f"* {source}\n" for source in SOURCES)
        + "\n"
        + _INTRODUCTION
        + "\n"
        + "\n".join(section(one) for one in reproductions)
        + f"\n## Where this comes from\n\n* `{provenance['command']}`\n{measured}* {versions}\n"
    )


_INTRODUCTION = """\
Weights' leakage is per real weight throughout. The scripts of the paper's first version count per
mode, which carries two; the journal's scripts halve it. In the tables, "published way" is the
paper's number or formula as its scripts evaluate it, "here" the same with that one thing corrected,
or what this package finds. Each row changes one thing unless it says otherwise. Widths, loss and
noise are closed forms; accuracies are measured at mode level, and change with the networks: the
command at the end writes all of this again.
"""
