"""What two parties say to each other, without I/O: both roles, session, order, transcript, turn.

Theory of operation (as h11 for HTTP).
1. `send` turns a message into bytes, `receive` bytes into a message. A carrier moves the bytes.
2. Every envelope says the session, how many messages both have said, and the running SHA-256 of all
   envelopes before it. So both agree on all that was said, or stop. The session's number is made
   of a nonce of each side: neither side chooses it, and nothing said before can be said again.
3. One speaks at a time. It is the other's turn after a message, unless the sender says that `more`
   follows; it does so by itself where the other's table takes nothing (a client that is armed).
4. Which message may come is decided by the tables of the machines (`places`).
5. What is wrong with a message ends the session by name (`AbortCode`). `receive` raises
   AbortedError and `farewell` is what to send. Nothing is ignored, nothing is said afterwards.
6. An abort may cross messages of the other side: it holds if it fits before one of those that were
   said since the last one came.
7. At the end both sign the transcript with the keys of their certificates (`seals`).
8. Between two queries a session may go on over another stream (`ticket`); in a query it may not,
   since light cannot be sent again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from enum import Enum

from labctl.errors import AbortedError, ProtocolError
from labctl.parties.channel_messages import Closed, Resume, Resumed, Said
from labctl.parties.codec import MOST_BYTES, decode, encode
from labctl.parties.envelope import NO_SESSION, NONCE_BYTES, Envelope
from labctl.parties.places import Places, other
from labctl.parties.seals import (
    NOTHING_SAID,
    Accept,
    Identity,
    Seal,
    Ticket,
    Verifier,
    and_then,
    fingerprint,
    session_of,
)
from labctl.party import Party
from labctl.protocols.messages import Abort, AbortCode, Close, Done
from labctl.protocols.states import Machine, PartyState

# How long the other side may be silent while it is its turn, by this side's state, in seconds. A
# greeting is at hand; arming and sending take a frame's time; images take a person's.
DEADLINES_S: Mapping[PartyState, float] = {
    PartyState.NEW: 10.0,
    PartyState.GREETED: 30.0,
    PartyState.AGREED: 600.0,
    PartyState.ALIGNING: 60.0,
    PartyState.ALIGN_OPENED: 60.0,
    PartyState.ALIGN_SENDING: 60.0,
    PartyState.ALIGN_ARMED: 60.0,
    PartyState.OPENED: 60.0,
    PartyState.SENDING: 60.0,
    PartyState.WAITING: 60.0,
    PartyState.ARMED: 60.0,
}
# A signature is at hand.
CLOSING_DEADLINE_S = 10.0


class _Phase(Enum):
    TALK = "in a session"
    RESUMING = "going on with a session"
    CLOSING = "closing"
    OVER = "over"


class Conversation:
    """One side of what is said in one session.

    identity: its own. accept: looks at the other side's certificate when its first envelope comes.
    ticket: the session to go on with. deadlines_s: by state. nonce: 32 bytes, drawn by default.
    """

    def __init__(
        self,
        party: Party,
        identity: Identity,
        accept: Accept,
        *,
        ticket: Ticket | None = None,
        deadlines_s: Mapping[PartyState, float] = DEADLINES_S,
        nonce: bytes | None = None,
    ) -> None:
        self.party = party
        self.farewell: bytes | None = None
        self.ended: Abort | None = None
        self.ended_by: Party | None = None
        self.seals: dict[Party, Seal] = {}
        self._identity, self._accept = identity, accept
        self._deadlines_s = deadlines_s
        self._nonce = secrets.token_bytes(NONCE_BYTES) if nonce is None else nonce
        self._peer_certificate: bytes | None = None
        self._verifies: Verifier | None = None
        self._introduced = False
        self._resumed = ticket
        self._session = NO_SESSION if ticket is None else ticket.session
        self._sequence = 0 if ticket is None else ticket.sequence
        self._transcript = NOTHING_SAID if ticket is None else ticket.transcript
        self._committed = 0 if ticket is None else ticket.committed
        self._places = Places(PartyState.NEW if ticket is None else PartyState.AGREED)
        self._phase = _Phase.TALK if ticket is None else _Phase.RESUMING
        self._turn = Party.CLIENT
        self._crossed: list[tuple[int, bytes]] = []
        self._machine: Machine | None = None

    @property
    def session(self) -> bytes:
        """The session's 16 bytes, zeros before both nonces are known."""
        return self._session

    @property
    def transcript(self) -> bytes:
        """SHA-256 of all that was said so far."""
        return self._transcript

    @property
    def sequence(self) -> int:
        """Messages that both said so far."""
        return self._sequence

    @property
    def committed(self) -> int:
        """Queries that were answered so far."""
        return self._committed

    @property
    def my_turn(self) -> bool:
        """Whether this side speaks next."""
        return not self.over and self._turn is self.party

    @property
    def over(self) -> bool:
        """Whether nothing more may be said: closed by both, or aborted."""
        return self._phase is _Phase.OVER

    @property
    def resumes(self) -> bool:
        """Whether it goes on with a session of before."""
        return self._resumed is not None

    @property
    def closing(self) -> bool:
        """Whether the client said its last message, and the server's signature is to come."""
        return self._phase is _Phase.CLOSING

    @property
    def deadline_s(self) -> float | None:
        """How long to wait for the other side's next message; None if it is not its turn."""
        if self.over or self.my_turn:
            return None
        if self._phase is _Phase.CLOSING:
            return CLOSING_DEADLINE_S
        states = self._places.of(self.party)
        if self._machine is not None:
            states = frozenset({self._machine.state})
        return max(self._deadlines_s[state] for state in states)

    def bind(self, machine: Machine) -> None:
        """Have a machine end when the conversation is aborted, by either side."""
        self._machine = machine
        self._end_machine()

    def ticket(self) -> Ticket | None:
        """Return where the session stands, None unless it is between two queries."""
        between = self._places.of(Party.CLIENT) == {PartyState.AGREED}
        if self._phase is not _Phase.TALK or not between or self._peer_certificate is None:
            return None
        return Ticket(
            self._session,
            self._sequence,
            self._transcript,
            self._committed,
            fingerprint(self._peer_certificate),
        )

    def send(self, message: Said, *, more: bool = False) -> bytes:
        """Return the bytes that say a message; `more`: this side speaks again after it.

        Raises ProtocolError, and changes nothing, for a message that is out of turn or place, or
        cannot be coded.
        """
        if isinstance(message, Abort):
            return self.abort(message.code, message.reason)
        if not self.my_turn:
            raise self._refused(f"message {type(message).__name__} is out of turn")
        body = encode(message)
        self._follow(self.party, message)
        # An armed client takes no message: it speaks again, when it has measured.
        alone = self._phase is _Phase.TALK and not self._places.may_speak(self._peer)
        more = not isinstance(message, Close) and (more or alone)
        data = self._said(body, more=more, signature=self._signed(message))
        self._settle(self.party, message)
        return data

    def abort(self, code: AbortCode, reason: str) -> bytes:
        """End the session and return the bytes that say so; raises ProtocolError after the end."""
        if self.over:
            raise self._refused("an abort after the end")
        abort = Abort(code, reason)
        data = self._said(encode(abort), more=False, signature=None)
        self._end(abort, self.party)
        return data

    def receive(self, data: bytes) -> Said:
        """Return the message in bytes of the other side, an abort of it included.

        Raises AbortedError for anything that is wrong with it: then the session is over on this
        side, and `farewell` is to be sent. Raises ProtocolError after the end.
        """
        if self.over:
            raise self._refused("a message after the end")
        try:
            envelope, message = self._opened(data)
            self._require_fits(envelope, message)
            if isinstance(message, Abort):
                self._end(message, self._peer)
                return message
            if self._turn is not self._peer:
                reason = f"message {type(message).__name__}: it is not the sender's turn"
                raise _WrongError(AbortCode.OUT_OF_TURN, reason)
            self._require_place(message)
            self._require_signature(envelope, message)
        except _WrongError as wrong:
            self.farewell = self.abort(wrong.code, wrong.reason)
            raise AbortedError(str(self.party), str(wrong.code), wrong.reason) from wrong
        self._crossed = []
        self._count(self._peer, data)
        self._turn = self._peer if envelope.more else self.party
        self._settle(self._peer, message)
        return message

    @property
    def _peer(self) -> Party:
        return other(self.party)

    @property
    def _here(self) -> tuple[int, bytes]:
        return self._sequence, self._transcript

    def _opened(self, data: bytes) -> tuple[Envelope, Said]:
        """Return what is in bytes that belong to this session and its other side."""
        if len(data) > MOST_BYTES:
            raise _WrongError(
                AbortCode.OVERSIZED, f"{len(data)} bytes; expected at most {MOST_BYTES}"
            )
        try:
            envelope = Envelope.decoded(data)
            message = decode(envelope.body)
        except ProtocolError as error:
            raise _WrongError(AbortCode.MALFORMED, f"{error.state}: {error.problem}") from error
        first = self._peer_certificate is None
        if first in {envelope.nonce is None, envelope.certificate is None}:
            due = "missing in the first" if first else "in a later"
            raise _WrongError(AbortCode.MALFORMED, f"nonce or certificate {due} message of a party")
        # Who ends a session before it knows the number says zeros; the transcript binds it still.
        if not (isinstance(message, Abort) and envelope.session == NO_SESSION):
            self._require_session(envelope)
        if envelope.certificate is not None and envelope.nonce is not None:
            self._meet(envelope.certificate, envelope.nonce)
        return envelope, message

    def _require_session(self, envelope: Envelope) -> None:
        expected = self._session
        if expected == NO_SESSION and self.party is Party.CLIENT and envelope.nonce is not None:
            expected = session_of(client=self._nonce, server=envelope.nonce)
        if envelope.session != expected:
            raise _WrongError(
                AbortCode.OTHER_SESSION,
                f"session {envelope.session.hex()}; expected {expected.hex()}",
            )

    def _meet(self, certificate: bytes, nonce: bytes) -> None:
        """Look at who the other side is; with its nonce the session has a number."""
        try:
            self._verifies = self._accept(certificate)
        except ProtocolError as error:
            raise _WrongError(AbortCode.CERTIFICATE, error.problem) from error
        if self._resumed is not None and fingerprint(certificate) != self._resumed.peer:
            raise _WrongError(AbortCode.CERTIFICATE, "the ticket is of another certificate")
        self._peer_certificate = certificate
        if self._session == NO_SESSION:
            client, server = self._nonce, nonce
            if self.party is Party.SERVER:
                client, server = server, client
            self._session = session_of(client=client, server=server)

    def _require_fits(self, envelope: Envelope, message: Said) -> None:
        """Refuse what does not come right after what was said, which only an abort may cross."""
        crossed = self._crossed if isinstance(message, Abort) else []
        if (envelope.sequence, envelope.transcript) in (*crossed, self._here):
            return
        named = f"message {type(message).__name__}"
        if isinstance(message, Abort):
            named += f" ({message.code}: {message.reason})"
        if envelope.sequence == self._sequence:
            reason = f"transcript {envelope.transcript.hex()}; expected {self._transcript.hex()}"
            raise _WrongError(AbortCode.OTHER_TRANSCRIPT, f"{named}: {reason}")
        old = envelope.sequence < self._sequence
        raise _WrongError(
            AbortCode.OLD_SEQUENCE if old else AbortCode.SKIPPED_SEQUENCE,
            f"{named}: number {envelope.sequence}; expected {self._sequence}",
        )

    def _require_signature(self, envelope: Envelope, message: Said) -> None:
        name, signature = type(message).__name__, envelope.signature
        if not isinstance(message, Close | Closed):
            if signature is not None:
                raise _WrongError(AbortCode.MALFORMED, f"{name}: a signature; expected none")
            return
        assert self._peer_certificate is not None
        assert self._verifies is not None
        seal = Seal(
            self._peer, self._session, self._transcript, signature or b"", self._peer_certificate
        )
        if signature is None or not self._verifies(seal.statement, signature):
            reason = f"{name}: no signature of this transcript by the sender's certificate"
            raise _WrongError(AbortCode.SIGNATURE, reason)
        self.seals[self._peer] = seal

    def _signed(self, message: Said) -> bytes | None:
        """Return this side's signature of what was said before a closing message."""
        if not isinstance(message, Close | Closed):
            return None
        certificate = self._identity.certificate
        unsigned = Seal(self.party, self._session, self._transcript, b"", certificate)
        signature = self._identity.sign(unsigned.statement)
        self.seals[self.party] = Seal(
            self.party, self._session, self._transcript, signature, certificate
        )
        return signature

    def _require_place(self, message: Said) -> None:
        try:
            self._follow(self._peer, message)
        except ProtocolError as error:
            raise _WrongError(AbortCode.OUT_OF_PLACE, error.problem) from error

    def _follow(self, speaker: Party, message: Said) -> None:
        """Move along the tables; raises ProtocolError for a message that is out of place."""
        if self._phase is _Phase.TALK and not isinstance(message, Closed | Resume | Resumed):
            self._places.say(speaker, type(message))
            return
        due: type[Said] | None = None
        if self._phase is _Phase.RESUMING:
            due = Resume if speaker is Party.CLIENT else Resumed
        elif self._phase is _Phase.CLOSING and speaker is Party.SERVER:
            due = Closed
        name = type(message).__name__
        if due is None or not isinstance(message, due):
            expected = "nothing of this kind" if due is None else due.__name__
            raise self._refused(f"message {name} is out of place; expected {expected}")
        if isinstance(message, Resume) and message.committed != self._committed:
            raise self._refused(
                f"message {name}: {message.committed} queries answered; expected {self._committed}"
            )

    def _settle(self, speaker: Party, message: Said) -> None:
        """Take what a message that was said means for the session."""
        match message:
            case Done():
                self._committed += message.count
            case Close():
                self._phase, self._turn = _Phase.CLOSING, other(speaker)
            case Closed():
                self._phase = _Phase.OVER
            case Resumed():
                self._phase = _Phase.TALK

    def _said(self, body: bytes, *, more: bool, signature: bytes | None) -> bytes:
        first = not self._introduced
        data = Envelope(
            self._session,
            self._sequence,
            self._transcript,
            body,
            more,
            self._nonce if first else None,
            self._identity.certificate if first else None,
            signature,
        ).encoded()
        self._introduced = True
        self._crossed.append(self._here)
        self._count(self.party, data)
        self._turn = self.party if more else self._peer
        return data

    def _count(self, party: Party, data: bytes) -> None:
        self._sequence += 1
        self._transcript = and_then(self._transcript, party, data)

    def _end(self, abort: Abort, by: Party) -> None:
        self._phase, self.ended, self.ended_by = _Phase.OVER, abort, by
        self._end_machine()

    def _end_machine(self) -> None:
        machine, ended = self._machine, self.ended
        over = (PartyState.CLOSED, PartyState.ABORTED)
        if machine is not None and ended is not None and machine.state not in over:
            machine.abort(ended.code, ended.reason)

    def _refused(self, problem: str) -> ProtocolError:
        return ProtocolError(str(self.party), self._phase.value, problem)


class _WrongError(Exception):
    """What is wrong with the other side's message, by name."""

    def __init__(self, code: AbortCode, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason
