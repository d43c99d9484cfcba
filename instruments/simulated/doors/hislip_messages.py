"""HiSLIP on the wire: headers, message types, and a channel that carries them.

Source: IVI-6.1 (HiSLIP 1.1), docs/wire/hislip.md, section Messages; header and message numbers
in agreement with pyvisa-py.
"""

from __future__ import annotations

import asyncio
import struct
from enum import IntEnum
from typing import NamedTuple

PROLOGUE = b"HS"
# Of one protocol message; longer instrument messages come in pieces.
LARGEST_PAYLOAD_BYTES = 1 << 20
_HEADER = struct.Struct("!2sBBIQ")
HEADER_BYTES = _HEADER.size
# What may wait for a client that does not read: eight of the longest records, 4 million samples.
MOST_UNREAD_BYTES = 1 << 26
# A message that has begun comes without a pause of so long, even from a busy program.
LONGEST_PAUSE_S = 10.0
# Read at a time of what is thrown away.
_DISCARD_BYTES = 1 << 16


class Kind(IntEnum):
    """Message types that are understood."""

    INITIALIZE = 0
    INITIALIZE_RESPONSE = 1
    FATAL_ERROR = 2
    ERROR = 3
    ASYNC_LOCK = 4
    ASYNC_LOCK_RESPONSE = 5
    DATA = 6
    DATA_END = 7
    DEVICE_CLEAR_COMPLETE = 8
    DEVICE_CLEAR_ACKNOWLEDGE = 9
    ASYNC_REMOTE_LOCAL_CONTROL = 10
    ASYNC_REMOTE_LOCAL_RESPONSE = 11
    TRIGGER = 12
    ASYNC_MAX_MSG_SIZE = 15
    ASYNC_MAX_MSG_SIZE_RESPONSE = 16
    ASYNC_INITIALIZE = 17
    ASYNC_INITIALIZE_RESPONSE = 18
    ASYNC_DEVICE_CLEAR = 19
    ASYNC_STATUS_QUERY = 21
    ASYNC_STATUS_RESPONSE = 22
    ASYNC_DEVICE_CLEAR_ACKNOWLEDGE = 23
    ASYNC_LOCK_INFO = 24
    ASYNC_LOCK_INFO_RESPONSE = 25


class Fatal(IntEnum):
    """Codes of FatalError."""

    UNIDENTIFIED = 0
    POOR_HEADER = 1
    CHANNELS_NOT_ESTABLISHED = 2
    INVALID_INITIALIZATION = 3
    TOO_MANY_CLIENTS = 4


class Fault(IntEnum):
    """Codes of Error."""

    UNIDENTIFIED = 0
    UNKNOWN_MESSAGE = 1
    UNKNOWN_CONTROL_CODE = 2
    UNKNOWN_VENDOR_MESSAGE = 3
    MESSAGE_TOO_LARGE = 4


class FatalError(Exception):
    """What ends a session; code and text are sent to the peer."""

    def __init__(self, code: Fatal, text: str) -> None:
        super().__init__(text)
        self.code = code


class Header(NamedTuple):
    """One message without its payload; `kind` may be a number that is no `Kind`."""

    kind: int
    control: int
    parameter: int
    length: int


def encode(kind: Kind, control: int, parameter: int, length: int) -> bytes:
    """Return the 16 bytes of a header."""
    return _HEADER.pack(PROLOGUE, kind, control, parameter, length)


def decode(data: bytes) -> Header:
    """Return the header in 16 bytes; raises FatalError without the prologue `HS`."""
    prologue, *fields = _HEADER.unpack(data)
    if prologue != PROLOGUE:
        raise FatalError(Fatal.POOR_HEADER, f"a header begins with 'HS', not {prologue!r}")
    return Header(*fields)


class Channel:
    """One of the two connections of a session.

    Reading raises IncompleteReadError at its end, and FatalError if a message that has begun
    stops for `pause_s`.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self._reader, self._writer, self._pause_s = reader, writer, pause_s

    async def header(self, *, is_due: bool = False) -> Header:
        """Read the next header; it may be long in coming unless it `is_due`."""
        first = await (self._next(1) if is_due else self._reader.readexactly(1))
        return decode(first + await self._next(HEADER_BYTES - 1))

    async def _next(self, size: int) -> bytes:
        """Read bytes that are due; each 64 KiB of them within the longest pause."""
        parts = []
        while size:
            try:
                async with asyncio.timeout(self._pause_s):
                    parts.append(await self._reader.readexactly(min(size, _DISCARD_BYTES)))
            except TimeoutError:
                text = f"silent for {self._pause_s:g} s where a message was due"
                raise FatalError(Fatal.UNIDENTIFIED, text) from None
            size -= len(parts[-1])
        return b"".join(parts)

    async def payload(self, header: Header, limit: int) -> bytes | None:
        """Read a message's payload; None, with an Error to the peer, if it is over the limit."""
        if header.length > limit:
            text = f"a payload of {header.length} bytes; {limit} are taken"
            await self.refuse(header, Fault.MESSAGE_TOO_LARGE, text)
            return None
        return await self._next(header.length)

    async def discard(self, header: Header) -> None:
        """Read a payload and forget it."""
        left = header.length
        while left:
            left -= len(await self._next(min(left, _DISCARD_BYTES)))

    async def refuse(self, header: Header, code: Fault, text: str) -> None:
        """Skip a message and send the reason to the peer."""
        self.send(Kind.ERROR, code, 0, text.encode())
        await self.discard(header)

    async def refuse_unknown(self, header: Header) -> None:
        """Skip a message that this channel does not know."""
        vendor = header.kind >= 128
        code = Fault.UNKNOWN_VENDOR_MESSAGE if vendor else Fault.UNKNOWN_MESSAGE
        await self.refuse(header, code, f"message type {header.kind} is not known here")

    def send(
        self, kind: Kind, control: int, parameter: int, payload: bytes | memoryview = b""
    ) -> None:
        """Send a message, in one piece even if others send too; nothing if the peer is gone.

        Who has left 64 MiB unread is cut off.
        """
        if self._writer.is_closing():
            return
        if self._writer.transport.get_write_buffer_size() > MOST_UNREAD_BYTES:
            self.abort()
            return
        self._writer.write(encode(kind, control, parameter, len(payload)))
        if payload:
            self._writer.write(payload)

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was sent."""
        await self._writer.drain()

    def close(self) -> None:
        """Close after what was sent."""
        self._writer.close()

    def abort(self) -> None:
        """Cut the connection at once."""
        self._writer.transport.abort()
