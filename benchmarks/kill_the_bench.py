"""Programs that hold a lit laser are killed, signalled and made to hang: does the laser go dark?

    python benchmarks/kill_the_bench.py [--kills 300] [--pairs 200] [--silent 40] [--seed 0]

The bench is simulated, in a process of its own (`labctl sim serve`), and outlives the programs.
Each trial forks a program that opens the demo's twelve instruments over TCP, switches the laser on
and works; it is hit at a random moment (while opening, lit, or on its way out), and the bench's
laser is asked until it is dark.

- kills: SIGKILL, SIGSEGV, SIGABRT or SIGSTOP; the watchdog has to act.
- pairs: two signals at once, of SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGUSR1; no watchdog.
- silent: SIGTERM while three instruments, drawn at random, have ceased to answer; no watchdog.

A trial that has not seen the laser dark after 10 s counts as lit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from labctl.data import shipped_bench_path, shipped_station_path
from labctl.errors import InstrumentError
from labctl.instruments.lasers.itla_registers import ItlaRegisters, Register
from labctl.instruments.transports.visa_transport import open_visa_frames
from labctl.station import Station
from labctl.station.exits import leave_all

LIMIT_S = 10.0
EMITS = 0x0008  # the bit of the register that enables the output
KILLS = (signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGSTOP)
ENDING = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGTSTP,
    signal.SIGUSR1,
)
MOMENTS = ("opening", "lit", "lit", "way out")
STYLES = ("with", "plain", "thread", "numpy")


class Proxy:
    """Passes bytes between a program and an instrument until it is told to be silent."""

    def __init__(self, port: int) -> None:
        self.silent = False
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listening.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                near.close()
                continue
            threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        with selectors.DefaultSelector() as ready, near, far:
            for each in other:
                ready.register(each, selectors.EVENT_READ)
            with suppress(OSError):
                while True:
                    for key, _ in ready.select():
                        source = key.fileobj
                        assert isinstance(source, socket.socket)
                        data = source.recv(1 << 16)
                        if not data:
                            return
                        if not self.silent:
                            other[source].sendall(data)


@dataclass
class Bench:
    """The served bench, a station file for each kind of trial, and its laser asked from here."""

    ports: dict[str, int]
    proxies: dict[str, Proxy]
    folder: Path

    def station(self, *, watchdog: bool, proxied: bool) -> Path:
        """Write the demo's instruments at their TCP ports, or at those of the proxies."""
        table = Station.read(shipped_station_path()).table
        text = f"watchdog = {{ enabled = {str(watchdog).lower()} }}\n"
        for name, own in table.instruments.items():
            port = self.proxies[name].port if proxied and name in self.proxies else self.ports[name]
            text += (
                f'[instruments.{name}]\ndriver = "{own.driver}"\nlibrary = "@py"\n'
                f'address = "TCPIP::127.0.0.1::{port}::SOCKET"\n'
            )
        path = self.folder / f"bench-{watchdog}-{proxied}.toml"
        path.write_text(text, encoding="utf-8")
        return path

    def dark_after_s(self, began_s: float) -> float | None:
        """Return how long after a moment the laser was seen dark; None: not within `LIMIT_S`."""
        address = f"TCPIP::127.0.0.1::{self.ports['server_laser']}::SOCKET"
        while time.monotonic() - began_s < LIMIT_S:
            # One register and no identification, which a program that talks to it would disturb.
            with suppress(InstrumentError):
                frames = open_visa_frames(
                    "asked",
                    address,
                    library="@py",
                    timeout_s=0.5,
                    frame_bytes=4,
                    filler=b"\0",
                    baud_rate=9600,
                )
                try:
                    registers = ItlaRegisters(frames, 1.0)
                    while time.monotonic() - began_s < LIMIT_S:
                        if not registers.read(Register.RES_ENA) & EMITS:
                            return time.monotonic() - began_s
                        time.sleep(0.02)
                finally:
                    frames.close()
        return None


@dataclass
class Tally:
    """What came of the trials of one kind."""

    kind: str
    trials: int = 0
    lit: list[str] = field(default_factory=list)
    codes: dict[int, int] = field(default_factory=dict)
    dark_s: list[float] = field(default_factory=list)

    def add(self, what: str, dark_s: float | None, code: int) -> None:
        self.trials += 1
        self.codes[code] = self.codes.get(code, 0) + 1
        if dark_s is None:
            self.lit.append(what)
        else:
            self.dark_s.append(dark_s)

    def report(self) -> str:
        ordered = sorted(self.dark_s)
        if not ordered:
            return f"{self.kind}: no trial"
        median_s, worst_s = ordered[len(ordered) // 2], ordered[-1]
        ninety_s = ordered[int(0.95 * (len(ordered) - 1))]
        return (
            f"{self.kind}: {self.trials} trials, {len(self.lit)} lit; dark after {median_s:.2f} s "
            f"(median), {ninety_s:.2f} s (95 %), {worst_s:.2f} s (worst); exit codes {self.codes}"
            + "".join(f"\n  LIT: {each}" for each in self.lit)
        )


def victim(path: Path, style: str, said: int, leave: int) -> None:
    """Be the program: open, light, work; leave when told to through a pipe."""
    sys.stdin.close()

    def work(station: Station) -> None:
        station["server_laser"].set_emission(True)
        os.write(said, b"l")
        if style == "numpy":
            import numpy as np

            square = np.ones((700, 700))
            while not readable(leave, 0.0):
                square = square @ square / 700.0
        while not readable(leave, 0.0):
            station["monitor"].power_w()

    os.write(said, b"o")
    station = Station.read(path)
    if style == "with":
        with station:
            work(station)
    elif style == "thread":
        station.open()
        worker = threading.Thread(target=work, args=(station,))
        worker.start()
        worker.join()
    else:
        station.open()
        work(station)


def readable(pipe: int, timeout_s: float) -> bool:
    with selectors.DefaultSelector() as ready:
        ready.register(pipe, selectors.EVENT_READ)
        return bool(ready.select(timeout_s))


def forked(path: Path, style: str) -> tuple[int, int, int]:
    """Start a program; returns its process id, what it says, and what tells it to leave."""
    said, says = os.pipe()
    leaves, leave = os.pipe()
    child = os.fork()
    if child:
        os.close(says)
        os.close(leaves)
        return child, said, leave
    os.close(said)
    os.close(leave)
    code = 0
    try:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            victim(path, style, says, leaves)
        finally:
            # What a plain script's interpreter does at its end, without this program's own.
            leave_all()
    except SystemExit as ended:
        code = int(ended.code or 0)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        code = 1
    finally:
        os._exit(code)


def trial(
    bench: Bench,
    path: Path,
    draw: random.Random,
    moment: str,
    hit: Callable[[int], None],
) -> tuple[float | None, int]:
    """Run one program, hit it, and return when the laser was dark and the program's exit code."""
    child, said, leave = forked(path, draw.choice(STYLES))
    wanted = b"o" if moment == "opening" else b"l"
    while os.read(said, 1) not in (wanted, b""):
        pass
    time.sleep(draw.uniform(0.0, 1.0 if moment == "opening" else 0.1))
    if moment == "way out":
        with suppress(BrokenPipeError):  # it could not open, and has ended
            os.write(leave, b"l")
        time.sleep(draw.uniform(0.0, 0.1))
    began_s = time.monotonic()
    hit(child)
    dark_s = bench.dark_after_s(began_s)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGCONT)
    os.close(leave)
    code = ended(child)
    os.close(said)
    # Dark once is not enough: nothing may light it again.
    if dark_s is not None and bench.dark_after_s(time.monotonic()) is None:
        dark_s = None
    return dark_s, code


def ended(child: int) -> int:
    """Return a program's exit code; one that has not ended after `LIMIT_S` is killed."""
    until_s = time.monotonic() + LIMIT_S
    while time.monotonic() < until_s:
        process, status = os.waitpid(child, os.WNOHANG)
        if process:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(bench: Bench, options: argparse.Namespace) -> list[Tally]:
    draw = random.Random(options.seed)
    tallies = [Tally("kills"), Tally("pairs"), Tally("silent")]
    plans = [0] * options.kills + [1] * options.pairs + [2] * options.silent
    draw.shuffle(plans)
    files = [
        bench.station(watchdog=True, proxied=False),
        bench.station(watchdog=False, proxied=False),
        bench.station(watchdog=False, proxied=True),
    ]
    for done, kind in enumerate(plans, start=1):
        moment = draw.choice(MOMENTS) if kind != 2 else "lit"
        if kind == 0:
            numbers = [draw.choice(KILLS)]
        elif kind == 1:
            numbers = draw.sample(ENDING, 2)
        else:
            numbers = [signal.SIGTERM]
        silent = draw.sample(sorted(bench.proxies), 3) if kind == 2 else []

        def hit(child: int, numbers: Sequence[int] = numbers, silent: list[str] = silent) -> None:
            for name in silent:
                bench.proxies[name].silent = True
            if silent:
                time.sleep(0.1)
            for number in numbers:
                with suppress(ProcessLookupError):
                    os.kill(child, number)

        dark_s, code = trial(bench, files[kind], draw, moment, hit)
        for proxy in bench.proxies.values():
            proxy.silent = False
        names = ", ".join(signal.Signals(number).name for number in numbers)
        tallies[kind].add(f"{moment}: {names} {silent}", dark_s, code)
        if done % 20 == 0:
            print(f"{done} of {len(plans)}", *(each.report() for each in tallies), sep="\n")
            sys.stdout.flush()
    return tallies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--silent", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # A shell starts background jobs with some of them ignored, which programs would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in set(ENDING) - {signal.SIGINT}:
        signal.signal(number, signal.SIG_DFL)
    serving = subprocess.Popen(
        [sys.executable, "-m", "labctl", "sim", "serve", str(shipped_bench_path()), "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert serving.stdout is not None
    ports = {}
    for line in serving.stdout:
        offer = json.loads(line)
        if offer.get("ready"):
            break
        ports[offer["name"]] = int(offer["socket"].split("::")[2])
    proxies = {name: Proxy(port) for name, port in ports.items() if name != "server_laser"}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LABCTL_LOCKS"] = str(Path(folder) / "locks")
        try:
            tallies = run(Bench(ports, proxies, Path(folder)), options)
        finally:
            serving.terminate()
            serving.wait(10)
    print(*(each.report() for each in tallies), sep="\n")
    sys.exit(1 if any(each.lit for each in tallies) else 0)


if __name__ == "__main__":
    main()
