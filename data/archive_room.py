"""What an archive from elsewhere must be like before its values are read into memory.

A few kilobytes of .npz or .gz can unpack to any size, and an array's header can claim one that the
archive does not hold; NumPy takes the memory that the header names. So sizes are looked at first:
an array must be as large as its place in the archive, and all together must not be out of
proportion to the bytes on the disk, nor to this computer's memory.
"""

from __future__ import annotations

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from labctl.plain_file import SHARE_OF_MEMORY, memory_bytes, open_plain

# Deflate packs zeros 1030 times; images and weights, seldom more than 20 times.
_MOST_RATIO = 200
# What every computer has to spare, however well it is packed.
_ALWAYS_BYTES = 1 << 28
# What NumPy, its reader of headers (Python's tokens) and the zip reader raise for damaged bytes.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, tokenize.TokenError),
    *(SyntaxError, OverflowError, MemoryError),
)


def require_room(packed: int, unpacked: int) -> None:
    """Raise ValueError unless `packed` bytes may become `unpacked` bytes in memory."""
    most = unpacked_limit(packed)
    if unpacked > most:
        raise ValueError(
            f"{packed} bytes that become {unpacked} when unpacked; at most {most} are read"
        )


def unpacked_limit(packed: int) -> int:
    """Return to how many bytes `packed` bytes may unpack, for archives that do not say it."""
    most, memory = max(_ALWAYS_BYTES, _MOST_RATIO * packed), memory_bytes()
    return most if memory is None else min(most, int(SHARE_OF_MEMORY * memory))


@contextmanager
def opened_npz(path: Path) -> Iterator[Any]:
    """Open the .npz file at a path for a block.

    Raises OSError where it is no ordinary file, ValueError where it is damaged.
    """
    # Opened here: of a damaged archive NumPy leaves its own file open.
    with _damage_explained(), open_plain(path) as content, plain_npz(content) as file:
        yield file


@contextmanager
def _damage_explained() -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(f"damaged: {error}") from error


def plain_npz(file: BinaryIO) -> Any:
    """Open an .npz file as NumPy does, once its sizes were looked at (`require_plain_npz`)."""
    with _damage_explained():
        require_plain_npz(file)
        return np.load(file, allow_pickle=False)


def require_plain_npz(file: BinaryIO) -> None:
    """Look at an open .npz file, and leave it at its start; raises ValueError or BadZipFile.

    Each member must be an array of plain values whose header names exactly the bytes that the
    archive has of it.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        require_room(size, sum(each.file_size for each in members))
        for member in members:
            with archive.open(member) as content:
                _require_whole(member.filename, content, member.file_size)
    file.seek(0)


def _require_whole(name: str, content: IO[bytes], size: int) -> None:
    version = np.lib.format.read_magic(content)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"{name}: array of format {version}; must be 1.0 or 2.0")
    shape, _, dtype = readers[version](content)
    if dtype.hasobject:
        raise ValueError(f"{name}: holds objects; must hold plain values")
    values = math.prod(shape) * dtype.itemsize
    header = content.tell()
    if header + values != size:
        raise ValueError(f"{name}: {values} bytes by its header, {size - header} in the archive")
