"""A wire between a stream's threads and a channel: a few messages in, messages out, and its end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from labctl.parties.channel import WireLostError
from labctl.protocols.messages import AbortCode

# Messages that wait to be read; the other party's stream stands still while they are there.
_MOST_WAITING = 2


class QueueWire:
    """Bytes that came and bytes to be sent, and who ended it."""

    def __init__(self) -> None:
        # One lock, and a condition for each that waits: a thread is woken for its own matter alone.
        lock = threading.RLock()
        self._arrival, self._room, self._departure, self._end = (
            threading.Condition(lock) for _ in range(4)
        )
        self._came: deque[bytes] = deque()
        self._to_go: deque[bytes] = deque()
        self._lost: WireLostError | None = None
        self._closed = False

    @property
    def gone(self) -> bool:
        """Whether the other side is known to be gone."""
        return self._lost is not None

    def send(self, data: bytes) -> None:
        """Give a message on its way; nothing goes after the end."""
        with self._departure:
            if not self._closed:
                self._to_go.append(data)
            self._departure.notify()

    def receive(self, timeout_s: float) -> bytes:
        """Return the next message; raises TimeoutError, WireLostError."""
        with self._arrival:
            ready = self._arrival.wait_for(
                lambda: self._came or self._lost or self._closed, timeout_s
            )
            if not ready:
                raise TimeoutError
            if self._came:
                data = self._came.popleft()
                self._room.notify()
                return data
            raise self._lost or WireLostError(AbortCode.OPERATOR, "ended here")

    def first(self, timeout_s: float) -> bytes:
        """Return the next message and leave it there; raises as `receive` does."""
        with self._arrival:
            data = self.receive(timeout_s)
            self._came.appendleft(data)
            return data

    def close(self) -> None:
        """Let what was sent go, then end."""
        with self._end:
            self._closed = True
            self._wake_all()

    def offer(self, data: bytes) -> bool:
        """Hand in a message that came, once there is room; False after the end."""
        with self._room:
            self._room.wait_for(
                lambda: len(self._came) < _MOST_WAITING or self._closed or self._lost
            )
            if self._closed or self._lost:
                return False
            self._came.append(data)
            self._arrival.notify()
            return True

    def lose(self, code: AbortCode, reason: str) -> None:
        """Say that the other side is gone; what came before is still read."""
        with self._end:
            self._lost = self._lost or WireLostError(code, reason)
            self._wake_all()

    def pause(self, duration_s: float) -> None:
        """Wait, unless the wire ends meanwhile."""
        with self._end:
            self._end.wait_for(lambda: self._closed or self._lost, duration_s)

    def outgoing(self) -> Iterator[bytes]:
        """Yield what is sent until the wire ends."""
        while True:
            with self._departure:
                self._departure.wait_for(lambda: self._to_go or self._closed or self._lost)
                if not self._to_go:
                    return
                data = self._to_go.popleft()
            yield data

    def _wake_all(self) -> None:
        for waits in (self._arrival, self._room, self._departure, self._end):
            waits.notify_all()
