"""`labctl copies`: thieves run and judged, a table measured, figures looked up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from labctl.cli import copies
from labctl.cli.copies import app
from labctl.errors import SettingError
from labctl.studies.attacks.copies import copy_measure

FEW = ("--public", "300", "--judged", "100")


def answer(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_thieves_are_set_side_by_side_with_a_figure(model: str, tmp_path: Path) -> None:
    figure = tmp_path / "copies.png"
    asked = ("--attack", "classes-alone", "--attack", "principal-modes", "--query-counts", "1,4")
    found = answer("measure", *asked, "--model", model, *FEW, "--figure", str(figure))
    assert list(found["attacks"]) == ["classes-alone", "principal-modes"]
    for points in found["attacks"].values():
        assert [point["queries"] for point in points] == [1, 4]
        assert all(0.0 <= point["raw"] <= 1.0 and point["accepted"] == 1 for point in points)
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "300 of the second half" in found["public"]


def test_a_measured_table_is_looked_up(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = copy_measure.Plan((0.5, 50.0), (1, 4), (0.5,), (1,))
    monkeypatch.setattr(copies, "Plan", lambda: small)
    file = tmp_path / "copies.toml"
    made = answer("table", str(file), "--models", model, *FEW, "--seeds", "1")
    assert made["points"] == small.points
    found = answer("show", "--model", model, "--table", str(file), "--query-counts", "1,4")
    assert found["refused"] is None
    honest, hidden = (
        next(row for row in found["copies"] if row["queries"] == 1 and row["noise"] == noise)
        for noise in ("honest", "what hides in the sample")
    )
    assert honest["at_most"] <= hidden["at_most"]
    assert found["honest_spend"] == pytest.approx(honest["spend"])


def test_a_network_that_was_not_measured_is_refused_in_words() -> None:
    found = answer("show", "--model", "few-rows")
    assert found["copies"] == []
    assert "no copy of 'few-rows' was measured" in found["refused"]
    shown = CliRunner().invoke(app, ["show", "--model", "few-rows"])
    assert "no copy of 'few-rows'" in " ".join(shown.stdout.split())


def test_the_shipped_figures_are_shown_with_their_baseline() -> None:
    found = answer("show", "--mu", "8.91", "--gain", "1.0128", "--query-counts", "1,30")
    rows = found["copies"]
    assert [row["queries"] for row in rows] == [1, 1, 30, 30]
    assert all(row["at_most"] >= row["classes_alone"] for row in rows)
    assert "without labels" in found["assumptions"][0]


def test_more_queries_or_decoys_never_show_a_worse_copy() -> None:
    """A thief may ignore queries; decoys' noise is accepted, and is the thief's to use."""
    asked = ("--model", "deep", "--mu", "0.15", "--gain", "2", "--fresh-order")
    counts = ("--query-counts", "1,2,3,4,5,7,10,11,30,100,255,1000")
    plain, hidden = (
        answer("show", *asked, *counts),
        answer("show", *asked, *counts, "--decoys", "3"),
    )
    assert (plain["decoys"], hidden["decoys"]) == (0, 3)
    for noise in ("honest", "what hides in the sample"):
        rows = [
            [row for row in each["copies"] if row["noise"] == noise] for each in (plain, hidden)
        ]
        for key in ("accuracy", "at_most", "classes_alone"):
            for found in rows:
                shown = [row[key] for row in found]
                assert shown == sorted(shown)
        assert all(more["at_most"] >= row["at_most"] for row, more in zip(*rows, strict=True))
    assert hidden["honest_spend"] == pytest.approx(4.0 * plain["honest_spend"])


@pytest.mark.parametrize(
    ("option", "value"),
    [("--public", "5001"), ("--judged", "0"), ("--attack", "burglary"), ("--seeds", "0")],
)
def test_what_is_not_there_is_refused(option: str, value: str) -> None:
    with pytest.raises(SettingError, match=option):
        CliRunner().invoke(app, ["measure", option, value], catch_exceptions=False)
