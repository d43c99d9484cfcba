"""The sweep of a Keysight N7776C: its settings, their check, and the run with its log.

Source: docs/wire/keysight_n7776c.md, sections Sweep, Wavelength log and Triggers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.clock import Clock
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.simulated.panels.optical_values import DBM
from labctl.instruments.simulated.panels.wavelength_sweep import SweepRun, WavelengthSweep

# Assumed (docs/wire/keysight_n7776c.md, [M]: limits).
SMALLEST_STEP_M = 0.1e-12
SWEEP_TIME_LIMITS_S = (1e-3, 1e5)
_FAULTS = {
    368: "end wavelength <= start wavelength",
    369: "sweep time too small",
    370: "sweep time too big",
    371: "trigger frequency too large",
    372: "step too small",
    373: "number of triggers exceeds allowed limit",
    374: "lambda logging and modulation",
    375: "lambda logging only works with step finished output trigger",
    376: "lambda logging only works in continuous sweep mode",
    377: "step is no multiple of the smallest one",
    380: "start wavelength too small",
    381: "end wavelength too large",
}


@dataclass(frozen=True)
class Settings:
    """What *RST resets; wavelengths in m, powers in W."""

    wavelength_m: float
    power_w: float
    start_m: float
    stop_m: float
    speed_m_s: float
    unit: int = DBM
    on: bool = False
    attenuation_db: float = 0.0
    auto_attenuation: bool = True
    modulated: bool = False
    step_m: float = 1e-9
    mode: str = "STEP"
    cycles: int = 1
    dwell_s: float = 0.1
    repeat: str = "ONEW"
    logging: bool = False
    trigger_out: str = "DIS"
    trigger_in: str = "IGN"
    trigger_path: str = "DEF"

    @property
    def manual(self) -> bool:
        """Whether each step of the sweep waits to be asked for."""
        return self.mode == "MAN" or self.trigger_in == "NEXT"

    def sweep(self) -> WavelengthSweep:
        """Return the sweep that they describe."""
        return WavelengthSweep(
            start_m=self.start_m,
            stop_m=self.stop_m,
            step_m=self.step_m,
            speed_m_s=self.speed_m_s,
            dwell_s=self.dwell_s,
            continuous=self.mode == "CONT",
            two_way=self.repeat == "TWOW",
            cycles=float(self.cycles) or math.inf,
        )

    def expected_triggers(self) -> int:
        """Return how many output triggers one way of the sweep gives."""
        each = self.sweep().steps if self.trigger_out == "STF" and self.stop_m > self.start_m else 1
        return 0 if self.trigger_out == "DIS" else each


@dataclass(frozen=True)
class SweepLimits:
    """What the laser can sweep: wavelengths in m, rate and number of output triggers."""

    wavelength_m: tuple[float, float]
    max_trigger_hz: float
    max_triggers: int

    def fault(self, s: Settings) -> tuple[int, str] | None:
        """Return number and text of the first check that the settings fail, None if none."""
        code = next((code for code, fails in self._checks(s) if fails), 0)
        return (code, _FAULTS[code]) if code else None

    def _checks(self, s: Settings) -> list[tuple[int, bool]]:
        sweep = s.sweep()
        shortest_s, longest_s = SWEEP_TIME_LIMITS_S
        steps = s.step_m / SMALLEST_STEP_M
        stepping = s.trigger_out == "STF" and s.mode == "CONT"
        return [
            (368, s.stop_m <= s.start_m),
            (380, s.start_m < self.wavelength_m[0]),
            (381, s.stop_m > self.wavelength_m[1]),
            (369, sweep.way_s < shortest_s),
            (370, sweep.way_s > longest_s),
            (371, stepping and s.speed_m_s / s.step_m > self.max_trigger_hz * (1 + 1e-9)),
            (373, s.trigger_out == "STF" and sweep.steps > self.max_triggers),
            (374, s.logging and s.modulated),
            (375, s.logging and s.trigger_out != "STF"),
            (376, s.logging and s.mode != "CONT"),
            (377, abs(steps - round(steps)) > 1e-3),
        ]


class LaserSweep:
    """The sweep under way, if any, and what the last one logged.

    The settings are those it began with, as a running sweep refuses others; logging may be
    switched meanwhile.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._run: SweepRun | None = None
        self._step: int | None = None
        self._waiting, self._triggered, self._cycles = False, False, 0
        self.log: npt.NDArray[np.float64] = np.empty(0)

    @property
    def state(self) -> int:
        """0 stopped, 1 running (or waiting for its trigger), 2 paused."""
        if self._step is not None:
            return 1
        if self._run is None:
            return 0
        return 2 if self._run.paused and not self._waiting else 1

    @property
    def flag(self) -> int:
        """Two for every cycle whose data may be read, 1 from the first trigger awaited to them."""
        cycles = self._cycles if self._run is None else self._run.cycle()
        return 2 * cycles if cycles else int(self._triggered)

    @property
    def complete(self) -> bool:
        """Whether all cycles are done and the sweep not yet stopped."""
        return self._run is not None and self._run.done()

    def only_at_rest(self) -> None:
        """Raise ScpiError -200 while it sweeps."""
        if self.state != 0:
            raise ScpiError(-200, "Execution error; a sweep is running")

    def start(self, s: Settings) -> None:
        """Begin; raises ScpiError -200 if it sweeps already."""
        self.only_at_rest()
        self.log, self._cycles = np.empty(0), 0
        self._triggered = self._waiting = s.trigger_in == "SWS"
        self._step = 0 if s.manual else None
        if self._step is None:
            self._run = SweepRun(self._clock, s.sweep())
            if self._waiting:
                self._run.pause()

    def stop(self, s: Settings) -> None:
        """Halt for good; the log stays."""
        self.keep_log(s)
        if self._run is not None:
            self._cycles = self._run.cycle()
        self._triggered = False
        self._run, self._step, self._waiting = None, None, False

    def pause(self) -> None:
        """Halt for a while; raises ScpiError -200 if no sweep runs."""
        if self._run is None or self._waiting:
            raise ScpiError(-200, "Execution error; no sweep is running")
        self._run.pause()

    def resume(self) -> None:
        """Continue; raises ScpiError -200 if no sweep is paused."""
        if self._run is None or self._waiting:
            raise ScpiError(-200, "Execution error; no sweep is paused")
        self._run.resume()

    def trigger(self, s: Settings) -> None:
        """Start a sweep that waits, or advance it by a step; raises ScpiError -211 without one."""
        if self._waiting and self._run is not None:
            self._waiting = False
            self._run.resume()
        elif self._step is not None and s.trigger_in == "NEXT":
            self.walk(s, +1)
        else:
            raise ScpiError(-211)

    def walk(self, s: Settings, by: int) -> None:
        """Move a manual sweep by steps; raises ScpiError -200 without one, -222 at its ends."""
        if self._step is None:
            raise ScpiError(-200, "Execution error; no manual sweep is running")
        if not 0 <= self._step + by < s.sweep().steps:
            raise ScpiError(-222, "the sweep ends here")
        self._step += by

    def wavelength_m(self, s: Settings) -> float:
        """Return where the laser is."""
        if self._step is not None:
            return s.start_m + self._step * s.step_m
        return s.wavelength_m if self._run is None else self._run.wavelength_m()

    def keep_log(self, s: Settings) -> None:
        """Take what the present sweep has logged so far."""
        if self._run is not None and s.logging and not self._waiting:
            self.log = self._run.passed()
