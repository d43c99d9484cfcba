"""The front holds what nothing beats, all of it, and nothing else."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from labctl.errors import SettingError
from labctl.studies.planner.pareto import pareto_front

POINTS = st.lists(
    st.tuples(*[st.one_of(st.integers(0, 4).map(float), st.just(math.inf))] * 3), max_size=30
)


def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


@hypothesis_settings(deadline=None)
@given(POINTS)
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float, float]]) -> None:
    front = pareto_front(points, lambda point: point)
    unbeaten = {point for point in points if not any(beats(other, point) for other in points)}
    assert set(front) == unbeaten
    assert len(front) == len(unbeaten)


@hypothesis_settings(deadline=None)
@given(POINTS)
def test_every_other_item_is_beaten_by_one_of_the_front(
    points: list[tuple[float, float, float]],
) -> None:
    front = pareto_front(points, lambda point: point)
    for point in points:
        assert point in front or any(beats(one, point) for one in front)


def test_order_stays_and_the_first_of_equals_is_kept() -> None:
    items = [("a", 2.0, 1.0), ("b", 1.0, 2.0), ("c", 2.0, 1.0), ("d", 3.0, 3.0)]
    front = pareto_front(items, lambda item: item[1:])
    assert [item[0] for item in front] == ["a", "b"]


def test_nothing_has_an_empty_front() -> None:
    assert pareto_front([], lambda item: (item,)) == ()


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(SettingError, match="NaN"):
        pareto_front([1.0, math.nan], lambda item: (item,))
