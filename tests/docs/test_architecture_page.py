"""The page on the architecture names the layers, contracts and folders that there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRACTS = PROJECT["tool"]["importlinter"]["contracts"]


def test_the_layers_are_those_of_the_contract() -> None:
    drawn = re.search(r"^```\n(labctl\.__main__.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert drawn is not None
    layers = next(each for each in CONTRACTS if each["id"] == "layers")["layers"]
    assert drawn[1].strip().splitlines() == layers


def test_the_contracts_are_those_of_the_project() -> None:
    table = PAGE.split("## Contracts")[1].split("##")[0]
    assert set(re.findall(r"^\| ([a-z-]+) \|", table, re.MULTILINE)) - {"contract"} == {
        each["id"] for each in CONTRACTS
    }


def test_every_folder_of_packages_is_on_the_page() -> None:
    folders = re.findall(r"`([\w/]+)/`", PAGE.split("## Folders")[1].split("##")[0])
    places: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
    assert set(places.values()) <= set(folders)
    assert all((ROOT / folder).is_dir() or folder in BELOW for folder in folders)
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        layer, _, part = package.removeprefix("labctl.").partition(".")
        if part and "." not in part and layer != "instruments":
            assert f"`{part}/`" in PAGE or f"/{part}/`" in PAGE, package
        elif not part:
            assert f"`{package}`" in PAGE, package


# Folders named below their parent's row.
BELOW = {
    "transports",
    "codecs",
    "frames",
    "physics",
    "panels",
    "doors",
    "routines",
    "leakage",
    "verification",
    "ledger",
    "hiding",
    "probation",
    "attacks",
    "countermeasures",
    "planner",
    "training",
}
