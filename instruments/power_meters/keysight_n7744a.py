"""Keysight N7744A and N7745A multi-port optical power meters (SCPI).

Commands: N774xC guide page 69 and 816x guide page 92, sections 17 and 22.10 of the command tables
[V][2+]. Numbers without a unit are metres, watts (once `POW:UNIT` is 1) and seconds. The wording
of `FUNC:STAT?` is [M]: only the words "none" and "progress" are looked for, as public drivers do.
Wavelength range and the longest log are [M]: options.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from labctl.clock import wait_until
from labctl.errors import InstrumentError, InstrumentTimeoutError, LimitError, ReplyError
from labctl.instruments.capabilities import Identity
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.scpi_session import ScpiSession
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa
from labctl.units import w_to_dbm

_BEYOND_RANGE_W = 1e9


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


class KeysightN7744A:
    """Four or eight PowerMeters, one for each port (`channel`)."""

    def __init__(self, transport: MessageTransport, options: N7744AOptions | None = None) -> None:
        self.name = transport.name
        self._scpi = ScpiSession(transport)
        self._options = options or N7744AOptions()
        self._channels = tuple(
            PowerMeterPort(self._scpi, number, self._options)
            for number in range(1, self._options.channels + 1)
        )

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(N7744AOptions, name, options)
        transport = open_visa(name, address, library=library, timeout_s=read.timeout_s)
        meter = cls(transport, read)
        return verified(meter, address, meter._scpi.forget_errors, meter.identify)

    def identify(self) -> Identity:
        """Ask `*IDN?`; raises ReplyError if no N7744A/C or N7745A/C answers."""
        return self._scpi.identify("N7744", "N7745")

    def channel(self, number: int) -> PowerMeterPort:
        """Return a port, counting from 1; raises LimitError."""
        if number not in range(1, len(self._channels) + 1):
            raise LimitError(self.name, "channel", number, f"1 to {len(self._channels)}")
        return self._channels[number - 1]

    def safe_state(self) -> None:
        """End the logs of all ports, each also when another fails; a power meter does no harm."""
        failures: list[InstrumentError] = []
        for port in self._channels:
            try:
                port.stop_log()
            except InstrumentError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def close(self) -> None:
        """End the session."""
        self._scpi.transport.close()


class PowerMeterPort:
    """One port of the instrument as a PowerMeter that can also log."""

    def __init__(self, scpi: ScpiSession, number: int, options: N7744AOptions) -> None:
        self.name = scpi.name
        self._scpi = scpi
        self._number = number
        self._sense = f"SENS{number}"
        self._options = options
        self._in_watts = False
        self._log: tuple[int, float] | None = None

    def set_wavelength(self, wavelength_m: float) -> None:
        """Set the wavelength in m, within the options' range (else LimitError)."""
        lowest, highest = self._options.min_wavelength_m, self._options.max_wavelength_m
        if not lowest <= wavelength_m <= highest:
            valid = f"{lowest:g} to {highest:g} m"
            raise LimitError(self.name, "wavelength_m", wavelength_m, valid)
        self._scpi.set(f"{self._sense}:POW:WAV {wavelength_m:.10E}")

    def wavelength_m(self) -> float:
        """Return the wavelength in m for which the responsivity is corrected."""
        return self._scpi.number(f"{self._sense}:POW:WAV?")

    def set_averaging(self, duration_s: float) -> None:
        """Set how long one reading averages, in s; raises LimitError if that is no duration."""
        self._check_duration(duration_s)
        self._scpi.set(f"{self._sense}:POW:ATIM {duration_s:.9g}")

    def averaging_s(self) -> float:
        """Return how long one reading averages, in s."""
        return self._scpi.number(f"{self._sense}:POW:ATIM?")

    def set_range(self, power_w: float | None) -> None:
        """Set the range to what covers a power in W, or let the instrument choose (None)."""
        if power_w is None:
            self._scpi.set(f"{self._sense}:POW:RANG:AUTO 1")
            return
        if not 0 < power_w < _BEYOND_RANGE_W:
            raise LimitError(self.name, "power_w", power_w, "above 0 W")
        self._scpi.set(f"{self._sense}:POW:RANG:AUTO 0")
        self._scpi.set(f"{self._sense}:POW:RANG {w_to_dbm(power_w):.3f}DBM")

    def power_w(self) -> float:
        """Measure the power in W; raises ReplyError when the light is beyond the range."""
        self._use_watts()
        return self._power(f"READ{self._number}:POW?")

    def latest_power_w(self) -> float:
        """Return the power in W that was measured last, without a new measurement."""
        self._use_watts()
        return self._power(f"FETC{self._number}:POW?")

    def zero(self) -> None:
        """Take the present light as darkness; raises InstrumentTimeoutError if it never ends."""
        command = f"{self._sense}:CORR:COLL:ZERO"
        self._scpi.transport.write(command)
        timeout_s = self._options.zero_timeout_s
        if not wait_until(lambda: self._scpi.integer("*OPC?") == 1, self._scpi.clock, timeout_s):
            problem = f"zero adjustment has not ended within {timeout_s:g} s; is the port dark?"
            raise InstrumentTimeoutError(self.name, problem, command)
        self._scpi.check(command)

    def start_log(
        self, samples: int, averaging_s: float, *, external_trigger: bool = False
    ) -> None:
        """Start to log `samples` powers, each averaged over `averaging_s`; returns at once.

        With `external_trigger` one trigger starts the whole log. Raises LimitError.
        """
        if not 1 <= samples <= self._options.max_samples:
            raise LimitError(self.name, "samples", samples, f"1 to {self._options.max_samples}")
        self._check_duration(averaging_s)
        self._use_watts()
        self._scpi.set(f"TRIG{self._number}:INP {'CME' if external_trigger else 'IGN'}")
        self._scpi.set(f"{self._sense}:FUNC:PAR:LOGG {samples},{averaging_s:.9g}s")
        self._scpi.set(f"{self._sense}:FUNC:STAT LOGG,STAR")
        self._log = (samples, averaging_s)

    def logging(self) -> bool:
        """Tell whether a log is under way."""
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
        payload = self._scpi.transport.query_block(query)
        if len(payload) != 4 * samples:
            problem = f"sent {len(payload)} bytes for {samples} powers of 4 bytes"
            raise ReplyError(self.name, problem, query)
        self.stop_log()
        power_w = np.frombuffer(payload, dtype="<f4").astype(np.float32)
        power_w[~(np.abs(power_w) < _BEYOND_RANGE_W)] = np.nan
        return power_w

    def stop_log(self) -> None:
        """End the log that is under way or was started and not read, if any."""
        if self._log is not None or self.logging():
            self._scpi.set(f"{self._sense}:FUNC:STAT LOGG,STOP")
            self._log = None

    def _use_watts(self) -> None:
        if not self._in_watts:
            self._scpi.set(f"{self._sense}:POW:UNIT 1")
            self._in_watts = True

    def _power(self, query: str) -> float:
        power_w = self._scpi.number(query)
        if abs(power_w) > _BEYOND_RANGE_W:
            raise ReplyError(self.name, f"power is beyond the range ({power_w:g})", query)
        return power_w

    def _check_duration(self, duration_s: float) -> None:
        if not 0 < duration_s < math.inf:
            raise LimitError(self.name, "averaging time in s", duration_s, "above 0 and finite")
