"""Which process it was, and whether it still runs: by its id, its start and its computer.

A process id is used again some day: a process is the same only if it also started at the same
moment, which Linux counts in ticks since the system did. On another system the id alone decides, so
that a process counts as running for as long as any has its id.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

_MACHINE = Path("/etc/machine-id")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_ID_SPACE = Path("/proc/self/ns/pid")
# Half a second in all: a killed process with ten threads took 1 to 30 ms on a busy machine.
_LOOKS_AT_THREADS, _BETWEEN_LOOKS_S = 50, 0.01


class Life(StrEnum):
    """Whether a process runs; unknown where nobody here can tell."""

    RUNS = "runs"
    ENDED = "ended"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ProcessName:
    """One process among all of all computers.

    started: in ticks since the system did. host, machine, boot: the computer's name, a hash of its
    number, and the number of its last start. id_space: in which process ids are counted, as a
    container has its own. Each is empty where the system does not tell it.
    """

    process_id: int
    started: str
    host: str
    machine: str = ""
    boot: str = ""
    id_space: str = ""

    @classmethod
    def own(cls) -> Self:
        """Return this process's name."""
        process_id = os.getpid()
        space = ""
        with suppress(OSError):
            space = os.readlink(_ID_SPACE)
        return cls(
            process_id,
            start_of(process_id),
            socket.gethostname(),
            _digest(_line(_MACHINE)),
            _line(_BOOT),
            space,
        )

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the name that `as_json` wrote; raises ValueError for anything else."""
        known = {field.name for field in fields(cls)}
        texts = known - {"process_id"}
        number = values.get("process_id")
        if set(values) != known or not isinstance(number, int) or number < 1:
            raise ValueError("not the name of a process")
        if not all(isinstance(values[name], str) for name in texts):
            raise ValueError("not the name of a process")
        return cls(**values)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def life(self) -> Life:
        """Return whether it still runs; unknown of another computer's, or another id space's."""
        here = ProcessName.own()
        if (self.host, self.machine) != (here.host, here.machine):
            return Life.UNKNOWN
        if self.boot != here.boot:
            # The same computer, and it was started again since: nothing of before runs.
            return Life.ENDED if self.machine and self.boot and here.boot else Life.UNKNOWN
        if self.id_space != here.id_space:
            return Life.UNKNOWN
        return Life.RUNS if runs(self.process_id, self.started) else Life.ENDED

    def __str__(self) -> str:
        """Return it for people."""
        return f"process {self.process_id} on {self.host}"


def runs(process_id: int, started: str) -> bool:
    """Return whether a process runs that is the one which started then (`start_of`).

    Another user's, of which this one may not know the start, counts as the same.
    """
    hidden = False
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:
        hidden = not Path(f"/proc/{process_id}").exists()
    return hidden or start_of(process_id) == started


def start_of(process_id: int) -> str:
    """Return when a process started, in ticks since the system did; empty where nobody can tell.

    A process that has ended and only waits for its parent to notice has no start any more.
    """
    try:
        fields_of = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
        ended = fields_of[0] in "ZX" and not _threads_go_on(process_id)
    except OSError:
        return ""
    return "" if ended else fields_of[19]


def _threads_go_on(process_id: int) -> bool:
    """Return whether a process whose first thread has ended has others that stay.

    Those of one that was killed are gone within milliseconds, and it has ended then.
    """
    for _ in range(_LOOKS_AT_THREADS):
        if len(os.listdir(f"/proc/{process_id}/task")) < 2:
            return False
        time.sleep(_BETWEEN_LOOKS_S)
    return True


def _digest(text: str) -> str:
    """Return a hash in place of a computer's number, which is nobody else's to know."""
    return hashlib.sha256(f"labctl {text}".encode()).hexdigest()[:16] if text else ""


def _line(path: Path) -> str:
    with suppress(OSError, ValueError):
        return path.read_text("ascii").strip()
    return ""
