"""A report can be looked at and computed with, and nothing in it depends on another file."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labctl.data.models import Network
from labctl.errors import SettingError, UsageError
from labctl.studies.training.evaluation import MeasuredAccuracy
from labctl.studies.training.loop import EpochReport, TrainingSettings
from labctl.studies.training.report import TrainingReport, write_report

EPOCHS = (
    EpochReport(1, 3, 2.0, 0.3, 2.1, 0.25, best=True),
    EpochReport(2, 3, 1.0, 0.6, 1.2, 0.55, best=True),
    EpochReport(3, 3, 0.8, 0.7, 1.3, 0.54, best=False),
)
REPORT = TrainingReport(
    network=Network((np.eye(3, 4, dtype=np.float32),), "<mine>", {"epochs done": "3"}),
    settings=TrainingSettings(sizes=(4, 3), signal_to_noise=(0.2, 0.5), held_out=0.1),
    epochs=EPOCHS,
    measured_on="300 held-out images",
    accuracies=(
        MeasuredAccuracy(0.3, 0.5, 0.03, 0.48, 0.52, 300, 5),
        MeasuredAccuracy(1.0, 0.7, 0.03, 0.68, 0.71, 300, 5),
        MeasuredAccuracy(math.inf, 0.9, 0.02, 0.9, 0.9, 300, 1),
    ),
    confusion=np.array([[90, 10, 0], [5, 95, 0], [0, 0, 100]]),
    confusion_signal_to_noise=0.3,
    class_names=("cat", "d&g", "eel"),
    seconds=12.0,
)


def test_json_holds_every_figure(tmp_path: Path) -> None:
    write_report(tmp_path / "run.json", REPORT)
    found = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert found["sha256"] == REPORT.network.sha256
    assert [epoch["held_out_loss"] for epoch in found["epochs"]] == [2.1, 1.2, 1.3]
    assert [point["signal_to_noise"] for point in found["accuracies"]] == [0.3, 1.0, None]
    assert found["confusion"] == [[90, 10, 0], [5, 95, 0], [0, 0, 100]]
    assert found["class_names"] == ["cat", "d&g", "eel"]
    assert found["settings"]["signal_to_noise"] == [0.2, 0.5]


def test_a_page_needs_no_other_file_and_shows_names_as_they_are(tmp_path: Path) -> None:
    write_report(tmp_path / "run.html", REPORT)
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "Training of &lt;mine&gt;" in page
    assert "<td>F = 0.3</td><td>50.00% (44.20 to 55.80)</td>" in page
    assert "<td>no noise</td><td>90.00% (86.03 to 93.15)</td>" in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_a_figure_is_drawn_for_every_kind_of_run(tmp_path: Path) -> None:
    """With many classes, without held-out images, with one epoch, without noise."""
    many = replace(
        REPORT,
        settings=TrainingSettings(sizes=(4, 30)),
        epochs=(EpochReport(1, 1, 3.0, 0.1),),
        accuracies=REPORT.accuracies[-1:],
        confusion=np.zeros((30, 30), np.int64),
        confusion_signal_to_noise=math.inf,
        class_names=(),
    )
    assert many.names[-1] == "29"
    for name, report in (("few", REPORT), ("many", many)):
        path = tmp_path / f"{name}.png"
        write_report(path, report)
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert path.stat().st_size > 20_000


def test_a_report_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"must be a path that ends with \.html, \.png or"):
        write_report(tmp_path / "run.pdf", REPORT)
    with pytest.raises(UsageError, match="absent: no such folder"):
        write_report(tmp_path / "absent" / "run.json", REPORT)
    (tmp_path / "run.json").mkdir()
    with pytest.raises(UsageError, match=r"run\.json: cannot be written"):
        write_report(tmp_path / "run.json", REPORT)
