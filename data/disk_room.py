"""Room on the disk that is taken before it is needed, so that HDF5 never meets a full one.

HDF5 does not survive a write that fails: its close then ends the process. Room for the next block,
and for what closing writes, is therefore reserved beforehand, beyond the end of the file and
without changing its length (Linux's fallocate with FALLOC_FL_KEEP_SIZE). Other programs cannot take
it, and a quota counts it. File systems without that call are asked for their free space instead.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path

SPARE_BYTES = 1 << 21
"""What closing a run file writes, and what a block takes beside its values and the chunks that it
begins: the file's own tables."""
# linux/falloc.h: allocate beyond the end of the file and leave its length as it is.
_KEEP_SIZE = 1
_NOT_OFFERED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def reserve(descriptor: int, path: Path, size: int) -> None:
    """Take room for `size` bytes beyond the end of an open file.

    descriptor: the open file, writable. path: the same file. size: bytes, 0 or more. Raises
    OSError if the disk, a quota or the limit on the length of files (`ulimit -f`) leaves less.
    """
    end = os.fstat(descriptor).st_size
    _check_limit(end + size)
    if size == 0:
        return
    if sys.platform == "linux":
        problem = _allocate(descriptor, end, size)
        if problem == 0:
            return
        if problem not in _NOT_OFFERED:
            raise OSError(problem, f"{os.strerror(problem)}: no room for {size} more bytes")
    require_free(path.parent, size)


def require_room_to_begin(folder: Path, size: int) -> None:
    """Raise OSError without room for a run file of `size` bytes before its first block."""
    _check_limit(size + SPARE_BYTES)
    require_free(folder, size + SPARE_BYTES)


def require_free(folder: Path, size: int) -> None:
    """Raise OSError unless the disk of a folder has `size` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(errno.ENOSPC, f"disk full: {free} bytes free, {size} needed")


def _allocate(descriptor: int, offset: int, size: int) -> int:
    """Return 0, or the error number of the call that reserves."""
    library = ctypes.CDLL(None, use_errno=True)
    long = ctypes.c_longlong
    done = library.fallocate64(ctypes.c_int(descriptor), _KEEP_SIZE, long(offset), long(size))
    return ctypes.get_errno() if done else 0


def _check_limit(end: int) -> None:
    """Raise OSError where the process may not write files as long as that."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit != resource.RLIM_INFINITY and end > limit:
        raise OSError(
            errno.EFBIG, f"files may be {limit} bytes long (`ulimit -f`), {end} are needed"
        )
