"""Keys that sign evidence: Ed25519, and ML-DSA-65 beside it where a quantum computer is a worry.

A file holds one key in PEM. A public key is named by its fingerprint, the SHA-256 of its
SubjectPublicKeyInfo, as all keys of labctl are.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from labctl.errors import IdentityError, SettingError
from labctl.protocols.ledger.files import write_new
from labctl.protocols.ledger.signing import private_content, public_content

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import (
        MLDSA65PrivateKey,
        MLDSA65PublicKey,
    )

    Private = Ed25519PrivateKey | MLDSA65PrivateKey
    Public = Ed25519PublicKey | MLDSA65PublicKey


class Algorithm(StrEnum):
    """What a key signs by: the curve of RFC 8032, or the lattice of FIPS 204."""

    ED25519 = "ed25519"
    ML_DSA_65 = "ml-dsa-65"


def _private_kinds() -> dict[Algorithm, Any]:
    """Return the classes of private keys that this cryptography has."""
    kinds: dict[Algorithm, Any] = {Algorithm.ED25519: Ed25519PrivateKey}
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
    except ImportError:  # before version 47
        return kinds
    return {**kinds, Algorithm.ML_DSA_65: MLDSA65PrivateKey}


def _public_kinds() -> dict[Algorithm, Any]:
    """Return the classes of public keys that this cryptography has."""
    kinds: dict[Algorithm, Any] = {Algorithm.ED25519: Ed25519PublicKey}
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
    except ImportError:  # before version 47
        return kinds
    return {**kinds, Algorithm.ML_DSA_65: MLDSA65PublicKey}


def _algorithm_of(key: object, kinds: dict[Algorithm, Any]) -> Algorithm | None:
    return next((name for name, kind in kinds.items() if isinstance(key, kind)), None)


_VALID = "an Ed25519 or ML-DSA-65"


@dataclass(frozen=True)
class EvidencePublicKey:
    """A public key that evidence is checked with."""

    algorithm: Algorithm
    _key: Public = field(repr=False)

    @classmethod
    def of(cls, key: Any) -> EvidencePublicKey | None:
        """Return a key of the library, None for another algorithm's."""
        algorithm = _algorithm_of(key, _public_kinds())
        return None if algorithm is None else cls(algorithm, key)

    @classmethod
    def read(cls, path: Path) -> EvidencePublicKey:
        """Return the public key in a PEM file; raises SettingError where there is none."""
        try:
            found = cls.of(load_pem_public_key(public_content(path)))
        except (ValueError, UnsupportedAlgorithm):
            found = None
        if found is None:
            raise SettingError("public key", str(path), f"{_VALID} public key in PEM")
        return found

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its SubjectPublicKeyInfo, 64 hexadecimal digits."""
        der = self._key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(der).hexdigest()

    @property
    def pem(self) -> str:
        """The key in PEM, to be handed on."""
        found = self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return found.decode("ascii")

    def holds(self, signature: bytes, message: bytes) -> bool:
        """Whether a signature is this key's, of a message."""
        try:
            self._key.verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class EvidenceKey:
    """A private key that signs evidence, and never shows itself."""

    algorithm: Algorithm
    _key: Private = field(repr=False)

    @classmethod
    def make(cls, path: Path, algorithm: Algorithm) -> EvidenceKey:
        """Make a key in a new file that only its owner may read.

        Raises FileExistsError, and SettingError for an algorithm that is not there.
        """
        kinds = _private_kinds()
        try:
            key = kinds[algorithm].generate()
        except (KeyError, UnsupportedAlgorithm):
            there = ", ".join(kind for kind in kinds if kind is not algorithm)
            raise SettingError(
                "algorithm", str(algorithm), f"{there}: this cryptography library has no other"
            ) from None
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_new(path, pem)
        return cls(algorithm, key)

    @classmethod
    def read(cls, path: Path) -> EvidenceKey:
        """Return the key in a file that only its owner may read; raises IdentityError."""
        content = private_content(path, "the signer's")
        try:
            key: Any = load_pem_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        algorithm = _algorithm_of(key, _private_kinds())
        if algorithm is None:
            raise IdentityError(f"{path}: the signer's key is not {_VALID} private key in PEM")
        return cls(algorithm, key)

    @property
    def public(self) -> EvidencePublicKey:
        """The public key that belongs to it."""
        return EvidencePublicKey(self.algorithm, self._key.public_key())

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""
        return self._key.sign(message)
