"""One word, one thing: a public class of the product's core has one home, and studies leave it so.

The core is what a physicist and the protocol speak of. A simulated instrument speaks its maker's
language, and a study's own words may recur in another study.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ("labctl", "instruments/transports", "dsp", "calibration", "data", "protocols")


def homes(*folders: str) -> dict[str, list[str]]:
    """Return the modules of each public class of these folders."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    return found


def clashes(*more: str) -> dict[str, list[str]]:
    """Return the names of the core that have another home there or in `more` folders."""
    core, everywhere = homes(*CORE), homes(*CORE, *more)
    return {name: everywhere[name] for name in core if len(everywhere[name]) > 1}


def test_a_class_name_of_the_core_has_one_home() -> None:
    assert clashes() == {}


def test_studies_take_no_name_of_the_core() -> None:
    assert clashes("studies") == {}


def test_the_channel_takes_no_name_of_the_core() -> None:
    assert clashes("parties") == {}


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("Blocks", "protocols/encoding.py"),
        ("Link", "protocols/link.py"),
        ("Station", "labctl/station/station.py"),
        ("Record", "calibration/record.py"),
    ],
)
def test_the_search_sees_whole_folders(name: str, home: str) -> None:
    assert homes(*CORE, "studies")[name] == [home]
