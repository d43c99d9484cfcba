"""Honest sessions from light to verdict: rejected as often as stated."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from long_tests import long

from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.verification.checks import SHARES
from labctl.studies.attacks.false_alarms import (
    HONEST,
    FalseAlarms,
    count_false_alarms,
    failed_at,
    honest_session,
)


@pytest.mark.parametrize("sessions", [100, *long(500)])
def test_honest_sessions_are_rejected_as_often_as_stated(sessions: int) -> None:
    """At 10 % and 2 %: within four binomial errors, less 15 % for safe bounds.

    A check that rejects twice as often as stated is seen with 99 % chance at 10 % in 500 sessions,
    one that rejects three times as often in 100. `labctl false-alarms` counts as many as one likes.
    """
    tenth, fiftieth = count_false_alarms([0.1, 0.02], sessions)
    for found in (tenth, fiftieth):
        error = math.sqrt(found.stated / found.sessions)
        assert found.measured <= found.stated + 4.0 * error
        assert found.measured >= 0.85 * found.stated - 4.0 * error
        assert found.lower <= found.measured <= found.upper
        assert found.by_check.keys() == SHARES.keys()
        assert sum(found.by_check.values()) >= found.rejected
    assert fiftieth.rejected < tenth.rejected


@pytest.mark.long
def test_blocks_and_several_images_are_no_exception() -> None:
    """100 sessions at 10 %: 10 expected at most, 22 is four errors more. Four times the rate is
    always seen, twice the rate in a quarter of such counts.
    """
    settings = replace(HONEST, channel=replace(HONEST.channel, block_modes=8), seed=5000)
    (found,) = count_false_alarms([0.1], 100, settings=settings, sizes=(40, 12, 6), images=3)
    assert 1 <= found.rejected <= 22


def test_a_verdict_tells_what_another_probability_would_reject() -> None:
    network = Network((np.random.default_rng(1).normal(size=(8, 20)).astype(np.float32),), "n", {})
    strict = replace(HONEST.verification, false_alarm_probability=0.3)
    for seed in range(30):
        settings = replace(HONEST, seed=seed, verification=strict)
        report = honest_session(network, settings, 1)
        assert failed_at(report, 0.3) == tuple(check.name for check in report.failed)
        looser = replace(settings, verification=replace(strict, false_alarm_probability=0.05))
        other = honest_session(network, looser, 1)
        assert failed_at(report, 0.05) == tuple(check.name for check in other.failed)


@pytest.mark.parametrize(
    ("rejected", "lower", "upper"),
    [(0, 0.0, 0.0362), (5, 0.0164, 0.1128), (100, 0.9638, 1.0)],
)
def test_intervals_are_clopper_and_pearson_s(rejected: int, lower: float, upper: float) -> None:
    """Of 100 sessions; textbook values."""
    from labctl.studies.attacks.false_alarms import _counted

    found = _counted(0.05, 100, {"": rejected})
    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=1e-4)


def test_more_alarms_than_stated_are_inconsistent() -> None:
    assert FalseAlarms(0.01, 1000, 10, 0.005, 0.018).consistent
    assert not FalseAlarms(0.01, 1000, 30, 0.02, 0.043).consistent


@pytest.mark.parametrize(
    ("sessions", "images", "sizes", "probabilities"),
    [
        (0, 1, (4, 2), [0.1]),
        (1, 0, (4, 2), [0.1]),
        (1, 1, (4,), [0.1]),
        (1, 1, (4, 0), [0.1]),
        (1, 1, (4, 2), []),
        (1, 1, (4, 2), [1.0]),
    ],
)
def test_numbers_out_of_range_are_refused(
    sessions: int, images: int, sizes: tuple[int, ...], probabilities: list[float]
) -> None:
    with pytest.raises(SettingError):
        count_false_alarms(probabilities, sessions, images=images, sizes=sizes)
