"""How the messages of one session get to the other party and back, as a session needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from labctl.errors import (
    AbortedError,
    BudgetError,
    IdentityError,
    LabctlError,
    ProtocolError,
)
from labctl.parties.seals import Ticket
from labctl.party import Party
from labctl.protocols.messages import AbortCode, Message
from labctl.protocols.terms import Terms
from labctl.wording import counted


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

    @property
    def resumes(self) -> bool:
        """Whether it goes on with a session that another one began."""
        ...

    @property
    def gone(self) -> bool:
        """Whether the other side is known to be gone."""
        ...

    def ticket(self) -> Ticket | None:
        """Return what to go on with over another one; None unless between two queries."""
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


def batch_too_long(by: Party, count: int, terms: Terms) -> AbortedError:
    """Return what ends a session whose client asks for a batch that the terms do not allow."""
    asked = counted(count, "query", "queries")
    reason = f"a batch of {asked}; expected at most {terms.batch_queries}"
    return AbortedError(str(by), str(AbortCode.BATCH_TOO_LONG), reason)


@contextmanager
def ended_by_errors(talk: Talk, party: Party, *, on_budget: str | None = None) -> Iterator[None]:
    """End the session for an error of the block, with what the other side may know of it.

    on_budget: what it is given of a spent budget, None for the error's text.
    """
    try:
        yield
    except AbortedError as ended:
        talk.abort(AbortCode(ended.code), ended.reason)
        raise
    except IdentityError as refusal:
        talk.abort(AbortCode.CERTIFICATE, str(refusal))
        raise
    except BudgetError as refusal:
        talk.abort(AbortCode.BUDGET, on_budget or str(refusal))
        raise
    except ProtocolError as refusal:
        talk.abort(AbortCode.PROTOCOL, str(refusal))
        raise
    except LabctlError:
        # What is wrong with a party's instruments is its own.
        talk.abort(AbortCode.SAFETY, f"the {party}'s bench failed")
        raise
    except BaseException:
        talk.abort(AbortCode.OPERATOR, f"the {party} was stopped")
        raise
