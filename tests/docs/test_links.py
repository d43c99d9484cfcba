"""What the documents point to is in the repository: links, files, and nothing private."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("data", "examples")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
# Files that a document names in code style; a folder's name alone says what it is.
NAMED = re.compile(
    r"`((?:docs|tests|instruments|protocols|calibration|data|benchmarks|examples|labctl)/"
    r"[\w./-]+\.(?:py|md|toml|png|h5))`"
)
# In parts, so that this file does not hold what it looks for.
PRIVATE = ("command " + "tables", "command " + "table ", "design " + "note", "find_" + "string")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.strip().replace(" ", "-") for title in kept}


def broken(page: Path, text: str) -> list[str]:
    """Return the relative links of a text that lead nowhere."""
    found = []
    for target in LINK.findall(CODE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        inside = place == ROOT or place.is_relative_to(ROOT)
        if not (inside and place.exists()) or (anchor and anchor not in anchors(place)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert broken(page, page.read_text(encoding="utf-8")) == []


def test_every_page_can_be_reached_from_the_index() -> None:
    seen, waiting = set(), [ROOT / "README.md", ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            place = (page.parent / target.partition("#")[0]).resolve()
            if place.suffix == ".md" and place.is_file():
                waiting.append(place)
            elif place.is_dir():
                waiting.extend(place.glob("*.md"))
    assert {name_of(page) for page in DOCUMENTS} <= {name_of(page) for page in seen}


# A decision speaks of the files of its time.
@pytest.mark.parametrize("page", [p for p in DOCUMENTS if "decisions" not in p.parts], ids=name_of)
def test_every_file_that_a_document_names_is_there(page: Path) -> None:
    named = NAMED.findall(page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_nothing_cites_what_is_not_in_the_repository() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and its repository")
    patterns = [part for words in PRIVATE for part in ("-e", words)]
    command = [git, "grep", "-Ii", "--untracked", "-n", *patterns]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert found.stdout.decode() == ""
    assert found.returncode == 1  # git grep found nothing


@pytest.mark.parametrize("target", ["no_such_page.md", "../../outside.md", "#no-such-heading"])
def test_the_check_finds_broken_links(target: str) -> None:
    assert broken(ROOT / "README.md", f"see [this]({target})") == [target]
