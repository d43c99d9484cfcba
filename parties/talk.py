"""How the messages of one session get to the other party and back, as a session needs it."""

from __future__ import annotations

from typing import Protocol

from labctl.protocols.messages import AbortCode, Message


class Talk(Protocol):
    """Messages of one session, in order; both raise AbortedError once either side has ended it."""

    @property
    def session(self) -> bytes:
        """The session's number, 16 bytes."""
        ...

    @property
    def transcript(self) -> bytes:
        """SHA-256 of all that was said."""
        ...

    def send(self, message: Message, *, more: bool = False) -> None:
        """Say a message; `more`: another one follows before the other side speaks."""
        ...

    def receive(self) -> Message:
        """Return the other side's next message; ends the session where it is silent too long."""
        ...

    def abort(self, code: AbortCode, reason: str) -> None:
        """End the session, and tell the other side why; nothing where it has ended already."""
        ...

    def close(self) -> None:
        """End a session that was closed by its client, once both have signed what was said."""
        ...
