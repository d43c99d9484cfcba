"""Figures are written as PNGs of a readable size."""

from __future__ import annotations

import struct
from pathlib import Path

from labctl.studies.reproduce.accuracy_leakage import Point, Series, accuracy_against_leakage


def test_accuracy_figure_is_a_png_of_twelve_hundred_pixels(tmp_path: Path) -> None:
    points = [Point("", 0.90 + 0.01 * k, 0.0, 0.002 * 2**k) for k in range(6)]
    marked = [Point("here", 0.97, 0.002, 0.004)]
    path = tmp_path / "figure.png"
    accuracy_against_leakage(path, [Series("network", points)], marked, "assumes nothing")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert struct.unpack(">II", content[16:24]) == (1200, 780)


def test_points_change_the_picture(tmp_path: Path) -> None:
    pictures = []
    for accuracy in (0.90, 0.97):
        path = tmp_path / f"{accuracy}.png"
        accuracy_against_leakage(path, [], [Point("here", accuracy, 0.0, 0.01)], "")
        pictures.append(path.read_bytes())
    assert pictures[0] != pictures[1]
