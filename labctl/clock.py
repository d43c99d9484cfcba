"""Time as instruments see it: all waiting is done by a clock, so that a bench has its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """A source of time that can also wait."""

    def now_s(self) -> float:
        """Return seconds since an arbitrary but fixed start; never goes back."""
        ...

    def sleep(self, duration_s: float) -> None:
        """Let `duration_s` seconds (0 or more) pass on this clock."""
        ...


class SystemClock:
    """The wall clock, for real instruments."""

    def now_s(self) -> float:
        """Return the machine's monotonic time in s."""
        return time.monotonic()

    def sleep(self, duration_s: float) -> None:
        """Sleep for `duration_s` seconds."""
        time.sleep(duration_s)


def wait_until(
    condition: Callable[[], bool], clock: Clock, timeout_s: float, interval_s: float = 0.05
) -> bool:
    """Poll `condition` every `interval_s` on `clock`; return False if it never held in time."""
    deadline_s = clock.now_s() + timeout_s
    while not condition():
        if clock.now_s() >= deadline_s:
            return False
        clock.sleep(interval_s)
    return True
