"""A generator's output stage: converter steps, resolution, analogue bandwidth, output noise.

In the order of the signal:

1. The converter holds each sample until the next (zero-order hold), on the bench's grid of time.
2. Voltages are rounded to steps of full scale over 2^bits.
3. A Gaussian low-pass passes 1/sqrt(2) of a sine at the stage's bandwidth.
4. White noise is added; gain and offset of the stage act on all of it.

`voltage` computes a window sample by sample, `voltage_at` the same at chosen instants, by weights
of the low-pass at a few dozen places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from labctl.instruments.simulated.physics.grid import Instants, Noise, Real, Window
from labctl.instruments.simulated.ports import Drive

# Taps to either side of a long kernel: Gaussian weights at 16 places or more give its integral to
# far less than a converter's step.
_MOST_TAPS = 16
# A grid sample that no run reaches, which 64 bits still hold after additions.
_NEVER = 1 << 62


@dataclass(frozen=True)
class DriveParameters:
    """`bits` over `full_scale_v` (peak to peak); Gaussian low-pass; white noise in V rms.

    What leaves the stage is `gain` times what it is set to, plus `offset_v`.
    """

    bits: int
    full_scale_v: float
    bandwidth_hz: float
    noise_v: float
    gain: float = 1.0
    offset_v: float = 0.0


class DriveOutput:
    """One output connector; implements `DrivePort`."""

    def __init__(self, parameters: DriveParameters, grid_hz: float, noise: Noise) -> None:
        self._parameters = parameters
        self._grid_hz = grid_hz
        self._noise = noise
        self._drive: Drive | None = None

    @cached_property
    def _kernel(self) -> npt.NDArray[np.float64]:
        return _low_pass(self._parameters.bandwidth_hz / self._grid_hz)

    def play(self, drive: Drive | None) -> None:
        """Put a drive on the connector; see `DrivePort`."""
        self._drive = drive

    @property
    def drive(self) -> Drive | None:
        """What is on the connector."""
        return self._drive

    def playing(self, time_s: float) -> bool:
        """Return whether the drive runs at a time, rather than rests at its idle level or 0 V."""
        if self._drive is None:
            return False
        played = (time_s - self._drive.start_s) * self._drive.sample_rate_hz
        cycles = self._drive.cycles
        return played >= 0.0 and (cycles is None or played < cycles * len(self._drive.samples_v))

    def start_sample(self) -> int:
        """Return the grid sample nearest to the start of the drive."""
        return 0 if self._drive is None else round(self._drive.start_s * self._grid_hz)

    def period_samples(self) -> int:
        """Return the grid samples that one cycle of the drive takes, at least 1."""
        if self._drive is None:
            return 1
        cycle = len(self._drive.samples_v) * self._grid_hz / self._drive.sample_rate_hz
        return max(round(cycle), 1)

    def voltage(self, window: Window) -> Real:
        """Return the output voltage in V over a window."""
        if self._drive is None:
            return self._out(np.zeros(window.samples, np.float32))
        from scipy import ndimage

        steps = self._quantised(self._steps(self._drive, window))
        smooth: Real = ndimage.correlate1d(steps, self._kernel, mode="nearest")
        if self._parameters.noise_v > 0.0:
            smooth += np.float32(self._parameters.noise_v) * self._noise.normals(window.samples)
        return self._out(smooth)

    def voltage_at(self, instants: Instants) -> Real:
        """Return the output voltage in V at some instants, as `voltage` has it there."""
        drive = self._drive
        if drive is None:
            return self._out(np.zeros(len(instants), np.float32))
        if len(drive.samples_v) == 1 and drive.cycles is None:
            smooth = self._quantised(np.full(len(instants), drive.samples_v[0], np.float32))
        else:
            smooth = self._quantised(np.full(len(instants), drive.idle_v, np.float32))
            first = int(np.searchsorted(instants, self.start_sample() - len(self._kernel)))
            last = int(np.searchsorted(instants, self._stop_sample() + len(self._kernel)))
            smooth[first:last] = self._smoothed(drive, instants[first:last])
        if self._parameters.noise_v > 0.0:
            smooth += np.float32(self._parameters.noise_v) * self._noise.normals(len(instants))
        return self._out(smooth)

    def _smoothed(self, drive: Drive, instants: Instants) -> Real:
        """Return the filtered converter steps; a long kernel is taken at a few dozen places."""
        reach = len(self._kernel) // 2
        stride = max(reach // _MOST_TAPS, 1)
        taps = [(k, self._kernel[k + reach]) for k in range(-reach, reach + 1)][::stride]
        total = sum(weight for _, weight in taps)
        smooth = np.zeros(len(instants), np.float32)
        for offset, weight in taps:
            steps = self._quantised(self._held(drive, instants - (self.start_sample() - offset)))
            smooth += np.float32(weight / total) * steps
        return smooth

    def _stop_sample(self) -> int:
        """Return the grid sample by which the drive has ended, or one that is never reached."""
        drive = self._drive
        if drive is None or drive.cycles is None:
            return _NEVER
        played_s = len(drive.samples_v) * drive.cycles / drive.sample_rate_hz
        return min(self.start_sample() + math.ceil(played_s * self._grid_hz) + 1, _NEVER)

    def steady_voltage(self) -> float:
        """Return the voltage at rest: of a one-sample drive, or the idle level."""
        p = self._parameters
        if self._drive is None:
            return 0.0
        drive = self._drive
        level_v = float(drive.samples_v[0]) if len(drive.samples_v) == 1 else drive.idle_v
        return p.gain * level_v + p.offset_v

    def _steps(self, drive: Drive, window: Window) -> Real:
        """Return the converter's zero-order hold on the grid."""
        first = window.start - self.start_sample()
        ratio = drive.sample_rate_hz / self._grid_hz
        length = len(drive.samples_v)
        if length == 1 and drive.cycles is None:
            return np.full(window.samples, drive.samples_v[0], np.float32)
        if ratio == 1.0 and first >= 0 and first + window.samples <= length:
            return drive.samples_v[first : first + window.samples].copy()
        return self._held(drive, np.arange(first, first + window.samples, dtype=np.int64))

    def _held(self, drive: Drive, position: Instants) -> Real:
        """Return the steps at grid samples counted from the start of the drive."""
        ratio, length = drive.sample_rate_hz / self._grid_hz, len(drive.samples_v)
        index = position if ratio == 1.0 else np.floor((position + 0.5) * ratio).astype(np.int64)
        steps = drive.samples_v[index % length]
        outside = index < 0
        if drive.cycles is not None:
            outside |= index >= length * drive.cycles
        steps[outside] = drive.idle_v
        return steps

    def _out(self, voltage: Real) -> Real:
        """Give the ideal volts the errors of the stage; an open output has none."""
        p = self._parameters
        if self._drive is not None and (p.gain, p.offset_v) != (1.0, 0.0):
            voltage *= np.float32(p.gain)
            voltage += np.float32(p.offset_v)
        return voltage

    def _quantised(self, voltage: Real) -> Real:
        step = np.float32(self._parameters.full_scale_v / 2**self._parameters.bits)
        voltage /= step
        np.rint(voltage, out=voltage)
        voltage *= step
        return voltage


@cache
def _low_pass(bandwidth: float) -> npt.NDArray[np.float64]:
    """Return the Gaussian kernel that passes 1/sqrt(2) of a sine of `bandwidth` cycles per sample.

    Its width is that of the sampled and truncated kernel, which is above the continuous one's
    sqrt(ln 2)/(2 pi bandwidth) when the bandwidth comes near the half of the sample rate.
    """
    continuous = math.sqrt(math.log(2.0)) / (2.0 * math.pi * bandwidth)
    reach = math.ceil(4.0 * continuous) + 1
    place = np.arange(-reach, reach + 1)
    wave = np.cos(2.0 * math.pi * bandwidth * place)

    def excess(sigma: float) -> float:
        weights = np.exp(-0.5 * (place / sigma) ** 2)
        return float(weights @ wave / weights.sum()) - math.sqrt(0.5)

    from scipy import optimize

    # Sampling and truncation change the width by less than these factors.
    sigma = optimize.brentq(excess, 0.8 * continuous, 2.0 * continuous)
    weights: npt.NDArray[np.float64] = np.exp(-0.5 * (place / sigma) ** 2)
    weights /= weights.sum()
    weights.setflags(write=False)
    return weights
