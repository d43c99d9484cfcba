"""An HDF5 file seen as if its writer had closed it, so that a killed run opens like any other.

A writer marks the superblock as open for writing, and HDF5 refuses such a file; its reader for
live files accepts the mark, but waits practically for ever where a file is damaged. Both are
avoided by showing HDF5 a superblock with the mark cleared and the true end of the file.
Layout: HDF5 File Format Specification 3.0, section II.A, superblock version 3; its checksum is
Jenkins' lookup3 (public domain).
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import FileIO

    from _typeshed import WriteableBuffer

# signature, version, size of offsets, size of lengths, flags, base, extension, end of file, root
_SUPERBLOCK = struct.Struct("<8sBBBBQQQQ")
_SIZE = _SUPERBLOCK.size + 4
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_VERSION = 3
_WORD = 0xFFFFFFFF


class ClosedView(io.RawIOBase):
    """A readable, seekable view of an unbuffered file; the file stays the caller's.

    `marked` tells if a writer has the file open or was killed. Raises ValueError if it is not
    HDF5 with superblock 3.
    """

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._position = 0
        self._length = file.seek(0, io.SEEK_END)
        file.seek(0)
        self.marked, self.superblock = _closed(file.read(_SIZE), self._length)

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill the buffer from the current position, with zeros beyond the end of the file."""
        target = memoryview(buffer).cast("B")
        start = self._position
        self._file.seek(start)
        done = 0
        while done < len(target) and (count := self._file.readinto(target[done:])):
            done += count
        target[done:] = bytes(len(target) - done)
        if start < _SIZE:
            shown = self.superblock[start : start + len(target)]
            target[: len(shown)] = shown
        self._position += len(target)
        return len(target)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position counted from the start, the current position or the end."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        self._position = origin + offset
        return self._position

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True


def clear_mark(path: Path) -> None:
    """Write the superblock that the view shows into the file, for tools that have no such view.

    Raises OSError and ValueError.
    """
    with path.open("r+b", buffering=0) as file:
        superblock = ClosedView(file).superblock
        file.seek(0)
        file.write(superblock)


def _closed(superblock: bytes, length: int) -> tuple[bool, bytes]:
    if len(superblock) < _SIZE:
        raise ValueError(f"{len(superblock)} bytes are too few for an HDF5 file")
    fields = list(_SUPERBLOCK.unpack_from(superblock))
    if fields[:4] != [_SIGNATURE, _VERSION, 8, 8]:
        raise ValueError("not an HDF5 file with superblock version 3")
    marked = fields[4] != 0
    fields[4] = 0
    fields[7] = length
    content = _SUPERBLOCK.pack(*fields)
    return marked, content + struct.pack("<I", _lookup3(content))


def _lookup3(content: bytes) -> int:
    a = b = c = (0xDEADBEEF + len(content)) & _WORD
    padded = content + bytes(-len(content) % 12)
    blocks = list(struct.iter_unpack("<3I", padded))
    for x, y, z in blocks[:-1]:
        a, b, c = _mix(a + x & _WORD, b + y & _WORD, c + z & _WORD)
    x, y, z = blocks[-1]
    return _final(a + x & _WORD, b + y & _WORD, c + z & _WORD)


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for turn in (4, 6, 8, 16, 19, 4):
        a = (a - c ^ _rotated(c, turn)) & _WORD
        c = c + b & _WORD
        a, b, c = b, c, a
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    for turn in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) - _rotated(b, turn) & _WORD
        a, b, c = b, c, a
    return b


def _rotated(word: int, turn: int) -> int:
    return (word << turn | word >> 32 - turn) & _WORD
