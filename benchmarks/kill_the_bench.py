"""Programs that hold a lit laser are killed, signalled and made to hang: does the laser go dark?

    python benchmarks/kill_the_bench.py [--kills 300] [--pairs 200] [--silent 40] [--seed 0]
                                        [--messages FOLDER]

The bench is simulated, in a separate process, and outlives the programs. Each trial forks a
program that opens the demo's twelve instruments over TCP, switches the laser on and works; it is
hit at a random moment (while opening, lit, or on its way out). When the light last changed is asked
of the simulation itself, not through the laser's line, which is the program's. With --messages,
what each program and its watchdog said is kept.

- kills: SIGKILL, SIGSEGV, SIGABRT or SIGSTOP; the watchdog has to act.
- pairs: two signals at once, of SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGUSR1; no watchdog.
- silent: SIGTERM while three instruments, drawn at random, have ceased to answer; no watchdog.

A trial whose laser is not dark after 10 s, or that lights it again, counts as lit; a program that
was asked to end and has not after 10 s counts too, whether its laser is dark or not.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import selectors
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench_process import SERVE, serve, served

from labctl.data import shipped_bench_path, shipped_station_path
from labctl.instruments.simulated.bench_file import load_bench
from labctl.station import Station
from labctl.station.exits import leave_all

LIMIT_S = 10.0
STOPPED_S = 3.0
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
    """Passes bytes between a program and an instrument until it is to be silent."""

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
    """The served bench, a station file for each kind of trial, and its light, as it truly is."""

    ports: dict[str, int]
    proxies: dict[str, Proxy]
    folder: Path
    asked: socket.socket

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

    def light(self) -> tuple[bool, float]:
        """Return whether the laser emits, and when that last changed, by the monotonic clock."""
        self.asked.sendall(b"?")
        lit, changed_s = self.asked.makefile("r").readline().split()
        return lit == "1", float(changed_s)

    def goes_dark(self, began_s: float) -> bool:
        """Wait until the laser is dark, `LIMIT_S` after a moment at most."""
        while self.light()[0]:
            if time.monotonic() - began_s > LIMIT_S:
                return False
            time.sleep(0.02)
        return True


@dataclass
class Tally:
    """What came of the trials of one kind."""

    kind: str
    trials: int = 0
    lit: list[str] = field(default_factory=list)
    codes: dict[int | None, int] = field(default_factory=dict)
    dark_s: list[tuple[float, str]] = field(default_factory=list)

    def add(self, what: str, dark_s: float | None, code: int | None) -> None:
        self.trials += 1
        self.codes[code] = self.codes.get(code, 0) + 1
        if dark_s is None or code is None:
            self.lit.append(f"{what}, dark after {dark_s} s, exit code {code}")
        else:
            self.dark_s.append((dark_s, what))

    def report(self) -> str:
        ordered = sorted(self.dark_s)
        if not ordered:
            return f"{self.kind}: no trial"
        median_s, (worst_s, worst) = ordered[len(ordered) // 2][0], ordered[-1]
        ninety_s = ordered[int(0.95 * (len(ordered) - 1))][0]
        return (
            f"{self.kind}: {self.trials} trials, {len(self.lit)} lit; dark after {median_s:.2f} s "
            f"(median), {ninety_s:.2f} s (95 %), {worst_s:.2f} s (worst, {worst}); "
            f"exit codes {self.codes}" + "".join(f"\n  LIT: {each}" for each in self.lit)
        )


def victim(path: Path, style: str, said: int, leave: int) -> None:
    """Be the program: open, light, work; leave when asked through a pipe."""
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


def forked(path: Path, style: str, messages: Path) -> tuple[int, int, int]:
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
            os.dup2(os.open(messages, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            if messages != Path(os.devnull):
                form = "%(created).3f %(threadName)s %(name)s: %(message)s"
                logging.basicConfig(level=logging.DEBUG, format=form)
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
    style: str,
    stops: bool,
    hit: Callable[[int], None],
    messages: Path,
) -> tuple[float | None, int | None]:
    """Run one program and hit it.

    Returns after how long the light went off for the last time (None: it did not), and the
    program's exit code (None: it did not end).
    """
    child, said, leave = forked(path, style, messages)
    wanted = b"o" if moment == "opening" else b"l"
    while os.read(said, 1) not in (wanted, b""):
        pass
    time.sleep(draw.uniform(0.0, 1.0 if moment == "opening" else 0.1))
    if moment == "way out":
        with suppress(BrokenPipeError):  # it could not open, and has ended
            os.write(leave, b"l")
        time.sleep(draw.uniform(0.0, 0.1))
    began_s = time.monotonic()
    with messages.open("a") as said_here:
        print(f"{time.time():.3f} hit", file=said_here)
    hit(child)
    dark, off_s = bench.goes_dark(began_s), bench.light()[1] - began_s
    if stops:
        # One that was stopped before it had a watchdog goes on, and then leaves by itself.
        time.sleep(max(began_s + STOPPED_S - time.monotonic(), 0.0))
        dark = dark and not bench.light()[0]
        os.close(leave)
    code = ended(child)
    if not stops:
        os.close(leave)
        dark = bench.goes_dark(began_s)
        off_s = bench.light()[1] - began_s
    os.close(said)
    dark = dark and not bench.light()[0]
    return (max(off_s, 0.0) if dark and off_s < LIMIT_S else None), code


def ended(child: int) -> int | None:
    """Return a program's exit code; one that has not ended after `LIMIT_S` is killed: None."""
    until_s = time.monotonic() + LIMIT_S
    while time.monotonic() < until_s:
        process, status = os.waitpid(child, os.WNOHANG)
        if process:
            return os.waitstatus_to_exitcode(status)
        # Ctrl-Z stops a program that has not begun to open its station.
        os.kill(child, signal.SIGCONT)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


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

        messages = options.messages / f"{done}.txt" if options.messages else Path(os.devnull)
        style, stops = draw.choice(STYLES), signal.SIGSTOP in numbers
        dark_s, code = trial(bench, files[kind], draw, moment, style, stops, hit, messages)
        for proxy in bench.proxies.values():
            proxy.silent = False
        names = ", ".join(signal.Signals(number).name for number in numbers)
        tallies[kind].add(f"trial {done}, {moment}, {style}: {names} {silent}", dark_s, code)
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
    parser.add_argument("--messages", type=Path)
    options = parser.parse_args()
    if options.messages:
        options.messages.mkdir(parents=True, exist_ok=True)
    # A shell starts background jobs with some of them ignored, which programs would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in set(ENDING) - {signal.SIGINT}:
        signal.signal(number, signal.SIG_DFL)
    with served(__file__) as (_, ports, asked), tempfile.TemporaryDirectory() as folder:
        proxies = {name: Proxy(port) for name, port in ports.items() if name != "server_laser"}
        os.environ["LABCTL_LOCKS"] = str(Path(folder) / "locks")
        tallies = run(Bench(ports, proxies, Path(folder), asked), options)
    print(*(each.report() for each in tallies), sep="\n")
    sys.exit(1 if any(each.lit for each in tallies) else 0)


async def serve_demo() -> None:
    """Be the demo's bench, with a port that tells when the light changed."""
    bench = load_bench(shipped_bench_path())
    laser = bench.optics.laser
    switch, changed_s = laser.set_emission, time.monotonic()

    def switched(on: bool, power_w: float, frequency_hz: float) -> None:
        nonlocal changed_s
        if on != (laser.emitted_power_w() > 0.0):
            changed_s = time.monotonic()
        switch(on, power_w, frequency_hz)

    vars(laser)["set_emission"] = switched

    async def tell(asks: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        while await asks.read(1):
            answers.write(f"{int(laser.emitted_power_w() > 0.0)} {changed_s}\n".encode())

    await serve(bench, tell)


if __name__ == "__main__":
    if sys.argv[1:] == [SERVE]:
        asyncio.run(serve_demo())
    else:
        main()
