"""What is said where light must go off: by another thread, and waited for only for a moment.

A stopped terminal (Ctrl-S), a stalled connection and a pager that reads no further hold up who
writes to them without end, and with it all who log: a handler of `logging` takes one record at a
time. So nothing on the way out writes by itself. What could not be written in time is written once
somebody reads again, in order.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

WITHIN_S = 0.2
"""How long what is said is waited for, in s: a terminal takes it within 1 ms. Light goes off within
1 s of a signal, and only the first that is late costs this time."""


LAST_WORDS_S = 2.0
"""How long a reader that lags behind is waited for in s, once all is done."""


class Sayer:
    """One thread of this process that writes, started when it is first needed."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[Callable[[], object], threading.Event]] = (
            queue.SimpleQueue()
        )
        self._last = threading.Event()
        self._last.set()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    def say(self, write: Callable[[], object], within_s: float = WITHIN_S) -> None:
        """Call `write` in the sayer's thread; return once it has, or after a while in s.

        While an earlier one has not ended this one is not waited for. Where the system lets no
        thread start, it is called here. That its reader is gone is no error.
        """
        if self._process != os.getpid():  # a fork has no threads of its parent
            self._start()
        if not self._works():
            _written(write)
            return
        behind, done = not self._last.is_set(), threading.Event()
        self._last = done
        self._waiting.put((write, done))
        if not behind:
            done.wait(within_s)

    def finish(self, within_s: float = LAST_WORDS_S) -> None:
        """Wait until all has been written, for a while in s at most."""
        if self._process == os.getpid():
            self._last.wait(within_s)

    def _works(self) -> bool:
        """Start the thread unless it is there; tell whether it is."""
        if threading.current_thread() is self._thread:
            return False
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="labctl safety: says", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the program ends, or has no room for one
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        waiting = self._waiting
        while True:
            write, done = waiting.get()
            try:
                _written(write)
            finally:
                done.set()


def _written(write: Callable[[], object]) -> None:
    with suppress(OSError, ValueError):  # nobody may be left to read it
        write()


sayer = Sayer()
"""Of this process."""
