"""Turns: a client that sends very much waits for itself, not the others for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.doors.live_bench import LiveBench
from labctl.instruments.simulated.doors.turns import (
    LONGEST_PIECE_BYTES,
    TURN_S,
    Memory,
    message_pieces,
    stream_pieces,
)

WORK_S = 1e-3


class BusyPanel:
    """Takes 1 ms for each line and answers it."""

    def __init__(self, turn_clock: BenchClock) -> None:
        self._turn_clock = turn_clock
        self._waiting: list[bytes] = []
        self.lines = 0

    def write(self, data: bytes, *, end: bool) -> None:
        for line in data.splitlines(keepends=True):
            self._turn_clock.sleep(WORK_S)
            self.lines += 1
            self._waiting.append(line)

    def read(self, limit: int) -> tuple[bytes, bool]:
        return (self._waiting.pop(0), True) if limit and self._waiting else (b"", False)

    def clear(self) -> None:
        self._waiting.clear()

    def status_byte(self) -> int:
        return 0


class Visitor:
    """Counts its replies, and fetches none while `is_full`."""

    def __init__(self) -> None:
        self.replies = 0
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    def deliver(self, data: bytes, *, ends: bool, status: int) -> None:
        self.replies += 1

    def hang_up(self) -> None:
        raise AssertionError("the panel has failed")

    async def room(self) -> None:
        await self.may_go_on.wait()


def busy_bench() -> tuple[LiveBench, Sequence[BusyPanel]]:
    turn_clock = BenchClock()
    panels = [BusyPanel(turn_clock), BusyPanel(turn_clock)]
    bench = LiveBench({"a": panels[0], "b": panels[1]}, BenchClock(), BenchClock(), turn_clock)
    return bench, panels


@pytest.mark.parametrize("door", ["stream", "message", "messages"])
def test_others_are_served_after_a_turn_of_one_that_pipelines(door: str) -> None:
    async def story() -> None:
        bench, (a, b) = busy_bench()
        greedy, modest = Visitor(), Visitor()
        lines = [b"*IDN?\n"] * 5000

        async def pour() -> None:
            if door == "stream":
                await bench.panels["a"].take_stream(b"".join(lines), greedy, greedy.room)
            elif door == "message":
                await bench.panels["a"].take_message(lines, greedy, lambda: True)
            else:
                for line in lines:
                    await bench.panels["a"].take_message([line], greedy, lambda: True)

        pouring = asyncio.create_task(pour())
        await asyncio.sleep(0)
        for asked in range(1, 101):
            before = a.lines
            await bench.panels["b"].take_message([b"?\n"], modest, lambda: True)
            await asyncio.sleep(0)
            assert modest.replies == asked == b.lines
            assert a.lines - before <= 3 * TURN_S / WORK_S
        assert a.lines < 1000
        await pouring
        assert (a.lines, greedy.replies) == (5000, 5000)
        bench.close()

    asyncio.run(story())


def test_two_hundred_that_pipeline_come_round_in_equal_shares() -> None:
    async def story() -> None:
        bench, (a, _) = busy_bench()
        visitors = [Visitor() for _ in range(200)]
        data = b"*IDN?\n" * 2000

        async def pour(visitor: Visitor) -> None:
            await bench.panels["a"].take_stream(data, visitor, visitor.room)

        tasks = [asyncio.create_task(pour(visitor)) for visitor in visitors]
        while a.lines < 4000:
            await asyncio.sleep(0)
        shares = [visitor.replies for visitor in visitors]
        assert min(shares) >= 10
        assert max(shares) <= 30
        for task in tasks:
            task.cancel()
        bench.close()

    asyncio.run(story())


def test_who_fetches_no_replies_is_not_listened_to() -> None:
    async def story() -> None:
        bench, (a, _) = busy_bench()
        visitor = Visitor()
        visitor.may_go_on.clear()
        task = asyncio.create_task(
            bench.panels["a"].take_stream(b"*IDN?\n" * 100, visitor, visitor.room)
        )
        for _ in range(20):
            await asyncio.sleep(0)
        assert a.lines == 1
        visitor.may_go_on.set()
        await task
        assert a.lines == 100
        bench.close()

    asyncio.run(story())


def test_a_message_that_is_no_longer_wanted_ends_where_it_is() -> None:
    async def story() -> None:
        bench, (a, _) = busy_bench()
        await bench.panels["a"].take_message([b"*IDN?\n"] * 900, Visitor(), lambda: a.lines < 7)
        assert a.lines == 7
        bench.close()

    asyncio.run(story())


def test_lines_of_another_client_do_not_come_between_those_of_a_message() -> None:
    async def story() -> None:
        bench, (a, _) = busy_bench()
        order: list[str] = []

        async def say(name: str) -> None:
            await bench.panels["a"].take_message([b"*IDN?\n"] * 50, Visitor(), lambda: True)
            order.append(f"{name} {a.lines}")

        await asyncio.gather(say("first"), say("second"))
        assert order == ["first 50", "second 100"]
        bench.close()

    asyncio.run(story())


PIECES = st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"#", b"\n")), max_size=8)


@settings(deadline=None)
@given(PIECES)
def test_no_byte_is_lost_or_added_by_cutting(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert b"".join(stream_pieces(whole)) == whole
    assert b"".join(message_pieces(pieces)) == whole
    assert all(piece.count(b"\n") <= 1 for piece in stream_pieces(whole))


def test_what_has_no_newline_is_cut_by_length_and_an_indefinite_block_is_not() -> None:
    assert max(map(len, stream_pieces(bytes(5000)))) == LONGEST_PIECE_BYTES
    block = b"DAT #0" + bytes(5000) + b"\n\n"
    assert list(stream_pieces(b"*CLS\n" + block)) == [b"*CLS\n", block]


def test_a_block_that_holds_newlines_stays_whole() -> None:
    block = b"DAT #3200" + b"\n" * 200 + b"\n"
    assert list(message_pieces([b"*CLS\n" + block[:50], block[50:] + b"*IDN?\n"])) == [
        b"*CLS\n",
        block,
        b"*IDN?\n",
    ]


def test_memory_is_given_up_to_its_limit_and_again_once_given_back() -> None:
    memory = Memory(100)
    assert memory.take(60)
    assert not memory.take(41)
    assert memory.take(40)
    memory.give_back(60)
    assert memory.take(60)
