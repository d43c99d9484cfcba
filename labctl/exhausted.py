"""Which limit of the computer ended the work: memory, threads and processes, or open files."""

from __future__ import annotations

import errno
import sys

_MEMORY = "memory"
_TASKS = "threads and processes"
_FILES = "open files"
# By the error's number; each limit's name in the shell's `ulimit` and in the module `resource`.
_NUMBERS = {
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _TASKS,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
}
_LIMITS = {
    _MEMORY: (("ulimit -v", "RLIMIT_AS", 1024, "kB"),),
    _TASKS: (("ulimit -u", "RLIMIT_NPROC", 1, ""), ("ulimit -v", "RLIMIT_AS", 1024, "kB")),
    _FILES: (("ulimit -n", "RLIMIT_NOFILE", 1, ""),),
}
# What Python and the dynamic linker say where they give no number.
_WORDS = {
    "can't start new thread": _TASKS,
    "can't allocate lock": _MEMORY,
    "failed to map segment": _MEMORY,
    "cannot allocate memory": _MEMORY,
    "too many open files": _FILES,
}


def limit_met(error: BaseException) -> str | None:
    """Return which limit an error is about, and how low it is set; None if about none."""
    what = _exhausted(error)
    if what is None:
        return None
    said = " ".join(str(error).split())
    about = f" ({said})" if said else ""
    return f"no more {what}{about}: {_set_to(what)}"


def _exhausted(error: BaseException) -> str | None:
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, OSError) and error.errno in _NUMBERS:
        return _NUMBERS[error.errno]
    if isinstance(error, RuntimeError | ImportError | OSError):
        said = str(error).lower()
        return next((what for words, what in _WORDS.items() if words in said), None)
    return None


def _set_to(what: str) -> str:
    """Say what limits are set for this process, or that the computer itself has no more."""
    found = []
    if sys.platform != "win32":
        import resource

        for name, constant, unit, shown in _LIMITS[what]:
            soft, _ = resource.getrlimit(getattr(resource, constant))
            if soft != resource.RLIM_INFINITY:
                found.append(f"`{name}` is {soft // unit} {shown}".rstrip())
    return " and ".join(found) or "all that the computer has is in use"
