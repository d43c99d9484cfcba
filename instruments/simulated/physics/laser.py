"""A continuous-wave laser: power, Lorentzian linewidth as a Wiener phase, white intensity noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labctl.instruments.simulated.physics.grid import Noise, Real, Window


@dataclass(frozen=True)
class LaserParameters:
    """`linewidth_hz`: Lorentzian full width; `rin_db_hz`: white relative intensity noise."""

    linewidth_hz: float
    rin_db_hz: float


class Laser:
    """The optical head; implements `LaserPort`."""

    def __init__(self, parameters: LaserParameters, grid_hz: float, noise: Noise) -> None:
        self._parameters = parameters
        self._grid_hz = grid_hz
        self._noise = noise
        self._on = False
        self._power_w = 0.0
        self._frequency_hz = 193.4e12
        self._last_phase = 0.0
        self._last_sample = 0

    def set_emission(self, on: bool, power_w: float, frequency_hz: float) -> None:
        """Set the head; see `LaserPort`."""
        self._on, self._power_w, self._frequency_hz = on, power_w, frequency_hz

    def emitted_power_w(self) -> float:
        """Return the power that leaves the head now."""
        return self._power_w if self._on else 0.0

    @property
    def frequency_hz(self) -> float:
        """Optical frequency in Hz."""
        return self._frequency_hz

    def phase(self, window: Window) -> Real:
        """Return the phase in rad over a window that begins after all earlier ones.

        A Wiener process: the variance between two times is 2 pi linewidth |t2 - t1|. Where the
        window reaches back before the end of the last one, its start continues the phase there.
        """
        per_sample = 2.0 * math.pi * self._parameters.linewidth_hz / self._grid_hz
        gap = max(window.start - self._last_sample, 0)
        jump = math.sqrt(per_sample * gap) * float(self._noise.normals(1)[0])
        steps = self._noise.normals(window.samples)
        steps *= np.float32(math.sqrt(per_sample))
        steps[0] = math.remainder(self._last_phase + jump, 2.0 * math.pi)
        phase = np.cumsum(steps, dtype=np.float64)
        self._last_phase, self._last_sample = float(phase[-1]), window.stop - 1
        return phase.astype(np.float32)

    def relative_amplitude(self, samples: int) -> Real:
        """Return the field's amplitude over its mean: 1 + RIN/2, white over the grid's band."""
        variance = 10.0 ** (self._parameters.rin_db_hz / 10.0) * self._grid_hz / 2.0
        fluctuation = self._noise.normals(samples)
        fluctuation *= np.float32(0.5 * math.sqrt(variance))
        fluctuation += np.float32(1.0)
        return fluctuation
