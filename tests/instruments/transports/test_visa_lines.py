"""Replies of several lines over a real byte stream: they end where they say, or not in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from labctl.errors import ConnectionFailedError, InstrumentTimeoutError, ReplyError
from labctl.instruments.transports.socket_transport import SocketLink
from labctl.instruments.transports.transport import LinesTransport
from labctl.instruments.transports.visa_lines import LinkLinesTransport, open_visa_lines

Start = Callable[..., Any]


def connect(address: str, timeout_s: float = 5.0, end: str = "\r\n") -> LinesTransport:
    return open_visa_lines(
        "dut", address, library="@py", timeout_s=timeout_s, baud_rate=9600, end=end
    )


def done(lines: Sequence[str]) -> bool:
    return lines[-1] == "Done"


def test_a_reply_ends_where_it_says(socket_peer: Start) -> None:
    peer = socket_peer(lambda line, send: send(b"you said " + line + b"Done\r\n\r\n"))
    wire = connect(peer.address)
    assert wire.exchange("A?", done) == ("you said A?", "Done")
    assert wire.exchange("D", done) == ("", "you said D", "Done")
    wire.close()


def test_commands_end_as_told_on_a_serial_line(terminal_peer: Start) -> None:
    received: list[bytes] = []

    def answer(data: bytes, send: Callable[[bytes], None]) -> None:
        received.append(data)
        if data.endswith(b"\r"):
            send(b"Pos:1\r\nDone\r\n")

    wire = connect(terminal_peer(answer).address, end="\r")
    assert wire.exchange("A5.00", done) == ("Pos:1", "Done")
    assert b"".join(received) == b"A5.00\r"
    wire.close()


def test_a_reply_that_does_not_end_times_out_and_leaves_nothing_behind(
    socket_peer: Start,
) -> None:
    def answer(line: bytes, send: Callable[[bytes], None]) -> None:
        send(b"half\r\n" if line.startswith(b"first") else b"whole\r\nDone\r\n")

    wire = connect(socket_peer(answer).address, timeout_s=1.0)
    with pytest.raises(InstrumentTimeoutError, match="'first'"):
        wire.exchange("first", done)
    assert wire.exchange("second", done) == ("whole", "Done")
    wire.close()


def test_a_reply_without_end_is_a_reply_error(socket_peer: Start) -> None:
    peer = socket_peer(lambda line, send: send(b"more\r\n" * 1000))
    wire = connect(peer.address)
    with pytest.raises(ReplyError, match=r"not ended after 256 lines.*'CD'"):
        wire.exchange("CD", done)
    wire.close()


def test_what_was_sent_late_is_gone_after_a_clear(socket_peer: Start) -> None:
    peer = socket_peer(lambda line, send: send(line + b"Done\r\nlate\r\nDone\r\n"))
    wire = connect(peer.address)
    wire.exchange("one", done)
    wire.clear()
    assert wire.exchange("two", done) == ("two", "Done")
    wire.close()


def test_a_closed_session_refuses(socket_peer: Start) -> None:
    wire = connect(socket_peer(lambda line, send: send(line)).address)
    wire.close()
    wire.close()
    with pytest.raises(ConnectionFailedError, match="closed"):
        wire.exchange("one", done)


def test_a_raw_socket_needs_no_visa_library_and_keeps_what_was_said_unasked(
    socket_peer: Start,
) -> None:
    """A voltage array sends error lines unasked: they come before the next reply, none is lost."""
    peer = socket_peer(lambda line, send: send(b"OK\nE01:06\n" if line == b"V6=5\n" else b"0\n"))
    wire = open_visa_lines(
        "array", peer.address, library="", timeout_s=5.0, baud_rate=115200, end="\n"
    )
    assert isinstance(wire, LinkLinesTransport)
    assert isinstance(wire._link, SocketLink)
    assert wire.exchange("V6=5", lambda lines: True) == ("OK",)
    assert wire.exchange("V6?", lambda lines: lines[-1] == "0") == ("E01:06", "0")
    wire.close()


def test_another_library_keeps_its_sockets() -> None:
    with pytest.raises(ConnectionFailedError, match=r"absent\.toml"):
        open_visa_lines(
            "array",
            "TCPIP::127.0.0.1::9::SOCKET",
            library="absent.toml@labctl",
            timeout_s=1.0,
            baud_rate=9600,
            end="\n",
        )
