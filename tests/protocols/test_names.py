"""One word, one thing: no public class of protocols, runs, calibration and dsp has two homes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("protocols", "labctl/run", "calibration", "dsp")


def homes() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    return found


HOMES = homes()


@pytest.mark.parametrize("name", sorted(HOMES))
def test_a_class_name_has_one_home(name: str) -> None:
    assert len(HOMES[name]) == 1, HOMES[name]
