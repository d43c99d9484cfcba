"""Pulse shapes against their closed forms, and what a frame of overlapping pulses may not do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labctl.dsp.layout import PEAK, FrameLayout
from labctl.dsp.pulses import (
    HANN,
    PulseShape,
    RootRaisedCosine,
    pulse_train,
    root_raised_cosine,
)
from labctl.errors import SettingError

STEPS = 200

roll_offs = st.floats(0.05, 1.0)


def raised_cosine(time: NDArray[np.float64], roll_off: float) -> NDArray[np.float64]:
    """Return the Nyquist pulse: 1 at 0, 0 at every other whole time."""
    pole = np.abs(np.abs(2.0 * roll_off * time) - 1.0) < 1e-9
    safe = np.where(pole, 0.0, time)
    value = np.sinc(safe) * np.cos(math.pi * roll_off * safe) / (1.0 - (2 * roll_off * safe) ** 2)
    return np.where(pole, math.pi / 4.0 * np.sinc(1.0 / (2.0 * roll_off)), value)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.15, 1.0))
def test_root_raised_cosine_twice_is_the_nyquist_pulse(roll_off: float) -> None:
    """A pulse 200 slots long, sampled 16 times a slot; tails beyond fall as 1/(roll-off t^2)."""
    time = np.arange(-1600, 1601) / 16.0
    pulse = root_raised_cosine(time, roll_off)
    lags = np.array([0, 1, 5, 8, 16, 24, 32, 80])
    found = [float(pulse[lag:] @ pulse[: len(pulse) - lag]) / 16.0 for lag in lags]
    assert np.allclose(found, raised_cosine(lags / 16.0, roll_off), atol=2e-4)


@settings(deadline=None)
@given(roll_offs)
def test_removable_poles_take_their_limits(roll_off: float) -> None:
    for pole in (0.0, 0.25 / roll_off, -0.25 / roll_off):
        near = root_raised_cosine(np.array([pole - 1e-4, pole, pole + 1e-4]), roll_off)
        assert near[1] == pytest.approx(0.5 * (near[0] + near[2]), abs=1e-5)


@pytest.mark.parametrize(
    ("roll_off", "span", "most"),
    [(0.3, 16, 0.006), (0.25, 32, 0.003), (0.5, 16, 0.002), (1.0, 8, 0.004)],
)
def test_interference_after_the_matched_filter_stays_below_its_bound(
    roll_off: float, span: int, most: float
) -> None:
    assert 0.0 < RootRaisedCosine(roll_off, span).isi() < most


@pytest.mark.parametrize("shape", [HANN, RootRaisedCosine(0.3, 16), RootRaisedCosine(0.5, 8)])
def test_energy_is_the_integral_of_the_squared_field(shape: PulseShape) -> None:
    length = math.ceil(shape.early_slots + shape.late_slots)
    time = (np.arange(length * STEPS) + 0.5) / STEPS - shape.early_slots
    energy = float(np.sum(shape.field(time) ** 2)) / STEPS
    assert energy == pytest.approx(shape.energy_slots, rel=1e-3)


@pytest.mark.parametrize("shape", [HANN, RootRaisedCosine(0.3, 16)])
def test_pulses_are_zero_outside_their_reach(shape: PulseShape) -> None:
    outside = np.array([-shape.early_slots - 1e-6, shape.late_slots + 1e-6, -1e3, 1e3])
    assert not shape.field(outside).any()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), roll_offs)
def test_no_train_of_symbols_overdrives_the_modulator(seed: int, roll_off: float) -> None:
    shape = RootRaisedCosine(roll_off, 12)
    layout = FrameLayout(20e6, 160e6, 31, 8, 2, 9, pulse_shape=shape)
    signs = np.random.default_rng(seed).choice([-PEAK, PEAK], layout.slots).astype(np.float32)
    assert float(np.max(np.abs(layout.pulses(signs)))) <= PEAK * (1.0 + 1e-5)


def test_frame_samples_are_the_sum_of_their_pulses() -> None:
    shape = RootRaisedCosine(0.4, 8)
    layout = FrameLayout(20e6, 80e6, 31, 4, 1, 3, pulse_shape=shape)
    values = np.random.default_rng(3).normal(size=layout.slots).astype(np.float32)
    time = np.arange(layout.slots * 4) / 4.0
    expected = sum(value * shape.field(time - slot) for slot, value in enumerate(values))
    assert np.allclose(layout.pulses(values), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [HANN, RootRaisedCosine(0.4, 8)])
def test_a_train_at_any_sampling_interval_is_the_sum_of_its_pulses(shape: PulseShape) -> None:
    random = np.random.default_rng(4)
    symbols = (random.normal(size=9) + 1j * random.normal(size=9)).astype(np.complex64)
    time = np.arange(60) * 0.16
    expected = sum(symbol * shape.field(time - slot) for slot, symbol in enumerate(symbols))
    assert np.allclose(pulse_train(shape, symbols, 0.16, 60), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("roll_off", "span", "name"),
    [(0.0, 16, "roll_off"), (1.01, 16, "roll_off"), (math.nan, 16, "roll_off")]
    + [(0.3, span, "span") for span in (2, 15, 130, 0, -4)],
)
def test_impossible_pulses_are_refused(roll_off: float, span: int, name: str) -> None:
    with pytest.raises(SettingError, match=name):
        RootRaisedCosine(roll_off, span)


def test_a_guard_shorter_than_the_pulse_is_refused() -> None:
    with pytest.raises(SettingError, match="guard_symbols = 5: must be 8 or more"):
        FrameLayout(20e6, 160e6, 31, 5, 1, 3, pulse_shape=RootRaisedCosine(0.3, 16))
