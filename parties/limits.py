"""What one party may cost the other: sessions, messages a second, time without a word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from labctl import checks
from labctl.parties.conversation import DEADLINES_S
from labctl.protocols.states import PartyState


@dataclass(frozen=True)
class ServerLimits:
    """ServerLimits of a server.

    sessions: open at a time; sessions_per_client: of them, so that one client leaves places to
    others. messages_per_s: of one client, over all its sessions, kept to by reading no faster;
    twice as many may come at once. deadlines_s: of silence, by state. handshake_s: from a
    connection to the end of its handshake. idle_s: of a connection without a session.
    connections: at a time.
    """

    sessions: int = 16
    sessions_per_client: int = 4
    messages_per_s: float = 100.0
    deadlines_s: Mapping[PartyState, float] = field(default_factory=lambda: DEADLINES_S)
    handshake_s: float = 5.0
    idle_s: float = 30.0
    connections: int = 512

    def __post_init__(self) -> None:
        checks.within("sessions", self.sessions, 1, 1024)
        checks.at_least("sessions_per_client", self.sessions_per_client, 1)
        checks.positive("messages_per_s", self.messages_per_s)
        checks.positive("handshake_s", self.handshake_s)
        checks.positive("idle_s", self.idle_s)
        checks.at_least("connections", self.connections, self.sessions)


class Pace:
    """How long to wait before the next message is read, for each of many clients.

    A bucket for each, by name, that fills at a rate; only the newest are kept.
    """

    # More clients than sessions: one that comes again soon finds its own bucket.
    _MOST_KEPT = 1024

    def __init__(self, per_s: float, now_s: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._now_s = per_s, now_s
        self._room = 2.0 * per_s
        self._spent: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def wait_s(self, name: str) -> float:
        """Count a message, and return how long it has to wait."""
        with self._lock:
            now = self._now_s()
            spent, since = self._spent.pop(name, (0.0, now))
            spent = max(spent - (now - since) * self._per_s, 0.0) + 1.0
            self._spent[name] = spent, now
            if len(self._spent) > self._MOST_KEPT:
                del self._spent[next(iter(self._spent))]
            return max(spent - self._room, 0.0) / self._per_s
