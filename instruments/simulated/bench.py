"""The simulated link: light from one laser to both parties, computed when a detector is read.

laser -> I/Q modulator -> monitor tap -> attenuators -> launch tap -> fibre -> arrival tap
    -> client's rotation and clone -> client's homodyne
                                   -> fibre -> return tap -> shutter -> server's homodyne
Both local oscillators are taken from the same laser over their own paths. A trigger makes every
armed digitizer acquire; the fields upstream are computed once for all of them, from the settings
of that moment. Records of up to 2^23 grid samples (52 ms at 160 MHz) are computed all along, in
pieces; of longer ones, the instants of their samples alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from labctl.instruments.simulated.bench_light import Light, Optics, Receiver
from labctl.instruments.simulated.bench_truth import BenchTruth
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panel import FrontPanel
from labctl.instruments.simulated.physics.detection import (
    PowerHead,
    SensorParameters,
    convert,
    digitize,
)
from labctl.instruments.simulated.physics.grid import Instants, Noise, Real, Window, union
from labctl.instruments.simulated.ports import Capture, CaptureWindow
from labctl.instruments.simulated.side_tables import PanelDoors
from labctl.units import frequency_to_wavelength_m, photon_energy_j

LONGEST_WHOLE = 1 << 23
"""Longest record, in grid samples, whose light is computed all along."""
# Grid samples computed at a time, so that a record of any length takes the memory of this many.
_PIECE = 1 << 19
# The same where a long record is computed at its own instants alone.
_INSTANTS = 1 << 17
# Grid samples; of a longer period a slow head's mean is that of its beginning.
_LONGEST_AVERAGE = 4_000_000


class TriggerCable:
    """A cable that instruments pulse and listen on; implements `TriggerPort`."""

    def __init__(self, clock: BenchClock, acquire: Callable[[float], None]) -> None:
        self._clock = clock
        self._acquire = acquire
        self._listeners: list[Callable[[float], None]] = []
        self._reaches = (True, True)

    def fire(self) -> None:
        """Pulse the cable; see `TriggerPort`."""
        now_s = self._clock.now_s()
        to_listeners, to_digitizers = self._reaches
        for listener in self._listeners if to_listeners else ():
            listener(now_s)
        if to_digitizers:
            self._acquire(now_s)

    def unplug(self, *, digitizers: bool) -> Callable[[], None]:
        """Pull the cable at the generators that listen, or everywhere; returns what plugs it in."""
        before, self._reaches = self._reaches, (False, not digitizers)

        def plug_in() -> None:
            self._reaches = before

        return plug_in

    def listen(self, callback: Callable[[float], None]) -> None:
        """Call back at each pulse."""
        self._listeners.append(callback)


class Digitizer:
    """A front end at a receiver; several may share one. Implements `DigitizerPort`.

    `clock_offset`: by how much its clock runs fast, relative to the generators'.
    """

    def __init__(self, receiver: str, take: Callable[[Digitizer, CaptureWindow], Capture]) -> None:
        self.receiver = receiver
        self._take = take
        self.clock_offset = 0.0
        self.armed: tuple[CaptureWindow, Callable[[Capture], None]] | None = None

    def arm(self, window: CaptureWindow, deliver: Callable[[Capture], None]) -> None:
        """Wait for a trigger; see `DigitizerPort`."""
        self.armed = (window, deliver)

    def disarm(self) -> None:
        """Forget an armed acquisition."""
        self.armed = None

    def capture_now(self, window: CaptureWindow) -> Capture:
        """Acquire at once."""
        return self._take(self, window)


@dataclass
class LinkBench:
    """The bench: components, clock, trigger cable, ports, and the panels on the wire.

    `panels` go by their VISA address, `names` are each one's name and type in the bench file.
    Each record is computed with `settling_samples` before and after it, for filters to settle.
    `drawn` is what `truth` returns. `doors` are those of panels that belong to a side, by the
    panel's name.
    """

    optics: Optics
    grid_hz: float
    settling_samples: int = 64
    clock: BenchClock = field(default_factory=BenchClock)
    panels: dict[str, FrontPanel] = field(default_factory=dict)
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    drawn: BenchTruth | None = None
    doors: dict[str, PanelDoors] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.trigger = TriggerCable(self.clock, self._acquire_armed)
        self._digitizers: list[Digitizer] = []
        self._light = Light(self.optics, self.grid_hz, self.settling_samples)
        laser = self.optics.laser
        self.optics.modulator.wavelength_m = lambda: frequency_to_wavelength_m(laser.frequency_hz)
        self._power_cache: tuple[object, float] | None = None

    def truth(self) -> BenchTruth:
        """Return the true parameters of the components, for tests: no message shows them.

        Raises LookupError for a bench that was not built from a file.
        """
        if self.drawn is None:
            raise LookupError("this bench was not built from a file: it has no drawn parameters")
        return self.drawn

    def tapped_power_w(self) -> float:
        """Return the mean power on the monitor tap."""
        return self.modulated_power_w() * self.optics.tap_fraction

    def monitor_head(self, noise: Noise) -> PowerHead:
        """Return a new power head on the monitor tap."""
        laser = self.optics.laser
        return PowerHead(self.tapped_power_w, lambda: laser.frequency_hz, self.optics.sensor, noise)

    def tap_head(self, name: str, sensor: SensorParameters, noise: Noise) -> PowerHead:
        """Return a new power head on the tap "launch", "arrival" or "return"."""
        laser, powers = self.optics.laser, self._link_powers_w
        fraction = self.optics.taps[name]
        return PowerHead(
            lambda: powers()[name] * fraction, lambda: laser.frequency_hz, sensor, noise
        )

    def _link_powers_w(self) -> dict[str, float]:
        """Return the mean power that enters each tap of the link now."""
        optics, now_s = self.optics, self.clock.now_s()
        launch_w = self.modulated_power_w() * optics.launch_transmittance()
        arrival_w = launch_w * optics.forward.transmittance
        passed, emitted = optics.rotation.power_change(now_s)
        emission_w = emitted * self.grid_hz * photon_energy_j(optics.laser.frequency_hz)
        at_client_w = launch_w * optics.arrival_transmittance()
        return {
            "launch": launch_w / optics.past_tap("launch"),
            "arrival": arrival_w,
            "return": (at_client_w * passed + emission_w) * optics.back.transmittance,
        }

    def modulated_power_w(self) -> float:
        """Return the mean power after the modulator, over one period of what drives it."""
        optics = self.optics
        now_s = self.clock.now_s()
        state = (
            optics.drive_i.drive,
            optics.drive_q.drive,
            optics.drive_i.playing(now_s),
            optics.drive_q.playing(now_s),
            optics.laser.frequency_hz,
            tuple(
                electrode.phase_rad()
                for electrode in (
                    optics.modulator.child_i,
                    optics.modulator.child_q,
                    optics.modulator.parent,
                )
            ),
        )
        if self._power_cache is None or not _same(self._power_cache[0], state):
            self._power_cache = (state, self._mean_transmittance())
        return optics.laser.emitted_power_w() * optics.signal_fraction * self._power_cache[1]

    def _mean_transmittance(self) -> float:
        optics = self.optics
        period = max(optics.drive_i.period_samples(), optics.drive_q.period_samples())
        window = Window(
            round(self.clock.now_s() * self.grid_hz), max(min(period, _LONGEST_AVERAGE), 16)
        )
        field_ = optics.modulator.transfer(
            optics.drive_i.voltage(window), optics.drive_q.voltage(window)
        )
        return float(np.vdot(field_, field_).real) / len(field_)

    @property
    def digitizers(self) -> tuple[Digitizer, ...]:
        """All front ends on the bench."""
        return tuple(self._digitizers)

    def digitizer_at(self, receiver: str) -> Digitizer:
        """Return a new front end at the client's or the server's detector."""
        self._digitizers.append(Digitizer(receiver, self._take_now))
        return self._digitizers[-1]

    def _take_now(self, digitizer: Digitizer, window: CaptureWindow) -> Capture:
        return self._capture(self.clock.now_s(), [(digitizer, window)])[0]

    def _acquire_armed(self, now_s: float) -> None:
        armed = [(each, each.armed) for each in self._digitizers if each.armed is not None]
        if not armed:
            return
        captures = self._capture(now_s, [(each, window) for each, (window, _) in armed])
        for (each, (_, deliver)), capture in zip(armed, captures, strict=True):
            each.disarm()
            deliver(capture)

    def _capture(
        self, trigger_s: float, requests: Sequence[tuple[Digitizer, CaptureWindow]]
    ) -> list[Capture]:
        """Compute the fields for the requested windows and digitize them; time passes meanwhile."""
        records = [
            Record(
                each.receiver,
                trigger_s,
                _by_own_clock(request, each.clock_offset),
                self.grid_hz,
                self.settling_samples,
            )
            for each, request in requests
        ]
        for together in self._together(records):
            if together[0].window.samples <= LONGEST_WHOLE:
                self._take_whole(together)
            else:
                self._take_sparse(together[0])
        end_s = max(record.window.stop for record in records) / self.grid_hz
        self.clock.sleep(max(end_s - self.clock.now_s(), 0.0))
        return [record.volts for record in records]

    def _together(self, records: Sequence[Record]) -> list[list[Record]]:
        """Group records by what light can be computed once for, in the order of time."""
        groups: list[list[Record]] = []
        for record in sorted(records, key=lambda each: self._at_client(each).start):
            window = self._at_client(record)
            near = groups and union(window, *map(self._at_client, groups[-1]))
            if near and near.samples <= LONGEST_WHOLE:
                groups[-1].append(record)
            else:
                groups.append([record])
        return groups

    def _at_client(self, record: Record) -> Window:
        back = self._light.back_samples() if record.receiver == "server" else 0
        return record.window.shifted(-back)

    def _take_whole(self, records: Sequence[Record]) -> None:
        """Compute records over all of their windows, in pieces of the light at the client."""
        back = {"client": 0, "server": self._light.back_samples()}
        for piece in self._pieces(union(*map(self._at_client, records))):
            windows: dict[str, Window] = {}
            for record in records:
                asked = record.part(piece.shifted(back[record.receiver]))
                if asked is not None:
                    earlier = windows.get(record.receiver, asked)
                    windows[record.receiver] = union(earlier, asked)
            voltages = self._light.voltages(windows) if windows else {}
            for record in records:
                if record.receiver in voltages:
                    receiver = self.optics.receivers[record.receiver]
                    within = piece.shifted(back[record.receiver])
                    start = windows[record.receiver].start
                    record.read(within, voltages[record.receiver], start, receiver)

    def _pieces(self, window: Window) -> Iterator[Window]:
        """Cut a window into pieces that memory holds, between the rows that are rotated."""
        start = window.start
        while start < window.stop:
            stop = start + _PIECE
            cycles = self.optics.rotation.cycles(Window(start, _PIECE))
            if cycles is not None and cycles.start < stop < cycles.window.stop:
                row = stop - (stop - cycles.start) % cycles.length
                stop = row if row > start else stop
            yield Window(start, min(stop, window.stop) - start)
            start = stop

    def _take_sparse(self, record: Record) -> None:
        """Compute a long record at the instants of its samples, or short stretches before them."""
        stretch = 1 + self.settling_samples
        if record.request.samples * stretch > LONGEST_WHOLE:
            stretch = 1
        rows, at_once = LONGEST_WHOLE, max(_INSTANTS // stretch, 1)
        receiver = self.optics.receivers[record.receiver]
        for first in range(0, record.request.samples, at_once):
            part = range(first, min(first + at_once, record.request.samples))
            volts, taken = self._light.voltage_at(
                record.receiver, record.instants(part), stretch, rows
            )
            rows -= taken
            record.keep(part, volts, receiver)


def _by_own_clock(request: CaptureWindow, offset: float) -> CaptureWindow:
    """Return what a digitizer takes whose clock runs fast by `offset`, in the bench's time."""
    if offset == 0.0:
        return request
    return replace(request, sample_rate_hz=request.sample_rate_hz * (1.0 + offset))


class Record:
    """One digitizer's request while it is computed: its window on the grid, and its volts so far.

    Its window has `margin` samples before and after what is read, for filters to settle.
    """

    def __init__(
        self, receiver: str, trigger_s: float, request: CaptureWindow, grid_hz: float, margin: int
    ) -> None:
        self.receiver, self.request = receiver, request
        self._trigger_s, self._grid_hz, self._margin = trigger_s, grid_hz, margin
        self._first = (trigger_s + request.start_s) * grid_hz
        self._spacing = grid_hz / request.sample_rate_hz
        samples = math.ceil(request.samples * self._spacing)
        self.window = Window(math.floor(self._first) - margin, samples + 2 * margin)
        self.volts = {
            channel: np.empty(request.samples, np.float32) for channel in request.channels
        }

    def part(self, piece: Window) -> Window | None:
        """Return what must be computed for the samples within a piece, None if there are none."""
        if len(self._within(piece)) == 0:
            return None
        start = max(piece.start, self.window.start + self._margin)
        stop = min(piece.stop, self.window.stop - self._margin)
        return Window(start - self._margin, stop - start + 2 * self._margin)

    def _within(self, piece: Window) -> range:
        edges = [
            min(max(math.ceil((edge - self._first) / self._spacing), 0), self.request.samples)
            for edge in (piece.start, piece.stop)
        ]
        first = 0 if piece.start <= math.floor(self._first) else edges[0]
        last = self.request.samples if piece.stop >= self.window.stop - self._margin else edges[1]
        return range(first, max(first, last))

    def read(self, piece: Window, voltage: Real, start: int, receiver: Receiver) -> None:
        """Digitize the samples within a piece from a voltage that begins at grid sample `start`."""
        part = self._within(piece)
        if len(part) == 0:
            return
        offset_s = part.start / self.request.sample_rate_hz
        request = replace(self.request, start_s=self.request.start_s + offset_s, samples=len(part))
        silence = np.zeros(len(voltage), np.float32)
        for channel, volts in self.volts.items():
            volts[part.start : part.stop] = digitize(
                voltage if channel == 1 else silence,
                start / self._grid_hz,
                self._grid_hz,
                request,
                channel,
                receiver.digitizer,
                receiver.noise,
                self._trigger_s,
            )

    def instants(self, part: range) -> Instants:
        """Return the grid samples nearest to some of the samples."""
        places: Instants = np.rint(
            self._first + np.arange(part.start, part.stop) * self._spacing
        ).astype(np.int64)
        return places

    def keep(self, part: range, voltage: Real, receiver: Receiver) -> None:
        """Convert the voltages of some samples."""
        for channel, volts in self.volts.items():
            seen = voltage.copy() if channel == 1 else np.zeros(len(part), np.float32)
            setting = self.request.channels[channel]
            volts[part.start : part.stop] = convert(
                seen, setting, channel, receiver.digitizer, receiver.noise
            )


def _same(first: object, second: object) -> bool:
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    return first is second or (isinstance(first, float) and first == second)
