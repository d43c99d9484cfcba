"""One bench behind many doors: whose reply it is, what time it is, who fails alone."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.doors.live_bench import LiveBench
from labctl.instruments.simulated.panel import FrontPanel
from labctl.instruments.simulated.visa_session import TimeoutWitness

MESSAGE_WAITS = 16


class EchoPanel:
    """Answers each line with itself once `ready` says so; a bus of IEEE 488.2."""

    def __init__(self, ready: Callable[[], bool] = lambda: True) -> None:
        self._ready = ready
        self.received = b""
        self.cleared = 0

    def write(self, data: bytes, *, end: bool) -> None:
        if data == b"die\n":
            raise ZeroDivisionError("dead")
        self.received += data

    def read(self, limit: int) -> tuple[bytes, bool]:
        if not limit or b"\n" not in self.received or not self._ready():
            return b"", False
        line, _, self.received = self.received.partition(b"\n")
        return line + b"\n", True

    def clear(self) -> None:
        self.received = b""
        self.cleared += 1

    def status_byte(self) -> int:
        return 1 | (MESSAGE_WAITS if b"\n" in self.received else 0)

    def read_timed_out(self) -> None:
        """Nothing to note."""


class SilentPanel:
    """Knows no bus: takes and says nothing."""

    def __init__(self) -> None:
        self.received = b""

    def write(self, data: bytes, *, end: bool) -> None:
        self.received += data

    def read(self, limit: int) -> tuple[bytes, bool]:
        return b"", False

    def clear(self) -> None:
        self.received = b""

    def status_byte(self) -> int:
        return 0


class Visitor:
    """A client that keeps what it gets."""

    def __init__(self) -> None:
        self.replies: list[tuple[bytes, bool, int]] = []
        self.is_cut = False
        self.came = asyncio.Event()

    def deliver(self, data: bytes, *, ends: bool, status: int) -> None:
        self.replies.append((data, ends, status))
        self.came.set()

    def hang_up(self) -> None:
        self.is_cut = True


def live(wall: BenchClock, **panels: FrontPanel) -> tuple[LiveBench, BenchClock]:
    clock = BenchClock(100.0)
    return LiveBench(panels, clock, wall), clock


def test_bench_time_is_wall_time_plus_what_commands_take() -> None:
    wall = BenchClock(7.0)
    bench, clock = live(wall)
    bench.follow()
    assert clock.now_s() == 100.0
    wall.sleep(2.5)
    bench.follow()
    assert clock.now_s() == 102.5
    clock.sleep(10.0)
    bench.follow()
    assert clock.now_s() == 112.5
    wall.sleep(1.0)
    bench.follow()
    assert clock.now_s() == 113.5


def test_a_reply_goes_to_who_wrote_with_the_status_bits_of_its_waiting() -> None:
    async def story() -> None:
        bench, _ = live(BenchClock(), echo=EchoPanel())
        panel, first, second = bench.panels["echo"], Visitor(), Visitor()
        panel.write([b"a", b"b\n"], first, end=True)
        panel.write([b"c\n"], second, end=True)
        assert first.replies == [(b"ab\n", True, MESSAGE_WAITS)]
        assert second.replies == [(b"c\n", True, MESSAGE_WAITS)]
        assert panel.serial_poll() == 1
        bench.close()

    asyncio.run(story())


def test_a_reply_that_takes_time_comes_when_the_bench_is_there() -> None:
    async def story() -> None:
        wall, visitor = BenchClock(), Visitor()
        clock = BenchClock()
        bench = LiveBench({"echo": EchoPanel(lambda: clock.now_s() >= 3.0)}, clock, wall)
        bench.panels["echo"].write([b"later\n"], visitor, end=True)
        assert not visitor.replies
        wall.sleep(3.0)
        await asyncio.wait_for(visitor.came.wait(), 10.0)
        assert visitor.replies == [(b"later\n", True, MESSAGE_WAITS)]
        bench.close()

    asyncio.run(story())


def test_writing_to_one_panel_lets_the_others_go_on_at_once() -> None:
    async def story() -> None:
        trigger, visitor = SilentPanel(), Visitor()
        waiting = EchoPanel(lambda: trigger.received == b"pulse\n")
        bench, _ = live(BenchClock(), scope=waiting, generator=trigger)
        bench.panels["scope"].write([b"digitize\n"], visitor, end=True)
        assert not visitor.replies
        bench.panels["generator"].write([b"pulse\n"], Visitor(), end=True)
        assert [data for data, _, _ in visitor.replies] == [b"digitize\n"]
        bench.close()

    asyncio.run(story())


def test_who_leaves_takes_along_what_was_under_way_with_it_and_nothing_else() -> None:
    async def story() -> None:
        echo, visitor, other = EchoPanel(), Visitor(), Visitor()
        bench, _ = live(BenchClock(), echo=echo)
        panel = bench.panels["echo"]
        panel.write([b"half a li"], visitor, end=False)
        panel.leave(other)
        assert (echo.received, echo.cleared) == (b"half a li", 0)
        assert panel.is_in_use
        panel.leave(visitor)
        assert (echo.received, echo.cleared) == (b"", 1)
        assert not panel.is_in_use
        bench.close()

    asyncio.run(story())


def test_a_panel_that_fails_is_reported_and_cut_off_alone() -> None:
    async def story() -> None:
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        bench, _ = live(BenchClock(), bad=EchoPanel(), good=EchoPanel())
        unlucky, other = Visitor(), Visitor()
        bench.panels["bad"].write([b"die\n"], unlucky, end=True)
        bench.panels["good"].write([b"fine\n"], other, end=True)
        assert unlucky.is_cut
        assert not other.is_cut
        assert [data for data, _, _ in other.replies] == [b"fine\n"]
        assert len(reports) == 1
        assert "'bad'" in reports[0]["message"]
        assert isinstance(reports[0]["exception"], ZeroDivisionError)
        bench.close()

    asyncio.run(story())


@pytest.mark.parametrize("panel", [EchoPanel(), SilentPanel()])
def test_a_trigger_is_trg_on_a_bus_and_nothing_elsewhere(panel: EchoPanel | SilentPanel) -> None:
    async def story() -> None:
        bench, _ = live(BenchClock(), panel=panel)
        visitor = Visitor()
        await bench.panels["panel"].trigger(visitor, lambda: True)
        heard = [data for data, _, _ in visitor.replies]
        assert heard == ([b"*TRG\n"] if isinstance(panel, TimeoutWitness) else [])
        assert isinstance(panel, EchoPanel) or panel.received == b""
        bench.close()

    asyncio.run(story())
