"""Sessions that lost their stream between two queries and may go on over another one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from labctl.parties.seals import Ticket

# As many as there are sessions, several times over; the oldest goes first.
_MOST = 64


class Tickets:
    """Tickets by session, each for one use and for some time."""

    def __init__(self, valid_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._valid_s, self._now_s = valid_s, now_s
        self._kept: dict[bytes, tuple[Ticket, float]] = {}
        self._lock = threading.Lock()

    def keep(self, ticket: Ticket) -> None:
        """Keep a session's ticket."""
        with self._lock:
            self._kept[ticket.session] = ticket, self._now_s() + self._valid_s
            if len(self._kept) > _MOST:
                del self._kept[next(iter(self._kept))]

    def take(self, session: bytes, peer: str) -> Ticket | None:
        """Return a session's ticket, once, for the certificate that it was given to."""
        with self._lock:
            ticket, until = self._kept.get(session, (None, 0.0))
            if ticket is None or ticket.peer != peer:
                return None
            del self._kept[session]
            return ticket if self._now_s() <= until else None
