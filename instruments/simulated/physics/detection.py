"""Homodyne detection: local oscillator, balanced photodetector, and the digitizer behind it.

The difference current is (e/dt) sqrt(eta n_LO) X per sample, n_LO being the local oscillator's
photons in the sample: its vacuum part has the shot-noise density 2 e I of the total photocurrent I.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from labctl.instruments.simulated.physics.grid import Field, Noise, Real
from labctl.instruments.simulated.ports import CaptureWindow, ChannelWindow
from labctl.units import (
    ELEMENTARY_CHARGE_C,
    frequency_to_wavelength_m,
    photon_energy_j,
)

# `SensorParameters.noise_a` is that of 1 ms; a meter averages 1 us at least.
_NOISE_AVERAGING_S = 1e-3
_LEAST_AVERAGING_S = 1e-6
# Data sheets of telecom parts state responsivity there.
_RATED_WAVELENGTH_M = 1550e-9
# Sixth-order central difference: a sine's slope to (2 pi f / sample rate)^6 / 140.
_SLOPE = np.array([-1.0, 9.0, -45.0, 0.0, 45.0, -9.0, 1.0], np.float32) / 60.0


@dataclass(frozen=True)
class DetectorParameters:
    """A balanced photodetector.

    Quantum efficiency with mode overlap (0 to 1], transimpedance in V/A, 2nd-order Butterworth
    bandwidth in Hz, input-referred electronic noise in A/sqrt(Hz), common-mode rejection in dB,
    output swing in V (peak), and the local oscillator's power in W at which half of the carriers
    are lost in the photodiodes (0: none are).
    """

    efficiency: float
    transimpedance_v_a: float
    bandwidth_hz: float
    electronic_noise_a_rthz: float
    common_mode_rejection_db: float
    swing_v: float
    saturation_power_w: float = 0.0

    def efficiency_at(self, lo_power_w: float) -> float:
        """Return the efficiency under a local oscillator: eta / (1 + P / P_sat).

        Carriers that recombine are lost at random, each like a photon that is not detected, so
        shot noise stays that of the current that is left.
        """
        if self.saturation_power_w == 0.0:
            return self.efficiency
        return self.efficiency / (1.0 + lo_power_w / self.saturation_power_w)


class BalancedDetector:
    """Turns field and local oscillator into a voltage."""

    def __init__(self, parameters: DetectorParameters, grid_hz: float, noise: Noise) -> None:
        self.parameters = parameters
        self._grid_hz = grid_hz
        self._noise = noise

    @cached_property
    def _filter(self) -> Real:
        """Second-order sections of the detector's band; SciPy is loaded when light is looked at."""
        from scipy import signal

        sections = signal.butter(2, self.parameters.bandwidth_hz, fs=self._grid_hz, output="sos")
        return np.asarray(sections, np.float32)

    def _band_limited(self, ideal: Real) -> Real:
        from scipy import signal

        return np.asarray(signal.sosfilt(self._filter, ideal))

    def response(self, samples: int) -> tuple[float, float]:
        """Return what the band lets through of white noise's power, and the delay in samples.

        The impulse response is computed over `samples`.
        """
        impulse = np.zeros(samples)
        impulse[0] = 1.0
        from scipy import signal

        answer = signal.sosfilt(self._filter.astype(np.float64), impulse)
        return float(answer @ answer), float(answer @ np.arange(samples) / answer.sum())

    def voltage(
        self, field: Field, lo_phase: Real, lo_power_w: float, frequency_hz: float, rin_db_hz: float
    ) -> Real:
        """Return the output in V for a field and a local oscillator of the phase in rad."""
        ideal = self._unfiltered(field, lo_phase, lo_power_w, frequency_hz, rin_db_hz, 1.0)
        return self._limited(self._band_limited(ideal))

    def voltage_after(
        self,
        stretch: int,
        field: Field,
        lo_phase: Real,
        lo_power_w: float,
        frequency_hz: float,
        rin_db_hz: float,
    ) -> Real:
        """Return the output at the end of each stretch of the field."""
        ideal = self._unfiltered(field, lo_phase, lo_power_w, frequency_hz, rin_db_hz, 1.0)
        return self._limited(self._band_limited(ideal.reshape(-1, stretch))[:, -1])

    def voltage_of_points(
        self,
        share: float,
        field: Field,
        lo_phase: Real,
        lo_power_w: float,
        frequency_hz: float,
        rin_db_hz: float,
    ) -> Real:
        """Return the output for single samples of a field whose noise fills a share of the grid.

        With the share of `response`, each has the noise that the filter would leave it.
        """
        return self._limited(
            self._unfiltered(field, lo_phase, lo_power_w, frequency_hz, rin_db_hz, share)
        )

    def _limited(self, voltage: Real) -> Real:
        swing_v = self.parameters.swing_v
        output: Real = voltage.astype(np.float32, copy=False)
        return np.clip(output, -swing_v, swing_v, out=output)

    def _unfiltered(
        self,
        field: Field,
        lo_phase: Real,
        lo_power_w: float,
        frequency_hz: float,
        rin_db_hz: float,
        share: float,
    ) -> Real:
        p, grid_hz = self.parameters, share * self._grid_hz
        efficiency = p.efficiency_at(lo_power_w)
        quadrature = field.real * np.cos(lo_phase)
        quadrature += field.imag * np.sin(lo_phase)
        quadrature *= np.float32(math.sqrt(efficiency))
        samples = len(quadrature)
        quadrature += np.float32(math.sqrt(1.0 - efficiency)) * self._noise.normals(samples)
        photons = efficiency * lo_power_w / photon_energy_j(frequency_hz) / grid_hz
        charge_rate = ELEMENTARY_CHARGE_C * grid_hz
        quadrature *= np.float32(charge_rate * math.sqrt(photons))
        band = grid_hz / 2.0
        # Rejection is a ratio of currents, 20 dB per factor of ten; intensity noise is a density of
        # power, relative to the mean, over the grid's band.
        common = charge_rate * photons * 10.0 ** (-p.common_mode_rejection_db / 20.0)
        intensity = common**2 * 10.0 ** (rin_db_hz / 10.0) * band
        electronic = p.electronic_noise_a_rthz**2 * band
        technical = np.float32(math.sqrt(intensity + electronic))
        quadrature += technical * self._noise.normals(samples)
        quadrature *= np.float32(p.transimpedance_v_a)
        return quadrature


@dataclass(frozen=True)
class DigitizerParameters:
    """Converter bits over the channel's range, input noise in V rms, clock jitter in s rms.

    It reads each channel's voltage with that channel's gain (exact: 1) and offset in V.
    """

    bits: int
    noise_v: float
    jitter_s: float = 0.0
    gain: tuple[float, ...] = ()
    offset_v: tuple[float, ...] = ()

    def error(self, channel: int) -> tuple[float, float]:
        """Return gain and offset in V of a channel; one without is exact."""
        place = channel - 1
        return (
            self.gain[place] if place < len(self.gain) else 1.0,
            self.offset_v[place] if place < len(self.offset_v) else 0.0,
        )


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
    first = (trigger_s + window.start_s - start_s) * grid_hz
    read = _sampled(voltage, first, grid_hz, window)
    if parameters.jitter_s > 0.0:
        from scipy import ndimage

        slope = _sampled(ndimage.correlate1d(voltage, _SLOPE), first, grid_hz, window)
        slope *= np.float32(parameters.jitter_s * grid_hz) * noise.normals(len(read))
        read += slope
    return convert(read, window.channels[channel], channel, parameters, noise)


def convert(
    read: Real,
    setting: ChannelWindow,
    channel: int,
    parameters: DigitizerParameters,
    noise: Noise,
) -> Real:
    """Return the converter's readings of the voltages at its input, in place."""
    gain, error_v = parameters.error(channel)
    if (gain, error_v) != (1.0, 0.0):
        read *= np.float32(gain)
        read += np.float32(error_v)
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


def _sampled(voltage: Real, first: float, grid_hz: float, window: CaptureWindow) -> Real:
    """Return the voltage at the window's times; `first` is its begin, in samples of the grid."""
    if abs(window.sample_rate_hz / grid_hz - 1.0) < 1e-9:
        begin = round(first)
        return voltage[begin : begin + window.samples].copy()
    from scipy import ndimage

    times = first + np.arange(window.samples) * (grid_hz / window.sample_rate_hz)
    read: Real = ndimage.map_coordinates(voltage, times[None], np.float32, order=3, mode="nearest")
    return read


@dataclass(frozen=True)
class SensorParameters:
    """A photodiode power head: InGaAs responsivity in A/W at 1550 nm, dark current in A.

    `noise_a`: standard deviation of a reading averaged over 1 ms. `rated_a_w`: the responsivity
    that its calibration says, if it is not the true one.
    """

    responsivity_a_w: float
    dark_current_a: float
    noise_a: float
    rated_a_w: float | None = None


class PowerHead:
    """A power head where light of `power_w` ends; implements `PowerSensorPort`."""

    def __init__(
        self,
        power_w: Callable[[], float],
        frequency_hz: Callable[[], float],
        parameters: SensorParameters,
        noise: Noise,
    ) -> None:
        self._power_w, self._frequency_hz = power_w, frequency_hz
        self._parameters = parameters
        self._noise = noise

    def photocurrent_a(self, averaging_s: float) -> float:
        """Return the photocurrent in A; noise falls with the square root of the averaging."""
        wavelength_m = frequency_to_wavelength_m(self._frequency_hz())
        averages = math.sqrt(max(averaging_s, _LEAST_AVERAGING_S) / _NOISE_AVERAGING_S)
        noise_a = self._parameters.noise_a / averages * float(self._noise.normals(1)[0])
        responsivity_a_w = self._parameters.responsivity_a_w * wavelength_m / _RATED_WAVELENGTH_M
        current_a = self._power_w() * responsivity_a_w
        return current_a + self._parameters.dark_current_a + noise_a

    def responsivity_a_w(self, wavelength_m: float) -> float:
        """Return A/W as calibrated: an InGaAs head's efficiency is flat below its cut-off."""
        p = self._parameters
        rated_a_w = p.responsivity_a_w if p.rated_a_w is None else p.rated_a_w
        return rated_a_w * wavelength_m / _RATED_WAVELENGTH_M
