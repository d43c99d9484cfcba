"""Texts say things in words that a reader from any country knows: none of the phrases below."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (
    "benchmarks",
    "calibration",
    "data",
    "docs",
    "dsp",
    "examples",
    "instruments",
    "labctl",
    "parties",
    "protocols",
    "studies",
    "tests",
)
FILES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".md"} and path != Path(__file__)
)
# What not to write, and what to write instead.
UNPLAIN = {
    # "of its own network" is plain.
    r"of (its|their|one's|our|your) own(?=[.,;:)]| (?:and|for|in|on|per|to|with)\b)": (
        "its own clock, a separate folder, your own data"
    ),
    r"stands? for": "means, replaces, represents, is",
    r"brings?|brought|bringing": "adds, has, gives, sets, needs",
    r"so many": "this many, the number of, or the parameter's name",
    r"told": "given, stated, reported, known",
    r"put up with": "maximum",
    r"whatever|whoever|wherever|whichever": "any, for any, the one that, someone who",
    r"lest|thereby|hence|thus|therein|thereof": "so, then",
    r"anew|once more": "again",
    r"by lot": "at random",
    r"hangs? (together|on)": "are correlated, depends on",
    r"hears?|heard": "is called with, sees, gets",
    r"till": "until",
    r"in the place of": "instead of, in place of",
    r"put right": "corrected",
    r"likeness": "similarity",
    r"is due": "is expected",
    r"goes by": "uses",
    r"(is|to be|can be) had": "exists, is known",
}
PATTERNS = {phrase: re.compile(rf"\b(?:{phrase})(?!\w)", re.IGNORECASE) for phrase in UNPLAIN}
ANY = re.compile("|".join(pattern.pattern for pattern in PATTERNS.values()), re.IGNORECASE)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose_of_python(source: str) -> list[tuple[int, str]]:
    """Return comments and strings of several words by line.

    Without what an f-string inserts. A string of one word is a name.
    """
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found.append((token.start[0], token.string))
        elif "STRING" in tokenize.tok_name[token.type]:
            text = re.sub(r"\{[^{}]*\}", "", token.string)
            lines = enumerate(text.splitlines(), token.start[0])
            found += [(line, part) for line, part in lines if " " in part.strip()]
    return found


def prose_of(path: Path) -> list[tuple[int, str]]:
    """Return what a file says to its readers, by line."""
    text = path.read_text(encoding="utf-8")
    if ANY.search(text) is None:
        return []
    if path.suffix == ".py":
        return prose_of_python(text)
    return list(enumerate(re.sub(r"`[^`\n]*`", "", text).splitlines(), 1))


def unplain(lines: list[tuple[int, str]]) -> list[str]:
    """Return each phrase of the list, with its line and what to write instead."""
    return [
        f"line {number}: {found[0]!r}; write: {UNPLAIN[phrase]}"
        for number, line in lines
        for phrase, pattern in PATTERNS.items()
        if (found := pattern.search(line))
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_texts_are_in_plain_words(folder: str) -> None:
    files = [path for path in FILES if path.relative_to(ROOT).parts[0] == folder]
    assert files
    found = {name_of(path): lines for path in files if (lines := unplain(prose_of(path)))}
    assert found == {}


def test_the_search_reads_comments_and_strings_and_no_names() -> None:
    source = 'told = 1  # brought here\ntext = f"{told} so many"\n"""One\n\nby lot."""\n'
    assert [line.split(";")[0] for line in unplain(prose_of_python(source))] == [
        "line 1: 'brought'",
        "line 2: 'so many'",
        "line 5: 'by lot'",
    ]
