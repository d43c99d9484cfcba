"""From a digitized record to modes: where a frame begins, and a straight-line phase.

A homodyne receiver reads one quadrature, y = A Re(s exp(-i phi)) + noise, of the symbols s. Two
real coefficients per record, a = A cos phi and b = A sin phi, give amplitude and phase:
y = a Re s + b Im s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labctl.dsp.layout import Floats, FrameLayout
from labctl.dsp.matched_filter import FilterBank, read_slots, samples_per_symbol
from labctl.dsp.pulses import Doubles, pulse_train
from labctl.errors import SynchronisationError
from labctl.instruments.capabilities import Trace

__all__ = ["Sync", "fit_phase", "read_slots", "synchronise"]

# Two samples around the correlation's peak, in steps of 1/16 sample.
_SEARCH_STEPS = 32
# The modulus of a correlation with noise is Rayleigh distributed: it exceeds 7 sigma at one lag
# with probability exp(-7^2/2) = 2e-11, at one of 1e6 lags with 2e-5.
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

    The preamble's complex correlation has a peak at any phase; around it, the pulse offset
    of the largest fitted amplitude gives the start to 1/16 of a sample.
    """
    from scipy import signal

    ratio = samples_per_symbol(trace, layout)
    samples = math.ceil(layout.preamble_symbols * ratio)
    reference = pulse_train(layout.pulse_shape, layout.preamble, 1.0 / ratio, samples)
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
    # The median of a Rayleigh distribution is sigma sqrt(2 ln 2).
    background = float(np.median(correlation)) / math.sqrt(2.0 * math.log(2.0))
    peak = float(correlation[best]) / background if background > 0.0 else 0.0
    if not peak >= _LEAST_PEAK:
        raise SynchronisationError(
            "no preamble in the record (best correlation "
            f"{peak:.1f} sigma, minimum {_LEAST_PEAK}): "
            "is the laser on, the light not blocked, the trigger cable connected?"
        )
    offsets = (np.arange(_SEARCH_STEPS + 1) / _SEARCH_STEPS - 0.5) * 2.0 + best
    return _best_fit(trace, layout, ratio, offsets[offsets >= 0.0], peak)


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


def _best_fit(
    trace: Trace, layout: FrameLayout, ratio: float, offsets: Doubles, peak: float
) -> Sync:
    """Fit the preamble at each offset (samples), all at once; return the largest amplitude's."""
    preamble = layout.preamble
    bank = FilterBank.of(layout.pulse_shape, ratio)
    # In rising order: offsets reach over two samples, a symbol takes more.
    positions = np.add.outer(np.arange(len(preamble)) * ratio, offsets)
    reads = bank.at(trace.voltage_v, positions.ravel()).reshape(positions.shape)
    design = np.stack([preamble.real, preamble.imag, np.ones_like(preamble.real)], axis=1)
    fits, *_ = np.linalg.lstsq(design, reads, rcond=None)
    amplitudes = [math.hypot(a, b) for a, b, _ in fits.T]
    best = int(np.argmax(amplitudes))
    residual = reads[:, best] - design @ fits[:, best]
    return Sync(
        start_s=trace.start_s + float(offsets[best]) * trace.interval_s,
        amplitude=amplitudes[best],
        phase_rad=math.atan2(fits[1, best], fits[0, best]),
        noise=float(np.std(residual)),
        peak=peak,
    )
