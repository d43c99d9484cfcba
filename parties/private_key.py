"""A party's private key in a file: ECDSA over P-256, which TLS and signatures of a session take."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from labctl.errors import IdentityError, SettingError
from labctl.plain_file import SMALL_BYTES, read_plain
from labctl.protocols.ledger.files import disk, write_new
from labctl.protocols.ledger.key import open_to_others

SIGNATURE = ECDSA(SHA256())
CURVE = SECP256R1()


@dataclass(frozen=True)
class PrivateKey:
    """A private key: signs, and never shows itself."""

    private: EllipticCurvePrivateKey = field(repr=False)
    pem: bytes = field(repr=False)

    @classmethod
    def make(cls, path: Path) -> PrivateKey:
        """Make a key in a new file that only its owner may read; raises SettingError."""
        key = generate_private_key(CURVE)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with disk("private key"):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                write_new(path, pem)
            except FileExistsError as error:
                valid = "a new file: a key is there already"
                raise SettingError("private key", str(path), valid) from error
        return cls(key, pem)

    @classmethod
    def read(cls, path: Path) -> PrivateKey:
        """Return the key in a file that only its owner may read; raises IdentityError."""
        try:
            if open_to_others(path):
                raise IdentityError(f"{path}: others may read this private key; chmod 600 it")
            pem = read_plain(path, SMALL_BYTES)
        except OSError as error:
            raise IdentityError(f"{path}: no private key can be read ({error.strerror})") from error
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != CURVE.name:
            raise IdentityError(f"{path}: no ECDSA private key over P-256 in PEM")
        return cls(key, pem)

    def sign(self, statement: bytes) -> bytes:
        """Return the signature of a statement."""
        return self.private.sign(statement, SIGNATURE)


def holds(key: EllipticCurvePublicKey, statement: bytes, signature: bytes) -> bool:
    """Whether a signature of a statement is this key's."""
    try:
        key.verify(signature, statement, SIGNATURE)
    except InvalidSignature:
        return False
    return True
