"""`labctl label-attack` says how often labels are read, with errors, chance and assumptions."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.cli import label_curve as cli_curve
from labctl.protocols.labels.curve import load_curves
from labctl.protocols.labels.reading import Detection
from labctl.studies.attacks import label_curve
from labctl.wording import at_most_percent

Result = subprocess.CompletedProcess[str]
QUICK = ("--images", "60", "--templates", "600", "--dimensions", "16", "--gain", "1.2")
PNG = b"\x89PNG\r\n\x1a\n"


def test_every_receiver_and_number_of_repeats_gets_its_share(
    run_here: Callable[..., Result],
) -> None:
    result = run_here("label-attack", *QUICK, "--repeats", "1,20", "--json")
    assert (result.returncode, result.stdout.count("\n")) == (0, 1)
    found = json.loads(result.stdout)
    assert (found["images"], found["templates"], found["rows"]) == (60, 600, 784)
    assert 0.1 <= found["chance"] < 0.2
    shares = {(one["receiver"], one["repeats"]): one for one in found["results"]}
    assert set(shares) == {(str(kind), count) for kind in Detection for count in (1, 20)}
    for kind in Detection:
        once, often = (shares[str(kind), count] for count in (1, 20))
        assert often["evidence"] == pytest.approx(20 * once["evidence"])
        assert often["label_success"] > 0.6
        share = once["label_success"]
        assert once["standard_error"] == pytest.approx((share * (1 - share) / 60) ** 0.5)
    assert any("photon counting" in sentence for sentence in found["assumptions"])
    again = run_here("label-attack", *QUICK, "--repeats", "1,20", "--json")
    assert again.stdout == result.stdout


def test_a_pruned_network_sends_its_own_rows_and_pixels(run_here: Callable[..., Result]) -> None:
    """With a mismatch the light of 229 modes is read, which all 784 pixels would not fit."""
    for options in (("--clone-gain-error", "0.005", "--mu", "2.28"), ("--decoys", "3")):
        result = run_here(
            "label-attack", *QUICK, "--repeats", "1", "--detection", "photon-counting",
            "--model", "pruned", *options, "--json",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["rows"] == 200


def test_people_get_a_table_and_a_figure(run_here: Callable[..., Result], tmp_path: Path) -> None:
    result = run_here(
        "label-attack",
        *QUICK,
        "--repeats",
        "1",
        "--detection",
        "homodyne",
        "--figure",
        "labels.png",
    )
    assert result.returncode == 0, result.stderr
    assert "homodyne" in result.stdout
    assert "heterodyne\t" not in result.stdout
    assert "intervals of 95 %" in " ".join(result.stdout.split())
    assert "a success reached, not a bound" in " ".join(result.stdout.split())
    assert (tmp_path / "labels.png").read_bytes().startswith(PNG)


def test_a_curve_is_written(
    run_here: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {Detection.HOMODYNE: (1.0, 100.0)}
    monkeypatch.setattr(label_curve, "EVIDENCE", few)
    monkeypatch.setattr(cli_curve, "EVIDENCE", few)
    result = run_here("label-attack", *QUICK, "--write-curve", "curve.toml", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"file": "curve.toml", "points": 2}
    written = load_curves(tmp_path / "curve.toml")
    assert len(written.point) == 2
    assert "--images 60" in written.command
    assert written.templates == "600 MNIST further test images"


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--gain", "1", "gain = 1.0: must be above 1"),
        ("--gain", "nan", "gain = nan"),
        ("--rows", "0", "rows = 0: must be 1 or more"),
        ("--repeats", "1,x", "repeats = '1,x': must be whole numbers"),
        ("--repeats", "0", "repeats = 0: must be 1 or more"),
        ("--repeats", "", "repeats = ''"),
        ("--images", "0", "images = 0: must be 1 to 9999"),
        ("--images", "10000", "images = 10000: must be 1 to 9999"),
        ("--templates", "0", "templates = 0: must be 1 to 9940"),
        ("--return-loss-db", "-1", "--return-loss-db = -1.0: must be 0 to 100 dB"),
        ("--detected-noise", "inf", "--detected-noise = inf"),
        ("--background-photons", "-1", "--background-photons = -1.0"),
        ("--block-modes", "0", "--block-modes = 0"),
        ("--emission-factor", "0.5", "--emission-factor = 0.5"),
        ("--dimensions", "0", "dimensions = 0"),
        ("--seed", "-1", "seed = -1"),
        ("--data", "nowhere", "nowhere: no such folder"),
        ("--figure", "nowhere/a.png", "no such folder"),
        ("--write-curve", "nowhere/a.toml", "no such folder"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    option: str, value: str, told: str, refused: Callable[..., str]
) -> None:
    options = ["label-attack", "--json"]
    for name, default in (("--images", "60"), ("--templates", "600")):
        if name != option:
            options += [name, default]
    assert told in refused(*options, option, value)


def test_a_folder_without_training_images_is_named(
    refused: Callable[..., str], pictures: str
) -> None:
    line = refused("label-attack", "--images", "10", "--data", pictures)
    assert "must hold one of train-images" in line


@pytest.mark.long
def test_decoys_are_read_all_together_and_the_cap_is_said(run_here: Callable[..., Result]) -> None:
    options = (
        "label-attack", "--images", "20", "--templates", "300", "--dimensions", "12", "--decoys",
        "3", "--gain", "1.0128", "--mu", "8.91", "--clone-gain-error", "0.01", "--repeats",
        "1", "--detection", "homodyne", "--detection", "photon-counting",
    )  # fmt: skip
    result = run_here(*options, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["decoys"], found["templates"], found["candidates"]) == (3, 300, False)
    assert found["label_cap"] == pytest.approx(0.25 + found["guess_error"] / 3)
    for one in found["results"]:
        # 20 images: 4 standard errors about the cap.
        assert one["label_success"] < found["label_cap"] + 0.4
    cap = at_most_percent(found["label_cap"])
    assert any(cap in sentence for sentence in found["assumptions"])
    held = json.loads(run_here(*options, "--candidates", "--json").stdout)
    assert held["templates"] > 2000
    assert held["label_cap"] == found["label_cap"]


def test_decoys_and_what_does_not_go_with_them(
    run_here: Callable[..., Result],
) -> None:
    for options, named in (
        (("--candidates",), "--candidates"),
        (("--decoys", "3", "--images", "2600"), "images"),
        (("--decoys", "10"), "decoys"),
        (("--decoys", "3", "--block-modes", "28"), "--block-modes"),
        (("--decoys", "3", "--background-photons", "0.1"), "background"),
        (("--decoys", "3", "--write-curve", "curve.toml"), "--write-curve"),
    ):
        result = run_here(
            "label-attack", "--images", "20", "--rows", "50", "--templates", "50", *options
        )
        assert result.returncode == 2, options
        assert named in result.stderr


def test_the_evidence_told_is_that_of_kick_and_mismatch(run_here: Callable[..., Result]) -> None:
    """M g^2/(1 + g) and five times delta^2 mu Q M/2, Q being 42; in blocks it is not known."""
    options = (
        "label-attack", "--images", "20", "--templates", "300", "--dimensions", "8", "--gain",
        "1.0128", "--mu", "8.91", "--clone-gain-error", "-0.005", "--repeats", "1",
        "--detection", "homodyne", "--json",
    )  # fmt: skip
    [told] = json.loads(run_here(*options).stdout)["results"]
    # The mismatch takes 1 % of the kick's noise.
    kick = (2.0 - 2.0 / 1.0128) * 0.995**2
    nats = 0.005**2 * 8.91 * 42.0 * 784 / 2.0
    assert told["evidence"] == pytest.approx(784 * kick**2 / (1 + kick) + 5.0 * nats, rel=0.15)
    [blocks] = json.loads(run_here(*options, "--block-modes", "196").stdout)["results"]
    assert blocks["evidence"] is None
