"""Files of a ledger: written as a whole or not at all, under a lock, with one kind of error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from labctl.errors import RecordError

# A change writes a few small files: a process that takes a minute hangs.
_LOCK_TIMEOUT_S = 60.0
# Long beside a look at the lock, short beside a run.
_POLL_S = 0.005


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, as a whole or not at all."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        # On a full disk the half of a draft would take the room that the next entry needs.
        draft.unlink(missing_ok=True)
        raise


def write_new(path: Path, content: bytes) -> None:
    """Write a new file that only its owner may read; raises FileExistsError.

    Never over another one, also where two processes make one at a time.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def disk(who: str) -> Iterator[None]:
    """Turn what the disk refuses into a RecordError that says whose files they are."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecordError(f"{who}: {error.filename or ''} {reason}") from error


@contextmanager
def locked(path: Path, who: str, what: str | None = None) -> Iterator[None]:
    """Hold a lock among all processes; raises RecordError where another holds it too long.

    who: whose files they are. what: the lock's name in the error, its path by default.
    """
    lock = FileLock(str(path), timeout=_LOCK_TIMEOUT_S)
    with disk(who):
        try:
            lock.acquire(poll_interval=_POLL_S)
        except Timeout as error:
            raise RecordError(
                f"{path.parent}: another process has held {what or error.lock_file} for "
                f"{_LOCK_TIMEOUT_S:.0f} s"
            ) from error
    try:
        yield
    finally:
        lock.release()
