"""A query that is reserved and has not ended: what becomes of it, and what it notes on its way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from labctl.protocols.ledger.sent import SentNotes
from labctl.protocols.ledger.state import Charge, Worst
from labctl.safety import uninterrupted


class Books(Protocol):
    """The ledger that a query is reserved in."""

    def commit(self, query: str, charge: Charge, about: Mapping[str, Any]) -> Worst:
        """Append what a query used, and return it."""
        ...

    def release(self, query: str, reason: str, owed: Charge | None = None) -> None:
        """Append that a query never happened, and what is owed instead."""
        ...

    def notes(self, query: str, items: Sequence[str]) -> SentNotes:
        """Return what notes how many queries of a reservation were sent."""
        ...


class OpenQuery:
    """A query whose worst case is reserved; it ends once, as committed or released."""

    def __init__(self, ledger: Books, identifier: str, worst_case: Worst) -> None:
        self._ledger = ledger
        self.id = identifier
        self.worst_case = worst_case
        self.is_open = True
        self._notes: SentNotes | None = None

    def noted(self, items: Sequence[str]) -> Callable[[int], None]:
        """Return what has to be called before light leaves, with how many queries may then be sent.

        `items`: what each query is of, in order. If this process is killed, `settle` books no more
        queries than that; without notes it books all. Raises RecordError where it cannot be noted.
        """
        self._notes = self._ledger.notes(self.id, items)
        return self._notes.begins

    def commit(self, actual: Charge, about: Mapping[str, Any]) -> Worst:
        """Book what was used, by account, and free the rest; return what was booked.

        Also more than was reserved is booked: the account is then overdrawn and refuses. Raises
        RecordError if the query has ended.
        """
        # An interruption waits until it is known here, too, that the query has ended.
        with uninterrupted():
            booked = self._ledger.commit(self.id, actual, about)
            self._ended()
        return booked

    def release(self, reason: str, owed: Charge | None = None) -> None:
        """Free everything; only for a query of which no light was sent.

        `owed`: what was booked too little because of it, if anything.
        """
        with uninterrupted():
            self._ledger.release(self.id, reason, owed)
            self._ended()

    def _ended(self) -> None:
        self.is_open = False
        if self._notes is not None:
            self._notes.remove()
