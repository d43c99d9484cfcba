"""The beat of two lasers, found from a frame's preamble: how far their frequencies are apart.

A Zadoff-Chu preamble is a chirp: a frequency off by one turn over the preamble looks like a frame
that comes one slot later, but for the slot at each end. So the search has two parts.

1. Correlations with the preamble at steps of 5 MHz find a place on that line, of either sign: at
   the wrong sign the chirp runs the other way.
2. For each slot along the line the preamble, turned back by its known symbols, is a tone; its
   spectrum has the energy that the frequency explains. Only at the true slot do the rows' pilots
   lie where bright pulses are; their energy decides.
3. Slots sample that tone, so that a beat one symbol rate beside looks the same but for the energy
   that the filter of a pulse then misses. The brightest is taken.

Where the frame begins is known from earlier records, the second part's spectrum alone is enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from labctl.dsp.dsp import Sync, synchronise
from labctl.dsp.heterodyne import (
    BeatRecord,
    amplitude_and_noise,
    demodulated,
    highest_beat_hz,
    turned_back,
)
from labctl.dsp.layout import Complexes, FrameLayout
from labctl.dsp.matched_filter import read_slots, samples_per_symbol
from labctl.dsp.pulses import Doubles, pulse_train
from labctl.errors import SynchronisationError
from labctl.instruments.capabilities import Trace

# Half a step off, 2.5 MHz, a pulse turns by 0.1 turn over its length: 2 % of its energy.
_STEP_HZ = 5e6
# In slots along the line: a step may win beside the nearest one. One step and a half is 96 turns
# over a preamble of 257 symbols at 20 MBd.
_REACH = 112
# Bins of a spectrum per turn over the preamble; the top between two is that of a parabola.
_BINS_PER_TURN = 16
# As for one correlation (dsp.py): the Rayleigh distribution is beyond it with probability 2e-11.
_LEAST_PEAK = 7.0
# A tone has all energy but the noise's: 0.3 where one symbol's phase variance is 1.2 rad^2. Noise
# has 4 % in one bin, a preamble that is read one symbol rate beside its beat 0.25.
_LEAST_EXPLAINED = 0.3
# Natural logarithms of likelihood: a factor of 3000 between the best slot and the next.
_LEAST_MARGIN = 8.0
# Symbol rates to either side: more than fit into a record of 8 samples per symbol.
_ALIASES = 4
# Lags of a correlation beside its top that show the background.
_LEAST_LAGS = 256


@dataclass(frozen=True)
class Beat:
    """The local oscillator's frequency above the signal's, with its standard error, in Hz.

    `sync`: of the record in the signal's frame, whose parts are `record`; amplitude and noise are
    those of one quadrature, also where the phase wanders meanwhile.
    """

    frequency_hz: float
    error_hz: float
    sync: Sync
    record: BeatRecord


def find_beat(
    trace: Trace, layout: FrameLayout, *, longest_delay_s: float, highest_hz: float
) -> Beat:
    """Find beat and begin of a frame whose rows are not rotated.

    highest_hz: what the detector still passes. Raises SynchronisationError where no preamble stands
    out at any beat up to there, or the record does not tell where the frame begins.
    """
    highest_hz = min(highest_hz, highest_beat_hz(trace, layout))
    near_hz, lag = _coarse(trace, layout, longest_delay_s, highest_hz)
    ratio = samples_per_symbol(trace, layout)
    start_s = trace.start_s + lag * trace.interval_s
    places, frequencies, gains = _along_line(trace, layout, start_s, near_hz)
    order = np.argsort(gains)
    best = int(order[-1])
    if len(order) > 1 and gains[best] - gains[int(order[-2])] < _LEAST_MARGIN:
        raise SynchronisationError(
            f"frame begins in one of two slots, {places[best]:g} or {places[int(order[-2])]:g} "
            "beside the top of its correlation: more light, or more rows with their pilots"
        )
    begin_s = start_s + int(places[best]) * ratio * trace.interval_s
    near_hz = _brightest(trace, layout, begin_s, float(frequencies[best]))
    if abs(near_hz) > highest_hz:
        raise SynchronisationError(
            f"both lasers beat at {near_hz / 1e6:+.4g} MHz, at most {highest_hz / 1e6:.4g} MHz are "
            "in the receiver's band: set the own laser nearer to the signal's frequency"
        )
    # The frequency again, now where pulses are seen by a filter of the right frequency.
    return beat_at(trace, layout, start_s=begin_s, near_hz=near_hz)


def _brightest(trace: Trace, layout: FrameLayout, start_s: float, near_hz: float) -> float:
    """Return the beat in Hz, whole symbol rates from `near_hz`, with the most of the preamble."""
    highest_hz = 0.5 / trace.interval_s
    rates = np.arange(-_ALIASES, _ALIASES + 1) * layout.symbol_rate_hz
    tried = [hz for hz in (near_hz + rates).tolist() if abs(hz) <= highest_hz]
    end = start_s + (layout.preamble_symbols + 1) / layout.symbol_rate_hz
    samples = math.ceil((end - trace.start_s) / trace.interval_s)
    head = Trace(trace.start_s, trace.interval_s, trace.voltage_v[:samples])
    reads = [_preamble_read(turned_back(head, hz), layout, start_s, 0) for hz in tried]
    explained = [_top(read * layout.preamble.conj())[1] for read in reads]
    return float(tried[int(np.argmax(explained))]) if tried else near_hz


def beat_at(trace: Trace, layout: FrameLayout, *, start_s: float, near_hz: float) -> Beat:
    """Return the beat of a frame that begins at `start_s`, to a fraction of a slot.

    near_hz: within half of the symbol rate. Raises SynchronisationError where no tone stands out.
    """
    record = demodulated(trace, layout, near_hz)
    tone = _preamble_read(record, layout, start_s, 0) * layout.preamble.conj()
    turns, explained = _top(tone)
    total = float(np.vdot(tone, tone).real)
    if not explained >= _LEAST_EXPLAINED * total:
        raise SynchronisationError(
            f"no beat of the frame's preamble near {near_hz / 1e6:+.4g} MHz (it explains "
            f"{explained / max(total, 1e-300):.0%} of the energy there, {_LEAST_EXPLAINED:.0%} "
            "needed): has a laser's frequency jumped, is the light blocked?"
        )
    per_slot = turns / len(tone)
    # The tone turns by exp(-2 pi i (beat - near) t).
    found_hz = near_hz - per_slot * layout.symbol_rate_hz
    ratio = (total - explained) / explained
    error = math.sqrt(12.0 * ratio / len(tone) ** 3) / (2.0 * math.pi) * layout.symbol_rate_hz
    record = demodulated(trace, layout, found_hz)
    sync = _synchronised(record, layout, start_s)
    tone = _preamble_read(record, layout, sync.start_s, 0) * layout.preamble.conj()
    amplitude, noise = amplitude_and_noise(tone)
    return Beat(found_hz, error, replace(sync, amplitude=amplitude, noise=math.sqrt(noise)), record)


def _coarse(
    trace: Trace, layout: FrameLayout, longest_delay_s: float, highest_hz: float
) -> tuple[float, int]:
    """Return a beat in Hz and a lag in samples on the line of the best correlation."""
    from scipy import signal

    ratio = samples_per_symbol(trace, layout)
    samples = math.ceil(layout.preamble_symbols * ratio)
    reference = pulse_train(layout.pulse_shape, layout.preamble, 1.0 / ratio, samples)
    lags = max(math.ceil(longest_delay_s / trace.interval_s), _LEAST_LAGS)
    head = np.asarray(trace.voltage_v[: samples + lags], np.float32)
    if len(head) < samples + 1:
        raise SynchronisationError(
            f"record of {len(trace.voltage_v)} samples is shorter than the preamble ({samples} "
            "samples): record for longer"
        )
    head = head - head.mean()
    time_s = np.arange(samples) * trace.interval_s
    best, found = 0.0, (0.0, 0)
    steps = math.floor(highest_hz / _STEP_HZ)
    for step in range(-steps, steps + 1):
        near_hz = step * _STEP_HZ
        # y holds conj(E) exp(i w t) too, of which a filter for E exp(-i w t) passes little.
        turned = reference * np.exp(-2j * math.pi * near_hz * time_s).astype(np.complex64)
        size = np.abs(signal.correlate(head, turned, mode="valid", method="fft"))
        background = float(np.median(size)) / math.sqrt(2.0 * math.log(2.0))
        top = int(np.argmax(size))
        peak = float(size[top]) / background if background > 0.0 else 0.0
        if peak > best:
            best, found = peak, (near_hz, top)
    if best < _LEAST_PEAK:
        raise SynchronisationError(
            f"no beat of the frame's preamble up to {highest_hz / 1e6:.4g} MHz (best correlation "
            f"{best:.1f} sigma, minimum {_LEAST_PEAK}): is the own laser's frequency that of the "
            "signal to within the receiver's band, are both lasers on, is the light not blocked?"
        )
    return found


def _along_line(
    trace: Trace, layout: FrameLayout, start_s: float, near_hz: float
) -> tuple[Doubles, Doubles, Doubles]:
    """Return slots beside `start_s`, the beat in Hz at each, and its log-likelihood.

    In units of the noise that the record has where it is darkest.
    """
    record = demodulated(trace, layout, near_hz)
    ratio = samples_per_symbol(trace, layout)
    slot_s = ratio * trace.interval_s
    room = math.floor((start_s - trace.start_s) / slot_s)
    first = -min(_REACH, max(room - 1, 0))
    end = (len(trace.voltage_v) - 1) * trace.interval_s + trace.start_s
    last = min(math.floor((end - start_s) / slot_s) - 1, layout.slots + _REACH)
    values = _read(record, layout, start_s, first, last - first)
    energy = np.abs(values) ** 2
    length = layout.preamble_symbols
    noise = max(float(np.quantile(energy, 0.1)) / -math.log(0.9), 1e-300)
    pilots = layout.row_starts
    places = np.arange(first, _REACH + 1)
    places = places[places + length <= last]
    frequencies, gains = np.empty(len(places)), np.empty(len(places))
    for index, place in enumerate(places):
        begin = int(place) - first
        tone = values[begin : begin + length] * layout.preamble.conj()
        turns, explained = _top(tone)
        frequencies[index] = near_hz - turns / length * layout.symbol_rate_hz
        known = pilots + begin
        known = known[known < len(energy)]
        gains[index] = (explained + float(np.sum(energy[known]))) / noise
    return places.astype(np.float64), frequencies, gains


def _preamble_read(record: BeatRecord, layout: FrameLayout, start_s: float, slot: int) -> Complexes:
    return _read(record, layout, start_s, slot, layout.preamble_symbols)


def _read(
    record: BeatRecord, layout: FrameLayout, start_s: float, first: int, slots: int
) -> Complexes:
    values = np.empty(slots, np.complex64)
    values.real = read_slots(record.in_phase, layout, start_s, first, slots)
    values.imag = read_slots(record.quadrature, layout, start_s, first, slots)
    return values


def _top(tone: Complexes) -> tuple[float, float]:
    """Return a tone's frequency in turns over its length, and the energy that it explains."""
    count = len(tone)
    bins = _BINS_PER_TURN * count
    power = np.abs(np.fft.fft(tone, bins)) ** 2 / count
    top = int(np.argmax(power))
    before, middle, after = (float(power[(top + step) % bins]) for step in (-1, 0, 1))
    curve = before - 2.0 * middle + after
    shift = 0.5 * (before - after) / curve if curve < 0.0 else 0.0
    place = top + shift - (bins if top > bins // 2 else 0)
    return place / _BINS_PER_TURN, middle - 0.25 * (before - after) * shift


def _synchronised(record: BeatRecord, layout: FrameLayout, start_s: float) -> Sync:
    """Find the preamble within a slot of `start_s`, in the part of the record around it."""
    trace = record.in_phase
    ratio = samples_per_symbol(trace, layout)
    skip = max(math.floor((start_s - trace.start_s) / trace.interval_s - ratio), 0)
    part = Trace(trace.start_s + skip * trace.interval_s, trace.interval_s, trace.voltage_v[skip:])
    return synchronise(part, layout, 2.0 * ratio * trace.interval_s)
