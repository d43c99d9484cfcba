"""Over our raw socket: whole blocks however they come, and never a stale reply."""

from __future__ import annotations

import hashlib
import signal
import threading
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from socket_peers import SHORT_S, Peers, Send, Teller, one_reply, opened

from labctl.clock import SystemClock
from labctl.errors import (
    InstrumentTimeoutError,
    LabctlError,
    ReplyError,
)
from labctl.instruments.codecs.ieee488 import encode_block
from labctl.instruments.transports import socket_transport
from labctl.instruments.transports.socket_transport import (
    SocketTransport,
)
from labctl.instruments.transports.transport import MessageTransport

CHUNK = 1 << 16
shared_peer = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def cut(message: bytes, cuts: list[int]) -> list[bytes]:
    """Return the message in pieces; each cut is a place modulo the message's length."""
    places = sorted({0, len(message), *(place % (len(message) + 1) for place in cuts)})
    return [message[a:b] for a, b in pairwise(places)]


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
