"""Over our raw socket: whole blocks however they come, and never a stale reply."""

from __future__ import annotations

import hashlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.clock import SystemClock
from labctl.environment import RECORD, RECORD_BLOCKS, REPLAY
from labctl.errors import (
    ConnectionFailedError,
    InstrumentTimeoutError,
    LabctlError,
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
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa

Send = Callable[[bytes], None]
Handler = Callable[[bytes, Send], None]
Peers = Callable[[Handler], Any]
SHORT_S = 0.3
CHUNK = 1 << 16
shared_peer = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@contextmanager
def opened(
    address: str, timeout_s: float = 10.0, terminator: str = "\n"
) -> Iterator[MessageTransport]:
    transport = open_visa(
        "scope", address, library="@py", timeout_s=timeout_s, terminator=terminator
    )
    try:
        yield transport
    finally:
        transport.close()


class Teller:
    """Answers `?` with the pieces it is given, one send each, and `*OPC?` with 1."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def __call__(self, line: bytes, send: Send) -> None:
        for piece in [b"1\n"] if line.strip() == b"*OPC?" else self.pieces:
            send(piece)


def cut(message: bytes, cuts: list[int]) -> list[bytes]:
    """Return the message in pieces; each cut is a place modulo the message's length."""
    places = sorted({0, len(message), *(place % (len(message) + 1) for place in cuts)})
    return [message[a:b] for a, b in pairwise(places)]


def one_reply(reply: bytes) -> Teller:
    teller = Teller()
    teller.pieces = [reply]
    return teller


def test_a_query_returns_its_reply_without_terminators(socket_peer: Peers) -> None:
    with opened(socket_peer(one_reply(b" A,B\r\n")).address) as transport:
        assert isinstance(transport, SocketTransport)
        assert isinstance(transport.clock, SystemClock)
        assert transport.query("?") == "A,B"


cuts_of = st.lists(st.integers(0, 1 << 20), max_size=12)


def test_lines_are_whole_in_whatever_pieces_they_come(socket_peer: Peers) -> None:
    teller = Teller()
    with opened(socket_peer(teller).address) as transport:

        @shared_peer
        @given(
            st.text(st.characters(max_codepoint=255, exclude_characters="\n")),
            cuts_of,
            st.booleans(),
        )
        def check(text: str, cuts: list[int], with_return: bool) -> None:
            end = b"\r\n" if with_return else b"\n"
            teller.pieces = cut(text.encode("latin-1") + end, cuts)
            assert transport.query("?") == text.strip()
            assert transport.query("*OPC?") == "1"

        check()


@pytest.mark.parametrize("chunk", [1, 7, 64, CHUNK])
def test_blocks_are_whole_in_whatever_pieces_they_come(
    socket_peer: Peers, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(socket_transport, "_CHUNK_BYTES", chunk)
    teller = Teller()
    peer = socket_peer(teller)
    with opened(peer.address) as transport:

        @shared_peer
        @given(
            st.binary() | st.lists(st.sampled_from(b"\n\r#01"), max_size=150).map(bytes),
            cuts_of,
            st.sampled_from([b"\n", b"\r\n"]),
            st.none() | st.integers(4, 9),
        )
        def check(payload: bytes, cuts: list[int], end: bytes, digits: int | None) -> None:
            teller.pieces = cut(encode_block(payload, digits=digits) + end, cuts)
            assert transport.query_block("?") == payload
            assert transport.query("*OPC?") == "1"

        check()
    assert peer.connections == 1


@pytest.mark.parametrize("blocks", [1, 2, 4, 32])
@pytest.mark.parametrize("more", [-9, -8, -2, -1, 0, 1, 2])
@pytest.mark.parametrize("value", [b"\n", b"\0"])
def test_blocks_around_multiples_of_the_buffer_are_whole(
    socket_peer: Peers, blocks: int, more: int, value: bytes
) -> None:
    payload = value * (blocks * CHUNK + more)
    with opened(socket_peer(one_reply(encode_block(payload) + b"\n")).address) as transport:
        assert transport.query_block("?") == payload
        assert transport.query("*OPC?") == "1"


@pytest.mark.parametrize("payload", [b"", b"\n", b"x\r\n", b"\n" * CHUNK, b"x" * (3 * CHUNK)])
def test_a_block_without_terminator_is_complete(socket_peer: Peers, payload: bytes) -> None:
    with opened(socket_peer(one_reply(encode_block(payload))).address) as transport:
        assert transport.query_block("?") == payload
        assert transport.query("*OPC?") == "1"
        assert transport.query_block("?") == payload


def test_a_terminator_that_comes_long_after_its_block_answers_nothing(socket_peer: Peers) -> None:
    def handle(line: bytes, send: Send) -> None:
        if line == b"DATA?\n":
            send(b"#13abc")
        else:
            owed = b"\n" if peer.connections == 1 else b""
            send(owed + b"1\n")

    peer = socket_peer(handle)
    with opened(peer.address) as transport:
        assert bytes(transport.query_block("DATA?")) == b"abc"
        assert transport.query("*OPC?") == "1"


def test_an_indefinite_block_ends_with_a_newline_and_silence(socket_peer: Peers) -> None:
    teller = Teller()
    with opened(socket_peer(teller).address, SHORT_S) as transport:
        for payload in (b"", b"\n", b"abc", b"a\nb\n\n", b"\n" * CHUNK, b"x" * (2 * CHUNK - 3)):
            teller.pieces = cut(b"#0" + payload + b"\n", [1, 2, 3, 5, CHUNK])
            assert transport.query_block("?") == payload
            assert transport.query("*OPC?") == "1"


def test_an_indefinite_block_ends_with_a_newline_and_the_connection(socket_peer: Peers) -> None:
    def handle(line: bytes, send: Send) -> None:
        send(b"#0a\nb\n" if line == b"?\n" else b"1\n")
        if line == b"?\n":
            raise ConnectionAbortedError

    peer = socket_peer(handle)
    with opened(peer.address) as transport:
        assert bytes(transport.query_block("?")) == b"a\nb"
        assert transport.query("*OPC?") == "1"


def test_an_indefinite_block_without_newline_times_out(socket_peer: Peers) -> None:
    with opened(socket_peer(one_reply(b"#0abc")).address, SHORT_S) as transport:
        with pytest.raises(InstrumentTimeoutError, match=r"\?"):
            transport.query_block("?")
        assert transport.query("*OPC?") == "1"


@pytest.mark.parametrize(
    "reply",
    [b"#X12\n", b"-113,bad\n", b"1\n", b"\n", b"#13abcdef\n", b"#2zz\n", b"#\n\n", b"#1\n\n"],
)
def test_a_malformed_block_is_a_reply_error_and_leaves_nothing_behind(
    socket_peer: Peers, reply: bytes
) -> None:
    with opened(socket_peer(one_reply(reply)).address) as transport:
        with pytest.raises(ReplyError, match=r"scope.*command '\?'"):
            transport.query_block("?")
        assert transport.query("*OPC?") == "1"


def test_garbage_never_does_more_than_raise_one_of_our_errors(socket_peer: Peers) -> None:
    teller = Teller()
    with opened(socket_peer(teller).address, 0.05) as transport:

        @shared_peer
        @given(
            st.binary(max_size=40) | st.binary(max_size=20).map(lambda tail: b"#" + tail), cuts_of
        )
        def check(garbage: bytes, cuts: list[int]) -> None:
            teller.pieces = cut(garbage, cuts)
            for read in (transport.query_block, transport.query):
                with suppress(LabctlError):
                    read("?")
            transport.clear()
            for _ in range(2):
                assert patient_query(transport, "*OPC?") == "1"

        check()


def patient_query(transport: MessageTransport, command: str) -> str:
    """Query again when a loaded machine was too slow for a very short time-out."""
    for _ in range(200):
        try:
            return transport.query(command)
        except InstrumentTimeoutError:
            continue
    return "nothing"


def test_a_line_that_never_ends_is_a_reply_error(
    socket_peer: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_transport, "_MOST_LINE_BYTES", 3 * CHUNK)
    with opened(socket_peer(one_reply(b"x" * 5 * CHUNK)).address) as transport:
        with pytest.raises(ReplyError, match="without ending the line"):
            transport.query("?")
        assert transport.query("*OPC?") == "1"


def test_an_indefinite_block_that_never_ends_is_a_reply_error(
    socket_peer: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_transport, "MOST_BLOCK_BYTES", 3 * CHUNK)
    with (
        opened(socket_peer(one_reply(b"#0" + b"\n" * 5 * CHUNK)).address) as transport,
        pytest.raises(ReplyError, match="without ending the block"),
    ):
        transport.query_block("?")


def test_a_reply_that_only_trickles_times_out(socket_peer: Peers) -> None:
    stop = threading.Event()

    def handle(line: bytes, send: Send) -> None:
        while not stop.wait(SHORT_S / 10):
            send(b"x")

    with opened(socket_peer(handle).address, SHORT_S) as transport:
        with pytest.raises(InstrumentTimeoutError):
            transport.query("?")
        stop.set()


@pytest.mark.parametrize("ask", ["query", "query_block"])
def test_a_reply_that_comes_too_late_is_never_handed_out(socket_peer: Peers, ask: str) -> None:
    release, sent = threading.Event(), threading.Event()

    def handle(line: bytes, send: Send) -> None:
        if line == b"LATE?\n":
            assert release.wait(20)
            try:
                send(b"stale\n")
            finally:
                sent.set()
        send(b"fresh\n")

    peer = socket_peer(handle)
    with opened(peer.address, SHORT_S) as transport:
        with pytest.raises(InstrumentTimeoutError, match=r"scope: no answer .*SOCKET.*LATE\?"):
            getattr(transport, ask)("LATE?")
        release.set()
        assert sent.wait(20)
        assert patient_query(transport, "FRESH?") == "fresh"
        assert transport.query("FRESH?") == "fresh"


def test_bytes_that_came_before_a_command_do_not_answer_it(socket_peer: Peers) -> None:
    with opened(socket_peer(one_reply(b"yes\nand more\n")).address) as transport:
        assert transport.query("?") == "yes"
        assert transport.query("*OPC?") == "1"


@pytest.mark.parametrize("ask", ["query", "query_block"])
def test_an_interrupt_in_the_middle_leaves_no_reply_for_the_next_query(
    socket_peer: Peers, ask: str
) -> None:
    main = threading.main_thread().ident
    assert main is not None

    def handle(line: bytes, send: Send) -> None:
        if line == b"A?\n":
            send(b"#6200000" + b"x" * 100_000)
            signal.pthread_kill(main, signal.SIGINT)
            send(b"x" * 100_000 + b"\n")
        else:
            send(b"b\n")

    peer = socket_peer(handle)
    with opened(peer.address) as transport:
        with pytest.raises(KeyboardInterrupt):
            getattr(transport, ask)("A?")
        assert transport.query("B?") == "b"
    assert peer.connections == 2


def test_threads_never_get_each_others_replies(socket_peer: Peers) -> None:
    wrong: list[str] = []
    asked = 2000

    def ask(transport: MessageTransport, who: str) -> None:
        questions = [f"{who}{i}?" for i in range(asked)]
        wrong.extend(q for q in questions if transport.query(q) != q)
        answered.append(who)

    answered: list[str] = []
    with opened(socket_peer(lambda line, send: send(line)).address) as transport:
        threads = [threading.Thread(target=ask, args=(transport, who)) for who in "AB"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (wrong, sorted(answered)) == ([], ["A", "B"])


@pytest.mark.parametrize("size", [0, 1, CHUNK, 8_000_000])
def test_an_upload_arrives_whole(socket_peer: Peers, size: int) -> None:
    payload = (bytes(range(256)) * (size // 256 + 1))[:size]
    received = hashlib.sha256()

    def handle(line: bytes, send: Send) -> None:
        if line == b"END?\n":
            send(received.hexdigest().encode() + b"\n")
        else:
            received.update(line)

    with opened(socket_peer(handle).address) as transport:
        transport.write_block("DATA ", memoryview(payload))
        whole = b"DATA " + encode_block(payload) + b"\n"
        assert transport.query("END?") == hashlib.sha256(whole).hexdigest()


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
