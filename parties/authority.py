"""An authority: issues certificates to parties that asked for one, renews and revokes them.

A party makes its key itself and asks with a request (RFC 2986), which it signs: the key never
leaves its folder. What the authority hands back is public.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from labctl import checks
from labctl.errors import IdentityError, SettingError
from labctl.parties.certificates import (
    AUTHORITY,
    CERTIFICATE,
    KEY,
    REQUEST,
    REVOKED,
    USAGES,
    Certificate,
    KnownParties,
    Now,
    names_of,
    revocations_in,
    utc_now,
)
from labctl.parties.private_key import CURVE, PrivateKey
from labctl.party import Party
from labctl.plain_file import SMALL_BYTES, read_plain
from labctl.protocols.ledger.accounts import checked_client
from labctl.protocols.ledger.files import disk, write_whole

# Of an authority: as long as a laboratory keeps its instruments.
AUTHORITY_DAYS = 3650
# Of a party, so that it is renewed before anybody forgets how.
PARTY_DAYS = 90
# A list of revoked certificates that is older is refused with all that it is for.
LIST_DAYS = 365
# Clocks of two sites differ by less.
_CLOCKS = timedelta(minutes=5)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?|::1?")


@dataclass(frozen=True)
class Authority:
    """Who issues certificates, by the key in its own folder."""

    folder: Path
    key: PrivateKey
    certificate: Certificate
    now: Now = utc_now

    @classmethod
    def make(
        cls, folder: Path, name: str, *, days: int = AUTHORITY_DAYS, now: Now = utc_now
    ) -> Authority:
        """Make an authority in a folder that has none; raises SettingError."""
        checks.within("days", days, 1, AUTHORITY_DAYS)
        subject = _subject(name)
        key = PrivateKey.make(folder / KEY)
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            _dated(now(), days)
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.private.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.private.public_key()), critical=False
            )
        )
        made = cls(folder, key, Certificate(builder.sign(key.private, SHA256())), now)
        with disk("authority"):
            write_whole(folder / AUTHORITY, made.certificate.pem)
        made._write_list([])
        return made

    @classmethod
    def read(cls, folder: Path, now: Now = utc_now) -> Authority:
        """Return the authority in a folder; raises IdentityError."""
        return cls(folder, PrivateKey.read(folder / KEY), Certificate.read(folder / AUTHORITY), now)

    def issue(self, request: Path, *, days: int = PARTY_DAYS) -> Certificate:
        """Return a certificate for a party's request; raises IdentityError, SettingError."""
        asked = _request(request)
        names = asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        usage = asked.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        roles = [party for party, each in USAGES.items() if list(usage) == [each]]
        key = asked.public_key()
        if len(names) != 1 or len(roles) != 1 or not isinstance(key, EllipticCurvePublicKey):
            raise IdentityError(f"{request}: not a request of labctl keys request")
        try:
            hosts = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            hosts = None
        return self._signed(str(names[0].value), roles[0], hosts, key, days)

    def renew(self, certificate: Certificate, *, days: int = PARTY_DAYS) -> Certificate:
        """Return a certificate for the same party and key with a new end; raises IdentityError."""
        role, key = certificate.role, certificate.key
        trust = KnownParties(self.folder, lambda: min(self.now(), certificate.expires))
        refusal = "no role, or no key" if role is None else trust.refusal_of(certificate, role)
        if refusal is not None or role is None or key is None:
            raise IdentityError(f"not renewed: {refusal}")
        hosts = x509.SubjectAlternativeName(names_of(certificate.hosts))
        return self._signed(certificate.name, role, hosts if certificate.hosts else None, key, days)

    def revoke(self, certificate: Certificate) -> None:
        """Put a certificate on the list of revoked ones; raises IdentityError if not its own."""
        try:
            certificate.loaded.verify_directly_issued_by(self.certificate.loaded)
        except Exception as error:
            raise IdentityError(
                f"certificate of {certificate.name!r}: not issued by this authority"
            ) from error
        before = [entry for each in revocations_in(self.folder / REVOKED) for entry in each]
        serial = certificate.loaded.serial_number
        if any(entry.serial_number == serial for entry in before):
            return
        entry = (
            x509.RevokedCertificateBuilder()
            .serial_number(serial)
            .revocation_date(self.now())
            .build()
        )
        self._write_list([*before, entry])

    def hand_over(self, certificate: Certificate, folder: Path) -> None:
        """Write a party's certificate, the authority's and the list into the party's folder."""
        with disk("certificate"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(folder / CERTIFICATE, certificate.pem)
            self.publish(folder)

    def publish(self, folder: Path) -> None:
        """Write the authority's certificate and its list into a folder that trusts it."""
        with disk("certificate"):
            for name in (AUTHORITY, REVOKED):
                write_whole(folder / name, read_plain(self.folder / name, 8 * SMALL_BYTES))

    def _signed(
        self,
        name: str,
        role: Party,
        hosts: x509.SubjectAlternativeName | None,
        key: EllipticCurvePublicKey,
        days: int,
    ) -> Certificate:
        checks.within("days", days, 1, AUTHORITY_DAYS)
        if (role is Party.SERVER) != (hosts is not None):
            valid = "given for a server, and for a server alone"
            raise SettingError("host", hosts, valid)
        if key.curve.name != CURVE.name:
            raise IdentityError(f"key of {name!r}: {key.curve.name}, expected {CURVE.name}")
        own = self.certificate.loaded
        builder = (
            _dated(self.now(), days)
            .subject_name(_subject(name))
            .issuer_name(own.subject)
            .public_key(key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([USAGES[role]]), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )
        if hosts is not None:
            builder = builder.add_extension(hosts, critical=False)
        return Certificate(builder.sign(self.key.private, SHA256()))

    def _write_list(self, entries: list[x509.RevokedCertificate]) -> None:
        now = self.now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.loaded.subject)
            .last_update(now)
            .next_update(now + timedelta(days=LIST_DAYS))
        )
        for entry in entries:
            builder = builder.add_revoked_certificate(entry)
        signed = builder.sign(self.key.private, SHA256())
        with disk("list of revoked certificates"):
            write_whole(self.folder / REVOKED, signed.public_bytes(Encoding.PEM))


def request(folder: Path, role: Party, name: str, hosts: tuple[str, ...] = ()) -> Path:
    """Make a party's key in its folder and ask for a certificate; return the request's file.

    name: as ledgers name clients. hosts: names or IP addresses of a server. Raises SettingError.
    """
    subject = _subject(name)
    if (role is Party.SERVER) != bool(hosts):
        raise SettingError("host", hosts, "given for a server, and for a server alone")
    for host in hosts:
        checks.require(_HOST.fullmatch(host) is not None, "host", host, "a name or an IP address")
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.ExtendedKeyUsage([USAGES[role]]), critical=True)
    )
    if hosts:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(names_of(hosts)), critical=False
        )
    key = PrivateKey.make(folder / KEY)
    with disk("request"):
        write_whole(
            folder / REQUEST, builder.sign(key.private, SHA256()).public_bytes(Encoding.PEM)
        )
    return folder / REQUEST


def _request(path: Path) -> x509.CertificateSigningRequest:
    try:
        asked = x509.load_pem_x509_csr(read_plain(path, SMALL_BYTES))
        asked.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except OSError as error:
        raise IdentityError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
        raise IdentityError(f"{path}: not a request of labctl keys request") from error
    if not asked.is_signature_valid:
        raise IdentityError(f"{path}: not signed by the key that it asks for")
    return asked


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, checked_client(name))])


def _dated(now: datetime, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + timedelta(days=days))
    )
