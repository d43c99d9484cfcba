"""From a digitized record to modes: synchronisation, matched filter, phase.

A homodyne receiver reads one quadrature, y = A Re(s exp(-i phi)) + noise, of the symbols s. Two
real coefficients per record, a = A cos phi and b = A sin phi, tell amplitude and phase:
y = a Re s + b Im s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import signal

from labctl.errors import SynchronisationError
from labctl.instruments.capabilities import Trace
from labctl.instruments.frames.layout import Floats, FrameLayout, pulse

_SEARCH_STEPS = 32
_LEAST_PEAK = 7.0
# The peak is judged against the background beside it, of which there must be enough.
_LEAST_LAGS = 256


@dataclass(frozen=True)
class Sync:
    """Where a frame begins in a record, and what its preamble shows.

    `start_s`: in the trace's time. `amplitude` (V per unit symbol, after the matched filter) and
    `phase_rad`: of the light relative to the local oscillator. `noise`: standard deviation of the
    preamble's residual in V. `peak`: correlation peak over its background's standard deviation.
    """

    start_s: float
    amplitude: float
    phase_rad: float
    noise: float
    peak: float


def synchronise(trace: Trace, layout: FrameLayout, longest_delay_s: float) -> Sync:
    """Find the frame in a record; raises SynchronisationError when no preamble stands out.

    The preamble's complex correlation has a peak whatever the phase; around it, the pulse offset
    of the largest fitted amplitude gives the start to 1/16 of a sample.
    """
    step = _samples_per_symbol(trace, layout)
    reference = np.zeros(layout.preamble_symbols * step, np.complex64)
    shape = pulse(np.arange(step) / step).astype(np.float32)
    reference[:] = np.outer(layout.preamble, shape).ravel()
    lags = max(math.ceil(longest_delay_s / trace.interval_s), _LEAST_LAGS)
    head = len(reference) + lags
    record = np.asarray(trace.voltage_v[:head], np.float32)
    if len(record) < len(reference):
        raise SynchronisationError(
            f"record of {len(trace.voltage_v)} samples is shorter than the preamble "
            f"({len(reference)} samples): record for longer"
        )
    correlation = np.abs(signal.correlate(record - record.mean(), reference, mode="valid"))
    best = int(np.argmax(correlation))
    background = float(np.median(correlation)) / math.sqrt(2.0 * math.log(2.0))
    peak = float(correlation[best]) / background if background > 0.0 else 0.0
    if peak < _LEAST_PEAK:
        raise SynchronisationError(
            f"no preamble in the record (best correlation {peak:.1f} sigma, wanted {_LEAST_PEAK}): "
            "is the laser on, the light not blocked, the trigger cable connected?"
        )
    offsets = (np.arange(_SEARCH_STEPS + 1) / _SEARCH_STEPS - 0.5) * 2.0 + best
    fits = [_fit_preamble(trace, layout, offset) for offset in offsets]
    return max(
        (
            Sync(
                start_s=trace.start_s + offset * trace.interval_s,
                amplitude=math.hypot(a, b),
                phase_rad=math.atan2(b, a),
                noise=noise,
                peak=peak,
            )
            for offset, (a, b, noise) in zip(offsets, fits, strict=True)
        ),
        key=lambda sync: sync.amplitude,
    )


def read_slots(
    trace: Trace, layout: FrameLayout, start_s: float, first_slot: int, slots: int
) -> Floats:
    """Return the matched-filter value in V of `slots` slots of the frame that begins at `start_s`.

    Raises SynchronisationError where the record ends before the last of them.
    """
    return _filter(trace, layout, (start_s - trace.start_s) / trace.interval_s, first_slot, slots)


def fit_phase(read: Floats, symbols: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Fit y = (a0 + a1 t) Re s + (b0 + b1 t) Im s; returns (a0, a1, b0, b1), t in s.

    A straight line in both coefficients follows the slow drift of path phases over one frame.
    Solved by normal equations in scaled columns: a frame has hundreds of thousands of symbols.
    """
    design = np.empty((4, len(read)))
    design[0], design[2] = symbols.real, symbols.imag
    design[1], design[3] = design[0] * times_s, design[2] * times_s
    scale = np.sqrt(np.einsum("ij,ij->i", design, design))
    design /= np.where(scale > 0.0, scale, 1.0)[:, None]
    solution, *_ = np.linalg.lstsq(design @ design.T, design @ read, rcond=None)
    return np.asarray(solution / np.where(scale > 0.0, scale, 1.0))


def _samples_per_symbol(trace: Trace, layout: FrameLayout) -> int:
    ratio = 1.0 / (layout.symbol_rate_hz * trace.interval_s)
    if ratio < 3.5 or abs(ratio - round(ratio)) > 1e-6:
        raise SynchronisationError(
            f"{ratio:.4g} samples per symbol in the record: must be a whole number of 4 or more "
            f"(interval {trace.interval_s:.4g} s, symbol rate {layout.symbol_rate_hz:.4g} Hz)"
        )
    return round(ratio)


def _filter(
    trace: Trace, layout: FrameLayout, offset: float, first_slot: int, slots: int
) -> Floats:
    step = _samples_per_symbol(trace, layout)
    base = math.floor(offset)
    begin = base + first_slot * step
    end = begin + slots * step
    if begin < 0 or end > len(trace.voltage_v):
        raise SynchronisationError(
            f"frame reaches from sample {begin} to {end}, the record has {len(trace.voltage_v)}: "
            "record for longer, or start earlier"
        )
    weights = pulse((np.arange(step) - (offset - base)) / step)
    weights /= math.sqrt(float(np.sum(weights**2)))
    return trace.voltage_v[begin:end].reshape(slots, step) @ weights.astype(np.float32)


def _fit_preamble(trace: Trace, layout: FrameLayout, offset: float) -> tuple[float, float, float]:
    if offset < 0.0:
        return 0.0, 0.0, 0.0
    read = _filter(trace, layout, offset, 0, layout.preamble_symbols)
    preamble = layout.preamble
    design = np.stack([preamble.real, preamble.imag, np.ones_like(preamble.real)], axis=1)
    (a, b, offset_v), *_ = np.linalg.lstsq(design, read, rcond=None)
    residual = read - design @ np.array([a, b, offset_v])
    return float(a), float(b), float(np.std(residual))
