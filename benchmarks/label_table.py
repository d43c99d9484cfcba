"""Labels that a curious server reads from one query's light, at both signs of the mismatch.

    python benchmarks/label_table.py benchmarks/label_table.csv --data FOLDER [--decoys J]

Runs `labctl label-attack` for each cell that the file does not hold yet, and adds it: 20 minutes in
all on one core, most of it for the cells with decoys. FOLDER holds the MNIST training images (idx
files): the first 20,000 are the server's, the first test images are attacked. Tables in the README
and in docs/ print the worse sign of each mismatch; a test holds them against the file.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, fields
from io import StringIO
from pathlib import Path

import typer

from labctl.cli import app

TEMPLATES, DIMENSIONS = 20_000, 32
HOMODYNE, COUNTING = "homodyne", "photon-counting"
NETWORKS = (
    ("deep", 0.15, 2.0),
    ("noise-aware", 0.57, 1.3),
    ("noise-aware", 8.91, 1.0128),
    ("noise-aware", 21.0, 1.0048),
    ("many-rows", 2.35, 1.024),
    ("pruned", 2.28, 1.3),
    ("reference", 4.0, 2.0),
)
GAIN_ERRORS = (0.005, 0.001, -0.005, -0.001, 0.0)
# A set of four pictures takes thirty times as long to look for as one, and photons are counted at
# the errors that are printed alone.
IMAGES = {0: 2000, 3: 300}
COUNTED = {0: (0.0, 0.005, -0.005), 3: (0.0,)}


@dataclass(frozen=True)
class Cell:
    """What is read: network and light, the clone's gain error, the detection, decoys J."""

    model: str
    mu: float
    gain: float
    gain_error: float
    detection: str
    decoys: int
    images: int

    def command(self, data: str) -> list[str]:
        """Return the arguments of `labctl`."""
        return [
            "label-attack", "--model", self.model, "--mu", f"{self.mu:g}", "--gain",
            f"{self.gain:g}", "--clone-gain-error", f"{self.gain_error:g}", "--detection",
            self.detection, "--decoys", str(self.decoys), "--images", str(self.images),
            "--templates", str(TEMPLATES), "--dimensions", str(DIMENSIONS), "--repeats", "1",
            "--data", data, "--json",
        ]  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A cell and the share of its images whose label was read, with the standard error."""

    model: str
    mu: float
    gain: float
    gain_error: float
    detection: str
    decoys: int
    images: int
    share: float
    standard_error: float

    @property
    def cell(self) -> Cell:
        """What was read."""
        return Cell(self.model, self.mu, self.gain, self.gain_error, self.detection, self.decoys,
                    self.images)  # fmt: skip


def read(path: Path) -> list[Row]:
    """Return the rows of a file, none where there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Row(
                one["model"], float(one["mu"]), float(one["gain"]), float(one["gain_error"]),
                one["detection"], int(one["decoys"]), int(one["images"]), float(one["share"]),
                float(one["standard_error"]),
            )
            for one in csv.DictReader(file)
        ]  # fmt: skip


def wanted() -> Iterator[Cell]:
    """Yield all cells, those without decoys first."""
    for decoys, images in IMAGES.items():
        for detection, errors in ((HOMODYNE, GAIN_ERRORS), (COUNTING, COUNTED[decoys])):
            for error in errors:
                for model, mu, gain in NETWORKS:
                    yield Cell(model, mu, gain, error, detection, decoys, images)


def measured(cell: Cell, data: str) -> Row:
    """Run the command of a cell."""
    with redirect_stdout(StringIO()) as told:
        typer.main.get_command(app).main(cell.command(data), standalone_mode=False)
    (found,) = json.loads(told.getvalue())["results"]
    return Row(**asdict(cell), share=found["label_success"],
               standard_error=found["standard_error"])  # fmt: skip


def main() -> None:
    """Measure what the file does not hold."""
    parser = argparse.ArgumentParser(description="Labels read, at both signs of the mismatch.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--decoys", type=int, choices=tuple(IMAGES), help="only these cells")
    chosen = parser.parse_args()
    done = {one.cell for one in read(chosen.file)}
    names = [one.name for one in fields(Row)]
    if not done:
        chosen.file.write_text(",".join(names) + "\n", encoding="utf-8")
    for cell in wanted():
        if cell in done or chosen.decoys not in (None, cell.decoys):
            continue
        row = measured(cell, chosen.data)
        with chosen.file.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, names, lineterminator="\n").writerow(asdict(row))
        print(row, flush=True)


if __name__ == "__main__":
    main()
