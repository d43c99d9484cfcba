"""The search asks for few bounds and finds what a plain one finds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.protocols.leakage import Assumptions, LayerShape, Trust
from labctl.protocols.leakage.setting import WeightsFigure
from labctl.protocols.receiver import IDEAL_HOMODYNE
from labctl.studies.planner import search
from labctl.studies.planner.option import Conditions, PlanLimits

SEARCH = search.Search(
    Conditions(
        (LayerShape(784, 392, 784), LayerShape(10, 392, 784)),
        Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
        0.0, 0.0, IDEAL_HOMODYNE, IDEAL_HOMODYNE,
        weights_figure=WeightsFigure.HONEST,
    )
)  # fmt: skip


@pytest.mark.parametrize("weights_bits", [0.003, 0.02])
def test_the_greatest_f_is_that_of_a_plain_bisection(weights_bits: float) -> None:
    limits = PlanLimits(weights_bits=weights_bits, data_bits=0.01)
    found = SEARCH.greatest_f(limits, 0.02, 20.0)
    low, high = 0.02, 20.0
    while high / low > 1.0 + 1e-6:
        middle = math.sqrt(low * high)
        kept = SEARCH.within(SEARCH.least_weights(middle, limits), limits)
        low, high = (middle, high) if kept else (low, middle)
    assert found == pytest.approx(low, rel=3e-5)


@given(st.integers(0, 24), st.floats(0.1, 10.0), st.floats(0.1, 10.0))
def test_the_lowest_point_of_a_valley_is_found_without_all_its_points(
    lowest: int, left: float, right: float
) -> None:
    """With its neighbours, for any place of it and however steep its sides are."""
    grid = [float(index) for index in range(25)]
    asked = []

    def height(place: float) -> float:
        asked.append(place)
        return left * (lowest - place) if place < lowest else right * (place - lowest)

    found = search._valley(grid, height)
    assert min(found, key=found.__getitem__) == lowest
    assert found.keys() >= {one for one in (lowest - 1, lowest + 1) if 0 <= one < 25}
    assert len(asked) == len(set(asked)) < 14
