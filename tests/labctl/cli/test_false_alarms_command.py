"""`labctl false-alarms`: counts as one JSON object or a table, errors on one line."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from labctl.cli.false_alarms import false_alarms
from labctl.errors import SettingError

app = typer.Typer()
app.command()(false_alarms)


def test_json_repeats_the_question_and_counts() -> None:
    arguments = ["--sessions", "40", "--false-alarm-probabilities", "0.3,0.01"]
    arguments += ["--inputs", "12", "--hidden-neurons", "6", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    first, second = found["results"]
    assert (first["stated"], second["stated"]) == (0.3, 0.01)
    assert first["sessions"] == 40
    assert second["rejected"] <= first["rejected"] <= 40
    assert first["lower"] <= first["measured"] <= first["upper"]
    assert first["rejected"] > 0
    assert (found["network"], found["images"], found["seed"]) == ([12, 6, 10], 1, 0)


def test_people_get_a_table() -> None:
    result = CliRunner().invoke(app, ["--sessions", "3", "--inputs", "6", "--hidden-neurons", "4"])
    assert result.exit_code == 0
    assert "3 honest sessions" in result.stdout
    assert "0.001" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--sessions", "0"],
        ["--false-alarm-probabilities", "2"],
        ["--hidden-neurons", "0"],
        ["--seed", "-1"],
    ],
)
def test_numbers_out_of_range_are_refused(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, SettingError)
