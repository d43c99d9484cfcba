"""The examples in docstrings give what they print."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Folders and the names that they are imported by.
PACKAGES = {
    "labctl": "labctl",
    "instruments": "labctl.instruments",
    "dsp": "labctl.dsp",
    "calibration": "labctl.calibration",
    "protocols": "labctl.protocols",
    "data": "labctl.data",
    "parties": "labctl.parties",
    "studies": "labctl.studies",
}
FILES = [
    path
    for folder in PACKAGES
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def module_of(path: Path) -> str:
    """Return the name by which a file of the repository is imported."""
    folder, *rest = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([PACKAGES[folder], *(part for part in rest if part != "__init__")])


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_examples_give_what_they_print(path: Path) -> None:
    module = import_module(module_of(path))
    found = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    written = sum(">>> " in line for line in path.read_text(encoding="utf-8").splitlines())
    assert sum(len(test.examples) for test in found) == written
    report: list[str] = []
    for test in found:
        doctest.DocTestRunner().run(test, out=report.append)
    assert "".join(report) == ""


def test_units_codecs_and_closed_forms_have_examples() -> None:
    named = {module_of(path) for path in FILES}
    assert named >= {
        "labctl.units",
        "labctl.addresses",
        "labctl.instruments.codecs.ieee488",
        "labctl.instruments.codecs.itla",
        "labctl.instruments.codecs.scpi_values",
        "labctl.protocols.receiver",
        "labctl.protocols.leakage.holevo",
        "labctl.calibration.quantity",
        "labctl.face.runs",
    }
