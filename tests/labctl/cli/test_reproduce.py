"""`labctl reproduce` writes the figures that are asked for, or says on one line why not."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from labctl.cli.reproduce import reproduce
from labctl.errors import LabctlError, ModelError, SettingError, UsageError
from labctl.studies.reproduce import run
from labctl.studies.reproduce.ours import F_GRID

app = typer.Typer()
app.command()(reproduce)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def printed(*arguments: str) -> dict[str, object]:
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    values: dict[str, object] = json.loads(result.stdout)
    return values


def refusal(*arguments: str) -> LabctlError:
    raised = CliRunner().invoke(app, list(arguments)).exception
    assert isinstance(raised, LabctlError), raised
    return raised


def test_closed_forms_need_no_images(tmp_path: Path) -> None:
    values = printed("loss", "--out", "figures", "--vector", "svg", "--images", "1")
    kinds = ("csv", "json", "png", "svg")
    expected = [*(f"figures/reproduction-loss.{kind}" for kind in kinds), "figures/reproduction.md"]
    assert values["files"] == expected
    found = sorted(f"figures/{path.name}" for path in (tmp_path / "figures").iterdir())
    assert found == sorted(expected)
    figures = values["figures"]
    assert isinstance(figures, list)
    assert [figure["name"] for figure in figures] == ["loss"]
    assert all(figure["differences"] and figure["assumptions"] for figure in figures)
    record = json.loads((tmp_path / "figures/reproduction-loss.json").read_text("utf-8"))
    assert record["provenance"]["images"] is None
    assert record["provenance"]["command"].startswith("labctl reproduce loss --out figures")


def test_accuracies_are_those_of_the_images_and_networks_given(
    tmp_path: Path, tiny_network: str, pictures: str
) -> None:
    options = ("--models", tiny_network, "--data", pictures, "--images", "12", "--noise-runs", "1")
    printed("accuracy", "leakage-plane", "--out", "one", "--seed", "5", *options)
    with (tmp_path / "one/reproduction-accuracy.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["series"] == "ours, tiny"]
    assert len(rows) == 2 * len(F_GRID)
    twelfths = [float(row["y"]) * 12.0 / 100.0 for row in rows]
    assert twelfths == pytest.approx([round(value) for value in twelfths])
    record = json.loads((tmp_path / "one/reproduction-accuracy.json").read_text("utf-8"))
    made = record["provenance"]
    assert (made["images"]["count"], made["runs"], made["seed"]) == (12, 1, 5)
    assert [network["name"] for network in made["networks"]] == ["tiny"]
    printed("leakage-plane", "--out", "two", "--seed", "5", *options)
    for name in ("leakage-plane.csv", "leakage-plane.png"):
        first, second = (tmp_path / folder / f"reproduction-{name}" for folder in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()


def test_people_get_the_differences_as_tables() -> None:
    result = CliRunner().invoke(app, ["technical-noise"], catch_exceptions=False)
    assert "Leakage against technical noise" in result.stdout
    assert "0.309" in result.stdout
    assert "4 files in labctl-runs/reproduction" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["frequency"], SettingError, "accuracy, leakage-plane, width, loss, technical-noise"),
        (["loss", "loss"], SettingError, "each once"),
        (["loss", "--vector", "gif"], SettingError, "png, pdf, svg"),
        (["loss", "--noise-runs", "0"], SettingError, "1 to 1000"),
        (["loss", "--seed", "-1"], SettingError, "0 or more"),
        (["loss", "--images", "0"], SettingError, "1 to 10000"),
        (["loss", "--models", "reference,"], SettingError, "--models"),
        (["loss", "--models", "reference,reference"], SettingError, "different names"),
        (["loss", "--models", "referense"], ModelError, "did you mean 'reference'"),
        (["loss", "--data", "nowhere"], UsageError, "nowhere"),
    ],
)
def test_refusals_name_what_is_valid(
    arguments: list[str], error: type[LabctlError], words: str
) -> None:
    raised = refusal(*arguments)
    assert isinstance(raised, error)
    assert words in str(raised)
    assert not Path("labctl-runs").exists()


def test_folder_is_made_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert "file: no folder to write to" in str(refusal("accuracy", "--out", "file"))


def test_interruption_leaves_whole_figures_and_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(run._CLOSED_FORMS, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        reproduce(["width", "loss"], out=tmp_path / "out", images=1)
    assert stopped.value.__notes__ == [f"3 whole files are in {tmp_path / 'out'}"]
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".csv", ".json", ".png"]
