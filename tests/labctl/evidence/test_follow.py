"""Following a folder: each run once, as it ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from evidence_runs import begin, leakage, verification, write_run

from labctl.errors import RunFileError
from labctl.evidence.follow import ended_runs


class EnoughError(Exception):
    """There is nothing more to do in a test."""


def followed(folder: Path, *steps: Callable[[], object], earlier: bool = False) -> list[str]:
    """Follow a folder; one step is taken each time that there is nothing new."""
    left = list(steps)

    def wait() -> None:
        if not left:
            raise EnoughError
        left.pop(0)()

    names: list[str] = []
    with pytest.raises(EnoughError):
        names.extend(path.name for path in ended_runs(folder, wait, earlier=earlier))
    return names


def test_new_runs_come_once_each_and_earlier_ones_if_asked(tmp_path: Path) -> None:
    write_run(tmp_path / "a.h5")
    steps = [
        lambda: write_run(tmp_path / "b.h5"),
        lambda: (tmp_path / "notes.txt").write_text("no run"),
        lambda: write_run(tmp_path / "c.h5"),
        lambda: None,
    ]
    assert followed(tmp_path, *steps) == ["b.h5", "c.h5"]
    assert followed(tmp_path, lambda: None, earlier=True) == ["a.h5", "b.h5", "c.h5"]


def test_a_run_comes_when_its_writer_has_ended(tmp_path: Path) -> None:
    writer = begin(tmp_path / "a.h5")

    def write_more() -> None:
        writer.set_verification(verification())
        writer.set_leakage(leakage())

    seen_before_the_end: list[bool] = []
    steps = [
        write_more,
        lambda: seen_before_the_end.append(True),
        lambda: writer.finish("complete"),
        lambda: None,
    ]
    assert followed(tmp_path, *steps, earlier=True) == ["a.h5"]
    assert seen_before_the_end == [True]


def test_a_file_that_changed_comes_again(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a.h5")
    changes = [lambda: os.utime(path, (1e9, 1e9)), lambda: None, path.unlink]
    assert followed(tmp_path, *changes) == ["a.h5"]


def test_a_folder_that_goes_away_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    with pytest.raises(RunFileError, match="no such folder"):
        followed(folder, folder.rmdir)
