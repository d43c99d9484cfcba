"""The way out runs to its end: no signal cuts it short, and none is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

import pytest

from labctl.safety import interruptible, uninterrupted

BOTH = [signal.SIGINT, signal.SIGTERM]


def test_ctrl_c_takes_effect_only_after_the_block() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012 - the block is the point
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        reached.append("end")
    assert reached == ["end"]


def test_terminate_takes_effect_only_after_the_block() -> None:
    reached = []
    with (  # noqa: PT012 - the block is the point
        pytest.raises(KeyboardInterrupt),
        interruptible(),
        uninterrupted(),
    ):
        signal.raise_signal(signal.SIGTERM)
        reached.append("end")
    assert reached == ["end"]


def test_an_inner_block_leaves_the_signal_to_the_outer_one() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012 - the block is the point
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
        reached.append("outer")
    assert reached == ["outer"]


@pytest.mark.parametrize("context", [uninterrupted, interruptible])
def test_an_ignored_signal_stays_ignored(
    context: Callable[[], AbstractContextManager[object]],
) -> None:
    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with context():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, previous)


@pytest.mark.parametrize("error", [None, ValueError("wrong")])
@pytest.mark.parametrize("context", [uninterrupted, interruptible])
def test_the_handlers_are_put_back(
    context: Callable[[], AbstractContextManager[object]], error: Exception | None
) -> None:
    before = [signal.getsignal(number) for number in BOTH]
    with suppress(ValueError), context():
        if error is not None:
            raise error
    assert [signal.getsignal(number) for number in BOTH] == before


@pytest.mark.parametrize("context", [uninterrupted, interruptible])
def test_another_thread_may_use_it_too(
    context: Callable[[], AbstractContextManager[object]],
) -> None:
    reached: list[str] = []

    def work() -> None:
        with context():
            reached.append("block")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=10)
    assert reached == ["block"]


class Dropped:
    """Raises a signal where Python drops what its handler raises: in a destructor."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_that_got_lost_is_found_by_the_check(number: int) -> None:
    before = signal.getsignal(number)
    with interruptible() as check:
        check()
        doomed = Dropped(number)
        del doomed
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(number) == before


def test_an_interruption_unwinds_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGTERM)
