"""The demo, as a user runs it: a real process in an empty folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from labctl.data.run_file import read_run


@pytest.mark.timeout(300)
def test_demo_reaches_its_figures_and_saves_what_it_says(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "labctl", "demo", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    found = json.loads(done.stdout)
    bench, modes = found["bench"], found["mode"]
    assert bench["link"] == "bench"
    assert bench["images"] == 5
    assert bench["verification"]["accepted"] is True
    assert bench["leakage"]["assumptions"]["loss"] == "trusted"
    assert [run["images"] for run in modes] == [10_000] * 3
    assert [run["accuracy"] >= 0.96 for run in modes] == [True] * 3
    assert all(run["verification"]["accepted"] for run in modes)
    assert (tmp_path / found["figure"]).read_bytes().startswith(b"\x89PNG")

    run = read_run(tmp_path / bench["run_file"])
    assert run.complete
    assert run.station_text is not None
    assert len(run.labels) == 5
    assert run.raw("bench", "returned-layer0").shape == (2, 784, 392)
    assert run.raw("evidence", "layer0").shape == (5, 4)
