"""A laser's wavelength sweep as a function of the time since it began."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.clock import Clock

# Of a step: spans that are whole steps but for rounding.
_ROUNDING = 1e-6
# Relative: the clock's own rounding after a sleep of just the sweep.
_CLOCK_ROUNDING = 1e-9


@dataclass(frozen=True)
class WavelengthSweep:
    """What a sweep does; wavelengths in m, times in s.

    A continuous sweep runs from start to stop at `speed_m_s`; a stepped one rests `dwell_s` (more
    than 0) at every `step_m`. A two-way cycle comes back the same way. `cycles` is inf for a sweep
    that only ends when stopped; `pause_s` passes between two cycles, at the end of the one before.
    """

    start_m: float
    stop_m: float
    step_m: float
    speed_m_s: float
    dwell_s: float
    continuous: bool
    two_way: bool = False
    cycles: float = 1.0
    pause_s: float = 0.0

    @property
    def steps(self) -> int:
        """How many wavelengths one way has, both ends included."""
        span_m = abs(self.stop_m - self.start_m)
        return math.floor(span_m / self.step_m + _ROUNDING) + 1

    @property
    def way_s(self) -> float:
        """Time of one way."""
        if self.continuous:
            return abs(self.stop_m - self.start_m) / self.speed_m_s
        return self.steps * self.dwell_s

    @property
    def cycle_s(self) -> float:
        """Time of one cycle without the pause behind it."""
        return self.way_s * (2 if self.two_way else 1)

    @property
    def duration_s(self) -> float:
        """Time of all cycles; inf if they do not end, 0 if they take no time."""
        period_s = self.cycle_s + self.pause_s
        return self.cycles * period_s - self.pause_s if period_s > 0.0 else 0.0

    def cycle(self, elapsed_s: float) -> int:
        """Return how many cycles are complete."""
        if elapsed_s >= self.duration_s:
            return int(self.cycles) if math.isfinite(self.cycles) else 0
        return math.floor((elapsed_s + self.pause_s) / (self.cycle_s + self.pause_s) + 1e-12)

    def wavelength_m(self, elapsed_s: float) -> float:
        """Return where the sweep is."""
        at_s, back = self._on_way(elapsed_s)
        return self._on_way_m(self.way_s - at_s if back else at_s)

    def passed(self, elapsed_s: float) -> npt.NDArray[np.float64]:
        """Return the step wavelengths in m that the way in progress, or the last one, passed."""
        at_s, back = self._on_way(elapsed_s)
        part = at_s / self.way_s if self.way_s > 0.0 else 1.0
        intervals = abs(self.stop_m - self.start_m) / self.step_m
        steps = intervals if self.continuous else self.steps
        count = min(math.floor(part * steps + _ROUNDING) + 1, self.steps)
        grid_m = self.start_m + self._direction_m * np.arange(self.steps, dtype=np.float64)
        return grid_m[::-1][:count] if back else grid_m[:count]

    def _on_way(self, elapsed_s: float) -> tuple[float, bool]:
        """Return the time since the present way began, and whether it leads back."""
        if elapsed_s >= self.duration_s:
            return self.way_s, self.two_way
        within_s = min(elapsed_s % (self.cycle_s + self.pause_s), self.cycle_s)
        back = within_s > self.way_s
        return (within_s - self.way_s if back else within_s), back

    @property
    def _direction_m(self) -> float:
        return math.copysign(self.step_m, self.stop_m - self.start_m)

    def _on_way_m(self, at_s: float) -> float:
        if self.continuous:
            part = at_s / self.way_s if self.way_s > 0.0 else 1.0
            return self.start_m + part * (self.stop_m - self.start_m)
        index = min(math.floor(at_s / self.dwell_s + _ROUNDING), self.steps - 1)
        return self.start_m + index * self._direction_m


class SweepRun:
    """A sweep under way on the bench clock, begun `delay_s` from now: it can be paused."""

    def __init__(self, clock: Clock, sweep: WavelengthSweep, delay_s: float = 0.0) -> None:
        self.sweep = sweep
        self._clock = clock
        self._before_s = 0.0
        self._since_s: float | None = clock.now_s() + delay_s

    def elapsed_s(self) -> float:
        """Return for how long it has run, pauses not counted."""
        running_s = 0.0 if self._since_s is None else max(self._clock.now_s() - self._since_s, 0.0)
        elapsed_s, duration_s = self._before_s + running_s, self.sweep.duration_s
        return duration_s if elapsed_s >= duration_s * (1.0 - _CLOCK_ROUNDING) else elapsed_s

    def pause(self) -> None:
        """Halt where it is."""
        self._before_s, self._since_s = self.elapsed_s(), None

    def resume(self) -> None:
        """Continue from where it halted."""
        if self._since_s is None:
            self._since_s = self._clock.now_s()

    @property
    def paused(self) -> bool:
        """Whether it is halted."""
        return self._since_s is None

    def done(self) -> bool:
        """Return whether all cycles are complete."""
        return self.elapsed_s() >= self.sweep.duration_s

    def wavelength_m(self) -> float:
        """Return where the sweep is now."""
        return self.sweep.wavelength_m(self.elapsed_s())

    def cycle(self) -> int:
        """Return how many cycles are complete."""
        return self.sweep.cycle(self.elapsed_s())

    def passed(self) -> npt.NDArray[np.float64]:
        """Return the step wavelengths in m that the present way has passed."""
        return self.sweep.passed(self.elapsed_s())
