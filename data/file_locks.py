"""A lock on an open file that shows other processes whether its writer lives.

It is an open-file-description lock (Linux): it ends with the process, however that ends, does
not stop HDF5's readers, which lock by another call, and is not lost when the same process closes
the file elsewhere. Where there is none, files are taken as in use for a while after their last
change.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from pathlib import Path

# struct flock of Linux: type, whence, start, length (0: to the end), process.
_FLOCK = struct.Struct("hhqqi4x")
_SET_LOCK: int | None = getattr(fcntl, "F_OFD_SETLK", None)
# From a file's creation to its lock, and for systems without such locks.
_YOUNG_S = 5.0
_YOUNG_WITHOUT_LOCKS_S = 600.0


def lock(descriptor: int) -> bool:
    """Lock an open, writable file for its life; return False if another holds it."""
    if _SET_LOCK is None:
        return True
    try:
        fcntl.fcntl(descriptor, _SET_LOCK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def in_use(path: Path) -> bool:
    """Return whether a live process writes the file, or created it just now; OSError if absent."""
    young = _YOUNG_S if _SET_LOCK is not None else _YOUNG_WITHOUT_LOCKS_S
    found = path.stat()
    if found.st_size == 0 and time.time() - found.st_mtime < young:
        return True
    if _SET_LOCK is None:
        return time.time() - found.st_mtime < young
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return not lock(descriptor)
    finally:
        os.close(descriptor)
