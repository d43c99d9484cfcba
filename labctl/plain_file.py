"""Files from elsewhere: ordinary files alone, their size looked at before memory is taken.

A pipe in place of a file keeps a program waiting for ever, a device never ends, and a file may be
larger than the memory. Each is an OSError here, which says so in its `strerror`. JSON that is
nested without end, or that says NaN, is a ValueError.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

SHARE_OF_MEMORY = 0.4
"""Of this computer's memory, what a file may take: what is read is often copied once."""
SMALL_BYTES = 1 << 16
"""Much more than any key, lock or count needs."""
# Where the system does not say how much there is.
_UNKNOWN_MEMORY_BYTES = 1 << 32
# Nothing that labctl writes has more than ten.
_MOST_LEVELS = 64
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def memory_bytes() -> int | None:
    """Return this computer's memory, None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def within_memory(times: float) -> int:
    """Return how many bytes a file may have that takes `times` its size once it is read."""
    return int(SHARE_OF_MEMORY * (memory_bytes() or _UNKNOWN_MEMORY_BYTES) / times)


def open_plain(path: Path) -> BinaryIO:
    """Open an ordinary file for reading, or a link to one, without waiting; raises OSError."""
    # A pipe opens at once, without a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    kind = stat.S_IFMT(os.fstat(handle).st_mode)
    if kind != stat.S_IFREG:
        os.close(handle)
        if kind == stat.S_IFDIR:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        found = _KINDS.get(kind, "something else")
        raise OSError(errno.EINVAL, f"{found}, not an ordinary file", str(path))
    return os.fdopen(handle, "rb")


def read_plain(path: Path, most: int) -> bytes:
    """Return all bytes of an ordinary file of at most `most` bytes; raises OSError."""
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        # It may grow, and some systems' files say 0: never more than that is read.
        content = file.read(most + 1) if size <= most else b""
    if size > most or len(content) > most:
        said = f"{max(size, len(content))} bytes; at most {most} are read"
        raise OSError(errno.EFBIG, said, str(path))
    return content


def read_plain_text(path: Path, most: int, encoding: str = "utf-8", errors: str = "strict") -> str:
    """Return the text of such a file, its lines ended by newlines.

    Raises OSError and UnicodeDecodeError.
    """
    return io.StringIO(read_plain(path, most).decode(encoding, errors), newline=None).read()


def parsed_json(text: str | bytes, *, unique_names: bool = False) -> Any:
    """Return what JSON says; raises ValueError where it is none, deeply nested or says NaN.

    unique_names: refuse an object that says a name twice, of which readers take either value.
    """
    pairs = _unique if unique_names else None
    try:
        found = json.loads(text, parse_constant=_refuse, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _require_flat(found)
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is said twice in one object")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _require_flat(value: Any) -> None:
    level = [value]
    for _ in range(_MOST_LEVELS):
        nested = [each for each in level if isinstance(each, dict | list)]
        level = [
            part for each in nested for part in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise ValueError(f"nested too deeply, more than {_MOST_LEVELS} levels")
