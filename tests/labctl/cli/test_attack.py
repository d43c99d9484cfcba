"""`labctl attack`: what an attack learned, its mark, whether it was caught, and how surely."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from long_tests import long
from typer.testing import CliRunner

from labctl.cli import app, attack, attack_curve
from labctl.errors import LabctlError, SettingError, UsageError
from labctl.studies.attacks.attack import Attack
from labctl.studies.attacks.catalogue import ATTACKS
from labctl.studies.attacks.detection_cases import CASES

PNG = b"\x89PNG\r\n\x1a\n"
SMALL = ("--sizes", "16,12,4", "--pooled-modes", "120,1200", "--sessions", "8")
# Of a client, of a server, refused, and one that nothing detects.
EACH_KIND = ("tap", "hidden-tap", "chosen-inputs", "label-reading")


def invoked(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["attack", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def answer(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(invoked(*arguments, "--json"))
    return found


def test_list_names_every_attack() -> None:
    found = answer("list")["attacks"]
    assert [each["name"] for each in found] == list(ATTACKS)
    assert all(each["valid"] and each["summary"] for each in found)
    shown = invoked("list")
    assert "over-gain" in shown
    assert "outsider" in shown


def test_run_sets_the_mark_beside_its_estimate(model: str) -> None:
    """30 images of 4764 modes, seed 0; five standard errors."""
    found = answer(
        "run", "heterodyne-resend", "--strength", "0.3", "--images", "30", "--model", model
    )
    assert (found["attack"], found["party"], found["strength"]) == (
        "heterodyne-resend",
        "client",
        0.3,
    )
    mark, shown = found["mark"], found["mark_found"]
    assert mark == {"excess_noise": pytest.approx(0.6), "transmittance_ratio": pytest.approx(1.0)}
    for name in mark:
        assert shown[name] == pytest.approx(mark[name], abs=5.0 * shown[f"{name}_error"])
    assert found["caught"] is True
    assert "pooled noise" in found["failed"]
    assert found["detection_theory"]["either"] == pytest.approx(1.0)
    assert 0.1 < found["learned"]["weights_correlation"] < 1.0
    assert found["learned"]["weights_bits_per_real"] > 0.0
    assert any("untrusted" in sentence for sentence in found["assumptions"])
    assert found["verification"]["samples"] == 30 * (12 * 392 + 10 * 6)


def test_run_tells_people_the_same(model: str) -> None:
    shown = invoked(
        "run", "heterodyne-resend", "--strength", "0.3", "--images", "4", "--model", model
    )
    for words in ("learned", "mark, closed form", "mark, as estimated", "REJECTED", "assumes"):
        assert words in shown


def test_an_attack_that_leaves_no_trace_is_accepted(model: str) -> None:
    found = answer(
        "run", "hidden-tap", "--loss-db", "3", "--mu", "4", "--gain", "2", "--model", model
    )
    assert found["caught"] is False
    assert found["failed"] == []
    assert found["mark"] == {"excess_noise": 0.0, "transmittance_ratio": 1.0}
    assert found["learned"]["weights_correlation"] > 0.5


def test_what_a_dishonest_server_learned_is_told_without_theory(model: str) -> None:
    found = answer("run", "label-reading", "--images", "3", "--model", model, "--gain", "2")
    assert found["learned"]["samples"] == 3
    assert found["learned"]["label_success"] is not None
    assert found["detection_theory"] is None
    shown = invoked("run", "bright-probes", "--strength", "1e4", "--model", model)
    assert "with the data" in shown


def test_the_seed_decides_everything(model: str) -> None:
    asked = ("run", "tap", "--model", model, "--strength", "0.1")
    assert answer(*asked) == answer(*asked) != answer(*asked, "--seed", "1")


@pytest.mark.parametrize("names", [EACH_KIND, *long(ATTACKS)])
def test_compare_sets_attacks_side_by_side(
    names: Sequence[str], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attack, "ATTACKS", {name: ATTACKS[name] for name in names})
    found = answer("compare", "--model", model, "--labels", "2")
    rows = {row["attack"]: row for row in found["attacks"]}
    assert list(rows) == list(names)
    assert "loss_db" in rows["hidden-tap"]["refused"]
    assert rows["label-reading"]["modes_to_99_percent"] is None
    assert rows["chosen-inputs"]["modes_to_99_percent"] == {"0.001": None, "1e-06": None}
    needed = rows["tap"]["modes_to_99_percent"]
    assert 0 < needed["0.001"] < needed["1e-06"]
    assert found["modes_per_image"] == 4764


def test_compare_tells_people_what_could_not_be_mounted(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: ATTACKS[name] for name in ("hidden-tap", "tap", "bright-probes")}
    monkeypatch.setattr(attack, "ATTACKS", few)
    shown = invoked("compare", "--model", model, "--labels", "1")
    assert "hidden-tap: loss_db" in shown
    assert "ρ" in shown


def test_where_no_attack_can_stand_the_reason_is_told(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(name: str) -> Attack:
        raise SettingError("strength", 0.0, "above 0")

    monkeypatch.setattr(attack, "attack_of", refused)
    with pytest.raises(LabctlError, match="no attack could be mounted: strength"):
        _fail("compare", "--model", model, "--images-per-session", "1", "--labels", "1")


def test_a_curve_counts_beside_the_theory(tmp_path: Path) -> None:
    figure = tmp_path / "curve.png"
    asked = ("curve", "heterodyne-resend", "--strength", "0.4", *SMALL)
    found = answer(*asked, "--figure", str(figure))
    assert figure.read_bytes()[:8] == PNG
    assert (found["sizes"], found["modes_per_image"]) == ([16, 12, 4], 120)
    assert [(p["modes"], p["false_alarm_probability"]) for p in found["points"]] == [
        (120, 1e-3),
        (120, 1e-6),
        (1200, 1e-3),
        (1200, 1e-6),
    ]
    for point in found["points"]:
        pooled = point["pooled"]
        assert pooled["lower"] <= pooled["measured"] <= pooled["upper"]
        assert pooled["caught"] <= point["verdict"]["caught"]
    few, _, many, _ = (point["theory"] for point in found["points"])
    assert few < many
    half, most = found["needed"][:2]
    assert (half["power"], most["power"]) == (0.5, 0.99)
    assert half["modes"] < most["modes"]
    assert half["images"] == -(-half["modes"] // 120)
    assert found["agreement"]["counts"] > 0
    shown = invoked(*asked)
    assert "counts and theory" in shown
    assert "for 99% at 0.001" in shown


def test_a_curve_of_what_is_never_caught_says_so() -> None:
    shown = invoked("curve", "chosen-inputs", *SMALL)
    assert "no number of images" in shown


def test_a_model_may_take_the_place_of_a_random_network(model: str) -> None:
    found = answer("curve", "tap", "--model", model, "--pooled-modes", "4764", "--sessions", "2")
    assert found["sizes"] == [784, 12, 10]
    with pytest.raises(SettingError, match="left out where a model is given"):
        _fail("curve", "tap", "--model", model, "--sizes", "4,4")


def test_agreement_runs_the_cases_and_draws_them(tmp_path: Path) -> None:
    figure = tmp_path / "cases.png"
    asked = ["agreement", "--case", "tap", "--case", "own-laser", "--sessions-factor", "0.02"]
    found = answer(*asked, "--figure", str(figure))
    assert figure.read_bytes()[:8] == PNG
    assert [each["case"] for each in found["cases"]] == ["tap", "own-laser"]
    assert found["cases"][0]["left_out"] is None
    assert "later queries" in found["cases"][1]["left_out"]
    # Only what the theory describes counts: that of the tap.
    assert found["agreement"] == found["cases"][0]["agreement"]
    shown = invoked("agreement", "--case", "own-laser", "--sessions-factor", "0.01")
    assert "own laser" in shown
    assert "all cases" not in shown


def test_a_failure_on_the_way_leaves_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(attack_curve, "detection_curve", interrupted)
    figure = tmp_path / "curve.png"
    with pytest.raises(KeyboardInterrupt):
        attack_curve.curve("tap", modes="120", sessions=1, sizes="16,12,4", figure=figure)
    assert not figure.exists()


def _fail(*arguments: str) -> None:
    result = CliRunner().invoke(app, ["attack", *arguments])
    assert result.exception is not None
    raise result.exception


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "over-gian"), "did you mean over-gain"),
        (("run", "over-gain", "--strength", "1.1"), "at least the agreed gain"),
        (("run", "tap", "--strength", "2"), "share"),
        (("run", "tap", "--images", "0"), "images"),
        (("run", "tap", "--mu", "-1"), "--mu = -1.0: must be"),
        (("run", "tap", "--false-alarm-probability", "0"), "--false-alarm-probability = 0.0"),
        (("run", "hidden-tap"), "loss"),
        (("run", "label-reading", "--images", "100000"), "the server knows the others"),
        (("run", "tap", "--seed", "-1"), "seed"),
        (("curve", "label-reading", "--sizes", "784,2"), "server's own"),
        (("curve", "tap", "--pooled-modes", "x"), "numbers with commas"),
        (("curve", "tap", "--pooled-modes", "1.5"), "whole numbers"),
        (("curve", "tap", "--pooled-modes", "inf"), "finite"),
        (("curve", "tap", "--pooled-modes", "5"), "12 or more"),
        (("curve", "tap", "--pooled-modes", "1e12", "--sizes", "4,4"), "modes"),
        (("curve", "tap", "--sessions", "0", *SMALL[:4]), "sessions"),
        (
            ("curve", "tap", "--false-alarm-probabilities", "2", *SMALL),
            "--false-alarm-probabilities = 2.0",
        ),
        (("curve", "tap", "--sizes", "4"), "two or more"),
        (("agreement", "--case", "x"), f"one of {next(iter(CASES))}"),
        (("agreement", "--sessions-factor", "0"), "--sessions-factor"),
        (("agreement", "--sessions-factor", "nan"), "--sessions-factor"),
        (("agreement", "--seed", "-1"), "seed"),
    ],
)
def test_what_cannot_be_done_is_refused(arguments: Sequence[str], said: str, model: str) -> None:
    more = ("--model", model) if arguments[0] == "run" else ()
    with pytest.raises(SettingError, match=said):
        _fail(*arguments, *more)


@pytest.mark.parametrize("command", [("curve", "tap", *SMALL), ("agreement",)])
def test_a_figure_needs_a_folder(command: Sequence[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        _fail(*command, "--figure", str(tmp_path / "nowhere" / "x.png"))
