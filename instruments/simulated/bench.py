"""The simulated telecom link: light from one laser to both parties, computed when somebody looks.

laser -> I/Q modulator -> monitor tap -> attenuators -> fibre -> client's rotation and clone
client's rotation and clone -> client's homodyne
                            -> fibre -> shutter -> server's homodyne
Both local oscillators are taken from the same laser over their own paths. A trigger makes every
armed digitizer acquire; the fields upstream are computed once for all of them, from the settings
of that moment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from labctl.instruments.simulated.bench_truth import BenchTruth
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panel import FrontPanel
from labctl.instruments.simulated.physics.detection import (
    BalancedDetector,
    DigitizerParameters,
    PowerHead,
    SensorParameters,
    digitize,
)
from labctl.instruments.simulated.physics.drive import DriveOutput
from labctl.instruments.simulated.physics.grid import Field, Noise, Real, Window, union
from labctl.instruments.simulated.physics.laser import Laser
from labctl.instruments.simulated.physics.modulator import IQModulator
from labctl.instruments.simulated.physics.path import (
    Fibre,
    PhaseDrift,
    PhaseShifter,
    PolarisationDrift,
    Shutter,
    VariableAttenuator,
    lose,
)
from labctl.instruments.simulated.physics.rotation import RotationUnit
from labctl.instruments.simulated.ports import Capture, CaptureWindow
from labctl.units import frequency_to_wavelength_m, photon_energy_j

_LONGEST_AVERAGE = 4_000_000


@dataclass
class Receiver:
    """One party's homodyne receiver: local-oscillator path, detector and digitizer."""

    lo_fraction: float
    lo_delay_s: float
    phase_shifter: PhaseShifter
    drift: PhaseDrift
    polarisation: PolarisationDrift
    detector: BalancedDetector
    digitizer: DigitizerParameters
    noise: Noise


@dataclass
class Optics:
    """All optical and electrical components of the link, by what they are."""

    laser: Laser
    rin_db_hz: float
    signal_fraction: float
    drive_i: DriveOutput
    drive_q: DriveOutput
    modulator: IQModulator
    tap_fraction: float
    sensor: SensorParameters
    attenuator: VariableAttenuator
    fixed_attenuation_db: float
    forward: Fibre
    rotation: RotationUnit
    back: Fibre
    shutter: Shutter
    receivers: Mapping[str, Receiver]
    vacuum: Noise


class TriggerCable:
    """A cable that instruments pulse and listen on; implements `TriggerPort`."""

    def __init__(self, clock: BenchClock, acquire: Callable[[float], None]) -> None:
        self._clock = clock
        self._acquire = acquire
        self._listeners: list[Callable[[float], None]] = []

    def fire(self) -> None:
        """Pulse the cable; see `TriggerPort`."""
        now_s = self._clock.now_s()
        for listener in self._listeners:
            listener(now_s)
        self._acquire(now_s)

    def listen(self, callback: Callable[[float], None]) -> None:
        """Call back at each pulse."""
        self._listeners.append(callback)


class Digitizer:
    """A front end at a receiver; several may hang on one. Implements `DigitizerPort`."""

    def __init__(self, receiver: str, take: Callable[[Digitizer, CaptureWindow], Capture]) -> None:
        self.receiver = receiver
        self._take = take
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

    `panels` go by their VISA address, `names` tell each one's name and type in the bench file.
    Each record is computed with `settling_samples` before and after it, for filters to settle.
    `drawn` is what `truth` tells.
    """

    optics: Optics
    grid_hz: float
    settling_samples: int = 64
    clock: BenchClock = field(default_factory=BenchClock)
    panels: dict[str, FrontPanel] = field(default_factory=dict)
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    drawn: BenchTruth | None = None

    def __post_init__(self) -> None:
        self.trigger = TriggerCable(self.clock, self._acquire_armed)
        self._digitizers: list[Digitizer] = []
        laser = self.optics.laser
        self.optics.modulator.wavelength_m = lambda: frequency_to_wavelength_m(laser.frequency_hz)
        self._power_cache: tuple[object, float] | None = None

    def truth(self) -> BenchTruth:
        """Return what the components really are, for tests: nothing on the wire tells it.

        Raises LookupError for a bench that was not built from a file.
        """
        if self.drawn is None:
            raise LookupError("this bench was put together by hand: its components tell themselves")
        return self.drawn

    def tapped_power_w(self) -> float:
        """Return the mean power on the monitor tap."""
        return self.modulated_power_w() * self.optics.tap_fraction

    def monitor_head(self, noise: Noise) -> PowerHead:
        """Return a new power head on the monitor tap."""
        laser = self.optics.laser
        return PowerHead(self.tapped_power_w, lambda: laser.frequency_hz, self.optics.sensor, noise)

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
        windows: dict[str, Window] = {}
        for each, request in requests:
            window = self._window(trigger_s, request)
            earlier = windows.get(each.receiver, window)
            windows[each.receiver] = union(earlier, window)
        voltages = self._voltages(windows)
        captures = [
            self._digitized(each.receiver, request, voltages, windows, trigger_s)
            for each, request in requests
        ]
        end_s = max(window.stop for window in windows.values()) / self.grid_hz
        self.clock.sleep(max(end_s - self.clock.now_s(), 0.0))
        return captures

    def _digitized(
        self,
        name: str,
        request: CaptureWindow,
        voltages: Mapping[str, Real],
        windows: Mapping[str, Window],
        trigger_s: float,
    ) -> Capture:
        receiver = self.optics.receivers[name]
        start_s = windows[name].start / self.grid_hz
        silence = np.zeros(windows[name].samples, np.float32)
        return {
            channel: digitize(
                voltages[name] if channel == 1 else silence,
                start_s,
                self.grid_hz,
                request,
                channel,
                receiver.digitizer,
                receiver.noise,
                trigger_s,
            )
            for channel in request.channels
        }

    def _window(self, trigger_s: float, request: CaptureWindow) -> Window:
        start = math.floor((trigger_s + request.start_s) * self.grid_hz) - self.settling_samples
        samples = math.ceil(request.samples * self.grid_hz / request.sample_rate_hz)
        return Window(start, samples + 2 * self.settling_samples)

    def _voltages(self, windows: Mapping[str, Window]) -> dict[str, Real]:
        optics = self.optics
        forward = round(optics.forward.delay_s * self.grid_hz)
        back = round(optics.back.delay_s * self.grid_hz)
        back += optics.rotation.parameters.storage_samples
        at_client = {
            name: window.shifted(-back) if name == "server" else window
            for name, window in windows.items()
        }
        touched = union(*at_client.values())
        cycles = optics.rotation.cycles(touched)
        if cycles is not None:
            touched = union(touched, cycles.window)
        oscillators = {
            name: window.shifted(-round(optics.receivers[name].lo_delay_s * self.grid_hz))
            for name, window in windows.items()
        }
        emitted = touched.shifted(-forward)
        span = union(emitted, *oscillators.values())
        phase = optics.laser.phase(span)
        light = self._light_at_client(emitted, phase[emitted.within(span)])
        measured, returned = optics.rotation.pass_through(light, touched, cycles)
        arriving = {"client": measured}
        if "server" in windows:
            through = optics.back.transmittance * optics.shutter.transmittance()
            returned = optics.back.disperse(returned, self.grid_hz, optics.laser.frequency_hz)
            returned = returned[at_client["server"].within(touched)]
            lose(returned, through, optics.vacuum)
        voltages = {}
        for name, window in windows.items():
            at_detector = (
                returned if name == "server" else arriving[name][at_client[name].within(touched)]
            )
            lo_phase = phase[oscillators[name].within(span)]
            voltages[name] = self._detect(name, at_detector, lo_phase, window)
        return voltages

    def _light_at_client(self, emitted: Window, phase: Real) -> Field:
        """Return the field that reaches the client, its vacuum included.

        Laser and modulator are classical up to here: the light is attenuated by many orders of
        magnitude, and what a coherent state keeps through loss is its vacuum noise.
        """
        optics = self.optics
        light = optics.modulator.transfer(
            optics.drive_i.voltage(emitted), optics.drive_q.voltage(emitted)
        )
        power_w = optics.laser.emitted_power_w() * optics.signal_fraction
        power_w *= (1.0 - optics.tap_fraction) * optics.attenuator.transmittance
        power_w *= 10.0 ** (-optics.fixed_attenuation_db / 10.0) * optics.forward.transmittance
        photons = power_w / photon_energy_j(optics.laser.frequency_hz) / self.grid_hz
        if photons > 0.0:
            light *= np.exp(np.complex64(1j) * phase)
            light *= optics.laser.relative_amplitude(len(light))
        light *= np.float32(2.0 * math.sqrt(photons))
        light = optics.forward.disperse(light, self.grid_hz, optics.laser.frequency_hz)
        light += optics.vacuum.vacuum(len(light))
        return light

    def _detect(self, name: str, light: Field, lo_phase: Real, window: Window) -> Real:
        receiver = self.optics.receivers[name]
        laser = self.optics.laser
        lo_phase = lo_phase + receiver.drift.phase(window)
        lo_phase += np.float32(receiver.phase_shifter.phase_rad())
        receiver.polarisation.mix(light, window)
        return receiver.detector.voltage(
            light,
            lo_phase,
            laser.emitted_power_w() * receiver.lo_fraction,
            laser.frequency_hz,
            self.optics.rin_db_hz,
        )


def _same(first: object, second: object) -> bool:
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    return first is second or (isinstance(first, float) and first == second)
