"""Run files of a folder, each as soon as its run has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from labctl.data.run_file import is_written_now
from labctl.errors import RunFileError

# Size and time of the last change: what is written again is looked at again.
_Stamp = tuple[int, int]


def ended_runs(folder: Path, wait: Callable[[], None], *, earlier: bool = False) -> Iterator[Path]:
    """Yield run files of a folder as their runs end, for as long as the caller asks.

    wait: called where there is nothing new. earlier: also those that had ended before. A file that
    changes after it was yielded is yielded again. Raises RunFileError where the folder is gone.
    """
    seen = {} if earlier else dict(_ended(folder))
    while True:
        for path, stamp in _ended(folder):
            if seen.get(path) != stamp:
                seen[path] = stamp
                yield path
        wait()


def _ended(folder: Path) -> Iterator[tuple[Path, _Stamp]]:
    """Yield what nobody writes now, oldest name first, each with its stamp."""
    if not folder.is_dir():
        raise RunFileError(f"{folder}: no such folder")
    for path in sorted(folder.glob("*.h5")):
        try:
            if is_written_now(path):
                continue
            found = path.stat()
        except FileNotFoundError:  # removed meanwhile
            continue
        yield path, (found.st_size, found.st_mtime_ns)
