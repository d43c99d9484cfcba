"""A pseudo-terminal as an instrument's serial line: raw, no echo, opened as often as one likes."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import termios
import tty
from collections import deque

from labctl.instruments.simulated.doors.live_bench import LivePanel

# Read at a time, and what may wait for a reader of replies before no more is read of its commands.
_CHUNK_BYTES = 1 << 14
_MOST_UNSENT_BYTES = 1 << 16


class PtyLine:
    """The instrument's end of a pseudo-terminal; `path` is the device that hosts open.

    When the last host closes the device, half a message and replies that it did not fetch are
    dropped and the line is raw again; a host that opens it again before the bench could look finds
    what the other left, as on a real line. While more than 64 KiB of replies wait, nothing is read.
    `owner_only`: nobody but the user of this process can open it, not even the terminals' group.
    Linux only: hanging up is seen by an edge-triggered epoll. Raises OSError if the system has no
    pseudo-terminal left.
    """

    def __init__(self, panel: LivePanel, *, owner_only: bool = False) -> None:
        self._panel = panel
        self._loop = asyncio.get_running_loop()
        self._master, device = os.openpty()
        self.path = os.ttyname(device)
        if owner_only:
            os.fchmod(device, 0o600)
        tty.setraw(device)
        os.close(device)
        os.set_blocking(self._master, False)
        self._in_use = False
        self._unsent: deque[memoryview] = deque()
        self._events = select.epoll()
        self._events.register(self._master, select.EPOLLIN | select.EPOLLHUP | select.EPOLLET)
        self._gone = False
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._loop.add_reader(self._events.fileno(), self._woken)
        self._serving = self._loop.create_task(self._serve())

    def close(self) -> None:
        """Take the device away."""
        self._serving.cancel()
        self._loop.remove_reader(self._events.fileno())
        self._events.close()
        self._drop_unsent()
        os.close(self._master)

    def deliver(self, data: bytes, *, ends: bool, status: int) -> None:
        """Send a reply, as fast as the host fetches it; none to a host that is gone."""
        if self._gone:
            return
        self._unsent.append(memoryview(data))
        self._send()

    def hang_up(self) -> None:
        """Drop what is under way; a wire that is soldered in cannot be cut."""
        self._drop_unsent()

    def _woken(self) -> None:
        if any(event & select.EPOLLHUP for _, event in self._events.poll(0)):
            self._gone = True
            self._drop_unsent()
        self._news.set()

    async def _serve(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self._receive()

    async def _receive(self) -> None:
        """Read until nothing waits: the edge does not come again. Who is gone fetches nothing."""
        while True:
            await self._room.wait()
            try:
                data = os.read(self._master, _CHUNK_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                self._gone = True
                break
            self._in_use = True
            await self._panel.take_stream(data, self, self._fetched)
        if self._gone:
            self._gone = False
            self._closed_by_host()

    async def _fetched(self) -> None:
        """Wait until the host has fetched most of its replies."""
        await self._room.wait()

    def _closed_by_host(self) -> None:
        # Opening and closing the device below looks like a host to this very method.
        if not self._in_use:
            return
        self._in_use = False
        self._panel.leave(self)
        self._drop_unsent()
        device = os.open(self.path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(device)
        termios.tcflush(device, termios.TCIFLUSH)
        os.close(device)

    def _send(self) -> None:
        try:
            while self._unsent:
                sent = os.write(self._master, self._unsent[0])
                self._unsent[0] = self._unsent[0][sent:]
                if not self._unsent[0]:
                    self._unsent.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._master, self._send)
        else:
            self._loop.remove_writer(self._master)
        if sum(map(len, self._unsent)) <= _MOST_UNSENT_BYTES:
            self._room.set()
        else:
            self._room.clear()

    def _drop_unsent(self) -> None:
        self._unsent.clear()
        self._room.set()
        self._loop.remove_writer(self._master)
