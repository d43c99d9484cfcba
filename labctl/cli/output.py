"""How commands speak: one JSON object on stdout, or tables for people; progress on stderr."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
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


people = PlainConsole(highlight=False, markup=False, emoji=False)
aside = PlainConsole(stderr=True, highlight=False, markup=False, emoji=False)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on one line of stdout."""
    print(json.dumps(values, allow_nan=False))


def table(title: str, columns: list[str], rows: list[list[str]], *, numeric: bool = False) -> None:
    """Print a table for people; `numeric` aligns all columns but the first to the right."""
    grid = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        grid.add_column(column, justify="right" if index and numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    people.print(grid)


def facts(title: str, values: Mapping[str, str]) -> None:
    """Print named values, one a line."""
    grid = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in values.items():
        grid.add_row(name, value)
    people.print(grid)


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
