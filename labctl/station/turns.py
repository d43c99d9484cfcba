"""Turns at one instrument: the program's calls beside each other, a watch only between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Who uses an instrument now: a driver's method may be several transactions, kept together.

    Calls of the program never wait for each other here, only for a reading that is under way.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls = 0
        self._watched = False

    @contextmanager
    def call(self) -> Iterator[None]:
        """Be a call of the program."""
        with self._changed:
            # A call from inside another one finds no reading under way.
            while self._watched and not self._calls:
                self._changed.wait()
            self._calls += 1
        try:
            yield
        finally:
            with self._changed:
                self._calls -= 1
                self._changed.notify_all()

    @contextmanager
    def reading(self, patience_s: float) -> Iterator[bool]:
        """Be a watch's reading; yields False if the program's calls left no gap in that time."""
        until_s = time.monotonic() + patience_s
        with self._changed:
            while self._calls and (left_s := until_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
            free = self._watched = not self._calls
        try:
            yield free
        finally:
            with self._changed:
                self._watched = False
                self._changed.notify_all()
