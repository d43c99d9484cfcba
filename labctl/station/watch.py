"""Limits on what is measured: read at a stated rate while the station is open.

A limit of an instrument is on what is sent to it. A watched limit is on what comes of it: a power
at a detector, a current at a source, all that a driver measures and returns as one number. One
thread reads them all, each between the program's own calls of that instrument. A value beyond its
limit stops all emission and closes the station to further use: what the program does next raises
StoppedError with the name, the value and the limit. So does a quantity that could not be read for
`blind_s`: what cannot be seen is not within its limit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from labctl.errors import LabctlError
from labctl.station.limits import Allowed, Limits
from labctl.station.turns import Turns
from labctl.visible import visible_logger

_log = visible_logger(__name__)


@dataclass(frozen=True)
class Watched:
    """One quantity: `read` returns it; `ratio` times that must be within `allowed`."""

    instrument: str
    quantity: str
    read: Callable[[], float]
    allowed: Allowed
    turns: Turns
    ratio: float = 1.0

    def crossed(self) -> str | None:
        """Return what is wrong with the value now, None if nothing is; raises LabctlError."""
        value = self.ratio * float(self.read())
        if self.allowed.low <= value <= self.allowed.high:
            return None
        valid = Limits(self.instrument, {self.quantity: self.allowed}).valid(self.quantity)
        return f"{self.instrument}.{self.quantity} = {value:.6g}, must be {valid}"


class LimitsWatch:
    """Reads all quantities every `every_s`; calls `stop` with the reason when one is beyond."""

    def __init__(
        self,
        watched: Sequence[Watched],
        *,
        every_s: float,
        blind_s: float,
        stop: Callable[[str], None],
    ) -> None:
        self._watched = watched
        self._every_s, self._blind_s, self._stop = every_s, blind_s, stop
        self._ended = threading.Event()
        self._seen_s: dict[int, float] = {}

    def start(self) -> None:
        """Begin to read, in a thread."""
        self._seen_s = dict.fromkeys(range(len(self._watched)), time.monotonic())
        threading.Thread(target=self._run, name="labctl safety: watch", daemon=True).start()

    def end(self) -> None:
        """Read no more; a reading under way is not waited for."""
        self._ended.set()

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._ended.wait(max(due_s - time.monotonic(), 0.0)):
            due_s = max(due_s, time.monotonic() - self._every_s) + self._every_s
            for number, each in enumerate(self._watched):
                reason = self._look(number, each)
                if reason is not None and not self._ended.is_set():
                    self._stop(reason)
                    return

    def _look(self, number: int, each: Watched) -> str | None:
        problem = "its instrument is in use"
        with each.turns.reading(self._every_s) as free:
            if free:
                try:
                    reason = each.crossed()
                except LabctlError as error:
                    problem = str(error)
                except Exception as error:  # a driver may fail in any way
                    problem = f"unexpected {type(error).__name__}: {error}"
                else:
                    self._seen_s[number] = time.monotonic()
                    return reason
        _log.info("watch: %s.%s was not read: %s", each.instrument, each.quantity, problem)
        blind_s = time.monotonic() - self._seen_s[number]
        if blind_s < self._blind_s:
            return None
        return f"{each.instrument}.{each.quantity} was not read for {blind_s:.1f} s: {problem}"
