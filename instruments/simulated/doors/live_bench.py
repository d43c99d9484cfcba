"""One bench behind many doors: panels are called one at a time, bench time follows the wall clock.

Bench time is the wall time since the doors opened, plus what commands themselves take on the bench
(a record's length, a meter's averaging), which they answer at once. So a caller that sleeps on
the wall sees at least as much time pass on the bench, and nothing else makes it run ahead.

All calls come from one event loop; that is what serialises them. Clients have turns of bounded
work (`turns`): one that sends half a million commands holds up nobody else. A panel has one input
and one output, as an instrument on GPIB: a reply goes to the client that wrote last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

from labctl.clock import Clock, SystemClock
from labctl.instruments.simulated.doors.turns import (
    LONGEST_PIECE_BYTES,
    TURN_S,
    Memory,
    message_pieces,
    stream_pieces,
)
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
    """A bench's panels and its clock, which follows `wall`; `turn_clock` measures turns.

    While a client is connected that has written something, panels are polled for replies that
    take time, at growing intervals up to 50 ms; every write polls all of them at once, for an
    instrument may trigger another.
    """

    def __init__(
        self,
        panels: Mapping[str, FrontPanel],
        clock: Clock,
        wall: Clock | None = None,
        turn_clock: Clock | None = None,
    ) -> None:
        self._clock, self._wall = clock, wall or SystemClock()
        self._turn_clock, self.memory = turn_clock or SystemClock(), Memory()
        self._followed_s = self._wall.now_s()
        self.panels = {name: LivePanel(name, panel, self) for name, panel in panels.items()}
        self._timer: asyncio.TimerHandle | None = None
        self._pause_s = 0.0
        self._turns_begun_s: dict[Client, float] = {}

    def follow(self) -> None:
        """Let the time pass on the bench that passed on the wall since the last call."""
        now_s = self._wall.now_s()
        self._clock.sleep(max(now_s - self._followed_s, 0.0))
        self._followed_s = max(now_s, self._followed_s)

    async def give_way(self, client: Client) -> None:
        """Let the others have their turn, if this client's has lasted long enough.

        Call it before every piece of work. A turn begins with the first one in a round of the
        event loop.
        """
        now_s = self._turn_clock.now_s()
        if not self._turns_begun_s:
            asyncio.get_running_loop().call_soon(self._turns_begun_s.clear)
        if now_s - self._turns_begun_s.setdefault(client, now_s) >= TURN_S:
            await asyncio.sleep(0)

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
        self._message = asyncio.Lock()

    @property
    def memory(self) -> Memory:
        """What unfinished messages may hold, all those of the bench together."""
        return self._bench.memory

    @property
    def is_in_use(self) -> bool:
        """Whether a client that wrote to it is still connected."""
        return self._talker is not None

    def write(self, pieces: Sequence[bytes], client: Client, *, end: bool) -> None:
        """Hand over bytes at once; `end`: END came with the last."""
        self._hand_over(pieces, client, end=end)
        self._bench.written()

    def _hand_over(self, pieces: Sequence[bytes], client: Client, *, end: bool) -> None:
        self._bench.follow()
        self._talker = client
        try:
            for number, piece in enumerate(pieces, start=1):
                self._panel.write(piece, end=end and number == len(pieces))
        except Exception as error:  # an error of a panel must not end the bench
            self._fail(error)

    async def give_way(self, client: Client) -> None:
        """Let others have their turn; before each of what a client can ask in quick succession."""
        await self._bench.give_way(client)

    async def take_stream(
        self, data: bytes, client: Client, room: Callable[[], Awaitable[None]]
    ) -> None:
        """Take what came on a wire without END, in turns; others may write between two of them.

        `room` returns when there is room for further replies.
        """
        await self._bench.give_way(client)
        await self._in_turns(stream_pieces(data), client, room)

    async def take_message(
        self, pieces: Sequence[bytes], client: Client, wanted: Callable[[], bool]
    ) -> None:
        """Take a message that END came with, in turns, without others in between.

        What is left is dropped once it is no longer `wanted`.
        """
        await self._bench.give_way(client)
        async with self._message:
            if sum(map(len, pieces)) <= LONGEST_PIECE_BYTES and not b"".join(pieces)[:-1].count(
                b"\n"
            ):
                if wanted():
                    self.write(pieces, client, end=True)
                return

            async def room() -> None:
                """Replies of HiSLIP are kept, or dropped, by their session."""

            await self._in_turns(message_pieces(pieces), client, room, wanted)

    async def _in_turns(
        self,
        pieces: Iterable[bytes],
        client: Client,
        room: Callable[[], Awaitable[None]],
        wanted: Callable[[], bool] | None = None,
    ) -> None:
        """Write piece by piece; `wanted` is given for what ends with END."""
        following = iter(pieces)
        piece = next(following, None)
        while piece is not None and (wanted is None or wanted()):
            ahead = next(following, None)
            self._hand_over([piece], client, end=wanted is not None and ahead is None)
            self.go_on()
            await room()
            await self._bench.give_way(client)
            piece = ahead
        self._bench.written()

    async def trigger(self, client: Client, wanted: Callable[[], bool]) -> None:
        """Pass on a bus trigger, which is *TRG to a panel of IEEE 488.2 and nothing to others."""
        if isinstance(self._panel, TimeoutWitness):
            await self.take_message([b"*TRG\n"], client, wanted)

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
