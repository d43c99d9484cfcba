"""Matched filter: one value per slot of a record, for any pulse and any two clocks.

The pulse is sampled where the record's samples fall in it, to 1/64 of a sample. Weights have unit
norm: white noise keeps its variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from labctl.dsp.layout import Floats, FrameLayout, Indices
from labctl.dsp.pulses import Doubles, PulseShape
from labctl.errors import SynchronisationError
from labctl.instruments.capabilities import Trace

# A pulse read up to 1/128 sample beside its middle: at 4 samples per slot 0.002 slot, which costs
# some 3e-5 of amplitude (a 7/8-slot Hann pulse loses 0.8 % at 1/32 slot, and loss goes squared).
PHASES = 64
# A pulse of 3.5 samples per slot reads 1 % more or less with its sampling phase
# (docs/decisions/0015-pulses.md); with fewer it would be more.
_LEAST_SAMPLES = 3.5
# Samples of slip over all slots that are read at one sampling phase. The last slot is then 1/32
# sample off, which costs 5e-4 of amplitude at 4 samples per slot and 5e-5 at 12.5.
_FIXED_SLIP = 1.0 / 16.0
# Runs of equal sampling phase up to which they beat gathering each slot's samples.
_MOST_RUNS = 64
# Bounds the memory of the gathered windows: 4 MB of float32 for each table.
_CHUNK_SAMPLES = 1 << 20


def samples_per_symbol(trace: Trace, layout: FrameLayout) -> float:
    """Return the record's samples per slot; raises SynchronisationError when there are too few."""
    ratio = 1.0 / (layout.symbol_rate_hz * trace.interval_s)
    if not _LEAST_SAMPLES <= ratio < math.inf:
        raise SynchronisationError(
            f"{ratio:.4g} samples per symbol in the record: must be {_LEAST_SAMPLES} or more "
            f"(interval {trace.interval_s:.4g} s, symbol rate {layout.symbol_rate_hz:.4g} Hz): a "
            f"shorter frame (of {layout.duration_s:.4g} s: {layout.rows} rows, {layout.turns} "
            f"turn{'' if layout.turns == 1 else 's'}), a lower symbol rate, or a digitizer with "
            "more memory"
        )
    # Times in s carry rounding errors; a whole ratio keeps the sampling phase of a whole frame.
    return float(round(ratio)) if abs(ratio - round(ratio)) < 1e-8 * ratio else ratio


def read_slots(
    trace: Trace,
    layout: FrameLayout,
    start_s: float,
    first_slot: int,
    slots: int,
    *,
    stretch: float = 1.0,
) -> Floats:
    """Return the matched-filter value in V of `slots` slots of the frame that begins at `start_s`.

    `stretch`: a slot's length by the record's clock over the nominal one. Raises
    SynchronisationError where the record ends before the last of them.
    """
    ratio = samples_per_symbol(trace, layout) * stretch
    offset = (start_s - trace.start_s) / trace.interval_s
    bank = FilterBank.of(layout.pulse_shape, ratio)
    _check_inside(trace, math.floor(offset), ratio, first_slot, slots)
    if slots == 0:
        return np.zeros(0, np.float32)
    step = round(ratio)
    if abs(ratio - step) * slots < _FIXED_SLIP:
        middle = offset + (ratio - step) * (first_slot + slots / 2.0)
        return bank.run(trace.voltage_v, middle + first_slot * step, step, slots)
    positions = offset + (first_slot + np.arange(slots)) * ratio
    if abs(ratio - step) * slots * PHASES < _MOST_RUNS:
        return _filter_in_runs(bank, trace.voltage_v, positions, step)
    return bank.at(trace.voltage_v, positions)


def _check_inside(trace: Trace, base: int, ratio: float, first_slot: int, slots: int) -> None:
    begin = base + math.floor(first_slot * ratio)
    end = base + math.floor((first_slot + slots) * ratio)
    if begin < 0 or end > len(trace.voltage_v):
        raise SynchronisationError(
            f"frame reaches from sample {begin} to {end}, the record has {len(trace.voltage_v)}: "
            "record for longer, or start earlier"
        )


@dataclass(frozen=True)
class FilterBank:
    """The pulse at every sampling phase: `weights` (PHASES, taps) float32, of unit norm.

    `slopes`: how the weights change per sample of delay, same shape. Tap 0 lies `lead` samples
    before the sample in which a slot begins.
    """

    weights: Floats
    slopes: Floats
    lead: int

    @staticmethod
    def of(shape: PulseShape, samples_per_slot: float) -> FilterBank:
        """Return the filters of a pulse at a sampling rate."""
        lead = max(math.ceil(shape.early_slots * samples_per_slot - 1e-6) - 1, 0)
        taps = lead + math.ceil(shape.late_slots * samples_per_slot - 1e-6) + 1
        phase = (np.arange(PHASES) + 0.5)[:, None] / PHASES
        samples = np.arange(taps) - lead - phase
        weights = shape.field(samples / samples_per_slot)
        # Central difference over a tenth of a sample, small against the pulse's 3 samples or more.
        ahead = shape.field((samples - 0.05) / samples_per_slot)
        behind = shape.field((samples + 0.05) / samples_per_slot)
        norm = np.sqrt(np.sum(weights**2, axis=1, keepdims=True))
        slopes = (ahead - behind) / 0.1 / norm
        return FilterBank((weights / norm).astype(np.float32), slopes.astype(np.float32), lead)

    def run(self, record: Floats, position: float, step: int, slots: int) -> Floats:
        """Return values of slots that are `step` samples apart, the first one at `position`."""
        base, phase = _split(np.array([position]))
        weights = self.weights[int(phase[0])]
        return _decimate(record, weights, int(base[0]) - self.lead, step, slots)

    def at(self, record: Floats, positions: Doubles) -> Floats:
        """Return values of slots that begin at any positions (samples, ascending)."""
        chunk = max(_CHUNK_SAMPLES // self.weights.shape[1], 1)
        parts = [
            self._gather(record, positions[first : first + chunk], self.weights)[0]
            for first in range(0, len(positions), chunk)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def with_slopes(self, record: Floats, positions: Doubles) -> tuple[Floats, Floats]:
        """Return values at positions and their derivative by the assumed position, per sample."""
        read, slope = self._gather(record, positions, self.weights, self.slopes)
        return read, slope

    def _gather(self, record: Floats, positions: Doubles, *tables: Floats) -> list[Floats]:
        base, phase = _split(positions)
        taps = self.weights.shape[1]
        first, last = int(base[0]) - self.lead, int(base[-1]) - self.lead + taps
        windows = np.lib.stride_tricks.sliding_window_view(_cut(record, first, last), taps)
        near = windows[base - base[0]]
        return [np.einsum("ij,ij->i", near, table[phase]) for table in tables]


def _split(positions: Doubles) -> tuple[Indices, Indices]:
    """Return each position's sample and its phase within it."""
    base = np.floor(positions)
    return base.astype(np.int64), ((positions - base) * PHASES).astype(np.int64)


def _cut(record: Floats, first: int, last: int) -> Floats:
    """Return record[first:last], zeros where there is no record: tails may reach beyond it."""
    if first >= 0 and last <= len(record):
        return record[first:last]
    inside = record[max(first, 0) : max(last, 0)]
    return np.pad(inside, (max(-first, 0), last - max(first, 0) - len(inside)))


def _filter_in_runs(bank: FilterBank, record: Floats, positions: Doubles, step: int) -> Floats:
    """Filter at slowly slipping positions: slots of the same sampling phase go together."""
    base, phase = _split(positions)
    slip = base - np.arange(len(base)) * step
    changes = np.flatnonzero((np.diff(slip) != 0) | (np.diff(phase) != 0)) + 1
    values = np.empty(len(positions), np.float32)
    edges = [0, *changes.tolist(), len(positions)]
    for first, last in pairwise(edges):
        begin = int(base[first]) - bank.lead
        weights = bank.weights[phase[first]]
        values[first:last] = _decimate(record, weights, begin, step, last - first)
    return values


def _decimate(record: Floats, weights: Floats, begin: int, step: int, slots: int) -> Floats:
    """Correlate with weights at every `step`-th sample from `begin` on."""
    taps = len(weights)
    if taps <= step:
        padded = np.pad(weights, (0, step - taps))
        block = _cut(record, begin, begin + slots * step)
        return block.reshape(slots, step) @ padded
    from scipy import signal

    whole = -(-(taps - 1) // step) * step + 1
    backwards = np.pad(weights, (0, whole - taps))[::-1]
    block = _cut(record, begin, begin + (slots - 1) * step + whole)
    first = (whole - 1) // step
    values: Floats = signal.upfirdn(backwards, block, down=step)[first : first + slots]
    return values.astype(np.float32, copy=False)
