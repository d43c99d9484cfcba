"""Wire speed as ratios in one run: in-process queries, typed calls, big blocks over TCP.

    python benchmarks/wire.py [--rounds 5]

Queries against pyvisa-sim run only where it is installed (pip install pyvisa-sim). Yardstick of a
typed call is its transport call; of a block, recv_into a buffer and a view of it. Last come two
threads at a time, in process and over TCP, with every reply held to its question.
"""

from __future__ import annotations

import argparse
import importlib.util
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyvisa
from pyvisa.resources import MessageBasedResource

from labctl.data import shipped_bench_path
from labctl.instruments.power_meters.thorlabs_pm100d import ThorlabsPM100D
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.visa_backend import LabctlVisaLibrary
from labctl.instruments.transports.visa_transport import open_visa

ADDRESS = "TCPIP0::echo::hislip0::INSTR"
MIRRORS = ("TCPIP0::mirror-1::hislip0::INSTR", "TCPIP0::mirror-2::hislip0::INSTR")
BLOCK_BYTES = 20_000_000
_SERVER = """
import socket, threading
payload = bytes(range(256)) * ({size} // 256) + bytes({size} % 256)
message = b"#8%08d" % len(payload) + payload + b"\\n"
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
def serve(client):
    with client:
        while client.recv(4096):
            client.sendall(message)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""

_MIRROR = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
client, _ = listener.accept()
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while data := client.recv(4096):
    client.sendall(data)
"""


class Echo:
    """A panel that answers every message with the same bytes."""

    def __init__(self, size: int) -> None:
        self._reply = b"x" * (size - 1) + b"\n"
        self._waiting = b""

    def write(self, data: bytes, *, end: bool) -> None:
        self._waiting = self._reply

    def read(self, limit: int) -> tuple[bytes, bool]:
        part, self._waiting = self._waiting[:limit], self._waiting[limit:]
        return part, bool(part) and not self._waiting

    def clear(self) -> None:
        self._waiting = b""

    def status_byte(self) -> int:
        return 0


class Mirror(Echo):
    """A panel that answers every message with that message."""

    def __init__(self) -> None:
        super().__init__(1)

    def write(self, data: bytes, *, end: bool) -> None:
        self._waiting = data


class World:
    """What the PyVISA backend needs of a bench."""

    def __init__(self, size: int) -> None:
        self.clock = BenchClock()
        self.panels: dict[str, Echo] = {ADDRESS: Echo(size)}
        self.panels |= {address: Mirror() for address in MIRRORS}


def library_of(size: int) -> LabctlVisaLibrary:
    class Library(LabctlVisaLibrary):
        @staticmethod
        def load_world(path: str) -> World:  # type: ignore[override]
            return World(size)

    return Library(f"echo-{size}")


def seconds_per_call(call: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started) / calls


def compare(
    name: str,
    ours: Callable[[], object],
    other: Callable[[], object],
    calls: tuple[int, int],
    n: int,
) -> None:
    """Print medians of both and the median of their ratios, other over ours."""
    pairs = [
        (seconds_per_call(ours, calls[0]), seconds_per_call(other, calls[1])) for _ in range(n)
    ]
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"{name:<46} {mine * 1e6:11.2f} us {theirs * 1e6:11.2f} us {ratio:9.2f}")


def against_pyvisa_sim(rounds: int) -> None:
    for size, calls in ((16, (20_000, 5_000)), (100_000, (500, 2))):
        own = pyvisa.ResourceManager(library_of(size)).open_resource(ADDRESS)
        with tempfile.TemporaryDirectory() as folder:
            definition = Path(folder) / "echo.yaml"
            definition.write_text(
                "spec: '1.1'\ndevices:\n  echo:\n    eom:\n      ASRL INSTR:\n        q: \"\\n\"\n"
                '        r: "\\n"\n    dialogues:\n      - q: "?"\n'
                f'        r: "{"x" * (size - 1)}"\n'
                "resources:\n  ASRL1::INSTR:\n    device: echo\n",
                encoding="utf-8",
            )
            other = pyvisa.ResourceManager(f"{definition}@sim").open_resource("ASRL1::INSTR")
        assert isinstance(own, MessageBasedResource)
        assert isinstance(other, MessageBasedResource)
        for resource in (own, other):
            resource.read_termination = resource.write_termination = "\n"
            resource.timeout = 60_000
        compare(
            f"query, {size} bytes: ours / pyvisa-sim",
            partial(own.query, "?"),
            partial(other.query, "?"),
            calls,
            rounds,
        )


def typed_call(rounds: int) -> None:
    address, library = "USB0::0x1313::0x8078::P0000001::INSTR", f"{shipped_bench_path()}@labctl"
    transport = open_visa("meter", address, library=library, timeout_s=2.0)
    meter = ThorlabsPM100D(transport)
    compare(
        "typed power_w() / transport query",
        meter.power_w,
        lambda: float(transport.query("MEAS:POW?")),
        (5_000, 5_000),
        rounds,
    )


def block_over_tcp(rounds: int) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER.format(size=BLOCK_BYTES)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        transport = open_visa(
            "scope", f"TCPIP::127.0.0.1::{port}::SOCKET", library="@py", timeout_s=20.0
        )
        plain = socket.create_connection(("127.0.0.1", port))
        buffer = bytearray(BLOCK_BYTES + 11)

        def with_recv_into() -> object:
            plain.sendall(b"?\n")
            view, got = memoryview(buffer), 0
            while got < len(buffer):
                got += plain.recv_into(view[got:])
            return np.frombuffer(buffer, np.uint8, BLOCK_BYTES, 10)

        compare(
            "20 MB block: ours / recv_into",
            lambda: np.frombuffer(transport.query_block("?"), np.uint8),
            with_recv_into,
            (5, 5),
            rounds,
        )
        plain.close()
        transport.close()
    finally:
        server.kill()
        server.wait()


def in_pairs(name: str, ask: Sequence[Callable[[str], str]], queries: int) -> None:
    """Let each thread ask distinct questions; print how many replies are theirs, and the speed."""
    right = [0] * len(ask)

    def work(thread: int) -> None:
        query = ask[thread]
        for number in range(queries):
            question = f"{thread}:{number}?"
            right[thread] += query(question) == question

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(len(ask))]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    total = queries * len(ask)
    print(f"{name:<46} {sum(right)} of {total} replies right, {total / seconds:.0f} queries/s")
    if sum(right) != total:
        raise SystemExit(f"{name}: {total - sum(right)} replies belong to other questions")


def paired_in_process(queries: int) -> None:
    manager = pyvisa.ResourceManager(library_of(1))
    asks = []
    for address in MIRRORS:
        resource = manager.open_resource(address)
        assert isinstance(resource, MessageBasedResource)
        resource.read_termination = resource.write_termination = "\n"
        asks.append(resource.query)
    in_pairs("2 threads in process, a session each", asks, queries)
    manager.close()


def paired_over_tcp(queries: int) -> None:
    server = subprocess.Popen([sys.executable, "-c", _MIRROR], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = f"TCPIP::127.0.0.1::{int(server.stdout.readline())}::SOCKET"
        transport = open_visa("mirror", address, library="@py", timeout_s=20.0)
        in_pairs("2 threads over TCP, one session", [transport.query] * 2, queries)
        transport.close()
    finally:
        server.kill()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=50_000, help="queries of each thread")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    print(f"{'':<46} {'ours':>14} {'other':>14} {'other/ours':>9}")
    if importlib.util.find_spec("pyvisa_sim"):
        against_pyvisa_sim(rounds)
    typed_call(rounds)
    block_over_tcp(rounds)
    paired_in_process(arguments.pairs)
    paired_over_tcp(arguments.pairs)


if __name__ == "__main__":
    main()
