"""The hospital's script: classes, leakage with its assumptions, proof and account in one run."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from labctl.data.breast_cancer import Split, split
from labctl.data.models import Network
from labctl.protocols.leakage import holevo_bits_per_mode
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver

pytest.importorskip("jax", reason="JAX is not installed (extra test-full)")
pytest.importorskip("optax", reason="Optax is not installed (extra test-full)")

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "hospital.py"
HOSPITAL: dict[str, Any] = runpy.run_path(str(SCRIPT))
ENVIRONMENT = {**os.environ, "PYTHONIOENCODING": "utf-8"}

Result = subprocess.CompletedProcess[str]


def run(folder: Path, *arguments: str) -> Result:
    return subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        encoding="utf-8",
        timeout=110,
        check=False,
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the script to its budget's end, and return what it said."""
    done = run(tmp_path_factory.mktemp("ward"), "--patients", "100", "--json")
    assert done.returncode == 1, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    stop = f"stopped after {found['images']} of 100 patients: budget of client hospital on model"
    assert done.stderr.startswith(stop)
    return found


@pytest.mark.long
def test_the_budget_ends_a_run_before_it_is_overdrawn(told: dict[str, Any]) -> None:
    assert 20 <= told["images"] == len(told["patients"]) < 100
    spent = told["ledger"]["spent"]["bits_per_weight"]
    # One more query could leak everything: the entropy of its light.
    assert 0.0 < spent <= 5.0 < spent + 2.5


@pytest.mark.long
def test_each_patient_gets_the_class_that_light_told(told: dict[str, Any]) -> None:
    parts = split(0)
    assert [one["patient"] for one in told["patients"]] == parts.test_patients[
        : told["images"]
    ].tolist()
    right = [one["class"] == one["diagnosis"] for one in told["patients"]]
    assert told["accuracy"] == pytest.approx(np.mean(right))
    # 96 % of all: fewer than three quarters of 20 or more right has a chance below 1e-3.
    assert sum(right) >= 0.75 * len(right)


@pytest.mark.long
def test_leakage_is_told_with_assumptions_and_proof(told: dict[str, Any]) -> None:
    leak, verdict = told["leakage"], told["verification"]
    assert leak["assumptions"]["in_words"]
    assert verdict["accepted"]
    assert verdict["samples"] == told["images"] * 2 * 30
    assert leak["weights_bits_per_real"] == pytest.approx(0.188, abs=0.001)
    assert verdict["weights_bits_prior_free_upper"] > leak["weights_bits_per_real"]


@pytest.mark.long
def test_one_sending_tells_a_curious_server_no_diagnosis(told: dict[str, Any]) -> None:
    chance = told["chance"]
    assert chance == pytest.approx(107 / 171)
    for one in told["labels_read"]:
        error = 4.0 * one["standard_error"]
        if one["repeats"] == 1:
            assert one["label_success"] <= chance + error
    counted = [one for one in told["labels_read"] if one["receiver"] == "photon-counting"]
    assert counted[-1]["repeats"] == 100
    assert counted[-1]["label_success"] > counted[0]["label_success"]


@pytest.mark.parametrize(
    ("rows", "effective"),
    [(np.array([[1.0, 2.0], [-1.0, -2.0]]), 1.0), (np.eye(2), 2.0)],
)
def test_rows_that_are_copies_count_as_one_with_their_light(
    rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]], effective: float
) -> None:
    network = Network((rows.astype(np.float32),), "rows", {})
    receiver = CloneReceiver(1.3, 1.0, IDEAL_HOMODYNE)
    report = SimpleNamespace(
        settings=SimpleNamespace(receiver=receiver, light=SimpleNamespace(mean_photons=1.5))
    )
    found = HOSPITAL["if_rows_are_alike"](network, report)
    copies = 2.0 / effective
    expected = holevo_bits_per_mode(1.5 * copies, 1.0, receiver.returned_noise * copies) / 2.0
    assert found["effective_rows"] == pytest.approx(effective)
    assert found["weights_bits_per_real"] == pytest.approx(expected)


def between_means(patients: Split, _hidden: object, _signal_to_noise: object) -> Network:
    """Return a linear network made without training: the difference of the classes' means."""
    data = patients.train
    benign = data.labels == 1
    along = data.images[benign].mean(axis=0) - data.images[~benign].mean(axis=0)
    return Network((np.stack([-along, along]),), "means", {})


def test_accuracy_over_divisions_has_an_error_that_counts_shared_patients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(HOSPITAL["accuracy_over"].__globals__, "trained", between_means)
    found = HOSPITAL["accuracy_over"](2, (), 4.0)
    low, high = found["lowest"], found["highest"]
    assert found["mean"] == pytest.approx((low + high) / 2.0)
    assert found["standard_error"] == pytest.approx(
        (1 / 2 + 171 / 398) ** 0.5 * abs(high - low) / 2**0.5
    )
    assert 0.85 < found["mean"] <= 1.0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--patients", "172"), "--patients = 172: must be 1 to 171"),
        (("--mu", "0"), "--mu = 0.0: must be 1e-12 to 1e+09"),
        (("--gain", "1"), "gain = 1.0: must be"),
        (("--split", "-1"), "split = -1: must be 0 or more"),
        (("--hidden-widths", "0"), "sizes"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    arguments: tuple[str, ...],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    told_line = str(stop.value.code) + capsys.readouterr().err
    assert problem in told_line
    assert "\n" not in told_line.strip()
    assert list(tmp_path.iterdir()) == []
