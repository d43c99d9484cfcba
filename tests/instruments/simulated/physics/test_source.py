"""A direct-current source drives a resistor, and its limits act as in the laboratory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.simulated.physics.grid import Noise
from labctl.instruments.simulated.physics.source import LoadParameters, SourceOutput


def output(resistance_ohm: float, noise_v: float = 0.0) -> SourceOutput:
    noise = Noise(np.random.SeedSequence(3))
    return SourceOutput(LoadParameters(resistance_ohm, noise_v), noise)


@settings(deadline=None)
@given(
    voltage_v=st.floats(-20.0, 20.0),
    limit_a=st.floats(1e-6, 1.0),
    resistance_ohm=st.floats(1.0, 1e6),
)
def test_a_voltage_holds_until_the_current_limit(
    voltage_v: float, limit_a: float, resistance_ohm: float
) -> None:
    source = output(resistance_ohm)
    source.force_voltage(True, voltage_v, limit_a)
    held = np.clip(voltage_v, -limit_a * resistance_ohm, limit_a * resistance_ohm)
    assert source.voltage_v() == pytest.approx(held)
    assert source.current_a() == pytest.approx(held / resistance_ohm)
    assert abs(source.current_a()) <= limit_a * (1.0 + 1e-12)


def test_a_current_holds_until_the_voltage_limit() -> None:
    source = output(1000.0)
    source.force_current(True, 2e-3, 10.0)
    assert source.held_v() == pytest.approx(2.0)
    source.force_current(True, 2e-3, 1.5)
    assert source.held_v() == pytest.approx(1.5)
    assert source.current_a() == pytest.approx(1.5e-3)


def test_off_is_exactly_nothing() -> None:
    source = output(50.0, noise_v=1e-3)
    source.force_voltage(True, 5.0, 1.0)
    source.force_voltage(False, 5.0, 1.0)
    assert (source.voltage_v(), source.current_a(), source.held_v()) == (0.0, 0.0, 0.0)


def test_readings_scatter_by_the_stated_noise() -> None:
    """4,000 readings, five standard errors of their scatter: 6 %."""
    source = output(100.0, noise_v=2e-3)
    source.force_voltage(True, 1.0, 1.0)
    readings = [source.voltage_v() for _ in range(4000)]
    assert np.std(readings) == pytest.approx(2e-3, rel=0.06)
    assert np.mean(readings) == pytest.approx(1.0, abs=2e-4)
