"""Who has the light: one session at a time, in turns, fair to clients by the time they had it.

Theory of operation.
1. A turn begins with an alignment, which costs as much light as several queries. So light does not
   change hands after every query: who has it keeps it while nobody else waits.
2. In an alignment or a batch the light is in use and cannot be taken. Between batches it can: at
   once where the turn has lasted `turn_s`, otherwise after the client was silent for `rest_s`.
3. Next is who waits with the least start tag: the client's own light time so far, or where the
   others are if it comes later (start-time fair queueing: Goyal, Vin, Cheng, IEEE/ACM Trans. Netw.
   5, 690 (1997)). Light time counts while others wait: no client is behind for what nobody else
   wanted, and none can starve others by coming again and again.

Several sessions of one client share its light time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from labctl.errors import AbortedError
from labctl.protocols.messages import AbortCode

PATIENCE_S = 600.0
"""How long a session waits before it is refused for now, in s: as long as one may be idle."""
TURN_S = 60.0
"""How long a turn lasts at least while the client goes on, in s: several alignments' time."""
REST_S = 2.0
"""How long a client may think between batches while others wait, in s."""
SAY_S = 5.0
"""Between two messages to who waits, in s: far shorter than anybody waits."""
# Nobody tells that time has passed.
_LOOK_S = 0.1


class Turn:
    """One session's place; made by `Lease.turn`."""

    def __init__(self, lease: Lease, client: str) -> None:
        self._lease, self.client = lease, client
        self.start_s = 0.0
        self.arrival = 0
        self.in_use = False
        self.began_s = self.changed_s = 0.0

    def take(
        self, on_wait: Callable[[int], None] = lambda ahead: None, patience_s: float = PATIENCE_S
    ) -> None:
        """Return once this session has the light, and uses it.

        on_wait: called now and then with how many have it, or get it, before; what it raises ends
        the waiting. Raises AbortedError where others have the light for all of `patience_s`.
        """
        self._lease._take(self, on_wait, patience_s)

    def use(self) -> bool:
        """Go on using the light; False where it was taken from this session."""
        return self._lease._use(self)

    def rest(self) -> None:
        """Stop using it for now: between batches."""
        self._lease._rest(self)

    def leave(self) -> None:
        """Give the light back, if this session has it."""
        self._lease._leave(self)

    @property
    def wanted(self) -> bool:
        """Whether another session waits for the light."""
        return self._lease.wanted

    def now_s(self) -> float:
        """Return the time by the lease's clock, in s."""
        return self._lease.now_s()


class Lease:
    """The right to send light. now_s: a clock that never goes back; times in s, see above."""

    def __init__(
        self,
        now_s: Callable[[], float] = time.monotonic,
        *,
        turn_s: float = TURN_S,
        rest_s: float = REST_S,
        say_s: float = SAY_S,
    ) -> None:
        self.now_s = now_s
        self._turn_s, self._rest_s, self._say_s = turn_s, rest_s, say_s
        self._changed = threading.Condition()
        self._holder: Turn | None = None
        self._waiting: list[Turn] = []
        self._arrivals = 0
        self._virtual_s = 0.0
        self._finish_s: dict[str, float] = {}

    def turn(self, client: str) -> Turn:
        """Return a place for one session of a client."""
        return Turn(self, client)

    @property
    def wanted(self) -> bool:
        """Whether a session waits for the light."""
        return bool(self._waiting)

    def _take(self, turn: Turn, on_wait: Callable[[int], None], patience_s: float) -> None:
        if self._use(turn):
            return
        began_s = said_s = self.now_s()
        with self._changed:
            self._queue(turn)
        try:
            while True:
                with self._changed:
                    if self._is_free_for(turn):
                        self._grant(turn)
                        return
                    self._changed.wait(_LOOK_S)
                    ahead = self._ahead_of(turn)
                now_s = self.now_s()
                if now_s - began_s >= patience_s:
                    reason = "others have the light; come again"
                    raise AbortedError("server", str(AbortCode.TOO_MANY), reason)
                if now_s - said_s >= self._say_s:
                    said_s = now_s
                    on_wait(ahead)
        finally:
            with self._changed:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                self._changed.notify_all()

    def _queue(self, turn: Turn) -> None:
        self._arrivals += 1
        turn.arrival = self._arrivals
        turn.start_s = self._virtual_s
        if self._holder is not None and self._holder.in_use and not self._waiting:
            self._holder.changed_s = self.now_s()
        self._waiting.append(turn)

    def _ahead_of(self, turn: Turn) -> int:
        before = sum(self._order(each) < self._order(turn) for each in self._waiting)
        return before + (self._holder is not None)

    def _is_free_for(self, turn: Turn) -> bool:
        if min(self._waiting, key=self._order) is not turn:
            return False
        holder, now_s = self._holder, self.now_s()
        if holder is None:
            return True
        rested = now_s - holder.changed_s >= self._rest_s
        return not holder.in_use and (rested or now_s - holder.began_s >= self._turn_s)

    def _grant(self, turn: Turn) -> None:
        self._virtual_s, _ = self._order(turn)
        self._waiting.remove(turn)
        self._holder = turn
        self._finish_s[turn.client] = self._virtual_s
        turn.in_use = True
        turn.began_s = turn.changed_s = self.now_s()

    def _use(self, turn: Turn) -> bool:
        with self._changed:
            if self._holder is not turn:
                return False
            if not turn.in_use:
                turn.in_use, turn.changed_s = True, self.now_s()
            return True

    def _rest(self, turn: Turn) -> None:
        with self._changed:
            if self._holder is turn and turn.in_use:
                self._count(turn)
                turn.in_use = False
                self._changed.notify_all()

    def _leave(self, turn: Turn) -> None:
        with self._changed:
            if self._holder is turn:
                if turn.in_use:
                    self._count(turn)
                turn.in_use, self._holder = False, None
                self._changed.notify_all()

    def _count(self, turn: Turn) -> None:
        now_s = self.now_s()
        if self._waiting:
            self._finish_s[turn.client] += now_s - turn.changed_s
        turn.changed_s = now_s

    def _order(self, turn: Turn) -> tuple[float, int]:
        """Return the start tag and who came first; its client may have had light since it came."""
        return max(turn.start_s, self._finish_s.get(turn.client, 0.0)), turn.arrival
