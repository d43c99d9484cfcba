"""Averages over repeats, and what a figure may show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from labctl.errors import RunFileError, SettingError, UsageError
from labctl.studies.sweep.results_file import read_results
from labctl.studies.sweep.summary import SummaryFigure, averages, write_csv
from labctl.studies.sweep.sweep_file import Sweep

Read = Callable[[str], Sweep]
COINS = 'name = "coins"\ntask = "coin"\nrepeats = {repeats}\n[axes]\nweight = {weights}\n'


def test_repeats_are_averaged_with_the_error_of_their_mean(
    swept: Read, coin: Any, run_all: Callable[..., Any], tmp_path: Path
) -> None:
    sweep, path = swept(COINS.format(repeats=4, weights=[2.0, 1.0])), tmp_path / "r.jsonl"
    values = run_all(sweep, path)
    found = averages(sweep, read_results(path).of(sweep), "toss")
    assert [average.axes for average in found] == [{"weight": 2.0}, {"weight": 1.0}]
    tosses = [values[point.key]["toss"] for point in sweep.points[:4]]
    assert found[0].repeats == 4
    assert found[0].mean == pytest.approx(mean(tosses), rel=1e-14)
    assert found[0].standard_error == pytest.approx(stdev(tosses) / 2.0, rel=1e-14)


def test_a_single_repeat_has_the_error_that_it_states(
    swept: Read, coin: Any, run_all: Callable[..., Any], tmp_path: Path
) -> None:
    sweep, path = swept(COINS.format(repeats=1, weights=[2.0])), tmp_path / "r.jsonl"
    run_all(sweep, path)
    records = read_results(path).of(sweep)
    assert averages(sweep, records, "toss")[0].standard_error == 0.25
    fell = averages(sweep, records, "fell")[0]
    assert (fell.mean, fell.standard_error) == (1.0, None)
    with pytest.raises(SettingError, match="'toss', or one of toss"):
        averages(sweep, records, "tos")


def test_points_that_are_missing_leave_their_setting_out(swept: Read, coin: Any) -> None:
    assert averages(swept(COINS.format(repeats=1, weights=[2.0])), {}, "toss") == []


def test_a_figure_of_too_many_curves_is_refused(swept: Read, coin: Any, tmp_path: Path) -> None:
    weights = [float(weight) for weight in range(13)]
    text = COINS.format(repeats=1, weights=weights) + 'side = ["head", "tail"]\n'
    SummaryFigure(tmp_path / "f.png", "weight", "toss").check(swept(text))
    with pytest.raises(SettingError, match="leaves at most 12 curves"):
        SummaryFigure(tmp_path / "f.png", "side", "toss").check(swept(text))


def test_a_figure_has_words_along_its_axis_too(
    swept: Read, coin: Any, run_all: Callable[..., Any], tmp_path: Path
) -> None:
    text = COINS.format(repeats=2, weights=[1.0]) + 'side = ["head", "tail"]\n'
    sweep, path = swept(text), tmp_path / "r.jsonl"
    run_all(sweep, path)
    SummaryFigure(tmp_path / "f.png", "side", "toss").draw(sweep, read_results(path).of(sweep))
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def test_where_nothing_can_be_written_is_told(swept: Read, coin: Any, tmp_path: Path) -> None:
    sweep = swept(COINS.format(repeats=1, weights=[1.0]))
    lost = tmp_path / "lost" / "file"
    with pytest.raises(RunFileError, match="cannot be written"):
        write_csv(lost, sweep, {})
    with pytest.raises(UsageError, match="cannot be written"):
        SummaryFigure(lost, "weight", "toss").draw(sweep, {})
