"""A quantity carries value, uncertainty, budget and unit, and is written as a metrologist would."""

from __future__ import annotations

import math
import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from labctl.calibration.distributions import Shape
from labctl.calibration.quantity import Quantity, effective_degrees_of_freedom, written
from labctl.errors import CalibrationError, SettingError

uncertainties = st.floats(1e-300, 1e300)
values = st.floats(-1e300, 1e300)
budgets = st.dictionaries(st.text(min_size=1, max_size=5), st.floats(0.0, 1e100), max_size=6)


@given(budget=budgets)
@settings(deadline=None)
def test_the_uncertainty_is_the_root_sum_of_squares_of_the_budget(
    budget: dict[str, float],
) -> None:
    quantity = Quantity.of(1.0, "V", budget)
    assert quantity.standard_uncertainty == pytest.approx(math.hypot(*budget.values()), rel=1e-12)
    assert quantity.budget == budget


def test_a_budget_that_does_not_add_up_is_refused() -> None:
    assert Quantity(1.0, 5.0, "V", {"a": 3.0, "b": 4.0}).standard_uncertainty == 5.0
    with pytest.raises(CalibrationError, match="adds up to 7"):
        Quantity(1.0, 5.0, "V", {"a": 7.0})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_quantity(bad: float) -> None:
    with pytest.raises(CalibrationError, match="nothing was measured"):
        Quantity(bad, 1.0, "V")
    with pytest.raises(CalibrationError, match="enough readings"):
        Quantity(1.0, bad, "V")
    with pytest.raises(CalibrationError, match="'noise'"):
        Quantity(1.0, 1.0, "V", {"noise": bad})
    with pytest.raises(CalibrationError):
        Quantity.of(1.0, "V", {"noise": bad})


def test_negative_uncertainty_no_freedom_and_no_unit_are_refused() -> None:
    with pytest.raises(CalibrationError, match="-1"):
        Quantity(1.0, -1.0, "V")
    with pytest.raises(CalibrationError, match="unit"):
        Quantity(1.0, 1.0, " ")
    for freedom in (0.0, -1.0, math.nan):
        with pytest.raises(CalibrationError, match="degrees of freedom"):
            Quantity(1.0, 1.0, "V", degrees_of_freedom=freedom)


@pytest.mark.parametrize("freedom", [1.0, 2.0, 3.7, 21.0, 500.0])
@pytest.mark.parametrize("confidence", [0.6827, 0.95, 0.99])
def test_the_interval_is_student_s(freedom: float, confidence: float) -> None:
    quantity = Quantity(2.0, 0.1, "V", degrees_of_freedom=freedom)
    low, high = stats.t.interval(confidence, freedom, loc=2.0, scale=0.1)
    assert quantity.interval(confidence) == pytest.approx((low, high), rel=1e-12)


def test_the_coverage_factors_are_those_of_the_guide() -> None:
    # GUM, table G.2: t for 95 % and 1, 5, 10, infinite degrees of freedom.
    for freedom, factor in ((1.0, 12.71), (5.0, 2.57), (10.0, 2.23), (math.inf, 1.960)):
        found = Quantity(0.0, 1.0, "V", degrees_of_freedom=freedom).coverage_factor()
        assert found == pytest.approx(factor, abs=0.005)


def test_many_degrees_of_freedom_are_as_good_as_infinite() -> None:
    many = Quantity(0.0, 1.0, "V", degrees_of_freedom=1e12).coverage_factor()
    assert many == pytest.approx(Quantity(0.0, 1.0, "V").coverage_factor(), rel=1e-9)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.1, 95.0, math.nan])
def test_a_confidence_is_a_probability(confidence: float) -> None:
    with pytest.raises(SettingError, match="confidence"):
        Quantity(0.0, 1.0, "V").interval(confidence)


def test_effective_degrees_of_freedom_are_those_of_the_guide_s_example() -> None:
    # GUM, G.4.1 example: relative uncertainties 0.25, 0.57, 0.82 % from 10, 5, 15 readings: 19.
    budget = {"a": 0.25, "b": 0.57, "c": 0.82}
    freedoms = {"a": 9.0, "b": 4.0, "c": 14.0}
    assert effective_degrees_of_freedom(budget, freedoms) == pytest.approx(19.0, abs=0.05)
    assert Quantity.of(1.0, "1", budget, degrees_of_freedom=freedoms).degrees_of_freedom == (
        effective_degrees_of_freedom(budget, freedoms)
    )


def test_a_source_that_is_known_well_adds_freedom() -> None:
    alone = effective_degrees_of_freedom({"readings": 1.0}, {"readings": 4.0})
    beside = effective_degrees_of_freedom({"readings": 1.0, "meter": 1.0}, {"readings": 4.0})
    assert (alone, beside) == pytest.approx((4.0, 16.0))
    assert effective_degrees_of_freedom({"meter": 1.0}, {}) == math.inf
    assert effective_degrees_of_freedom({"readings": 0.0}, {"readings": 4.0}) == math.inf


@given(
    parts=st.lists(st.tuples(st.floats(1e-6, 1e6), st.floats(1.0, 100.0)), min_size=1, max_size=6)
)
@settings(deadline=None)
def test_effective_freedom_lies_between_the_least_and_the_sum(
    parts: list[tuple[float, float]],
) -> None:
    budget = {str(index): part for index, (part, _) in enumerate(parts)}
    freedoms = {str(index): freedom for index, (_, freedom) in enumerate(parts)}
    found = effective_degrees_of_freedom(budget, freedoms)
    assert min(freedoms.values()) * (1 - 1e-9) <= found
    assert found <= sum(freedoms.values()) * (1 + 1e-9)


def test_freedom_of_an_unknown_source_or_none_at_all_is_refused() -> None:
    with pytest.raises(CalibrationError, match="'lamp'"):
        effective_degrees_of_freedom({"readings": 1.0}, {"lamp": 3.0})
    with pytest.raises(CalibrationError, match="too few readings"):
        effective_degrees_of_freedom({"readings": 1.0}, {"readings": 0.0})


def test_agreement_is_within_three_joint_uncertainties_and_in_one_unit() -> None:
    first = Quantity(1.0, 0.3, "V")
    assert first.agrees_with(Quantity(2.5, 0.4, "V"))
    assert not first.agrees_with(Quantity(2.51, 0.4, "V"))
    assert not first.agrees_with(Quantity(1.0, 0.3, "mV"))
    assert Quantity(3.0, 0.0, "1").agrees_with(Quantity(3.0, 0.0, "1"))


@pytest.mark.parametrize(
    ("value", "uncertainty", "text"),
    [
        (3.5, 0.00012, "3.50000 ± 0.00012"),
        (9.996, 0.0996, "10.00 ± 0.10"),
        (5432.1, 1234.0, "5400 ± 1200"),
        (0.0, 1.0, "0.0 ± 1.0"),
        (-999999.7, 0.5, "-999999.70 ± 0.50"),
        (1234567.0, 1234.0, "(1.2346 ± 0.0012)e6"),
        (1e-9, 1e-12, "(1.0000 ± 0.0010)e-9"),
        (5.0, 1e10, "(0.0 ± 1.0)e10"),
        (0.0123, 0.00045, "0.01230 ± 0.00045"),
        (1e300, 1e-300, "(1.000000000000000 ± 0.000000000000000)e300"),
        (5e-324, 5e-324, "(4.9 ± 4.9)e-324"),
        (2.0, 0.0, "2"),
    ],
)
def test_values_are_written_to_two_digits_of_their_uncertainty(
    value: float, uncertainty: float, text: str
) -> None:
    assert written(value, uncertainty) == text


def test_a_ratio_is_written_without_a_unit() -> None:
    assert str(Quantity(0.5, 0.01, "1")) == "0.500 ± 0.010"
    assert str(Quantity(0.5, 0.01, "V")) == "0.500 ± 0.010 V"


@given(value=values, uncertainty=uncertainties)
@settings(deadline=None)
def test_what_is_written_reads_back_within_its_last_digit(value: float, uncertainty: float) -> None:
    text = written(value, uncertainty)
    found = re.fullmatch(r"\(?(-?[\d.]+) ± ([\d.]+)(?:\)e(-?\d+))?", text)
    assert found is not None, text
    scale = Decimal(10) ** int(found[3] or 0)
    read, error = Decimal(found[1]) * scale, Decimal(found[2]) * scale
    last = max(Decimal(uncertainty) / 10, abs(Decimal(value)) * Decimal(10) ** -14)
    assert abs(read - Decimal(value)) <= last
    assert abs(error - Decimal(uncertainty)) <= last
    assert len(text) < 60


@given(value=st.floats(-1e6, 1e6), digits=st.integers(10, 99), power=st.integers(-9, 5))
@settings(deadline=None)
def test_two_digits_of_the_uncertainty_stand_there(value: float, digits: int, power: int) -> None:
    text = written(value, float(Decimal(digits).scaleb(power)))
    error = text.split("±")[1].split(")")[0].strip().replace(".", "").strip("0")
    assert error == str(digits).strip("0")


@pytest.mark.parametrize(
    ("shape", "factor"),
    [
        (Shape.NORMAL, 1.95996),
        (Shape.RECTANGULAR, 0.95 * math.sqrt(3.0)),
        (Shape.ARCSINE, math.sqrt(2.0) * math.sin(0.475 * math.pi)),
    ],
)
def test_one_source_has_the_factor_of_its_distribution(shape: Shape, factor: float) -> None:
    quantity = Quantity.of(0.0, "V", {"only": 2e-9}, shapes={"only": shape})
    assert quantity.coverage_factor() == pytest.approx(factor, rel=3e-3)


def test_the_sum_of_two_equal_rectangles_is_a_triangle() -> None:
    quantity = Quantity.of(
        0.0, "V", {"a": 1.0, "b": 1.0}, shapes=dict.fromkeys("ab", Shape.RECTANGULAR)
    )
    # JCGM 101:2008, 6.4.5: half width sqrt(6) u.
    assert quantity.coverage_factor() == pytest.approx(
        math.sqrt(6.0) * (1.0 - math.sqrt(0.05)), rel=3e-3
    )


def test_a_sum_of_all_shapes_is_that_of_drawn_errors() -> None:
    """A million draws; k to 1 %, at three confidences."""
    draw, number = np.random.default_rng(3), 1_000_000
    quantity = Quantity.of(
        0.0,
        "V",
        {"readings": 0.7, "steps": 1.0, "ripple": 0.5},
        degrees_of_freedom={"readings": 5.0},
        shapes={"steps": Shape.RECTANGULAR, "ripple": Shape.ARCSINE},
    )
    errors = 0.7 * draw.standard_t(5.0, number)
    errors += math.sqrt(3.0) * draw.uniform(-1.0, 1.0, number)
    errors += 0.5 * math.sqrt(2.0) * np.sin(draw.uniform(0.0, 2.0 * math.pi, number))
    for confidence in (0.5, 0.95, 0.99):
        seen = float(np.quantile(np.abs(errors), confidence)) / quantity.standard_uncertainty
        assert quantity.coverage_factor(confidence) == pytest.approx(seen, rel=0.01)


def test_a_shape_of_no_source_and_a_span_without_the_value_are_refused() -> None:
    with pytest.raises(CalibrationError, match="'steps', which is in no budget"):
        Quantity.of(0.0, "V", {"noise": 1.0}, shapes={"steps": Shape.RECTANGULAR})
    for span in ((1.0, 2.0), (-2.0, -1.0), (-1.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(CalibrationError, match="must hold the value"):
            Quantity(0.0, 1.0, "V", span=span)


@pytest.mark.parametrize("freedom", [math.inf, 3.0])
@pytest.mark.parametrize("true", [0.0, 0.4, 2.0])
def test_beside_a_limit_95_of_100_intervals_hold_the_truth(true: float, freedom: float) -> None:
    """400 readings, of a quantity of 0 or more and of one of 1 or less; 4 sigma of the count."""
    draw = np.random.default_rng(5)
    held = {1.0: 0, -1.0: 0}
    for error in draw.standard_t(freedom, 400) if freedom < 9.0 else draw.standard_normal(400):
        above = Quantity(true + error, 1.0, "V", degrees_of_freedom=freedom).within(least=0.0)
        below = Quantity(1.0 - true - error, 1.0, "V", degrees_of_freedom=freedom).within(most=1.0)
        for sign, found, value in ((1.0, above, true), (-1.0, below, 1.0 - true)):
            low, high = found.interval()
            assert low <= found.value <= high
            held[sign] += low <= value + 1e-9 and value - 1e-9 <= high
    assert above.value >= 0.0
    assert below.value <= 1.0
    for each in held.values():
        assert 362 <= each <= 397


def test_far_from_a_limit_nothing_changes() -> None:
    quantity = Quantity(5.0, 0.1, "V")
    assert quantity.within(least=0.0, most=100.0) == quantity


def test_the_interval_at_a_limit_is_that_of_feldman_and_cousins() -> None:
    """Their table X, for a mean of 0 or more, at 95 %: readings of -1, 0, 1 and 2 sigma."""
    for reading, low, high in (
        (-1.0, 0.0, 1.10),
        (0.0, 0.0, 1.96),
        (1.0, 0.0, 2.96),
        (2.0, 0.35, 3.96),
    ):
        found = Quantity(reading, 1.0, "V").within(least=0.0).interval()
        assert found == pytest.approx((low, high), abs=0.01)


def test_other_confidences_scale_the_sides_of_a_span() -> None:
    quantity = Quantity(1.0, 0.5, "V", span=(0.8, 2.0))
    low, high = quantity.interval(0.6827)
    assert (low, high) == pytest.approx((1.0 - 0.2 / 1.96, 1.0 + 1.0 / 1.96), rel=1e-3)
