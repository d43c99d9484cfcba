"""`labctl attack queries`: a row for each count, beside what is printed, and a figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from labctl.cli.attack import app
from labctl.errors import SettingError, UsageError

PNG = b"\x89PNG\r\n\x1a\n"


def invoked(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["queries", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_each_count_of_queries_is_a_row_and_the_figure_is_drawn(model: str, tmp_path: Path) -> None:
    figure = tmp_path / "queries.png"
    asked = ("heterodyne-resend", "--strength", "0.5", "--query-counts", "4,1", "--model", model)
    found: dict[str, Any] = json.loads(invoked(*asked, "--json", "--figure", str(figure)))
    assert figure.read_bytes()[:8] == PNG
    assert [row["queries"] for row in found["rows"]] == [1, 4]
    one, four = found["rows"]
    assert four["weights_correlation"] > one["weights_correlation"] > 0.0
    assert four["weights_bits_network"] > one["weights_bits_network"] > 0.0
    assert four["accepted"] is False
    assert "pooled noise" in four["failed"]
    assert 0.0 < four["copy_accuracy"] < 1.0
    assert four["printed"]["additive"] == pytest.approx(4.0 * one["printed"]["additive"])
    assert four["printed"]["memory_unchecked"] <= four["printed"]["additive"] * 1.001
    assert four["printed"]["collective_upper"] > 0.0
    assert any("memory" in sentence for sentence in found["assumptions"])
    shown = invoked(*asked)
    assert "4 queries, REJECTED: " in shown
    assert "printed figures" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tap", "--query-counts", "0"), "whole numbers"),
        (("tap", "--query-counts", "10001"), "images"),
        (("label-reading", "--query-counts", "1"), "they steal weights"),
        (("no-attack",), "one of"),
    ],
)
def test_what_cannot_be_run_is_refused(arguments: Sequence[str], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        invoked(*arguments)


def test_a_figure_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        invoked("tap", "--figure", str(tmp_path / "nowhere" / "x.png"))
