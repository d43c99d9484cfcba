"""Entry points are searched once, and again after something was installed or taken away."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path

import pytest

from labctl.entry_points import entry_points

GROUP = "labctl.drivers"


def install(folder: Path, name: str) -> Path:
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(
        f"[{GROUP}]\n{name} = nowhere:{name}\n", encoding="utf-8"
    )
    return metadata


def names() -> set[str]:
    return {point.name for point in entry_points(group=GROUP)}


def test_it_finds_what_the_standard_library_finds() -> None:
    found = importlib.metadata.entry_points(group=GROUP)
    assert set(entry_points(group=GROUP)) == set(found)
    assert entry_points(group="labctl.no_such_group") == ()


def test_a_second_search_reads_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(**_: str) -> None:
        raise AssertionError("searched again")

    before = entry_points(group=GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", search)
    assert entry_points(group=GROUP) is before


def test_what_is_installed_and_taken_away_meanwhile_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = names()
    monkeypatch.syspath_prepend(tmp_path)
    assert names() == shipped
    second_ns = 1_000_000_000
    metadata = install(tmp_path, "own_source")
    # A folder's time has steps of some milliseconds, in which the test may have come so far.
    os.utime(tmp_path, ns=(second_ns, second_ns))
    assert names() == {*shipped, "own_source"}
    shutil.rmtree(metadata)
    os.utime(tmp_path, ns=(2 * second_ns, 2 * second_ns))
    assert names() == shipped
    monkeypatch.setattr("sys.path", ["", "/no/such/folder", *sys.path])
    assert names() == shipped
