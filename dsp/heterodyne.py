"""Records of light that beats with a local oscillator, turned back to the frame of the signal.

A local oscillator of another frequency, `beat_hz` above the signal's, gives one detector
y = Re(E exp(-i (2 pi beat t + phi))), E being the field in SNU and phi what both lasers wander.
y times 2 exp(2 pi i beat t) is E exp(-i phi) and an image, turned by twice the beat. A matched
filter for Hann pulses of length L passes nothing of the image at |beat| = 3/(2 L), nor where 2
|beat| L is a larger whole number, since the squared pulse has no light there. Of the noise both
parts have twice that of a homodyne record: a heterodyne receiver sees X and P, each with half of
the efficiency.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from labctl.dsp.layout import Complexes, Floats, FrameLayout
from labctl.errors import SynchronisationError
from labctl.instruments.capabilities import Trace


class SlotReader(Protocol):
    """What knows where the slots of a frame lie in a record, as a `SampleClock` does."""

    def read(self, trace: Trace, layout: FrameLayout, first_slot: int, slots: int) -> Floats:
        """Return the matched-filter value in V of `slots` slots."""
        ...


@dataclass(frozen=True)
class BeatRecord:
    """A record in the frame of the signal: in phase and in quadrature with the beat's cosine.

    Either part is a record as a homodyne receiver's is, with a phase that the lasers wander by.
    """

    in_phase: Trace
    quadrature: Trace
    beat_hz: float

    def read(
        self, clock: SlotReader, layout: FrameLayout, first_slot: int, slots: int
    ) -> Complexes:
        """Return X + iP in V of `slots` slots, as the detector saw them."""
        values = np.empty(slots, np.complex64)
        values.real = clock.read(self.in_phase, layout, first_slot, slots)
        values.imag = clock.read(self.quadrature, layout, first_slot, slots)
        return values


def best_beat_hz(layout: FrameLayout) -> float:
    """Return the smallest beat in Hz whose image no matched filter passes: 3/(2 L).

    >>> round(best_beat_hz(FrameLayout(20e6, 160e6, 257, 16, 1, 1)) / 1e6, 3)
    34.286
    """
    shape = layout.pulse_shape
    return 1.5 * layout.symbol_rate_hz / (shape.early_slots + shape.late_slots)


def highest_beat_hz(trace: Trace, layout: FrameLayout) -> float:
    """Return the highest beat in Hz at which a record still holds the pulses.

    Half the sample rate less half a pulse's band, which reaches to 2/L on either side.
    """
    return 0.5 / trace.interval_s - best_beat_hz(layout) / 1.5


def amplitude_and_noise(tone: npt.NDArray[np.complexfloating]) -> tuple[float, float]:
    """Return the amplitude of symbols whose own phases were taken off, and the noise's variance.

    From products of neighbours, over which lasers walk little: their phase may wander over all of
    them. Noise is that of one quadrature, 1e-9 of the symbol's energy at least.
    """
    seen = np.asarray(tone, np.complex128)
    energy = float(np.mean(np.abs(seen) ** 2))
    squared = abs(complex(np.mean(seen[1:] * seen[:-1].conj())))
    return math.sqrt(squared), max(energy - squared, 2e-9 * energy) / 2.0


def demodulated(trace: Trace, layout: FrameLayout, beat_hz: float) -> BeatRecord:
    """Return a record in the frame of the signal, the local oscillator being `beat_hz` above it.

    Raises SynchronisationError where the record's samples are too few for such a beat.
    """
    highest_hz = highest_beat_hz(trace, layout)
    if not abs(beat_hz) <= highest_hz:
        raise SynchronisationError(
            f"beat of {beat_hz / 1e6:+.4g} MHz in a record of {1e-6 / trace.interval_s:.4g} MSa/s: "
            f"at most {highest_hz / 1e6:.4g} MHz fit in: a shorter frame, a digitizer with more "
            "memory, or the local oscillator nearer to the signal's frequency"
        )
    return turned_back(trace, beat_hz)


def turned_back(trace: Trace, beat_hz: float) -> BeatRecord:
    """Return the same at any beat, also where the record holds a part of the pulses' band alone."""
    samples = np.arange(len(trace.voltage_v))
    turns = beat_hz * (trace.start_s + samples * trace.interval_s)
    angle = (2.0 * math.pi * np.remainder(turns, 1.0)).astype(np.float32)
    doubled = np.float32(2.0) * trace.voltage_v
    return BeatRecord(
        replace(trace, voltage_v=doubled * np.cos(angle)),
        replace(trace, voltage_v=doubled * np.sin(angle)),
        beat_hz,
    )
