"""Files of a figure: the same values in all, pictures that can be printed, nothing in part."""

from __future__ import annotations

import csv
import io
import json
import re
import struct
from pathlib import Path

import matplotlib as mpl
import pytest

from labctl.cli.reproduce import DEFAULT_MODELS
from labctl.data.models import load_network
from labctl.errors import UsageError
from labctl.studies.reproduce import leakage, noise
from labctl.studies.reproduce.drawing import draw
from labctl.studies.reproduce.files import write_figure, write_whole

_PROVENANCE = {"command": "labctl reproduce width", "versions": {"labctl": "1"}, "networks": []}
_SIZES = re.compile(r"font-size: ([0-9.]+)px")


def test_table_and_record_hold_every_value_of_every_series(tmp_path: Path) -> None:
    figure = leakage.against_loss()
    files = write_figure(figure, tmp_path, _PROVENANCE, ("png",))
    assert [path.name for path in files] == [
        "reproduction-loss.csv",
        "reproduction-loss.json",
        "reproduction-loss.png",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in files]
    rows = list(csv.DictReader(io.StringIO(files[0].read_text(encoding="utf-8"))))
    expected = [
        (panel.title, series.label, str(series.origin), x, y)
        for panel in figure.panels
        for series in panel.series
        for x, y in zip(series.x, series.y, strict=True)
    ]
    found = [
        (row["panel"], row["series"], row["origin"], float(row["x"]), float(row["y"]))
        for row in rows
    ]
    assert found == expected
    record = json.loads(files[1].read_text(encoding="utf-8"))
    assert record["assumptions"] == list(figure.assumptions)
    assert record["provenance"] == _PROVENANCE
    assert record["panels"][0]["series"][0]["y"] == list(figure.panels[0].series[0].y)
    assert len(record["differences"]) == len(figure.differences)


def test_table_holds_every_value_of_a_map(tmp_path: Path) -> None:
    figure = noise.against_noise()
    files = write_figure(figure, tmp_path, _PROVENANCE, ())
    rows = list(csv.DictReader(io.StringIO(files[0].read_text(encoding="utf-8"))))
    colours = figure.panels[0].colours
    assert colours is not None
    found = [row for row in rows if row["panel"] == figure.panels[0].title]
    assert [float(row["y"]) for row in found] == [y for line in colours.values for y in line]
    assert float(found[0]["level"]) == colours.y[0]
    assert float(found[-1]["x"]) == colours.x[-1]
    assert {row["origin"] for row in found} == {"theirs"}


def test_picture_is_seven_inches_wide_and_the_same_every_time() -> None:
    figure = noise.against_noise()
    png = draw(figure, "png")
    assert png == draw(figure, "png")
    assert png.startswith(b"\x89PNG")
    width, _ = struct.unpack(">II", png[16:24])
    assert width == 7 * 200
    assert figure.caption.encode("utf-8")[:40] in png


@pytest.mark.parametrize(("kind", "start"), [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_vector_pictures(kind: str, start: bytes) -> None:
    drawn = draw(leakage.against_width(), kind)
    assert drawn.startswith(start)
    assert b"CreationDate" not in drawn
    assert b"<dc:date>" not in drawn


def test_nothing_is_printed_smaller_than_eight_points_but_indices() -> None:
    with mpl.rc_context({"svg.fonttype": "none"}):
        drawn = draw(leakage.against_width(), "svg").decode()
    # Text of one piece; formulas and powers of ten are made of several, with their indices.
    plain = [line for line in drawn.splitlines() if "<text" in line and "</text>" in line]
    sizes = [float(size) for line in plain for size in _SIZES.findall(line)]
    assert len(sizes) > 10
    assert min(sizes) >= 8.0


def test_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        write_whole(taken, b"content")
    assert list(tmp_path.iterdir()) == [taken]
    file = write_whole(tmp_path / "new" / "file", b"content")
    with pytest.raises(UsageError, match="cannot be written"):
        write_whole(file / "below", b"content")


def test_documented_accuracies_are_those_of_the_networks_as_shipped() -> None:
    page = Path(__file__).parents[3] / "docs" / "reproduction.md"
    text = page.read_text(encoding="utf-8")
    for name in DEFAULT_MODELS.split(","):
        assert load_network(name).sha256 in text, "labctl reproduce writes it again"
