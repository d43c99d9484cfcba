"""A client's receiver whose local oscillator is its own laser: heterodyne, turned by pilots.

The laser is `beat_hz` beside the signal's frequency, so one detector shows X and P of each slot,
each with half of its efficiency, at the phase that both lasers have. Per frame:

1. Preamble: the beat's frequency, and where the frame begins. While frames are aligned by, the
   laser is tuned until its beat is where the station file wants it.
2. Preamble and pilots: the phase of each row, with the variance that is left (dsp/pilot_phase.py).
   The rotation unit has to pass its pilots to the detector.
3. Each row's readout is turned by its phase; the real part is the row's value.

Nothing of the local oscillator comes from the server.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from labctl.dsp.beat import Beat, beat_at, find_beat
from labctl.dsp.dsp import Sync, read_slots
from labctl.dsp.heterodyne import demodulated
from labctl.dsp.layout import PEAK, Complexes, FrameLayout
from labctl.dsp.pilot_phase import RowPhases, track_rows
from labctl.dsp.pilot_variance import RowPhase
from labctl.errors import SettingError, SignalError
from labctl.instruments.capabilities import Trace
from labctl.protocols.alignment import AlignmentFrame, AlignmentPurpose
from labctl.protocols.client.bench_receiver import BenchReceiver
from labctl.protocols.encoding import Floats
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.station.equipment import ClientEquipment, ClientLaser
from labctl.station.file import FrameTable

# Fine tuning has steps of 1 MHz in some lasers; a filter made for 1 MHz beside loses 0.3 % of a
# pulse's energy and passes 0.1 % of its image.
_TUNED_HZ = 1.5e6
# Each time that the laser was tuned; a third means that it does not go where it is set.
_MOST_TUNINGS = 2
# Of the preamble's amplitude; as for a homodyne receiver (bench_receiver.py).
_MOST_CARRIER = 0.3
_GUARD_EDGE = 2
# Of the light of a payload that is not rotated: RMS field 0.1 of the largest in X and in P, if no
# weight is beyond 9.5 times the RMS, else less.
_RMS_FIELD, _MOST_UNROTATED = 0.1, 0.3
# Of the noise: what gain and efficiency of a station file leave unknown of the clone's own.
_UNKNOWN_NOISE = 0.02
_SIGMAS = 5.0
# Of a pilot's energy: a unit that hides its pilots shows none of it.
_LEAST_PILOT = 0.3


class OwnLaserReceiver(BenchReceiver):
    """The client's instruments with their own local oscillator; see `BenchReceiver`.

    `tracked`: of the last frame of each layer, what its rows' phases were and how well known.
    """

    def __init__(
        self, equipment: ClientEquipment, frame: FrameTable, *, gain: float, seed: int
    ) -> None:
        super().__init__(equipment, frame, gain=gain, seed=seed)
        own = equipment.local_oscillator
        if own is None:
            raise SettingError("local_oscillator", None, "a laser of the client's own")
        if frame.turns != 1:
            raise SettingError("turns", frame.turns, "1: pilots of further turns are not measured")
        self._own: ClientLaser = own
        self._laser_hz = own.signal_frequency_hz + own.beat_hz
        self._beat_hz = own.beat_hz
        self._tunings = 0
        self._start_s: float | None = None
        self._dark: dict[int, tuple[float, int]] = {}
        self.tracked: dict[int, RowPhases] = {}

    def settle(self) -> None:
        """Switch the local oscillator on beside the signal's frequency, and the clone."""
        laser = self._own.laser
        laser.set_frequency(self._laser_hz)
        laser.set_power(self._own.power_w)
        laser.set_emission(True)
        super().settle()

    def alignment_s(self, frame: AlignmentFrame) -> float:
        """Return how long a record lasts: of the whole frame, whose pilots show where it begins."""
        if frame.purpose is AlignmentPurpose.PHASE:
            return self.record_s(frame.layer)
        return super().alignment_s(frame)

    def sync(self, layer: int, trace: Trace) -> Sync:
        """Find the frame in a record, in the frame of the signal; raises SynchronisationError."""
        return self._beat(layer, trace).sync

    def found(self, layer: int, trace: Trace) -> Sync | None:
        """Return where a frame is, None if it shows that the laser had to be tuned.

        Raises SignalError where the beat is not where it is wanted after tuning.
        """
        beat = self._beat(layer, trace)
        off_hz = beat.frequency_hz - self._own.beat_hz
        if abs(off_hz) <= _TUNED_HZ:
            self._tunings = 0
            return beat.sync
        if self._tunings == _MOST_TUNINGS:
            raise SignalError(
                f"own laser beats at {beat.frequency_hz / 1e6:+.4g} MHz with the signal, "
                f"{self._own.beat_hz / 1e6:.4g} MHz wanted, after it was tuned "
                f"{_MOST_TUNINGS} times: does its frequency follow what is set, does it drift?"
            )
        self._tunings += 1
        self._laser_hz -= off_hz
        self._own.laser.set_frequency(self._laser_hz)
        self._beat_hz = self._own.beat_hz
        # Searched for again: one symbol rate beside it, a beat looks much the same.
        self._start_s = None
        return None

    def align(self, syncs: Sequence[Sync]) -> None:
        """Learn when frames arrive and how bright; raises SignalError if none could be used."""
        if not syncs:
            raise SignalError("no frame to align by was found at the wanted beat of both lasers")
        self._learn(syncs)

    def learn_dark(self, layer: int, trace: Trace) -> None:
        """Learn offset and noise without light; raises as `BenchReceiver.learn_dark`."""
        super().learn_dark(layer, trace)
        squares, count = self.noise(layer, trace)
        self._dark[layer] = squares / count, count

    def noise(self, layer: int, trace: Trace) -> tuple[float, int]:
        """Return sum of squares in V^2 and degrees of freedom in one quadrature about the beat."""
        layout = self.layouts[layer]
        record = demodulated(_centred(trace), layout, self._beat_hz)
        slots = read_slots(record.in_phase, layout, trace.start_s, 0, layout.slots)
        return float(np.vdot(slots, slots)), len(slots)

    def values(self, layer: int, trace: Trace) -> Floats:
        """Return a value in V per turn and block (1, rows * blocks).

        Raises SignalError and StoppedError as `BenchReceiver.values`, and SignalError where the
        lasers' phases cannot be followed by the pilots.
        """
        layout = self.layouts[layer]
        self._check_clipping(trace)
        beat = self._beat(layer, trace)
        self._check_arriving(beat.sync.amplitude)
        self._check_amplitude(beat.sync)
        self._check_noise(beat.sync)
        if self._clock is None:
            raise SettingError("clock", None, "learnt from frames before values are read")
        clock = self._clock.moved(beat.sync)
        frame = beat.record.read(clock, layout, 0, layout.slots)
        rows = frame[layout.first_row_slot : layout.slots - layout.guard_symbols]
        by_row = rows.reshape(layout.rows, layout.row_slots)
        guard = frame[layout.slots - layout.guard_symbols :][_GUARD_EDGE:-_GUARD_EDGE]
        _check_carrier(guard, beat.sync)
        self._check_rotated(layer, by_row[:, layout.mode_offsets[1:-1]], beat.sync)
        _check_pilots(by_row[:, layout.pilot_offsets], beat.sync)
        slots, symbols = layout.reference
        found = track_rows(
            frame[slots], symbols, slots, head=layout.preamble_symbols, row=self.row(layout)
        )
        self.tracked[layer] = found
        return found.turned(by_row[:, layout.readout_offsets]).real.T.astype(np.float32)

    def _check_rotated(self, layer: int, modes: Complexes, sync: Sync) -> None:
        """Raise SignalError where modes show in a rotated row, which carries none but its readout.

        `modes` (rows, modes) without those beside pilot and readout, into which these reach. The
        noise is that of the dark record, and what the clone adds to it.
        """
        if modes.size == 0:
            return
        if layer not in self._dark:
            raise SettingError("dark record", None, "learnt before values are read")
        dark_v2, count = self._dark[layer]
        constants = self._equipment.constants
        clone = CloneReceiver(
            self._gain,
            constants.emission_factor,
            Homodyne(constants.efficiency, constants.electronic_noise),
        )
        noise_v2 = 2.0 * dark_v2 * clone.measured_noise / (1.0 + constants.electronic_noise)
        seen_v2 = float(np.mean(np.abs(modes) ** 2)) - noise_v2
        usual_v2 = 2.0 * (_RMS_FIELD / PEAK * sync.amplitude) ** 2
        error_v2 = noise_v2 * math.sqrt(1.0 / modes.size + 2.0 / count)
        most_v2 = max(_MOST_UNROTATED * usual_v2, _UNKNOWN_NOISE * noise_v2)
        if seen_v2 > most_v2 + _SIGMAS * error_v2:
            raise SignalError(
                f"modes of the rows arrive unrotated ({seen_v2 / usual_v2:.2f} of their power, 0 "
                "expected): was the rotation loaded, does its generator get the trigger?"
            )

    def phase_rad2(self) -> float | None:
        """Return the largest of all layers' variances in rad^2, the spread of modes included."""
        return max(
            (
                found.residual_variance_rad2 + self.row(self.layouts[layer]).within_rad2
                for layer, found in self.tracked.items()
            ),
            default=None,
        )

    def row(self, layout: FrameLayout) -> RowPhase:
        """Return what the lasers' phases do in a row of a frame, by their stated linewidths."""
        return RowPhase.of(
            layout.row_slots,
            layout.modes,
            symbol_rate_hz=layout.symbol_rate_hz,
            signal_linewidth_hz=self._own.signal_linewidth_hz,
            oscillator_linewidth_hz=self._own.linewidth_hz,
        )

    def _timed(self, layer: int, trace: Trace) -> tuple[Trace, Sync]:
        beat = self._beat(layer, trace)
        return beat.record.in_phase, beat.sync

    def _beat(self, layer: int, trace: Trace) -> Beat:
        """Find beat and frame; once a frame was found, all later ones begin in the same slot."""
        layout, centred = self.layouts[layer], _centred(trace)
        if self._start_s is None:
            beat = find_beat(
                centred,
                layout,
                longest_delay_s=self._frame.longest_delay_s,
                highest_hz=self._own.highest_beat_hz,
            )
            self._start_s = beat.sync.start_s
        else:
            beat = beat_at(centred, layout, start_s=self._start_s, near_hz=self._beat_hz)
        self._beat_hz = beat.frequency_hz
        return beat


def bench_receiver(
    equipment: ClientEquipment, frame: FrameTable, *, gain: float, seed: int
) -> BenchReceiver:
    """Return the client's receiver for its local oscillator: its own laser, or the server's."""
    kind = BenchReceiver if equipment.local_oscillator is None else OwnLaserReceiver
    return kind(equipment, frame, gain=gain, seed=seed)


def _centred(trace: Trace) -> Trace:
    """Return a record without its mean, which a detector's and a digitizer's offsets are."""
    mean = np.float32(np.mean(trace.voltage_v, dtype=np.float64))
    return replace(trace, voltage_v=trace.voltage_v - mean)


def _check_pilots(pilots: Complexes, sync: Sync) -> None:
    """Raise SignalError where pilots of rotated rows do not reach the detector."""
    seen = (float(np.mean(np.abs(pilots) ** 2)) - 2.0 * sync.noise**2) / sync.amplitude**2
    if seen < _LEAST_PILOT:
        raise SignalError(
            f"pilots of the rows do not show ({seen:.2f} of the preamble's energy, 1 expected): "
            "with its own laser the client needs a rotation unit that passes its pilots to the "
            "detector, and light that lasts for the whole frame"
        )


def _check_carrier(guard: Complexes, sync: Sync) -> None:
    """Raise SignalError where slots that carry nothing show light that is not modulated."""
    carrier = abs(complex(np.mean(guard))) / sync.amplitude
    error = sync.noise / sync.amplitude / math.sqrt(len(guard))
    if carrier > _MOST_CARRIER + _SIGMAS * error:
        raise SignalError(
            f"frame's dark slots show light (amplitude {carrier:.2f} of the preamble's, 0 "
            "expected): has a modulator's bias moved?"
        )
