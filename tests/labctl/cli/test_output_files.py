"""Files that a command will write are refused before its work, where they cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from labctl.cli import app, output
from labctl.errors import SettingError, UsageError

# Each without any work: the file is refused first.
DRAWING = (
    ("plan", "--accuracy", "0.96"),
    ("attack", "curve", "tap"),
    ("attack", "queries", "own-laser"),
    ("attack", "agreement"),
    ("copies", "measure"),
    ("countermeasures",),
    ("label-attack",),
    ("sweep", "absent.toml"),
    ("ledger", "show"),
)


@pytest.mark.parametrize("command", DRAWING, ids=" ".join)
def test_a_figure_has_the_name_of_a_png_file(command: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*command, "--figure", "figure.txt"])
    assert isinstance(done.exception, SettingError)
    assert str(done.exception) == "--figure = 'figure.txt': must be a name that ends in .png"


@pytest.mark.parametrize("command", DRAWING, ids=" ".join)
def test_a_folder_is_no_figure(command: tuple[str, ...], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*command, "--figure", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert "is a folder; must be a file to write" in str(done.exception)


def test_a_file_in_no_folder_is_refused(tmp_path: Path) -> None:
    output.require_folder(None)
    output.require_folder(tmp_path / "table.csv")
    with pytest.raises(UsageError, match="no such folder"):
        output.require_folder(tmp_path / "absent" / "table.csv")


def test_a_file_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UsageError, match="cannot be written; must be a file that you may write"):
        output.require_folder(tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("false-alarms", "--inputs", "999999999"), "weights"),
        (("false-alarms", "--hidden-neurons", "99999999999999999999"), "weights"),
        (("false-alarms", "--sessions", "999999999"), "sessions = 999999999: must be 1 to"),
        (
            ("false-alarms", "--images-per-session", "999999999"),
            "--images-per-session = 999999999: must be 1 to",
        ),
        (("attack", "curve", "tap", "--pooled-modes", "999999999"), "weights"),
        (("attack", "curve", "tap", "--sizes", "9999999,9999999,10"), "weights"),
        (("attack", "curve", "tap", "--sizes", "4,4,2", "--sessions", "999999999"), "sessions"),
        (
            ("attack", "curve", "tap", "--calibration-samples", str(10**20)),
            "--calibration-samples = 1",
        ),
        (
            ("attack", "queries", "own-laser", "--monitor-samples", str(10**20)),
            "--monitor-samples = 1",
        ),
        (("attack", "compare", "--labels", "0"), "--labels = 0: must be 1 to 10000"),
        (("attack", "compare", "--images-per-session", "0"), "--images-per-session = 0"),
        (("attack", "curve", "tap", "--efficiency", "1e-308"), "efficiency = 1e-308: must be 1e-6"),
        (("attack", "curve", "tap", "--electronic-noise", "1e308"), "--electronic-noise = 1e+308"),
        (("copies", "show", "--query-counts", "1e308"), "whole numbers 1 to 1e+15"),
        (("countermeasures", "--bits-limit", "1e308"), "--bits-limit = 1e+308"),
        (("plan", "--accuracy", "0.9", "--data-bits", "1e308"), "--data-bits = 1e+308"),
        (("plan", "--accuracy", "0.9", "--noise-runs", "0"), "runs = 0: must be 1 to 1000"),
        (("label-attack", "--mu", "nan"), "--mu = nan"),
        (("sweep", "absent.toml", "--processes", "0"), "--processes = 0: must be 1 to 256"),
        (("attack", "curve", "absent"), "attack = 'absent'"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_counts_beyond_reach_are_refused_before_any_work(
    arguments: tuple[str, ...], said: str
) -> None:
    done = CliRunner().invoke(app, [*arguments])
    assert isinstance(done.exception, UsageError), done.exception
    assert said in str(done.exception)
