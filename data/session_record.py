"""What a run file says of its session beside light and verdict: who took part, ledger, transcript.

Each is left out where it is not known. A run in one process has no transcript; a run without a
ledger has no account.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

# A session's id has as many bits as a UUID: two never meet by chance.
_ID_BYTES = 16
_HEX = re.compile(r"[0-9a-f]*")

Kind = Literal["in-process", "two-party"]
Identity = Literal["certificate", "key", "name alone"]


def _sha256(text: str) -> str:
    if len(text) != 64 or not _HEX.fullmatch(text):
        raise ValueError("expected a SHA-256, 64 hexadecimal digits")
    return text


def _session_id(text: str) -> str:
    if len(text) != 2 * _ID_BYTES or not _HEX.fullmatch(text):
        raise ValueError(f"expected {2 * _ID_BYTES} hexadecimal digits")
    return text


Sha256 = Annotated[str, AfterValidator(_sha256)]
SessionId = Annotated[str, AfterValidator(_session_id)]


def new_session_id() -> str:
    """Return the id of a new session: 32 hexadecimal digits that nobody can guess."""
    return secrets.token_hex(_ID_BYTES)


class _Record(BaseModel):
    """A part of a run file: values of the stated types alone, and names to come are let by."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class AccountRecord(_Record):
    """The client's account in the server's ledger when the run ended.

    `spent`, `reserved` and `budget` by meter of the ledger; `queries_left` of the run's settings,
    None for no limit; `basis` and `composition` in words: how the sums were put together.
    """

    spent: dict[str, float]
    reserved: dict[str, float]
    budget: dict[str, float]
    overdrawn: bool
    queries_left: int | None = None
    basis: str | None = None
    composition: tuple[str, ...] = ()


class SessionRecord(_Record):
    """Who took part in a session, and what both sides noted of it.

    `client_fingerprint`, `server_fingerprint`: SHA-256 of the SubjectPublicKeyInfo of a party's key
    or certificate, None for a name alone. `server_ledger_head`, `client_ledger_head`: last hash of
    each ledger. `transcript_sha256`: of all messages of two parties.
    """

    id: SessionId
    kind: Kind = "in-process"
    client: str | None = None
    client_identity: Identity | None = None
    client_fingerprint: Sha256 | None = None
    server_fingerprint: Sha256 | None = None
    account: AccountRecord | None = None
    server_ledger_head: Sha256 | None = None
    client_ledger_head: Sha256 | None = None
    transcript_sha256: Sha256 | None = None

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Return the record of a JSON object; raises ValueError naming what is not of one."""
        try:
            return cls.model_validate_json(json.dumps(document))
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)[0]
            place = ".".join(str(part) for part in ("session", *found["loc"]))
            raise ValueError(f"{place}: {found['msg']}") from error
