"""`labctl calibration bounds`: how often bounds of sessions with hidden constants fail."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

Result = subprocess.CompletedProcess[str]


def test_counts_as_one_object_and_as_a_table(run_here: Callable[..., Result]) -> None:
    asked = ("calibration", "bounds", "--sessions", "3", "--first-seed", "5")
    result = run_here(*asked, "--json")
    assert result.returncode == 0
    found = json.loads(result.stdout)
    assert (found["sessions"], found["first_seed"]) == (3, 5)
    assert {row["name"] for row in found["bounds"]} >= {"together", "as_exact", "transmittance"}
    assert {row["probability"] for row in found["bounds"]} == {0.05, 0.005}
    for row in found["bounds"]:
        assert 0 <= row["failures"] <= row["sessions"] == 3
        assert row["low"] <= row["failures"] / 3 <= row["high"]
    table = run_here(*asked)
    assert table.returncode == 0
    assert "client_noise" in table.stdout
    assert "hidden constants" in table.stdout


def test_no_sessions_are_refused(run_here: Callable[..., Result]) -> None:
    assert run_here("calibration", "bounds", "--sessions", "0").returncode == 2
