"""The client's half of a bench: rotation, clone and receiver; it knows none of the weights.

Per image and layer it loads its rotation, records the frame and turns its record into values. Each
block of a row's modes has its own pilot and readout slot; the generator plays the blocks of one row
per cycle, and the rotation unit, built for blocks of that size, counts the slots from the cycle's
start.

A unit of several turns collects a mode of each block in each, by one amplifier and one arm; a block
then takes as many times its slots, with a readout slot in each turn. Light passes the elements in
each turn that is used, so that what the first turn adds loses more on its way out than what the
last one does: a server that can tell inputs apart would know the own one by its place. The client
draws the place of each mode again for each frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from labctl.dsp.dsp import Sync
from labctl.errors import SettingError, SignalError
from labctl.instruments.capabilities import Trace
from labctl.protocols.bench_side import BenchSide
from labctl.protocols.encoding import Floats
from labctl.protocols.hiding.turns import check_storage
from labctl.protocols.leakage import LayerShape
from labctl.protocols.streams import party_stream
from labctl.station.equipment import ClientEquipment
from labctl.station.file import FrameTable
from labctl.units import photon_energy_j, wavelength_to_frequency_hz

# Length of the mean of unit vectors: exp(-s^2/2) is 0.7 where phases scatter by s = 0.84 rad.
_LEAST_COHERENCE = 0.7
# One frame's preamble shows the laser's phase noise over the delay between its light and the local
# oscillator; only the slow part of it must be followed.
_LOOP_GAIN = 0.15
# Half of the power: values of so little signal are worth half of what was planned. Slow drifts stay
# far above it, and the verifier's own bound on the transmittance is narrower.
_LEAST_AMPLITUDE = 0.7
# Twice the power, for the same reason on the other side: brighter light reads more of the client's
# data, and a preamble is as much brighter as the rows behind the same attenuator are.
_MOST_AMPLITUDE = 1.4
# 257 symbols show the noise's size to 4 %; three times as much costs nine tenths of F.
_MOST_NOISE = 3.0
# Of the stream of random numbers that places come from.
_PLACES_KEY = 98
# Of a pilot's amplitude; a rotation leaves 0 of it, light that is not rotated all.
_MOST_PILOT = 0.3
_SIGMAS = 5.0
# Of the preamble's amplitude: a null of 30 dB leaves 0.03, and the lock all but nothing of that.
_MOST_CARRIER = 0.3
# Pulses of the slots beside it reach into the guard.
_GUARD_EDGE = 2
# Of the noise that is seen with it: of uniform rounding beyond, the variance is not step^2/12.
_COARSEST_STEP = 2.0
# Photons are counted at 1550 nm; the station's limit needs no better.
_FREQUENCY_HZ = wavelength_to_frequency_hz(1550e-9)
_ROTATION_NAME = "ROTATION"


class BenchReceiver(BenchSide):
    """The client's instruments. gain: G of its clone, above 1. seed: of the places of modes."""

    party = "client"

    def __init__(
        self, equipment: ClientEquipment, frame: FrameTable, *, gain: float, seed: int
    ) -> None:
        super().__init__(equipment.digitizer, equipment.channel, frame)
        self._equipment = equipment
        self._gain = gain
        self._places = party_stream(seed, _PLACES_KEY)
        self._arrival_s: float | None = None
        self._aligned_v = 0.0
        self._aligned_noise_v = math.inf
        self._phase_rad = 0.0
        self._shot_noise_v2: float | None = None

    def expect(self, shapes: dict[int, LayerShape]) -> None:
        """Lay out frames of these shapes; raises SettingError if the unit cannot hold a block."""
        super().expect(shapes)
        for layer in shapes:
            check_storage(self.layouts[layer], self._equipment.constants.storage_s)

    def settle(self) -> None:
        """Turn the local oscillator to where it starts, and the clone on."""
        self._equipment.lo_phase.set(0.0)
        self.amplify()

    def amplify(self) -> None:
        """Set the clone to its gain."""
        self._equipment.gain.set((self._gain - 1.0) / self._equipment.constants.gain_per_v)

    def darken(self) -> None:
        """Set the clone so that it passes no light on to the detector."""
        self._equipment.gain.set(self._equipment.constants.gain_off_v)

    def rest(self) -> None:
        """Leave the light as it comes: no rotation."""
        for channel in self._equipment.rotation.channels:
            self._equipment.rotation.generator.set_output(channel, False)

    def drawn_places(self, modes: int) -> npt.NDArray[np.intp]:
        """Return which mode is collected in which turn, drawn again each time."""
        if modes == 1:
            return np.zeros(1, np.intp)
        return self._places.permutation(modes)

    def load(self, layer: int, coefficients: Floats) -> None:
        """Put one image's coefficients (K, 2n) on the generator, a mode for each turn.

        They start with the first row.
        """
        layout, shape = self.layouts[layer], self._shapes[layer]
        if self._arrival_s is None:
            raise SettingError("arrival of the frame", None, "found before a rotation is loaded")
        by_block = shape.blocks.split(coefficients).swapaxes(0, 1)
        parts = [layout.rotation_levels(block) for block in by_block]
        levels = [np.concatenate(channel) for channel in zip(*parts, strict=True)]
        self._equipment.rotation.play_in_cycles(
            _ROTATION_NAME,
            levels,
            sample_rate_hz=layout.sample_rate_hz,
            cycles=shape.rows,
            delay_s=self._arrival_s + layout.rows_start_s,
        )

    def phase_rad2(self) -> float | None:
        """Return the variance of the phases of the last values, None where none is tracked."""
        return None

    def found(self, layer: int, trace: Trace) -> Sync | None:
        """Return where a frame to align by is in its record, None where it is not to be used."""
        return self.sync(layer, trace)

    def align(self, syncs: Sequence[Sync]) -> None:
        """Turn the phase to zero, and learn when frames arrive; raises SignalError if it jumps."""
        phasor = np.mean([np.exp(1j * sync.phase_rad) for sync in syncs])
        if abs(phasor) < _LEAST_COHERENCE:
            raise SignalError(
                f"client's phase jumps between frames (coherence {abs(phasor):.2f}): are laser "
                "linewidth and path drift small over a frame, the local-oscillator path matched?"
            )
        self._learn(syncs)
        self._turn(float(np.angle(phasor)))

    def _learn(self, syncs: Sequence[Sync]) -> None:
        """Learn when frames arrive, and how bright and how noisy they are."""
        start_s = float(np.median([sync.start_s for sync in syncs]))
        self._aligned_v = float(np.median([sync.amplitude for sync in syncs]))
        self._aligned_noise_v = float(np.median([sync.noise for sync in syncs]))
        self._arrival_s = start_s - self._equipment.constants.detector_delay_s

    def learn_dark(self, layer: int, trace: Trace) -> None:
        """Learn offset and shot noise from a record to which the clone passed no light on.

        Raises StoppedError if the light that the layer was aligned by is more than may arrive,
        SignalError if it is so bright that a record in its range does not show the shot noise.
        """
        self.learn_offset(trace)
        if self._equipment.arriving is None:
            return
        squares, count = self.noise(layer, trace)
        in_snu = 1.0 + self._equipment.constants.electronic_noise
        self._shot_noise_v2 = (1.0 - _share_of_rounding(trace)) * squares / count / in_snu
        self._check_arriving(self._aligned_v)

    def arriving_power_w(self, amplitude_v: float) -> float:
        """Return the power in W in the fibre while a preamble of this amplitude in V lasts.

        A^2 = 4 S N eta (G - 1), with the shot noise S in V^2, N photons of a symbol before the
        clone, whose measured arm has G - 1 times as many, and the receiver's efficiency eta
        (`calibration.routines.bright_frame`). At 1550 nm: 4 % off at the ends of the C and L bands.
        Infinite where no shot noise was seen; raises SettingError before it is learnt.
        """
        if self._shot_noise_v2 is None:
            raise SettingError("shot noise", None, "learnt before a power is found")
        passed = self._equipment.constants.efficiency * (self._gain - 1.0)
        unit_v2 = 4.0 * self._shot_noise_v2 * passed
        photons = amplitude_v**2 / unit_v2 if unit_v2 > 0.0 else math.inf
        return photons * photon_energy_j(_FREQUENCY_HZ) * self._frame.symbol_rate_hz

    def values(self, layer: int, trace: Trace) -> Floats:
        """Return a value in V per turn and block (turns, rows * blocks).

        Keeps the phase of later frames at zero. Raises SignalError where the preamble is far
        brighter than when the layer was aligned, StoppedError where more arrives than the station
        allows. Likewise where it is far dimmer, or pilots show
        that nothing rotated the modes: values would be noise, and look like any others.
        """
        layout = self.layouts[layer]
        lowered, sync, clock = self._found(layer, trace)
        self._check_arriving(sync.amplitude)
        self._check_amplitude(sync)
        self._check_noise(sync)
        rows = layout.rows * layout.row_slots
        slots = clock.read(lowered, layout, layout.first_row_slot, rows)
        self._turn(_LOOP_GAIN * sync.phase_rad)
        by_row = slots.reshape(layout.rows, layout.row_slots)
        guard = clock.read(
            lowered, layout, layout.slots - layout.guard_symbols, layout.guard_symbols
        )
        _check_carrier(guard[_GUARD_EDGE:-_GUARD_EDGE], sync)
        _check_rotated(by_row[:, layout.pilot_offsets], layout.pilot_symbols.real, sync)
        return by_row[:, layout.readout_offsets].T.astype(np.float32)

    def _check_arriving(self, amplitude_v: float) -> None:
        limit = self._equipment.arriving
        if limit is not None:
            limit.check(self.arriving_power_w(amplitude_v))

    def _check_amplitude(self, sync: Sync) -> None:
        if sync.amplitude < _LEAST_AMPLITUDE * self._aligned_v:
            raise SignalError(
                f"client's preamble has {sync.amplitude:.3g} V, {self._aligned_v:.3g} V when it "
                "was aligned: is the light dimmer, its polarisation turned, the local oscillator "
                "dimmed?"
            )
        if sync.amplitude > _MOST_AMPLITUDE * self._aligned_v:
            raise SignalError(
                f"client's preamble has {sync.amplitude:.3g} V, {self._aligned_v:.3g} V when it "
                "was aligned: arriving light is brighter, which would read the client's data; is "
                "the attenuator where it is set, the laser's power?"
            )

    def _check_noise(self, sync: Sync) -> None:
        if sync.noise > _MOST_NOISE * self._aligned_noise_v:
            raise SignalError(
                f"client's preamble differs by {sync.noise:.3g} V from what was sent, by "
                f"{self._aligned_noise_v:.3g} V when it was aligned: has a modulator's bias moved, "
                "does the phase jump, is other light in the fibre?"
            )

    def _turn(self, error_rad: float) -> None:
        self._phase_rad = math.remainder(self._phase_rad - error_rad, 2.0 * math.pi)
        v_pi_v = self._equipment.constants.phase_shifter_v_pi_v
        self._equipment.lo_phase.set(self._phase_rad / math.pi * v_pi_v)


def _share_of_rounding(dark: Trace) -> float:
    """Return how much of a record's variance is from the digitizer's steps; raises SignalError.

    Uniform rounding adds step^2/12, for steps up to twice the noise. All of it is taken off, though
    the matched filter passes less of it than of the noise: the power is rather found too large.
    """
    levels = np.unique(dark.voltage_v)
    variance_v2 = float(np.var(dark.voltage_v, dtype=np.float64))
    step_v = float(np.min(np.diff(levels))) if len(levels) > 1 else math.inf
    if step_v > _COARSEST_STEP * math.sqrt(variance_v2):
        raise SignalError(
            f"client's digitizer has steps of {step_v:.3g} V in the range of this light, its shot "
            f"noise {math.sqrt(variance_v2):.3g} V: arriving light is too bright to tell its power"
        )
    return step_v**2 / 12.0 / variance_v2


def _check_carrier(guard: Floats, sync: Sync) -> None:
    """Raise SignalError where slots that carry nothing show light that is not modulated.

    The rotation adds it up over all modes: values would be that light, not the weights.
    """
    carrier = float(np.mean(guard)) / sync.amplitude
    error = sync.noise / sync.amplitude / math.sqrt(len(guard))
    if abs(carrier) > _MOST_CARRIER + _SIGMAS * error:
        raise SignalError(
            f"frame's dark slots show light (amplitude {carrier:.2f} of the preamble's, 0 "
            "expected): has a modulator's bias moved?"
        )


def _check_rotated(pilots: Floats, known: Floats, sync: Sync) -> None:
    """Raise SignalError where pilots show in a rotated row.

    A rotation collects all light of a row in its readout slots. Pilots on X, at the phase that the
    client keeps, have the preamble's amplitude where nothing was rotated; `known` is what each has
    on X, 0 or 1, and both are (rows, pilots).
    """
    count = float(np.sum(known**2))
    seen = float(np.vdot(known, pilots)) / count / sync.amplitude
    error = sync.noise / sync.amplitude / math.sqrt(count)
    if seen > _MOST_PILOT + _SIGMAS * error:
        raise SignalError(
            f"pilots of the rows arrive unrotated (amplitude {seen:.2f}, 0 expected): was the "
            "rotation loaded, does its generator get the trigger?"
        )
