"""The states of both parties, as tables: what may happen in each, and what comes after.

Theory of operation.
1. A party is a machine without I/O. Messages of the other party go in by `receive`, which returns
   the answer, if any. What a party does or sees itself (`Own`) goes in by a separate method:
   light that its receiver read, images that its user gives.
2. A table says for every state which events may come, and which states may follow. What is not in
   the table is refused with ProtocolError, and nothing has changed: neither state nor secrets. A
   carrier of messages should abort then; a machine does not by itself.
3. An event is checked whole before it changes anything: an argument that is refused, like values of
   a wrong shape, leaves the state as it was too.
4. Light cannot be sent again: there is no way back inside a batch of queries. Who cannot continue
   aborts, and both ends drop what they hold of the batch.

Rules of this file: no secrets, no arrays, no knowledge of what a machine does with an event. Server
and client have a table each; a state that both have means the same to both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum

from labctl.errors import ProtocolError
from labctl.protocols.messages import (
    Abort,
    AbortCode,
    AlignArmed,
    Aligned,
    AlignOpen,
    AlignTaken,
    Armed,
    Close,
    Done,
    Hello,
    LayerOpen,
    Message,
    Queries,
    Queued,
    Ready,
    Realign,
    Taken,
    Verdict,
    Welcome,
)


class PartyState(StrEnum):
    """The state of a party."""

    NEW = "new"
    GREETED = "greeted"
    AGREED = "agreed"
    ALIGNING = "aligning"
    ALIGN_OPENED = "frame to align by opened"
    ALIGN_SENDING = "sending a frame to align by"
    ALIGN_ARMED = "armed for a frame to align by"
    OPENED = "layer opened"
    SENDING = "sending"
    WAITING = "waiting for a layer"
    ARMED = "armed"
    CLOSED = "closed"
    ABORTED = "aborted"


class Own(StrEnum):
    """What a party does or sees by itself, in words that complete "... is out of place"."""

    HELLO = "a greeting"
    READY = "its own readiness"
    QUEUED = "a place in a queue"
    ALIGN_FRAME = "a frame to align by"
    ALIGN_TAKEN = "a record to align by"
    ALIGNED = "the end of an alignment"
    BEGIN = "a batch of images"
    LIGHT_ARRIVED = "arriving light"
    MEASURED = "measured values"
    ANSWERS = "a question for answers"
    RETURNED = "returned light"
    JUDGE = "a question for the verdict"
    CLOSE = "its own close"
    ABORT = "its own abort"


# What a party says of itself, by the event of it; all else that it says is an answer.
SAID: Mapping[Own, type[Message]] = {
    Own.HELLO: Hello,
    Own.READY: Ready,
    Own.QUEUED: Queued,
    Own.ALIGN_FRAME: AlignOpen,
    Own.ALIGN_TAKEN: AlignTaken,
    Own.ALIGNED: Aligned,
    Own.BEGIN: Queries,
    Own.MEASURED: Taken,
    Own.JUDGE: Verdict,
    Own.CLOSE: Close,
    Own.ABORT: Abort,
}

Event = type[Message] | Own
Table = Mapping[PartyState, Mapping[Event, frozenset[PartyState]]]


def _to(*states: PartyState) -> frozenset[PartyState]:
    return frozenset(states)


_ENDS: Mapping[Event, frozenset[PartyState]] = {
    Abort: _to(PartyState.ABORTED),
    Own.ABORT: _to(PartyState.ABORTED),
}

SERVER: Table = {
    PartyState.NEW: {Hello: _to(PartyState.AGREED), **_ENDS},
    PartyState.AGREED: {
        Ready: _to(PartyState.ALIGNING),
        Queries: _to(PartyState.OPENED, PartyState.AGREED),
        Own.JUDGE: _to(PartyState.AGREED),
        Close: _to(PartyState.CLOSED),
        **_ENDS,
    },
    PartyState.ALIGNING: {
        Own.QUEUED: _to(PartyState.ALIGNING),
        Own.ALIGN_FRAME: _to(PartyState.ALIGN_OPENED),
        Own.ALIGNED: _to(PartyState.AGREED),
        **_ENDS,
    },
    PartyState.ALIGN_OPENED: {AlignArmed: _to(PartyState.ALIGN_SENDING), **_ENDS},
    PartyState.ALIGN_SENDING: {AlignTaken: _to(PartyState.ALIGNING), **_ENDS},
    PartyState.OPENED: {Armed: _to(PartyState.SENDING), **_ENDS},
    PartyState.SENDING: {
        Own.RETURNED: _to(PartyState.SENDING),
        Taken: _to(PartyState.OPENED, PartyState.AGREED),
        **_ENDS,
    },
    PartyState.CLOSED: {},
    PartyState.ABORTED: {},
}

CLIENT: Table = {
    PartyState.NEW: {Own.HELLO: _to(PartyState.GREETED), **_ENDS},
    PartyState.GREETED: {Welcome: _to(PartyState.AGREED), **_ENDS},
    PartyState.AGREED: {
        Own.READY: _to(PartyState.ALIGNING),
        Own.BEGIN: _to(PartyState.WAITING),
        Own.ANSWERS: _to(PartyState.AGREED),
        Verdict: _to(PartyState.AGREED),
        Own.CLOSE: _to(PartyState.CLOSED),
        **_ENDS,
    },
    PartyState.ALIGNING: {
        Queued: _to(PartyState.ALIGNING),
        AlignOpen: _to(PartyState.ALIGN_ARMED),
        Aligned: _to(PartyState.AGREED),
        **_ENDS,
    },
    PartyState.ALIGN_ARMED: {Own.ALIGN_TAKEN: _to(PartyState.ALIGNING), **_ENDS},
    PartyState.WAITING: {
        LayerOpen: _to(PartyState.ARMED),
        Realign: _to(PartyState.AGREED),
        Done: _to(PartyState.AGREED),
        **_ENDS,
    },
    PartyState.ARMED: {
        Own.LIGHT_ARRIVED: _to(PartyState.ARMED),
        Own.MEASURED: _to(PartyState.WAITING),
        **_ENDS,
    },
    PartyState.CLOSED: {},
    PartyState.ABORTED: {},
}


class Machine(ABC):
    """A party's place in its table; it moves along the table or not at all."""

    def __init__(self, party: str, table: Table) -> None:
        self._party = party
        self._table = table
        self._state = PartyState.NEW
        self._ended: Abort | None = None

    @property
    def state(self) -> PartyState:
        """The party's state."""
        return self._state

    @property
    def ended(self) -> Abort | None:
        """Why the session was aborted, by either party; None if it was not."""
        return self._ended

    def abort(self, code: AbortCode, reason: str) -> Abort:
        """End the session at once; return the message to the other party."""
        abort = Abort(code, reason)
        self._end(Own.ABORT, abort)
        return abort

    def _require(self, event: Event) -> None:
        """Raise ProtocolError if the event may not come in this state."""
        due = self._table[self._state]
        if event not in due:
            if self._ended is not None:
                raise self._refused(f"{_named(event)} comes after the end: {self._ended.reason}")
            names = " or ".join(_named(each) for each in due) or "nothing"
            raise self._refused(f"{_named(event)} is out of place; expected {names}")

    def _enter(self, event: Event, state: PartyState) -> None:
        """Move to a state; the table must allow it."""
        if state not in self._table[self._state].get(event, ()):
            raise AssertionError(f"{self._party}: {self._state} to {state} by {event}: no such way")
        self._state = state

    def _end(self, event: Event, abort: Abort) -> None:
        self._require(event)
        self._forget()
        self._ended = abort
        self._enter(event, PartyState.ABORTED)

    @abstractmethod
    def _forget(self) -> None:
        """Drop what is held of the batch under way."""

    def _refused(self, problem: str) -> ProtocolError:
        return ProtocolError(self._party, str(self._state), problem)


def _named(event: Event) -> str:
    return str(event) if isinstance(event, Own) else f"message {event.__name__}"
