"""Light on its way through the link, from the laser to the voltages of both receivers.

Computed whole over windows of the time grid, or at single instants of records that are too long
for that: those see the light of their instant, with the noise that the detector's band leaves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from labctl.instruments.simulated.physics.detection import (
    BalancedDetector,
    DigitizerParameters,
    SensorParameters,
)
from labctl.instruments.simulated.physics.drive import DriveOutput
from labctl.instruments.simulated.physics.free_laser import FreeLaser
from labctl.instruments.simulated.physics.grid import (
    Field,
    Instants,
    Noise,
    Real,
    Window,
    union,
)
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
from labctl.units import photon_energy_j

# Rows of the rotation that are computed at a time, for memory's sake.
_ROWS_AT_ONCE = 1 << 20


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
    """All optical and electrical components of the link, by what they are.

    `taps`: the shares that the splitters "launch", "arrival" and "return" take; 0 without one.
    `client_laser`: the client's own local oscillator, None where the server's light is.
    """

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
    taps: Mapping[str, float] = field(default_factory=dict)
    client_laser: FreeLaser | None = None

    def past_tap(self, name: str) -> float:
        """Return the power transmittance of a tap's through path."""
        return 1.0 - self.taps.get(name, 0.0)

    def launch_transmittance(self) -> float:
        """Return what is left at the forward fibre's input of the power after the modulator."""
        fixed = 10.0 ** (-self.fixed_attenuation_db / 10.0)
        passed = (1.0 - self.tap_fraction) * self.attenuator.transmittance * fixed
        return float(passed * self.past_tap("launch"))

    def arrival_transmittance(self) -> float:
        """Return what is left at the client's receiver of what enters the forward fibre."""
        return self.forward.transmittance * self.past_tap("arrival")


class Light:
    """Computes the fields upstream of receivers, once for all of them."""

    def __init__(self, optics: Optics, grid_hz: float, settling_samples: int) -> None:
        self.optics = optics
        self._grid_hz = grid_hz
        self._settling_samples = settling_samples

    def back_samples(self) -> int:
        """Return the way from the client's receiver to the server's, in samples."""
        optics = self.optics
        return optics.rotation.parameters.storage_samples + round(
            optics.back.delay_s * self._grid_hz
        )

    def _delay_samples(self, name: str) -> int:
        return self.back_samples() if name == "server" else 0

    def voltages(self, windows: Mapping[str, Window]) -> dict[str, Real]:
        """Return the detectors' voltages over windows of each receiver's own time."""
        optics = self.optics
        forward = round(optics.forward.delay_s * self._grid_hz)
        at_client = {
            name: window.shifted(-self._delay_samples(name)) for name, window in windows.items()
        }
        touched = union(*at_client.values())
        cycles = optics.rotation.cycles(touched)
        if cycles is not None:
            touched = union(touched, cycles.window)
        oscillators = {
            name: window.shifted(-round(optics.receivers[name].lo_delay_s * self._grid_hz))
            for name, window in windows.items()
            if self._own(name) is None
        }
        emitted = touched.shifted(-forward)
        span = union(emitted, *oscillators.values())
        phase = optics.laser.phase(span)
        light = self._modulated(
            optics.drive_i.voltage(emitted),
            optics.drive_q.voltage(emitted),
            phase[emitted.within(span)],
        )
        light = optics.forward.disperse(light, self._grid_hz, optics.laser.frequency_hz)
        light += optics.vacuum.vacuum(len(light))
        measured, returned = optics.rotation.pass_through(light, touched, cycles)
        if "server" in windows:
            returned = optics.back.disperse(returned, self._grid_hz, optics.laser.frequency_hz)
        voltages = {}
        for name, window in windows.items():
            arm = (returned if name == "server" else measured)[at_client[name].within(touched)]
            self._arrive(name, arm)
            optics.receivers[name].polarisation.mix(arm, window)
            own = self._own(name)
            if own is None:
                lo_phase = phase[oscillators[name].within(span)]
            else:
                lo_phase = own.phase_over(window, optics.laser.frequency_hz)
                arm = self._beating(own, arm)
            lo_phase = lo_phase + optics.receivers[name].drift.phase(window)
            voltages[name] = optics.receivers[name].detector.voltage(
                arm, *self._oscillator(name, lo_phase)
            )
        return voltages

    def voltage_at(
        self, name: str, instants: Instants, stretch: int, most_rows: int
    ) -> tuple[Real, int]:
        """Return a detector's voltage at single instants, and the samples of rows it has taken.

        With `stretch` above 1, that many samples up to each instant pass the detector's filter.
        Otherwise each instant is one sample, its noise independent of its neighbours' and
        of what the filter leaves, its signal that of the filter's delay before. Dispersion, and
        the digitizer's jitter, are left out.
        """
        optics, receiver = self.optics, self.optics.receivers[name]
        share, delay = receiver.detector.response(4 * self._settling_samples)
        if stretch > 1:
            share = 1.0
            instants = (instants[:, None] + np.arange(1 - stretch, 1)).ravel()
        else:
            instants = instants - round(delay)
        own = self._own(name)
        oscillator = instants - round(receiver.lo_delay_s * self._grid_hz)
        if own is not None:
            oscillator = oscillator[:0]
        lo_phase = np.empty(0, np.float32)

        def light(at_client: Instants) -> Field:
            nonlocal lo_phase
            emitted = at_client - round(optics.forward.delay_s * self._grid_hz)
            everything = np.concatenate([oscillator, emitted])
            order = np.argsort(everything, kind="stable")
            phase = np.empty(len(everything), np.float32)
            phase[order] = optics.laser.phase_at(everything[order])
            lo_phase = phase[: len(oscillator)]
            modulated = self._modulated(
                optics.drive_i.voltage_at(emitted),
                optics.drive_q.voltage_at(emitted),
                phase[len(oscillator) :],
                share,
            )
            modulated += optics.vacuum.vacuum(len(modulated))
            return modulated

        measured, returned, rows = optics.rotation.pass_at(
            light, instants - self._delay_samples(name), min(most_rows, _ROWS_AT_ONCE)
        )
        arm = returned if name == "server" else measured
        self._arrive(name, arm)
        receiver.polarisation.mix_at(arm, instants)
        if own is not None:
            lo_phase = own.phase_against(instants, optics.laser.frequency_hz)
            arm = self._beating(own, arm)
        lo_phase += receiver.drift.phase_at(instants)
        arriving = self._oscillator(name, lo_phase)
        if stretch > 1:
            return receiver.detector.voltage_after(stretch, arm, *arriving), rows
        return receiver.detector.voltage_of_points(share, arm, *arriving), rows

    def _modulated(
        self, drive_i_v: Real, drive_q_v: Real, phase: Real, share: float = 1.0
    ) -> Field:
        """Return the field that reaches the client, except for its vacuum.

        Laser and modulator are classical up to here: the light is attenuated by many orders of
        magnitude, and what a coherent state keeps through loss is its vacuum noise. Samples whose
        noise fills a share of the grid's band represent longer times, and hold more photons.
        """
        optics = self.optics
        light = optics.modulator.transfer(drive_i_v, drive_q_v)
        power_w = optics.laser.emitted_power_w() * optics.signal_fraction
        power_w *= optics.launch_transmittance() * optics.arrival_transmittance()
        photons = power_w / photon_energy_j(optics.laser.frequency_hz) / (share * self._grid_hz)
        if photons > 0.0:
            light *= np.exp(np.complex64(1j) * phase)
            light *= optics.laser.relative_amplitude(len(light), share)
        light *= np.float32(2.0 * math.sqrt(photons))
        return light

    def _arrive(self, name: str, arm: Field) -> None:
        """Take the server's light through the fibre back, its tap and its shutter."""
        if name == "server":
            optics = self.optics
            through = optics.back.transmittance * optics.past_tap("return")
            lose(arm, through * optics.shutter.transmittance(), optics.vacuum)

    def _oscillator(self, name: str, lo_phase: Real) -> tuple[Real, float, float, float]:
        """Return phase, power, optical frequency and intensity noise at a receiver."""
        receiver, own = self.optics.receivers[name], self._own(name)
        laser = self.optics.laser if own is None else own
        rin_db_hz = self.optics.rin_db_hz if own is None else own.rin_db_hz
        lo_phase += np.float32(receiver.phase_shifter.phase_rad())
        power_w = laser.emitted_power_w() * receiver.lo_fraction
        return lo_phase, power_w, laser.frequency_hz, rin_db_hz

    def _beating(self, own: FreeLaser, arm: Field) -> Field:
        """Return what a detector sees of light beside its local oscillator: vacuum, if too far."""
        if own.beats_within(self.optics.laser.frequency_hz):
            return arm
        return self.optics.vacuum.vacuum(len(arm))

    def _own(self, name: str) -> FreeLaser | None:
        """Return the laser that is a receiver's own local oscillator, None for the server's."""
        return self.optics.client_laser if name == "client" else None
