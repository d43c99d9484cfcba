"""A simulated bench in a separate process, behind TCP, and the way to it for the script that asks.

The bench is the script itself, started with `SERVE` as its only argument: it then runs `serve`.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager

from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.doors.serving import Doors

SERVE, READY = "serve-the-bench", "ready\n"


@contextmanager
def served(script: str) -> Iterator[tuple[int, dict[str, int], socket.socket]]:
    """Have a script be the bench: the process's id, ports by panel, a connection to its control."""
    command = [sys.executable, script, SERVE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            offers = (each.split() for each in iter(serving.stdout.readline, READY))
            ports = {name: int(port) for name, port in offers}
            with closing(socket.create_connection(("127.0.0.1", ports.pop(SERVE)))) as control:
                yield serving.pid, ports, control
        finally:
            serving.terminate()


async def serve(
    bench: LinkBench,
    control: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> None:
    """Be the bench: its instruments behind TCP, and a port behind which `control` answers."""
    async with Doors(bench) as doors, await asyncio.start_server(control, "127.0.0.1", 0) as server:
        for offer in doors.offers:
            assert offer.socket is not None
            print(offer.name, offer.socket.split("::")[2])
        print(SERVE, server.sockets[0].getsockname()[1])
        print(READY, end="", flush=True)
        await server.serve_forever()
