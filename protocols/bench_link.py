"""The bench-level link: the same session over instruments, real or simulated.

Per layer the server's light is uploaded as a frame: once, or for every image where each query gets
light of its own. Per image and layer the client loads its rotation, the server triggers the frame,
both oscilloscopes record, and each party turns its own record into modes. Before a session the
server levels its light on the power meter and both find the frame in their records: with stand-ins
for the layers' light, which carry none of the weights, because nobody checks what a client does
with the light that it is aligned by. Each block of a row's modes has its own pilot and readout
slot; the client's generator plays the blocks of one row per cycle, and the rotation unit, built for
blocks of that size, counts the slots from the cycle's start.

A unit of several turns collects a mode of each block in each, by one amplifier and one arm; a block
then takes as many times its slots, with a readout slot in each turn. Light passes the elements in
each turn that is used, so that what the first turn adds loses more on its way out than what the
last one does: a server that can tell inputs apart would know the own one by its place. The client
draws the place of each mode anew for each frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from labctl.calibration.shot_noise import ReceiverCalibration, calibration_from_variances
from labctl.dsp.dsp import Sync, read_slots, synchronise
from labctl.dsp.layout import PEAK, Complexes
from labctl.dsp.phase import track_phase
from labctl.dsp.recorder import FIRST_RANGE_V, Recorder
from labctl.dsp.timing import LARGEST_ERROR_SLOTS, Clock, pooled_clock, recover_clock
from labctl.errors import SettingError, SignalError
from labctl.instruments.capabilities import Trace
from labctl.protocols.encoding import Floats
from labctl.protocols.hiding.turns import check_storage, check_turns
from labctl.protocols.link import Exchange, LayerLight, ReturnedLight
from labctl.protocols.receiver import CloneReceiver
from labctl.protocols.server.stand_in import stand_in
from labctl.protocols.server.transmitter import Level, Transmitter
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.station.equipment import Equipment

_RECORD_MARGIN_S = 2e-6
_RANGE_ROUNDS = 2
_PHASE_ROUNDS = 8
_LEAST_COHERENCE = 0.7
# One frame's preamble shows the laser's phase noise over the delay between its light and the local
# oscillator; only the slow part of it must be followed.
_LOOP_GAIN = 0.15
# The shot-noise unit's own scatter counts in every verdict: short frames take more records.
_BLOCKED_RECORDS, _MOST_RECORDS = 4, 64
_BLOCKED_SAMPLES = 200_000
_CLOCK_RECORDS = 16
_ROUGH_CLOCK_SLOTS = 0.25
_ROTATION_NAME = "ROTATION"

RawSink = Callable[[str, Floats], None]


class BenchLink:
    """Carries layers over the instruments of a station.

    `on_raw(name, array)` is given what a re-analysis needs beside the measured values: each
    frame's returned quadratures and the cosine and sine of each row's phase.
    """

    def __init__(
        self,
        equipment: Equipment,
        settings: SessionSettings,
        *,
        on_raw: RawSink | None = None,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        if not isinstance(settings.receiver, CloneReceiver):
            raise SettingError("receiver", "tap", "an amplifier: a station's rotation unit has one")
        check_turns(settings.hiding, equipment.frame.turns)
        self._server = equipment.server
        self._client = equipment.client
        self._frame = equipment.frame
        self._settings = settings
        self._on_raw = on_raw
        self._on_step = on_step
        self._basis = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(99,)))
        self._places = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(98,)))
        self._server_side = Recorder(self._server.digitizer, self._server.channel)
        self._client_side = Recorder(self._client.digitizer, self._client.channel)
        self._transmitter = Transmitter(
            equipment.server, equipment.frame, settings.mean_photons, on_step
        )
        self._layouts = self._transmitter.layouts
        self._stand_ins: dict[int, LayerLight] = {}
        self._arrival_s: float | None = None
        self._client_phase_rad = 0.0
        self._clocks: dict[str, Clock] = {}
        self._offsets_v = {"client": 0.0, "server": 0.0}

    @property
    def level(self) -> Level | None:
        """How the server's light was set, once it is."""
        return self._transmitter.level

    def duration_s(self, layer: int) -> float:
        """Return how long a prepared layer's frame lasts."""
        return self._layouts[layer].duration_s

    def prepare(self, layers: list[LayerLight]) -> None:
        """Switch on, level, align phases and ranges, all with stand-ins for the layers' light.

        `layers`: one light per layer of the shape, power and largest value of all that follows.
        Raises SettingError, before any light, where the rotation unit cannot hold a block.
        """
        for light in layers:
            check_storage(self._transmitter.layout(light), self._client.constants.storage_s)
        layers = [stand_in(light, self._settings.seed) for light in layers]
        self._stand_ins = {light.layer: light for light in layers}
        self._server.shutter.set(0.0)
        self._server.lo_phase.set(0.0)
        self._client.lo_phase.set(0.0)
        self._amplify()
        self._transmitter.prepare(layers)
        longest = max(self._layouts, key=lambda index: self._layouts[index].slots)
        self._on_step("clocks: longest frame")
        self._align(longest)
        self._learn_clocks(longest)
        for light in layers:
            self._on_step(f"layer {light.layer + 1}: find frame, align phases")
            self._align(light.layer)

    def calibrate(self) -> ReceiverCalibration:
        """Measure the verifier's noise with shutter closed, then with the laser off.

        Same frames, same matched filter, same range as the data that follow.
        """
        layer = max(self._layouts, key=lambda index: self._layouts[index].rows)
        self._transmitter.select(layer)
        self._on_step("shot noise: shutter closed")
        self._server.shutter.set(self._server.constants.shutter_closed_v)
        wanted = math.ceil(_BLOCKED_SAMPLES / self._layouts[layer].slots)
        records = min(max(wanted, _BLOCKED_RECORDS), _MOST_RECORDS)
        blocked, samples = self._noise(layer, records)
        self._on_step("electronic noise: laser off")
        self._server.laser.set_emission(False)
        electronic, electronic_samples = self._noise(layer, 1)
        self._server.laser.set_emission(True)
        self._server.shutter.set(0.0)
        calibration = calibration_from_variances(
            blocked=blocked,
            electronic=electronic,
            samples=samples,
            efficiency=self._server.constants.efficiency,
            electronic_samples=electronic_samples,
        )
        self._align(layer)
        return calibration

    def exchange(self, light: LayerLight, coefficients: Floats) -> Exchange:
        """Send one frame per image; see `Link.exchange`."""
        values = light.rows * light.blocks.count
        measured = np.empty((*coefficients.shape[:-1], values), np.float32)
        returned = []
        self._transmitter.load(light)
        self._transmitter.select(light.layer)
        for image, row in enumerate(coefficients):
            modes = row.reshape(-1, row.shape[-1])
            places = self._drawn_places(len(modes))
            client_trace, server_trace = self._shoot(light, modes[places])
            by_turn = self._client_values(light.layer, client_trace)
            measured[image].reshape(-1, values)[places] = by_turn[: len(modes)]
            if server_trace is not None:
                returned.append(self._server_values(light, server_trace))
        return Exchange(measured, returned)

    def _record_s(self, layer: int) -> float:
        return self._layouts[layer].duration_s + self._frame.longest_delay_s + _RECORD_MARGIN_S

    def _align(self, layer: int) -> None:
        """Find the frame without rotation, fit both ranges, and turn both phases to zero."""
        self._transmitter.load(self._stand_ins[layer])
        self._transmitter.select(layer)
        self._rest_rotation()
        self._client_side.range_v = self._server_side.range_v = FIRST_RANGE_V
        head_s = self._layouts[layer].rows_start_s + self._frame.longest_delay_s
        for _ in range(_RANGE_ROUNDS):
            client_trace, server_trace = self._record(layer, both=True, duration_s=head_s)
            assert server_trace is not None
            self._client_side.fit_range(client_trace)
            self._server_side.fit_range(server_trace)
        syncs = [
            self._sync(layer, self._record(layer, both=False, duration_s=head_s)[0])
            for _ in range(_PHASE_ROUNDS)
        ]
        phasor = np.mean([np.exp(1j * sync.phase_rad) for sync in syncs])
        if abs(phasor) < _LEAST_COHERENCE:
            raise SignalError(
                f"client's phase jumps between frames (coherence {abs(phasor):.2f}): are laser "
                "linewidth and path drift small over a frame, the local-oscillator path matched?"
            )
        start_s = float(np.median([sync.start_s for sync in syncs]))
        self._arrival_s = start_s - self._client.constants.detector_delay_s
        self._turn_client(float(np.angle(phasor)))
        self._learn_offsets(layer)

    def _amplify(self) -> None:
        gain = self._settings.receiver.gain
        self._client.gain.set((gain - 1.0) / self._client.constants.gain_per_v)

    def _learn_offsets(self, layer: int) -> None:
        """Learn what detectors and digitizers show in the dark, in the ranges of now."""
        self._server.shutter.set(self._server.constants.shutter_closed_v)
        self._client.gain.set(self._client.constants.gain_off_v)
        client_trace, server_trace = self._record(layer, both=True)
        assert server_trace is not None
        for party, trace in (("client", client_trace), ("server", server_trace)):
            self._offsets_v[party] = float(np.mean(trace.voltage_v, dtype=np.float64))
        self._amplify()
        self._server.shutter.set(0.0)

    def _learn_clocks(self, layer: int) -> None:
        """Learn how both digitizers run against the generator, from frames without rotation.

        Only then does the client see pilots along the whole frame. Short or dim frames tell little
        each: as many are pooled as place the last slot well, or all that are worth it.
        """
        layout = self._layouts[layer]
        found: dict[str, list[Clock]] = {"client": [], "server": []}
        for _ in range(_CLOCK_RECORDS):
            client_trace, server_trace = self._record(layer, both=True)
            assert server_trace is not None
            for party, trace in (("client", client_trace), ("server", server_trace)):
                sync = self._sync(layer, trace)
                clock = recover_clock(trace, layout, sync, largest_error_slots=_ROUGH_CLOCK_SLOTS)
                found[party].append(clock)
                self._clocks[party] = pooled_clock(found[party])
            wanted = LARGEST_ERROR_SLOTS / layout.symbol_rate_hz / client_trace.interval_s
            if all(clock.error_samples <= wanted for clock in self._clocks.values()):
                return

    def _turn_client(self, error_rad: float) -> None:
        self._client_phase_rad = math.remainder(self._client_phase_rad - error_rad, 2.0 * math.pi)
        v_pi_v = self._client.constants.phase_shifter_v_pi_v
        self._client.lo_phase.set(self._client_phase_rad / math.pi * v_pi_v)

    def _choose_basis(self) -> None:
        """Turn the server's local oscillator to a quadrature that the client cannot foresee."""
        angle = math.pi / 2.0 if self._basis.random() < 0.5 else 0.0
        self._server.lo_phase.set(angle / math.pi * self._server.constants.phase_shifter_v_pi_v)

    def _drawn_places(self, modes: int) -> npt.NDArray[np.intp]:
        """Return which mode is collected in which turn, drawn anew each time."""
        if modes == 1:
            return np.zeros(1, np.intp)
        return self._places.permutation(modes)

    def _rest_rotation(self) -> None:
        for channel in self._client.rotation.channels:
            self._client.rotation.generator.set_output(channel, False)

    def _load_rotation(self, light: LayerLight, coefficients: Floats) -> None:
        """Put one image's coefficients (K, 2n) on the client's generator, a mode for each turn.

        They start with the first row.
        """
        layout, rotation = self._layouts[light.layer], self._client.rotation
        assert self._arrival_s is not None
        by_block = light.blocks.split(coefficients).swapaxes(0, 1)
        parts = [layout.rotation_levels(block) for block in by_block]
        levels = [np.concatenate(channel) for channel in zip(*parts, strict=True)]
        rotation.play_in_cycles(
            _ROTATION_NAME,
            levels,
            sample_rate_hz=layout.sample_rate_hz,
            cycles=light.rows,
            delay_s=self._arrival_s + layout.rows_start_s,
        )

    def _shoot(self, light: LayerLight, coefficients: Floats) -> tuple[Trace, Trace | None]:
        self._load_rotation(light, coefficients)
        both = self._settings.sampling is Sampling.ALL
        if both:
            self._choose_basis()
        return self._record(light.layer, both=both)

    def _record(
        self, layer: int, *, both: bool, duration_s: float | None = None
    ) -> tuple[Trace, Trace | None]:
        """Send the layer's frame and return both parties' records (of all of it by default)."""
        sides = [self._client_side, self._server_side] if both else [self._client_side]
        for side in sides:
            side.arm(duration_s or self._record_s(layer))
        self._transmitter.send()
        client_trace = self._client_side.read()
        server_trace = self._server_side.read() if both else None
        self._transmitter.wait()
        return client_trace, server_trace

    def _sync(self, layer: int, trace: Trace) -> Sync:
        return synchronise(trace, self._layouts[layer], self._frame.longest_delay_s)

    def _client_values(self, layer: int, trace: Trace) -> Floats:
        """Return a value in V per turn and block (turns, rows * blocks).

        Keeps the phase of later frames at zero.
        """
        layout = self._layouts[layer]
        trace = _lowered(trace, self._offsets_v["client"])
        sync = self._sync(layer, trace)
        rows = layout.rows * layout.row_slots
        clock = self._clocks["client"].moved(sync)
        slots = clock.read(trace, layout, layout.first_row_slot, rows)
        self._turn_client(_LOOP_GAIN * sync.phase_rad)
        by_row = slots.reshape(layout.rows, layout.row_slots)
        return by_row[:, layout.readout_offsets].T.astype(np.float32)

    def _server_values(self, light: LayerLight, trace: Trace) -> ReturnedLight:
        """Return the quadratures of all modes, with the phase that the whole frame shows.

        The server knows every symbol it sent; the phase that preamble, pilots and payload agree
        on is known better than from the pilots alone, which matters where X and P of a mode carry
        correlated weights.
        """
        layout, blocks = self._layouts[light.layer], light.blocks
        trace = _lowered(trace, self._offsets_v["server"])
        clock = self._clocks["server"].moved(self._sync(light.layer, trace))
        read = clock.read(trace, layout, 0, layout.slots - layout.guard_symbols)
        symbols = self._sent(light)
        known = np.zeros(len(read), bool)
        known[: layout.first_row_slot] = True
        of_rows = known[layout.first_row_slot :].reshape(layout.rows, layout.row_slots)
        of_rows[:, layout.pilot_offsets] = of_rows[:, layout.mode_offsets] = True
        slots = np.flatnonzero(known)
        track = track_phase(
            read[slots],
            symbols[slots],
            slots,
            symbol_rate_hz=layout.symbol_rate_hz,
            linewidth_hz=self._frame.linewidth_hz,
        )
        mode_slots = layout.row_starts[:, None] + layout.mode_offsets
        cosine, sine = track.cosine_sine(mode_slots.reshape(light.rows, -1).mean(axis=1))
        modes = read[mode_slots].reshape(light.rows, blocks.count, blocks.size)
        chosen = ReturnedLight(
            measured=np.ascontiguousarray(blocks.join(modes)),
            cosine=cosine[:, None],
            sine=sine[:, None],
            fitted=1.0 + track.freedom * mode_slots.size / len(slots),
            offset_removed=True,
        )
        _remove_carrier(light, chosen)
        self._raw(f"returned-layer{light.layer}", chosen.measured)
        phases = np.concatenate([chosen.cosine, chosen.sine], axis=1)
        self._raw(f"phase-layer{light.layer}", phases)
        return chosen

    def _sent(self, light: LayerLight) -> Complexes:
        """Return what the frame's slots carry up to the last row's end, in SNU."""
        layout, blocks = self._layouts[light.layer], light.blocks
        pilot = np.complex64(PEAK / self._transmitter.scale)
        symbols = np.zeros(layout.slots - layout.guard_symbols, np.complex64)
        symbols[: layout.preamble_symbols] = pilot * layout.preamble
        rows = symbols[layout.first_row_slot :].reshape(layout.rows, layout.row_slots)
        rows[:, layout.pilot_offsets] = pilot * layout.pilot_symbols
        sent = blocks.split(light.x) + 1j * blocks.split(light.p)
        rows[:, layout.mode_offsets] = sent.reshape(layout.rows, -1)
        return symbols

    def _noise(self, layer: int, records: int) -> tuple[float, int]:
        """Return variance in V^2 and sample count of the server's slots, whatever is in them."""
        layout = self._layouts[layer]
        total, samples = 0.0, 0
        self._rest_rotation()
        for _ in range(records):
            _, trace = self._record(layer, both=True)
            assert trace is not None
            slots = read_slots(trace, layout, trace.start_s, 0, layout.slots)
            centred = slots - slots.mean(dtype=np.float64).astype(np.float32)
            total += float(np.vdot(centred, centred))
            samples += len(slots) - 1
        return total / samples, samples

    def _raw(self, name: str, values: Floats) -> None:
        if self._on_raw is not None:
            self._on_raw(name, values)


def _lowered(trace: Trace, offset_v: float) -> Trace:
    return replace(trace, voltage_v=trace.voltage_v - np.float32(offset_v))


def _remove_carrier(light: LayerLight, read: ReturnedLight) -> None:
    """Take off, in place, the constant that a residual carrier adds to all modes of a frame."""
    expected = read.cosine * light.x
    expected += read.sine * light.p
    centred = expected - expected.mean()
    slope = float(np.vdot(centred, read.measured)) / float(np.vdot(centred, centred))
    offset = float(read.measured.mean()) - slope * float(expected.mean())
    read.measured[...] -= np.float32(offset)
