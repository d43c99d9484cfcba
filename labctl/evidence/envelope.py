"""DSSE envelopes: bytes of a stated type, and signatures of both together.

DSSE, Dead Simple Signing Envelope, version 1: what is signed is the type and the bytes with the
length of each before it (pre-authentication encoding), never the JSON around them. A key is named
by its fingerprint. The encoding begins with `DSSEv1`, so no signature of a ledger is one of an
envelope, nor the other way round.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, field_validator

from labctl.data.session_record import Sha256
from labctl.errors import EvidenceError
from labctl.evidence.facts import Part
from labctl.evidence.keys import EvidenceKey, EvidencePublicKey
from labctl.evidence.problems import first_problem
from labctl.evidence.statement import PAYLOAD_TYPE
from labctl.protocols.ledger.chain import canonical


def signed_bytes(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding of a payload: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # of which the module's own error is one
        raise ValueError("expected base64") from None


class _Signature(Part):
    keyid: Sha256
    sig: str

    @field_validator("sig")
    @classmethod
    def _is_base64(cls, text: str) -> str:
        _decoded(text)
        return text


class SignedEnvelope(Part):
    """A statement and its signatures, as they are written (JSON)."""

    payload_type: str
    payload: str
    signatures: tuple[_Signature, ...] = Field(min_length=1)

    @field_validator("payload")
    @classmethod
    def _is_base64(cls, text: str) -> str:
        _decoded(text)
        return text

    @classmethod
    def signed(cls, payload: bytes, keys: Sequence[EvidenceKey]) -> Self:
        """Return an envelope of an in-toto statement with a signature of each key."""
        message = signed_bytes(PAYLOAD_TYPE, payload)
        return cls(
            payload_type=PAYLOAD_TYPE,
            payload=base64.b64encode(payload).decode("ascii"),
            signatures=tuple(
                _Signature(
                    keyid=key.public.fingerprint,
                    sig=base64.b64encode(key.sign(message)).decode("ascii"),
                )
                for key in keys
            ),
        )

    @classmethod
    def of(cls, document: Any) -> Self:
        """Return the envelope that a JSON value is; raises EvidenceError naming what is wrong."""
        try:
            return cls.model_validate_json(canonical(document))
        except ValueError as error:
            raise EvidenceError(f"envelope: {first_problem(error)}") from error

    @property
    def content(self) -> bytes:
        """The signed bytes of the payload."""
        return _decoded(self.payload)

    def as_json(self) -> dict[str, Any]:
        """Return the envelope as plain values for JSON."""
        return self.model_dump(mode="json", by_alias=True)

    def require_signed(self, keys: Sequence[EvidencePublicKey]) -> None:
        """Raise EvidenceError unless each of the keys has signed the payload and its type.

        Signatures of other keys are let by: whose they are cannot be known here.
        """
        message = signed_bytes(self.payload_type, self.content)
        for key in keys:
            named = f"{key.algorithm} key {key.fingerprint[:16]}"
            own = [each for each in self.signatures if each.keyid == key.fingerprint]
            if not own:
                there = ", ".join(each.keyid[:16] for each in self.signatures)
                raise EvidenceError(f"no signature of the {named}; signed by {there}")
            if not all(key.holds(_decoded(each.sig), message) for each in own):
                raise EvidenceError(
                    f"the signature of the {named} is not of this payload: one of them was changed"
                )
