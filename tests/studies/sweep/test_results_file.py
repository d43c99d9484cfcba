"""Results files survive a kill at any byte, and are never mistaken for anything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import RunFileError
from labctl.studies.sweep.results_file import ResultsWriter, read_results
from labctl.studies.sweep.run import plan
from labctl.studies.sweep.sweep_file import Sweep

Read = Callable[[str], Sweep]
COINS = 'name = "coins"\ntask = "coin"\n[axes]\nweight = [1.0, 2.0, 3.0]\n'


@pytest.fixture
def finished(
    swept: Read, coin: Any, run_all: Callable[..., object], tmp_path: Path
) -> tuple[Sweep, Path]:
    sweep, path = swept(COINS), tmp_path / "r.jsonl"
    run_all(sweep, path)
    return sweep, path


def test_a_file_cut_anywhere_holds_its_whole_lines_and_goes_on(
    finished: tuple[Sweep, Path], run_all: Callable[..., object]
) -> None:
    sweep, path = finished
    content, whole = path.read_bytes(), read_results(path)
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for length in sorted(
        {*range(0, len(content), 41), *ends, *(end - 1 for end in ends)} - {len(content)}
    ):
        path.write_bytes(content[:length])
        held = read_results(path)
        lines = sum(end <= length for end in ends)
        assert len(held.records) == max(lines - 2, 0)
        assert held.whole_bytes == (ends[lines - 1] if lines else 0)
        assert held.records.items() <= whole.records.items()
    for length in (0, 5, ends[0] - 1, ends[0], ends[1] + 9, ends[2], ends[3] + 40):
        path.write_bytes(content[:length])
        run_all(sweep, path)
        assert [r.values for r in read_results(path).of(sweep).values()] == [
            r.values for r in whole.of(sweep).values()
        ]
        assert not plan(sweep, path).remaining


@pytest.mark.parametrize("content", [b"hello", b"{}\n", b'{"format": "other"}\n', b"\x00\xff\n"])
def test_another_file_is_left_alone(content: bytes, swept: Read, coin: Any, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with (
        pytest.raises(RunFileError, match="not a labctl sweep results file"),
        ResultsWriter.open(path, swept(COINS), "code"),
    ):
        pytest.fail("it was opened")
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (b'"version": 1', b'"version": 2', "of version 1"),
        (b'{"point"', b'{"point', "r.jsonl:3: damaged, not a line of JSON"),
        (b'{"point"', b'{"punkt"', "damaged, a line lacks 'point'"),
        (b'{"run"', b'7\n{"run"', "r.jsonl:2: damaged, not a JSON object"),
        (b'{"run": {', b'{"run": {"code": 1}}\n{"run": [{', "damaged"),
    ],
)
def test_damage_is_told_with_its_line(
    old: bytes, new: bytes, complaint: str, finished: tuple[Sweep, Path]
) -> None:
    _, path = finished
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(RunFileError, match=complaint):
        read_results(path)


def test_there_is_one_writer_at_a_time(finished: tuple[Sweep, Path]) -> None:
    sweep, path = finished
    before = path.read_bytes()
    with ResultsWriter.open(path, sweep, "code"):
        during = path.read_bytes()
        with (
            pytest.raises(RunFileError, match="another sweep is writing"),
            ResultsWriter.open(path, sweep, "code"),
        ):
            pytest.fail("it was opened")
    assert path.read_bytes() == during
    assert during.startswith(before)


def test_what_cannot_be_written_is_told(swept: Read, coin: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "r.jsonl", tmp_path):
        with (
            pytest.raises(RunFileError, match="cannot be"),
            ResultsWriter.open(path, swept(COINS), "code"),
        ):
            pytest.fail("it was opened")
