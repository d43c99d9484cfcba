"""The glossary explains each term that the pages use once; the index has a line for each page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
GLOSSARY = (DOCS / "glossary.md").read_text(encoding="utf-8")
PAGES = {
    page.name: page.read_text(encoding="utf-8")
    for page in DOCS.glob("*.md")
    if page.name != "glossary.md"
}
# Terms of the field, and ours, that a newcomer looks up.
TERMS = (
    "block",
    "budget",
    "calibration",
    "capability",
    "check",
    "classes alone",
    "clearance",
    "clone",
    "codebook",
    "collective",
    "copy",
    "decoys",
    "disguise",
    "dither",
    "evidence",
    "failure probability",
    "false-alarm probability",
    "heterodyne",
    "homodyne",
    "honest figure",
    "journal",
    "kick",
    "loud",
    "memory",
    "mode",
    "mode level",
    "nat",
    "peak limit",
    "pilot",
    "principal",
    "prior-free",
    "probation",
    "public guess",
    "public subspace",
    "QND",
    "quota",
    "real share",
    "role",
    "rotation",
    "safe state",
    "spend",
    "stale",
    "stand-in",
    "tap",
    "technical noise",
    "thief",
    "turn",
    "verdict",
)
ENTRIES = re.findall(r"^\*\*(.+?)\.?\*\*", GLOSSARY, re.MULTILINE)
# An entry may explain a second term: "**Budget.** ... **Quota**: the most queries."
MARKED = re.findall(r"\*\*([^*]+)\*\*", GLOSSARY)


@pytest.mark.parametrize("term", TERMS)
def test_a_term_that_pages_use_has_an_entry(term: str) -> None:
    word = re.compile(rf"\b{re.escape(term)}", re.IGNORECASE)
    assert any(word.search(text) for text in PAGES.values()), "no page uses it"
    assert any(word.search(entry) for entry in MARKED)


def test_no_term_has_two_entries() -> None:
    lower = [entry.lower() for entry in ENTRIES]
    assert sorted({entry for entry in lower if lower.count(entry) > 1}) == []


def test_the_index_has_a_line_for_each_page() -> None:
    listed = PAGES["index.md"].split("## All pages")[1].split("## Decisions")[0]
    lines = re.findall(r"^\* \[[^\]]+\]\(([\w./-]+)\): \S.+$", listed, re.MULTILINE)
    assert sorted(set(PAGES) - {"index.md"} | {"glossary.md"}) == sorted(
        line for line in lines if "/" not in line and line.endswith(".md")
    )
