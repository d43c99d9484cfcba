"""Intervals of counted shares cover the truth, and are wide where few were counted."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.shares import share_in_words, share_interval


@pytest.mark.parametrize(("total", "truth"), [(1, 0.97), (5, 0.6), (20, 0.1), (200, 0.965)])
def test_intervals_cover_the_truth_at_least_as_often_as_stated(total: int, truth: float) -> None:
    """20,000 samples: 95 % are counted to 0.15 %, one standard deviation; three allowed."""
    counts = np.random.default_rng(1).binomial(total, truth, 20_000)
    ends = np.array([share_interval(count / total, total) for count in range(total + 1)])
    covered = (ends[counts, 0] <= truth) & (truth <= ends[counts, 1])
    assert np.mean(covered) > 0.95 - 0.0046


def test_one_of_one_is_nearly_anything() -> None:
    assert share_interval(1.0, 1) == pytest.approx((0.025, 1.0))
    assert share_interval(0.0, 1) == pytest.approx((0.0, 0.975))
    assert share_in_words(0.0, 1, 2) == "0.00% (0.00 to 97.50)"


def test_many_are_known_as_a_normal_deviation_says() -> None:
    low, high = share_interval(0.9, 100_000)
    assert high - low == pytest.approx(2 * 1.96 * 0.3 / np.sqrt(100_000), rel=0.02)
