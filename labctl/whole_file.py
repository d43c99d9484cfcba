"""Files that are there as a whole or not at all, however the program ends while it writes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a file to write in the block, which takes the path's place when the block has ended.

    What was at the path stays until then, and stays if the block raises. A killed program
    leaves the unfinished file, `NAME.part`, which the next one replaces. What is no file (a
    device, a pipe) is written to directly.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
