"""The wavelengths and sweeps of a Santec TSL-570: units of two command sets, triggers, the log.

Commands: docs/wire/santec_tsl570.md, sections Command sets, Sweep, Triggers and Wavelength log
[2+]. Wavelengths are nm in the older command set ("legacy") and m in the newer ("scpi"); sweep
speeds are nm/s in both [1]. The numbers of `TRIG:OUTP` and `TRIG:OUTP:SETT` come from one source
[1] and are passed on as they are. The log is in units of 0.1 pm in the older set; that the newer
has the same unit is [M].
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labctl.errors import ReplyError
from labctl.instruments.driver_rules import (
    require_ascending,
    require_positive,
    require_range,
    require_speed,
)
from labctl.instruments.transports.scpi_session import ScpiSession

# Command sets, sweep modes (2 more for both ways), states of a sweep, and the step of the log:
# docs/wire/santec_tsl570.md.
_LEGACY, _SCPI = 0, 1
_STEPS, _CONTINUOUS = 0, 1
_TWO_WAY = 2
_SWEEP_STATES = (0, 1, 2, 3, 4)
_STATE_WAITING = 3
_LOG_STEP_M = 1e-13
# [M]: a model's value; no public text that was found says it.
_MOST_CYCLES = 999


class TSL570Sweep:
    """A SweptLaser: `command_set` None asks for it; `speeds_nm_s` empty allows every speed."""

    def __init__(
        self,
        scpi: ScpiSession,
        command_set: Literal["legacy", "scpi"] | None,
        speeds_nm_s: list[float],
    ) -> None:
        self._scpi = scpi
        self._in_metres = None if command_set is None else command_set == "scpi"
        self._speeds_nm_s = speeds_nm_s

    def configure_sweep(
        self,
        start_m: float,
        stop_m: float,
        speed_m_s: float,
        *,
        cycles: int = 1,
        two_way: bool = False,
    ) -> None:
        """Prepare continuous sweeps, wavelengths in m, speed in m/s; raises LimitError."""
        require_ascending(self._scpi.name, start_m, stop_m, self.wavelength_limits_m())
        require_speed(self._scpi.name, speed_m_s, self._speeds_nm_s)
        self._configure(_CONTINUOUS, start_m, stop_m, cycles, two_way)
        self._scpi.set(f":WAV:SWE:SPE {speed_m_s * 1e9:.9g}")

    def configure_steps(
        self,
        start_m: float,
        stop_m: float,
        step_m: float,
        dwell_s: float,
        *,
        cycles: int = 1,
        two_way: bool = False,
    ) -> None:
        """Prepare sweeps in steps (m), with `dwell_s` (s) at each; raises LimitError."""
        require_ascending(self._scpi.name, start_m, stop_m, self.wavelength_limits_m())
        require_positive(self._scpi.name, "step_m", step_m, stop_m - start_m, "m")
        require_positive(self._scpi.name, "dwell_s", dwell_s)
        self._configure(_STEPS, start_m, stop_m, cycles, two_way)
        self._scpi.set(f":WAV:SWE:STEP {self._wavelength(step_m)}")
        self._scpi.set(f":WAV:SWE:DWEL {dwell_s:.9g}")

    def set_sweep_delay(self, delay_s: float) -> None:
        """Set the time between two sweeps of several cycles, in s, 0 or more (else LimitError)."""
        if delay_s != 0:
            require_positive(self._scpi.name, "delay_s", delay_s)
        self._scpi.set(f":WAV:SWE:DEL {delay_s:.9g}")

    def start_sweep(self) -> None:
        """Start the sweep; returns at once."""
        self._scpi.set(":WAV:SWE 1")

    def sweeping(self) -> bool:
        """Return whether a sweep is being prepared, waits for a trigger or runs."""
        return self._scpi.one_of(":WAV:SWE?", _SWEEP_STATES) != 0

    def waiting_for_trigger(self) -> bool:
        """Return whether the sweep waits for a trigger."""
        return self._scpi.one_of(":WAV:SWE?", _SWEEP_STATES) == _STATE_WAITING

    def stop_sweep(self) -> None:
        """End the sweep where it is."""
        self._scpi.set(":WAV:SWE 0")

    def set_external_trigger(self, on: bool) -> None:
        """Let sweeps wait for a trigger, or not."""
        self._scpi.set(f":TRIG:INP:EXT {on:d}")

    def trigger_sweep(self) -> None:
        """Trigger by software the sweep that waits."""
        self._scpi.set(":TRIG:INP:SOFT")

    def set_trigger_output(self, event: int, step_m: float | None = None) -> None:
        """Choose what sends a trigger, by the manual's number; `step_m` (m) between two of them.

        Raises LimitError.
        """
        require_range(self._scpi.name, "event", event, 0, 9)
        if step_m is not None:
            require_positive(self._scpi.name, "step_m", step_m)
            self._scpi.set(f":TRIG:OUTP:STEP {self._wavelength(step_m)}")
        self._scpi.set(f":TRIG:OUTP {event}")

    def set_trigger_setting(self, setting: int) -> None:
        """Choose what the trigger step is equal in, by the manual's number; raises LimitError."""
        require_range(self._scpi.name, "setting", setting, 0, 9)
        self._scpi.set(f":TRIG:OUTP:SETT {setting}")

    def logged_wavelengths_m(self) -> NDArray[np.float64]:
        """Return the wavelengths in m at the triggers of the last sweep, shape (n,).

        The block has no terminator behind it: where the wire does not mark the end of a message
        (raw socket, serial line) the transport must not wait for one.
        """
        count = self._scpi.integer(":READ:POIN?")
        if count == 0:
            return np.empty(0)
        steps = self._scpi.array(":READ:DAT?", "<u4", count, "wavelengths")
        return steps.astype(np.float64) * _LOG_STEP_M

    def wavelength_limits_m(self) -> tuple[float, float]:
        """Return the shortest and the longest wavelength in m that the laser states."""
        return self._wavelength_m(":WAV:MIN?"), self._wavelength_m(":WAV:MAX?")

    def _configure(
        self, mode: int, start_m: float, stop_m: float, cycles: int, two_way: bool
    ) -> None:
        require_range(self._scpi.name, "cycles", cycles, 1, _MOST_CYCLES)
        self._scpi.set_all(
            f":WAV:SWE:MOD {mode + _TWO_WAY * two_way}",
            f":WAV:SWE:CYCL {cycles}",
            f":WAV:SWE:STAR {self._wavelength(start_m)}",
            f":WAV:SWE:STOP {self._wavelength(stop_m)}",
        )

    def _metres(self) -> bool:
        if self._in_metres is None:
            answer = self._scpi.one_of(":SYST:COMM:COD?", (_LEGACY, _SCPI))
            self._in_metres = answer == _SCPI
        return self._in_metres

    def _wavelength(self, wavelength_m: float) -> str:
        return f"{wavelength_m:.7E}" if self._metres() else f"{wavelength_m * 1e9:.4f}"

    def _wavelength_m(self, query: str) -> float:
        scale = 1.0 if self._metres() else 1e-9
        wavelength_m = self._scpi.number(query) * scale
        if not 1e-7 < wavelength_m < 1e-5:
            problem = (
                f"expected a wavelength of 1e-07 to 1e-05 m, got {wavelength_m:g} m; "
                "check the option command_set"
            )
            raise ReplyError(self._scpi.name, problem, query)
        return wavelength_m
