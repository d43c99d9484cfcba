"""How far an error reaches that no sample of returned light shows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from labctl.calibration.distributions import Shape
from labctl.calibration.quantity import Quantity
from labctl.errors import SettingError
from labctl.protocols.verification.doubts import EXACT, Doubts, Source, reach_of, sources_of

METER = Source("reference meter", 0.03)


def test_a_well_known_error_is_extrapolated_as_a_normal_law() -> None:
    assert reach_of([METER], 0.0227501319) == pytest.approx(0.06, rel=1e-6)
    assert reach_of([METER], 5e-11) == pytest.approx(0.03 * 6.467, rel=1e-3)
    both = reach_of([METER, Source("unit", 0.04)], 1e-3)
    assert both == pytest.approx(0.05 * stats.norm.isf(1e-3), rel=1e-12)


def test_hard_limits_are_reached_and_not_passed() -> None:
    rectangular = Source("certificate", 0.03, shape=Shape.RECTANGULAR)
    arcsine = Source("ripple", 0.01, shape=Shape.ARCSINE)
    for probability in (0.05, 1e-10):
        reach = reach_of([rectangular, arcsine], probability)
        assert reach == pytest.approx(0.03 * math.sqrt(3.0) + 0.01 * math.sqrt(2.0), rel=1e-12)


def test_few_readings_reach_far_at_small_probabilities() -> None:
    few = Source("five readings", 0.03, degrees_of_freedom=4)
    assert reach_of([few], 0.025) == pytest.approx(0.03 * 2.776, rel=1e-3)
    # Nobody knows from five readings what happens once in 2e10: nothing is bounded.
    assert reach_of([few], 5e-11) > 1.0
    doubts = Doubts(light=(few,), unit=(few,))
    assert doubts.transmittance_factor(5e-11) == 0.0
    assert doubts.noise_factor(5e-11) == math.inf


@pytest.mark.parametrize("probability", [0.05, 0.005])
def test_the_sum_of_all_kinds_passes_its_reach_as_rarely_as_stated(probability: float) -> None:
    # 4e5 draws, seed 3: a share of 0.005 is found to 4 sigma = 0.00045.
    random, draws = np.random.default_rng(3), 400_000
    sources = [
        METER,
        Source("six readings", 0.02, degrees_of_freedom=5),
        Source("certificate", 0.01, shape=Shape.RECTANGULAR),
    ]
    # Pivots: the uncertainty stated from few readings scatters as chi does, its reach with it.
    stated = np.sqrt(random.chisquare(5, draws) / 5)
    error = 0.03 * random.standard_normal(draws) + 0.02 * random.standard_normal(draws)
    error += 0.01 * math.sqrt(3.0) * random.uniform(-1.0, 1.0, draws)
    fixed = reach_of([sources[0], sources[2], Source("none", 0.0)], probability / 2.0)
    few = reach_of([sources[1]], probability / 2.0)
    assert reach_of(sources, probability) == pytest.approx(fixed + few, rel=1e-12)
    missed = float(np.mean(error > fixed + few * stated))
    assert 0.0 < missed <= probability


def test_a_quantitys_sources_keep_their_limits_and_degrees_of_freedom() -> None:
    found = Quantity.of(
        0.8,
        "1",
        {"records": 0.004, "certificate": 0.024, "efficiency": 0.01},
        degrees_of_freedom={"records": 9},
        shapes={"certificate": Shape.RECTANGULAR},
    )
    normal, bounded = sources_of(found, "transmittance", without=("efficiency",))
    assert normal.relative == pytest.approx(0.005)
    # All few readings are those of the records: nine degrees of freedom, no matter what else went.
    assert normal.degrees_of_freedom == pytest.approx(9.0 * (0.005 / 0.004) ** 4 * 0.8**4)
    assert bounded.relative == pytest.approx(0.03)
    assert bounded.shape is Shape.RECTANGULAR
    plain = sources_of(Quantity(2.0, 0.1, "1"), "mu")
    assert [one.relative for one in plain] == [0.05]


def test_nothing_in_doubt_changes_nothing() -> None:
    assert EXACT.none
    assert Doubts(light=(Source("mu", 0.0),)).none
    for factor in (EXACT.noise_factor, EXACT.transmittance_factor, EXACT.light_factor):
        assert factor(1e-10) == 1.0


def test_an_uncertainty_that_is_none_is_refused() -> None:
    with pytest.raises(SettingError, match=r"uncertainty of mu = -0\.1"):
        Source("mu", -0.1)
    with pytest.raises(SettingError, match="degrees of freedom of mu = 0"):
        Source("mu", 0.1, 0.0)


@pytest.mark.parametrize("probability", [0.25, 0.05, 1e-3, 1e-4, 1e-10, 1e-30])
def test_the_worse_of_two_doubts_reaches_as_far_as_each_at_any_probability(
    probability: float,
) -> None:
    """Few readings reach further far out, a larger scatter of many nearby."""
    few = Doubts(light=(Source("few", 0.01, 3.0),))
    many = Doubts(light=(Source("many", 0.02),))
    assert few.light_factor(0.05) < many.light_factor(0.05)
    assert few.light_factor(1e-4) > many.light_factor(1e-4)
    for worse in (few.worse(many), many.worse(few), few.worse(many).worse(few)):
        factor = worse.light_factor(probability)
        assert factor >= max(few.light_factor(probability), many.light_factor(probability))
        assert len(worse.light) == 2
