"""HiSLIP server of one instrument: sessions are begun, each with its two channels, and ended.

Source: IVI-6.1 (HiSLIP 1.1), as pyvisa-py implements its client side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from itertools import count

from labctl.instruments.simulated.doors.hislip_locks import Locks
from labctl.instruments.simulated.doors.hislip_messages import (
    Channel,
    Fatal,
    FatalError,
    Header,
    Kind,
)
from labctl.instruments.simulated.doors.hislip_session import Session
from labctl.instruments.simulated.doors.live_bench import LivePanel

SUB_ADDRESS = "hislip0"
# More than one program opens.
MOST_SESSIONS = 256
# At the maximum the session that has said nothing for longest makes room for a new one, if it has
# been silent for so long.
_SPARED_S = 60.0
# 1.0, major in the upper byte.
_VERSION = 0x0100


class HislipServer:
    """All sessions with one instrument."""

    def __init__(self, panel: LivePanel) -> None:
        self.panel = panel
        self.locks = Locks(lambda who: who.silent_s if isinstance(who, Session) else 0.0)
        self._sessions: dict[int, Session] = {}
        self._numbers = count(1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection, which its first message makes one or the other channel."""
        channel = Channel(reader, writer)
        await _telling_faults(channel, self._serve(channel))

    async def _serve(self, channel: Channel) -> None:
        header = await channel.header(is_due=True)
        if header.kind == Kind.INITIALIZE:
            await self._serve_synchronous(channel, header)
        elif header.kind == Kind.ASYNC_INITIALIZE:
            await self._serve_asynchronous(channel, header)
        else:
            text = f"message type {header.kind} before Initialize"
            raise FatalError(Fatal.INVALID_INITIALIZATION, text)

    async def _serve_synchronous(self, channel: Channel, header: Header) -> None:
        await _check_sub_address(channel, header)
        if len(self._sessions) >= MOST_SESSIONS and not self._end_the_most_silent():
            raise FatalError(Fatal.TOO_MANY_CLIENTS, f"there are {MOST_SESSIONS} sessions already")
        number = next(n for n in self._numbers if n & 0xFFFF not in self._sessions) & 0xFFFF
        session = Session(self.panel, self.locks, channel)
        self._sessions[number] = session
        try:
            version = min(header.parameter >> 16, _VERSION)
            channel.send(Kind.INITIALIZE_RESPONSE, 0, version << 16 | number)
            await _telling_faults(channel, session.serve_synchronous())
        finally:
            self._sessions.pop(number, None)
            session.end()

    def _end_the_most_silent(self) -> bool:
        """Make room; False if every session has spoken lately."""
        number, session = max(self._sessions.items(), key=lambda item: item[1].silent_s)
        if session.silent_s < _SPARED_S:
            return False
        del self._sessions[number]
        session.give_up(f"silent for {session.silent_s:.0f} s, and another client needs the place")
        return True

    async def _serve_asynchronous(self, channel: Channel, header: Header) -> None:
        await channel.discard(header)
        session = self._sessions.get(header.parameter)
        if session is None or session.is_established:
            text = f"session {header.parameter} does not wait for its asynchronous channel"
            raise FatalError(Fatal.INVALID_INITIALIZATION, text)
        try:
            session.establish(channel)
            await _telling_faults(channel, session.serve_asynchronous(channel))
        finally:
            session.end()


async def _telling_faults(channel: Channel, steps: Awaitable[None]) -> None:
    """Take steps to their end; a fatal fault ends them and is sent to the peer."""
    try:
        await steps
    except FatalError as fault:
        channel.send(Kind.FATAL_ERROR, fault.code, 0, str(fault).encode())


async def _check_sub_address(channel: Channel, header: Header) -> None:
    """Refuse sub-addresses other than `hislip0`, the default for an empty one."""
    if header.length > 256:
        raise FatalError(Fatal.INVALID_INITIALIZATION, "a sub-address has at most 256 bytes")
    name = await channel.payload(header, 256) or b""
    if name.decode("latin-1").casefold() not in ("", SUB_ADDRESS):
        text = f"there is no sub-address {name.decode('latin-1')!r}, only {SUB_ADDRESS!r}"
        raise FatalError(Fatal.UNIDENTIFIED, text)
