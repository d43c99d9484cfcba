"""Who does not know the order: sorting adds nothing, many inputs do, in the end."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labctl.errors import SettingError
from labctl.protocols.disguise import PLAIN, Disguise
from labctl.studies.countermeasures.realignment import (
    assigned_correlation,
    realign,
    repeat_input,
)

PERMUTED = Disguise(permute=True)
BOTH = Disguise(permute=True, signs=True)


def plain_correlation(queries: int, signal_to_noise: float) -> float:
    """Return the correlation with fixed values after `queries` repeats: sqrt(Q F/(1 + Q F))."""
    gathered = queries * signal_to_noise
    return math.sqrt(gathered / (1.0 + gathered))


def test_repeats_of_one_input_tell_no_more_than_one_query() -> None:
    values = np.random.default_rng(1).standard_normal(784)
    found = repeat_input(values, 0.3, (1, 30, 1000), seed=2)
    # Of 784 values a correlation is known to 1/28.
    for one in found:
        assert one.plain == pytest.approx(plain_correlation(one.queries, 0.3), abs=0.09)
        assert one.sorted == pytest.approx(plain_correlation(1, 0.3), abs=0.09)
        assert one.magnitudes < one.sorted
    assert found[-1].plain > 0.99


def test_values_far_apart_are_sorted_rightly() -> None:
    values = np.linspace(-1.7, 1.7, 8)
    found = repeat_input(values, 1e4, (1, 50), seed=2)[-1]
    assert found.sorted == pytest.approx(found.plain, abs=1e-6)
    assert found.sorted > 0.9999


def test_the_order_holds_off_few_queries_and_gives_way_to_many() -> None:
    weights = np.random.default_rng(5).standard_normal((8, 4))
    few = realign(weights, 1.0, 20, PERMUTED, 3, start=weights)
    many = realign(weights, 4.0, 800, PERMUTED, 3, start=weights)
    plain = realign(weights, 1.0, 20, PLAIN, 3)
    assert few.correlation < plain.correlation - 0.1
    assert many.correlation > 0.95
    # Most slots are still nobody's for sure: names are not needed where queries are many.
    assert many.named < 0.6
    assert plain.named > many.named


def test_signs_give_way_likewise() -> None:
    weights = np.random.default_rng(5).standard_normal((6, 4))
    assert realign(weights, 10.0, 800, BOTH, 3, start=weights).correlation > 0.9
    alone = realign(weights, 10.0, 800, Disguise(signs=True), 3, start=weights)
    assert alone.named == 1.0
    assert alone.correlation > 0.95


def test_assignment_finds_rows_in_any_order_and_sign() -> None:
    truth = np.random.default_rng(1).standard_normal((9, 5))
    order = np.random.default_rng(2).permutation(9)
    found, owners = assigned_correlation(truth[order], truth)
    assert found == pytest.approx(1.0)
    np.testing.assert_array_equal(owners, order)
    assert assigned_correlation(-truth[order], truth, signs=True)[0] == pytest.approx(1.0)
    assert assigned_correlation(np.zeros((9, 5)), truth)[0] == 0.0


def test_no_query_is_refused() -> None:
    with pytest.raises(SettingError, match="queries"):
        repeat_input(np.ones(3), 1.0, (), seed=1)
    with pytest.raises(SettingError, match="queries"):
        realign(np.ones((2, 2)), 1.0, 0, PERMUTED, 1)
