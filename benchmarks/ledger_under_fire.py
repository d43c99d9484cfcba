"""Real `labctl infer --ledger` processes, killed, interrupted and many at once: the ledger holds.

    python benchmarks/ledger_under_fire.py [--kills 60] [--interruptions 20] [--at-once 8]

After each process the account must hold no less than the bound of all its light, within its
budget, and every entry must hold. Then what killed processes left reserved is settled, first by a
dry run: while another process holds a reservation that is left open, and after it was killed too.
Nothing may stay reserved, and no account come out below the bound of its light. Prints how the
processes ended; fails at the first that does not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from labctl.data.models import Network, load_network, save_network
from labctl.protocols.ledger.accounts import Party, weights_account
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.collective_store import CollectiveStore
from labctl.protocols.ledger.cumulative_account import CumulativeAccount

_FAILURE_PROBABILITY = 1e-10
_ROUNDING = 1e-9
# From the first entry of a process on: within an entry, or somewhere in the run.
_DELAYS_S = (0.02, 0.8)
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}


class Fire:
    """Processes on one account, and the checks of what they leave."""

    def __init__(self, folder: Path) -> None:
        random_weights = np.random.default_rng(5)
        layers = tuple(
            random_weights.standard_normal(shape).astype(np.float32)
            for shape in ((16, 784), (10, 16))
        )
        self.model = folder / "small.safetensors"
        save_network(Network(layers, "small", {}), self.model)
        self.sha256 = load_network(str(self.model)).sha256
        self.folder, self.ended = folder, Counter[str]()
        self.settlements = Counter[str]()

    def start(self, ledger: Path, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "labctl", "infer", "--model", str(self.model)]
        command += ["--ledger", str(ledger), "--client", "a", "--runs", str(self.folder / "runs")]
        return subprocess.Popen(
            [*command, "--images", "100", "--json", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **_ONE_THREAD},
        )

    def check(self, ledger: Path, process: subprocess.Popen[str], budget: float) -> None:
        """Check a process that has ended, and the account; raises AssertionError."""
        assert process.stderr is not None
        said = process.stderr.read().strip().splitlines()
        self.ended[f"exit {process.returncode}"] += 1
        # Python ends by SIGINT itself, which a shell shows as 130, if it struck within an `exec`.
        code = 130 if process.returncode == -signal.SIGINT else process.returncode
        # By SIGTERM itself, which a shell calls 143 too, where the run has not begun yet.
        assert code in {0, 2, 130, 143, -signal.SIGTERM, -signal.SIGKILL}, (code, said)
        assert len(said) == (code in {2, 130, 143}), said
        self.bounded(ledger, budget)

    def bounded(self, ledger: Path, budget: float) -> None:
        """Check that the account holds the bound of its light; raises AssertionError."""
        book = Ledger(ledger, Party.SERVER)
        if not book.exists:
            return
        book.verify()
        account = weights_account("a", self.sha256)
        taken = book.balance(account).taken
        kept = CollectiveStore(ledger, book.secret()).kept(account)
        bound = CumulativeAccount(kept, _FAILURE_PROBABILITY).bits(taken.value(Meter.PHOTONS))
        booked = taken.value(Meter.WEIGHT_BITS)
        if taken.value(Meter.PHOTONS) > 0.0:
            assert booked >= bound * (1.0 - _ROUNDING), (booked, bound)
        assert booked <= budget, (booked, budget)

    def settled(self, ledger: Path, budget: float) -> None:
        """Settle what was left, by the command; check before and after; raises AssertionError."""
        living = self.start(ledger, "--budget-bits", str(budget), "--images", "2000")
        path = ledger / f"{Party.SERVER}.jsonl"
        size = path.stat().st_size
        while path.stat().st_size == size and living.poll() is None:
            time.sleep(0.002)
        stop_outside_locks(living, ledger)
        left = self.command("settle", "--ledger", str(ledger), "--json")["reservations"]
        held = [each for each in left if not each["settled"]]
        assert {each["process"]["process_id"] for each in held} <= {living.pid}, held
        living.kill()
        living.wait()
        planned = self.command("settle", "--ledger", str(ledger), "--dry-run", "--json")
        done = self.command("settle", "--ledger", str(ledger), "--json")
        assert planned["reservations"] == done["reservations"]
        assert all(each["settled"] for each in done["reservations"]), done
        for each in [*left, *done["reservations"]]:
            sent = each["queries_sent_at_most"]
            words = "nothing noted" if sent is None else "none sent" if not sent else "noted"
            self.settlements[f"{each['party']}: {words if each['settled'] else 'left open'}"] += 1
        for party in Party:
            book = Ledger(ledger, party)
            assert not book.open_queries()
            book.verify()
        assert not list(Ledger(ledger, Party.SERVER).keys.glob("sent/*"))
        self.bounded(ledger, budget)

    def command(self, *arguments: str) -> dict[str, Any]:
        """Run `labctl ledger` and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "labctl", "ledger", *arguments],
            stdout=subprocess.PIPE,
            check=True,
            env={**os.environ, **_ONE_THREAD},
        )
        return dict(json.loads(done.stdout))

    def struck(self, name: str, number: signal.Signals, times: int, options: Sequence[str]) -> None:
        """Strike one process after the other at random moments."""
        ledger, moments = self.folder / name, random.Random(1)
        budget = 20.0 * times
        for _ in range(times):
            process = self.start(ledger, "--budget-bits", str(budget), *options)
            path = ledger / f"{Party.SERVER}.jsonl"
            size = path.stat().st_size if path.exists() else 0
            while process.poll() is None and (path.stat().st_size if path.exists() else 0) == size:
                time.sleep(0.002)
            time.sleep(moments.uniform(0.0, moments.choice(_DELAYS_S)))
            process.send_signal(number)
            process.wait()
            self.check(ledger, process, budget)
        self.settled(ledger, budget)

    def at_once(self, name: str, processes: int, options: Sequence[str]) -> None:
        """Run many processes against one budget, which is changed meanwhile."""
        ledger, budget = self.folder / name, 3.2
        running = [
            self.start(ledger, "--budget-bits", str(budget), *options) for _ in range(processes)
        ]
        for process in running:
            process.wait()
            self.check(ledger, process, budget)


def stop_outside_locks(process: subprocess.Popen[str], ledger: Path) -> None:
    """Stop a process at a moment at which it holds no lock of the ledger."""
    while process.poll() is None:
        process.send_signal(signal.SIGSTOP)
        try:
            for party in Party:
                with FileLock(str(ledger / f"{party}.lock"), timeout=0.05):
                    pass
            return
        except Timeout:
            process.send_signal(signal.SIGCONT)
            time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--interruptions", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=8)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fire = Fire(Path(folder))
        fire.struck("killed", signal.SIGKILL, chosen.kills, ())
        print("killed:", dict(fire.ended), "settled:", dict(fire.settlements), flush=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            fire.struck(number.name, number, chosen.interruptions, ("--reserve", "honest"))
        print("and interrupted:", dict(fire.ended), dict(fire.settlements), flush=True)
        for options in ((), ("--sample", "measured"), ("--reserve", "honest")):
            fire.at_once("".join(options) or "everything", chosen.at_once, options)
        print("and at once:", dict(fire.ended))


if __name__ == "__main__":
    main()
