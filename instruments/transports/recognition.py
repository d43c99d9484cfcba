"""Who answers after a connection was lost: the instrument that was opened, or another one.

An address is a place. Behind it may stand another instrument of the same model by the time a
session is opened again: with other limits, in another state, at another place of the light. So a
wire that was opened again asks who answers before it carries the next message, and carries none
until it is the one that was there before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from labctl.errors import OtherInstrumentError, ReplyError
from labctl.instruments.capabilities import Identity


class Recognition:
    """Who answered when the instrument was opened, and how to ask again."""

    def __init__(self, known: Identity, identify: Callable[[], object]) -> None:
        self._known = known
        self._identify = identify

    def require(self, instrument: str, address: str, command: str) -> None:
        """Ask who answers; raises OtherInstrumentError, naming `command`, if it is another one.

        Model and serial number are compared, not the firmware, which may be renewed.
        """
        token = _recognising.set(True)
        try:
            found = self._other()
            # One garbled reply must not end a run.
            if found is not None and self._other() is not None:
                problem = (
                    f"another instrument answers at {address} since the connection was lost: "
                    f"expected {_named(self._known)}, got {found}; it was not sent"
                )
                raise OtherInstrumentError(instrument, problem, command)
        finally:
            _recognising.reset(token)

    def _other(self) -> str | None:
        """Return in words who answers, if it is another instrument."""
        try:
            found = self._identify()
        except ReplyError as error:
            return f"no such instrument ({error.problem})"
        if isinstance(found, Identity) and _who(found) != _who(self._known):
            return _named(found)
        return None


class Recogniser(Protocol):
    """A wire that asks who answers once it was opened again."""

    recognition: Recognition | None


_recognising: ContextVar[bool] = ContextVar("recognising", default=False)
_asked: ContextVar[list[Recogniser] | None] = ContextVar("asked", default=None)


def recognising() -> bool:
    """Return whether this thread is asking who answers, in the middle of another message's turn."""
    return _recognising.get()


@contextmanager
def wires_asked() -> Iterator[Sequence[Recogniser]]:
    """Yield a list that takes up each wire over which this thread sends inside the block."""
    found: list[Recogniser] = []
    token = _asked.set(found)
    try:
        yield found
    finally:
        _asked.reset(token)


def note_asked(wire: Recogniser) -> None:
    """Take note that a message goes over a wire."""
    asked = _asked.get()
    if asked is not None and wire not in asked:
        asked.append(wire)


def _who(identity: Identity) -> tuple[str, str]:
    return identity.model.upper(), identity.serial.upper()


def _named(identity: Identity) -> str:
    return f"{identity.model} with serial number {identity.serial!r}"
