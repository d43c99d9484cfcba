"""What every message travels in: session, number, transcript, and whose turn comes next."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.errors import ProtocolError
from labctl.parties.codec import MOST_BYTES, read
from labctl.parties.fields import Fields
from labctl.parties.schema import session_pb2 as schema
from labctl.parties.seals import SESSION_BYTES
from labctl.parties.wire_form import malformed

NONCE_BYTES = 32
# Of SHA-256.
TRANSCRIPT_BYTES = 32
# Of a body: the rest of the envelope fits into what is left of a message of MOST_BYTES.
MOST_BODY_BYTES = MOST_BYTES - 8192
# A certificate of P-256 has 0.6 kB; a chain of names some more.
MOST_CERTIFICATE_BYTES = 4096
# ECDSA over P-256 has at most 72; RSA of 4096 bits 512.
MOST_SIGNATURE_BYTES = 512
NO_SESSION = bytes(SESSION_BYTES)
# A session of a message each microsecond, for 100 000 years.
_MOST_SEQUENCE = 2**62


@dataclass(frozen=True)
class Envelope:
    """One message on its way.

    session: 16 bytes, zeros before both nonces are known. sequence: messages said by both before.
    transcript: SHA-256 over those. body: the coded message. more: the sender goes on. nonce and
    certificate (DER): in each side's first envelope. signature: with the closing messages.
    """

    session: bytes
    sequence: int
    transcript: bytes
    body: bytes
    more: bool = False
    nonce: bytes | None = None
    certificate: bytes | None = None
    signature: bytes | None = None

    def encoded(self) -> bytes:
        """Return it as bytes; raises ProtocolError for a body that is too long."""
        if len(self.body) > MOST_BODY_BYTES:
            valid = f"expected at most {MOST_BODY_BYTES}"
            raise malformed("Envelope", f"body of {len(self.body)} bytes; {valid}")
        coded = schema.Envelope(
            session=self.session,
            sequence=self.sequence,
            transcript=self.transcript,
            body=self.body,
            more=self.more or None,
            nonce=self.nonce,
            certificate=self.certificate,
            signature=self.signature,
        )
        return coded.SerializeToString(deterministic=True)

    @classmethod
    def decoded(cls, data: bytes) -> Envelope:
        """Return what is in bytes; raises ProtocolError."""
        coded = schema.Envelope()
        read(coded, data)
        fields = Fields(coded)

        def octets(name: str, least: int, most: int) -> bytes | None:
            return fields.octets(name, least, most) if fields.has(name) else None

        return cls(
            fields.octets("session", SESSION_BYTES, SESSION_BYTES),
            fields.integer("sequence", 0, _MOST_SEQUENCE),
            fields.octets("transcript", TRANSCRIPT_BYTES, TRANSCRIPT_BYTES),
            fields.octets("body", 1, MOST_BODY_BYTES),
            fields.has("more") and fields.flag("more"),
            octets("nonce", NONCE_BYTES, NONCE_BYTES),
            octets("certificate", 1, MOST_CERTIFICATE_BYTES),
            octets("signature", 1, MOST_SIGNATURE_BYTES),
        )


def session_in(data: bytes) -> bytes:
    """Return the session that an envelope names, zeros where the bytes are no envelope."""
    try:
        return Envelope.decoded(data).session
    except ProtocolError:
        return NO_SESSION
