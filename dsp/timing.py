"""Timing recovery: the generator's clock as a record sees it, from preamble and pilots.

The derivative of the matched filter over the matched filter gives how late each known pulse is,
at any phase of the light. A line through these, extended over twice the frame each time, follows
a slip of many slots by the frame's end; between two steps it never leaves the pulse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from labctl.dsp.dsp import Sync
from labctl.dsp.layout import Floats, FrameLayout, Indices
from labctl.dsp.matched_filter import FilterBank, read_slots, samples_per_symbol
from labctl.dsp.pulses import Doubles
from labctl.errors import SynchronisationError
from labctl.instruments.capabilities import Trace

# Two free-running crystal clocks of 10 ppm each. A shared 10 MHz reference has 0.
LARGEST_OFFSET_PPM = 20.0
# Steps of the fit: over the preamble, until start and noise have settled; at each doubling of the
# span, whose start is near; over the whole frame.
_FIRST_ROUNDS, _ROUNDS, _LAST_ROUNDS = 4, 1, 2
# A pulse read 1/32 slot beside its middle has lost 0.8 % of its amplitude.
LARGEST_ERROR_SLOTS = 1.0 / 32.0
# A normal error exceeds 4 standard errors with probability 6e-5.
_SIGMAS = 4.0
# What the intervals of a trace may be off by: instruments write them with few digits.
_ROUNDING_PPM = 0.5
# Values that are noise by more than this share carry no information on time.
_MOST_NOISE = 0.9
# Pilots whose mean energy is compared with the preamble's; fewer than 8 scatter too much for that.
_LOCK_PILOTS = 32
_LEAST_LOCK_PILOTS = 8
# Of the energy that the preamble promises; a segment of pilots at random phases has 1.0 +- 0.13.
_LEAST_LOCK = 0.35


@dataclass(frozen=True)
class SampleClock:
    """Where every slot of a frame lies in a record.

    `start_s`: the frame's start in the trace's time. `stretch`: a slot's length by the record's
    clock over the nominal one. `offset_ppm`: how fast the record's clock runs, with its standard
    error. `error_samples`: standard error of the last slot's position.
    """

    start_s: float
    stretch: float
    offset_ppm: float
    offset_error_ppm: float
    error_samples: float

    def read(self, trace: Trace, layout: FrameLayout, first_slot: int, slots: int) -> Floats:
        """Return the matched-filter value in V of `slots` slots, as `read_slots`."""
        return read_slots(trace, layout, self.start_s, first_slot, slots, stretch=self.stretch)

    def moved(self, sync: Sync) -> SampleClock:
        """Return the same rate with the start of another record, whose pilots may be hidden.

        A client that rotates modes sees no pilots; it learns the rate from a frame at rest.
        """
        return replace(self, start_s=sync.start_s)


def recover_clock(
    trace: Trace,
    layout: FrameLayout,
    sync: Sync,
    *,
    largest_offset_ppm: float = LARGEST_OFFSET_PPM,
    largest_error_slots: float = LARGEST_ERROR_SLOTS,
) -> SampleClock:
    """Return start and rate of the generator's clock to a fraction of a sample.

    `sync`: of the same record, which holds the whole frame. Raises SynchronisationError when the
    record ends too early, the clocks differ by more than `largest_offset_ppm` (named with what was
    measured), the pilots are not where the clock says, or noise hides the pulses' positions: the
    last slot's to more than `largest_error_slots`, 1/32 slot unless records will be pooled.
    """
    ratio = samples_per_symbol(trace, layout)
    line = _Line(trace, layout, ratio, (sync.start_s - trace.start_s) / trace.interval_s)
    line.check_record()
    line.prior = 2.0 * largest_offset_ppm * 1e-6 * ratio
    span = layout.preamble_symbols
    line.follow(span, _FIRST_ROUNDS)
    while span < layout.slots:
        span = min(2 * span, layout.slots)
        line.follow(span, _ROUNDS if span < layout.slots else _LAST_ROUNDS)
    clock = line.clock()
    _check_offset(clock, largest_offset_ppm)
    line.check_lock()
    if not clock.error_samples <= largest_error_slots * ratio:
        raise SynchronisationError(
            f"frame's last slot is known to {clock.error_samples:.2f} samples only, maximum "
            f"{largest_error_slots * ratio:.2f}: use more light, more pilots or a longer preamble"
        )
    return clock


def pooled_clock(clocks: Sequence[SampleClock]) -> SampleClock:
    """Return the rate that several records of the same clocks agree on, with the first's start."""
    weights = np.array([clock.error_samples**-2 for clock in clocks])
    shares = weights / weights.sum()
    return replace(
        clocks[0],
        stretch=float(shares @ [clock.stretch for clock in clocks]),
        offset_ppm=float(shares @ [clock.offset_ppm for clock in clocks]),
        offset_error_ppm=float(np.sqrt(shares**2 @ [c.offset_error_ppm**2 for c in clocks])),
        error_samples=float(weights.sum() ** -0.5),
    )


class _Line:
    """Positions of the slots, start + slot * (ratio + slope) in samples, as fitted so far."""

    def __init__(self, trace: Trace, layout: FrameLayout, ratio: float, start: float) -> None:
        self._trace = trace
        self._layout = layout
        self._ratio = ratio
        self._bank = FilterBank.of(layout.pulse_shape, ratio)
        self._sharpness = float(np.mean(np.sum(self._bank.slopes.astype(np.float64) ** 2, axis=1)))
        self._slots: Indices = layout.reference[0]
        self._start = start
        self._slope = 0.0
        self._offset_v = 0.0
        self._noise = np.ones(len(self._slots))
        self._covariance = np.zeros((2, 2))
        self.prior = math.inf

    def check_record(self) -> None:
        """Raise SynchronisationError unless the nominal frame's known pulses are in the record."""
        needed = math.ceil(self._start + (int(self._slots[-1]) + 1) * self._ratio)
        if needed > len(self._trace.voltage_v):
            raise SynchronisationError(
                f"frame's pilots reach to sample {needed}, the record has "
                f"{len(self._trace.voltage_v)}: record for longer"
            )

    def follow(self, span: int, rounds: int) -> None:
        """Fit the line to the known pulses of the first `span` slots."""
        known = self._slots[: int(np.searchsorted(self._slots, span))]
        for _ in range(rounds):
            read, slope = self._read(known)
            self._learn_noise(known, read, slope)
            self._improve(known, read - self._offset_v, slope)

    def clock(self) -> SampleClock:
        """Return the line as a clock."""
        last = np.array([1.0, float(self._layout.slots)])
        interval_s = self._trace.interval_s
        return SampleClock(
            start_s=self._trace.start_s + self._start * interval_s,
            stretch=1.0 + self._slope / self._ratio,
            offset_ppm=1e6 * self._slope / self._ratio,
            offset_error_ppm=1e6 * math.sqrt(self._covariance[1, 1]) / self._ratio,
            error_samples=math.sqrt(float(last @ self._covariance @ last)),
        )

    def check_lock(self) -> None:
        """Raise SynchronisationError when pilots carry less energy than the preamble."""
        first = self._layout.preamble_symbols
        energy = (self._read(self._slots)[0] - self._offset_v) ** 2
        expected, pilots = float(np.mean(energy[:first])), energy[first:]
        if len(pilots) < _LEAST_LOCK_PILOTS:
            return
        for part in np.array_split(pilots, max(len(pilots) // _LOCK_PILOTS, 1)):
            share = float(np.mean(part)) / expected
            if not share >= _LEAST_LOCK:
                raise SynchronisationError(
                    f"pilots are not where the preamble's clock puts them ({share:.0%} of the "
                    "preamble's energy): is this the frame's layout, does the light last?"
                )

    def _read(self, slots: Indices) -> tuple[Doubles, Doubles]:
        positions = self._start + slots * (self._ratio + self._slope)
        read, slope = self._bank.with_slopes(self._trace.voltage_v, positions)
        return read.astype(np.float64), slope.astype(np.float64)

    def _learn_noise(self, slots: Indices, read: Doubles, slope: Doubles) -> None:
        """Take noise from the derivative's residual, which the light's phase does not enter.

        Pulses that reach into other slots disturb the preamble's derivative more than the pilots',
        whose neighbours are dim: each has its own noise once there are enough of them.
        """
        first = self._layout.preamble_symbols
        if len(slots) == first:
            self._offset_v = float(np.mean(read))
            self._noise[:] = self._residual(slots, read, slope)
        elif len(slots) - first >= _LEAST_LOCK_PILOTS:
            self._noise[first:] = self._residual(slots[first:], read[first:], slope[first:])

    def _residual(self, slots: Indices, read: Doubles, slope: Doubles) -> float:
        """Return the noise in V^2 that a straight line leaves in the derivative."""
        centred = read - self._offset_v
        design = np.stack([centred, centred * (slots / slots[-1])], axis=1)
        fit, *_ = np.linalg.lstsq(design, slope, rcond=None)
        residual = slope - design @ fit
        noise = float(residual @ residual) / (len(slots) - 2) / self._sharpness
        # Above 0 even for a record without noise, whose weights would be infinite.
        return max(noise, 1e-9 * float(np.mean(read**2)), 1e-300)

    def _improve(self, slots: Indices, read: Doubles, slope: Doubles) -> None:
        """Take one weighted least-squares step; rates far beyond the largest are unlikely."""
        scale = np.array([1.0, float(slots[-1])])
        design = np.stack([np.ones(len(slots)), slots / scale[1]])
        noise = self._noise[: len(slots)]
        scatter = (design * (read**2 / noise)) @ design.T * self._sharpness
        information = scatter - (design * self._noise_share(read, noise)) @ design.T
        gradient = design @ (read * slope / noise)
        weight = 1.0 / (self.prior * scale[1]) ** 2
        scatter[1, 1] += weight
        information[1, 1] += weight
        gradient[1] -= weight * self._slope * scale[1]
        inverse = np.linalg.inv(information)
        start, end = (inverse @ gradient).tolist()
        # At most a quarter of a slot at once: the next step must still see the same pulses.
        self._start += min(max(start, -self._ratio / 4.0), self._ratio / 4.0)
        self._slope += end / scale[1]
        self._covariance = inverse @ scatter @ inverse / np.outer(scale, scale)

    def _noise_share(self, read: Doubles, noise: Doubles) -> Doubles:
        """Return what noise adds to the information that the values' energy seems to carry."""
        first = self._layout.preamble_symbols
        share = np.empty_like(read)
        for part in (slice(None, first), slice(first, None)):
            if len(read[part]):
                energy = float(np.mean(read[part] ** 2 / noise[part]))
                share[part] = self._sharpness * min(1.0, _MOST_NOISE * energy)
        return share


def _check_offset(clock: SampleClock, largest_ppm: float) -> None:
    if not abs(clock.offset_ppm) <= largest_ppm + _SIGMAS * clock.offset_error_ppm + _ROUNDING_PPM:
        raise SynchronisationError(
            f"record's clock runs {clock.offset_ppm:+.1f} ppm (+-{clock.offset_error_ppm:.1f}) "
            f"against the generator's, at most {largest_ppm:g} ppm can be followed: share a 10 MHz "
            "reference, or check both sample rates"
        )
