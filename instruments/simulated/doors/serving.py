"""All doors of a bench: opened, announced, served until the process is asked to end, closed."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from labctl.errors import ConnectionFailedError
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.doors.hislip import SUB_ADDRESS, HislipServer
from labctl.instruments.simulated.doors.live_bench import LiveBench, LivePanel
from labctl.instruments.simulated.doors.pty_line import PtyLine
from labctl.instruments.simulated.doors.tcp import LOOPBACK, Listener, serve_socket

# Binary frames without any end of message: HiSLIP, which is made of messages, has none to carry.
FRAMED_PANELS = frozenset({"itla"})

# After a signal: a panel at work, or a pile of connections, may hold up the orderly end so long.
# A simulated bench has nothing that would need more than its end.
LAST_MOMENT_S = 0.5


@dataclass(frozen=True)
class Offer:
    """Where one instrument is found: VISA resource strings and a device; None: not offered."""

    name: str
    panel: str
    hislip: str | None
    socket: str | None
    pty: str | None


class Doors:
    """The doors of a bench, on loopback only; an asynchronous context manager.

    Raises ConnectionFailedError, naming the instrument, if the system has no port or
    pseudo-terminal left. Pseudo-terminals are offered on Linux.
    """

    def __init__(self, bench: LinkBench) -> None:
        self._names = bench.names
        self._live = LiveBench(bench.panels, bench.clock)
        self._listeners: list[Listener] = []
        self._lines: list[PtyLine] = []
        self.offers: list[Offer] = []

    async def __aenter__(self) -> Doors:
        try:
            for address, panel in self._live.panels.items():
                self.offers.append(await self._offer(*self._names[address], panel))
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every door and cut every connection."""
        self._live.close()
        for listener in self._listeners:
            await listener.close()
        for line in self._lines:
            line.close()
        self._listeners, self._lines = [], []
        # Transports close when the loop comes round.
        await asyncio.sleep(0)

    async def _offer(self, name: str, kind: str, panel: LivePanel) -> Offer:
        try:
            hislip = None if kind in FRAMED_PANELS else await self._open_hislip(panel)
            port = await self._listen(Listener(partial(serve_socket, panel)))
            return Offer(
                name, kind, hislip, f"TCPIP::{LOOPBACK}::{port}::SOCKET", self._open_line(panel)
            )
        except OSError as error:
            raise ConnectionFailedError(name, f"no door can be opened: {error.strerror}") from error

    async def _open_hislip(self, panel: LivePanel) -> str:
        port = await self._listen(Listener(HislipServer(panel).serve))
        return f"TCPIP::{LOOPBACK}::{SUB_ADDRESS},{port}::INSTR"

    async def _listen(self, listener: Listener) -> int:
        self._listeners.append(listener)
        return await listener.open()

    def _open_line(self, panel: LivePanel) -> str | None:
        if not (hasattr(os, "openpty") and hasattr(select, "epoll")):
            return None
        self._lines.append(PtyLine(panel))
        return self._lines[-1].path


def serve(bench: LinkBench, announce: Callable[[Sequence[Offer]], None]) -> None:
    """Open all doors, announce them, and serve until SIGTERM or SIGINT; then close them.

    The process ends within 1 s of the signal, also while a panel is at work. Main thread only.
    """
    asyncio.run(_serve(bench, announce))


async def _serve(bench: LinkBench, announce: Callable[[Sequence[Offer]], None]) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_report)
    told_to_end = asyncio.Event()
    allow_many_connections()

    def end(number: int, frame: object) -> None:
        # Python runs this between two instructions of a panel too, where the loop does not come.
        if not told_to_end.is_set():
            last = threading.Timer(LAST_MOMENT_S, os._exit, [0])
            last.daemon = True
            last.start()
        loop.call_soon_threadsafe(told_to_end.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    async with Doors(bench) as doors:
        announce(doors.offers)
        await told_to_end.wait()


def allow_many_connections() -> None:
    """Raise the limit of open files as far as the system lets this process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _report(_: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """Say on one line of stderr what failed behind a door; the others stay open."""
    error = context.get("exception")
    why = f": {type(error).__name__}: {error}" if error is not None else ""
    print(" ".join(f"error: {context['message']}{why}".split()), file=sys.stderr, flush=True)
