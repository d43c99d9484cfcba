"""The sweeps of a Keysight N7776C: continuous or in steps, with triggers and a wavelength log.

Commands: docs/wire/keysight_n7776c.md, sections Sweep, Wavelength log and Triggers [V][2+]; `EXP?`,
`SOFT`, `PMAX?` and the words of `REP` come from one source [1]. Numbers are sent in m, m/s and s.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from labctl.errors import InstrumentReportedError, ReplyError
from labctl.instruments.driver_rules import (
    require_ascending,
    require_positive,
    require_range,
    require_speed,
)
from labctl.instruments.transports.scpi_session import ScpiSession

TriggerOutput: TypeAlias = Literal["DIS", "STF", "SWF", "SWST"]
"""What sends a trigger: nothing, a finished step, a finished sweep, a started sweep."""

SweepTrigger: TypeAlias = Literal["IGN", "NEXT", "SWS"]
"""What a trigger at the input does: nothing, the next step, the start of the sweep."""

# What `:SWE:STAT?` replies (docs/wire/keysight_n7776c.md, section Sweep).
_STOPPED, _RUNNING, _PAUSED = 0, 1, 2
# [M]: a model's value; no public text that was found says it.
_MOST_CYCLES = 999
_PAIR = np.dtype([("wavelength_m", "<f8"), ("power_w", "<f4")])


class N7776CSweep:
    """A SweptLaser: the sweep commands of one source; `speeds_nm_s` empty allows every speed."""

    def __init__(self, scpi: ScpiSession, slot: int, speeds_nm_s: list[float]) -> None:
        self._scpi = scpi
        self._slot = slot
        self._source = f":SOUR{slot}"
        self._sweep = f"{self._source}:WAV:SWE"
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
        """Prepare continuous sweeps, wavelengths in m, speed in m/s; they wait for no trigger.

        `two_way`: every second of several cycles goes from `stop_m` back to `start_m`. Raises
        LimitError, or InstrumentReportedError with the result of the laser's own check of the
        sweep (codes 368 to 381).
        """
        require_ascending(self._scpi.name, start_m, stop_m, self.wavelength_limits_m())
        require_speed(self._scpi.name, speed_m_s, self._speeds_nm_s)
        require_range(self._scpi.name, "cycles", cycles, 1, _MOST_CYCLES)
        self._scpi.set_all(
            f":TRIG{self._slot}:INP IGN",
            f"{self._sweep}:MODE CONT",
            f"{self._sweep}:CYCL {cycles}",
            f"{self._sweep}:REP {'TWOW' if two_way else 'ONEW'}",
            f"{self._sweep}:STAR {start_m:.10E}",
            f"{self._sweep}:STOP {stop_m:.10E}",
            f"{self._sweep}:SPE {speed_m_s:.6E}",
        )
        self._check_sweep()

    def configure_steps(
        self, start_m: float, stop_m: float, step_m: float, dwell_s: float | None
    ) -> None:
        """Prepare one sweep in steps (m), `dwell_s` (s) at each; None: a trigger makes each step.

        Raises LimitError, or InstrumentReportedError if the laser's own check refuses it.
        """
        require_ascending(self._scpi.name, start_m, stop_m, self.wavelength_limits_m())
        require_positive(self._scpi.name, "step_m", step_m, stop_m - start_m, "m")
        if dwell_s is not None:
            require_positive(self._scpi.name, "dwell_s", dwell_s)
        self._scpi.set_all(
            f":TRIG{self._slot}:INP {'NEXT' if dwell_s is None else 'IGN'}",
            f"{self._sweep}:LLOG 0",
            f"{self._sweep}:MODE {'MAN' if dwell_s is None else 'STEP'}",
            f"{self._sweep}:CYCL 1",
            f"{self._sweep}:REP ONEW",
            f"{self._sweep}:STAR {start_m:.10E}",
            f"{self._sweep}:STOP {stop_m:.10E}",
            f"{self._sweep}:STEP {step_m:.10E}",
        )
        if dwell_s is not None:
            self._scpi.set(f"{self._sweep}:DWEL {dwell_s:.6E}")
        self._check_sweep()

    def log_wavelengths(self, step_m: float | None) -> None:
        """Log the wavelength every `step_m` (in m) during the sweep configured before; None stops.

        A trigger leaves the laser at every logged step. Raises InstrumentReportedError if the
        laser's own check refuses step and sweep together.
        """
        if step_m is None:
            self._scpi.set(f"{self._sweep}:LLOG 0")
            return
        require_positive(self._scpi.name, "step_m", step_m)
        self._scpi.set(f"{self._source}:AM:STAT 0")
        self._scpi.set(f"{self._sweep}:STEP {step_m:.10E}")
        self.set_trigger_output("STF")
        self._scpi.set(f"{self._sweep}:LLOG 1")
        self._check_sweep()

    def set_trigger_output(self, event: TriggerOutput) -> None:
        """Choose what sends a trigger."""
        self._scpi.set(f":TRIG{self._slot}:OUTP {event}")

    def set_trigger_input(self, effect: SweepTrigger) -> None:
        """Choose what a trigger at the input does; configuring a sweep sets it again."""
        self._scpi.set(f":TRIG{self._slot}:INP {effect}")

    def set_trigger_loop(self, on: bool) -> None:
        """Lead the trigger output back to the trigger input inside the instrument, or not."""
        self._scpi.set(f":TRIG:CONF {'LOOP' if on else 'DEF'}")

    def start_sweep(self) -> None:
        """Start the sweep; returns at once."""
        self._scpi.set(f"{self._sweep} 1")

    def pause_sweep(self) -> None:
        """Halt the sweep where it is."""
        self._scpi.set(f"{self._sweep} {_PAUSED}")

    def resume_sweep(self) -> None:
        """Continue with a sweep that was paused."""
        self._scpi.set(f"{self._sweep} CONT")

    def stop_sweep(self) -> None:
        """End the sweep where it is."""
        self._scpi.set(f"{self._sweep} {_STOPPED}")

    def sweeping(self) -> bool:
        """Return whether a sweep runs or is paused."""
        states = (_STOPPED, _RUNNING, _PAUSED)
        return self._scpi.one_of(f"{self._sweep}?", states) != _STOPPED

    def waiting_for_trigger(self) -> bool:
        """Return whether the sweep waits for a trigger (an odd flag)."""
        return self._scpi.integer(f"{self._sweep}:FLAG?") % 2 == 1

    def trigger_sweep(self) -> None:
        """Trigger by software the sweep that waits [1]."""
        self._scpi.set(f"{self._sweep}:SOFT")

    def expected_triggers(self) -> int:
        """Return how many triggers the sweep configured will send [1]."""
        return self._scpi.integer(f"{self._sweep}:EXP?")

    def largest_power_w(self, start_m: float, stop_m: float) -> float:
        """Return the largest power in W available all over a range of wavelengths in m [1]."""
        require_ascending(self._scpi.name, start_m, stop_m, self.wavelength_limits_m())
        return self._scpi.number(f"{self._sweep}:PMAX? {start_m:.10E},{stop_m:.10E}")

    def logged_wavelengths_m(self) -> NDArray[np.float64]:
        """Return the wavelengths in m that the last sweep logged, shape (n,)."""
        count = self._scpi.integer(f"{self._source}:READ:POIN? LLOG")
        if count == 0:
            return np.empty(0)
        query = f"{self._source}:READ:DATA? LLOG"
        return self._scpi.array(query, "<f8", count, "wavelengths").astype(np.float64)

    def available_power(self) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return wavelengths in m and the largest power in W at each, both of shape (n,)."""
        query = f"{self._source}:READ:DATA? PMAX"
        payload = self._scpi.transport.query_block(query)
        if len(payload) % _PAIR.itemsize:
            problem = f"sent {len(payload)} bytes, not pairs of {_PAIR.itemsize}"
            raise ReplyError(self._scpi.name, problem, query)
        pairs = np.frombuffer(payload, dtype=_PAIR)
        return pairs["wavelength_m"].astype(np.float64), pairs["power_w"].astype(np.float32)

    def wavelength_limits_m(self) -> tuple[float, float]:
        """Return the shortest and the longest wavelength in m that the laser states."""
        return self._wavelength_m("WAV? MIN"), self._wavelength_m("WAV? MAX")

    def _wavelength_m(self, node: str) -> float:
        query = f"{self._source}:{node}"
        wavelength_m = self._scpi.number(query)
        if wavelength_m <= 0:
            raise ReplyError(self._scpi.name, f"{wavelength_m:g} m is not a wavelength", query)
        return wavelength_m

    def _check_sweep(self) -> None:
        query = f"{self._sweep}:CHEC?"
        reply = self._scpi.query(query)
        match = re.fullmatch(r"\s*([+-]?\d+)\s*,\s*(.*)", reply, re.DOTALL)
        if match is None:
            raise ReplyError(
                self._scpi.name, f"expected code and text of the sweep check, got {reply!r}", query
            )
        code, message = int(match.group(1)), match.group(2).strip().strip('"')
        if code != 0:
            raise InstrumentReportedError(self._scpi.name, code, message, query)
