"""What binds a session: certificates, its number, tickets, signatures of the transcript."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from labctl.party import Party

# Of two sessions out of 2^64 one pair has the same number.
SESSION_BYTES = 16

_END = b"labctl.v1 end of a session\n"
_SESSION = b"labctl.v1 session\n"
_TRANSCRIPT = b"labctl.v1 transcript\n"
_SPEAKERS = {Party.SERVER: b"server\n", Party.CLIENT: b"client\n"}

# Of a statement and a signature: whether the signature holds.
Verifier = Callable[[bytes, bytes], bool]
# Of a certificate (DER): refuses it with ProtocolError, or returns what its key verifies.
Accept = Callable[[bytes], Verifier]

NOTHING_SAID = hashlib.sha256(_TRANSCRIPT).digest()


@dataclass(frozen=True)
class Identity:
    """What a party shows of itself: its certificate (DER), and signatures by the key in it."""

    certificate: bytes
    sign: Callable[[bytes], bytes]


@dataclass(frozen=True)
class Seal:
    """A party's signature of all that was said, with the certificate (DER) that it holds for."""

    party: Party
    session: bytes
    transcript: bytes
    signature: bytes
    certificate: bytes

    @property
    def statement(self) -> bytes:
        """What is signed."""
        return statement(self.party, self.session, self.transcript)


@dataclass(frozen=True)
class Ticket:
    """Where a session stands between two queries, for going on over another stream.

    committed: queries that were answered. peer: fingerprint of the other side's certificate.
    """

    session: bytes
    sequence: int
    transcript: bytes
    committed: int
    peer: str


def statement(party: Party, session: bytes, transcript: bytes) -> bytes:
    """Return what a party signs at the end of a session."""
    return _END + _SPEAKERS[party] + session + transcript


def session_of(*, client: bytes, server: bytes) -> bytes:
    """Return the session's number of two nonces: neither side alone chooses it."""
    return hashlib.sha256(_SESSION + client + server).digest()[:SESSION_BYTES]


def and_then(transcript: bytes, party: Party, data: bytes) -> bytes:
    """Return the transcript after a party's envelope."""
    return hashlib.sha256(transcript + _SPEAKERS[party] + data).digest()


def fingerprint(certificate: bytes) -> str:
    """Return the SHA-256 of a certificate (DER), 64 hexadecimal digits."""
    return hashlib.sha256(certificate).hexdigest()
