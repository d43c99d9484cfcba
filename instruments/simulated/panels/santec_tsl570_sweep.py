"""The sweep of a Santec TSL-570: its settings, and the run with its states and its log.

Source: docs/wire/santec_tsl570.md, sections Sweep and Wavelength log.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.clock import Clock
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.simulated.panels.wavelength_sweep import SweepRun, WavelengthSweep

# Replies of `:WAV:SWE?`, and the trigger output that fills the log (docs/wire/santec_tsl570.md).
STOPPED, RUNNING, WAITING, PREPARING = 0, 1, 3, 4
STEP_TRIGGER = 3


@dataclass(frozen=True)
class Settings:
    """What *RST resets; wavelengths in m."""

    wavelength_m: float
    start_m: float
    stop_m: float
    power_w: float
    on: bool = False
    shut: bool = False
    in_milliwatts: bool = False
    auto_attenuation: bool = True
    attenuation_db: float = 0.0
    in_terahertz: bool = False
    fine: float = 0.0
    coherence: bool = False
    step_m: float = 100e-12
    step_hz: float = 1e9
    speed_nm_s: int = 100
    dwell_s: float = 0.0
    delay_s: float = 0.0
    cycles: int = 1
    mode: int = 1
    trigger_out: int = 0
    trigger_step_m: float = 100e-12
    trigger_setting: int = 0
    external: bool = False
    standby: bool = False
    trigger_in_falls: bool = False
    trigger_out_falls: bool = False
    trigger_through: bool = False

    def sweep(self, cycles: float, tuning_s: float) -> WavelengthSweep:
        """Return the sweep that they describe, where each step takes `tuning_s` in addition."""
        continuous = self.mode in (1, 3)
        return WavelengthSweep(
            start_m=self.start_m,
            stop_m=self.stop_m,
            step_m=self.trigger_step_m if continuous else self.step_m,
            speed_m_s=self.speed_nm_s * 1e-9,
            dwell_s=self.dwell_s + tuning_s,
            continuous=continuous,
            two_way=self.mode in (2, 3),
            cycles=cycles,
            pause_s=self.delay_s,
        )


class LaserSweep:
    """The sweep under way, if any, and what the last one logged and counted."""

    def __init__(self, clock: Clock, prepare_s: float, tuning_s: float) -> None:
        self._clock, self._prepare_s, self._tuning_s = clock, prepare_s, tuning_s
        self._run: SweepRun | None = None
        self._ready_s = -math.inf
        self._log: npt.NDArray[np.float64] = np.empty(0)
        self._count = 0

    @property
    def state(self) -> int:
        """STOPPED, RUNNING, WAITING or PREPARING."""
        if self._run is None:
            return STOPPED
        if self._clock.now_s() < self._ready_s:
            return PREPARING
        return WAITING if self._run.paused else RUNNING

    @property
    def complete(self) -> bool:
        """Whether all cycles are done and the sweep not yet stopped."""
        return self._run is not None and self._run.done()

    @property
    def cycles_done(self) -> int:
        """How many cycles are complete."""
        return self._count if self._run is None else self._run.cycle()

    def only_at_rest(self) -> None:
        """Raise ScpiError -200 while it sweeps."""
        if self._run is not None:
            raise ScpiError(-200, "a sweep is running")

    def start(self, s: Settings, cycles: float) -> None:
        """Begin; raises ScpiError -200 if it sweeps already or has nowhere to go."""
        self.only_at_rest()
        if s.start_m == s.stop_m:
            raise ScpiError(-200, "start and stop are the same")
        self._log, self._count = np.empty(0), 0
        self._ready_s = self._clock.now_s() + self._prepare_s
        self._run = SweepRun(self._clock, s.sweep(cycles, self._tuning_s), self._prepare_s)
        if s.external or s.standby:
            self._run.pause()

    def stop(self, s: Settings) -> None:
        """Halt for good; log and count stay."""
        if self._run is not None:
            self._log, self._count = self.logged(s), self._run.cycle()
            self._run = None

    def trigger(self) -> None:
        """Let a sweep begin that waits; raises ScpiError -200 if none does."""
        if self._run is None or self.state != WAITING:
            raise ScpiError(-200, "no sweep waits for a trigger")
        self._run.resume()

    def wavelength_m(self, s: Settings) -> float:
        """Return where the laser is."""
        return s.wavelength_m if self._run is None else self._run.wavelength_m()

    def logged(self, s: Settings) -> npt.NDArray[np.float64]:
        """Return the wavelengths in m logged so far, or by the last sweep."""
        if self._run is None:
            return self._log
        logs = s.trigger_out == STEP_TRIGGER and self.state == RUNNING
        return self._run.passed() if logs else np.empty(0)
