"""How commands speak: one JSON object on stdout, or tables for people; progress on stderr.

On a terminal a table has a box as wide as the terminal, or, where words would have to be broken,
one block of lines for each row: a path, a name, an address or a hash is always whole, to be copied.
Anywhere else, in a pipe or a file, each row is one line with tabs between.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, JustifyMethod
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from labctl.errors import SettingError, UsageError
from labctl.visible import visible


class PlainConsole(Console):
    """A console on which text cannot act: all strings that are printed pass `render_str`.

    Styles are its own. Instruments, files and records write what they like into names, identities
    and errors.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as it is printed, control characters written out."""
        return super().render_str(visible(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as Console does; outside a terminal no line is broken, and no word anywhere."""
        words = _longest_word(*(each for each in objects if isinstance(each, str)))
        if not self.is_terminal or words > self.width:
            options.setdefault("soft_wrap", True)
        super().print(*objects, **options)


people = PlainConsole(highlight=False, markup=False, emoji=False)
aside = PlainConsole(stderr=True, highlight=False, markup=False, emoji=False)


def print_json(values: Mapping[str, Any], *, flush: bool = False) -> None:
    """Print one JSON object on one line of stdout."""
    print(json.dumps(values, allow_nan=False), flush=flush)


def table(title: str, columns: list[str], rows: list[list[str]], *, numeric: bool = False) -> None:
    """Print a table for people; `numeric` aligns all columns but the first to the right."""
    if not people.is_terminal:
        people.print(title)
        for row in (columns, *rows) if any(columns) else rows:
            _print_cells(row)
        return
    words = [_longest_word(*column) for column in zip(columns, *rows, strict=True)]
    if not _fit(words):
        _blocks(title, columns, rows)
        return
    grid = Table(title=title, title_justify="left", title_style="bold")
    for index, (column, least) in enumerate(zip(columns, words, strict=True)):
        justify: JustifyMethod = "right" if index and numeric else "left"
        grid.add_column(column, justify=justify, min_width=least, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    people.print(grid)


def facts(title: str, values: Mapping[str, str]) -> None:
    """Print named values, one a line."""
    if not people.is_terminal:
        people.print(title)
        for name, value in values.items():
            for line in value.splitlines() or [""]:
                _print_cells([name, line])
        return
    word = _longest_word(*values.values())
    if not _fit([max(map(len, values), default=1), word]):
        people.print(title, style="bold")
        for name, value in values.items():
            people.print(f"{name}: {value}")
        return
    grid = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(min_width=word, overflow="fold")
    for name, value in values.items():
        grid.add_row(name, value)
    people.print(grid)


def _fit(columns: list[int]) -> bool:
    """Tell whether columns of these widths fit the terminal, with a box around each."""
    return sum(columns) + 3 * len(columns) + 1 <= people.width


def _blocks(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print each row as a block of lines, its first value before the others."""
    people.print(title, style="bold")
    wide = max(len(column) for column in columns)
    for row in rows:
        people.print(row[0], style="bold")
        for column, value in zip(columns[1:], row[1:], strict=True):
            people.print(f"  {column:<{wide}}  {value}")


def _print_cells(values: list[str]) -> None:
    """Print one line with tabs between the values; what separates cells or lines within is a space.

    Not by the console, which makes spaces of tabs.
    """
    line = "\t".join(" ".join(visible(value).split()) for value in values)
    print(line, file=people.file)


def _longest_word(*texts: str) -> int:
    return max((len(visible(word)) for text in texts for word in text.split()), default=1)


@contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr while the block runs; yields what advances it."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=aside,
        transient=True,
        disable=not aside.is_terminal,
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def number(value: float | None, digits: int = 4) -> str:
    """Return a value for people, or a dash for none."""
    return "–" if value is None else f"{value:.{digits}g}"


def require_folder(path: Path | None) -> None:
    """Refuse a file to write that is a folder, or in none that may be written; raises UsageError.

    Before the work, so that nothing is computed and lost.
    """
    if path is None:
        return
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; must be there")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; must be a file to write")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise UsageError(f"{path}: cannot be written; must be a file that you may write")


def require_png(path: Path | None) -> None:
    """Refuse a figure that cannot be written, or has not a PNG file's name; raises UsageError."""
    require_folder(path)
    if path is not None and path.suffix.lower() != ".png":
        raise SettingError("--figure", str(path), "a name that ends in .png")


def say_step(step: str) -> None:
    """Print on stderr what is being done."""
    aside.print(f"· {step}", style="dim")
