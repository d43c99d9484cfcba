"""What the channel says for itself, beside the messages of the two machines."""

from __future__ import annotations

from dataclasses import dataclass

from labctl import checks
from labctl.protocols.messages import Message


@dataclass(frozen=True)
class Closed:
    """Server to client: it saw `Close` and signs the same transcript."""


@dataclass(frozen=True)
class Resume:
    """Client to server, first on a new stream: go on with a session between two queries.

    committed: queries that were answered in it so far. Session and transcript are the envelope's.
    """

    committed: int

    def __post_init__(self) -> None:
        checks.at_least("committed", self.committed, 0)


@dataclass(frozen=True)
class Resumed:
    """Server to client: the session goes on where both say that it was."""


Said = Message | Closed | Resume | Resumed
