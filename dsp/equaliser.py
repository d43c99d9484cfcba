"""A short linear equaliser for chains whose bandwidth or echoes mix neighbouring slots.

Matched-filter values half a slot apart are weighted so that their sum is as close to the known
preamble as noise allows (linear least mean square error). The light's phase is unknown; the
largest canonical correlation of values with X and P of the symbols (Hotelling, Biometrika 28, 321
(1936)) gives weights and phase together. Chains that keep pulses in their slots need none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from labctl.dsp.layout import Floats, FrameLayout
from labctl.dsp.matched_filter import read_slots
from labctl.dsp.pulses import Doubles, PulseShape
from labctl.dsp.timing import SampleClock
from labctl.errors import SettingError, SynchronisationError
from labctl.instruments.capabilities import Trace

_SPACING_SLOTS = 0.5
_LEAST_SYMBOLS_PER_TAP = 8
_STEPS = 256
_LEAST_CORRELATION = 0.5


@dataclass(frozen=True)
class Equaliser:
    """Weights of matched-filter values half a slot apart, the middle one on the slot.

    Scaled so that white noise in the record keeps its variance, as the matched filter alone does;
    still, noise is to be calibrated through the same equaliser. `gain_db`: by how much the
    preamble's residual over its signal fell, corrected for the number of weights.
    """

    weights: Doubles
    gain_db: float

    def read(
        self, trace: Trace, layout: FrameLayout, clock: SampleClock, first_slot: int, slots: int
    ) -> Floats:
        """Return equalised values in V of `slots` slots, as `Clock.read` does plain ones.

        Raises SynchronisationError where the record ends within half the equaliser's length.
        """
        values = np.zeros(slots, np.float32)
        for weight, shift in zip(self.weights, _shifts(len(self.weights)), strict=True):
            part = _shifted(trace, layout, clock, shift, first_slot, slots)
            values += np.float32(weight) * part
        return values


def train_equaliser(
    trace: Trace, layout: FrameLayout, clock: SampleClock, *, taps: int = 7
) -> Equaliser:
    """Return the equaliser of `taps` weights (odd, 3 or more) that the preamble asks for.

    Raises SettingError when the preamble is too short for so many, SynchronisationError when it
    does not show in the record.
    """
    most = layout.preamble_symbols // _LEAST_SYMBOLS_PER_TAP
    if taps < 3 or taps % 2 == 0 or taps > most:
        raise SettingError("taps", taps, f"odd, from 3 to {most} for this preamble")
    edge = math.ceil(taps * _SPACING_SLOTS / 2.0)
    count = layout.preamble_symbols - 2 * edge
    columns = [_shifted(trace, layout, clock, s, edge, count) for s in _shifts(taps)]
    values = np.stack(columns, axis=1).astype(np.float64)
    symbols = layout.preamble[edge : edge + count]
    known = np.stack([symbols.real, symbols.imag], axis=1).astype(np.float64)
    plain, _ = _correlate(values[:, taps // 2, None], known)
    best, weights = _correlate(values, known)
    if not best >= _LEAST_CORRELATION:
        raise SynchronisationError(
            f"equaliser finds no preamble (correlation {best:.2f}, minimum {_LEAST_CORRELATION}): "
            "is the record synchronised, the light on?"
        )
    weights /= math.sqrt(float(weights @ _noise_correlation(layout.pulse_shape, taps) @ weights))
    before = (1.0 / plain**2 - 1.0) / (count - 3)
    after = (1.0 / best**2 - 1.0) / (count - 2 - taps)
    gain_db = 10.0 * math.log10(max(before, 1e-15) / max(after, 1e-15))
    return Equaliser(weights if weights[taps // 2] > 0.0 else -weights, gain_db)


def _shifts(taps: int) -> Doubles:
    return (np.arange(taps) - taps // 2) * _SPACING_SLOTS


def _shifted(
    trace: Trace, layout: FrameLayout, clock: SampleClock, shift: float, first_slot: int, slots: int
) -> Floats:
    start_s = clock.start_s + shift * clock.stretch / layout.symbol_rate_hz
    return read_slots(trace, layout, start_s, first_slot, slots, stretch=clock.stretch)


def _correlate(values: Doubles, known: Doubles) -> tuple[float, Doubles]:
    """Return the largest canonical correlation and the values' weights that reach it."""
    values, known = values - values.mean(axis=0), known - known.mean(axis=0)
    basis, triangle = np.linalg.qr(values)
    target, _ = np.linalg.qr(known)
    left, correlations, _ = np.linalg.svd(basis.T @ target)
    weights, *_ = np.linalg.lstsq(triangle, left[:, 0], rcond=None)
    return float(correlations[0]), weights


def _noise_correlation(shape: PulseShape, taps: int) -> Doubles:
    """Return how white noise correlates in matched-filter values half a slot apart."""
    length = shape.early_slots + shape.late_slots
    times = (np.arange(math.ceil(length * _STEPS)) + 0.5) / _STEPS - shape.early_slots
    field = shape.field(times)
    lags = [
        float(field @ shape.field(times - lag * _SPACING_SLOTS)) / float(field @ field)
        for lag in range(taps)
    ]
    return np.asarray(linalg.toeplitz(lags))
