"""The light goes from session to session: in turns, fair by light time, never out of a batch."""

from __future__ import annotations

import threading

import pytest

from labctl.errors import AbortedError
from labctl.parties.lease import Lease, Turn


class Hand:
    """A clock moved by hand, in s."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def __call__(self) -> float:
        return self.time_s


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def lease(clock: Hand) -> Lease:
    return Lease(clock, turn_s=60.0, rest_s=2.0, say_s=0.0)


def has(turn: Turn) -> bool:
    """Return whether a session still has the light."""
    return turn.use()


class Waiting:
    """A session that waits in its own thread."""

    def __init__(self, lease: Lease, client: str) -> None:
        self.turn = lease.turn(client)
        self.places: list[int] = []
        self._heard = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()
        self.hear()

    def _take(self) -> None:
        self.turn.take(self._say)

    def _say(self, ahead: int) -> None:
        self.places.append(ahead)
        self._heard.set()

    def hear(self) -> None:
        """Return once it was said again how many are before the session."""
        self._heard.clear()
        assert self._heard.wait(20.0)

    def gets_it(self) -> None:
        """Return once it has the light."""
        self._thread.join(20.0)
        assert not self._thread.is_alive()
        assert has(self.turn)


def test_a_session_keeps_the_light_while_nobody_waits(lease: Lease, clock: Hand) -> None:
    turn = lease.turn("alice")
    assert not has(turn)
    turn.take()
    for _ in range(5):
        turn.rest()
        clock.time_s += 500.0
        assert has(turn)


def test_light_in_use_is_not_taken_however_long_it_lasts(lease: Lease, clock: Hand) -> None:
    alice = lease.turn("alice")
    alice.take()
    bob = Waiting(lease, "bob")
    clock.time_s += 500.0
    bob.hear()
    assert has(alice)
    assert set(bob.places) == {1}
    alice.rest()
    bob.gets_it()
    assert not has(alice)


@pytest.mark.parametrize(("in_use_s", "silent_s"), [(59.0, 1.9), (0.0, 1.9)])
def test_a_short_pause_within_a_turn_loses_nothing(
    lease: Lease, clock: Hand, in_use_s: float, silent_s: float
) -> None:
    alice = lease.turn("alice")
    alice.take()
    clock.time_s += min(in_use_s, 58.0)
    alice.rest()
    bob = Waiting(lease, "bob")
    clock.time_s += silent_s
    bob.hear()
    assert has(alice)
    alice.leave()
    bob.gets_it()


@pytest.mark.parametrize(("in_use_s", "silent_s"), [(60.0, 0.0), (0.0, 2.0)])
def test_a_turn_that_is_over_or_a_client_that_is_silent_loses_the_light_between_batches(
    lease: Lease, clock: Hand, in_use_s: float, silent_s: float
) -> None:
    alice = lease.turn("alice")
    alice.take()
    bob = Waiting(lease, "bob")
    clock.time_s += in_use_s
    alice.rest()
    clock.time_s += silent_s
    bob.gets_it()
    assert not has(alice)


def test_the_client_that_had_least_light_is_next(lease: Lease, clock: Hand) -> None:
    """Three take turns of 10, 5 and 5 s: who had 10 s comes after both others have had theirs."""
    turn = lease.turn("alice")
    turn.take()
    bob, carol = Waiting(lease, "bob"), Waiting(lease, "carol")
    clock.time_s += 10.0
    turn.leave()
    alice = Waiting(lease, "alice")
    bob.gets_it()
    again = Waiting(lease, "bob")
    clock.time_s += 5.0
    bob.turn.leave()
    carol.gets_it()
    clock.time_s += 5.0
    carol.turn.leave()
    again.gets_it()
    alice.hear()
    assert alice.places[-1] == 1
    clock.time_s += 5.1
    again.turn.leave()
    alice.gets_it()


def test_light_that_nobody_else_wanted_counts_for_nothing(lease: Lease, clock: Hand) -> None:
    alice = lease.turn("alice")
    alice.take()
    clock.time_s += 1e4
    bob = Waiting(lease, "bob")
    clock.time_s += 2.0
    alice.leave()
    bob.gets_it()
    first, second = Waiting(lease, "alice"), Waiting(lease, "bob")
    clock.time_s += 3.0
    bob.turn.leave()
    first.gets_it()
    first.turn.leave()
    second.gets_it()


def test_sessions_of_one_client_share_its_light_time(lease: Lease, clock: Hand) -> None:
    one = lease.turn("alice")
    one.take()
    other = Waiting(lease, "alice")
    bob = Waiting(lease, "bob")
    clock.time_s += 30.0
    one.leave()
    bob.gets_it()
    bob.turn.leave()
    other.gets_it()


def test_patience_has_an_end_and_leaves_no_place_behind(lease: Lease, clock: Hand) -> None:
    alice, bob = lease.turn("alice"), lease.turn("bob")
    alice.take()

    def later(ahead: int) -> None:
        clock.time_s += 100.0

    with pytest.raises(AbortedError) as refused:
        bob.take(later, patience_s=300.0)
    assert refused.value.code == "too-many"
    assert not lease.wanted


def test_a_session_that_ends_while_it_waits_leaves_no_place_behind(lease: Lease) -> None:
    alice, bob = lease.turn("alice"), lease.turn("bob")
    alice.take()

    def gone(ahead: int) -> None:
        raise AbortedError("client", "peer-lost", "it left")

    with pytest.raises(AbortedError, match="it left"):
        bob.take(gone)
    assert not lease.wanted
    alice.leave()
    carol = lease.turn("carol")
    carol.take()
    assert has(carol)


def test_leaving_without_the_light_takes_it_from_nobody(lease: Lease) -> None:
    alice, bob = lease.turn("alice"), lease.turn("bob")
    alice.take()
    bob.rest()
    bob.leave()
    assert has(alice)
