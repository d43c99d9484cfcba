"""Ed25519 keys in files, and what they sign: a client's possession of its key, operators' entries.

A public key is named by its fingerprint, the SHA-256 of its SubjectPublicKeyInfo (RFC 5280, section
4.1.2.7): the same for a key by itself and for one in a certificate. What is signed begins with what
it is for, so that no signature of one kind passes for one of another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from labctl.errors import IdentityError, SettingError
from labctl.plain_file import SMALL_BYTES, read_plain
from labctl.protocols.ledger.chain import canonical
from labctl.protocols.ledger.files import write_new
from labctl.protocols.ledger.key import open_to_others


class Purpose(Enum):
    """What a signature is for."""

    CLIENT = b"labctl ledger: a client holds its key\n"
    OPERATOR = b"labctl ledger: an entry of the operator\n"


def private_content(path: Path, whose: str) -> bytes:
    """Return the bytes of a private key's file; raises IdentityError if missing or open."""
    try:
        if open_to_others(path):
            raise IdentityError(f"{path}: others may read {whose} key; chmod 600 it")
        return read_plain(path, SMALL_BYTES)
    except FileNotFoundError as error:
        raise IdentityError(f"{path}: {whose} key is not there ({error.strerror})") from error
    except OSError as error:
        raise IdentityError(f"{path}: {whose} key cannot be read: {error.strerror}") from error


def public_content(path: Path) -> bytes:
    """Return the bytes of a public key's file; raises SettingError, also for a private key."""
    try:
        content = read_plain(path, SMALL_BYTES)
    except OSError as error:
        raise SettingError("public key", str(path), f"readable ({error.strerror})") from error
    if b"PRIVATE KEY" in content:
        valid = "a public key in PEM: a private key never leaves its owner"
        raise SettingError("public key", str(path), valid)
    return content


@dataclass(frozen=True)
class PublicKey:
    """A public key as SubjectPublicKeyInfo in DER."""

    der: bytes

    @classmethod
    def of(cls, key: Ed25519PublicKey) -> PublicKey:
        """Return a key of the library as what is kept and sent of it."""
        return cls(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """Return the public key in a PEM file; raises SettingError where there is none."""
        try:
            key = load_pem_public_key(public_content(path))
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise SettingError("public key", str(path), "an Ed25519 public key in PEM")
        return cls.of(key)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key, 64 hexadecimal digits."""
        return hashlib.sha256(self.der).hexdigest()

    def holds(self, signature: str, purpose: Purpose, content: Mapping[str, Any]) -> bool:
        """Whether a signature (hexadecimal) is this key's, for a purpose, of a document."""
        try:
            key = load_der_public_key(self.der)
            if not isinstance(key, Ed25519PublicKey):
                return False
            key.verify(bytes.fromhex(signature), purpose.value + canonical(content))
        except (ValueError, UnsupportedAlgorithm, InvalidSignature):
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """A private key: signs, and never shows itself."""

    _private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def make(cls, path: Path) -> SigningKey:
        """Make a key in a new file that only its owner may read; raises FileExistsError."""
        key = Ed25519PrivateKey.generate()
        content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_new(path, content)
        return cls(key)

    @classmethod
    def read(cls, path: Path, whose: str) -> SigningKey:
        """Return the key in a file that only its owner may read.

        Raises IdentityError where it is missing, open to others, or no Ed25519 private key in PEM.
        """
        content = private_content(path, whose)
        try:
            key = load_pem_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise IdentityError(f"{path}: {whose} key is no Ed25519 private key in PEM")
        return cls(key)

    @property
    def public(self) -> PublicKey:
        """The public key that belongs to it."""
        return PublicKey.of(self._private.public_key())

    @property
    def public_pem(self) -> str:
        """The public key in PEM, to be handed on."""
        key = self._private.public_key()
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")

    def sign(self, purpose: Purpose, content: Mapping[str, Any]) -> str:
        """Return the signature (hexadecimal) of a document for a purpose."""
        return self._private.sign(purpose.value + canonical(content)).hex()
