"""What a client can hide in pooled light: against counts of simulated sessions."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.errors import SettingError
from labctl.protocols.probation.slack import SlackWatch

WATCH = SlackWatch(samples_per_query=400, calibration_samples=10**9, false_alarm_probability=1e-2)


def caught(added: float, queries: int, sessions: int, seed: int) -> float:
    """Share of sessions whose pooled variance passes the threshold, all light drawn."""
    draw = np.random.default_rng(seed)
    samples = queries * WATCH.samples_per_query
    pooled = (1.0 + added) * draw.chisquare(samples, sessions) / samples
    return float(np.mean(pooled - 1.0 > WATCH.slack(queries)))


@pytest.mark.parametrize("queries", [10, 100])
def test_honest_light_passes_and_half_of_the_slack_is_caught(queries: int) -> None:
    """4,000 sessions: standard error 0.0016 at 1 %, 0.008 at one half; skewness adds 0.005."""
    assert caught(0.0, queries, 4000, 1) == pytest.approx(0.01, abs=0.01)
    assert caught(WATCH.slack(queries), queries, 4000, 2) == pytest.approx(0.5, abs=0.03)


def test_the_least_queries_for_a_slack() -> None:
    queries = WATCH.queries_for(0.01)
    assert queries is not None
    assert WATCH.slack(queries) <= 0.01 < WATCH.slack(queries - 1)


def test_no_pool_is_finer_than_the_calibration() -> None:
    coarse = SlackWatch(samples_per_query=400, calibration_samples=10_000)
    assert coarse.queries_for(coarse.slack(1e12) * 0.99) is None


def test_mnist_sized_queries_hide_less_than_honest_noise_after_thousands() -> None:
    """311,248 modes a query, honest noise of mu = 0.57, G = 1.3: 0.001177 SNU at 1e-10."""
    watch = SlackWatch(311_248, 10**12, 1e-10)
    queries = watch.queries_for(0.5 * 0.4615 / 392)
    assert queries is not None
    assert 500 < queries < 6000


def test_robbing_real_queries_by_chance() -> None:
    """2,000 sessions; the client robs as many of all queries as half of the sessions hide."""
    added, real_share, real_queries = 0.1, 0.1, 20
    queries = int(real_queries / real_share)
    expected = WATCH.robbed(real_queries=real_queries, real_share=real_share, added=added)
    robbed = round(queries * WATCH.slack(queries) / added)
    draw = np.random.default_rng(7)
    hits = [
        np.count_nonzero(draw.random(queries)[draw.permutation(queries)[:robbed]] < real_share)
        for _ in range(2000)
    ]
    assert np.mean(hits) == pytest.approx(expected, rel=0.15)
    # Robbed queries are chi-squared of a larger variance: half of the sessions pass.
    samples = WATCH.samples_per_query
    power = draw.chisquare(samples * (queries - robbed), 2000)
    power += (1.0 + added) * draw.chisquare(samples * robbed, 2000)
    passed = power / (samples * queries) - 1.0 < WATCH.slack(queries)
    assert np.mean(passed) == pytest.approx(0.5, abs=0.06)


def test_never_more_than_was_served() -> None:
    assert WATCH.robbed(real_queries=3, real_share=1.0, added=1e-9) == 3


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_outside_is_refused(share: float) -> None:
    with pytest.raises(SettingError, match="real_share"):
        WATCH.robbed(real_queries=1, real_share=share, added=0.1)
