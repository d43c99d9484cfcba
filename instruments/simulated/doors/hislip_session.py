"""One HiSLIP session with an instrument, in synchronised mode.

Source: IVI-6.1 (HiSLIP 1.1). Two departures. A reply that the client did not read is dropped
when its next message comes, without the messages Interrupted and AsyncInterrupted, on which
pyvisa-py 0.8.1 stumbles: message IDs show every client which replies are stale. And since HiSLIP
does not report to a server that a client reads, or that a read timed out, panels see neither.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

from labctl.instruments.codecs.scpi_status import REQUEST_SERVICE
from labctl.instruments.simulated.doors.hislip_locks import LockReply, Locks
from labctl.instruments.simulated.doors.hislip_messages import (
    HEADER_BYTES,
    LARGEST_PAYLOAD_BYTES,
    LONGEST_PAUSE_S,
    MOST_UNREAD_BYTES,
    Channel,
    Fatal,
    FatalError,
    Fault,
    Header,
    Kind,
)
from labctl.instruments.simulated.doors.live_bench import LivePanel

# An unfinished message goes on within this time, or its session ends: it holds memory that others
# need.
LONGEST_UNFINISHED_S = 60.0
# A client that asks for less would leave no room behind the header.
_SMALLEST_MESSAGE_BYTES = 256
_REQUEST, _RELEASE = 1, 0
_REMOTE_LOCAL_CODES = range(7)
_LOOK_AGAIN_S = 1.0
_SIZE = struct.Struct("!Q")

Handler = Callable[[Channel, Header, bytes], Awaitable[None]]


class _Reply(NamedTuple):
    data: bytes
    ends: bool
    message_id: int


class Session:
    """One client: its unfinished message, its replies, its place among the locks."""

    def __init__(self, panel: LivePanel, locks: Locks, channel: Channel) -> None:
        self._panel, self._locks, self._channel = panel, locks, channel
        self._asynchronous: Channel | None = None
        self._most_payload_bytes = LARGEST_PAYLOAD_BYTES
        self._message_id = 0
        self._pieces: list[bytes] = []
        self._piece_bytes = 0
        self._heard_s = asyncio.get_running_loop().time()
        self._is_spoilt = self._is_clearing = self._has_ended = False
        self._unread_status = 0
        self._replies: deque[_Reply] = deque()
        self._replied = asyncio.Event()

    @property
    def is_established(self) -> bool:
        """Whether the asynchronous channel is there too."""
        return self._asynchronous is not None

    @property
    def silent_s(self) -> float:
        """Seconds since the client's last message on either channel."""
        return asyncio.get_running_loop().time() - self._heard_s

    def give_up(self, why: str) -> None:
        """End the session; the client gets the reason."""
        self._channel.send(Kind.FATAL_ERROR, Fatal.UNIDENTIFIED, 0, why.encode())
        self.end()

    def establish(self, channel: Channel) -> None:
        """Take the asynchronous channel."""
        self._asynchronous = channel
        channel.send(Kind.ASYNC_INITIALIZE_RESPONSE, 0, 0)

    def end(self) -> None:
        """Close both channels, give up locks and what is under way."""
        if self._has_ended:
            return
        self._has_ended = True
        self._drop_pieces()
        self._locks.leave(self)
        self._channel.close()
        if self._asynchronous is not None:
            self._asynchronous.close()
        self._panel.leave(self)

    def hang_up(self) -> None:
        """Cut both channels."""
        for channel in (self._channel, self._asynchronous):
            if channel is not None:
                channel.abort()

    def deliver(self, data: bytes, *, ends: bool, status: int) -> None:
        """Queue a reply to the client's last message."""
        self._unread_status |= status
        if sum(len(reply.data) for reply in self._replies) > MOST_UNREAD_BYTES:
            text = f"more than {MOST_UNREAD_BYTES} bytes of replies were not read; they are dropped"
            self._channel.send(Kind.ERROR, Fault.MESSAGE_TOO_LARGE, 0, text.encode())
            self._replies.clear()
        self._replies.append(_Reply(data, ends, self._message_id))
        self._replied.set()

    async def serve_synchronous(self) -> None:
        """Carry out messages of the synchronous channel until the client leaves."""
        loop = asyncio.get_running_loop()
        sender = loop.create_task(self._send_replies())
        half = loop.call_later(LONGEST_PAUSE_S, self._end_half)
        try:
            while True:
                header = await self._next_header()
                await self._panel.give_way(self)
                if header.kind in (Kind.DATA, Kind.DATA_END, Kind.TRIGGER):
                    await self._take_message(header)
                elif header.kind == Kind.DEVICE_CLEAR_COMPLETE:
                    await self._channel.discard(header)
                    self._is_clearing = False
                    self._channel.send(Kind.DEVICE_CLEAR_ACKNOWLEDGE, 0, 0)
                elif not await self._take_common(self._channel, header):
                    return
        finally:
            half.cancel()
            sender.cancel()

    def _end_half(self) -> None:
        if not self.is_established:
            self.give_up(f"no asynchronous channel within {LONGEST_PAUSE_S:g} s")

    async def _next_header(self) -> Header:
        """Read the next header; while a message is not whole it has a minute to come."""
        limit_s = LONGEST_UNFINISHED_S if self._pieces else None
        try:
            async with asyncio.timeout(limit_s):
                header = await self._channel.header()
        except TimeoutError:
            text = f"a message was not finished and nothing came for {limit_s:g} s"
            raise FatalError(Fatal.UNIDENTIFIED, text) from None
        self._heard_s = asyncio.get_running_loop().time()
        return header

    async def serve_asynchronous(self, channel: Channel) -> None:
        """Carry out messages of the asynchronous channel until the client leaves."""
        handlers: dict[int, Handler] = {
            Kind.ASYNC_MAX_MSG_SIZE: self._agree_on_size,
            Kind.ASYNC_LOCK: self._lock,
            Kind.ASYNC_LOCK_INFO: self._tell_locks,
            Kind.ASYNC_REMOTE_LOCAL_CONTROL: self._control_remote,
            Kind.ASYNC_DEVICE_CLEAR: self._clear,
            Kind.ASYNC_STATUS_QUERY: self._tell_status,
        }
        while True:
            header = await channel.header()
            await channel.drain()
            await self._panel.give_way(self)
            self._heard_s = asyncio.get_running_loop().time()
            if header.kind in handlers:
                payload = await channel.payload(header, LARGEST_PAYLOAD_BYTES)
                if payload is not None:
                    await handlers[header.kind](channel, header, payload)
            elif not await self._take_common(channel, header):
                return

    async def _take_common(self, channel: Channel, header: Header) -> bool:
        """Take what may come on either channel; False if the client gives up."""
        if header.kind == Kind.FATAL_ERROR:
            return False
        if header.kind in (Kind.INITIALIZE, Kind.ASYNC_INITIALIZE):
            raise FatalError(Fatal.INVALID_INITIALIZATION, "the session is initialized already")
        if header.kind == Kind.ERROR:
            await channel.discard(header)
        else:
            await channel.refuse_unknown(header)
        return True

    async def _take_message(self, header: Header) -> None:
        """Collect Data until DataEnd, so that the messages of several clients do not mix."""
        if not self.is_established:
            text = "data before AsyncInitialize"
            raise FatalError(Fatal.CHANNELS_NOT_ESTABLISHED, text)
        payload = await self._channel.payload(header, LARGEST_PAYLOAD_BYTES)
        if self._is_clearing:
            return
        self._message_id = header.parameter
        self._forget_replies()
        if payload is None:
            self._is_spoilt = True
        elif not self._is_spoilt:
            self._collect(payload)
        if header.kind != Kind.DATA:
            await self._pass_on(header)

    def _collect(self, payload: bytes) -> None:
        memory = self._panel.memory
        if not memory.take(len(payload)):
            text = f"all unfinished messages have at most {memory.most_bytes} bytes together"
            self._channel.send(Kind.ERROR, Fault.MESSAGE_TOO_LARGE, 0, text.encode())
            self._drop_pieces()
            self._is_spoilt = True
        elif payload:
            self._pieces.append(payload)
            self._piece_bytes += len(payload)

    def _drop_pieces(self) -> None:
        """Forget the message so far."""
        self._panel.memory.give_back(self._piece_bytes)
        self._pieces, self._piece_bytes = [], 0

    async def _pass_on(self, header: Header) -> None:
        """Give a complete message to the panel, once no other client's lock prevents it."""
        while not (self._locks.permits(self) or self._is_clearing or self._has_ended):
            # Looks again by itself, since nobody tells that a lock's holder has been silent.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._locks.changed(), _LOOK_AGAIN_S)
        is_spoilt, self._is_spoilt = self._is_spoilt, False
        try:
            if header.kind == Kind.TRIGGER:
                await self._panel.trigger(self, self._wants)
            elif self._pieces and not is_spoilt:
                await self._panel.take_message(self._pieces, self, self._wants)
        finally:
            self._drop_pieces()

    def _wants(self) -> bool:
        """Whether the client still wants its message carried out."""
        return not (self._is_clearing or self._has_ended)

    async def _send_replies(self) -> None:
        # That the client is gone is for the reading side to find out.
        with suppress(ConnectionError):
            while True:
                await self._replied.wait()
                self._replied.clear()
                while self._replies:
                    await self._send(self._replies.popleft())

    async def _send(self, reply: _Reply) -> None:
        """Send a reply in as many messages as it takes; stop if the client has gone on."""
        view, size = memoryview(reply.data), self._most_payload_bytes
        for start in range(0, len(view), size):
            if self._message_id != reply.message_id or self._is_clearing:
                return
            last = reply.ends and start + size >= len(view)
            kind = Kind.DATA_END if last else Kind.DATA
            self._channel.send(kind, 0, reply.message_id, view[start : start + size])
            await self._channel.drain()

    def _forget_replies(self) -> None:
        """The client continues: what was sent is read or stale, what was not sent is lost."""
        self._replies.clear()
        self._unread_status = 0

    async def _agree_on_size(self, channel: Channel, header: Header, payload: bytes) -> None:
        if len(payload) != _SIZE.size:
            text = f"a message size of {len(payload)} bytes; it has {_SIZE.size}"
            channel.send(Kind.ERROR, Fault.UNIDENTIFIED, 0, text.encode())
            return
        size: int = max(_SIZE.unpack(payload)[0], _SMALLEST_MESSAGE_BYTES)
        self._most_payload_bytes = min(size - HEADER_BYTES, LARGEST_PAYLOAD_BYTES)
        channel.send(Kind.ASYNC_MAX_MSG_SIZE_RESPONSE, 0, 0, _SIZE.pack(LARGEST_PAYLOAD_BYTES))

    async def _lock(self, channel: Channel, header: Header, payload: bytes) -> None:
        if header.control == _RELEASE:
            reply = self._locks.release(self)
        elif header.control == _REQUEST:
            reply = await self._wait_for_lock(payload.decode("latin-1"), header.parameter / 1e3)
        else:
            reply = LockReply.ERROR
        channel.send(Kind.ASYNC_LOCK_RESPONSE, reply, 0)

    async def _wait_for_lock(self, key: str, timeout_s: float) -> LockReply:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while (reply := self._locks.take(self, key)) is LockReply.FAILURE:
            left_s = deadline_s - loop.time()
            if left_s <= 0.0 or self._has_ended:
                break
            try:
                await asyncio.wait_for(self._locks.changed(), min(left_s, _LOOK_AGAIN_S))
            except TimeoutError:
                continue
        return reply

    async def _tell_locks(self, channel: Channel, header: Header, payload: bytes) -> None:
        locks = self._locks
        channel.send(Kind.ASYNC_LOCK_INFO_RESPONSE, locks.is_exclusive, locks.holders)

    async def _control_remote(self, channel: Channel, header: Header, payload: bytes) -> None:
        """Accept remote and local control, which a simulated front panel has no keys for."""
        if header.control in _REMOTE_LOCAL_CODES:
            channel.send(Kind.ASYNC_REMOTE_LOCAL_RESPONSE, 0, 0)
        else:
            text = f"remote/local control code {header.control}; there are 0 to 6"
            channel.send(Kind.ERROR, Fault.UNKNOWN_CONTROL_CODE, 0, text.encode())

    async def _clear(self, channel: Channel, header: Header, payload: bytes) -> None:
        """Drop all until DeviceClearComplete; the panel is cleared if others' locks permit."""
        self._is_clearing = True
        self._is_spoilt = False
        self._drop_pieces()
        self._forget_replies()
        if self._locks.permits(self):
            self._panel.clear()
        self._locks.wake()
        channel.send(Kind.ASYNC_DEVICE_CLEAR_ACKNOWLEDGE, 0, 0)

    async def _tell_status(self, channel: Channel, header: Header, payload: bytes) -> None:
        """Poll the panel; control bit 0 means that the last reply was read."""
        if header.control & 1:
            self._unread_status = 0
        status = self._panel.serial_poll() | self._unread_status
        self._unread_status &= ~REQUEST_SERVICE
        channel.send(Kind.ASYNC_STATUS_RESPONSE, status & 0xFF, 0)
