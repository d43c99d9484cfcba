"""Sessions whose client was lost between two queries: kept for a while, so that they can go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from labctl.errors import AbortedError
from labctl.parties.conversation import DEADLINES_S
from labctl.parties.server_session import ServerSession
from labctl.protocols.messages import AbortCode
from labctl.protocols.states import PartyState

# Each holds an open run file. As many as there are sessions at a time.
MOST_PARKED = 16


@dataclass(frozen=True)
class Served:
    """A session, its run file, and what ends both: called once, with the error if it was one."""

    session: ServerSession
    path: Path
    end: Callable[[BaseException | None], None]


@dataclass
class ParkedSessions:
    """Sessions by number, each for as long as a client may be silent between two queries.

    What is kept too long, or is too much, ends as a session whose client was lost.
    """

    valid_s: float = DEADLINES_S[PartyState.AGREED]
    now_s: Callable[[], float] = time.monotonic
    _kept: dict[bytes, tuple[Served, float]] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def keep(self, served: Served) -> None:
        """Keep a session."""
        with self._lock:
            self._kept[served.session.talk.session] = served, self.now_s() + self.valid_s
            ended = self._spent(MOST_PARKED)
        _end(ended)

    def take(self, session: bytes) -> Served | None:
        """Return a session that is kept, once; the channel has seen that it is the same client."""
        with self._lock:
            ended = self._spent(MOST_PARKED)
            served, _ = self._kept.pop(session, (None, 0.0))
        _end(ended)
        return served

    def expire(self) -> None:
        """End what has been kept too long."""
        with self._lock:
            ended = self._spent(MOST_PARKED)
        _end(ended)

    def close(self) -> None:
        """End all."""
        with self._lock:
            ended = self._spent(0)
        _end(ended)

    def _spent(self, most: int) -> list[Served]:
        """Take out, and return, what has been kept too long or is too much, the oldest first."""
        now_s, found = self.now_s(), []
        for number, (served, until_s) in [*self._kept.items()]:
            if now_s > until_s or len(self._kept) > most:
                del self._kept[number]
                found.append(served)
        return found


def _end(sessions: list[Served]) -> None:
    for served in sessions:
        served.end(AbortedError("client", str(AbortCode.PEER_LOST), "it did not come back"))
