"""The way out: every instrument reaches its safe state, whatever happens on the way.

Teardown runs to its end also under a second Ctrl-C, which then takes effect.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from labctl.errors import InstrumentError, LabctlError


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM until the block has ended (main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    previous: dict[int, Any] = {
        number: signal.signal(number, lambda n, frame: caught.append((n, frame)))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for number, frame in caught[:1]:
            handler = previous[number]
            if callable(handler):
                handler(number, frame)
            elif handler == signal.SIG_DFL:
                signal.raise_signal(number)


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Let SIGTERM unwind the program as Ctrl-C does, so that teardown runs (main thread only).

    Yields a check for long loops: Python drops what is raised in a destructor or a callback, and
    a signal may be handled in one; the check raises KeyboardInterrupt if an interruption was asked
    for and got lost that way; of the loss itself nothing is printed. A signal that is ignored stays
    ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    asked: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    def dropped(found: sys.UnraisableHookArgs) -> None:
        if not (asked and issubclass(found.exc_type, KeyboardInterrupt)):
            report(found)

    heard = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    previous: dict[int, Any] = {number: signal.signal(number, interrupt) for number in heard}
    report, sys.unraisablehook = sys.unraisablehook, dropped
    try:
        yield check
    finally:
        sys.unraisablehook = report
        for number, handler in previous.items():
            signal.signal(number, handler)


def run_all(steps: Sequence[tuple[str, Callable[[], None]]]) -> list[str]:
    """Run every step without interruption; return what failed, in words, never raise for it."""
    failures = []
    with uninterrupted():
        for what, step in steps:
            try:
                step()
            except InstrumentError as error:
                failures.append(str(error))
            except LabctlError as error:
                failures.append(f"{what}: {error}")
            except Exception as error:  # a driver may fail in any way; the next must be reached
                failures.append(f"{what}: unexpected {type(error).__name__}: {error}")
    return failures
