"""Envelopes as other programs verify them, by their own code and by a public key alone."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from evidence_runs import NETWORK_SHA256, TRANSCRIPT, write_run

from labctl.errors import IdentityError, SettingError
from labctl.evidence.envelope import SignedEnvelope, signed_bytes
from labctl.evidence.export import EvidenceFormat, evidence_of
from labctl.evidence.keys import Algorithm, EvidenceKey, EvidencePublicKey
from labctl.protocols.ledger.signing import Purpose, SigningKey


def exported(folder: Path, *algorithms: Algorithm) -> tuple[dict[str, Any], list[EvidenceKey]]:
    keys = [EvidenceKey.make(folder / f"{name}.pem", name) for name in algorithms]
    (envelope,) = evidence_of(write_run(folder / "run.h5"), EvidenceFormat.IN_TOTO, keys=keys)
    return envelope, keys


def test_the_encoding_that_is_signed_is_that_of_the_specification() -> None:
    """The example of the specification's protocol page."""
    assert signed_bytes("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_a_signature_is_checked_by_hand_with_a_public_key(tmp_path: Path) -> None:
    """The recipe of the page on evidence: base64, three joined strings, one call."""
    envelope, keys = exported(tmp_path, *Algorithm)
    assert len(envelope["signatures"]) == 2
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"]
    message = b" ".join(
        [b"DSSEv1", str(len(kind)).encode(), kind.encode(), str(len(payload)).encode(), payload]
    )
    for key, signature in zip(keys, envelope["signatures"], strict=True):
        public: Any = load_pem_public_key(key.public.pem.encode())
        public.verify(base64.b64decode(signature["sig"]), message)


def test_the_statement_has_the_fields_of_its_specification(tmp_path: Path) -> None:
    envelope, _ = exported(tmp_path, Algorithm.ED25519)
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert set(statement) == {"_type", "subject", "predicateType", "predicate"}
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"].endswith("/secure-session/v1")
    assert statement["subject"] == [{"name": "small", "digest": {"sha256": NETWORK_SHA256}}]
    predicate = statement["predicate"]
    assert predicate["transcriptSha256"] == TRANSCRIPT
    assert set(predicate) == {
        *("session", "verdict", "reason", "failed", "checks", "client", "light", "bits"),
        *("failureProbability", "falseAlarmProbability", "assumptions", "account", "ledgerHead"),
        *("serverFingerprint", "clientLedgerHead", "transcriptSha256", "builder", "materials"),
    }


def test_an_independent_library_verifies_the_envelope(tmp_path: Path) -> None:
    reason = "securesystemslib is not installed (extra test-full)"
    dsse = pytest.importorskip("securesystemslib.dsse", reason=reason)
    signer = pytest.importorskip("securesystemslib.signer", reason=reason)
    exceptions = pytest.importorskip("securesystemslib.exceptions", reason=reason)
    written, (key,) = exported(tmp_path, Algorithm.ED25519)
    public: Any = load_pem_public_key(key.public.pem.encode())
    other = signer.SSlibKey(
        key.public.fingerprint, "ed25519", "ed25519", {"public": public.public_bytes_raw().hex()}
    )
    envelope = dsse.Envelope.from_dict(json.loads(json.dumps(written)))
    assert envelope.payload_type == "application/vnd.in-toto+json"
    assert set(envelope.verify([other], 1)) == {key.public.fingerprint}
    envelope.payload = envelope.payload.replace(b"ACCEPTED", b"REJECTED")
    with pytest.raises(exceptions.VerificationError):
        envelope.verify([other], 1)


def test_an_envelope_that_an_independent_library_signed_is_taken(tmp_path: Path) -> None:
    reason = "securesystemslib is not installed (extra test-full)"
    dsse = pytest.importorskip("securesystemslib.dsse", reason=reason)
    signer = pytest.importorskip("securesystemslib.signer", reason=reason)
    theirs = signer.CryptoSigner.generate_ed25519()
    raw = bytes.fromhex(theirs.public_key.keyval["public"])
    public = EvidencePublicKey.of(Ed25519PublicKey.from_public_bytes(raw))
    assert public is not None
    theirs.public_key.keyid = public.fingerprint
    envelope = dsse.Envelope(b"{}", "application/vnd.in-toto+json", {})
    envelope.sign(theirs)
    SignedEnvelope.of(envelope.to_dict()).require_signed([public])


def test_the_keys_of_clients_and_operators_sign_evidence_too(tmp_path: Path) -> None:
    mine = SigningKey.make(tmp_path / "client.pem")
    (tmp_path / "client.pub").write_text(mine.public_pem)
    key = EvidenceKey.read(tmp_path / "client.pem")
    public = EvidencePublicKey.read(tmp_path / "client.pub")
    assert key.public.fingerprint == public.fingerprint == mine.public.fingerprint
    assert public.holds(key.sign(b"message"), b"message")


def test_no_signature_of_a_ledger_is_one_of_evidence(tmp_path: Path) -> None:
    mine = SigningKey.make(tmp_path / "client.pem")
    public = EvidenceKey.read(tmp_path / "client.pem").public
    signature = bytes.fromhex(mine.sign(Purpose.OPERATOR, {"a": 1}))
    assert not public.holds(signature, signed_bytes("application/json", b'{"a":1}'))
    assert not any(each.value.startswith(b"DSSEv1") for each in Purpose)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_key_is_its_owners_alone_and_is_never_shown(tmp_path: Path, algorithm: Algorithm) -> None:
    path = tmp_path / "key.pem"
    key = EvidenceKey.make(path, algorithm)
    assert path.stat().st_mode & 0o777 == 0o600
    assert EvidenceKey.read(path).public.fingerprint == key.public.fingerprint
    shown = repr(key) + repr(key.public)
    assert not [line for line in path.read_text().splitlines()[1:-1] if line in shown]
    with pytest.raises(FileExistsError):
        EvidenceKey.make(path, algorithm)
    path.chmod(0o640)
    with pytest.raises(IdentityError, match="others may read the signer's key; chmod 600"):
        EvidenceKey.read(path)


@pytest.mark.parametrize("text", ["", "no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n"])
def test_what_is_no_key_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key.pem"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(IdentityError, match=r"key\.pem: the signer's key is not an Ed25519 or ML"):
        EvidenceKey.read(path)
    with pytest.raises(SettingError, match="must be an Ed25519 or ML-DSA-65 public key in PEM"):
        EvidencePublicKey.read(path)


def test_a_private_key_is_not_taken_for_a_public_one(tmp_path: Path) -> None:
    EvidenceKey.make(tmp_path / "key.pem", Algorithm.ED25519)
    with pytest.raises(SettingError, match="a private key never leaves its owner"):
        EvidencePublicKey.read(tmp_path / "key.pem")


def test_a_library_without_the_algorithm_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "cryptography.hazmat.primitives.asymmetric.mldsa"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SettingError, match=r"ml-dsa-65.*must be ed25519: this cryptography"):
        EvidenceKey.make(tmp_path / "key.pem", Algorithm.ML_DSA_65)
    assert not (tmp_path / "key.pem").exists()
    assert EvidenceKey.make(tmp_path / "key.pem", Algorithm.ED25519).public.fingerprint
