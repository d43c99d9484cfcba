"""The way out: every instrument reaches its safe state, in spite of errors on the way.

Teardown runs to its end also under a second Ctrl-C, which then takes effect. A signal that arrives
on the way from a first one to the teardown is only noted: two that are pending together would
otherwise have the second one interrupt the teardown before its first line.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)
)
"""What asks a program to end and can be answered: Ctrl-C, `kill`, a closed terminal, Ctrl-\\."""

# A program that caught the first Ctrl-C and went on must be stoppable: a person who sees nothing
# happen presses again after a few seconds.
_UNWINDING_S = 5.0


# The mark of signal handlers that lead to the way out of a station.
UNWINDS = "leads_to_the_way_out"


def interruption(number: int) -> KeyboardInterrupt:
    """Return what a signal raises to end the program as Ctrl-C does; its `number` is the signal's.

    Not a new class: Python ends as after Ctrl-C for KeyboardInterrupt itself alone.
    """
    error = KeyboardInterrupt()
    vars(error)["number"] = number
    return error


class Unwinding:
    """Whether a signal is on its way through the program to something that must be left safe."""

    def __init__(self) -> None:
        self._watched = 0
        self._since_s: float | None = None
        self._held = False
        self._noted: int | None = None

    @property
    def holds(self) -> bool:
        """Whether a teardown is under way."""
        return self._held

    def watch(self) -> None:
        """Count one more thing that must be left safe."""
        self._watched += 1

    def hold(self) -> None:
        """Note signals from now until `release`: a teardown begins."""
        self._held = True

    def release(self) -> int | None:
        """Count one less, which has been left; return a signal that is still to take effect.

        A signal that led to the teardown has had its effect, and those after it are the same wish.
        """
        self._watched -= 1
        self._held = False
        if self._since_s is not None:
            self._since_s = time.monotonic() if self._watched else None
        noted, self._noted = self._noted, None
        return noted

    def lapse(self) -> None:
        """Let the next signal count, for nothing came of the last; a teardown still holds it."""
        self._since_s = None

    def forget(self) -> None:
        """Start again, as a forked child does."""
        self._watched, self._since_s, self._held, self._noted = 0, None, False, None

    def begins(self, number: int) -> bool:
        """Tell whether a signal is to unwind the program now; if not, it is only noted."""
        if self._held:
            if self._since_s is None:
                self._noted = number
            return False
        if self._watched == 0:
            return True
        now_s = time.monotonic()
        if self._since_s is not None and now_s - self._since_s < _UNWINDING_S:
            return False
        self._since_s = now_s
        return True


unwinding = Unwinding()
"""Of this process."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back what asks the program to end until the block has ended (main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    previous: dict[int, Any] = {
        number: signal.signal(number, lambda n, frame: caught.append((n, frame)))
        for number in ENDING_SIGNALS
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
    """Let SIGTERM, SIGHUP and SIGQUIT unwind the program as Ctrl-C does, so that teardown runs.

    In the main thread only.

    What is raised is an `interruption`, which knows its signal. Yields a check for long loops:
    Python drops what is raised in a destructor or a callback, and a signal may be handled in one;
    the check raises KeyboardInterrupt if an interruption was asked
    for and got lost that way; of the loss itself nothing is printed. A signal that is ignored stays
    ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    asked: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if unwinding.begins(number):
            raise interruption(number)

    def check() -> None:
        if asked:
            raise interruption(asked[0])

    def dropped(found: sys.UnraisableHookArgs) -> None:
        if not (asked and issubclass(found.exc_type, KeyboardInterrupt)):
            report(found)

    vars(interrupt)[UNWINDS] = True
    heard = [n for n in ENDING_SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
    previous: dict[int, Any] = {number: signal.signal(number, interrupt) for number in heard}
    report, sys.unraisablehook = sys.unraisablehook, dropped
    try:
        yield check
    finally:
        sys.unraisablehook = report
        for number, handler in previous.items():
            signal.signal(number, handler)


def last_words(lit: Sequence[str]) -> str:
    """Return what is said last of instruments that may still emit."""
    return f"MAY STILL EMIT LIGHT: {', '.join(lit).upper()}: SWITCH IT OFF BY HAND"
