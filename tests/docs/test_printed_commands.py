"""Each command that a page shows is one that there is, with options that it has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from labctl.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
SCRIPTS = ("examples/", "benchmarks/", "tests/")
LABCTL = typer.main.get_command(app)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands_of(text: str) -> list[str]:
    """Return what stands in code, inline or in blocks, and begins with labctl or python."""
    joined = re.sub(r"\\\n\s*", "", text)
    blocks = re.findall(r"```\w*\n(.*?)```", joined, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", joined, flags=re.DOTALL))
    shown = [*lines, *(" ".join(code.split()) for code in inline)]
    parts = [part.strip() for line in shown for part in line.split("&&")]
    return [part for part in parts if re.match(r"(labctl|python) [\w./-]", part)]


def faults(command: str) -> list[str]:
    """Return what is wrong with a command: no such command, option or script."""
    words = re.split(r"\s#|[|>;]", command)[0].split()
    if words[0] == "python":
        paths = [word for word in words[1:] if word.startswith(SCRIPTS)]
        return [path for path in paths if not (ROOT / path).exists()]
    found, rest = LABCTL, words[1:]
    while isinstance(found, TyperGroup) and rest and re.fullmatch(r"[a-z][a-z-]*", rest[0]):
        inner = found.get_command(found.context_class(found), rest[0])
        if inner is None:
            return [rest[0]]
        found, rest = inner, rest[1:]
    known = {"--help"}
    for parameter in found.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    # Behind -- is the program that `labctl record` runs.
    rest = rest[: rest.index("--")] if "--" in rest else rest
    asked = [word.split("=")[0].rstrip("…,.") for word in rest if re.match(r"--?[A-Za-z]", word)]
    return [option for option in asked if option not in known]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_shows_commands_that_there_are(page: Path) -> None:
    shown = commands_of(page.read_text(encoding="utf-8"))
    assert {command: wrong for command in shown if (wrong := faults(command))} == {}


def test_the_search_sees_blocks_and_inline_code_and_what_is_wrong() -> None:
    text = (
        "Run `labctl\ndemo --nothing`, or\n```\nlabctl leakage --mu 1 \\\n  --gain 2  # why\n```\n"
    )
    assert commands_of(text) == ["labctl leakage --mu 1 --gain 2  # why", "labctl demo --nothing"]
    assert faults("labctl leakage --mu 1 --gain 2  # why --not") == []
    assert faults("labctl demo --nothing") == ["--nothing"]
    assert faults("labctl nowhere --mu 1") == ["nowhere"]
    assert faults("python benchmarks/none.py") == ["benchmarks/none.py"]
