"""Shares of labels that pages print are those measured at the worse sign of a mismatch."""

from __future__ import annotations

import csv
import re

import pytest
from printed_tables import ROOT, assert_printed, table_of, text_of

# Made by `python benchmarks/label_table.py benchmarks/label_table.csv --data FOLDER`.
FILE = ROOT / "benchmarks" / "label_table.csv"
HOMODYNE, COUNTING = "homodyne", "photon-counting"
Read = tuple[float, float]


def measured() -> dict[tuple[str, float, float, str, int, float], Read]:
    """Return share and standard error by network, μ, G, detection, decoys and gain error."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return {
            (
                one["model"], float(one["mu"]), float(one["gain"]), one["detection"],
                int(one["decoys"]), float(one["gain_error"]),
            ): (float(one["share"]), float(one["standard_error"]))
            for one in csv.DictReader(file)
        }  # fmt: skip


MEASURED = measured()


def worse(row: str, detection: str, decoys: int, error: float) -> Read:
    """Return what is read at the sign of the error at which more is read."""
    found = re.fullmatch(r"`?([\w-]+)`?,? ([\d.]+), ([\d.]+)", row)
    assert found is not None, row
    what = found.group(1), float(found.group(2)), float(found.group(3)), detection, decoys
    return max(MEASURED[*what, sign * error] for sign in ((1, -1) if error else (1,)))


def test_every_share_was_measured_at_both_signs() -> None:
    for *what, error in MEASURED:
        assert (*what, -error) in MEASURED
    assert {what[:3] for what in MEASURED} == {
        ("deep", 0.15, 2.0),
        ("noise-aware", 0.57, 1.3),
        ("noise-aware", 8.91, 1.0128),
        ("noise-aware", 21.0, 1.0048),
        ("many-rows", 2.35, 1.024),
        ("pruned", 2.28, 1.3),
        ("reference", 4.0, 2.0),
    }


@pytest.mark.parametrize(
    ("head", "decoys", "columns"),
    [
        (
            "homodyne, δ = 0",
            0,
            (
                (HOMODYNE, 0.0),
                (HOMODYNE, 0.001),
                (HOMODYNE, 0.005),
                (COUNTING, 0.0),
                (COUNTING, 0.005),
            ),
        ),
        (
            "homodyne with decoys, δ = 0",
            3,
            ((HOMODYNE, 0.0), (HOMODYNE, 0.001), (HOMODYNE, 0.005), (COUNTING, 0.0)),
        ),
    ],
)
def test_the_readme_prints_the_share_at_the_worse_sign(
    head: str, decoys: int, columns: tuple[tuple[str, float], ...]
) -> None:
    cells = {}
    for row, *printed in table_of("README.md", "row", head):
        for (detection, error), cell in zip(columns, printed[: len(columns)], strict=True):
            share, _ = worse(row, detection, decoys, error)
            cells[f"{row} {detection} {error:.1%}"] = cell, (100.0 * share,)
    assert_printed(cells)


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        (
            "docs/ledger.md",
            r"With δ = 0\.1 % one sending of the noise-aware rows is read in ([\d.]+) % "
            r"\(μ = 8\.91, G = 1\.0128\) and ([\d.]+) % \(μ = 21, G = 1\.0048\)",
        ),
    ],
)
def test_sentences_print_the_share_at_the_worse_sign(page: str, sentence: str) -> None:
    (told,) = re.findall(sentence, re.sub(r"\s+", " ", text_of(page)))
    rows = "noise-aware 8.91, 1.0128", "noise-aware 21, 1.0048"
    read = [100.0 * worse(row, HOMODYNE, 0, 0.001)[0] for row in rows]
    assert_printed(
        {row: (cell, [share]) for row, cell, share in zip(rows, told, read, strict=True)}
    )


def test_the_page_of_decoys_prints_shares_and_standard_errors() -> None:
    """The last column is of earlier sessions, of fewer images, and of another error."""
    cells = {}
    columns = (HOMODYNE, 0.0), (HOMODYNE, 0.001), (HOMODYNE, 0.005), (COUNTING, 0.0)
    for row, *printed in table_of("docs/countermeasures.md", "network, μ, G", "homodyne, δ = 0"):
        for (detection, error), cell in zip(columns, printed[: len(columns)], strict=True):
            share, deviation = worse(row, detection, 3, error)
            cells[f"{row} {detection} {error:.1%}"] = cell, (100.0 * share, 100.0 * deviation)
    assert_printed(cells)
