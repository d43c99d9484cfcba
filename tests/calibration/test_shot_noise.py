"""The shot-noise unit: what two variances say of a receiver, and how well they say it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.calibration.quantity import Quantity
from labctl.calibration.shot_noise import (
    ReceiverCalibration,
    calibration_from_variances,
    shot_noise_unit,
)
from labctl.errors import SettingError, SignalError

VALID = ReceiverCalibration(
    efficiency=0.8, electronic_noise=0.1, blocked_variance=2e-6, samples=1000
)


@settings(deadline=None)
@given(st.floats(1e-12, 1e3), st.floats(0.0, 2.0), st.floats(0.01, 1.0))
def test_electronic_noise_is_told_in_units_of_shot_noise(
    shot: float, electronic: float, efficiency: float
) -> None:
    """Variances in any unit of the receiver's own: V^2 or counts^2."""
    found = calibration_from_variances(
        blocked=shot * (1.0 + electronic),
        electronic=shot * electronic,
        samples=1000,
        efficiency=efficiency,
    )
    assert found.electronic_noise == pytest.approx(electronic, rel=1e-9, abs=1e-12)
    assert found.blocked_variance == shot * (1.0 + electronic)
    assert (found.efficiency, found.samples) == (efficiency, 1000)


@settings(deadline=None)
@given(st.floats(0.5, 2.0), st.floats(0.0, 0.5), st.floats(-0.05, 0.5))
def test_intensity_noise_of_the_local_oscillator_is_not_shot_noise(
    shot: float, electronic: float, excess: float
) -> None:
    found = calibration_from_variances(
        blocked=shot * (1.0 + electronic + excess),
        electronic=shot * electronic,
        samples=1000,
        efficiency=0.8,
        lo_excess_noise=excess,
    )
    assert found.electronic_noise == pytest.approx(electronic, abs=1e-12)
    assert found.blocked_variance == pytest.approx(shot * found.blocked_over_shot_noise)


def test_calibration_from_drawn_records() -> None:
    """1e6 samples, seed 3: shot noise of 4 mV^2 over electronic noise of 0.4, four sigma."""
    random = np.random.default_rng(3)
    dark = random.normal(0.0, math.sqrt(0.4e-6), 1_000_000)
    lit = dark[::-1] + random.normal(0.0, 2e-3, 1_000_000)
    found = calibration_from_variances(
        blocked=float(lit.var()), electronic=float(dark.var()), samples=lit.size, efficiency=0.8
    )
    assert found.electronic_noise == pytest.approx(0.1, rel=0.01)
    assert found.clearance_db == pytest.approx(10.414, abs=0.05)
    assert found.blocked_variance == pytest.approx(4.4e-6, rel=4.0 * found.relative_uncertainty)


@pytest.mark.parametrize(
    ("electronic", "clearance_db"), [(1.0, 3.0103), (0.1, 10.4139), (0.01, 20.0432)]
)
def test_clearance(electronic: float, clearance_db: float) -> None:
    found = replace(VALID, electronic_noise=electronic)
    assert found.clearance_db == pytest.approx(clearance_db, abs=1e-4)


def test_clearance_without_electronic_noise_is_large_and_finite() -> None:
    clearance_db = replace(VALID, electronic_noise=0.0).clearance_db
    assert math.isfinite(clearance_db)
    assert clearance_db > 200.0


@pytest.mark.parametrize("samples", [50, 1000])
def test_uncertainty_is_the_spread_of_repeated_calibrations(samples: int) -> None:
    """4000 calibrations of Gaussian samples, seed 4: the spread itself is known to 1.1 %."""
    records = np.random.default_rng(4).standard_normal((4000, samples))
    spread = float(np.std(records.var(axis=1, ddof=1)))
    found = replace(VALID, samples=samples).relative_uncertainty
    assert found == pytest.approx(spread, rel=0.06)
    assert found == pytest.approx(math.sqrt(2.0 / samples))


@pytest.mark.parametrize(
    ("blocked", "electronic"), [(1e-6, 1e-6), (1e-6, 2e-6), (0.0, 0.0), (math.nan, 1e-6)]
)
def test_light_that_adds_no_noise_is_an_unplugged_local_oscillator(
    blocked: float, electronic: float
) -> None:
    with pytest.raises(SignalError, match="local oscillator connected"):
        calibration_from_variances(
            blocked=blocked, electronic=electronic, samples=1000, efficiency=0.8
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("efficiency", 0.0),
        ("efficiency", 1.01),
        ("efficiency", math.nan),
        ("electronic_noise", -0.01),
        ("electronic_noise", math.nan),
        ("electronic_noise", math.inf),
        ("lo_excess_noise", -1.0),
        ("lo_excess_noise", math.nan),
        ("blocked_variance", 0.0),
        ("blocked_variance", -1.0),
        ("blocked_variance", math.nan),
        ("blocked_variance", math.inf),
        ("samples", 1),
        ("samples", 0),
    ],
)
def test_what_no_calibration_can_say_is_refused(name: str, value: float) -> None:
    with pytest.raises(SettingError, match=name):
        ReceiverCalibration(
            efficiency=value if name == "efficiency" else 0.8,
            electronic_noise=value if name == "electronic_noise" else 0.1,
            blocked_variance=value if name == "blocked_variance" else 1.0,
            lo_excess_noise=value if name == "lo_excess_noise" else 0.0,
            samples=int(value) if name == "samples" else 1000,
        )


def unit_of(blocked: float, electronic: float, excess: float) -> tuple[Quantity, Quantity]:
    return shot_noise_unit(
        Quantity.of(blocked, "V^2", {"samples": 0.01}),
        Quantity.of(electronic, "V^2", {"samples": 0.002}),
        Quantity.of(excess, "SNU", {"fit": 0.004}),
    )


@settings(deadline=None)
@given(st.floats(0.5, 2.0), st.floats(0.01, 0.5), st.floats(0.0, 0.3))
def test_unit_is_what_is_left_without_electronic_and_intensity_noise(
    shot: float, electronic: float, excess: float
) -> None:
    unit, snu = unit_of(shot * (1.0 + electronic + excess), shot * electronic, excess)
    assert unit.value == pytest.approx(shot)
    assert snu.value == pytest.approx(electronic)
    assert (unit.unit, snu.unit) == ("V^2", "SNU")


@pytest.mark.parametrize("excess", [0.0, 0.2])
def test_uncertainty_of_the_unit_is_that_of_drawn_inputs(excess: float) -> None:
    """20,000 draws of all three inputs, seed 5: scatter known to 0.5 %."""
    unit, snu = unit_of(1.3, 0.2, excess)
    draw = np.random.default_rng(5)
    blocked = 1.3 + 0.01 * draw.standard_normal(20_000)
    electronic = 0.2 + 0.002 * draw.standard_normal(20_000)
    shot = (blocked - electronic) / (1.0 + excess + 0.004 * draw.standard_normal(20_000))
    assert unit.standard_uncertainty == pytest.approx(float(shot.std()), rel=0.025)
    assert snu.standard_uncertainty == pytest.approx(float((electronic / shot).std()), rel=0.025)


def test_saturation_takes_nothing_off_the_unit() -> None:
    """An excess of -5 sigma is lost carriers, one of -1 sigma is chance."""
    assert unit_of(1.1, 0.1, -0.02)[0].value == pytest.approx(1.0)
    assert unit_of(1.1, 0.1, -0.004)[0].value == pytest.approx(1.0 / 0.996)


def test_no_unit_without_light() -> None:
    with pytest.raises(SignalError, match="local oscillator connected"):
        unit_of(0.1, 0.1, 0.0)
