"""`labctl blocks`: every block size worth asking about, the best one, and limits none keeps."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

Result = subprocess.CompletedProcess[str]


def test_loss_per_mode_has_its_best_block(run_here: Callable[..., Result]) -> None:
    result = run_here("blocks", "--f", "0.3", "--rotation-loss-db-per-mode", "1e-4", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found["best"]["block_modes"] == 98
    assert found["best"]["weights_bits_per_real"] == pytest.approx(0.024, abs=5e-4)
    whole = found["options"][-1]
    assert whole["block_modes"] == 392
    assert whole["weights_bits_per_real"] > 1.5 * found["best"]["weights_bits_per_real"]
    assert "loss in the rotation is always untrusted" in found["assumptions"]


def test_an_ideal_rotation_takes_whole_rows(run_here: Callable[..., Result]) -> None:
    result = run_here("blocks", "--f", "0.3", "--modes", "12")
    assert result.returncode == 0
    best = next(line for line in result.stdout.splitlines() if "best" in line)
    assert best.split()[0] == "12"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "one of the two"),
        (["--f", "0.3", "--mu", "1"], "left out where F is given"),
        (["--mu", "1", "--weights-bits-honest", "1e-9"], "within reach of some block size"),
        (["--mu", "1", "--rotation-loss-db-per-mode", "-1"], "--rotation-loss-db-per-mode = "),
    ],
)
def test_what_cannot_be_had_is_a_usage_error(
    arguments: list[str], complaint: str, run_here: Callable[..., Result]
) -> None:
    result = run_here("blocks", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1
