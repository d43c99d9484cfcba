"""A channel as a party's program uses it: blocking `send`, `receive`, `abort`, `close`.

A channel joins a conversation, which knows what may be said, and a wire, which moves bytes. A wire
may lose the other side, never a message in between.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from labctl.errors import (
    AbortedError,
    BudgetError,
    ProtocolError,
    VerificationError,
)
from labctl.parties.channel_messages import Closed, Resume, Resumed, Said
from labctl.parties.conversation import Conversation
from labctl.parties.seals import Seal, Ticket
from labctl.party import Party
from labctl.protocols.ledger.signing import PublicKey
from labctl.protocols.messages import Abort, AbortCode, Close, Message
from labctl.protocols.states import Machine

LOG = logging.getLogger("labctl.parties")


class WireLostError(Exception):
    """The other side is gone, or refused to speak: says the code and the reason, if it did."""

    def __init__(self, code: AbortCode, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Wire(Protocol):
    """What moves bytes between two parties, whole messages in order."""

    def send(self, data: bytes) -> None:
        """Give a message on its way; never blocks."""

    def receive(self, timeout_s: float) -> bytes:
        """Return the next message; raises TimeoutError, WireLostError."""

    def close(self) -> None:
        """Let what was sent go, then end."""

    @property
    def gone(self) -> bool:
        """Whether the other side is known to be gone."""


@dataclass(frozen=True)
class Peer:
    """Who is at the other end, by its certificate.

    fingerprint: of `public_key`, the SHA-256 by which ledgers name a client's key. certificate:
    the SHA-256 of the whole certificate. address: where the connection comes from.
    """

    name: str
    role: Party
    public_key: PublicKey
    certificate: str
    address: str

    @property
    def fingerprint(self) -> str:
        """Of the public key: the same for a renewed certificate of the same key."""
        return self.public_key.fingerprint

    def __str__(self) -> str:
        return f"{self.role} {self.name} at {self.address}"


class PartyChannel:
    """One session with the other party; `peer` is who that is.

    Every method raises AbortedError once the session was aborted, by either party: `code` says why.
    """

    def __init__(self, conversation: Conversation, wire: Wire, peer: Peer) -> None:
        self.peer = peer
        self._conversation, self._wire = conversation, wire
        self._lock = threading.RLock()
        self._lost: AbortedError | None = None
        self._machine: Machine | None = None

    @property
    def session(self) -> bytes:
        """The session's number, 16 bytes; zeros before the first messages."""
        return self._conversation.session

    @property
    def transcript(self) -> bytes:
        """SHA-256 of all that was said."""
        return self._conversation.transcript

    @property
    def over(self) -> bool:
        """Whether nothing more may be said."""
        return self._conversation.over or self._lost is not None

    @property
    def gone(self) -> bool:
        """Whether the other party is known to be gone, also while nobody waits for it."""
        return self._wire.gone or self.over

    @property
    def ended(self) -> Abort | None:
        """Why the session was aborted; None if it was not."""
        return self._conversation.ended

    @property
    def seals(self) -> dict[Party, Seal]:
        """Both parties' signatures of the transcript, once the session was closed."""
        return dict(self._conversation.seals)

    def ticket(self) -> Ticket | None:
        """Return what to go on with over another channel; None unless between two queries."""
        return self._conversation.ticket()

    def bind(self, machine: Machine) -> None:
        """Have a party's machine aborted together with the session."""
        self._machine = machine
        self._conversation.bind(machine)

    def send(self, message: Said, *, more: bool = False) -> None:
        """Say a message; `more`: this party speaks again, where it would be the other's turn.

        Raises ProtocolError for a message that is out of turn or place: nothing was sent.
        """
        with self._lock:
            self._require_open()
            self._wire.send(self._conversation.send(message, more=more))

    def receive(self, timeout_s: float | None = None) -> Message:
        """Wait for the other party's message, at most as long as its state allows.

        timeout_s: another limit, in seconds. `Close` is answered here. Raises AbortedError when the
        session ends instead: refused message, abort by the other party, its silence, its loss.
        """
        message = self._received(timeout_s)
        if isinstance(message, Close):
            self.send(Closed())
        if isinstance(message, Closed | Resume | Resumed):
            raise ProtocolError(str(self._conversation.party), "in a session", "not a message")
        return message

    def abort(self, code: AbortCode, reason: str) -> None:
        """End the session and say why; does nothing after its end."""
        with self._lock:
            if not self.over:
                LOG.warning("session with %s aborted here (%s): %s", self.peer, code, reason)
                self._wire.send(self._conversation.abort(code, reason))
        self._wire.close()

    def abort_for(self, error: BaseException) -> None:
        """End the session for an error of this party's program.

        The other party gets the text of errors about messages alone; no other text leaves here.
        """
        machine = self._machine
        if machine is not None and machine.ended is not None:
            self.abort(machine.ended.code, machine.ended.reason)
            return
        code, reason = AbortCode.OPERATOR, "an error of the other party's program"
        if isinstance(error, ProtocolError):
            code, reason = AbortCode.PROTOCOL, str(error)
        elif isinstance(error, BudgetError):
            code, reason = AbortCode.BUDGET, "the budget does not allow it"
        elif isinstance(error, VerificationError):
            code, reason = AbortCode.VERDICT_REJECTED, "the verification stopped the session"
        elif isinstance(error, KeyboardInterrupt | SystemExit):
            reason = "the other party's program was stopped"
        self.abort(code, reason)

    def close(self) -> None:
        """End the channel: a client says `Close`, or has said it, and waits for the last signature.

        Where no session can be closed now, as within a query, it is aborted.
        """
        with self._lock:
            if not self.over and self._conversation.party is Party.CLIENT:
                self._close_session()
        self.abort(AbortCode.OPERATOR, "the other party left")

    def _close_session(self) -> None:
        try:
            if self._conversation.my_turn and self.ticket() is not None:
                self.send(Close())
            if self._conversation.closing:
                self._received(None)
        except (ProtocolError, AbortedError) as error:
            LOG.warning("session with %s not closed: %s", self.peer, error)

    @property
    def resumes(self) -> bool:
        """Whether it goes on with a session that another channel began."""
        return self._conversation.resumes

    def resume(self, committed: int) -> None:
        """As a client: go on with the session of the ticket that the channel was opened with."""
        self.send(Resume(committed))
        self._received(None)

    def resumed(self) -> None:
        """As a server: let the client go on with the session of its ticket."""
        self._received(None)
        self.send(Resumed())

    def __enter__(self) -> PartyChannel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort_for(error)

    def _received(self, timeout_s: float | None) -> Said:
        self._require_open()
        limit = self._conversation.deadline_s if timeout_s is None else timeout_s
        if limit is None:
            raise ProtocolError(
                str(self._conversation.party), "in a session", "nothing comes: this party speaks"
            )
        try:
            data = self._wire.receive(limit)
        except TimeoutError:
            reason = f"nothing said for {limit:g} s"
            self.abort(AbortCode.TIMEOUT, reason)
            raise self._aborted(str(self._conversation.party)) from None
        except WireLostError as lost:
            raise self._gone(lost) from lost
        with self._lock:
            self._require_open()
            try:
                message = self._conversation.receive(data)
            except AbortedError as error:
                LOG.warning("refused what %s said (%s): %s", self.peer, error.code, error.reason)
                if self._conversation.farewell is not None:
                    self._wire.send(self._conversation.farewell)
                self._wire.close()
                raise
        if isinstance(message, Abort):
            LOG.warning("%s ended the session (%s): %s", self.peer, message.code, message.reason)
            self._wire.close()
            raise self._aborted(str(self.peer.role))
        return message

    def _gone(self, lost: WireLostError) -> AbortedError:
        """Return what becomes of the session: between two queries it may go on, with a ticket."""
        with self._lock:
            if self._conversation.ended is not None:
                return self._aborted(str(self._conversation.ended_by))
            LOG.warning("lost %s (%s): %s", self.peer, lost.code, lost.reason)
            self._lost = AbortedError(str(self.peer.role), str(lost.code), lost.reason)
            if self.ticket() is None:
                self._conversation.abort(lost.code, lost.reason)
        self._wire.close()
        return self._lost

    def _require_open(self) -> None:
        if self._lost is not None:
            raise AbortedError(self._lost.by, self._lost.code, self._lost.reason)
        if self._conversation.ended is not None:
            raise self._aborted(str(self._conversation.ended_by))

    def _aborted(self, by: str) -> AbortedError:
        ended = self._conversation.ended
        assert ended is not None
        return AbortedError(by, str(ended.code), ended.reason)
