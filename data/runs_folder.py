"""The folder of run files: free names, whether it can be written to, what killed writers left."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from labctl.data.disk_room import require_room_to_begin
from labctl.data.file_locks import in_use
from labctl.errors import RunFileError, SettingError
from labctl.party import Party

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LEFTOVERS = (".h5", ".h5.part")


def new_run_path(folder: Path, stem: str, party: Party | None = None) -> Path:
    """Return a free path `<UTC time>-<stem>[-<number>][-<party>].h5` in the folder.

    The folder is created if missing. Raises RunFileError, and SettingError for the stem.
    """
    return new_run_paths(folder, stem, (party,))[0]


def new_run_paths(folder: Path, stem: str, parties: Sequence[Party | None]) -> tuple[Path, ...]:
    """Return a path for each party, of one time and number and all free; see `new_run_path`."""
    if not _NAME.fullmatch(stem):
        raise SettingError("stem", stem, "letters, digits, '_', '-' and '.'")
    make_folder(folder)
    start, number = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{stem}", 1
    while True:
        counted = start if number == 1 else f"{start}-{number}"
        names = (counted if party is None else f"{counted}-{party}" for party in parties)
        paths = tuple(folder / f"{name}.h5" for name in names)
        if not any(path.exists() for path in paths):
            return paths
        number += 1


def at_free_paths(
    folder: Path,
    stem: str,
    parties: Sequence[Party | None],
    create: Callable[[tuple[Path, ...]], T],
) -> T:
    """Call `create` with a free path for each party, again where another process took one first.

    What killed writers left in the folder is removed.
    """
    make_folder(folder)
    remove_leftovers(folder)
    while True:
        paths = new_run_paths(folder, stem, parties)
        try:
            return create(paths)
        except RunFileError as error:
            # A file in the folder's place is there for good.
            taken = any(path.is_file() for path in paths)
            if not (isinstance(error.__context__, FileExistsError) and taken):
                raise


def require_runs_folder(folder: Path, size: int = 0) -> None:
    """Raise RunFileError if no run file can be written to a folder; creates nothing.

    size: bytes that it has before its first block, beside its tables: the network's.
    """
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise RunFileError(f"{folder}: cannot be created ({there} is no folder)")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RunFileError(f"{there}: cannot be written to; must be a folder that you may write to")
    try:
        require_room_to_begin(there, size)
    except OSError as problem:
        raise RunFileError(f"{folder}: no room for a run file ({problem.strerror})") from problem


def make_folder(folder: Path) -> None:
    """Make a folder with those above it; raises RunFileError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise RunFileError(f"{folder}: cannot be created ({problem.strerror})") from problem


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what writers that were killed left beside their runs, and return what it was.

    That is copies that were to replace a run file (`.h5.part`), and run files without a byte. What
    a live process writes stays, and so does what may not be removed.
    """
    removed = []
    for path in sorted(folder.iterdir()):
        if not path.name.endswith(_LEFTOVERS):
            continue
        with suppress(OSError):  # gone meanwhile, or another user's
            empty = path.suffix == ".part" or path.stat().st_size == 0
            if empty and path.is_file() and not in_use(path):
                path.unlink()
                removed.append(path)
    return removed
