"""HiSLIP clients that fall silent: what they hold goes to others, on a clock of the test's."""

from __future__ import annotations

import asyncio
import selectors
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.doors import hislip
from labctl.instruments.simulated.doors.hislip import HislipServer
from labctl.instruments.simulated.doors.live_bench import LiveBench
from labctl.instruments.simulated.doors.tcp import LOOPBACK, Listener
from labctl.instruments.simulated.doors.turns import Memory

HEADER = struct.Struct("!2sBBIQ")
FATAL, ERROR, LOCK, LOCKED, DATA, DATA_END = 2, 3, 4, 5, 6, 7


class Echo:
    """Answers each line with itself."""

    def __init__(self) -> None:
        self._received = b""

    def write(self, data: bytes, *, end: bool) -> None:
        self._received += data

    def read(self, limit: int) -> tuple[bytes, bool]:
        if not limit or b"\n" not in self._received:
            return b"", False
        line, _, self._received = self._received.partition(b"\n")
        return line + b"\n", True

    def clear(self) -> None:
        self._received = b""

    def status_byte(self) -> int:
        return 0


class _Skipping(selectors.DefaultSelector):
    """Instead of waiting for a time, lets that time pass on a clock."""

    def __init__(self, clock: BenchClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0.0 if timeout is not None else None)
        if not found and timeout:
            self._clock.sleep(timeout)
        return found


OPENED: list[asyncio.StreamWriter] = []


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection that is closed when the story ends."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    OPENED.append(writer)
    return reader, writer


class Client:
    """One session with its two channels."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self, *, both: bool = True) -> Client:
        self._reader, self._writer = await connect(self._port)
        self.send(0, b"hislip0", parameter=0x0100_0000)
        if both:
            _, _, parameter, _ = await self.receive()
            self._other_reader, self._other = await connect(self._port)
            self._other.write(HEADER.pack(b"HS", 17, 0, parameter & 0xFFFF, 0))
            await self._other_reader.readexactly(16)
        return self

    def send(self, kind: int, payload: bytes = b"", parameter: int = 0) -> None:
        self._writer.write(HEADER.pack(b"HS", kind, 0, parameter, len(payload)) + payload)

    async def receive(self) -> tuple[int, int, int, bytes]:
        _, kind, control, parameter, length = HEADER.unpack(await self._reader.readexactly(16))
        return kind, control, parameter, await self._reader.readexactly(length)

    async def lock(self, patience_s: float) -> int:
        milliseconds = round(1e3 * patience_s)
        self._other.write(HEADER.pack(b"HS", LOCK, 1, milliseconds, 0))
        _, _, reply, _, _ = HEADER.unpack(await self._other_reader.readexactly(16))
        return int(reply)

    async def ask(self, text: bytes) -> bytes:
        self.send(DATA_END, text)
        return (await self.receive())[3]

    async def is_over(self) -> bool:
        return await self._reader.read(1) == b""


Story = Callable[[int, BenchClock, LiveBench], Coroutine[Any, Any, None]]


def told(story: Story) -> None:
    """Run a story against a HiSLIP server, with time that passes when all wait."""
    clock = BenchClock()
    loop = asyncio.SelectorEventLoop(_Skipping(clock))
    loop.time = clock.now_s  # type: ignore[method-assign]

    async def whole() -> None:
        bench = LiveBench({"echo": Echo()}, BenchClock(), clock)
        listener = Listener(HislipServer(bench.panels["echo"]).serve)
        port = await listener.open()
        try:
            await story(port, clock, bench)
        finally:
            bench.close()
            await listener.close()
            while OPENED:
                writer = OPENED.pop()
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
            for _ in range(3):
                await asyncio.sleep(0)

    try:
        loop.run_until_complete(whole())
    finally:
        loop.close()


def test_who_never_says_what_it_wants_is_sent_away_after_ten_seconds() -> None:
    async def story(port: int, clock: BenchClock, bench: LiveBench) -> None:
        reader, _ = await connect(port)
        header = HEADER.unpack(await reader.readexactly(16))
        assert header[1] == FATAL
        assert b"silent for 10 s" in await reader.read()
        assert clock.now_s() == pytest.approx(10.0, abs=0.5)

    told(story)


def test_a_session_without_its_second_channel_ends_after_ten_seconds() -> None:
    async def story(port: int, clock: BenchClock, bench: LiveBench) -> None:
        client = await Client(port).open(both=False)
        assert (await client.receive())[0] == 1
        kind, _, _, text = await client.receive()
        assert (kind, text) == (FATAL, b"no asynchronous channel within 10 s")
        assert await client.is_over()

    told(story)


def test_a_message_that_stops_in_the_middle_ends_its_session_and_one_between_messages_not() -> None:
    async def story(port: int, clock: BenchClock, bench: LiveBench) -> None:
        patient, stuck = await Client(port).open(), await Client(port).open()
        stuck._writer.write(HEADER.pack(b"HS", DATA_END, 0, 0, 1000) + b"half")
        kind, _, _, text = await stuck.receive()
        assert (kind, text) == (FATAL, b"silent for 10 s where a message was due")
        await asyncio.sleep(36_000.0)
        assert await patient.ask(b"still here\n") == b"still here\n"

    told(story)


def test_an_unfinished_message_is_given_up_after_a_minute_and_its_memory_with_it() -> None:
    async def story(port: int, clock: BenchClock, bench: LiveBench) -> None:
        bench.memory = Memory(1000)
        holder, other = await Client(port).open(), await Client(port).open()
        holder.send(DATA, bytes(600))
        other.send(DATA_END, bytes(600))
        kind, code, _, text = await other.receive()
        assert (kind, code) == (ERROR, 4)
        assert text == b"all unfinished messages have at most 1000 bytes together"
        assert (await holder.receive())[0] == FATAL
        assert clock.now_s() == pytest.approx(60.0, abs=2.0)
        assert await other.ask(b"x" * 600 + b"\n") == b"x" * 600 + b"\n"

    told(story)


def test_at_the_maximum_the_most_silent_makes_room_once_it_was_silent_for_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hislip, "MOST_SESSIONS", 2)

    async def story(port: int, clock: BenchClock, bench: LiveBench) -> None:
        silent, busy = await Client(port).open(), await Client(port).open()
        refused = await Client(port).open(both=False)
        assert (await refused.receive())[:2] == (FATAL, 4)
        await asyncio.sleep(61.0)
        assert await busy.ask(b"hello\n") == b"hello\n"
        new = await Client(port).open()
        assert (await silent.receive())[0] == FATAL
        assert await new.ask(b"new\n") == b"new\n"
        assert await busy.ask(b"hello\n") == b"hello\n"

    told(story)


def test_a_lock_of_one_that_is_silent_for_five_minutes_goes_to_one_that_waits() -> None:
    async def story(port: int, clock: BenchClock, bench: LiveBench) -> None:
        holder, other = await Client(port).open(), await Client(port).open()
        assert await holder.lock(1.0) == 1
        assert await other.lock(200.0) == 0
        assert await other.lock(200.0) == 1
        assert clock.now_s() == pytest.approx(300.0, abs=2.0)
        holder.send(DATA_END, b"late\n")
        assert await other.ask(b"mine\n") == b"mine\n"

    told(story)


def test_a_message_held_back_by_a_silent_lock_is_carried_out_after_five_minutes() -> None:
    async def story(port: int, clock: BenchClock, bench: LiveBench) -> None:
        holder, other = await Client(port).open(), await Client(port).open()
        assert await holder.lock(1.0) == 1
        assert await other.ask(b"mine\n") == b"mine\n"
        assert clock.now_s() == pytest.approx(300.0, abs=2.0)

    told(story)


def test_two_hundred_sessions_are_served() -> None:
    async def story(port: int, clock: BenchClock, bench: LiveBench) -> None:
        clients = [await Client(port).open() for _ in range(200)]
        for number, client in enumerate(clients):
            assert await client.ask(b"%d\n" % number) == b"%d\n" % number

    told(story)
