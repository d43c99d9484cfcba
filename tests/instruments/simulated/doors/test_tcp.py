"""The listener of all doors: how connections end."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from labctl.instruments.simulated.doors.tcp import Listener

# More than any socket buffer on loopback takes, so that closing has to send the rest.
_LONG_REPLY = b"x" * 5_000_000
_LINGER_NOT = struct.pack("ii", 1, 0)


async def _answer_at_length(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_LONG_REPLY)


async def _read_on(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(10):
        """Nothing is said to it."""


async def _fail(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    with pytest.raises(ConnectionError):
        await reader.read(10)
    raise asyncio.CancelledError


@pytest.mark.parametrize("serve", [_answer_at_length, _read_on, _fail])
def test_a_connection_that_the_peer_cut_is_nobodys_unasked_error(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # asyncio asks in this finaliser, which Python may call after the one that reports the error.
    monkeypatch.delattr(asyncio.StreamReaderProtocol, "__del__")
    reports: list[dict[str, Any]] = []

    async def cut_a_connection() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        begun = asyncio.Event()

        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            begun.set()
            await serve(reader, writer)

        listener = Listener(run)
        port = await listener.open()
        with socket.create_connection(("127.0.0.1", port), timeout=20.0) as peer:
            await begun.wait()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        while listener.connections:
            await asyncio.sleep(0)
        gc.collect()
        await listener.close()

    asyncio.run(cut_a_connection())
    assert reports == []
