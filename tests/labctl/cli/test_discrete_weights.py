"""`labctl infer` refuses weights whose levels can be distinguished, or says what does not hold."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labctl.data.models import Network, save_network

Result = subprocess.CompletedProcess[str]


@pytest.fixture
def signs(tmp_path: Path, pictures: str) -> tuple[str, ...]:
    """Arguments of a run with a network of signs on pictures of 784 pixels."""
    random = np.random.default_rng(1)
    layers = tuple(
        np.sign(random.standard_normal(shape)).astype(np.float32) for shape in ((12, 784), (10, 12))
    )
    save_network(Network(layers, "signs", {}), tmp_path / "signs.safetensors")
    path = str(tmp_path / "signs.safetensors")
    return ("--model", path, "--data", pictures, "--images", "12", "--gain", "2")


def test_told_apart_levels_are_refused_with_what_to_do(
    run_here: Callable[..., Result], signs: tuple[str, ...]
) -> None:
    result = run_here("infer", *signs, "--mu", "20")
    assert result.returncode != 0
    assert "2 levels, 1 bit per weight" in result.stderr
    assert "--accept-discrete-weights" in result.stderr


def test_accepted_levels_are_stated_with_the_error_rate(
    run_here: Callable[..., Result], signs: tuple[str, ...]
) -> None:
    result = run_here("infer", *signs, "--mu", "20", "--accept-discrete-weights", "--json")
    found = json.loads(result.stdout)["weight_distribution"]
    assert found["told_apart"]
    assert found["level_error_rate"] < 1e-5
    assert found["most_bits_per_real"] == pytest.approx(1.0, abs=0.02)
    spoken = run_here("infer", *signs, "--mu", "20", "--accept-discrete-weights").stdout
    assert "DO NOT HOLD" in " ".join(spoken.split())


@pytest.mark.long
def test_levels_that_run_into_each_other_are_stated_too(
    run_here: Callable[..., Result], signs: tuple[str, ...]
) -> None:
    result = run_here("infer", *signs, "--mu", "0.1", "--json")
    found = json.loads(result.stdout)["weight_distribution"]
    assert (found["discrete"], found["told_apart"]) == (True, False)
    # Q(sqrt(0.1)) of two signs about as frequent.
    assert found["level_error_rate"] == pytest.approx(0.376, abs=0.02)
