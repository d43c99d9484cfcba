"""One line of a ledger, sealed: to the line before by a hash, to the ledger's key by a code.

A line is canonical JSON. `previous` is the hash of the line before, `hash` the SHA-256 of the rest
of the line, `previous` included, and `mac` the HMAC-SHA-256 of the hash. Without the key anybody
can follow the chain; nobody can write a line that fits. Every byte counts: a line that means the
same but is written otherwise is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Replaces the hash before the first entry; a SHA-256 has 64 hex digits.
BEGINNING = "0" * 64
_SEALS = ("hash", "mac")


@dataclass(frozen=True)
class Sealed:
    """What a line says, and its own hash."""

    content: Mapping[str, Any]
    hash: str


def canonical(content: Mapping[str, Any]) -> bytes:
    """Return the one way to write a document: sorted, dense, ASCII; raises ValueError for NaN."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def seal(content: Mapping[str, Any], key: bytes) -> tuple[bytes, str]:
    """Return the line of a document, newline included, and its hash."""
    digest = hashlib.sha256(canonical(content)).hexdigest()
    sealed = {**content, "hash": digest, "mac": _code(digest, key)}
    return canonical(sealed) + b"\n", digest


def unseal(line: bytes, key: bytes) -> Sealed:
    """Return what a line says; raises ValueError with the reason if it is not as it was written."""
    if not line.endswith(b"\n"):
        raise ValueError("cut short")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in _SEALS):
        raise ValueError("not an entry of a ledger")
    content = {name: value for name, value in found.items() if name not in _SEALS}
    expected, digest = _again(content, key)
    if found["hash"] != digest:
        raise ValueError("its hash is not that of what it says")
    if not hmac.compare_digest(found["mac"].encode(), _code(digest, key).encode()):
        raise ValueError("its code was not made with the key of this ledger")
    if line != expected:
        raise ValueError("not written the way a ledger writes")
    return Sealed(content, digest)


def _again(content: Mapping[str, Any], key: bytes) -> tuple[bytes, str]:
    try:
        return seal(content, key)
    except (ValueError, RecursionError) as error:
        raise ValueError("not an entry of a ledger") from error


def _code(digest: str, key: bytes) -> str:
    return hmac.new(key, digest.encode("ascii"), hashlib.sha256).hexdigest()
