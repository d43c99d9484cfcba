"""Evidence that was changed anywhere is refused, and what was changed is named."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from evidence_runs import ID, account, changed, places, session, verification, write_json, write_run

from labctl.errors import EvidenceError, RunFileError, UsageError
from labctl.evidence.envelope import SignedEnvelope
from labctl.evidence.export import EvidenceFormat, evidence_of
from labctl.evidence.from_run import facts_of_file
from labctl.evidence.keys import Algorithm, EvidenceKey
from labctl.evidence.ocsf import Activity
from labctl.evidence.statement import payload_of, statement_of
from labctl.evidence.verify import read_documents, verify_file
from labctl.protocols.ledger.chain import canonical

Make = Callable[..., EvidenceKey]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a key in a new file."""

    def key(name: str = "key.pem", algorithm: Algorithm = Algorithm.ED25519) -> EvidenceKey:
        return EvidenceKey.make(tmp_path / name, algorithm)

    return key


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a run whose budget is nearly spent."""
    folder = tmp_path_factory.mktemp("run")
    return write_run(folder / "run.h5", record=session(account=account(spent=3.9)))


def test_events_are_verified_as_they_were_written(run: Path, tmp_path: Path) -> None:
    for activity in Activity:
        path = write_json(
            tmp_path / "e.json", evidence_of(run, EvidenceFormat.OCSF, activity=activity)
        )
        found = verify_file(path, run=run)
        assert [each.finding for each in found] == ["ACCEPTED", "NEARLY-SPENT"]
        assert {each.facts.session.id for each in found} == {ID}
        assert [each.signed_by for each in found] == [(), ()]


def test_no_place_of_an_event_can_be_changed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = facts_of_file(run)
    monkeypatch.setattr("labctl.evidence.verify.facts_of_file", lambda path: facts)
    events = evidence_of(run, EvidenceFormat.OCSF)
    assert len(events) == 2
    tried = 0
    for event in events:
        for place in places(event):
            value: Any = event
            for step in place:
                value = value[step]
            for other in others(value):
                path = write_json(tmp_path / "e.json", changed(event, place, other))
                with pytest.raises(EvidenceError, match="evidence 1: "):
                    verify_file(path, run=run)
                tried += 1
    assert tried > 200


def others(value: Any) -> list[Any]:
    """Return other values of the same type, and one of another."""
    if isinstance(value, bool):
        return [not value, int(value)]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [value * 1.0000001 + 1e-30, str(value)]
    if isinstance(value, str):
        return [value + "x", value.swapcase() + " ", None]
    return ["x"]


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("severity_id",), 1, "event: severity_id: expected 4, got 1"),
        (("status_code",), "ACCEPTED", "event: status_code: expected 'REJECTED', got 'ACCEPTED'"),
        (("class_uid",), 2001, "event: class_uid: expected 2004, got 2001"),
        (("activity_id",), 9, "activity_id: expected 1 to 3, got 9"),
        (("activity_id",), True, "activity_id: expected 1 to 3, got True"),
        (("activity_id",), 3, "event: activity_name: expected 'Close', got 'Create'"),
        (("unmapped",), None, "event: no facts in unmapped.labctl"),
        (("unmapped", "labctl", "verdict"), "ACCEPTED", "does not agree with failed checks"),
        (("unmapped", "labctl", "light", "gain"), 1.4, "light.gain: expected 1.3, got 1.4"),
        (("unmapped", "labctl", "weights"), [0.5], "facts: weights: Extra inputs are not"),
        (("unmapped", "labctl", "assumptions", "in_words"), [], "in_words: Tuple should have"),
        (("extra",), 1, "event: extra: not expected, got 1"),
        (("finding_info", "uid"), "0", "finding_info.uid: expected"),
    ],
)
def test_what_was_changed_of_an_event_is_named(
    tmp_path: Path, place: tuple[str, ...], value: object, said: str
) -> None:
    run = write_run(tmp_path / "run.h5", verdict=verification(False))
    (event,) = evidence_of(run, EvidenceFormat.OCSF)
    path = write_json(tmp_path / "e.json", [changed(event, place, value)])
    with pytest.raises(EvidenceError) as refused:
        verify_file(path, run=run)
    assert said in str(refused.value)


@pytest.mark.parametrize("algorithms", [[Algorithm.ED25519], list(Algorithm)])
def test_a_statement_is_verified_with_public_keys_alone(
    run: Path, tmp_path: Path, make: Make, algorithms: list[Algorithm]
) -> None:
    keys = [make(f"{name}.pem", name) for name in algorithms]
    path = write_json(tmp_path / "e.json", evidence_of(run, EvidenceFormat.IN_TOTO, keys=keys)[0])
    public = [key.public for key in keys]
    (found,) = verify_file(path, keys=public)
    assert found.signed_by == tuple(key.fingerprint for key in public)
    assert (found.finding, found.other_signatures) == ("ACCEPTED", 0)
    assert found.facts == facts_of_file(run)
    (found,) = verify_file(path, keys=public[:1], run=run)
    assert found.other_signatures == len(keys) - 1


def test_every_bit_of_payload_and_signature_counts(run: Path, tmp_path: Path, make: Make) -> None:
    key = make()
    (right,) = evidence_of(run, EvidenceFormat.IN_TOTO, keys=[key])
    random_places = range(0, 800, 97)
    for place in (("payload",), ("signatures", 0, "sig")):
        text = right["payload"] if place == ("payload",) else right["signatures"][0]["sig"]
        content = base64.b64decode(text)
        for index in random_places:
            damaged = bytearray(content)
            damaged[index % len(content)] ^= 1 << (index % 8)
            wrong = changed(right, place, base64.b64encode(damaged).decode())
            path = write_json(tmp_path / "e.json", wrong)
            with pytest.raises(EvidenceError, match="is not of this payload"):
                verify_file(path, keys=[key.public])


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("payloadType",), "text/plain", "payloadType: expected application/vnd.in-toto"),
        (("payload",), "%%%", "envelope: payload: expected base64"),
        (("payload",), None, "envelope: payload: must be a valid string"),
        (("signatures",), [], "envelope: signatures: Tuple should have at least 1 item"),
        (("signatures", 0, "sig"), "", "is not of this payload"),
        (("signatures", 0, "sig"), "é", "expected base64"),
        (("signatures", 0, "keyid"), "a1" * 32, "no signature of the ed25519 key"),
        (("signatures", 0, "keyid"), "short", "signatures.0.keyid: expected a SHA"),
        (("signatures", 0, "cert"), "x", "signatures.0.cert: Extra inputs"),
        (("more",), 1, "envelope: more: Extra inputs are not permitted"),
    ],
)
def test_what_was_changed_of_an_envelope_is_named(
    run: Path, tmp_path: Path, make: Make, place: tuple[str | int, ...], value: object, said: str
) -> None:
    key = make()
    (right,) = evidence_of(run, EvidenceFormat.IN_TOTO, keys=[key])
    path = write_json(tmp_path / "e.json", changed(right, place, value))
    with pytest.raises(EvidenceError) as refused:
        verify_file(path, keys=[key.public])
    assert said in str(refused.value)


def test_a_statement_signed_by_another_is_refused(run: Path, tmp_path: Path, make: Make) -> None:
    path = write_json(
        tmp_path / "e.json", evidence_of(run, EvidenceFormat.IN_TOTO, keys=[make("other.pem")])[0]
    )
    with pytest.raises(EvidenceError, match=r"no signature of the ed25519 key [0-9a-f]{16}; sig"):
        verify_file(path, keys=[make().public])


def test_leaving_out_the_second_signature_is_seen(run: Path, tmp_path: Path, make: Make) -> None:
    keys = [make(), make("pq.pem", Algorithm.ML_DSA_65)]
    (envelope,) = evidence_of(run, EvidenceFormat.IN_TOTO, keys=keys)
    envelope["signatures"] = envelope["signatures"][:1]
    path = write_json(tmp_path / "e.json", envelope)
    with pytest.raises(EvidenceError, match="no signature of the ml-dsa-65 key"):
        verify_file(path, keys=[key.public for key in keys])


def test_a_statement_with_nothing_to_check_it_by_is_a_usage_error(
    run: Path, tmp_path: Path, make: Make
) -> None:
    path = write_json(
        tmp_path / "e.json", evidence_of(run, EvidenceFormat.IN_TOTO, keys=[make()])[0]
    )
    with pytest.raises(UsageError, match="--key FILE with the signer's public key is needed"):
        verify_file(path)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("_type",), "https://in-toto.io/Statement/v0.1", "statement: _type: expected"),
        (("predicateType",), "https://slsa.dev/provenance/v1", "predicateType: expected"),
        (("subject",), [], "no subject or no predicate"),
        (("subject", 0, "digest"), {"sha512": "00"}, "facts: model.sha256"),
        (("subject", 0, "digest", "sha1"), "00", "subject[0].digest.sha1: not expected"),
        (("predicate", "weights"), [0.5], "facts: weights: Extra inputs"),
        (("predicate", "assumptions", "inWords"), [], "Tuple should have at least 1 item"),
        (("predicate", "verdict"), "REJECTED", "does not agree with failed checks"),
        (("predicate",), None, "no subject or no predicate"),
    ],
)
def test_what_a_signer_wrote_otherwise_is_named(
    run: Path, tmp_path: Path, make: Make, place: tuple[str | int, ...], value: object, said: str
) -> None:
    """A right signature of a wrong statement: the schema is looked at too."""
    key = make()
    statement = changed(statement_of(facts_of_file(run)), place, value)
    path = write_json(
        tmp_path / "e.json", SignedEnvelope.signed(canonical(statement), [key]).as_json()
    )
    with pytest.raises(EvidenceError) as refused:
        verify_file(path, keys=[key.public])
    assert said in str(refused.value)


def test_a_statement_is_written_in_one_way(run: Path, tmp_path: Path, make: Make) -> None:
    key = make()
    right = payload_of(facts_of_file(run))
    loose = json.dumps(json.loads(right)).encode()
    twice = right.replace(b'"verdict":', b'"verdict":"REJECTED","verdict":')
    for payload, said in (
        (loose, "not written the way"),
        (twice, "'verdict' is said twice"),
        (b"[]", "payload: is no statement"),
        (b"\xff", "payload: is no JSON"),
    ):
        path = write_json(tmp_path / "e.json", SignedEnvelope.signed(payload, [key]).as_json())
        with pytest.raises(EvidenceError, match=said):
            verify_file(path, keys=[key.public])


def test_evidence_of_another_run_is_refused(run: Path, tmp_path: Path) -> None:
    path = write_json(tmp_path / "e.json", evidence_of(run, EvidenceFormat.OCSF))
    other = write_run(tmp_path / "other.h5", record=session(id="f" * 32))
    with pytest.raises(EvidenceError, match=f"of another session, {ID}; the run file is of ffff"):
        verify_file(path, run=other)
    same = write_run(
        tmp_path / "same.h5", record=session(account=account(3.9)), receiver={"gain": 2.0}
    )
    with pytest.raises(EvidenceError, match=r"run file says: light\.gain: expected 2\.0, got 1\.3"):
        verify_file(path, run=same)
    with pytest.raises(RunFileError, match="no such run file"):
        verify_file(path, run=tmp_path / "absent.h5")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no evidence"),
        ("{", "no JSON"),
        ("[]", "holds no evidence"),
        ("[1]", "evidence 1: neither an OCSF event nor an envelope"),
        ("{}", "evidence 1: neither"),
        ('{"class_uid": 2004}', "event: no facts"),
        ('{"class_uid": 2004, "class_uid": 2001}', "'class_uid' is said twice"),
        ('{"payloadType": []}', "envelope: "),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"class_uid": 2004, "unmapped": {"labctl": {"verdict": "\\ud800"}}}', "facts: "),
        ('{"class_uid": 2004, "unmapped": {"labctl": 1}}', "facts: "),
        ('{"class_uid": 2004, "unmapped": {"labctl": {"verdict": 1e999}}}', "facts: Out of range"),
        ('{"payloadType": 1e999}', "envelope: Out of range"),
    ],
)
def test_a_file_of_something_else_is_refused_in_one_line(
    run: Path, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "e.json"
    path.write_text(text)
    with pytest.raises(EvidenceError, match=r"e\.json: ") as refused:
        verify_file(path, run=run)
    assert said in str(refused.value)


def test_a_file_that_is_not_there_or_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EvidenceError, match="cannot be read"):
        read_documents(tmp_path / "absent")
    monkeypatch.setattr("labctl.evidence.verify.MOST_BYTES", 10)
    with pytest.raises(EvidenceError, match="at most 10 are read"):
        read_documents(write_json(tmp_path / "e.json", list(range(20))))


def test_arrays_single_objects_and_lines_are_read(run: Path, tmp_path: Path) -> None:
    events = evidence_of(run, EvidenceFormat.OCSF)
    path = tmp_path / "e.json"
    texts = {
        json.dumps(events): 2,
        json.dumps(events, indent=1): 2,
        json.dumps(events[0]): 1,
        json.dumps(events[0], indent=1): 1,
        "".join(json.dumps(event) + "\n" for event in events): 2,
    }
    for text, count in texts.items():
        path.write_text(text)
        assert len(verify_file(path, run=run)) == count


def test_a_key_is_no_use_for_what_is_not_signed(run: Path, tmp_path: Path, make: Make) -> None:
    path = write_json(tmp_path / "e.json", deepcopy(evidence_of(run, EvidenceFormat.OCSF)))
    with pytest.raises(EvidenceError, match="an OCSF event has no signature"):
        verify_file(path, keys=[make().public])
