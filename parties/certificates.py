"""Certificates of parties (X.509, RFC 5280): who, which role, until when, and whom to speak with.

A certificate names its party (common name) and its role (extended key usage): a server's may be
shown by a server alone. TLS looks at it first; what it cannot see is looked at here: revocation,
and for a client, which gRPC does not show the server's certificate, all of it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from labctl.errors import IdentityError, ProtocolError
from labctl.parties.private_key import CURVE, PrivateKey, holds
from labctl.parties.seals import Identity, Verifier
from labctl.party import Party
from labctl.plain_file import SMALL_BYTES, read_plain
from labctl.protocols.ledger.signing import PublicKey

KEY, CERTIFICATE = "key.pem", "certificate.pem"
AUTHORITY, REVOKED = "authority.pem", "revoked.pem"
REQUEST = "request.pem"
USAGES = {
    Party.SERVER: ExtendedKeyUsageOID.SERVER_AUTH,
    Party.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH,
}
# 16 kB of certificates and ten thousand revoked ones.
_MOST_BYTES = 8 * SMALL_BYTES

Now = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time by which certificates hold."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Certificate:
    """One certificate, read."""

    loaded: x509.Certificate

    @classmethod
    def of_der(cls, der: bytes) -> Certificate:
        """Return the certificate in DER; raises IdentityError."""
        try:
            return cls(x509.load_der_x509_certificate(der))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise IdentityError(f"no certificate in DER: {error}") from error

    @classmethod
    def read(cls, path: Path) -> Certificate:
        """Return the one certificate in a PEM file; raises IdentityError."""
        return cls(_only(path, certificates_in(path)))

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.loaded.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.loaded.public_bytes(Encoding.DER)

    @property
    def name(self) -> str:
        """Who it is of."""
        names = self.loaded.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value) if len(names) == 1 else ""

    @property
    def role(self) -> Party | None:
        """Server or client, None for neither or both."""
        try:
            usage = self.loaded.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (x509.ExtensionNotFound, ValueError):
            return None
        found = [party for party, each in USAGES.items() if each in usage]
        return found[0] if len(found) == 1 else None

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names and IP addresses at which a server may show it."""
        try:
            names = self.loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except (x509.ExtensionNotFound, ValueError):
            return ()
        found = names.value
        addresses = found.get_values_for_type(x509.IPAddress)
        return (*found.get_values_for_type(x509.DNSName), *map(str, addresses))

    @property
    def expires(self) -> datetime:
        """When it ends."""
        return self.loaded.not_valid_after_utc

    @property
    def key(self) -> EllipticCurvePublicKey | None:
        """Its public key, None if it is not one over P-256."""
        try:
            key = self.loaded.public_key()
        except (ValueError, UnsupportedAlgorithm):
            return None
        usable = isinstance(key, EllipticCurvePublicKey) and key.curve.name == CURVE.name
        return key if usable and isinstance(key, EllipticCurvePublicKey) else None

    @property
    def public(self) -> PublicKey:
        """Its public key as ledgers name it: by the SHA-256 of SubjectPublicKeyInfo."""
        return PublicKey(_spki(self.loaded))

    @property
    def fingerprint(self) -> str:
        """Of its public key: a renewed certificate of the same key has the same one."""
        return self.public.fingerprint


@dataclass(frozen=True)
class KnownParties:
    """Whom a party speaks with: what its authorities issued and did not revoke.

    folder: has the authorities' certificates and signed lists of revoked ones, which are read again
    for every party that comes, so that a new list counts at once. now: the time.
    """

    folder: Path
    now: Now = utc_now

    def accept(self, der: bytes, role: Party) -> Verifier:
        """Return what verifies a party's signatures; raises ProtocolError where it is refused."""
        try:
            certificate = Certificate.of_der(der)
            reason = self.refusal_of(certificate, role)
        except IdentityError as error:
            raise ProtocolError("certificate", "greeting", str(error)) from error
        key = certificate.key
        if reason is not None or key is None:
            raise ProtocolError("certificate", "greeting", reason or "no key")
        return lambda statement, signature: holds(key, statement, signature)

    def refusal_of(self, certificate: Certificate, role: Party) -> str | None:
        """Return why a certificate is refused for a role, None if it is not."""
        found, now = certificate.loaded, self.now()
        named = f"certificate of {certificate.name or 'nobody'!r}"
        issuer = self._issuer(found)
        if issuer is None:
            return f"{named}: foreign, issued by {found.issuer.rfc4514_string()!r}"
        if now < found.not_valid_before_utc:
            return f"{named}: not valid before {found.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        if now > certificate.expires:
            return f"{named}: expired on {certificate.expires:%Y-%m-%d %H:%M} UTC"
        if certificate.role is not role:
            return f"{named}: of a {certificate.role or 'party without a role'}, expected a {role}"
        if not certificate.name or certificate.key is None:
            return f"{named}: no name, or no ECDSA key over P-256"
        return self._revoked(found, issuer, named)

    def _issuer(self, found: x509.Certificate) -> x509.Certificate | None:
        for authority in certificates_in(self.folder / AUTHORITY):
            try:
                found.verify_directly_issued_by(authority)
            except (ValueError, TypeError, InvalidSignature):
                continue
            return authority
        return None

    def _revoked(self, found: x509.Certificate, issuer: x509.Certificate, named: str) -> str | None:
        """Return why the issuer's list does not let it pass; there has to be a list."""
        for revoked in revocations_in(self.folder / REVOKED):
            if revoked.issuer != issuer.subject or not revoked.is_signature_valid(_ca_key(issuer)):
                continue
            if revoked.next_update_utc is None or self.now() > revoked.next_update_utc:
                return f"{named}: its authority's list of revoked certificates is out of date"
            entry = revoked.get_revoked_certificate_by_serial_number(found.serial_number)
            if entry is not None:
                return f"{named}: revoked on {entry.revocation_date_utc:%Y-%m-%d %H:%M} UTC"
            return None
        return f"{named}: no list of revoked certificates signed by its authority"


@dataclass(frozen=True)
class Credentials:
    """What a party needs to speak: its key and certificate, and whom it trusts."""

    key: PrivateKey
    certificate: Certificate
    trust: KnownParties

    @classmethod
    def read(cls, folder: Path, role: Party, now: Now = utc_now) -> Credentials:
        """Return what is in a party's folder; raises IdentityError where it is not for its role."""
        key = PrivateKey.read(folder / KEY)
        certificate = Certificate.read(folder / CERTIFICATE)
        trust = KnownParties(folder, now)
        if certificate.key is None or key.private.public_key() != certificate.key:
            raise IdentityError(f"{folder}: the certificate is of another key")
        refusal = trust.refusal_of(certificate, role)
        if refusal is not None:
            raise IdentityError(f"{folder}: own {refusal}")
        return cls(key, certificate, trust)

    @property
    def identity(self) -> Identity:
        """What a conversation shows of the party."""
        return Identity(self.certificate.der, self.key.sign)

    @property
    def authorities(self) -> bytes:
        """The authorities' certificates in PEM."""
        return _content(self.trust.folder / AUTHORITY)


def certificates_in(path: Path) -> list[x509.Certificate]:
    """Return the certificates in a PEM file; raises IdentityError."""
    try:
        return x509.load_pem_x509_certificates(_content(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"{path}: no certificate in PEM") from error


def revocations_in(path: Path) -> list[x509.CertificateRevocationList]:
    """Return the signed lists of revoked certificates in a PEM file; raises IdentityError."""
    end = b"-----END X509 CRL-----"
    parts = [part + end for part in _content(path).split(end)[:-1]]
    try:
        return [x509.load_pem_x509_crl(part.strip()) for part in parts]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"{path}: no list of revoked certificates in PEM") from error


def names_of(hosts: tuple[str, ...]) -> list[x509.GeneralName]:
    """Return names and IP addresses as a certificate has them; raises ValueError."""
    found: list[x509.GeneralName] = []
    for host in hosts:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            found.append(x509.DNSName(host))
    return found


def _ca_key(authority: x509.Certificate) -> EllipticCurvePublicKey:
    key = authority.public_key()
    if not isinstance(key, EllipticCurvePublicKey):
        raise IdentityError("the authority's key is not an ECDSA key")
    return key


def _spki(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import PublicFormat

    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _only(path: Path, found: list[x509.Certificate]) -> x509.Certificate:
    if len(found) != 1:
        raise IdentityError(f"{path}: {len(found)} certificates; expected one")
    return found[0]


def _content(path: Path) -> bytes:
    try:
        return read_plain(path, _MOST_BYTES)
    except OSError as error:
        raise IdentityError(f"{path}: cannot be read ({error.strerror})") from error
