"""Over real byte streams: replies belong to their queries, blocks are whole, errors are ours."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from labctl.clock import SystemClock
from labctl.errors import ConnectionFailedError, InstrumentTimeoutError, ReplyError
from labctl.haste import at_most
from labctl.instruments.codecs.ieee488 import encode_block
from labctl.instruments.transports import visa_link
from labctl.instruments.transports.socket_transport import SocketLink
from labctl.instruments.transports.transport import FrameTransport, MessageTransport
from labctl.instruments.transports.visa_transport import (
    LinkFrameTransport,
    VisaTransport,
    open_visa,
    open_visa_frames,
    resource_manager,
)

Send = Callable[[bytes], None]
Handler = Callable[[bytes, Send], None]
Peers = Callable[[Handler], Any]
TIMEOUT_S = 0.5


@contextmanager
def opened(address: str, timeout_s: float = 5.0) -> Iterator[MessageTransport]:
    link = visa_link.VisaLink(
        "scope", address, library="@py", timeout_s=timeout_s, terminator="\n", baud_rate=9600
    )
    transport = VisaTransport(link, "\n")
    try:
        yield transport
    finally:
        transport.close()


@contextmanager
def framed(address: str, timeout_s: float = TIMEOUT_S) -> Iterator[FrameTransport]:
    transport = open_visa_frames(
        "laser",
        address,
        library="@py",
        timeout_s=timeout_s,
        frame_bytes=4,
        filler=b"\0",
        baud_rate=9600,
    )
    try:
        yield transport
    finally:
        transport.close()


def replies(table: dict[bytes, bytes]) -> Handler:
    def handle(line: bytes, send: Send) -> None:
        if line.strip() in table:
            send(table[line.strip()])

    return handle


def test_a_query_returns_its_reply_without_terminators(socket_peer: Peers) -> None:
    peer = socket_peer(replies({b"*IDN?": b" A,B,C,D\r\n"}))
    with opened(peer.address) as transport:
        assert transport.query("*IDN?") == "A,B,C,D"
        assert isinstance(transport.clock, SystemClock)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize(
    "payload", [b"", b"\n", b"a\nb\n\n", bytes(range(256)) * 5, b"\n" * 70_000, b"x\r"]
)
def test_a_block_is_read_whole_whatever_its_bytes(
    socket_peer: Peers, payload: bytes, end: bytes
) -> None:
    block = encode_block(payload, digits=8) + end
    peer = socket_peer(replies({b":WAV:DATA?": block, b"*OPC?": b"1\n"}))
    with opened(peer.address) as transport:
        assert transport.query_block(":WAV:DATA?") == payload
        assert transport.query("*OPC?") == "1"


def test_a_block_of_many_megabytes_is_read_and_written(socket_peer: Peers) -> None:
    payload = bytes(range(256)) * 20_000
    received = threading.Event()
    sizes: list[int] = []

    def handle(line: bytes, send: Send) -> None:
        if line.strip() == b"DATA?":
            send(encode_block(payload) + b"\n")
        elif line.strip() == b"END":
            received.set()
        else:
            sizes.append(len(line))

    peer = socket_peer(handle)
    with opened(peer.address) as transport:
        assert transport.query_block("DATA?") == payload
        transport.write_block("DATA ", payload)
        transport.write("END")
        assert received.wait(20)
    assert sum(sizes) == len(b"DATA #75120000\n") + len(payload)


@pytest.mark.parametrize(
    "reply", [b"#0abc\n", b"#X12\n", b"-113,bad\n", b"#13abcdef\n", b"#2zz\n", b"#\n\n"]
)
def test_a_malformed_block_is_a_reply_error_and_leaves_nothing_behind(
    socket_peer: Peers, reply: bytes
) -> None:
    peer = socket_peer(replies({b":WAV:DATA?": reply, b"*OPC?": b"1\n"}))
    with opened(peer.address) as transport:
        with pytest.raises(ReplyError, match=r"scope.*:WAV:DATA\?"):
            transport.query_block(":WAV:DATA?")
        assert transport.query("*OPC?") == "1"


def test_a_block_cut_short_times_out(socket_peer: Peers) -> None:
    peer = socket_peer(replies({b"DATA?": b"#510000" + b"x" * 100, b"*OPC?": b"1\n"}))
    with opened(peer.address, TIMEOUT_S) as transport:
        with pytest.raises(InstrumentTimeoutError, match=r"DATA\?"):
            transport.query_block("DATA?")
        assert transport.query("*OPC?") == "1"


def late_peer(start: Peers) -> tuple[Any, threading.Event, threading.Event]:
    """Answer LATE? only when the test says so, FRESH? at once, in the order of arrival."""
    release, sent = threading.Event(), threading.Event()

    def handle(line: bytes, send: Send) -> None:
        if b"LATE?" in line:
            assert release.wait(20)
            try:
                send(b"stale\n")
            finally:
                sent.set()
        if b"FRESH?" in line:
            send(b"fresh\n")

    return start(handle), release, sent


@pytest.mark.parametrize("wire", ["socket_peer", "terminal_peer"])
def test_a_reply_that_comes_too_late_is_never_handed_out(
    request: pytest.FixtureRequest, wire: str
) -> None:
    peer, release, sent = late_peer(request.getfixturevalue(wire))
    with opened(peer.address, TIMEOUT_S) as transport:
        with pytest.raises(InstrumentTimeoutError, match=r"scope: no answer .*LATE\?"):
            transport.query("LATE?")
        release.set()
        assert sent.wait(20)
        assert transport.query("FRESH?") == "fresh"
        assert transport.query("FRESH?") == "fresh"


@pytest.mark.parametrize("unasked", [b"\n", b"a\n", b"0.5\n0.7\n"])
def test_what_comes_unasked_on_a_serial_line_answers_no_later_query(
    terminal_peer: Peers, unasked: bytes
) -> None:
    """A stray terminator, a doubled reply: sent behind the reply, it is dropped before the next."""
    answers = {b"A?": b"a\n", b"B?": b"b\n"}
    peer = terminal_peer(replies(answers))
    with opened(peer.address, TIMEOUT_S) as transport:
        assert transport.query("A?") == "a"
        peer.send(unasked)
        assert transport.query("B?") == "b"
        assert transport.query("A?") == "a"


@pytest.mark.parametrize("wire", ["socket_peer", "terminal_peer"])
def test_an_interrupted_query_leaves_no_reply_for_the_next_one(
    request: pytest.FixtureRequest, wire: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: visa_link.VisaLink, command: str) -> str:
        raise KeyboardInterrupt

    peer = request.getfixturevalue(wire)(replies({b"A?": b"a\n", b"B?": b"b\n"}))
    with opened(peer.address, TIMEOUT_S) as transport:
        with monkeypatch.context() as patch:
            patch.setattr(visa_link.VisaLink, "read_line", interrupted)
            with pytest.raises(KeyboardInterrupt):
                transport.query("A?")
        assert transport.query("B?") == "b"


def test_threads_never_get_each_others_replies(socket_peer: Peers) -> None:
    wrong: list[str] = []

    def ask(transport: MessageTransport, word: str) -> None:
        wrong.extend(reply for _ in range(100) if (reply := transport.query(word)) != word)

    peer = socket_peer(lambda line, send: send(line))
    with opened(peer.address) as transport:
        threads = [threading.Thread(target=ask, args=(transport, f"W{i}?")) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_connection_that_was_hung_up_is_opened_again(socket_peer: Peers) -> None:
    peer = socket_peer(replies({b"*OPC?": b"1\n"}))
    with opened(peer.address, TIMEOUT_S) as transport:
        assert transport.query("*OPC?") == "1"
        peer.hang_up()
        with pytest.raises((InstrumentTimeoutError, ConnectionFailedError)):
            transport.query("*OPC?")
        assert transport.query("*OPC?") == "1"
        assert peer.connections == 2


def test_nobody_listening_is_a_connection_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"TCPIP::127.0.0.1::{listener.getsockname()[1]}::SOCKET"
    with (
        pytest.raises(ConnectionFailedError, match=f"scope: .*{address}"),
        opened(address, TIMEOUT_S) as transport,
    ):
        transport.query("*IDN?")


@pytest.mark.parametrize("address", ["", "COM banana", "TCPIP::::SOCKET", "ASRL/dev/none::INSTR"])
def test_an_address_that_cannot_be_opened_is_named(address: str) -> None:
    with (
        pytest.raises(ConnectionFailedError, match=f"scope: cannot open {address}"),
        opened(address),
    ):
        pytest.fail("opened")


def test_a_missing_library_is_named() -> None:
    with pytest.raises(ConnectionFailedError, match="no_such_backend"):
        open_visa("scope", "ASRL1::INSTR", library="@no_such_backend", timeout_s=1)


def test_a_closed_session_refuses_and_closes_twice(socket_peer: Peers) -> None:
    peer = socket_peer(replies({b"*OPC?": b"1\n"}))
    with opened(peer.address) as transport:
        transport.close()
        transport.close()
        with pytest.raises(ConnectionFailedError, match=r"closed .*\*OPC\?"):
            transport.query("*OPC?")
        with pytest.raises(ConnectionFailedError, match="closed"):
            transport.clear()


def test_bytes_that_are_no_text_do_not_break_the_session(socket_peer: Peers) -> None:
    peer = socket_peer(replies({b"?": b"\xff\x80\x00\n", b"*OPC?": b"1\n"}))
    with opened(peer.address) as transport:
        assert transport.query("?") == "\xff\x80\x00"
        assert transport.query("*OPC?") == "1"


@pytest.mark.parametrize(
    ("lines", "before"),
    [(b"MX10B\r\n", ()), (b"1\r\nMX10B\r\n", ("1",)), (b"Err: X\r\nMX10B\r\n", ("Err: X",))],
)
def test_a_fence_returns_what_comes_before_the_marker(
    terminal_peer: Peers, lines: bytes, before: tuple[str, ...]
) -> None:
    def handle(data: bytes, send: Send) -> None:
        if b"SYS:MODEL?" in data:
            send(lines)

    peer = terminal_peer(handle)
    with opened(peer.address) as transport:
        assert transport.fence("MZM:MODE: 1", "SYS:MODEL?", "MX10B") == before


def test_a_fence_that_is_never_reached_is_a_reply_error(terminal_peer: Peers) -> None:
    peer = terminal_peer(lambda data, send: send(b"1\n" * 100))
    with (
        opened(peer.address) as transport,
        pytest.raises(ReplyError, match=r"'SYS:MODEL\?' was never answered with 'MX10B'"),
    ):
        transport.fence("MZM:MODE: 1", "SYS:MODEL?", "MX10B")


def test_a_line_that_never_falls_silent_breaks_the_session(terminal_peer: Peers) -> None:
    talking = threading.Event()

    def handle(data: bytes, send: Send) -> None:
        while not talking.is_set():
            send(b"noise\n")

    peer = terminal_peer(handle)
    with opened(peer.address) as transport:
        assert transport.query("?") == "noise"
        with pytest.raises(ConnectionFailedError, match="does not stop sending"):
            transport.clear()
        talking.set()


def test_frames_may_contain_any_byte(terminal_peer: Peers) -> None:
    peer = terminal_peer(lambda data, send: send(data[::-1]))
    with framed(peer.address) as transport:
        assert transport.exchange(b"\x0a\x0d\x0a\x00") == b"\x00\x0a\x0d\x0a"
        assert transport.exchange(b"\x0a\x0a\x0a\x0a") == b"\x0a\x0a\x0a\x0a"


def test_frames_fall_into_step_again_after_silence(terminal_peer: Peers) -> None:
    """The module lost one byte of a request: fillers complete the frame it still waits for."""
    held = bytearray()
    lossy = [True]

    def handle(data: bytes, send: Send) -> None:
        held.extend(data[1:] if lossy and lossy.pop() else data)
        while len(held) >= 4:
            send(bytes(held[:4]))
            del held[:4]

    peer = terminal_peer(handle)
    with framed(peer.address) as transport:
        with pytest.raises(InstrumentTimeoutError, match="b0070000"):
            transport.exchange(bytes.fromhex("b0070000"))
        assert transport.exchange(b"\x01\x02\x03\x04") == b"\x01\x02\x03\x04"


def test_fillers_of_a_module_that_holds_nothing_do_not_each_wait_for_an_answer() -> None:
    """A laser whose program was interrupted must go off at once: three time-outs would be 15 s."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answers in (False, True):
            connection, _ = listener.accept()
            with connection:
                held = bytearray()
                while data := connection.recv(64):
                    held.extend(data)
                    while len(held) >= 4:
                        if answers:
                            connection.sendall(held[:4])
                        del held[:4]

    thread = threading.Thread(target=serve)
    thread.start()
    address = f"TCPIP::127.0.0.1::{listener.getsockname()[1]}::SOCKET"
    with framed(address, timeout_s=5.0) as transport:
        with at_most(0.1), pytest.raises(InstrumentTimeoutError, match="b0070000"):
            transport.exchange(bytes.fromhex("b0070000"))
        began_s = time.monotonic()
        assert transport.exchange(b"\x01\x02\x03\x04") == b"\x01\x02\x03\x04"
        assert time.monotonic() - began_s < 5.0
    thread.join()
    listener.close()


def test_a_module_that_stays_silent_is_named_with_what_to_check(terminal_peer: Peers) -> None:
    peer = terminal_peer(lambda data, send: None)
    with framed(peer.address) as transport:
        with pytest.raises(InstrumentTimeoutError):
            transport.exchange(b"\0\0\0\0")
        with pytest.raises(ConnectionFailedError, match="check the baud rate"):
            transport.exchange(b"\0\0\0\0")


def test_frames_cross_a_raw_socket_whatever_their_bytes_and_fall_into_step_again() -> None:
    """Our own connection: after silence it is made again, and fillers end the frame held there."""
    held = bytearray()
    lossy = [True]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(64):
                    held.extend(data[1:] if lossy and lossy.pop() else data)
                    while len(held) >= 4:
                        connection.sendall(held[:4])
                        del held[:4]

    thread = threading.Thread(target=serve)
    thread.start()
    with framed(f"TCPIP::127.0.0.1::{listener.getsockname()[1]}::SOCKET") as transport:
        assert isinstance(transport, LinkFrameTransport)
        assert isinstance(transport._link, SocketLink)
        with pytest.raises(InstrumentTimeoutError, match="b0070000"):
            transport.exchange(bytes.fromhex("b0070000"))
        for frame in (b"\x0a\x0d\x0a\x00", b"\x0a\x0a\x0a\x0a", b"\xff\x00\x0a\x23"):
            assert transport.exchange(frame) == frame
    thread.join()
    listener.close()


def test_sessions_of_one_library_share_a_manager_until_it_is_closed() -> None:
    first = resource_manager("@py")
    assert resource_manager("@py") is first
    visa_link.close_library("@py")
    second = resource_manager("@py")
    assert second is not first
    second.close()
    assert resource_manager("@py").list_resources is not None


def test_importing_the_transports_does_not_load_visa() -> None:
    check = (
        "import sys, labctl.instruments.transports.visa_transport; print('pyvisa' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
