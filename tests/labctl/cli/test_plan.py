"""`labctl plan` finds settings, or says on one line what cannot be reached and what can."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from labctl.cli import plan as plan_command
from labctl.cli import plan_figure
from labctl.data.mnist import load_test_images
from labctl.data.models import load_network
from labctl.errors import LabctlError
from labctl.protocols.leakage.setting import WeightsFigure
from labctl.studies.planner import plan as plans
from labctl.studies.planner import search
from labctl.studies.planner.accuracy_curve import AccuracyCurve, AccuracyPoint, digest_of
from labctl.studies.planner.curve_file import save_curve

Result = subprocess.CompletedProcess[str]

_LABELS = """\
command = "made by hand"
templates = "none"
images = "none"
seed = 0
dimensions = 48
chance = 0.1
"""
_LABEL_POINT = """
[[point]]
receiver = "homodyne"
evidence = {}
success = {}
standard_error = 0.005
"""


# What was known of plans is known by the honest figure.
HONEST = ("--weights-figure", "honest")


@pytest.fixture
def curve(tmp_path: Path) -> str:
    """Write a curve for the shipped network and images: 97 % at F = 0.3, 98.5 % at the end."""
    points = []
    for f in np.geomspace(0.02, 20.0, 25):
        right = round(9850 * float(ndtr(2.18 + 2.4 * math.log(f / 0.3))))
        points.append(AccuracyPoint(float(f), (10_000 - right, right)))
    sha256 = load_network("noise-aware").sha256
    found = AccuracyCurve(sha256, digest_of(load_test_images()), tuple(points))
    save_curve(found, tmp_path / "curve.json")
    return "curve.json"


@pytest.fixture
def short_front(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work out the front at the accuracy wanted alone: it takes most of the time of a plan."""
    monkeypatch.setattr(plans, "_ERROR_LEVELS", (1.0,))


@pytest.fixture(autouse=True)
def _coarse_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at fewer gains, and find the greatest F within 4 %: the words are looked at here.

    How near the search comes to the best setting is for the tests of the planner.
    """
    monkeypatch.setattr(search, "_GAINS", 9)
    monkeypatch.setattr(search, "_F_ERROR", 0.04)


@pytest.fixture
def planned(
    run_here: Callable[..., Result], curve: str, short_front: None
) -> Callable[..., dict[str, Any]]:
    """Run `labctl plan --json` on the written curve and return its object."""

    def run(*arguments: str, code: int = 0) -> dict[str, Any]:
        result = run_here("plan", *HONEST, "--accuracy-curve", curve, "--json", *arguments)
        assert result.returncode == code, result.stderr
        assert result.stdout.count("\n") == 1
        assert result.stderr.count("\n") == code
        return dict(json.loads(result.stdout))

    return run


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_plan_within_limits_is_found(planned: Callable[..., dict[str, Any]]) -> None:
    found = planned("--accuracy", "0.96", "--weights-bits", "0.006", "--data-bits", "0.0025")
    best = found["recommended"]
    assert found["found"] is True
    assert best["accuracy_lower"] == pytest.approx(0.96, abs=1e-6)
    leakage = best["leakage"]
    assert leakage["weights_bits_per_real"] <= 0.006
    assert leakage["weights_bits_per_real"] < leakage["weights_bits_network"]
    assert leakage["weights_bits_network"] < leakage["weights_bits_prior_free"]
    assert best["leakage"]["data_bits_journal"] <= 0.0025
    assert best["F"] == found["F_needed"]["upper"]
    assert best["pool"]["weights_bits_upper"] <= best["bound_bits"]
    assert best["input_repeats"] == 1
    assert best["throughput"]["local_oscillator_energy_j"] is None
    assert found["limited_by"] == "noise of the client's own clone"
    assert any("loss untrusted" in sentence for sentence in found["assumptions"])
    assert any("95% confidence" in sentence for sentence in found["reasons"])


def test_the_best_value_asks_for_less_f_than_confidence(
    planned: Callable[..., dict[str, Any]],
) -> None:
    sure = planned("--accuracy", "0.96")["recommended"]
    even = planned("--accuracy", "0.96", "--confidence", "0.5")["recommended"]
    assert even["F"] < sure["F"]
    assert even["leakage"]["weights_bits_per_real"] < sure["leakage"]["weights_bits_per_real"]


def test_what_cannot_be_had_names_the_best_compromise(
    run_here: Callable[..., Result], planned: Callable[..., dict[str, Any]], curve: str
) -> None:
    wish = ("--accuracy", "0.97", "--weights-bits", "0.003", "--data-bits", "0.0025")
    found = planned(*wish, code=1)
    assert (found["found"], found["recommended"]) == (False, None)
    reach = found["reach"]
    assert reach["accuracy_within"]["all"]["F"] < reach["accuracy_within"]["weights"]["F"]
    assert reach["best_compromise"]["leakage"]["data_bits_journal"] <= 0.0025
    result = run_here("plan", *HONEST, "--accuracy-curve", curve, *wish)
    assert result.returncode == 1
    assert result.stderr.startswith("error: accuracy 0.97 with weights ≤ 0.003 bit and data")
    assert "best compromise" in result.stderr
    assert result.stderr.count("\n") == 1
    said = " ".join(result.stdout.split())
    assert "that accuracy with weights ≤ 0.003 bit: not at any gain" in said
    assert "all limits together: accuracy up to" in said


def test_an_accuracy_beyond_the_network_says_its_best(
    planned: Callable[..., dict[str, Any]],
) -> None:
    found = planned("--accuracy", "0.99", code=1)
    assert found["F_needed"]["upper"] is None
    assert "beyond the network" in found["reasons"][0]


def test_untrusted_loss_is_said_to_cost_what_it_costs(
    planned: Callable[..., dict[str, Any]],
) -> None:
    found = planned("--accuracy", "0.96", "--loss-db", "1", "--weights-bits", "0.01", code=1)
    assert found["limited_by"] == "untrusted loss of the link"
    assert any("the loss of 1 dB, untrusted, alone costs" in one for one in found["reasons"])
    trusted = planned("--accuracy", "0.96", "--loss-db", "1", "--loss", "trusted",
                      "--weights-bits", "0.01")  # fmt: skip
    assert trusted["found"] is True


def test_label_reading_is_a_limit_too(
    planned: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    points = ((1.0, 0.15), (10.0, 0.5), (100.0, 0.9))
    text = _LABELS + "".join(_LABEL_POINT.format(*point) for point in points)
    (tmp_path / "labels.toml").write_text(text, encoding="utf-8")
    wish = ("--accuracy", "0.96", "--label-attack", "0.2", "--label-curve", "labels.toml")
    found = planned(*wish, "--clone-gain-error", "0", "--figure", "front.png")
    assert Path("front.png").read_bytes().startswith(b"\x89PNG")
    best = found["recommended"]
    assert best["label_success_upper"] == pytest.approx(0.2, abs=1e-6)
    free = planned("--accuracy", "0.96")["recommended"]
    assert best["gain"] < free["gain"]
    assert free["label_success_upper"] is None
    # A clone that is off by 0.2 % shows its rows: no gain keeps that limit.
    off = planned(*wish, code=1)
    assert off["clone_gain_error"] == 0.002
    assert off["overlap_of_rows_and_images"] > 30.0
    assert off["recommended"] is None


@pytest.mark.parametrize("kind", ["honest", "prior-free"])
def test_every_figure_of_the_weights_says_which_of_the_three_it_is(
    kind: str,
    run_here: Callable[..., Result],
    curve: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[str] = []

    def keep(path: Path, figure: Any) -> None:
        drawn.extend(axes.get_ylabel() for axes in figure.axes)

    monkeypatch.setattr(plan_figure, "write_png", keep)
    # A front of one accuracy has the words of the whole one.
    monkeypatch.setattr(plans, "_ERROR_LEVELS", (1.0,))
    shown = run_here(
        "plan", "--accuracy", "0.9", "--weights-figure", kind, "--weights-bits", "0.5",
        "--accuracy-curve", curve, "--figure", str(tmp_path / "front.png"),
    ).stdout  # fmt: skip
    assert drawn[0] == f"leakage to the client, {kind}: bit per real weight and query"
    words = re.sub(r"\s+", " ", shown)
    assert words.count("bit per weight (") == words.count(f"bit per weight ({kind})") >= 3
    assert re.search(r"bit per weight(?! \()", words) is None
    assert f"without the limits; weights: {kind} " in words


def test_people_get_setting_front_and_reasons(run_here: Callable[..., Result], curve: str) -> None:
    result = run_here("plan", *HONEST, "--accuracy", "0.96", "--accuracy-curve", curve,
                      "--weights-bits", "0.006", "--lo-power-dbm", "10",
                      "--figure", "front.png")  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    said = " ".join(result.stdout.split())
    for words in (
        "noise-aware: weights least",
        "inferences per s",
        "multiply-accumulate (622496 of them)",
        "of the shot-noise unit",
        "to prove the limit",
        "Pareto front at 96.00%, without the limits",
        "needs F =",
        "limited by noise of the client's own clone",
        "assumes: loss untrusted",
    ):
        assert words in said, words
    assert Path("front.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("short_front")
def test_a_curve_is_measured_once_and_kept(
    run_here: Callable[..., Result],
    tiny_network: str,
    pictures: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A network of random weights: any accuracy will do, here one that it has at the least F."""
    wish = ("plan", *HONEST, "--accuracy", "0.001", "--confidence", "0.5", "--model", tiny_network,
            "--data", pictures, "--images", "12", "--noise-runs", "1", "--json")  # fmt: skip
    first = run_here(*wish)
    assert (first.returncode, first.stderr) == (0, "")
    assert len(list((tmp_path / "cache" / "labctl").glob("accuracy-*-1.json"))) == 1

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(plan_command, "measure_curve", refuse)
    again = run_here(*wish).stdout
    assert again == first.stdout.replace('"measured now, ', '"measured before, ')
    assert "measured before, the user's cache: " in again


@pytest.mark.usefixtures("short_front")
def test_a_cache_that_cannot_be_written_is_said_and_no_obstacle(
    run_here: Callable[..., Result], tiny_network: str, pictures: str, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("in the way", encoding="utf-8")
    few = ("--data", pictures, "--images", "12", "--noise-runs", "1")
    wish = ("--accuracy", "0.001", "--confidence", "0.5", "--model", tiny_network)
    result = run_here("plan", *HONEST, *wish, *few)
    assert result.returncode == 0
    assert "accuracy curve not kept" in result.stderr


def test_a_curve_of_another_network_is_refused(refused: Callable[..., str], curve: str) -> None:
    assert "another network" in refused(
        "plan", "--accuracy", "0.9", "--model", "reference", "--accuracy-curve", curve
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--accuracy", "1.2"), "accuracy"),
        (("--accuracy", "nan"), "accuracy"),
        (("--accuracy", "0.9", "--confidence", "1"), "--confidence = "),
        (("--accuracy", "0.9", "--weights-bits", "0"), "--weights-bits = "),
        (("--accuracy", "0.9", "--data-bits", "nan"), "--data-bits = "),
        (("--accuracy", "0.9", "--label-attack", "2"), "--label-attack = "),
        (("--accuracy", "0.9", "--loss-db", "-1"), "--loss-db = "),
        (("--accuracy", "0.9", "--loss-db", "nan"), "--loss-db = "),
        (("--accuracy", "0.9", "--technical-noise", "inf"), "--technical-noise = "),
        (("--accuracy", "0.9", "--efficiency", "0"), "--efficiency = "),
        (("--accuracy", "0.9", "--emission-factor", "0.5"), "--emission-factor = "),
        (("--accuracy", "0.9", "--symbol-rate-hz", "0"), "--symbol-rate-hz = "),
        (("--accuracy", "0.9", "--frequency-thz", "nan"), "--frequency-thz = "),
        (("--accuracy", "0.9", "--preamble-symbols", "2"), "--preamble-symbols = "),
        (("--accuracy", "0.9", "--guard-symbols", "-1"), "--guard-symbols = "),
        (("--accuracy", "0.9", "--lo-power-dbm", "1e9"), "--lo-power-dbm = "),
        (("--accuracy", "0.9", "--bound-factor", "1"), "--bound-factor = "),
        (("--accuracy", "0.9", "--calibration-samples", "1"), "--calibration-samples = "),
        (("--accuracy", "0.9", "--failure-probability", "0"), "--failure-probability = "),
        (("--accuracy", "0.9", "--images", "0"), "--images = "),
        (("--accuracy", "0.9", "--noise-runs", "0"), "--noise-runs = "),
        (("--accuracy", "0.9", "--model", "none.npz"), "no such file"),
        (("--accuracy", "0.9", "--prefer", "luck"), "luck"),
        ((), "--accuracy"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(
    arguments: tuple[str, ...], complaint: str, refused: Callable[..., str]
) -> None:
    assert complaint in refused("plan", *arguments)


@pytest.mark.usefixtures("short_front")
def test_a_figure_that_cannot_be_written_is_named(refused: Callable[..., str], curve: str) -> None:
    wish = ("plan", *HONEST, "--accuracy", "0.96", "--accuracy-curve", curve)
    for place, said in (("nowhere/front.png", "nowhere: no such"), ("front.nonsense",) * 2):
        assert said in refused(*wish, "--figure", place)


def test_the_bound_is_the_figure_unless_told_otherwise(
    run_here: Callable[..., Result], curve: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def noted(*, weights_figure: WeightsFigure, **_: object) -> None:
        asked.append(weights_figure)
        raise LabctlError("that was the question")

    monkeypatch.setattr(plan_command, "Conditions", noted)
    for figure in ((), HONEST):
        run_here("plan", "--accuracy", "0.96", "--accuracy-curve", curve, *figure)
    assert asked == [WeightsFigure.PRIOR_FREE, WeightsFigure.HONEST]


@pytest.mark.long
@pytest.mark.usefixtures("short_front")
def test_the_bound_is_what_a_plan_goes_by_unless_told_otherwise(
    run_here: Callable[..., Result], curve: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_F_ERROR", 4.0)
    few = ("--weights-bits", "0.01", "--accuracy-curve", curve, "--json")
    result = run_here("plan", "--accuracy", "0.96", *few)
    assert result.returncode == 1
    least = json.loads(result.stdout)["reach"]["least_weights_bits"]["leakage"]
    assert least["weights_bits_prior_free"] > 0.05
    assert least["weights_bits_per_real"] < 0.01


def test_copies_stand_beside_a_plan_and_limit_it(planned: Callable[..., dict[str, Any]]) -> None:
    accepted = ("--accuracy", "0.96", "--accept-discrete-weights")
    found = planned(*accepted, "--real-share", "0.1")
    assert [each["queries"] for each in found["best_copy"]] == [1, 30, 100]
    for each in found["best_copy"]:
        assert each["distance"] == pytest.approx(each["accuracy"] - each["classes_alone"])
    assert found["probation"]["real_share"] == 0.1
    assert found["probation"]["queries_to_half"] > found["probation"]["queries_to_honest"] > 1
    limit = ("--copy-accuracy", "0.5", "--copy-queries", "1")
    assert planned(*accepted, *limit, code=1)["recommended"] is None
