"""A raw TCP socket without PyVISA: blocks go from the kernel into their final place.

A raw socket marks no ends of messages, so the end of a reply is found in its text:

- A line ends at the last byte of the terminator.
- A definite block ends after the bytes that its header announces. The terminator behind it is
  taken away if it comes within 0.1 s; without it the block is complete nevertheless.
- An indefinite block (`#0`, IEEE 488.2-1992 section 8.7.10) ends with a newline and END. Here END
  is that the instrument closes the connection, or sends nothing for 1 s (or the time-out, if that
  is shorter) after a newline; the newline is no part of the payload.

Every 64 KiB of a reply must come within the time-out. A session that got out of step (a time-out,
an interrupt, a malformed reply, a reply that ended in silence) is closed and opened again before
the next command, for a new connection cannot carry an old reply. Bytes that arrived before a
command was sent cannot answer it and are dropped.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from labctl.clock import SystemClock
from labctl.errors import ConnectionFailedError, ReplyError, SettingError
from labctl.instruments.codecs.ieee488 import MOST_BLOCK_BYTES, BlockError, block_span
from labctl.instruments.transports.link import BLOCK_END_S, WireLink
from labctl.instruments.transports.link_transport import LinkTransport

_RESOURCE = re.compile(
    r"TCPIP[0-9]*::(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^:\[\]]+))::(?P<port>[0-9]{1,5})::SOCKET",
    re.IGNORECASE,
)

_OWN_SOCKETS = frozenset({"", "@py"})
# What one receive takes at most. Shorter messages of several parts are joined: one packet, not
# three.
_CHUNK_BYTES = 1 << 16
_JOINED_BYTES = 1 << 16
# 16 MB without a line's end: not an answer.
_MOST_LINE_BYTES = 1 << 24
# The longest header of an IEEE 488.2 block: #, one digit, nine digits.
_HEADER_BYTES = 11
# 4 MB of what nobody asked for: an instrument that goes on is not made silent by reading.
_UNASKED_READS = 64
# A line feed after which nothing comes for that long ends a block of unknown length.
_PAUSE_S = 1.0


class Endpoint(NamedTuple):
    """Where an instrument listens: host name or IP address, and TCP port."""

    host: str
    port: int


def is_socket_address(address: str) -> bool:
    """Return whether a VISA address means a raw TCP socket, correctly written or not."""
    return re.fullmatch(r"TCPIP[0-9]*::.*SOCKET", address, re.IGNORECASE | re.DOTALL) is not None


def socket_endpoint(address: str) -> Endpoint:
    """Return the end point of a `TCPIP::host::port::SOCKET` address; raises ValueError.

    An IPv6 address is in brackets, the port is 1 to 65535.
    """
    match = _RESOURCE.fullmatch(address)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise ValueError("must be TCPIP::host::port::SOCKET with a port from 1 to 65535")
    return Endpoint(match["ipv6"] or match["host"], int(match["port"]))


def opens_own_socket(address: str, library: str) -> bool:
    """Return whether a raw TCP socket is ours to open: no VISA library but `@py` was asked for.

    `library` is PyVISA's library string; an empty one is that of the environment.
    """
    asked_for = library or os.environ.get("PYVISA_LIBRARY", "")
    return asked_for in _OWN_SOCKETS and is_socket_address(address)


class SocketTransport(LinkTransport):
    """A MessageTransport over a TCP connection; opens it, raises ConnectionFailedError.

    `address` is `TCPIP::host::port::SOCKET`, `timeout_s` how long connecting and every answer may
    take. Replies end at the last byte of `terminator`; raises SettingError if there is none.
    """

    def __init__(self, name: str, address: str, *, timeout_s: float, terminator: str) -> None:
        if not terminator:
            raise SettingError(f"{name} terminator", terminator, "one character or more")
        link = SocketLink(name, address, timeout_s=timeout_s, line_end=terminator[-1])
        super().__init__(link, terminator)


class SocketLink(WireLink):
    """A TCP connection; opens at construction, raises ConnectionFailedError.

    `drops_unasked` is off for instruments that speak unasked: what arrived before a command was
    sent then stays, as the beginning of what is read next.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        timeout_s: float,
        line_end: str,
        drops_unasked: bool = True,
        greet: Callable[[WireLink], None] | None = None,
    ) -> None:
        super().__init__(
            name, address, timeout_s=max(timeout_s, 1e-3), clock=SystemClock(), greet=greet
        )
        self._line_end = line_end.encode("ascii")
        self._drops_unasked = drops_unasked
        self._pending = bytearray()
        self._chunk = memoryview(bytearray(_CHUNK_BYTES))
        self._deadline_s = 0.0
        self._quota_bytes = 0
        self._socket: socket.socket | None = None
        self._connect()

    def send(self, *parts: bytes | memoryview) -> None:
        """Send the parts one after the other; small ones in one piece, big ones uncopied."""
        if len(parts) > 1 and sum(map(len, parts)) <= _JOINED_BYTES:
            parts = (b"".join(parts),)
        connection = self._opened()
        connection.settimeout(self.timeout_s)
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[connection.send(view) :]

    def read_line(self, command: str) -> str:
        """Read up to the line's end; return the line without it and surrounding space."""
        self._start_waiting(self.timeout_s)
        scanned = 0
        while (end := self._pending.find(self._line_end, scanned)) < 0:
            scanned = len(self._pending)
            if scanned > _MOST_LINE_BYTES:
                problem = f"sent {scanned} bytes without ending the line"
                raise ReplyError(self.name, problem, command)
            self._receive()
        line = str(self._pending[:end], "latin-1")
        del self._pending[: end + 1]
        return line.strip()

    def read_exactly(self, count: int) -> bytes:
        """Read a number of bytes of any values."""
        self._start_waiting(self.timeout_s)
        while len(self._pending) < count:
            self._receive()
        data = bytes(self._pending[:count])
        del self._pending[:count]
        return data

    def read_block(self, command: str) -> memoryview:
        """Read a definite block straight into the memory it stays in, or an indefinite one."""
        self._start_waiting(self.timeout_s)
        while (span := self._block_span(command)) is None:
            if self._pending.startswith(b"#0"):
                return self._read_indefinite(command)
            self._receive()
        begin, end = span
        payload = self._memory(end - begin, command)
        have = min(len(self._pending) - begin, len(payload))
        payload[:have] = self._pending[begin : begin + have]
        del self._pending[: begin + have]
        while have < len(payload):
            have += self._receive_into(payload[have:])
        self._take_block_end(command)
        return payload.toreadonly()

    def _connect(self) -> None:
        try:
            connection = socket.create_connection(socket_endpoint(self.address), self.timeout_s)
            self._socket = connection
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except (OSError, ValueError, OverflowError) as error:
            self._disconnect()
            problem = f"cannot open {self.address}: {error}"
            raise ConnectionFailedError(self.name, problem) from error

    def _disconnect(self) -> None:
        connection, self._socket = self._socket, None
        self._pending.clear()
        if connection is not None:
            with suppress(OSError):  # a lost connection cannot be closed, and need not be
                connection.close()

    def _get_in_step(self, command: str | None) -> None:
        self._reconnect()

    def _is_timeout(self, error: Exception) -> bool:
        return isinstance(error, TimeoutError)

    def _prepare(self, command: str) -> None:
        connection = self._opened()
        if not self._drops_unasked:
            return
        self._pending.clear()
        connection.settimeout(0)
        for _ in range(_UNASKED_READS):
            try:
                if not connection.recv_into(self._chunk):
                    raise EOFError("the instrument has closed it")
            except BlockingIOError:
                return
        problem = f"{self.address} does not stop sending; is it an instrument?"
        raise ConnectionFailedError(self.name, problem, command)

    def _opened(self) -> socket.socket:
        if self._socket is None:
            raise EOFError("it is closed")
        return self._socket

    def _start_waiting(self, duration_s: float) -> None:
        self._deadline_s = self.clock.now_s() + duration_s
        self._quota_bytes = _CHUNK_BYTES

    def _receive(self, most_s: float | None = None) -> None:
        count = self._receive_into(self._chunk, most_s)
        self._pending += self._chunk[:count]

    def _receive_into(self, memory: memoryview, most_s: float | None = None) -> int:
        connection = self._opened()
        left_s = self._deadline_s - self.clock.now_s() if most_s is None else most_s
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        count = connection.recv_into(memory)
        if count == 0:
            raise EOFError("the instrument has closed it before its reply was whole")
        self._quota_bytes -= count
        if self._quota_bytes <= 0:
            self._start_waiting(self.timeout_s)
        return count

    def _block_span(self, command: str) -> tuple[int, int] | None:
        header = bytes(self._pending[:_HEADER_BYTES])
        if header.startswith(b"#0"):
            return None
        try:
            return block_span(header)
        except BlockError as error:
            raise ReplyError(self.name, str(error), command) from error

    def _memory(self, count: int, command: str) -> memoryview:
        import numpy as np

        try:
            # Unlike a bytearray it is not zeroed first, which would take as long as receiving.
            return np.empty(count, np.uint8).data
        except MemoryError as error:
            problem = f"announces a block of {count} bytes, more than there is memory for"
            raise ReplyError(self.name, problem, command) from error

    def _take_block_end(self, command: str) -> None:
        self._start_waiting(min(BLOCK_END_S, self.timeout_s))
        try:
            while self._is_blank_and_open(self._pending):
                self._receive()
        except (TimeoutError, EOFError, ConnectionError):
            self._settled = False
        rest, _, _ = bytes(self._pending).partition(self._line_end)
        if rest.strip():
            problem = f"a block is followed by {rest[:_HEADER_BYTES]!r}"
            raise ReplyError(self.name, problem, command)

    def _is_blank_and_open(self, rest: bytearray) -> bool:
        return len(rest) < _CHUNK_BYTES and self._line_end not in rest and not rest.strip()

    def _read_indefinite(self, command: str) -> memoryview:
        self._settled = False
        reply = self._pending
        while len(reply) <= MOST_BLOCK_BYTES:
            whole = len(reply) > 2 and reply.endswith(b"\n")
            try:
                self._receive(min(_PAUSE_S, self.timeout_s) if whole else None)
            except (TimeoutError, EOFError):
                if not whole:
                    raise
                return memoryview(bytes(reply))[2:-1]
            if self.clock.now_s() > self._deadline_s:
                raise self._timed_out(command)
        problem = f"sent {len(reply)} bytes without ending the block"
        raise ReplyError(self.name, problem, command)
