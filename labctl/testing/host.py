"""A host that plays with one front panel, alone on its bench except for the trigger cable."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from labctl.errors import StationFileError
from labctl.instruments.codecs.itla import Reply, Request
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_file import build_bench
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.doors.serving import FRAMED_PANELS
from labctl.instruments.simulated.panel import FrontPanel
from labctl.instruments.simulated.visa_session import TimeoutWitness
from labctl.testing.words import package_of, scpi_cores
from labctl.toml_file import read_toml

SEED_VARIABLE = "LABCTL_FUZZ_SEED"
"""Names a seed, or "random", for searches that are given none."""

MOST_HELD_BYTES = 96 << 20
"""What one panel may hold in queues, settings and memories: its own records and waveforms, and
replies that nobody read; a hundred messages that only ever add up to more are a leak."""

# Far above what a message takes on a loaded machine.
_LONGEST_HANG_S = 60.0
_MOST_READS = 20_000
# An error queue holds fewer (IEEE 488.2 instruments 16 to 50), and says so when it overflows.
_MOST_ERRORS = 64
# Longer than any sweep, ramp or settling that a few messages begin.
_REST_S = 1000.0
_ASK_ITLA = Request(0x02).encode()
_CODECS = "labctl.instruments.codecs"


class Host:
    """One panel of a bench file, the bench's other panels left out.

    Raises StationFileError if the file is wrong or has no such panel.
    """

    def __init__(self, path: str | Path, name: str) -> None:
        path = Path(path)
        table = read_toml(path, BenchFile)
        if name not in table.panels:
            known = ", ".join(table.panels)
            raise StationFileError(f"{path}: no panel {name!r}; there are: {known}")
        self._table = table.model_copy(update={"panels": {name: table.panels[name]}})
        self._path = path
        self.kind: str = table.panels[name].type
        self.address: str = table.panels[name].address
        self.framed = self.kind in FRAMED_PANELS
        self.start()

    def start(self) -> None:
        """Build the bench again."""
        self.bench: LinkBench = build_bench(self._table, self._path)
        self.panel: FrontPanel = self.bench.panels[self.address]

    def time_out(self) -> None:
        """Give a read up; the door reports it to a panel that listens for it."""
        if isinstance(self.panel, TimeoutWitness):
            self.panel.read_timed_out()

    def ask(self, message: bytes) -> bytes:
        """Send a message and return all that is replied."""
        self.panel.write(message, end=True)
        return self.drain()

    def drain(self) -> bytes:
        """Read until nothing comes; fails if the panel never stops talking."""
        received = bytearray()
        for _ in range(_MOST_READS):
            chunk, _ends = self.panel.read(1 << 20)
            if not chunk:
                return bytes(received)
            received += chunk
            assert len(received) <= MOST_HELD_BYTES, "its replies never end"
        raise AssertionError(f"it is still talking after {_MOST_READS} reads")

    def check_alive(self, question: bytes, answer: bytes) -> None:
        """Check that after a device clear it answers as ever, and its queues run empty.

        question: asks who it is; answer: how the answer begins.
        """
        self.panel.clear()
        assert self.drain() == b"", "something is left after a device clear"
        self.bench.clock.sleep(_REST_S)
        self.drain()
        if self.framed:
            assert Reply.decode(self.ask(_ASK_ITLA)).register == 0x02
            return
        if not scpi_cores(self.panel):
            said = self.ask(question)
            assert said, f"{question!r} is not answered"
            assert said.startswith(answer), f"{question!r} is answered with {said!r}"
            return
        self.ask(b"*CLS\n")
        said = self.ask(question)
        assert said.startswith(answer), f"{question!r} is answered with {said!r}"
        assert len(said.split(b",")) == 4, f"an identity has four fields, this is {said!r}"
        for _ in range(_MOST_ERRORS):
            self.ask(b":NO:SUCH:HEADER 1\n")
        errors = 0
        while int(self.ask(b":SYST:ERR?\n").partition(b",")[0]):
            errors += 1
        assert 0 < errors < _MOST_ERRORS, f"{errors} errors were kept"


def chosen_seed(seed: int | None) -> int:
    """Return the seed of a search: the one given, or that of LABCTL_FUZZ_SEED, or 1."""
    if seed is not None:
        return seed
    wanted = os.environ.get(SEED_VARIABLE, "1")
    return random.SystemRandom().randrange(1 << 32) if wanted == "random" else int(wanted)


@contextmanager
def no_hang() -> Iterator[None]:
    """Fail, with the place, if what is inside does not come back; where there are alarm signals."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_: int, frame: FrameType | None) -> None:
        place = f"{frame.f_code.co_qualname}, line {frame.f_lineno}" if frame else "?"
        raise AssertionError(f"it hangs in {place}")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, _LONGEST_HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def held_bytes(panel: FrontPanel) -> int:
    """Return roughly how much memory a panel holds, physics behind its ports left out."""
    own = (package_of(type(panel)), _CODECS)
    seen: set[int] = set()
    total, left = 0, [panel]
    while left:
        thing: Any = left.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, np.ndarray):
            total += thing.nbytes
            continue
        total += sys.getsizeof(thing, 0)
        if isinstance(thing, dict):
            left += thing.values()
        elif isinstance(thing, list | tuple | set | frozenset) or hasattr(thing, "appendleft"):
            left += thing
        elif type(thing).__module__.startswith(own) and hasattr(thing, "__dict__"):
            left += vars(thing).values()
    return total


def pauses(host: Host) -> tuple[Callable[[], object], ...]:
    """Return what may happen between two messages, nothing first."""
    return (
        lambda: None,
        lambda: host.panel.read(3),
        host.time_out,
        host.panel.clear,
        host.panel.status_byte,
        host.bench.trigger.fire,
    )
