"""The process's own streams: always there, an output that is lost is an error, words aside are not.

Output that does not arrive (a full disk, a closed descriptor) is an OutputError, where the system
would say the same of any other file. What goes to stderr is for people who may have left: a step
that nobody reads costs no result, and how the process ended is in its exit code.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from labctl.errors import OutputError

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Of every process, by POSIX.
_STDOUT, _STDERR = 1, 2


def occupy() -> None:
    """Open what of stdin, stdout and stderr is closed, before anything else gets its number.

    Else the next file or connection is number 2, and an error message goes into it. Reading gives
    nothing; writing to stdout is refused, so that a result that nobody gets is an error.
    """
    for number in (0, _STDOUT, _STDERR):
        try:
            os.fstat(number)
        except OSError:
            flags = os.O_WRONLY if number == _STDERR else os.O_RDONLY
            found = os.open(os.devnull, flags)  # the lowest number that is free: this one
            os.set_inheritable(found, True)


def guard() -> None:
    """Have stdout and stderr write as said above; anything but a process's plain ones stays."""
    sys.stdout = _guarded(sys.stdout, _STDOUT, _Output)
    sys.stderr = _guarded(sys.stderr, _STDERR, _Aside)


def give_up_output() -> None:
    """Let nothing more be written to stdout, also what is buffered still, at the exit."""
    with suppress(OSError, ValueError):  # then it has no descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _guarded(stream: TextIO | None, number: int, kind: type[io.FileIO]) -> TextIO:
    """Return a stream like this one with another kind of file below.

    Python has none (None) where the descriptor was closed at its start.
    """
    if stream is not None:
        # Where nothing is to be buffered, Python has no buffer between.
        buffer = getattr(stream, "buffer", None)
        raw = buffer.raw if type(buffer) is io.BufferedWriter else buffer
        if isinstance(stream, io.TextIOWrapper):
            # A stream that lacks a character (a C locale, a pipe of Windows) must not cost a result
            # that was measured, written and charged.
            stream.reconfigure(errors="replace")
        if type(raw) is not io.FileIO:
            return stream
        stream.flush()
        number = stream.fileno()
    at_once = getattr(stream, "line_buffering", False) or getattr(stream, "write_through", False)
    return io.TextIOWrapper(
        io.BufferedWriter(kind(number, "w", closefd=False)),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="replace",
        line_buffering=at_once or kind is _Aside,
    )


class _Output(io.FileIO):
    """Raises OutputError where something cannot be written; BrokenPipeError where nobody reads."""

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(error.strerror or str(error)) from error


class _Aside(io.FileIO):
    """Drops what cannot be written."""

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes
