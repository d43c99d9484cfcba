"""A laser of its own as local oscillator: its light beats with the signal's.

Light is computed in the frame of the signal's frequency, where this laser turns by 2 pi times the
difference of both frequencies per second, beside its own Wiener phase. The whole difference acts
at the detector: the rotation's delays are those of the signal's light, as with one laser. A beat
beyond half of the time grid's rate is beyond any detector of the bench: nothing of it is seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labctl.instruments.simulated.physics.grid import Instants, Noise, Real, Window
from labctl.instruments.simulated.physics.laser import Laser, LaserParameters


@dataclass(frozen=True)
class FrequencyError:
    """How far a laser is off the frequency that it is set to: at time zero, and more each second.

    offset_hz: in Hz. drift_hz_s: in Hz per second of the bench's clock.
    """

    offset_hz: float = 0.0
    drift_hz_s: float = 0.0


class FreeLaser(Laser):
    """The optical head of a local oscillator that shares nothing with the signal's laser."""

    def __init__(
        self,
        parameters: LaserParameters,
        grid_hz: float,
        noise: Noise,
        *,
        error: FrequencyError,
        now_s: Callable[[], float],
    ) -> None:
        super().__init__(parameters, grid_hz, noise)
        self.rin_db_hz = parameters.rin_db_hz
        self._error = error
        self._now_s = now_s

    @property
    def frequency_hz(self) -> float:
        """Optical frequency in Hz now: what is set, and the laser's error."""
        error = self._error
        return super().frequency_hz + error.offset_hz + error.drift_hz_s * self._now_s()

    def beats_within(self, signal_hz: float) -> bool:
        """Return whether light of `signal_hz` (Hz) beats slowly enough for the time grid now."""
        return abs(self.frequency_hz - signal_hz) < self._grid_hz / 2.0

    def phase_over(self, window: Window, signal_hz: float) -> Real:
        """Return the phase in rad over a window against light of `signal_hz` (Hz)."""
        instants = np.arange(window.start, window.stop)
        return self._turned(self.phase(window), instants, signal_hz)

    def phase_against(self, instants: Instants, signal_hz: float) -> Real:
        """Return the same at instants; see `Laser.phase_at`."""
        return self._turned(self.phase_at(instants), instants, signal_hz)

    def _turned(self, walk: Real, instants: Instants, signal_hz: float) -> Real:
        time_s = instants / self._grid_hz
        # The frequency is error + drift t, so the turns so far are error t + drift t^2/2.
        difference_hz = super().frequency_hz + self._error.offset_hz - signal_hz
        turns = (difference_hz + 0.5 * self._error.drift_hz_s * time_s) * time_s
        phase: Real = (walk + 2.0 * math.pi * np.remainder(turns, 1.0)).astype(np.float32)
        return phase
