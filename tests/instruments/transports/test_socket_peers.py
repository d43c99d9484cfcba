"""Peers of our raw socket that fail, addresses, terminators, fences, and the end of a session."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from socket_peers import SHORT_S, Peers, Send, one_reply, opened

from labctl.environment import RECORD, RECORD_BLOCKS, REPLAY
from labctl.errors import (
    ConnectionFailedError,
    InstrumentTimeoutError,
    ReplyError,
    SettingError,
)
from labctl.instruments.codecs.ieee488 import encode_block
from labctl.instruments.transports import socket_transport
from labctl.instruments.transports.socket_transport import (
    SocketTransport,
    is_socket_address,
    socket_endpoint,
)
from labctl.instruments.transports.visa_transport import open_visa


def test_an_upload_of_wide_or_strided_items_is_its_bytes(socket_peer: Peers) -> None:
    lines: list[bytes] = []

    def handle(line: bytes, send: Send) -> None:
        if line == b"END?\n":
            send(b"1\n")
        else:
            lines.append(line)

    with opened(socket_peer(handle).address) as transport:
        transport.write_block("D ", memoryview(b"abcdefgh").cast("I"))
        transport.write_block("D ", memoryview(b"abcdefgh")[::2])
        assert transport.query("END?") == "1"
    assert lines == [b"D #18abcdefgh\n", b"D #14aceg\n"]


def test_an_instrument_that_takes_no_more_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"TCPIP::127.0.0.1::{listener.getsockname()[1]}::SOCKET"
        with (
            opened(address, SHORT_S) as transport,
            pytest.raises(InstrumentTimeoutError, match="DATA"),
        ):
            transport.write_block("DATA ", bytes(50_000_000))


def test_a_command_that_is_no_ascii_is_refused_and_nothing_is_sent(socket_peer: Peers) -> None:
    with opened(socket_peer(one_reply(b"x\n")).address) as transport:
        with pytest.raises(SettingError, match=r"scope command = 'µ\?': must be ASCII"):
            transport.query("µ?")
        assert transport.query("*OPC?") == "1"


@pytest.mark.parametrize("size", [0, 1, 5, 200_000])
def test_a_connection_closed_in_mid_block_is_named(socket_peer: Peers, size: int) -> None:
    def handle(line: bytes, send: Send) -> None:
        if line == b"*OPC?\n":
            send(b"1\n")
        else:
            send((b"#6300000" + b"x" * 300_000)[:size])
            raise ConnectionAbortedError

    peer = socket_peer(handle)
    with opened(peer.address) as transport:
        with pytest.raises(
            ConnectionFailedError, match=f"scope: connection to {peer.address} .*'D"
        ):
            transport.query_block("D?")
        assert transport.query("*OPC?") == "1"


def test_a_write_to_a_connection_that_was_hung_up_is_not_lost_silently(socket_peer: Peers) -> None:
    peer = socket_peer(one_reply(b"x\n"))
    with opened(peer.address) as transport:
        assert transport.query("?") == "x"
        peer.hang_up()
        peer.wait_until_left()
        with pytest.raises(ConnectionFailedError, match="OUTP ON"):
            transport.write("OUTP ON")
        assert transport.query("*OPC?") == "1"


def test_a_chatterbox_is_no_instrument(socket_peer: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_transport, "_UNASKED_READS", 0)
    with (
        opened(socket_peer(one_reply(b"x\n")).address) as transport,
        pytest.raises(ConnectionFailedError, match="does not stop sending"),
    ):
        transport.query("?")


def test_nobody_listening_is_a_connection_error() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        address = f"TCPIP::127.0.0.1::{holder.getsockname()[1]}::SOCKET"
        with (
            pytest.raises(ConnectionFailedError, match=f"scope: cannot open {address}: .*refused"),
            opened(address),
        ):
            pytest.fail("opened")


def test_an_instrument_that_went_away_is_named_at_every_command(socket_peer: Peers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"TCPIP::127.0.0.1::{listener.getsockname()[1]}::SOCKET"
        transport = open_visa("scope", address, library="", timeout_s=SHORT_S)
        listener.accept()[0].close()
    for _ in range(2):
        with pytest.raises(ConnectionFailedError, match=r"scope: .*SOCKET"):
            transport.query("*OPC?")
    transport.close()


@pytest.mark.parametrize(
    "address",
    [
        "TCPIP::127.0.0.1::0::SOCKET",
        "TCPIP::127.0.0.1::65536::SOCKET",
        "TCPIP::127.0.0.1::99999::SOCKET",
        "TCPIP::127.0.0.1::port::SOCKET",
        "TCPIP::::5025::SOCKET",
        "TCPIP::::SOCKET",
        "TCPIP::h::SOCKET",
        "TCPIP::::1::5025::SOCKET",
        f"TCPIP::{'x' * 70}.invalid::5025::SOCKET",
        "TCPIP::a\0b::5025::SOCKET",
    ],
)
def test_an_address_that_cannot_be_opened_is_named(address: str) -> None:
    with pytest.raises(ConnectionFailedError) as caught, opened(address, SHORT_S):
        pytest.fail("opened")
    assert str(caught.value).startswith(f"scope: cannot open {address}")


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        ("TCPIP::scope.lab::5025::SOCKET", ("scope.lab", 5025)),
        ("TCPIP0::10.0.0.7::23::SOCKET", ("10.0.0.7", 23)),
        ("tcpip1::h::1::socket", ("h", 1)),
        ("TCPIP::[::1]::5025::SOCKET", ("::1", 5025)),
    ],
)
def test_a_socket_address_is_host_and_port(address: str, endpoint: tuple[str, int]) -> None:
    assert is_socket_address(address)
    assert socket_endpoint(address) == endpoint


@pytest.mark.parametrize(
    "address", ["TCPIP::h::5025", "TCPIP::h::INSTR", "TCPIP::h::hislip0::INSTR", "ASRL1::INSTR"]
)
def test_other_addresses_are_no_sockets(address: str) -> None:
    assert not is_socket_address(address)


def test_a_library_of_the_user_s_choice_keeps_its_sockets(
    socket_peer: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kind(library: str) -> type:
        transport = open_visa("scope", peer.address, library=library, timeout_s=5)
        transport.close()
        return type(transport)

    peer = socket_peer(one_reply(b"x\n"))
    monkeypatch.delenv("PYVISA_LIBRARY", raising=False)
    assert kind("") is kind("@py") is SocketTransport
    monkeypatch.setenv("PYVISA_LIBRARY", "@no_such_backend")
    with pytest.raises(ConnectionFailedError, match="cannot be loaded"):
        kind("")
    assert kind("@py") is SocketTransport
    with pytest.raises(ConnectionFailedError, match="no_such_backend"):
        kind("@no_such_backend")


def test_a_terminator_is_needed(socket_peer: Peers) -> None:
    with (
        pytest.raises(SettingError, match="scope terminator = ''"),
        opened(socket_peer(one_reply(b"x\n")).address, terminator=""),
    ):
        pytest.fail("opened")


@pytest.mark.parametrize("terminator", ["\r", "\r\n", ";"])
def test_other_terminators_end_commands_and_replies(socket_peer: Peers, terminator: str) -> None:
    end = terminator.encode()
    lines: list[bytes] = []

    def handle(line: bytes, send: Send) -> None:
        lines.append(line)
        send(b"x" + end)

    peer = socket_peer(handle)
    with opened(peer.address, terminator=terminator) as transport:
        transport.write("A")
        assert transport.query("\nB?\n") == "x"
    assert b"".join(lines).startswith(b"A" + end)


def test_a_fence_returns_what_comes_before_the_marker(socket_peer: Peers) -> None:
    replies = {b"SET 1\n": b"ok\n", b"SET 2\n": b"", b"MODEL?\n": b"M1\r\n"}
    peer = socket_peer(lambda line, send: send(replies[line]))
    with opened(peer.address) as transport:
        assert transport.fence("SET 1", "MODEL?", "M1") == ("ok",)
        assert transport.fence("SET 2", "MODEL?", "M1") == ()


def test_a_fence_that_is_never_reached_is_a_reply_error(socket_peer: Peers) -> None:
    with (
        opened(socket_peer(lambda line, send: send(b"1\n" * 100)).address) as transport,
        pytest.raises(ReplyError, match=r"'MODEL\?' was never answered with 'M1'"),
    ):
        transport.fence("SET", "MODEL?", "M1")


def test_clear_connects_anew(socket_peer: Peers) -> None:
    peer = socket_peer(one_reply(b"x\n"))
    with opened(peer.address) as transport:
        transport.write("?")
        transport.clear()
        assert transport.query("*OPC?") == "1"
    assert peer.connections == 2


def test_a_closed_session_refuses_and_closes_twice(socket_peer: Peers) -> None:
    with opened(socket_peer(one_reply(b"x\n")).address) as transport:
        transport.close()
        transport.close()
        with pytest.raises(ConnectionFailedError, match=r"closed .*\*OPC\?"):
            transport.query("*OPC?")
        with pytest.raises(ConnectionFailedError, match="closed"):
            transport.clear()


def test_a_socket_is_recorded_and_played_back(
    socket_peer: Peers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    payload = b"a\nb" * 10
    replies = {b"DATA?\n": encode_block(payload) + b"\n", b"*OPC?\n": b"1\n", b"U #11x\n": b""}
    peer = socket_peer(lambda line, send: send(replies[line]))

    def talk() -> tuple[str, bytes]:
        with opened(peer.address) as transport:
            transport.write_block("U ", b"x")
            return transport.query("*OPC?"), bytes(transport.query_block("DATA?"))

    monkeypatch.setenv(RECORD_BLOCKS, "keep")
    with monkeypatch.context() as recording:
        recording.setenv(RECORD, str(tmp_path / "wire.jsonl"))
        live = talk()
    monkeypatch.setenv(REPLAY, str(tmp_path / "wire.jsonl"))
    assert talk() == live == ("1", payload)
    assert peer.connections == 1
