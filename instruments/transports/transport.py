"""The seam between drivers and wires: whole messages or whole frames, one transaction each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from labctl.clock import Clock


class MessageTransport(Protocol):
    """Text commands and replies, with binary blocks; terminators are the transport's business.

    Every method is one transaction under a lock. A reply that came too late for the query that
    asked for it is never returned. Raises InstrumentTimeoutError when no reply comes in time,
    ConnectionFailedError when the connection is lost, ReplyError when a block is malformed.
    """

    @property
    def name(self) -> str:
        """The instrument's name, for error messages."""
        ...

    @property
    def clock(self) -> Clock:
        """The instrument's clock: waits for the instrument sleep on it."""
        ...

    def write(self, command: str) -> None:
        """Send a command that has no reply."""
        ...

    def query(self, command: str) -> str:
        """Send a command and return its reply without terminator and surrounding space."""
        ...

    def query_block(self, command: str) -> memoryview:
        """Send a command and return the payload of the definite-length block it replies."""
        ...

    def write_block(self, prefix: str, payload: bytes | memoryview) -> None:
        """Send `prefix` and then `payload` as a definite-length block."""
        ...

    def fence(self, command: str, marker: str, answer: str) -> tuple[str, ...]:
        """Send a command and then the query `marker`; return what is replied before `answer`.

        For instruments that acknowledge some commands and not others: the order of replies, not
        time, decides whether a line belongs to the command.
        """
        ...

    def clear(self) -> None:
        """Abandon what is under way and discard replies that are still to come."""
        ...

    def close(self) -> None:
        """End the session; closing twice does nothing."""
        ...


class FrameTransport(Protocol):
    """Binary frames of one fixed length, each answered by one frame of the same length."""

    @property
    def name(self) -> str:
        """The instrument's name, for error messages."""
        ...

    @property
    def clock(self) -> Clock:
        """The instrument's clock: waits for the instrument sleep on it."""
        ...

    def exchange(self, frame: bytes) -> bytes:
        """Send a frame and return the one that answers it; one transaction under a lock.

        Raises InstrumentTimeoutError, or ConnectionFailedError when the connection is lost.
        """
        ...

    def clear(self) -> None:
        """Discard what has been received and return both ends to a frame boundary."""
        ...

    def close(self) -> None:
        """End the session; closing twice does nothing."""
        ...


Complete: TypeAlias = Callable[[Sequence[str]], bool]
"""Tells, from the lines received so far, whether the reply has ended."""


class LinesTransport(Protocol):
    """Text commands whose replies are one or more lines; each exchange is one transaction.

    Raises InstrumentTimeoutError when a reply does not end in time, ConnectionFailedError when
    the connection is lost.
    """

    @property
    def name(self) -> str:
        """The instrument's name, for error messages."""
        ...

    @property
    def clock(self) -> Clock:
        """The instrument's clock: waits for the instrument sleep on it."""
        ...

    def exchange(self, command: str, complete: Complete) -> tuple[str, ...]:
        """Send a command; return the lines of its reply once `complete` returns True.

        Lines come without terminator and surrounding space. Lines that arrived since the last
        exchange come first. Raises ReplyError on a reply that does not end.
        """
        ...

    def clear(self) -> None:
        """Abandon what is under way and discard lines that are still to come."""
        ...

    def close(self) -> None:
        """End the session; closing twice does nothing."""
        ...
