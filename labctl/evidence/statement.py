"""in-toto statements of sessions: the network as subject, the facts as predicate.

Statement v1 of the in-toto attestation framework. The subject's digest is that of the network's
weights (`labctl.data.models.Network.sha256`), which is not the digest of a file. Written in one
way only, so that a session has one statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labctl.evidence.facts import Facts
from labctl.protocols.ledger.chain import canonical

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://labctl.invalid/secure-session/v1"
"""Nobody can own a name under `.invalid` (RFC 2606), so this one cannot come to mean another."""
PAYLOAD_TYPE = "application/vnd.in-toto+json"


def statement_of(facts: Facts) -> dict[str, Any]:
    """Return the statement of a session as plain values for JSON."""
    predicate = facts.model_dump(mode="json", by_alias=True)
    model = predicate.pop("model")
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": model["name"], "digest": {"sha256": model["sha256"]}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }


def payload_of(facts: Facts) -> bytes:
    """Return the statement of a session as the bytes that are signed."""
    return canonical(statement_of(facts))


def facts_of_statement(statement: Mapping[str, Any]) -> Any:
    """Return what a statement says are its facts, None where it has none."""
    predicate, subject = statement.get("predicate"), statement.get("subject")
    if not isinstance(predicate, dict) or not isinstance(subject, list) or len(subject) != 1:
        return None
    named = subject[0] if isinstance(subject[0], dict) else {}
    digest = named.get("digest")
    sha256 = digest.get("sha256") if isinstance(digest, dict) else None
    return {**predicate, "model": {"name": named.get("name"), "sha256": sha256}}
