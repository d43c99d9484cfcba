"""Pages are read once: no sentence of README.md and docs/ has more than 45 words.

Tables and blocks of code do not count.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Twice what reads well, about 25 words: the figures and conditions of one statement still fit.
MOST_WORDS = 45

FENCED_CODE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
INDENTED_CODE = re.compile(r"(?<=\n\n)(?: {4,}(?![-*] |\d+\. ).*\n)+")
TABLE_OR_HEADING = re.compile(r"^ *(?:\|.*\||#.*)$", re.MULTILINE)
LIST_ITEM = re.compile(r"^ *(?:[-*]|\d+\.) ", re.MULTILINE)
BLANK_LINES = re.compile(r"\n\s*\n")
# A stop ends a sentence, also in brackets, quotes or emphasis.
END = re.compile(r"[.?!][)\]\"”*]*(?=\s|$)")
ABBREVIATION = re.compile(r"\b(?:al|e\.g|i\.e|cf|vs|Fig|Eq|No)\.$")


def paragraphs(markdown: str) -> list[str]:
    """Return the paragraphs and list items of a page, each on one line."""
    text = FENCED_CODE.sub("\n", markdown)
    text = INDENTED_CODE.sub("\n", text)
    text = TABLE_OR_HEADING.sub("\n", text)
    text = LIST_ITEM.sub("\n\n", text)
    return [" ".join(block.split()) for block in BLANK_LINES.split(text) if block.strip()]


def sentences(paragraph: str) -> list[str]:
    """Return the sentences of a paragraph, in order."""
    ends = (match.end() for match in END.finditer(paragraph))
    stops = [end for end in ends if ABBREVIATION.search(paragraph[:end]) is None]
    cuts = [0, *stops, len(paragraph)]
    parts = (paragraph[a:b].strip() for a, b in pairwise(cuts))
    return [part for part in parts if part]


def too_long(markdown: str) -> list[str]:
    """Return the sentences of a page with too many words, the number of words before each."""
    return [
        f"{len(sentence.split())} words: {sentence}"
        for paragraph in paragraphs(markdown)
        for sentence in sentences(paragraph)
        if len(sentence.split()) > MOST_WORDS
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_sentence_of_a_page_is_too_long(page: Path) -> None:
    assert too_long(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        ("Light is weak. Is it? 3 modes.", ["Light is weak.", "Is it?", "3 modes."]),
        ("ε is noise. μ is light", ["ε is noise.", "μ is light"]),
        ("F falls (by 0.5 %.) It stays.", ["F falls (by 0.5 %.)", "It stays."]),
        ("**It holds.** T = 0.9; G = 2.", ["**It holds.**", "T = 0.9; G = 2."]),
        ("Sulimany et al. say so, e.g. in Fig. 3.", ["Sulimany et al. say so, e.g. in Fig. 3."]),
        ("It is an interval. Not more.", ["It is an interval.", "Not more."]),
        ("See `labctl.protocols`: all of it", ["See `labctl.protocols`: all of it"]),
    ],
)
def test_a_sentence_ends_at_a_stop(paragraph: str, expected: list[str]) -> None:
    assert sentences(paragraph) == expected


@pytest.mark.parametrize(
    "page",
    [
        "Before.\n\n{}\n\nAfter.\n",
        "Before:\n- {}\n- another item\n",
        "1. first\n   - {}\n2. second\n",
        "```\ncode\n```\n{}\n",
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n{}\n",
        "# Heading\n\nBefore. {} After.\n",
        "Before\n|x|. {}\n",
    ],
)
def test_a_long_sentence_is_found_where_it_is(page: str) -> None:
    assert too_long(page.format("word " * 44 + "end.")) == []
    assert too_long(page.format("word " * 45 + "end.")) == ["46 words: " + "word " * 45 + "end."]


@pytest.mark.parametrize(
    "page",
    [
        "Before:\n\n```\n{}\n```\n\nAfter.\n",
        "- item\n\n  ```python\n  {}\n  ```\n",
        "Before:\n\n    {}\n    second line\n\nAfter.\n",
        "| a |\n|---|\n| {} |\n",
        "- item\n\n  | a |\n  |---|\n  | {} |\n",
        "## {}\n",
    ],
)
def test_code_tables_and_headings_do_not_count(page: str) -> None:
    assert too_long(page.format("word " * 60)) == []


def test_items_of_a_list_are_read_one_by_one() -> None:
    item = "word " * 30
    assert too_long(f"Before:\n\n- {item}\n- {item}\n\n{item}\n") == []
