"""A page of docs/ links the glossary before it uses a symbol; the glossary defines each symbol."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
GLOSSARY = DOCS / "glossary.md"
PAGES = sorted(page for page in DOCS.glob("*.md") if page != GLOSSARY)
# As they stand in a text; μ in front of a letter is a unit's prefix, T behind a number is a tesla.
SYMBOLS = {
    "μ": r"μ(?![A-Za-zΩ])",
    "G": r"\bG\b",
    "F": r"\bF\b",
    "SNU": r"\bSNU\b",
    "T": r"\bT\b",
    "ε": "ε",
    "n_sp": r"\bn_sp\b",
    "δ": "δ",
    "J": r"\bJ\b",
}
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def first_use(text: str, pattern: str) -> int | None:
    """Return where a symbol is first used outside code, None if nowhere."""
    found = re.search(pattern, CODE.sub(lambda code: " " * len(code.group()), text))
    return None if found is None else found.start()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_symbol_is_used_after_the_link_to_the_glossary(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    link = text.find("](glossary.md")
    uses = {name: first_use(text, pattern) for name, pattern in SYMBOLS.items()}
    early = [name for name, at in uses.items() if at is not None and not 0 <= link < at]
    assert early == []


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_the_glossary_defines_the_symbol(symbol: str) -> None:
    rows = [
        line.split("|")[1]
        for line in GLOSSARY.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    assert any(symbol in re.split(r"[ ,]+", row.strip()) for row in rows)


def test_the_index_names_every_page_and_every_decision_once() -> None:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([\w/-]+\.md)\)", text)
    pages = {page.name for page in DOCS.glob("*.md")} - {"index.md"}
    decisions = {f"decisions/{page.name}" for page in (DOCS / "decisions").glob("*.md")}
    assert sorted(decisions - set(linked)) == []
    assert sorted(pages - set(linked)) == []
