"""One port of a Keysight N7744A: power, range, averaging, triggers, and a log of powers.

Commands: docs/wire/keysight_n7744a.md, sections Power, Settings, Reference, Logging and Triggers
[V][2+]. Numbers without a unit are metres, watts (once `POW:UNIT` is 1) and seconds. The whole
wording of `FUNC:STAT?` is [M]: only the words "none" and "progress" are looked for.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from labctl.clock import wait_until
from labctl.errors import InstrumentTimeoutError, LimitError
from labctl.instruments.driver_rules import require_positive, require_range
from labctl.instruments.power_meters.watts import BEYOND_RANGE_W, power_in_watts
from labctl.instruments.transports.opening import DriverOptions
from labctl.instruments.transports.scpi_session import ScpiSession
from labctl.units import w_to_dbm


class N7744AOptions(DriverOptions):
    """Ports, waits and limits.

    `channels`: 4, or 8 for an N7745A. `zero_timeout_s`: how long a zero adjustment may take, in s.
    `log_grace_s`: how much longer than its samples a log may take, in s; one that waits for a
    trigger needs more. Wavelengths in m.
    """

    timeout_s: float = Field(default=10.0, gt=0)
    zero_timeout_s: float = Field(default=60.0, gt=0)
    log_grace_s: float = Field(default=10.0, gt=0)
    channels: int = Field(default=4, ge=1, le=8)
    min_wavelength_m: float = Field(default=1250e-9, gt=0)
    max_wavelength_m: float = Field(default=1650e-9, gt=0)
    max_samples: int = Field(default=1_000_000, ge=1)

    def channel_range(self) -> range:
        """Return the numbers of the channels."""
        return range(1, self.channels + 1)


class PowerMeterPort:
    """One port of the instrument as a PowerMeter that can also log."""

    def __init__(self, scpi: ScpiSession, number: int, options: N7744AOptions) -> None:
        self.name = scpi.name
        self._scpi = scpi
        self._number = number
        self._sense = f"SENS{number}"
        self._options = options
        self._log: tuple[int, float] | None = None

    def set_wavelength(self, wavelength_m: float) -> None:
        """Set the wavelength in m, within the options' range (else LimitError)."""
        lowest, highest = self._options.min_wavelength_m, self._options.max_wavelength_m
        require_range(self.name, "wavelength_m", wavelength_m, lowest, highest, "m")
        self._scpi.set(f"{self._sense}:POW:WAV {wavelength_m:.10E}")

    def wavelength_m(self) -> float:
        """Return the wavelength in m for which the responsivity is corrected."""
        return self._scpi.number(f"{self._sense}:POW:WAV?")

    def set_averaging(self, duration_s: float) -> None:
        """Set how long one reading averages, in s; raises LimitError if that is no duration."""
        require_positive(self.name, "averaging time in s", duration_s)
        self._scpi.set(f"{self._sense}:POW:ATIM {duration_s:.9g}")

    def averaging_s(self) -> float:
        """Return how long one reading averages, in s."""
        return self._scpi.number(f"{self._sense}:POW:ATIM?")

    def set_range(self, power_w: float | None) -> None:
        """Set the range to what covers a power in W, or let the instrument choose (None)."""
        if power_w is None:
            self._scpi.set(f"{self._sense}:POW:RANG:AUTO 1")
            return
        require_positive(self.name, "power_w", power_w, BEYOND_RANGE_W, "W")
        self._scpi.set(f"{self._sense}:POW:RANG:AUTO 0")
        self._scpi.set(f"{self._sense}:POW:RANG {w_to_dbm(power_w):.3f}DBM")

    def power_w(self) -> float:
        """Measure the power in W; raises ReplyError when the light is beyond the range."""
        return self._power(f"READ{self._number}:POW?")

    def latest_power_w(self) -> float:
        """Return the power in W that was measured last, without a new measurement."""
        return self._power(f"FETC{self._number}:POW?")

    def zero(self) -> None:
        """Take the present light as darkness; raises InstrumentTimeoutError if it never ends."""
        command = f"{self._sense}:CORR:COLL:ZERO"
        self._scpi.transport.write(command)
        self._scpi.wait(
            self._scpi.operation_complete,
            self._options.zero_timeout_s,
            "zero adjustment has not ended",
            command,
            hint="; is the port dark?",
        )
        self._scpi.check(command)

    def set_trigger_input(self, effect: Literal["IGN", "SME", "CME"]) -> None:
        """Let a trigger do nothing, make one measurement, or start all; a log sets it again."""
        self._scpi.set(f"TRIG{self._number}:INP {effect}")

    def set_trigger_output(self, event: Literal["DIS", "AVG", "MEAS"]) -> None:
        """Send a trigger never, when an averaging time ends, or when a measurement begins."""
        self._scpi.set(f"TRIG{self._number}:OUTP {event}")

    def set_continuous(self, on: bool) -> None:
        """Measure again and again, or only when asked."""
        self._scpi.set(f"INIT{self._number}:CONT {on:d}")

    def set_automatic_gain(self, on: bool) -> None:
        """Let the port change its gain within a range, or not."""
        self._scpi.set(f"{self._sense}:POW:GAIN:AUTO {on:d}")

    def set_reference(self, power_w: float) -> None:
        """Set the power in W that relative readings refer to (`TOREF`); raises LimitError."""
        require_positive(self.name, "power_w", power_w, BEYOND_RANGE_W, "W")
        self._scpi.set(f"{self._sense}:POW:REF TOREF,{w_to_dbm(power_w):.4f}DBM")

    def start_log(
        self, samples: int, averaging_s: float, *, external_trigger: bool = False
    ) -> None:
        """Start to log `samples` powers, each averaged over `averaging_s`; returns at once.

        With `external_trigger` one trigger starts the whole log. Raises LimitError.
        """
        require_range(self.name, "samples", samples, 1, self._options.max_samples)
        require_positive(self.name, "averaging time in s", averaging_s)
        self._use_watts()
        self.set_trigger_input("CME" if external_trigger else "IGN")
        self._scpi.set(f"{self._sense}:FUNC:PAR:LOGG {samples},{averaging_s:.9g}s")
        self._scpi.set(f"{self._sense}:FUNC:STAT LOGG,STAR")
        self._log = (samples, averaging_s)

    def logging(self) -> bool:
        """Return whether a log is under way."""
        state = self._scpi.query(f"{self._sense}:FUNC:STAT?").upper()
        return "PROGRESS" in state and "NONE" not in state

    def read_log(self) -> NDArray[np.float32]:
        """Wait for the log and return its powers in W, shape (samples,), float32.

        Powers beyond the range are NaN. Raises InstrumentTimeoutError if the log does not end,
        LimitError if none was started.
        """
        if self._log is None:
            raise LimitError(self.name, "log", None, "started first (start_log)")
        samples, averaging_s = self._log
        timeout_s = samples * averaging_s + self._options.log_grace_s
        if not wait_until(lambda: not self.logging(), self._scpi.clock, timeout_s):
            self.stop_log()
            problem = f"log has not ended within {timeout_s:g} s; did its trigger come?"
            raise InstrumentTimeoutError(self.name, problem, f"{self._sense}:FUNC:STAT LOGG,STAR")
        query = f"{self._sense}:FUNC:RES?"
        power_w = self._scpi.array(query, "<f4", samples, "powers").astype(np.float32)
        self.stop_log()
        power_w[~(np.abs(power_w) < BEYOND_RANGE_W)] = np.nan
        return power_w

    def stop_log(self) -> None:
        """End the log that is under way or was started and not read, if any."""
        if self._log is not None or self.logging():
            self._scpi.set(f"{self._sense}:FUNC:STAT LOGG,STOP")
            self._log = None

    def _use_watts(self) -> None:
        # The front panel can change the unit at any time, so what was set before says nothing.
        if not self._scpi.flag(f"{self._sense}:POW:UNIT?"):
            self._scpi.set(f"{self._sense}:POW:UNIT 1")

    def _power(self, query: str) -> float:
        return power_in_watts(
            self._scpi,
            query,
            unit=f"{self._sense}:POW:UNIT?",
            is_watts=lambda shown, command: self._scpi.as_number(shown, command) == 1.0,
            to_watts=f"{self._sense}:POW:UNIT 1",
        )
