"""Who is not let in: other TLS, other certificates; refused with a reason in the log."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("google.protobuf", reason="needs labctl[parties]")
# Not by importing it: labctl sets what gRPC reads when it starts.
if find_spec("grpc") is None:
    pytest.skip("needs labctl[parties]", allow_module_level=True)

import two_parties
from bank import CLIENT, LIMIT_S, SERVER, Bank, greet, hello, serving, wait_for
from party_folders import PartyFolders
from raw_clients import RawCall, http2_request, tls, until_closed

from labctl.errors import AbortedError, SettingError
from labctl.parties.certificates import AUTHORITY, CERTIFICATE, KEY, Certificate
from labctl.parties.grpc_client import connect
from labctl.parties.handshake_log import handshakes_logged
from labctl.parties.tls import grpc, transport_refusal
from labctl.protocols.messages import AbortCode


def broken(folders: PartyFolders, case: str) -> Path:
    """Return the folder of a client that is not to be let in."""
    made = {
        "foreign": lambda: folders.foreign("stranger", CLIENT),
        "expired": lambda: folders.expired("late", CLIENT),
        "server": lambda: folders.party("posing", SERVER),
    }
    return made[case]()


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("foreign", "CERTIFICATE_VERIFY_FAILED"),
        ("expired", "CERTIFICATE_VERIFY_FAILED: certificate has expired"),
        ("server", "CERTIFICATE_VERIFY_FAILED: unsupported certificate purpose"),
    ],
)
def test_who_has_no_clients_certificate_is_refused_at_the_handshake(
    tmp_path: Path, case: str, reason: str, warnings: Callable[[], str]
) -> None:
    folders, bank = PartyFolders(tmp_path), Bank()
    folder = broken(folders, case)
    with handshakes_logged(), serving(folders, bank.handle) as server:
        with RawCall(server.port, folder) as call:
            # Its own authority may be another: it trusts the bank's.
            assert call.ended()[0] == "UNAVAILABLE"
        wait_for(lambda: f"refused at the handshake: {reason}" in warnings())
        greet(server.port, folders.hospital)
    assert [peer.name for peer in bank.peers] == ["hospital"]


def test_plain_text_is_refused_at_the_handshake(
    folders: PartyFolders, warnings: Callable[[], str]
) -> None:
    bank = Bank()
    with handshakes_logged(), serving(folders, bank.handle) as server:
        with RawCall(server.port, folders.hospital, plain=True) as call:
            assert call.ended()[0] == "UNAVAILABLE"
        wait_for(lambda: "refused at the handshake: WRONG_VERSION_NUMBER" in warnings())
        with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT_S) as web:
            web.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            until_closed(web)
        wait_for(lambda: "refused at the handshake: HTTP_REQUEST" in warnings())
    assert bank.peers == []


def test_tls_1_2_is_refused_at_the_handshake(
    folders: PartyFolders, warnings: Callable[[], str]
) -> None:
    bank = Bank()
    with handshakes_logged(), serving(folders, bank.handle) as server:
        with (
            pytest.raises((ssl.SSLError, ConnectionError)),
            tls(server.port, folders.hospital, ssl.TLSVersion.TLSv1_2) as client,
        ):
            client.sendall(http2_request())
        wait_for(lambda: "refused at the handshake: NO_SHARED_CIPHER" in warnings())
    assert bank.peers == []


def test_a_key_exchange_that_is_not_post_quantum_is_refused_before_the_first_message(
    folders: PartyFolders, warnings: Callable[[], str]
) -> None:
    """Python's OpenSSL may learn it; then this test has to ask for another group."""
    bank = Bank()
    with serving(folders, bank.handle) as server:
        with tls(server.port, folders.hospital) as client:
            assert client.version() == "TLSv1.3"
            client.sendall(http2_request())
            wait_for(lambda: "expected X25519MLKEM768" in warnings())
        assert "(certificate): key exchange " in warnings()
    assert bank.peers == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"transport_security_type": [b"insecure"]}, "plain text; expected TLSv1.3"),
        ({"ssl_tls_version": [b"TLSv1.2"]}, "TLSv1.2; expected TLSv1.3"),
        ({"ssl_tls_version": []}, "no TLS; expected TLSv1.3"),
        ({"ssl_negotiated_key_exchange_group": [b"X25519"]}, "key exchange X25519; expected"),
        ({"ssl_negotiated_key_exchange_group": []}, "key exchange unknown; expected"),
    ],
)
def test_every_call_is_looked_at_again_before_it_is_acted_on(
    change: dict[str, list[bytes]], reason: str | None
) -> None:
    good = {
        "transport_security_type": [b"ssl"],
        "ssl_tls_version": [b"TLSv1.3"],
        "ssl_negotiated_key_exchange_group": [b"X25519MLKEM768"],
    }
    found = transport_refusal({**good, **change})
    assert (found is None) if reason is None else (reason in str(found))


def test_a_revoked_client_is_told_why_as_soon_as_the_list_says_so(
    tmp_path: Path, warnings: Callable[[], str]
) -> None:
    folders, bank = PartyFolders(tmp_path), Bank()
    with serving(folders, bank.handle) as server:
        greet(server.port, folders.hospital)
        folders.revoke(folders.hospital, folders.bank)
        with (
            pytest.raises(AbortedError, match="'hospital': revoked on") as error,
            connect(f"localhost:{server.port}", folders.hospital),
        ):
            pass
    assert (error.value.by, error.value.code) == ("server", AbortCode.CERTIFICATE)
    assert "(certificate): certificate of 'hospital': revoked on" in warnings()
    assert len(bank.peers) == 1


def test_a_certificate_in_the_first_message_is_that_of_the_connection(
    folders: PartyFolders,
) -> None:
    bank = Bank()
    other = folders.party("third", CLIENT)
    with serving(folders, bank.handle) as server, RawCall(server.port, other) as call:
        _, data = hello(folders.hospital)
        answer = two_parties.decoded(call.say(data))
        assert "certificate of the connection" in str(answer)
        assert bank.wait() == [AbortCode.CERTIFICATE]


def test_a_client_refuses_a_server_that_shows_a_clients_certificate(
    folders: PartyFolders,
) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    key, shown = ((folders.hospital / name).read_bytes() for name in (KEY, CERTIFICATE))
    authority = (folders.hospital / AUTHORITY).read_bytes()
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([(key, shown)], authority, True)
    )
    server.start()
    try:
        with (
            pytest.raises(AbortedError, match=r"peer-lost.*CERTIFICATE_VERIFY_FAILED"),
            connect(f"localhost:{port}", folders.hospital),
        ):
            pass
    finally:
        server.stop(None).wait()


def test_a_client_refuses_a_revoked_server(tmp_path: Path) -> None:
    folders, bank = PartyFolders(tmp_path), Bank()
    with serving(folders, bank.handle) as server:
        folders.revoke(folders.bank, folders.hospital)
        with pytest.raises(AbortedError, match="certificate of 'bank': revoked") as error:
            greet(server.port, folders.hospital)
        assert (error.value.by, error.value.code) == ("client", AbortCode.CERTIFICATE)
        assert bank.wait() == [AbortCode.CERTIFICATE]


def test_a_renewed_certificate_is_shown_from_the_next_connection_on(tmp_path: Path) -> None:
    folders, bank = PartyFolders(tmp_path), Bank()
    with serving(folders, bank.handle) as server:
        before = greet(server.port, folders.hospital)
        renewed = folders.authority.renew(Certificate.read(folders.bank / CERTIFICATE))
        folders.authority.hand_over(renewed, folders.bank)
        after = greet(server.port, folders.hospital)
        assert after.fingerprint == before.fingerprint
        assert after.certificate != before.certificate
        # Half of a renewal changes nothing.
        (folders.bank / CERTIFICATE).write_bytes(b"")
        assert greet(server.port, folders.hospital).certificate == after.certificate


def test_no_server_is_a_lost_peer(folders: PartyFolders) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        pytest.raises(AbortedError, match=r"peer-lost.*refused"),
        connect(f"localhost:{port}", folders.hospital),
    ):
        pass
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"localhost:{silent.getsockname()[1]}"
        with (
            pytest.raises(AbortedError, match=r"timeout.*no answer in 0\.2 s"),
            connect(address, folders.hospital, timeout_s=0.2),
        ):
            pass
    with (
        pytest.raises(SettingError, match="HOST:PORT"),
        connect("localhost", folders.hospital),
    ):
        pass
