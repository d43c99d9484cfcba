"""Bench, server and clients under kills and signals for a long time: exact books, no lit laser.

    python benchmarks/three_processes_soak.py [--minutes 10] [--seed 0]

`labctl sim serve` on the bench of two sites, `labctl server`, and one `labctl client` after the
other, of 1 to 4 images. Half of the clients are left alone. Of the others, each has a moment drawn
at which the client is killed or asked to end, or the server is, by SIGKILL or SIGTERM; a server
that ended is started again. After each client the laser is asked, over a separate connection, until
it is dark. What is drawn comes from the seed; what a moment hits is the machine's.

At the end the ledgers are settled and verified. It exits with 1 where the laser was lit for more
than 5 s after a client's end, where a ledger is broken or has something open, or where the server
has booked fewer queries than clients printed answers, or more than clients asked.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from small_sites import emits, hand_out_keys, save_small_network

from labctl.data.models import load_network
from labctl.party import Party
from labctl.protocols.ledger.accounts import weights_account
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import Ledger
from labctl.station.file import read_station_file

STATIONS = Path(__file__).resolve().parents[1] / "data" / "stations"
# The watchdog's 3 s after a kill, and what a busy machine adds.
MOST_LIT_S = 5.0
PATIENCE_S = 120.0
# Of a session of a few images on this machine: its moments are all met.
LONGEST_WAIT_S = 15.0
FATES = ("client SIGKILL", "client SIGTERM", "server SIGKILL", "server SIGTERM")


@dataclass
class Sites:
    """A folder with the keys, ledgers and files of both, and the server that runs."""

    folder: Path
    server: subprocess.Popen[str]
    asked: int = 0
    answered: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    lit_s: list[float] = field(default_factory=list)


def labctl(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    """Start a command."""
    return subprocess.Popen([sys.executable, "-m", "labctl", *arguments], text=True, **more)


def of_party(folder: Path, party: Party) -> list[str]:
    """Return the command of a party with its files."""
    return [
        *(str(party), str(STATIONS / f"two_sites_{party}.toml")),
        *("--identity", str(folder / party), "--ledger", str(folder / f"{party}-ledger")),
        *("--runs", str(folder / f"{party}-runs"), "--json"),
    ]


def start_server(folder: Path) -> subprocess.Popen[str]:
    """Return a server that accepts clients."""
    model = str(folder / "small.safetensors")
    process = labctl(
        *of_party(folder, Party.SERVER),
        *("--model", model, "--mu", "8.91", "--listen", "127.0.0.1:4750"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    if "listening" not in first:
        raise SystemExit(f"the server did not start: {first!r}")
    # Nobody reads its events; a full pipe would hold it up.
    subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
    return process


def dark_after_s(address: str) -> float:
    """Return after how long the laser is seen dark, at most 20 s."""
    began_s = time.monotonic()
    while emits(address) and time.monotonic() - began_s < 20.0:
        time.sleep(0.05)
    return time.monotonic() - began_s


def settle(folder: Path, party: Party) -> None:
    """Book what killed programs left open."""
    ledger = str(folder / f"{party}-ledger")
    if Ledger(Path(ledger), party).exists:
        labctl("ledger", "settle", "--ledger", ledger, stdout=subprocess.DEVNULL).wait(PATIENCE_S)


def one_client(sites: Sites, draw: random.Random, address: str) -> None:
    """Run a client, perhaps to an end that somebody else makes."""
    images = draw.randint(1, 4)
    fate = draw.choice(FATES) if draw.random() < 0.5 else "left alone"
    client = labctl(
        *of_party(sites.folder, Party.CLIENT),
        *("--server", "127.0.0.1:4750", "--images", str(images)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    sites.asked += images
    if fate != "left alone":
        with contextlib.suppress(subprocess.TimeoutExpired):
            client.wait(draw.uniform(0.0, LONGEST_WAIT_S))
        who, name = fate.split()
        victim = client if who == "client" else sites.server
        victim.send_signal(signal.Signals[name])
    out, _ = client.communicate(timeout=PATIENCE_S)
    sites.answered += len(json.loads(out)["classes"]) if out.strip() else 0
    sites.happened[f"{fate}, client's exit code {client.returncode}"] += 1
    sites.lit_s.append(dark_after_s(address))
    settle(sites.folder, Party.CLIENT)
    if fate.startswith("server"):
        sites.server.wait(PATIENCE_S)
        settle(sites.folder, Party.SERVER)
        sites.server = start_server(sites.folder)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Sites]:
    """Make keys and a network, and start bench and server."""
    hand_out_keys(folder, {party: f"soak-{party}" for party in Party})
    save_small_network(folder)
    bench_file = str(STATIONS / "two_sites_bench.toml")
    bench = labctl("sim", "serve", bench_file, "--json", stdout=subprocess.PIPE)
    try:
        assert bench.stdout is not None
        bench.stdout.readline()
        subprocess.Popen(["cat"], stdin=bench.stdout, stdout=subprocess.DEVNULL)
        sites = Sites(folder, start_server(folder))
        try:
            yield sites
        finally:
            sites.server.terminate()
            sites.server.wait(PATIENCE_S)
    finally:
        bench.terminate()


def faults_of(sites: Sites) -> Iterator[str]:
    """Yield what is wrong with the books."""
    for party in Party:
        settle(sites.folder, party)
        folder = str(sites.folder / f"{party}-ledger")
        verified = labctl("ledger", "verify", "--ledger", folder, stdout=subprocess.DEVNULL)
        if verified.wait(PATIENCE_S):
            yield f"the {party}'s ledger is not whole"
        if opened := Ledger(Path(folder), party).open_queries():
            yield f"the {party}'s ledger has {len(opened)} open"
    model = load_network(sites.folder / "small.safetensors").sha256
    account = weights_account(f"soak-{Party.CLIENT}", model)
    ledger = Ledger(sites.folder / f"{Party.SERVER}-ledger", Party.SERVER)
    booked = ledger.balance(account).spent.value(Meter.QUERIES)
    print(f"queries asked {sites.asked}, answered {sites.answered}, booked {booked:g}")
    if not sites.answered <= booked <= sites.asked:
        yield f"{booked:g} queries are booked"


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    address = read_station_file(STATIONS / "two_sites_server.toml").instruments["server_laser"]
    with tempfile.TemporaryDirectory() as name, opened(Path(name)) as sites:
        until_s = time.monotonic() + 60.0 * options.minutes
        while time.monotonic() < until_s:
            one_client(sites, draw, address.address)
            print(f"{sum(sites.happened.values())} clients", end="\r", file=sys.stderr)
        sites.server.terminate()
        sites.server.wait(PATIENCE_S)
        lit = emits(address.address)
        for what, count in sorted(sites.happened.items()):
            print(f"{count:4}  {what}")
        worst_s = max(sites.lit_s)
        print(f"dark after at most {worst_s:.2f} s, median {statistics.median(sites.lit_s):.2f} s")
        faults = [*faults_of(sites)]
        faults += ["the laser is lit at the end"] if lit else []
        faults += [f"lit for {worst_s:.1f} s"] if worst_s > MOST_LIT_S else []
    for fault in faults:
        print(f"FAULT: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
