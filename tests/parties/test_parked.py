"""What is kept of sessions that lost their client between two queries, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

pytest.importorskip("google.protobuf", reason="needs labctl[parties]")

from labctl.parties.parked import MOST_PARKED, ParkedSessions, Served
from labctl.parties.server_session import ServerSession


@dataclass
class Clock:
    """A clock moved by hand, in s."""

    time_s: float = 0.0

    def __call__(self) -> float:
        return self.time_s


@dataclass
class Kept:
    """Sessions to keep, and which of them have ended."""

    ended: list[bytes] = field(default_factory=list)

    def session(self, number: int) -> Served:
        """Return a session of a number."""
        name = bytes([number])

        def end(error: BaseException | None) -> None:
            assert "did not come back" in str(error)
            self.ended.append(name)

        session = SimpleNamespace(talk=SimpleNamespace(session=name))
        return Served(cast(ServerSession, session), Path("run.h5"), end)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def parked(clock: Clock) -> ParkedSessions:
    return ParkedSessions(600.0, clock)


def test_a_session_is_taken_once(parked: ParkedSessions) -> None:
    kept = Kept()
    one = kept.session(1)
    parked.keep(one)
    assert parked.take(b"\x02") is None
    assert parked.take(b"\x01") is one
    assert parked.take(b"\x01") is None
    assert kept.ended == []


def test_what_is_kept_too_long_ends(parked: ParkedSessions, clock: Clock) -> None:
    kept = Kept()
    parked.keep(kept.session(1))
    clock.time_s = 599.0
    parked.keep(kept.session(2))
    clock.time_s = 601.0
    assert parked.take(b"\x01") is None
    assert kept.ended == [b"\x01"]
    assert parked.take(b"\x02") is not None


def test_what_is_kept_too_long_ends_without_another_session(
    parked: ParkedSessions, clock: Clock
) -> None:
    kept = Kept()
    parked.keep(kept.session(1))
    parked.expire()
    assert kept.ended == []
    clock.time_s = 601.0
    parked.expire()
    assert kept.ended == [b"\x01"]


def test_the_oldest_ends_where_there_are_too_many(parked: ParkedSessions) -> None:
    kept = Kept()
    for number in range(MOST_PARKED + 2):
        parked.keep(kept.session(number))
    assert kept.ended == [b"\x00", b"\x01"]


def test_all_end_with_the_server(parked: ParkedSessions) -> None:
    kept = Kept()
    for number in range(3):
        parked.keep(kept.session(number))
    parked.close()
    assert kept.ended == [b"\x00", b"\x01", b"\x02"]
    assert parked.take(b"\x01") is None
