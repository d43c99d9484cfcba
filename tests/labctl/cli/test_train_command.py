"""`labctl train` writes a network, and refuses before it works what could not be written."""

from __future__ import annotations

import json
import re
import signal
import struct
import subprocess
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from labctl.cli import output, train
from labctl.data.models import Network, load_network, save_network
from labctl.errors import ModelError
from labctl.studies.training.loop import EpochReport, Training

Result = subprocess.CompletedProcess[str]
needs_training = pytest.mark.skipif(
    find_spec("jax") is None or find_spec("optax") is None,
    reason="JAX or Optax is not installed (extra test-full)",
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


@pytest.fixture
def own_csv(tmp_path: Path) -> str:
    """Write 200 lines of a label and five values of 0 to 9, of which one tells the class."""
    random = np.random.default_rng(8)
    labels = np.arange(200) % 3
    values = random.integers(0, 5, (200, 5))
    values[np.arange(200), labels] = 9
    lines = [",".join(map(str, row)) for row in np.column_stack((labels, values))]
    (tmp_path / "own.csv").write_text("\n".join(["class,a,b,c,d,e", *lines]), encoding="utf-8")
    return "own.csv"


@needs_training
def test_a_network_is_trained_written_and_described(
    lessons: str, tmp_path: Path, run_here: Callable[..., Result]
) -> None:
    options = (
        "--data",
        lessons,
        "--hidden-widths",
        "12",
        "-F",
        "2",
        "--epochs",
        "2",
        "--seed",
        "3",
    )
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
    assert (found["measured_on"], found["epochs_done"]) == ("20 test images", 2)
    assert len(found["test_accuracy"]) >= 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lessons", "net.safetensors"]


@needs_training
@pytest.mark.long
def test_own_data_are_trained_on_with_the_hardware_in_the_loop_and_reported(
    own_csv: str, tmp_path: Path, run_here: Callable[..., Result]
) -> None:
    """Without images to test on a share is held out; values of 0 to 9 need a scale."""
    options = (
        "--data",
        own_csv,
        "--scale",
        "9",
        "--hidden-widths",
        "8",
        "-F",
        "1:4",
        "--epochs",
        "40",
    )
    hardware = ("--added-noise", "0.1", "--weight-bits", "6", "--value-bits", "8")
    more = ("--patience", "2", "--batch-size", "20", "--learning-rate", "0.05")
    result = run_here("train", "net.safetensors", *options, *hardware, *more, "--report", "r.json")
    assert result.returncode == 0, result.stderr
    assert "Accuracy on 20 held-out images" in result.stdout
    found = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert found["sizes"] == [5, 8, 3]
    assert found["sha256"] == load_network(tmp_path / "net.safetensors").sha256
    settings = found["settings"]
    assert settings["signal_to_noise"] == [1.0, 4.0]
    assert (settings["held_out"], settings["max_shift_px"]) == (0.1, 0.0)
    assert settings["channel"]["value_bits"] == 8
    assert found["confusion_signal_to_noise"] == 2.0
    best = min(epoch["held_out_loss"] for epoch in found["epochs"])
    kept = [epoch["epoch"] for epoch in found["epochs"] if epoch["held_out_loss"] == best]
    assert (
        found["provenance"]["epochs done"] == f"{len(found['epochs'])}, weights of epoch {kept[0]}"
    )


@needs_training
def test_an_interrupted_run_keeps_what_is_done_and_goes_on(
    lessons: str, tmp_path: Path, run_here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--data", lessons, "--hidden-widths", "6", "--epochs", "4", "--seed", "2")
    assert run_here("train", "through.safetensors", *options).returncode == 0
    steps = 0

    def interrupting(step: str) -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(output, "say_step", interrupting)
        result = run_here("train", "net.safetensors", *options)
    assert result.returncode == 130
    assert result.stderr == (
        "interrupted (2 of 4 epochs done: network so far in net-partial.safetensors, "
        "continue with --resume)\n"
    )
    assert load_network(tmp_path / "net-partial.safetensors").sizes == (16, 6, 10)
    again = run_here("train", "net.safetensors", *options)
    assert "net.checkpoint is left of an interrupted run: continue with --resume" in again.stderr
    changed = run_here("train", "net.safetensors", *options, "--resume", "-F", "1")
    assert "checkpoint of other settings (signal_to_noise 0.2 there, 1.0 here)" in changed.stderr
    assert run_here("train", "net.safetensors", *options, "--resume").returncode == 0
    found = load_network(tmp_path / "net.safetensors").sha256
    assert found == load_network(tmp_path / "through.safetensors").sha256
    left = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert left == ["net.safetensors", "through.safetensors"]


@needs_training
@pytest.mark.long
def test_a_network_is_not_lost_when_measuring_it_is_interrupted(
    lessons: str, tmp_path: Path, run_here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--data", lessons, "--hidden-widths", "6", "--epochs", "1", "--seed", "2")
    with monkeypatch.context() as patched:
        patched.setattr(
            train, "measured_accuracies", lambda *_, **__: signal.raise_signal(signal.SIGTERM)
        )
        result = run_here("train", "net.safetensors", *options)
    assert result.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert "1 of 1 epochs done: network so far in net-partial.safetensors" in result.stderr
    assert run_here("train", "net.safetensors", *options, "--resume").returncode == 0
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["net.safetensors"]


@needs_training
def test_a_signal_waits_until_the_training_library_has_returned(
    lessons: str, tmp_path: Path, run_here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in its midst ended the process with a segmentation fault."""
    returned = []
    original = Training._next_epoch

    def struck(self: Training) -> EpochReport:
        signal.raise_signal(signal.SIGINT)
        report = original(self)
        returned.append(report.epoch)
        return report

    monkeypatch.setattr(Training, "_next_epoch", struck)
    options = ("--data", lessons, "--hidden-widths", "6", "--epochs", "4")
    result = run_here("train", "net.safetensors", *options)
    assert result.returncode == 130
    assert returned == [1]
    assert "1 of 4 epochs done" in result.stderr
    assert load_network(tmp_path / "net-partial.safetensors").sizes == (16, 6, 10)


@needs_training
def test_a_network_that_cannot_be_written_is_kept_elsewhere(
    lessons: str, tmp_path: Path, run_here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that filled while hours of training ran."""

    def full(network: Network, path: Path, overwrite: bool = False) -> None:
        if path.parent == Path():
            raise ModelError(f"{path}: cannot be written (No space left on device)")
        save_network(network, path, overwrite)

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(train, "save_network", full)
    options = ("--data", lessons, "--hidden-widths", "6", "--epochs", "1")
    result = run_here("train", "net.safetensors", *options)
    assert result.returncode == ModelError.exit_code
    found = re.fullmatch(
        r"error: net.safetensors: cannot be written .No space left on device.; the trained network "
        r"is kept in (.*)\n",
        result.stderr.splitlines(keepends=True)[-1],
    )
    assert found
    assert load_network(found[1]).sizes == (16, 6, 10)


@needs_training
@pytest.mark.long
def test_the_trained_network_runs(
    lessons: str, tmp_path: Path, run_here: Callable[..., Result]
) -> None:
    options = ("--data", lessons, "--hidden-widths", "", "--recipe", "reference", "--epochs", "1")
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
        (["net.safetensors", "--data", "absent"], "absent: no such folder, nor a task"),
        (["net.safetensors", "--data", "pictures"], "pictures: no images file"),
        (
            ["net.safetensors", "--recipe", "best"],
            "must be one of reference, noise-aware, few-rows",
        ),
        (
            ["net.safetensors", "--data", "lessons", "--hidden-widths", "a,b"],
            "whole numbers with commas",
        ),
        (["net.safetensors", "--data", "lessons", "--hidden-widths", "0"], "0"),
        (["net.safetensors", "--data", "lessons", "--hidden-widths", "-3"], "-3"),
        (["net.safetensors", "--data", "lessons", "--epochs", "0"], "epochs = 0: must be"),
        (["net.safetensors", "--data", "lessons", "--seed", "-1"], "seed = -1: must be"),
        (["net.safetensors", "--data", "lessons", "-F", "0"], "--signal-to-noise = 0.0: must be"),
        (["net.safetensors", "--data", "lessons", "-F", "nan"], "signal_to_noise = nan: must be"),
        (["net.safetensors", "--data", "lessons", "-F", "a:b"], "a range such as 0.1:0.4, or none"),
        (["net.safetensors", "--data", "lessons", "-F", "1:2:3"], "a range such as 0.1:0.4"),
        (["net.safetensors", "--data", "lessons", "-F", "2:1"], "lowest and highest F"),
        (["net.safetensors", "--data", "lessons", "--scale", "2"], "scale = 2.0: must be left out"),
        (
            ["net.safetensors", "--data", "lessons", "--patience", "2"],
            "patience = 2: must be left out",
        ),
        (["net.safetensors", "--data", "lessons", "--weight-bits", "1"], "--weight-bits = 1: must"),
        (["net.safetensors", "--data", "lessons", "--batch-size", "401"], "must be at most 400"),
        pytest.param(
            ["net.safetensors", "--data", "lessons", "--resume"],
            "net.checkpoint: no such checkpoint",
            marks=needs_training,
        ),
        (
            ["net.safetensors", "--data", "lessons", "--report", "r.pdf"],
            "report = 'r.pdf': must be",
        ),
        (["net.safetensors", "--data", "lessons", "--report", "a/r.png"], "a: no such folder"),
        (["net.safetensors", "--data", "own.csv"], "values run from 0 to 9; must be in [0, 1]"),
        (
            ["net.safetensors", "--data", "own.csv", "--scale", "9", "--held-out", "0"],
            "--held-out = 0.0: must be above 0 where there are no test images",
        ),
    ],
)
@pytest.mark.usefixtures("lessons", "pictures", "own_csv")
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
