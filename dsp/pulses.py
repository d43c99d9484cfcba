"""Pulse shapes: the field of one symbol over time, as sent and as the matched filter expects it.

Times are in slots from the slot's start. A shape's largest field is such that a train of symbols
of modulus 1 on each axis never exceeds 1 there, so no modulator is driven beyond its range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from labctl.errors import SettingError

Doubles = npt.NDArray[np.floating]

_HANN_EARLY_SLOTS = 0.125
_HANN_LENGTH_SLOTS = 7.0 / 8.0
# Two raised cosines shorter than this leave more than 1 % of interference in a matched filter.
_LEAST_SPAN = 4
_LARGEST_SPAN = 128
_OVERLAP_PHASES = 64


class PulseShape(Protocol):
    """The field of one symbol; frozen, so that a frame's layout can hold it as a value."""

    @property
    def early_slots(self) -> float:
        """How long before its slot the pulse begins, in slots (0 or more)."""
        ...

    @property
    def late_slots(self) -> float:
        """How long after its slot's start the pulse ends, in slots."""
        ...

    @property
    def energy_slots(self) -> float:
        """Integral of the squared field over time in slots."""
        ...

    def field(self, time_slots: Doubles) -> Doubles:
        """Return the field at times in slots from the slot's start; zero outside the pulse."""
        ...


@dataclass(frozen=True)
class HannPulse:
    """A Hann pulse of 7/8 slot, alone in its slot.

    It begins 1/8 slot early, so that what a causal receiver delays still ends within the slot.
    """

    @property
    def early_slots(self) -> float:
        """An eighth of a slot."""
        return _HANN_EARLY_SLOTS

    @property
    def late_slots(self) -> float:
        """Three quarters of a slot."""
        return _HANN_LENGTH_SLOTS - _HANN_EARLY_SLOTS

    @property
    def energy_slots(self) -> float:
        """3/8 of the pulse's length: the mean of sin^4."""
        return 0.375 * _HANN_LENGTH_SLOTS

    def field(self, time_slots: Doubles) -> Doubles:
        """Return sin^2 over the pulse's length, peak 1."""
        phase = (time_slots + _HANN_EARLY_SLOTS) / _HANN_LENGTH_SLOTS
        inside = (phase > 0.0) & (phase < 1.0)
        return np.where(inside, np.sin(math.pi * phase) ** 2, 0.0)


@dataclass(frozen=True)
class RootRaisedCosine:
    """A root-raised-cosine pulse: band-limited, free of interference after its matched filter.

    `roll_off`: 0.05 to 1. `span`: length in slots, even, 4 to 128, centred on the slot's middle;
    cutting it off leaves an interference that falls with span and roll-off (`isi`). Raises
    SettingError outside these ranges.
    """

    roll_off: float = 0.3
    span: int = 16

    def __post_init__(self) -> None:
        if not 0.05 <= self.roll_off <= 1.0:
            raise SettingError("roll_off", self.roll_off, "between 0.05 and 1")
        if not _LEAST_SPAN <= self.span <= _LARGEST_SPAN or self.span % 2:
            raise SettingError("span", self.span, f"even, from {_LEAST_SPAN} to {_LARGEST_SPAN}")

    @property
    def early_slots(self) -> float:
        """Half the span, less the half slot to the pulse's middle."""
        return self.span / 2.0 - 0.5

    @property
    def late_slots(self) -> float:
        """Half the span beyond the slot's middle."""
        return self.span / 2.0 + 0.5

    @property
    def energy_slots(self) -> float:
        """Square of the scale: the formula has unit energy, save for what the span cuts off."""
        return self._scale**2

    @property
    def _scale(self) -> float:
        """Largest field over the formula, such that overlapping pulses add up to 1 at most."""
        middle = np.arange(_OVERLAP_PHASES)[:, None] / _OVERLAP_PHASES
        pulses = middle + np.arange(-self.span // 2, self.span // 2)
        worst = np.abs(root_raised_cosine(pulses, self.roll_off)).sum(axis=1).max()
        return 1.0 / float(worst)

    def field(self, time_slots: Doubles) -> Doubles:
        """Return the pulse, scaled so that no train of symbols adds up to more than 1."""
        centred = time_slots - 0.5
        inside = np.abs(centred) < self.span / 2.0
        shape = root_raised_cosine(np.where(inside, centred, 0.0), self.roll_off)
        return np.where(inside, shape * self._scale, 0.0)

    def isi(self) -> float:
        """Return the RMS interference of unit symbols after the matched filter, over the symbol."""
        steps = _OVERLAP_PHASES
        times = (np.arange(self.span * steps) + 0.5) / steps - self.early_slots
        shape = self.field(times)
        energy = float(shape @ shape)
        lags = range(1, self.span)
        others = [float(shape[lag * steps :] @ shape[: -lag * steps]) for lag in lags]
        return math.sqrt(2.0 * sum(other**2 for other in others)) / energy


HANN = HannPulse()


def root_raised_cosine(time_slots: Doubles, roll_off: float) -> Doubles:
    """Return the unit-energy root-raised-cosine pulse at times in slots from its middle.

    Proakis and Salehi, Digital Communications, 5th ed., section 9.2-3 (impulse response of the
    square root of the raised-cosine spectrum). The formula's removable poles, at 0 and at
    1/(4 roll_off), take their limits.
    """
    pole = 1.0 / (4.0 * roll_off)
    at_zero, at_pole = np.abs(time_slots) < 1e-6, np.abs(np.abs(time_slots) - pole) < 1e-6
    time = np.where(at_zero | at_pole, 0.5 * pole, time_slots)
    numerator = np.sin(math.pi * time * (1.0 - roll_off))
    numerator += 4.0 * roll_off * time * np.cos(math.pi * time * (1.0 + roll_off))
    shape = numerator / (math.pi * time * (1.0 - (4.0 * roll_off * time) ** 2))
    angle = math.pi * pole
    limit = (1.0 + 2.0 / math.pi) * math.sin(angle) + (1.0 - 2.0 / math.pi) * math.cos(angle)
    shape = np.where(at_pole, roll_off / math.sqrt(2.0) * limit, shape)
    return np.where(at_zero, 1.0 - roll_off + 4.0 * roll_off / math.pi, shape)


def pulse_train(
    shape: PulseShape, symbols: npt.NDArray[np.complex64], slots_per_sample: float, samples: int
) -> npt.NDArray[np.complex64]:
    """Return `samples` field samples of a train of symbols, sample 0 at slot 0's start.

    Any sampling interval; pulses may overlap.
    """
    time_slots = np.arange(samples) * slots_per_sample
    slot = np.floor(time_slots).astype(np.int64)
    field = np.zeros(samples, np.complex64)
    for neighbour in range(-math.ceil(shape.late_slots) + 1, math.ceil(shape.early_slots) + 1):
        index = slot + neighbour
        inside = (index >= 0) & (index < len(symbols))
        values = np.where(inside, symbols[np.clip(index, 0, len(symbols) - 1)], 0.0)
        field += values * shape.field(time_slots - index).astype(np.float32)
    return field
