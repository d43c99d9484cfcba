"""Homodyne detection: local oscillator, balanced photodetector, and the digitizer behind it.

The difference current is (e/dt) sqrt(eta n_LO) X per sample, n_LO being the local oscillator's
photons in the sample: its vacuum part has the shot-noise density 2 e I of the total photocurrent I.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import interpolate, signal

from labctl.instruments.simulated.physics.grid import Field, Noise, Real
from labctl.instruments.simulated.ports import CaptureWindow
from labctl.units import ELEMENTARY_CHARGE_C, photon_energy_j


@dataclass(frozen=True)
class DetectorParameters:
    """A balanced photodetector.

    Quantum efficiency with mode overlap (0 to 1], transimpedance in V/A, 2nd-order Butterworth
    bandwidth in Hz, input-referred electronic noise in A/sqrt(Hz), common-mode rejection in dB,
    output swing in V (peak).
    """

    efficiency: float
    transimpedance_v_a: float
    bandwidth_hz: float
    electronic_noise_a_rthz: float
    common_mode_rejection_db: float
    swing_v: float


class BalancedDetector:
    """Turns field and local oscillator into a voltage."""

    def __init__(self, parameters: DetectorParameters, grid_hz: float, noise: Noise) -> None:
        self.parameters = parameters
        self._grid_hz = grid_hz
        self._noise = noise
        self._filter = signal.butter(2, parameters.bandwidth_hz, fs=grid_hz, output="sos").astype(
            np.float32
        )

    def voltage(
        self, field: Field, lo_phase: Real, lo_power_w: float, frequency_hz: float, rin_db_hz: float
    ) -> Real:
        """Return the output in V for a field and a local oscillator of the phase in rad."""
        p = self.parameters
        quadrature = field.real * np.cos(lo_phase)
        quadrature += field.imag * np.sin(lo_phase)
        quadrature *= np.float32(math.sqrt(p.efficiency))
        samples = len(quadrature)
        quadrature += np.float32(math.sqrt(1.0 - p.efficiency)) * self._noise.normals(samples)
        photons = p.efficiency * lo_power_w / photon_energy_j(frequency_hz) / self._grid_hz
        charge_rate = ELEMENTARY_CHARGE_C * self._grid_hz
        quadrature *= np.float32(charge_rate * math.sqrt(photons))
        band = self._grid_hz / 2.0
        common = charge_rate * photons * 10.0 ** (-p.common_mode_rejection_db / 20.0)
        intensity = common**2 * 10.0 ** (rin_db_hz / 10.0) * band
        electronic = p.electronic_noise_a_rthz**2 * band
        technical = np.float32(math.sqrt(intensity + electronic))
        quadrature += technical * self._noise.normals(samples)
        quadrature *= np.float32(p.transimpedance_v_a)
        output: Real = signal.sosfilt(self._filter, quadrature).astype(np.float32, copy=False)
        return np.clip(output, -p.swing_v, p.swing_v, out=output)


@dataclass(frozen=True)
class DigitizerParameters:
    """Converter bits over the channel's range, and input noise in V rms."""

    bits: int
    noise_v: float


def digitize(
    voltage: Real,
    start_s: float,
    grid_hz: float,
    window: CaptureWindow,
    channel: int,
    parameters: DigitizerParameters,
    noise: Noise,
    trigger_s: float,
) -> Real:
    """Return what the converter reads of a voltage whose first sample lies at `start_s`."""
    setting = window.channels[channel]
    first = (trigger_s + window.start_s - start_s) * grid_hz
    if abs(window.sample_rate_hz / grid_hz - 1.0) < 1e-9:
        begin = round(first)
        read = voltage[begin : begin + window.samples].copy()
    else:
        times = first + np.arange(window.samples) * (grid_hz / window.sample_rate_hz)
        spline = interpolate.CubicSpline(np.arange(len(voltage)), voltage)
        read = spline(times).astype(np.float32)
    read += np.float32(parameters.noise_v) * noise.normals(len(read))
    step = np.float32(setting.range_v / 2**parameters.bits)
    read -= np.float32(setting.offset_v)
    read /= step
    np.rint(read, out=read)
    half = 2 ** (parameters.bits - 1)
    np.clip(read, -half, half - 1, out=read)
    read *= step
    read += np.float32(setting.offset_v)
    return read


@dataclass(frozen=True)
class SensorParameters:
    """A photodiode power head: InGaAs responsivity in A/W at 1550 nm, dark current, noise in A."""

    responsivity_a_w: float
    dark_current_a: float
    noise_a: float
