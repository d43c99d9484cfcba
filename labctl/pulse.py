"""When this process last did bench work: what its heartbeat to the watchdog is made of."""

from __future__ import annotations

import time


class Pulse:
    """The time of the last transaction with any instrument, in s of the monotonic clock."""

    def __init__(self) -> None:
        self.last_s = -float("inf")

    def beat(self) -> None:
        """A transaction has ended: bench work goes on."""
        self.last_s = time.monotonic()


pulse = Pulse()
"""Of this process."""
