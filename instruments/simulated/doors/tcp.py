"""TCP: a listener that lets in those whom its entrance admits, and the raw socket door."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from labctl.instruments.simulated.doors.entrance import Entrance
from labctl.instruments.simulated.doors.live_bench import LivePanel
from labctl.instruments.simulated.side_tables import LOOPBACK_NETWORK

LOOPBACK = "127.0.0.1"
ANY_PROGRAM_HERE = Entrance(LOOPBACK, 0, (LOOPBACK_NETWORK,))
# Read at a time: with an indefinite block in it, it is one piece of work.
_CHUNK_BYTES = 1 << 14
# What a client may send before its instrument takes it; asyncio keeps up to twice as much.
_READ_AHEAD_BYTES = 1 << 16
# Each may keep that much and a file descriptor. 200 programs at one instrument are far more than
# any bench has.
MOST_CONNECTIONS = 600

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """A port where `serve` runs for each connection until it is over.

    `entrance`: where it is and who is let in, a free port on loopback unless given; `refused` is
    called with the peer and the reason of each connection that is not.
    """

    def __init__(
        self,
        serve: Serve,
        entrance: Entrance = ANY_PROGRAM_HERE,
        refused: Callable[[object, str], None] = lambda peer, fault: None,
    ) -> None:
        self._serve, self._entrance, self._refused = serve, entrance, refused
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """How many are under way."""
        return len(self._connections)

    async def open(self) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(
            self._connected,
            self._entrance.host,
            self._entrance.port,
            limit=_READ_AHEAD_BYTES,
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Stop listening and cut all connections."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Called by asyncio before it reads, and a transport that was aborted is not read.
        peer = writer.get_extra_info("peername")
        fault = self._entrance.fault(peer, writer.get_extra_info("sockname"))
        if fault is not None:
            writer.transport.abort()
            self._refused(peer, fault)
            return
        if self.connections >= MOST_CONNECTIONS:
            writer.transport.abort()
            return
        connection = asyncio.get_running_loop().create_task(self._run(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
            writer.close()
            await _end_of(writer)
        except BaseException:
            writer.transport.abort()
            await _end_of(writer)
            raise


async def _end_of(writer: asyncio.StreamWriter) -> None:
    """Wait until a connection is over, for any reason.

    Somebody has to ask: a peer that cut it leaves an error behind, which asyncio reports as
    nobody's if Python happens to clear away the error before the connection.
    """
    with suppress(OSError):
        await writer.wait_closed()


class SocketClient:
    """A client on a raw socket: no END, no status byte; replies are pushed."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def deliver(self, data: bytes, *, ends: bool, status: int) -> None:
        """Send a reply, if the client is still there."""
        if not self._writer.is_closing():
            self._writer.write(data)

    def hang_up(self) -> None:
        """Cut the connection."""
        self._writer.transport.abort()


async def serve_socket(
    panel: LivePanel, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Pass bytes to the panel as they come; messages end inside it.

    A host that does not read its replies is not listened to either. Hosts that write half a
    message each at the same time mix them, as on one wire.
    """
    client = SocketClient(writer)
    try:
        while data := await reader.read(_CHUNK_BYTES):
            await panel.take_stream(data, client, writer.drain)
    finally:
        panel.leave(client)
