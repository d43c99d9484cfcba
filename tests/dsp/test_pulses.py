"""Pulse shapes against their closed forms, and what a frame of overlapping pulses may not do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from labctl.dsp.layout import FrameLayout
from labctl.dsp.pulses import HANN, PulseShape, pulse_train
from labctl.errors import SettingError

STEPS = 200


@dataclass(frozen=True)
class Wide:
    """A pulse that reaches into its neighbours' slots: a sine's square over `span` slots."""

    span: float = 8.0

    @property
    def early_slots(self) -> float:
        return self.span / 2.0 - 0.5

    @property
    def late_slots(self) -> float:
        return self.span / 2.0 + 0.5

    def field(self, time_slots: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        phase = (time_slots + self.early_slots) / self.span
        inside = (phase > 0.0) & (phase < 1.0)
        return np.where(inside, np.sin(math.pi * phase) ** 2 / self.span, 0.0)


def test_energy_of_the_hann_pulse_is_three_eighths_of_its_length() -> None:
    """The mean of sin^4 is 3/8."""
    length = math.ceil(HANN.early_slots + HANN.late_slots)
    time = (np.arange(length * STEPS) + 0.5) / STEPS - HANN.early_slots
    energy = float(np.sum(HANN.field(time) ** 2)) / STEPS
    assert energy == pytest.approx(0.375 * 7.0 / 8.0, rel=1e-3)


def test_pulses_are_zero_outside_their_reach() -> None:
    outside = np.array([-HANN.early_slots - 1e-6, HANN.late_slots + 1e-6, -1e3, 1e3])
    assert not HANN.field(outside).any()


@pytest.mark.parametrize("shape", [HANN, Wide()])
def test_frame_samples_are_the_sum_of_their_pulses(shape: PulseShape) -> None:
    layout = FrameLayout(20e6, 160e6, 31, 4, 1, 3, pulse_shape=shape)
    values = np.random.default_rng(3).normal(size=layout.slots).astype(np.float32)
    time = np.arange(layout.slots * 8) / 8.0
    expected = sum(value * shape.field(time - slot) for slot, value in enumerate(values))
    assert np.allclose(layout.pulses(values), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [HANN, Wide()])
def test_a_train_at_any_sampling_interval_is_the_sum_of_its_pulses(shape: PulseShape) -> None:
    random = np.random.default_rng(4)
    symbols = (random.normal(size=9) + 1j * random.normal(size=9)).astype(np.complex64)
    time = np.arange(60) * 0.16
    expected = sum(symbol * shape.field(time - slot) for slot, symbol in enumerate(symbols))
    assert np.allclose(pulse_train(shape, symbols, 0.16, 60), expected, atol=1e-5)


def test_a_guard_shorter_than_the_pulse_is_refused() -> None:
    with pytest.raises(SettingError, match="guard_symbols = 5: must be 8 or more"):
        FrameLayout(20e6, 160e6, 31, 5, 1, 3, pulse_shape=Wide(16.0))
