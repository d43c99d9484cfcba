"""Checking evidence: what it says, who signed it, and whether a run file says the same.

Everything beside the facts follows from them, in one way. So the facts are read, the whole is made
again, and the first difference is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.errors import EvidenceError, UsageError
from labctl.evidence.envelope import SignedEnvelope
from labctl.evidence.export import EvidenceFormat
from labctl.evidence.facts import Facts
from labctl.evidence.from_run import facts_of_file
from labctl.evidence.keys import EvidencePublicKey
from labctl.evidence.ocsf import Activity, facts_of_event, findings_of
from labctl.evidence.problems import differences, first_problem
from labctl.evidence.statement import PAYLOAD_TYPE, facts_of_statement, statement_of
from labctl.plain_file import parsed_json, read_plain
from labctl.protocols.ledger.chain import canonical

# A finding has 8 kB: thousands of sessions in one file.
MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class Checked:
    """One piece of evidence that is as it was written.

    `signed_by`: fingerprints of the keys that are given and have signed it; `other_signatures`:
    how many it has of keys that are not given. `finding`: verdict or budget, by its status code.
    """

    form: EvidenceFormat
    facts: Facts
    finding: str
    signed_by: tuple[str, ...] = ()
    other_signatures: int = 0


def read_documents(path: Path) -> list[Any]:
    """Return what an evidence file holds: an array, one object, or one object on each line.

    Raises EvidenceError where it cannot be read or is no JSON.
    """
    try:
        content = read_plain(path, MOST_BYTES)
    except OSError as error:
        raise EvidenceError(f"{path}: cannot be read ({error.strerror})") from error
    lines = content.splitlines() if content.lstrip()[:1] == b"{" else [content]
    texts = [line for line in lines if line.strip()]
    try:
        if len(texts) > 1 and not _is_json(texts[0]):
            texts = [content]
        found = [parsed_json(text, unique_names=True) for text in texts]
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{path}: is no JSON that evidence is written in: {error}") from error
    documents = found[0] if len(found) == 1 and isinstance(found[0], list) else found
    if not documents:
        raise EvidenceError(f"{path}: holds no evidence")
    return documents


def _is_json(text: bytes) -> bool:
    try:
        parsed_json(text)
    except ValueError:
        return False
    return True


def verify_file(
    path: Path, *, keys: Sequence[EvidencePublicKey] = (), run: Path | None = None
) -> list[Checked]:
    """Return what a file of evidence says, once all of it was found to be as it was written.

    keys: each must have signed each statement. run: the run file that all of it must be of. Raises
    EvidenceError, naming the first that was changed, RunFileError for the run's own file, and
    UsageError for a statement with neither keys nor run: that would look at nothing.
    """
    expected = None if run is None else facts_of_file(run)
    documents = read_documents(path)
    if not keys and run is None and any(_is_envelope(each) for each in documents):
        raise UsageError(
            f"{path}: a signed statement; --key FILE with the signer's public key is needed to "
            "check it, or --run FILE to compare it"
        )
    checked = []
    for number, document in enumerate(documents, start=1):
        try:
            found = _checked(document, keys)
            if expected is not None:
                _require_same(expected, found.facts, "not what the run file says: ")
        except EvidenceError as problem:
            raise EvidenceError(f"{path}: evidence {number}: {problem}") from problem
        checked.append(found)
    return checked


def _is_envelope(document: Any) -> bool:
    return isinstance(document, Mapping) and "payloadType" in document


def _checked(document: Any, keys: Sequence[EvidencePublicKey]) -> Checked:
    if _is_envelope(document):
        return _checked_envelope(document, keys)
    if isinstance(document, Mapping) and "class_uid" in document:
        if keys:
            raise EvidenceError("an OCSF event has no signature for a key to check")
        return _checked_event(document)
    raise EvidenceError("neither an OCSF event nor an envelope of a statement")


def _checked_envelope(document: Any, keys: Sequence[EvidencePublicKey]) -> Checked:
    envelope = SignedEnvelope.of(document)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise EvidenceError(f"payloadType: expected {PAYLOAD_TYPE}, got {envelope.payload_type!r}")
    # Before anything of the payload is believed.
    envelope.require_signed(keys)
    try:
        statement = parsed_json(envelope.content, unique_names=True)
    except ValueError as error:
        raise EvidenceError(f"payload: is no JSON: {error}") from error
    if not isinstance(statement, dict):
        raise EvidenceError("payload: is no statement")
    facts = _facts(facts_of_statement(statement), "statement: no subject or no predicate")
    _require_same_json(statement_of(facts), statement, "statement: ")
    if canonical(statement) != envelope.content:
        raise EvidenceError("payload: not written the way labctl writes a statement")
    names = tuple(key.fingerprint for key in keys)
    others = sum(each.keyid not in names for each in envelope.signatures)
    return Checked(EvidenceFormat.IN_TOTO, facts, facts.verdict.value, names, others)


def _checked_event(event: Mapping[str, Any]) -> Checked:
    facts = _facts(facts_of_event(event), "event: no facts in unmapped.labctl")
    number = event.get("activity_id")
    made = [
        finding.as_json()
        for activity in Activity
        for finding in findings_of(facts, activity)
        if finding.activity_id == number and not isinstance(number, bool)
    ]
    if not made:
        raise EvidenceError(f"activity_id: expected 1 to {len(Activity)}, got {number!r}")
    info = event.get("finding_info")
    uid = info.get("uid") if isinstance(info, Mapping) else None
    same = [each for each in made if each["finding_info"]["uid"] == uid]
    _require_same_json((same or made)[0], event, "event: ")
    return Checked(EvidenceFormat.OCSF, facts, str(event["status_code"]))


def _facts(found: Any, missing: str) -> Facts:
    if found is None:
        raise EvidenceError(missing)
    try:
        return Facts.model_validate_json(canonical(found))
    except ValueError as error:
        raise EvidenceError(f"facts: {first_problem(error)}") from error


def _require_same(expected: Facts, found: Facts, what: str) -> None:
    if expected.session.id != found.session.id:
        raise EvidenceError(
            f"of another session, {found.session.id}; the run file is of {expected.session.id}"
        )
    _require_same_json(expected.model_dump(mode="json"), found.model_dump(mode="json"), what)


def _require_same_json(expected: Any, found: Any, what: str) -> None:
    for difference in differences(expected, found):
        raise EvidenceError(f"{what}{difference}")
