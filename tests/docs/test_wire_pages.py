"""Wire facts: what code cites is in docs/wire, and every driver's facts are there."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "wire"
GRADES = {"V", "2+", "1", "RUN", "M"}
# A grade stands alone: `samples[1]` and `](link)` are none.
GRADE = re.compile(r"(?<![\w)\]}.])\[(V|2\+|1|RUN|M)\](?!\()")
CITATION = re.compile(r"docs/([\w/-]+\.md), sections? ")
PAGE = re.compile(r"docs/wire/(\w+)\.md")


def tracked(*suffixes: str) -> list[Path]:
    """Return the repository's files with these suffixes, tracked or new."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and its repository")
    command = [git, "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True)
    paths = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return [path for path in paths if path.suffix in suffixes and path.is_file()]


def plain(text: str) -> str:
    """Return text with comment marks and line ends as single spaces."""
    return re.sub(r"\s*\n[ \t]*(?:#[ \t])?", " ", text)


def headings(page: Path) -> set[str]:
    found = re.findall(r"^#{2,4} (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {heading.strip() for heading in found}


def missing(text: str) -> list[str]:
    """Return the citations of pages or sections that are not there.

    Sections follow each other with commas and `and`; a name is the longest heading that fits.
    """
    found, text = [], plain(text)
    for match in CITATION.finditer(text):
        page = ROOT / "docs" / match.group(1)
        if not page.is_file():
            found.append(f"no page docs/{match.group(1)}")
            continue
        named, rest = sorted(headings(page), key=len, reverse=True), text[match.end() :]
        while True:
            fits = next((name for name in named if re.match(re.escape(name) + r"\b", rest)), None)
            if fits is None:
                found.append(f"docs/{match.group(1)} has no section {rest[:40]!r}")
                break
            rest = rest[len(fits) :]
            more = re.match(r"(?:, and |, | and )(?=[A-Z])", rest)
            if more is None:
                break
            rest = rest[more.end() :]
    return found


def drivers() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    points: dict[str, str] = project["project"]["entry-points"]["labctl.drivers"]
    return points


def test_every_cited_page_and_section_is_there() -> None:
    wrong = {
        path.relative_to(ROOT).as_posix(): found
        for path in tracked(".py", ".md", ".toml")
        if path != Path(__file__) and path != PAGES / "README.md"
        for found in [missing(path.read_text(encoding="utf-8"))]
        if found
    }
    assert wrong == {}


def test_every_page_named_in_a_file_is_there() -> None:
    named = {
        (path.relative_to(ROOT).as_posix(), page)
        for path in tracked(".py", ".md", ".toml")
        if path != Path(__file__)
        for page in PAGE.findall(path.read_text(encoding="utf-8"))
    }
    assert named
    assert {each for each in named if not (PAGES / f"{each[1]}.md").is_file()} == set()


def test_a_file_that_bears_a_grade_cites_its_page() -> None:
    graded = []
    for path in tracked(".py"):
        text = path.read_text(encoding="utf-8")
        if path.is_relative_to(ROOT / "instruments") and GRADE.search(text):
            graded.append(path)
            assert CITATION.search(plain(text)), path
    assert len(graded) > 20


@pytest.mark.parametrize("name", sorted(drivers()))
def test_every_driver_cites_the_page_of_its_name(name: str) -> None:
    module = drivers()[name].split(":")[0].removeprefix("labctl.").replace(".", "/")
    text = plain((ROOT / f"{module}.py").read_text(encoding="utf-8"))
    assert f"docs/wire/{name}.md, section" in text


def test_every_front_panel_of_a_fact_cites_a_page() -> None:
    panels = ROOT / "instruments" / "simulated" / "panels"
    uncited = [
        path.name
        for path in sorted(panels.glob("*.py"))
        if re.search(r"^Source:|Assumed", text := path.read_text(encoding="utf-8"), re.MULTILINE)
        and "docs/wire/" not in text
        and "SCPI-99" not in text
    ]
    assert uncited == []


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda path: path.name)
def test_a_page_names_its_sources_and_uses_the_grades_of_the_legend(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert GRADE.search(text)
    prose = re.sub(r"`[^`]*`", "", text)
    assert set(re.findall(r"\[([^\]\s]{1,4})\](?!\()", prose)) <= GRADES
    assert page.stem not in drivers() or "Sources" in headings(page)


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = (PAGES / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in PAGES.glob("*.md")} - {"README.md"}
    assert {page for page in pages if f"({page})" not in listed} == set()


@pytest.mark.parametrize(
    "text",
    [
        "docs/wire/no_such_laser.md, section Line",
        "docs/wire/santec_tsl570.md, section No such section",
        "docs/wire/santec_tsl570.md, sections Line, Sweep and Wavelengths",
        "docs/wire/santec_tsl570.md, sections Line and\n    Tea",
    ],
)
def test_the_check_finds_what_is_missing(text: str) -> None:
    assert len(missing(text)) == 1


def test_the_check_accepts_sections_over_several_lines() -> None:
    text = "docs/wire/santec_tsl570.md, sections Line,\n# Wavelength log and\n  Sweep [V]"
    assert missing(text) == []


@pytest.mark.parametrize(
    ("text", "graded"), [("known [1].", True), ("[V][2+]", True), ("values[1]", False)]
)
def test_the_check_tells_grades_from_indices(text: str, graded: bool) -> None:
    assert bool(GRADE.search(text)) == graded
