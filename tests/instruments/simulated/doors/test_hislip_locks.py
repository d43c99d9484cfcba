"""HiSLIP locks: one alone, or several with one key, and no nesting."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.simulated.doors.hislip_locks import LockReply, Locks

A, B, C = "a", "b", "c"


def test_without_locks_everybody_may() -> None:
    locks = Locks()
    assert locks.permits(A)
    assert locks.permits(B)
    assert (locks.is_exclusive, locks.holders) == (False, 0)


def test_an_exclusive_lock_keeps_others_out_until_it_is_released() -> None:
    locks = Locks()
    assert locks.take(A, "") is LockReply.SUCCESS
    assert (locks.permits(A), locks.permits(B)) == (True, False)
    assert locks.take(B, "") is LockReply.FAILURE
    assert locks.take(B, "key") is LockReply.FAILURE
    assert (locks.is_exclusive, locks.holders) == (True, 1)
    assert locks.release(A) is LockReply.SUCCESS
    assert locks.take(B, "") is LockReply.SUCCESS


def test_a_shared_lock_lets_in_who_knows_the_key() -> None:
    locks = Locks()
    assert locks.take(A, "key") is LockReply.SUCCESS
    assert locks.take(B, "other") is LockReply.FAILURE
    assert locks.take(B, "key") is LockReply.SUCCESS
    assert [locks.permits(client) for client in (A, B, C)] == [True, True, False]
    assert (locks.is_exclusive, locks.holders) == (False, 2)


def test_who_shares_may_take_the_exclusive_lock_and_gives_it_back_first() -> None:
    locks = Locks()
    locks.take(A, "key")
    locks.take(B, "key")
    assert locks.take(C, "") is LockReply.FAILURE
    assert locks.take(A, "") is LockReply.SUCCESS
    assert (locks.permits(A), locks.permits(B), locks.holders) == (True, False, 2)
    assert locks.release(A) is LockReply.SUCCESS
    assert locks.permits(B)
    assert locks.release(A) is LockReply.SHARED_RELEASED
    assert locks.release(A) is LockReply.ERROR


@pytest.mark.parametrize("key", ["", "key"])
def test_taking_a_lock_twice_is_an_error(key: str) -> None:
    locks = Locks()
    locks.take(A, key)
    assert locks.take(A, key) is LockReply.ERROR


def test_who_leaves_takes_all_locks_along() -> None:
    locks = Locks()
    locks.take(A, "key")
    locks.take(A, "")
    locks.leave(A)
    assert locks.take(B, "") is LockReply.SUCCESS
    assert locks.holders == 1


ACTIONS: list[Callable[[Locks, str], object]] = [
    lambda locks, client: locks.take(client, ""),
    lambda locks, client: locks.take(client, "one"),
    lambda locks, client: locks.take(client, "two"),
    lambda locks, client: locks.release(client),
    lambda locks, client: locks.leave(client),
]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(ACTIONS) - 1), st.sampled_from((A, B, C)))))
def test_whatever_happens_somebody_may_and_an_exclusive_holder_is_alone(
    steps: list[tuple[int, str]],
) -> None:
    locks = Locks()
    for action, client in steps:
        ACTIONS[action](locks, client)
        permitted = sum(map(locks.permits, (A, B, C)))
        assert permitted >= 1
        if locks.is_exclusive:
            assert permitted == 1
        assert 0 <= locks.holders <= 3
        assert (permitted == 3) or locks.holders
