"""The page on the architecture says nothing of layers, contracts and folders that is not so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = PROJECT["tool"]["importlinter"]["contracts"]
PLACES: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]


def modules(layer: str) -> list[str]:
    return re.findall(r"[\w.]+", layer)


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_layers_drawn_are_in_the_order_of_the_contract() -> None:
    drawn = re.search(r"^```\n(.*?)^```", section("Layers"), re.MULTILINE | re.DOTALL)
    assert drawn is not None
    layers = next(each for each in CONTRACTS if each["id"] == "layers")["layers"]
    place = {name: height for height, layer in enumerate(layers) for name in modules(layer)}
    heights = [{place[name] for name in modules(line)} for line in drawn[1].strip().splitlines()]
    assert all(len(each) == 1 for each in heights)
    flat = [each.pop() for each in heights]
    assert len(flat) > 8
    assert flat == sorted(flat)


def test_the_contracts_named_are_there() -> None:
    named = re.findall(r"^\| ([a-z-]+) \|", section("Contracts"), re.MULTILINE)[1:]
    assert len(named) > 4
    assert set(named) <= {each["id"] for each in CONTRACTS}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_and_their_parts_are_on_the_page(package: str) -> None:
    """All but what is inside a part: `labctl.studies.attacks.copies`, drivers by kind."""
    names = package.split(".")
    if len(names) < 3:
        assert f"`{package}`" in section("Folders")
    elif len(names) == 3 and names[1] in ("protocols", "calibration", "studies"):
        assert f"`{names[2]}/`" in section("Folders")


def test_folders_on_the_page_are_there() -> None:
    named = re.findall(r"^\| `([\w/]+)/`", section("Folders"), re.MULTILINE)
    assert set(PLACES.values()) <= set(named)
    assert [name for name in named if not (ROOT / name).is_dir()] == []
