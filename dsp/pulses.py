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

Doubles = npt.NDArray[np.floating]

# The pulse ends 1/4 slot before its slot does: room for the tails of a causal receiver. It begins
# 1/8 slot early, after the slot before has been quiet for 1/8 (docs/decisions/0015-pulses.md).
_HANN_EARLY_SLOTS = 0.125
_HANN_LENGTH_SLOTS = 7.0 / 8.0


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

    def field(self, time_slots: Doubles) -> Doubles:
        """Return sin^2 over the pulse's length, peak 1.

        >>> HANN.field(np.array([-0.125, 0.3125, 0.75])).tolist()
        [0.0, 1.0, 0.0]
        """
        phase = (time_slots + _HANN_EARLY_SLOTS) / _HANN_LENGTH_SLOTS
        inside = (phase > 0.0) & (phase < 1.0)
        return np.where(inside, np.sin(math.pi * phase) ** 2, 0.0)


HANN = HannPulse()


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
