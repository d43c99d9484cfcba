"""The bench's own time: it advances when a message crosses the wire or when a caller waits."""

from __future__ import annotations


class BenchClock:
    """A clock that only moves when it is advanced; satisfies `labctl.clock.Clock`."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now_s(self) -> float:
        """Return bench time in s."""
        return self._now_s

    def sleep(self, duration_s: float) -> None:
        """Let bench time pass; raises ValueError for a negative duration."""
        if duration_s < 0.0:
            raise ValueError(f"cannot sleep for {duration_s} s")
        self._now_s += duration_s
