"""Which queries are real: none in the probation, a secret share afterwards."""

from __future__ import annotations

import pytest

from labctl.errors import SettingError
from labctl.protocols.probation.schedule import NO_PROBATION, Probation, Schedule

KEY = bytes(range(32))


def test_none_of_the_probation_is_real_and_a_share_of_the_rest_is() -> None:
    """10,000 queries: the share's standard error is 0.003."""
    schedule = Schedule(Probation(50, 0.1), KEY)
    real = [schedule.real(query) for query in range(10_050)]
    assert not any(real[:50])
    assert sum(real[50:]) / 10_000 == pytest.approx(0.1, abs=4 * 0.003)


def test_without_probation_every_query_is_real() -> None:
    schedule = Schedule(NO_PROBATION, KEY)
    assert all(schedule.real(query) for query in range(100))
    assert NO_PROBATION.none


def test_another_key_draws_other_queries() -> None:
    ours, theirs = (Schedule(Probation(0, 0.5), key) for key in (KEY, KEY[::-1]))
    agree = sum(ours.real(query) == theirs.real(query) for query in range(400))
    assert 150 < agree < 250


@pytest.mark.parametrize(("queries", "share"), [(-1, 1.0), (0, 0.0), (0, 1.1), (0, float("nan"))])
def test_what_is_no_probation_is_refused(queries: int, share: float) -> None:
    with pytest.raises(SettingError):
        Probation(queries, share)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(SettingError, match="16 bytes"):
        Schedule(NO_PROBATION, b"short")
