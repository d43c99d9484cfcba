"""Peers at the other end of a real byte stream: a loopback socket and a pseudo-terminal."""

from __future__ import annotations

import os
import socket
import threading
import tty
from collections.abc import Callable, Iterator

import pytest

Send = Callable[[bytes], None]
Handler = Callable[[bytes, Send], None]


class SocketPeer:
    """Listens on a free loopback port; gives every line of every connection to the handler."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self._open: list[socket.socket] = []
        self.connections = 0
        self._left = threading.Event()
        port = self._listener.getsockname()[1]
        self.address = f"TCPIP::127.0.0.1::{port}::SOCKET"
        threading.Thread(target=self._accept, daemon=True).start()

    def hang_up(self) -> None:
        """Close every connection, keep listening."""
        while self._open:
            self._open.pop().shutdown(socket.SHUT_RDWR)

    def wait_until_left(self) -> None:
        """Wait until the other side has closed a connection."""
        assert self._left.wait(20), "the connection is still open"

    def stop(self) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                for line in lines:
                    self._handler(line, connection.sendall)
            except OSError:
                return
            finally:
                self._left.set()


class TerminalPeer:
    """The far end of a pseudo-terminal; gives all that arrives to the handler."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._far, near = os.openpty()
        tty.setraw(near)
        self._near = near
        self.address = f"ASRL{os.ttyname(near)}::INSTR"
        threading.Thread(target=self._serve, daemon=True).start()

    def send(self, data: bytes) -> None:
        os.write(self._far, data)

    def stop(self) -> None:
        os.close(self._near)

    def _serve(self) -> None:
        while True:
            try:
                data = os.read(self._far, 4096)
            except OSError:
                return
            self._handler(data, self.send)


@pytest.fixture
def socket_peer() -> Iterator[Callable[[Handler], SocketPeer]]:
    peers: list[SocketPeer] = []

    def start(handler: Handler) -> SocketPeer:
        peers.append(SocketPeer(handler))
        return peers[-1]

    yield start
    for peer in peers:
        peer.stop()


@pytest.fixture
def terminal_peer() -> Iterator[Callable[[Handler], TerminalPeer]]:
    peers: list[TerminalPeer] = []

    def start(handler: Handler) -> TerminalPeer:
        peers.append(TerminalPeer(handler))
        return peers[-1]

    yield start
    for peer in peers:
        peer.stop()
