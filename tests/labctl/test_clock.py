"""All waiting asks a clock; a wait ends when its condition holds, or on time."""

from __future__ import annotations

import pytest

from labctl.clock import Clock, SystemClock, wait_until


class BenchTime:
    """A clock that passes only while someone sleeps, and notes for how long."""

    def __init__(self) -> None:
        self.slept_s: list[float] = []

    def now_s(self) -> float:
        return sum(self.slept_s)

    def sleep(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)


def test_a_condition_that_holds_is_not_waited_for() -> None:
    clock = BenchTime()
    assert wait_until(lambda: True, clock, timeout_s=1.0)
    assert clock.slept_s == []


def test_a_condition_is_polled_until_it_holds() -> None:
    clock = BenchTime()
    assert wait_until(lambda: clock.now_s() >= 0.35, clock, timeout_s=1.0, interval_s=0.1)
    assert clock.slept_s == [0.1] * 4


def test_a_condition_that_never_holds_ends_with_the_time_out() -> None:
    clock = BenchTime()
    assert not wait_until(lambda: False, clock, timeout_s=1.0, interval_s=0.25)
    assert clock.now_s() == 1.0


def test_a_condition_is_asked_once_more_when_the_time_is_over() -> None:
    clock = BenchTime()
    assert wait_until(lambda: clock.now_s() >= 1.0, clock, timeout_s=1.0, interval_s=0.5)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
def test_without_time_the_condition_is_asked_once(timeout_s: float) -> None:
    clock, answers = BenchTime(), [True, False]
    assert not wait_until(answers.pop, clock, timeout_s=timeout_s)
    assert answers == [True]
    assert clock.slept_s == []


def test_an_error_of_the_condition_comes_through() -> None:
    def fails() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        wait_until(fails, BenchTime(), timeout_s=1.0)


def test_the_system_clock_never_goes_back_and_passes_while_sleeping() -> None:
    clock: Clock = SystemClock()
    times = [clock.now_s() for _ in range(100)]
    assert times == sorted(times)
    before = clock.now_s()
    clock.sleep(0.002)
    assert clock.now_s() - before >= 0.002
