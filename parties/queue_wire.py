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
        self._changed = threading.Condition()
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
        with self._changed:
            if not self._closed:
                self._to_go.append(data)
            self._changed.notify_all()

    def receive(self, timeout_s: float) -> bytes:
        """Return the next message; raises TimeoutError, WireLostError."""
        with self._changed:
            ready = self._changed.wait_for(
                lambda: self._came or self._lost or self._closed, timeout_s
            )
            if not ready:
                raise TimeoutError
            if self._came:
                data = self._came.popleft()
                self._changed.notify_all()
                return data
            raise self._lost or WireLostError(AbortCode.OPERATOR, "ended here")

    def first(self, timeout_s: float) -> bytes:
        """Return the next message and leave it there; raises as `receive` does."""
        with self._changed:
            data = self.receive(timeout_s)
            self._came.appendleft(data)
            return data

    def close(self) -> None:
        """Let what was sent go, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def offer(self, data: bytes) -> bool:
        """Hand in a message that came, once there is room; False after the end."""
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._came) < _MOST_WAITING or self._closed or self._lost
            )
            if self._closed or self._lost:
                return False
            self._came.append(data)
            self._changed.notify_all()
            return True

    def lose(self, code: AbortCode, reason: str) -> None:
        """Say that the other side is gone; what came before is still read."""
        with self._changed:
            self._lost = self._lost or WireLostError(code, reason)
            self._changed.notify_all()

    def pause(self, duration_s: float) -> None:
        """Wait, unless the wire ends meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._lost, duration_s)

    def outgoing(self) -> Iterator[bytes]:
        """Yield what is sent until the wire ends."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._to_go or self._closed or self._lost)
                if not self._to_go:
                    return
                data = self._to_go.popleft()
            yield data
