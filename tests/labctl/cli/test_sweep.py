"""`labctl sweep`: kills, resumes, exports, figures, and what it refuses."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.studies.sweep.results_file import read_results
from labctl.studies.sweep.sweep_file import read_sweep

Result = subprocess.CompletedProcess[str]
LEAKAGE = """\
name = "leaks"
task = "leakage"

[settings]
mean_photons = 4.0

[axes]
gain = [1.3, 2.0]
loss = ["trusted", "untrusted"]
"""
LONG = """\
name = "long"
task = "infer"
repeats = 20

[settings]
images = 200
sample = "measured"

[axes]
gain = [1.3]
"""
SHIPPED = Path(__file__).parents[3] / "examples" / "sweep_gain.toml"


@pytest.fixture
def leaks(tmp_path: Path) -> str:
    (tmp_path / "leaks.toml").write_text(LEAKAGE, encoding="utf-8")
    return "leaks.toml"


def values_of(file: Path, results: Path) -> list[Any]:
    return [record.values for record in read_results(results).of(read_sweep(file)).values()]


def test_a_sweep_is_run_once_and_told_as_a_table_and_as_json(
    leaks: str, run_here: Callable[..., Result], tmp_path: Path
) -> None:
    result = run_here("sweep", leaks)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Sweep leaks: 4 of 4 points" in result.stdout
    assert "0.478" in result.stdout
    assert "loss untrusted" in result.stdout
    assert "loss trusted" in result.stdout
    before = (tmp_path / "labctl-runs" / "leaks.jsonl").read_bytes()
    again = run_here("sweep", leaks, "--json")
    assert again.returncode == 0
    found = json.loads(again.stdout)
    assert (found["points"], found["done"], found["reused"], found["failed"]) == (4, 4, 4, 0)
    assert found["results"] == str(Path("labctl-runs") / "leaks.jsonl")
    assert (tmp_path / "labctl-runs" / "leaks.jsonl").read_bytes() == before


def test_the_table_of_all_points_and_the_figure(
    leaks: str, run_here: Callable[..., Result], tmp_path: Path
) -> None:
    export = ("--csv", "l.csv", "--figure", "l.png", "--x", "gain", "--y", "data_bits_journal")
    assert run_here("sweep", leaks, *export).returncode == 0
    with (tmp_path / "l.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["gain"], row["loss"]) for row in rows] == [
        (gain, loss) for gain in ("1.3", "2.0") for loss in ("trusted", "untrusted")
    ]
    assert float(rows[3]["weights_bits_per_real"]) == pytest.approx(0.0437, abs=5e-5)
    assert {row["mean_photons"] for row in rows} == {"4.0"}
    assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG")


def test_a_dry_run_counts_estimates_and_writes_nothing(
    leaks: str, run_here: Callable[..., Result], tmp_path: Path
) -> None:
    found = json.loads(run_here("sweep", leaks, "--dry-run", "--json").stdout)
    assert (found["points"], found["done"], found["remaining"]) == (4, 0, 4)
    assert 0.0 < found["estimate_s"] < 60.0
    assert "4, 0 of them done" in run_here("sweep", leaks, "--dry-run").stdout
    assert [path.name for path in tmp_path.iterdir()] == [leaks]


def test_no_run_tells_what_there_is(leaks: str, run_here: Callable[..., Result]) -> None:
    found = json.loads(run_here("sweep", leaks, "--no-run", "--json").stdout)
    assert (found["points"], found["done"]) == (4, 0)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--processes", "0"], "--processes = 0: must be 1 to 256"),
        (["--processes", "2", "--scheduler", "tcp://x:1"], "left out with --scheduler"),
        (["--x", "gain"], "--x = 'gain': must be left out without --figure"),
        (["--figure", "f.png", "--x", "gian"], "--x = 'gian': must be 'gain'"),
        (["--figure", "f.png", "--y", "acuracy"], "--y = 'acuracy': must be one of"),
        (["--dry-run", "--no-run"], "left out with --no-run"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    options: list[str], complaint: str, leaks: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    assert complaint in refused("sweep", leaks, *options)
    assert [path.name for path in tmp_path.iterdir()] == [leaks]


def test_a_missing_file_is_told(refused: Callable[..., str]) -> None:
    assert "lost.toml: cannot be read" in refused("sweep", "lost.toml")


def test_failed_points_are_counted_and_the_exit_code_is_1(
    leaks: str, monkeypatch: pytest.MonkeyPatch, run_here: Callable[..., Result]
) -> None:
    from labctl.studies.sweep.tasks import TASKS

    def run(settings: Any, seed: int) -> dict[str, Any]:
        if settings.gain == 2.0:
            raise MemoryError("no room")
        return {"weights_bits_per_real": 1.0}

    monkeypatch.setattr(TASKS["leakage"], "run", run)
    result = run_here("sweep", leaks, "--json")
    assert (result.returncode, json.loads(result.stdout)["failed"]) == (1, 2)
    assert "2 of 4 points failed, the first: unexpected MemoryError: no room" in result.stderr


def started(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start the long sweep as a separate process."""
    (folder / "long.toml").write_text(LONG, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", "labctl", "sweep", "long.toml", "--out", "r.jsonl", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def wait_for_points(path: Path, run: subprocess.Popen[str]) -> None:
    """Wait, by bounded steps, until the results file has three points in it."""
    pause = threading.Event()
    for _ in range(6000):
        if len(read_results(path).records) >= 3:
            return
        assert run.poll() is None, run.communicate()
        pause.wait(0.01)
    pytest.fail("no points came in time")


@pytest.mark.parametrize("options", [(), ("--processes", "2")])
def test_a_killed_sweep_goes_on_to_the_same_bits(
    options: tuple[str, ...], tmp_path: Path, run_here: Callable[..., Result]
) -> None:
    path = tmp_path / "r.jsonl"
    with started(tmp_path, *options) as run:
        try:
            wait_for_points(path, run)
        finally:
            run.send_signal(signal.SIGKILL)
        # Its pipes close when its workers have ended too.
        run.communicate(timeout=200)
    acknowledged = read_results(path).records
    assert 3 <= len(acknowledged) < 20
    resumed = run_here("sweep", "long.toml", "--out", "r.jsonl", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["reused"] == len(acknowledged)
    assert run_here("sweep", "long.toml", "--out", "whole.jsonl").returncode == 0
    whole = values_of(tmp_path / "long.toml", tmp_path / "whole.jsonl")
    assert values_of(tmp_path / "long.toml", path) == whole
    assert len(whole) == 20


@pytest.mark.parametrize("options", [(), ("--processes", "2")])
def test_ctrl_c_says_how_to_go_on(options: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with started(tmp_path, *options) as run:
        try:
            wait_for_points(path, run)
            run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=200)
        finally:
            run.kill()
    held = len(read_results(path).records)
    assert (run.returncode, out) == (130, "")
    assert 3 <= held < 20
    last = err.splitlines()[-1]
    assert last == f"interrupted ({held} of 20 points are in r.jsonl; the same command continues)"


def test_the_example_is_a_sweep() -> None:
    assert len(read_sweep(SHIPPED).points) == 36
