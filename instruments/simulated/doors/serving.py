"""All doors of a bench: opened, announced, served until the process is asked to end, closed."""

from __future__ import annotations

import asyncio
import errno
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
from typing import Any, Literal

from labctl.errors import ConnectionFailedError
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.doors.entrance import (
    Address,
    Entrance,
    RefusalLog,
    user_ids,
)
from labctl.instruments.simulated.doors.hislip import SUB_ADDRESS, HislipServer
from labctl.instruments.simulated.doors.live_bench import LiveBench, LivePanel
from labctl.instruments.simulated.doors.pty_line import PtyLine
from labctl.instruments.simulated.doors.tcp import (
    ANY_PROGRAM_HERE,
    Listener,
    Serve,
    serve_socket,
)

# Binary frames without any end of message: HiSLIP, which is made of messages, has none to carry.
FRAMED_PANELS = frozenset({"itla"})

# After a signal: a panel at work, or a pile of connections, may hold up the orderly end so long.
# A simulated bench has nothing that would need more than its end.
LAST_MOMENT_S = 0.5


_REASONS = {
    errno.EADDRINUSE: "another program listens there",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


@dataclass(frozen=True)
class Offer:
    """Where one instrument is found: VISA resource strings and a device; None: not offered.

    `side`: whose it is, None for nobody's.
    """

    name: str
    panel: str
    hislip: str | None
    socket: str | None
    pty: str | None
    side: str | None = None


class Doors:
    """The doors of a bench; an asynchronous context manager.

    Those of a panel that belongs to a side are where its bench file says, for whom it says;
    others are on free loopback ports, for every program of the machine. Raises
    ConnectionFailedError, naming the instrument, if a port is taken or no user's, if the host is
    not this machine's, or if the system has no port or pseudo-terminal left. Pseudo-terminals are
    offered on Linux; that of a panel with a side can be opened by this process's user alone.
    """

    def __init__(self, bench: LinkBench) -> None:
        self._names, self._sides = bench.names, bench.doors
        self._refusals = RefusalLog()
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
        self._refusals.close()
        # Transports close when the loop comes round.
        await asyncio.sleep(0)

    async def _offer(self, name: str, kind: str, panel: LivePanel) -> Offer:
        side = self._sides.get(name)
        hislip = None
        if kind not in FRAMED_PANELS:
            host, port = await self._listen(name, "HiSLIP", HislipServer(panel).serve)
            hislip = f"TCPIP::{host}::{SUB_ADDRESS},{port}::INSTR"
        host, port = await self._listen(name, "socket", partial(serve_socket, panel))
        return Offer(
            name,
            kind,
            hislip,
            f"TCPIP::{host}::{port}::SOCKET",
            self._open_line(name, panel),
            side.side if side else None,
        )

    async def _listen(self, name: str, door: Literal["HiSLIP", "socket"], run: Serve) -> Address:
        """Open one door of a panel; returns its host and port."""
        entrance = self._entrance(name, door)

        def refused(peer: object, fault: str) -> None:
            self._refusals.say(f"the {door} door of {name}", peer, fault)

        listener = Listener(run, entrance, refused)
        self._listeners.append(listener)
        try:
            return entrance.host, await listener.open()
        except OSError as error:
            at = f"port {entrance.port} of {entrance.host}" if entrance.port else entrance.host
            why = _REASONS.get(error.errno or 0, error.strerror)
            raise ConnectionFailedError(name, f"no {door} door at {at}: {why}") from error

    def _entrance(self, name: str, door: Literal["HiSLIP", "socket"]) -> Entrance:
        side = self._sides.get(name)
        if side is None:
            return ANY_PROGRAM_HERE
        try:
            users = None if side.users is None else user_ids(side.users)
        except OSError as error:
            where = f"doors.{side.side}.users"
            raise ConnectionFailedError(name, f"{where}: {error.strerror}") from error
        port = side.hislip_port if door == "HiSLIP" else side.socket_port
        return Entrance(side.host, port, side.networks, users)

    def _open_line(self, name: str, panel: LivePanel) -> str | None:
        if not (hasattr(os, "openpty") and hasattr(select, "epoll")):
            return None
        try:
            self._lines.append(PtyLine(panel, owner_only=name in self._sides))
        except OSError as error:
            raise ConnectionFailedError(name, f"no pseudo-terminal: {error.strerror}") from error
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
