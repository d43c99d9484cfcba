"""`labctl train` writes a network, and refuses before it works what could not be written."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from labctl.data.models import load_network

Result = subprocess.CompletedProcess[str]
needs_training = pytest.mark.skipif(
    find_spec("jax") is None or find_spec("optax") is None, reason="needs the extra `train`"
)


@pytest.fixture
def lessons(tmp_path: Path) -> str:
    """Write 400 pictures of 4 x 4 to learn from and 20 to be tested on; return their folder."""
    random = np.random.default_rng(7)
    folder = tmp_path / "lessons"
    folder.mkdir()
    for stem, count in (("train", 400), ("t10k", 20)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = random.integers(0, 60, (count, 16), dtype=np.uint8)
        pixels[np.arange(count), labels] = 255
        head = struct.pack(">4I", 0x0803, count, 4, 4)
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        head = struct.pack(">2I", 0x0801, count)
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
    return "lessons"


@needs_training
def test_a_network_is_trained_written_and_described(
    lessons: str, tmp_path: Path, run_here: Callable[..., Result]
) -> None:
    options = ("--data", lessons, "--hidden", "12", "-F", "2", "--epochs", "2", "--seed", "3")
    result = run_here("train", "net.safetensors", *options, "--json")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    network = load_network(tmp_path / "net.safetensors")
    assert network.sizes == (16, 12, 10)
    assert found["sha256"] == network.sha256
    assert found["settings"]["sizes"] == [16, 12, 10]
    assert (found["settings"]["seed"], found["settings"]["epochs"]) == (3, 2)
    assert found["settings"]["signal_to_noise"] == 2.0
    assert len(found["test_accuracy"]) >= 2


@needs_training
def test_the_trained_network_runs(
    lessons: str, tmp_path: Path, run_here: Callable[..., Result]
) -> None:
    options = ("--data", lessons, "--hidden", "", "--recipe", "reference", "--epochs", "1")
    assert run_here("train", "net.safetensors", *options).returncode == 0
    assert load_network(tmp_path / "net.safetensors").sizes == (16, 10)
    result = run_here(
        "infer", "--model", "net.safetensors", "--data", lessons, "--images", "20", "--json"
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["images"] == 20


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["net.npz"], "'net.npz': must be a path that ends with .safetensors"),
        (["net"], "'net': must be a path that ends with .safetensors"),
        (["net.safetensors", "--data", "absent"], "absent: no such folder"),
        (["net.safetensors", "--data", "pictures"], "pictures: no images file"),
        (["net.safetensors", "--recipe", "best"], "'reference', 'noise-aware'"),
        (["net.safetensors", "--data", "lessons", "--hidden", "a,b"], "whole numbers with commas"),
        (["net.safetensors", "--data", "lessons", "--hidden", "0"], "0"),
        (["net.safetensors", "--data", "lessons", "--hidden", "-3"], "-3"),
        (["net.safetensors", "--data", "lessons", "--epochs", "0"], "epochs = 0: must be"),
        (["net.safetensors", "--data", "lessons", "--seed", "-1"], "seed = -1: must be"),
        (["net.safetensors", "--data", "lessons", "-F", "0"], "signal_to_noise = 0.0: must be"),
        (["net.safetensors", "--data", "lessons", "-F", "nan"], "signal_to_noise = nan: must be"),
    ],
)
@pytest.mark.usefixtures("lessons", "pictures")
def test_what_cannot_be_trained_is_refused_and_nothing_is_written(
    arguments: list[str], told: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert told in refused("train", *arguments)
    assert not (tmp_path / "net.safetensors").exists()


def test_a_file_that_exists_is_not_replaced(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "net.safetensors").write_bytes(b"precious")
    line = refused("train", "net.safetensors")
    assert "net.safetensors exists already: choose another name" in line
    assert (tmp_path / "net.safetensors").read_bytes() == b"precious"


@pytest.mark.usefixtures("lessons")
def test_a_folder_that_is_not_there_is_refused_before_training(refused: Callable[..., str]) -> None:
    line = refused("train", "absent/net.safetensors", "--data", "lessons")
    assert line == "error: absent: no such folder; must be there to write into"
