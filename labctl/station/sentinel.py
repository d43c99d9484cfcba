"""A thread that sees signals where the main thread cannot: it is inside a call into C.

Python's handlers run in the main thread, between two of its instructions. While that thread is in a
long call into a C library (a vendor's VISA waiting for a silent instrument, a product of large
matrices), a signal waits. But its number is written to a file descriptor at once, and another
thread can read it there. If a program asks for that descriptor itself (asyncio does), this sentinel
steps back: there is one per process.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress


class Sentinel:
    """Calls back with the number of each signal, in a separate thread."""

    def __init__(self, hear: Callable[[int], None]) -> None:
        self._hear = hear
        self._ends: tuple[int, int] | None = None

    def stand(self) -> None:
        """Begin to listen; in the main thread only."""
        if self._ends is not None:
            return
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        if before != -1:
            signal.set_wakeup_fd(before)
            os.close(reading)
            os.close(writing)
            return
        try:
            threading.Thread(
                target=self._listen, args=(reading,), name="labctl safety: signals", daemon=True
            ).start()
        except RuntimeError:  # no thread can be started: signals are met by the main thread alone
            signal.set_wakeup_fd(-1)
            os.close(reading)
            os.close(writing)
            return
        self._ends = reading, writing

    def leave(self) -> None:
        """Stop listening; in the main thread only."""
        if self._ends is None:
            return
        _, writing = self._ends
        now = signal.set_wakeup_fd(-1)
        if now not in (-1, writing):
            signal.set_wakeup_fd(now)
        self.forget()

    def forget(self) -> None:
        """Close this process's end, as a forked child does, in which there is no thread."""
        if self._ends is not None:
            with suppress(OSError):
                os.close(self._ends[1])
            self._ends = None

    def _listen(self, reading: int) -> None:
        while numbers := os.read(reading, 64):
            for number in numbers:
                self._hear(number)
        os.close(reading)
