"""A continuous-wave laser: power, Lorentzian linewidth as a Wiener phase, white intensity noise.

The phase is a Wiener process: between two times its variance is 2 pi times the linewidth times the
time between them. A field with such a phase has a Lorentzian spectrum of that full width. Phases
are drawn as they are asked for: steps within a window, one jump over the time since the last
window, and again the same values where windows overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labctl.instruments.simulated.physics.grid import Instants, Noise, Real, Window


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
        self._per_sample = 2.0 * math.pi * parameters.linewidth_hz / grid_hz
        self._on = False
        self._power_w = 0.0
        # In the middle of the C band, until somebody sets it.
        self._frequency_hz = 193.4e12
        self._hop_hz, self._share = 0.0, 1.0
        self._last = Window(0, 1)
        self._last_phase = np.zeros(1, np.float32)

    def set_emission(self, on: bool, power_w: float, frequency_hz: float) -> None:
        """Set the head; see `LaserPort`."""
        self._on, self._power_w, self._frequency_hz = on, power_w, frequency_hz

    def emitted_power_w(self) -> float:
        """Return the power that leaves the head now."""
        return self._power_w * self._share if self._on else 0.0

    @property
    def frequency_hz(self) -> float:
        """Optical frequency in Hz."""
        return self._frequency_hz + self._hop_hz

    def hop(self, hop_hz: float, *, share: float) -> Callable[[], None]:
        """Be `hop_hz` (Hz) off what is set, with a share of that power; returns what ends it."""
        before = self._hop_hz, self._share
        self._hop_hz, self._share = hop_hz, share

        def end() -> None:
            self._hop_hz, self._share = before

        return end

    def phase(self, window: Window) -> Real:
        """Return the phase in rad over a window.

        A Wiener process: the variance between two times is 2 pi linewidth |t2 - t1|. Where the
        window begins within the last one, the phase there is the same; one that begins before it
        continues from its end.
        """
        known = self._known(window)
        fresh = window.samples - len(known)
        if fresh > 0:
            known = np.concatenate([known, self._walk(window.stop - fresh, fresh)])
        self._last, self._last_phase = window, known
        return known

    def _known(self, window: Window) -> Real:
        """Return the phase where it has been drawn already, from the window's beginning on."""
        if not self._last.start <= window.start < self._last.stop:
            return self._last_phase[:0]
        first = window.start - self._last.start
        return self._last_phase[first : first + window.samples]

    def _walk(self, start: int, samples: int) -> Real:
        gap = max(start - (self._last.stop - 1), 0)
        jump = math.sqrt(self._per_sample * gap) * float(self._noise.normals(1)[0])
        steps = self._noise.normals(samples)
        steps *= np.float32(math.sqrt(self._per_sample))
        steps[0] = math.remainder(float(self._last_phase[-1]) + jump, 2.0 * math.pi)
        return np.cumsum(steps, dtype=np.float64).astype(np.float32)

    def phase_at(self, instants: Instants) -> Real:
        """Return the phase in rad at instants that begin after all earlier windows."""
        gaps = np.diff(instants, prepend=min(self._last.stop - 1, int(instants[0])))
        steps = self._noise.generator.standard_normal(len(instants))
        steps *= np.sqrt(self._per_sample * gaps)
        steps[0] += math.remainder(float(self._last_phase[-1]), 2.0 * math.pi)
        phase: Real = np.cumsum(steps).astype(np.float32)
        self._last, self._last_phase = Window(int(instants[-1]), 1), phase[-1:].copy()
        return phase

    def relative_amplitude(self, samples: int, share: float = 1.0) -> Real:
        """Return the field's amplitude over its mean: 1 + RIN/2, white over the grid's band.

        `share`: of that band, what the detector that the light meets lets through.
        """
        variance = 10.0 ** (self._parameters.rin_db_hz / 10.0) * share * self._grid_hz / 2.0
        fluctuation = self._noise.normals(samples)
        fluctuation *= np.float32(0.5 * math.sqrt(variance))
        fluctuation += np.float32(1.0)
        return fluctuation
