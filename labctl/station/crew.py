"""Threads that do the steps of a teardown, one for each transport, waiting from the opening on.

Instruments on different transports need not wait for each other: a silent instrument holds up its
own wire alone. The threads start when the station is opened: in a program that ends no new one can
be started (from Python 3.12 on), and a program that ran out of memory may not get one either. A
transport without a thread has its steps done by who asks, one after the other.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from labctl.haste import at_most
from labctl.permit import only_while


@dataclass
class CrewTask:
    """A step that was given to a crew: whether it has ended, and how."""

    what: str
    step: Callable[[], object]
    patience_s: float
    ended: threading.Event = field(default_factory=threading.Event)
    began_s: float | None = None
    took_s: float = 0.0
    error: BaseException | None = None

    def run(self) -> None:
        """Do it, and keep what it raises."""
        self.began_s = time.monotonic()
        try:
            with at_most(self.patience_s), only_while(None):
                self.step()
        except BaseException as error:  # raised where it was asked for
            self.error = error
        finally:
            self.took_s = time.monotonic() - self.began_s
            self.ended.set()


class Crew:
    """One thread for each transport of a station."""

    def __init__(self) -> None:
        self._queues: dict[str, queue.SimpleQueue[CrewTask | None]] = {}

    def hire(self, transports: Iterable[str]) -> None:
        """Start a thread for each transport that has none yet."""
        for transport in transports:
            if transport in self._queues:
                continue
            tasks: queue.SimpleQueue[CrewTask | None] = queue.SimpleQueue()
            name = f"labctl safety: {transport}"
            try:
                threading.Thread(target=_work, args=(tasks,), name=name, daemon=True).start()
            except RuntimeError:  # no thread can be started: see above
                continue
            self._queues[transport] = tasks

    def submit(self, transport: str, task: CrewTask) -> CrewTask:
        """Have a step done after those that the transport was given before."""
        if transport in self._queues:
            self._queues[transport].put(task)
        else:
            task.run()
        return task

    def dismiss(self) -> None:
        """Let each thread end after its last step."""
        for tasks in self._queues.values():
            tasks.put(None)
        self._queues = {}


def await_all(tasks: Iterable[CrewTask], until_s: float) -> None:
    """Wait until all have ended, or until the monotonic clock says `until_s`."""
    for task in tasks:
        task.ended.wait(max(until_s - time.monotonic(), 0.0))


def _work(tasks: queue.SimpleQueue[CrewTask | None]) -> None:
    while (task := tasks.get()) is not None:
        task.run()
