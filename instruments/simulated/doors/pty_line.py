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
_CHUNK_BYTES = 1 << 16
_MOST_UNSENT_BYTES = 1 << 16


class PtyLine:
    """The instrument's end of a pseudo-terminal; `path` is the device that hosts open.

    When the last host closes the device, half a message and replies that it did not fetch are
    dropped and the line is raw again; a host that opens it again before the bench could look finds
    what the other left, as on a real line. While more than 64 KiB of replies wait, nothing is read.
    Linux only: hanging up is seen by an edge-triggered epoll. Raises OSError if the system has no
    pseudo-terminal left.
    """

    def __init__(self, panel: LivePanel) -> None:
        self._panel = panel
        self._loop = asyncio.get_running_loop()
        self._master, device = os.openpty()
        self.path = os.ttyname(device)
        tty.setraw(device)
        os.close(device)
        os.set_blocking(self._master, False)
        self._in_use = False
        self._unsent: deque[memoryview] = deque()
        self._events = select.epoll()
        self._events.register(self._master, select.EPOLLIN | select.EPOLLHUP | select.EPOLLET)
        self._loop.add_reader(self._events.fileno(), self._woken)

    def close(self) -> None:
        """Take the device away."""
        self._loop.remove_reader(self._events.fileno())
        self._events.close()
        self._drop_unsent()
        os.close(self._master)

    def deliver(self, data: bytes, *, ends: bool, status: int) -> None:
        """Send a reply, as fast as the host fetches it."""
        self._unsent.append(memoryview(data))
        self._send()

    def hang_up(self) -> None:
        """Drop what is under way; a wire that is soldered in cannot be cut."""
        self._drop_unsent()

    def _woken(self) -> None:
        events = self._events.poll(0)
        self._receive(gone=any(event & select.EPOLLHUP for _, event in events))

    def _receive(self, *, gone: bool = False) -> None:
        """Read until nothing waits: the edge does not come again. Who is gone fetches nothing."""
        while gone or sum(map(len, self._unsent)) <= _MOST_UNSENT_BYTES:
            try:
                data = os.read(self._master, _CHUNK_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                gone = True
                break
            self._in_use = True
            self._panel.write([data], self, end=False)
            if gone:
                self._drop_unsent()
        if gone:
            self._closed_by_host()

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
            self._loop.add_writer(self._master, self._go_on_sending)
            return
        self._loop.remove_writer(self._master)

    def _go_on_sending(self) -> None:
        self._send()
        self._receive()

    def _drop_unsent(self) -> None:
        self._unsent.clear()
        self._loop.remove_writer(self._master)
