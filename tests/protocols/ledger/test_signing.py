"""Keys in files: only their owner may read them; signatures hold for one purpose and one text."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from labctl.errors import IdentityError, SettingError
from labctl.protocols.ledger.signing import PublicKey, Purpose, SigningKey

TEXT = {"account": "alice", "nonce": "00"}


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    (tmp_path / "made").mkdir()
    return SigningKey.make(tmp_path / "made" / "alice.pem")


def test_a_key_is_its_owners_alone_and_reads_back(key: SigningKey, tmp_path: Path) -> None:
    path = tmp_path / "made" / "alice.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert SigningKey.read(path, "alice's").public == key.public
    assert "PRIVATE" not in repr(key)


def test_no_key_is_written_over_another(key: SigningKey, tmp_path: Path) -> None:
    path = tmp_path / "made" / "alice.pem"
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        SigningKey.make(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_key_that_others_may_reach_is_refused(key: SigningKey, tmp_path: Path, mode: int) -> None:
    path = tmp_path / "made" / "alice.pem"
    path.chmod(mode)
    with pytest.raises(IdentityError, match="others may read alice's key; chmod 600"):
        SigningKey.read(path, "alice's")


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(IdentityError, match="no Ed25519 private key"):
        SigningKey.read(path, "alice's")
    with pytest.raises(IdentityError, match="not there"):
        SigningKey.read(tmp_path / "none.pem", "alice's")
    with pytest.raises(SettingError, match="public key"):
        PublicKey.read(path)


def test_a_private_key_or_one_of_another_kind_is_not_taken_for_a_public_one(
    key: SigningKey, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match="a private key never leaves its owner"):
        PublicKey.read(tmp_path / "made" / "alice.pem")
    other = generate_private_key(SECP256R1()).public_key()
    path = tmp_path / "other.pem"
    path.write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(SettingError, match="an Ed25519 public key"):
        PublicKey.read(path)
    with pytest.raises(SettingError, match="readable"):
        PublicKey.read(tmp_path / "none.pem")


def test_the_fingerprint_is_that_of_the_subject_public_key_info(key: SigningKey) -> None:
    """Independently: the prefix that RFC 8410 gives for Ed25519, and the 32 bytes of the key."""
    body = "".join(key.public_pem.splitlines()[1:-1])
    der = subprocess.run(
        ["base64", "-d"], input=body.encode(), capture_output=True, check=True
    ).stdout
    assert der[:12].hex() == "302a300506032b6570032100"
    assert len(der) == 44
    assert key.public.fingerprint == hashlib.sha256(der).hexdigest()


def test_a_signature_holds_for_its_text_purpose_and_key_alone(
    key: SigningKey, tmp_path: Path
) -> None:
    signature = key.sign(Purpose.CLIENT, TEXT)
    assert key.public.holds(signature, Purpose.CLIENT, TEXT)
    assert key.public.holds(signature, Purpose.CLIENT, dict(reversed(TEXT.items())))
    other = SigningKey.make(tmp_path / "bob.pem")
    flipped = f"{int(signature[0], 16) ^ 1:x}{signature[1:]}"
    for holds in (
        key.public.holds(signature, Purpose.OPERATOR, TEXT),
        key.public.holds(signature, Purpose.CLIENT, {**TEXT, "account": "bob"}),
        key.public.holds(flipped, Purpose.CLIENT, TEXT),
        key.public.holds("", Purpose.CLIENT, TEXT),
        key.public.holds("no digits", Purpose.CLIENT, TEXT),
        other.public.holds(signature, Purpose.CLIENT, TEXT),
        PublicKey(b"").holds(signature, Purpose.CLIENT, TEXT),
    ):
        assert not holds
