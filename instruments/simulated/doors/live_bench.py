"""One bench behind many doors: panels are called one at a time, bench time follows the wall clock.

Bench time is the wall time since the doors opened, plus what commands themselves take on the bench
(a record's length, a meter's averaging), which they answer at once. So a caller that sleeps on
the wall sees at least as much time pass on the bench, and nothing else makes it run ahead.

All calls come from one event loop; that is what serialises them. A panel has one input and one
output, as an instrument on GPIB: a reply goes to the client that wrote last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from labctl.clock import Clock, SystemClock
from labctl.instruments.simulated.panel import (
    EVERYTHING,
    ConnectionLostError,
    FrontPanel,
    serial_poll,
)
from labctl.instruments.simulated.visa_session import TimeoutWitness

# Between looks for replies: soon after a client wrote, then each twice as late.
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 1e-3, 50e-3


class Client(Protocol):
    """Somebody at a door."""

    def deliver(self, data: bytes, *, ends: bool, status: int) -> None:
        """Take a reply; `status` holds the bits of the status byte that are set by its waiting."""
        ...

    def hang_up(self) -> None:
        """Cut the connection: the panel has failed."""
        ...


class LiveBench:
    """A bench's panels and its clock, which follows `wall`.

    While a client is connected that has written something, panels are polled for replies that
    take time, at growing intervals up to 50 ms; every write polls all of them at once, for an
    instrument may trigger another.
    """

    def __init__(
        self, panels: Mapping[str, FrontPanel], clock: Clock, wall: Clock | None = None
    ) -> None:
        self._clock, self._wall = clock, wall or SystemClock()
        self._followed_s = self._wall.now_s()
        self.panels = {name: LivePanel(name, panel, self) for name, panel in panels.items()}
        self._timer: asyncio.TimerHandle | None = None
        self._pause_s = 0.0

    def follow(self) -> None:
        """Let the time pass on the bench that passed on the wall since the last call."""
        now_s = self._wall.now_s()
        self._clock.sleep(max(now_s - self._followed_s, 0.0))
        self._followed_s = max(now_s, self._followed_s)

    def settle(self) -> None:
        """Let every panel continue, and deliver its replies."""
        self.follow()
        for panel in self.panels.values():
            panel.go_on()

    def written(self) -> None:
        """A client has written: settle now, and keep looking."""
        self.settle()
        if self._timer is None or self._pause_s > SHORTEST_PAUSE_S:
            self._look_after(SHORTEST_PAUSE_S)

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_after(self, pause_s: float) -> None:
        self.close()
        self._pause_s = pause_s
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._look)

    def _look(self) -> None:
        self._timer = None
        self.settle()
        if any(panel.is_in_use for panel in self.panels.values()):
            self._look_after(min(2.0 * self._pause_s, LONGEST_PAUSE_S))


class LivePanel:
    """A panel and the client that wrote to it last, to whom its replies go.

    A panel that raises has failed: this is reported to the event loop's exception handler, its
    client is cut off, and the others continue.
    """

    def __init__(self, name: str, panel: FrontPanel, bench: LiveBench) -> None:
        self.name, self._panel, self._bench = name, panel, bench
        self._talker: Client | None = None

    @property
    def is_in_use(self) -> bool:
        """Whether a client that wrote to it is still connected."""
        return self._talker is not None

    def write(self, pieces: Sequence[bytes], client: Client, *, end: bool) -> None:
        """Hand over bytes without others in between; `end`: END came with the last."""
        self._bench.follow()
        self._talker = client
        try:
            for number, piece in enumerate(pieces, start=1):
                self._panel.write(piece, end=end and number == len(pieces))
        except Exception as error:  # an error of a panel must not end the bench
            self._fail(error)
        self._bench.written()

    def trigger(self, client: Client) -> None:
        """Pass on a bus trigger, which is *TRG to a panel of IEEE 488.2 and nothing to others."""
        if isinstance(self._panel, TimeoutWitness):
            self.write([b"*TRG\n"], client, end=True)

    def clear(self) -> None:
        """Clear the device."""
        self._bench.follow()
        self._panel.clear()

    def serial_poll(self) -> int:
        """Poll it; the byte is without what replies add that were delivered already."""
        self._bench.settle()
        return serial_poll(self._panel)

    def leave(self, client: Client) -> None:
        """A client is gone, and what was under way with it: half a message, a reply to come."""
        if self._talker is client:
            self._talker = None
            self.clear()

    def go_on(self) -> None:
        """Continue a message that had to wait, and deliver the replies that wait."""
        if self._talker is None:
            return
        try:
            self._deliver(self._talker)
        except Exception as error:  # an error of a panel must not end the bench
            self._fail(error)

    def _deliver(self, client: Client) -> None:
        self._panel.read(0)
        before = self._panel.status_byte()
        replies = []
        while (reply := self._panel.read(EVERYTHING))[0]:
            replies.append(reply)
        if replies:
            owed = before & ~self._panel.status_byte()
            for data, ends in replies:
                client.deliver(data, ends=ends, status=owed)

    def _fail(self, error: Exception) -> None:
        client, self._talker = self._talker, None
        if client is not None:
            client.hang_up()
        if isinstance(error, ConnectionLostError):
            return
        report = {"message": f"panel {self.name!r} failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(report)
