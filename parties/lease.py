"""Who has the light: one session at a time, and of those that wait the client that had least."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from labctl.errors import AbortedError
from labctl.protocols.messages import AbortCode

PATIENCE_S = 15.0
"""How long a client waits before it is refused for now, in s: shorter than its own deadline."""


class Lease:
    """The right to send light. now_s: a clock that never goes back."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._changed = threading.Condition()
        self._now_s = now_s
        self._holder: str | None = None
        self._waiting: Counter[str] = Counter()
        self._used_s: defaultdict[str, float] = defaultdict(float)

    @property
    def wanted(self) -> bool:
        """Whether another session waits for the light."""
        return bool(+self._waiting)

    @contextmanager
    def held(self, client: str, patience_s: float = PATIENCE_S) -> Iterator[None]:
        """Hold the light; raises AbortedError where others have it all the time until then."""
        with self._changed:
            self._waiting[client] += 1
            try:
                got = self._changed.wait_for(lambda: self._is_next(client), patience_s)
            finally:
                self._waiting[client] -= 1
                self._changed.notify_all()
            if not got:
                reason = "others have the light; come again"
                raise AbortedError("server", str(AbortCode.TOO_MANY), reason)
            self._holder = client
        began_s = self._now_s()
        try:
            yield
        finally:
            with self._changed:
                self._used_s[client] += self._now_s() - began_s
                self._holder = None
                self._changed.notify_all()

    def _is_next(self, client: str) -> bool:
        least = min(self._used_s[each] for each in +self._waiting)
        return self._holder is None and self._used_s[client] == least
