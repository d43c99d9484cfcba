"""Certificates: whom a party speaks with, until when, and which files nobody else may read."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from party_folders import HOSTS, PartyFolders

from labctl.errors import IdentityError, ProtocolError, SettingError
from labctl.parties import authority as authorities
from labctl.parties.authority import Authority
from labctl.parties.certificates import (
    AUTHORITY,
    CERTIFICATE,
    KEY,
    REQUEST,
    REVOKED,
    Certificate,
    Credentials,
    KnownParties,
    utc_now,
)
from labctl.parties.private_key import PrivateKey
from labctl.party import Party

SERVER, CLIENT = Party.SERVER, Party.CLIENT


def refusal(folders: PartyFolders, folder: Path, role: Party) -> str | None:
    return KnownParties(folders.bank).refusal_of(Certificate.read(folder / CERTIFICATE), role)


def test_a_certificate_says_who_which_role_and_where(folders: PartyFolders) -> None:
    bank = Credentials.read(folders.bank, SERVER).certificate
    hospital = Credentials.read(folders.hospital, CLIENT).certificate
    assert (bank.name, bank.role, bank.hosts) == ("bank", SERVER, HOSTS)
    assert (hospital.name, hospital.role, hospital.hosts) == ("hospital", CLIENT, ())
    assert timedelta(days=29) < hospital.expires - utc_now() <= timedelta(days=30)


def test_private_keys_are_their_owners_alone(folders: PartyFolders) -> None:
    for folder in (folders.authority.folder, folders.bank, folders.hospital):
        assert stat.S_IMODE((folder / KEY).stat().st_mode) == 0o600
        others = [path.read_bytes() for path in folder.iterdir() if path.name != KEY]
        assert not any(b"PRIVATE" in each for each in others)
    key = PrivateKey.read(folders.bank / KEY)
    assert "PRIVATE" not in repr(key)
    with pytest.raises(SettingError, match="a key is there already"):
        PrivateKey.make(folders.bank / KEY)


def test_a_key_that_others_may_read_is_refused(folders: PartyFolders) -> None:
    folder = folders.party("careless", CLIENT)
    (folder / KEY).chmod(0o640)
    with pytest.raises(IdentityError, match="others may read this private key; chmod 600"):
        Credentials.read(folder, CLIENT)


def test_a_foreign_expired_or_misused_certificate_is_refused(folders: PartyFolders) -> None:
    assert refusal(folders, folders.hospital, CLIENT) is None
    foreign = refusal(folders, folders.foreign("stranger", CLIENT), CLIENT)
    assert foreign == "certificate of 'stranger': foreign, issued by 'CN=foreign'"
    expired = refusal(folders, folders.expired("late", CLIENT), CLIENT)
    assert expired is not None
    assert "certificate of 'late': expired on" in expired
    assert "of a client, expected a server" in str(refusal(folders, folders.hospital, SERVER))
    assert "of a server, expected a client" in str(refusal(folders, folders.bank, CLIENT))
    with pytest.raises(IdentityError, match="own certificate of 'hospital': of a client"):
        Credentials.read(folders.hospital, SERVER)


def test_an_authority_of_the_same_name_is_another_one(folders: PartyFolders) -> None:
    double = Authority.make(folders.root / "double", "authority")
    folder = folders.party("double", CLIENT, issuer=double)
    assert "foreign" in str(refusal(folders, folder, CLIENT))


def test_a_certificate_does_not_hold_before_its_time(folders: PartyFolders) -> None:
    early = KnownParties(folders.bank, lambda: utc_now() - timedelta(days=1))
    found = early.refusal_of(Certificate.read(folders.hospital / CERTIFICATE), CLIENT)
    assert "not valid before" in str(found)


def test_revoked_certificates_are_refused_once_the_list_is_there(folders: PartyFolders) -> None:
    one, two = folders.party("one", CLIENT), folders.party("two", CLIENT)
    folders.revoke(one)
    assert refusal(folders, one, CLIENT) is None
    folders.authority.publish(folders.bank)
    assert "certificate of 'one': revoked on" in str(refusal(folders, one, CLIENT))
    folders.revoke(one, folders.bank)
    folders.revoke(two, folders.bank)
    for folder in (one, two):
        assert "revoked" in str(refusal(folders, folder, CLIENT))
    assert refusal(folders, folders.hospital, CLIENT) is None
    with pytest.raises(IdentityError, match="not renewed: certificate of 'one': revoked"):
        folders.authority.renew(Certificate.read(one / CERTIFICATE))
    with pytest.raises(IdentityError, match="not issued by this authority"):
        folders.authority.revoke(Certificate.read(folders.foreign("x", CLIENT) / CERTIFICATE))


def list_of(folders: PartyFolders, issuer: Authority) -> bytes:
    return (issuer.folder / REVOKED).read_bytes()


@pytest.mark.parametrize("case", ["missing", "empty", "forged", "of another", "old"])
def test_without_a_valid_list_nobody_is_let_in(tmp_path: Path, case: str) -> None:
    folders = PartyFolders(tmp_path)
    file = folders.bank / REVOKED
    now: Callable[[], datetime] = utc_now
    if case == "missing":
        file.unlink()
    elif case == "empty":
        file.write_bytes(b"")
    elif case == "forged":
        double = Authority.make(tmp_path / "double", "authority")
        file.write_bytes(list_of(folders, double))
    elif case == "of another":
        file.write_bytes(list_of(folders, Authority.make(tmp_path / "other", "other")))
    else:
        now = lambda: utc_now() + timedelta(days=authorities.LIST_DAYS + 1)  # noqa: E731
        long = folders.authority.issue(folders.hospital / REQUEST, days=800)
        folders.authority.hand_over(long, folders.hospital)
        folders.authority.publish(folders.bank)
    trust = KnownParties(folders.bank, now)
    certificate = Certificate.read(folders.hospital / CERTIFICATE)
    with pytest.raises(ProtocolError, match=r"no list of revoked|out of date|cannot be read"):
        trust.accept(certificate.der, CLIENT)


def test_a_renewed_certificate_has_the_same_key_and_a_later_end(folders: PartyFolders) -> None:
    before = Certificate.read(folders.bank / CERTIFICATE)
    later = Authority.read(folders.authority.folder, lambda: utc_now() + timedelta(days=20))
    after = later.renew(before, days=30)
    assert (after.name, after.role, after.hosts) == (before.name, before.role, before.hosts)
    assert after.fingerprint == before.fingerprint
    assert after.expires - before.expires > timedelta(days=19)
    assert after.loaded.serial_number != before.loaded.serial_number
    late = Authority.read(folders.authority.folder, lambda: utc_now() + timedelta(days=40))
    assert late.renew(before).fingerprint == before.fingerprint


def test_the_fingerprint_is_that_of_the_key(folders: PartyFolders) -> None:
    certificate = Certificate.read(folders.hospital / CERTIFICATE)
    spki = certificate.loaded.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    assert certificate.fingerprint == hashlib.sha256(spki).hexdigest()


def test_the_verifier_knows_the_signatures_of_the_certificates_key(folders: PartyFolders) -> None:
    hospital = Credentials.read(folders.hospital, CLIENT)
    verifies = KnownParties(folders.bank).accept(hospital.certificate.der, CLIENT)
    assert verifies(b"said", hospital.identity.sign(b"said"))
    assert not verifies(b"said", hospital.identity.sign(b"other"))
    assert not verifies(b"said", PrivateKey.read(folders.bank / KEY).sign(b"said"))
    assert not verifies(b"said", b"no signature")
    with pytest.raises(ProtocolError, match="no certificate in DER"):
        KnownParties(folders.bank).accept(b"none", CLIENT)


def test_a_request_is_signed_by_the_key_that_it_asks_for(folders: PartyFolders) -> None:
    request = (folders.hospital / REQUEST).read_bytes()
    assert x509.load_pem_x509_csr(request).is_signature_valid
    file = folders.root / "damaged.pem"
    lines = request.split(b"\n")
    lines[1] = lines[1].replace(lines[1][20:24], b"AAAA")
    file.write_bytes(b"\n".join(lines))
    with pytest.raises(IdentityError, match=r"damaged\.pem"):
        folders.authority.issue(file)
    for content in (b"", (folders.hospital / CERTIFICATE).read_bytes()):
        file.write_bytes(content)
        with pytest.raises(IdentityError, match="not a request of labctl keys request"):
            folders.authority.issue(file)


def test_hosts_are_a_servers_alone_and_names_are_those_of_ledgers(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="given for a server"):
        authorities.request(tmp_path / "a", SERVER, "bank")
    with pytest.raises(SettingError, match="given for a server"):
        authorities.request(tmp_path / "a", CLIENT, "bank", HOSTS)
    with pytest.raises(SettingError, match="a name or an IP address"):
        authorities.request(tmp_path / "a", SERVER, "bank", ("a b",))
    with pytest.raises(SettingError, match="client"):
        authorities.request(tmp_path / "a", CLIENT, "a/b")
    assert not (tmp_path / "a").exists()


def test_a_folder_whose_parts_do_not_belong_together_is_refused(folders: PartyFolders) -> None:
    folder = folders.party("mixed", CLIENT)
    (folder / CERTIFICATE).write_bytes((folders.hospital / CERTIFICATE).read_bytes())
    with pytest.raises(IdentityError, match="the certificate is of another key"):
        Credentials.read(folder, CLIENT)
    (folder / CERTIFICATE).write_bytes((folder / AUTHORITY).read_bytes() * 2)
    with pytest.raises(IdentityError, match="2 certificates; expected one"):
        Credentials.read(folder, CLIENT)
