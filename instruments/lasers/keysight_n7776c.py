"""Keysight N7776C swept laser, and 81960A-style modules in a slot of a mainframe (SCPI).

Commands: N777xC Programming Guide N7770-90C02 and 8163A/B-8164A/B Programming Guide, section 2 of
the command tables [V][2+]. Numbers are sent without a unit: they are metres, metres per second
and, once `POW:UNIT` is 1, watts. The sweep speeds that exist come from one source [1]: an option.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from labctl.clock import wait_until
from labctl.errors import InstrumentReportedError, InstrumentTimeoutError, LimitError, ReplyError
from labctl.instruments.capabilities import Identity
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.scpi_session import ScpiSession
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa
from labctl.units import frequency_to_wavelength_m, wavelength_to_frequency_hz

_ENDS = ("MIN", "MAX")
_IN_WATTS = 1
_STOPPED, _RUNNING, _PAUSED = 0, 1, 2


class N7776COptions(DriverOptions):
    """Where the laser sits, its lock, and waits.

    `slot`: source index, 0 for an N777xC and the back slot of an 8164B. `mainframe`: the laser is
    a module, identified by `SLOT<n>:IDN?`. `model`: how its model starts; unless given N7776C, or
    81960A in a mainframe. `pin`: opens the lock when light is wanted (1234 as delivered); without
    it a locked laser refuses. `sweep_speeds_nm_s`: those of the N7776C [1]; an empty list leaves
    the choice to the laser. `settling_timeout_s`: how long switching on or tuning may take.
    """

    timeout_s: float = Field(default=10.0, gt=0)
    settling_timeout_s: float = Field(default=60.0, gt=0)
    slot: int = Field(default=0, ge=0, le=17)
    mainframe: bool = False
    model: str | None = Field(default=None, min_length=1)
    pin: str | None = Field(default=None, pattern=r"^[0-9]{4}$")
    sweep_speeds_nm_s: list[float] = Field(default=[0.5, 1.0, 50.0, 80.0, 200.0])


class KeysightN7776C:
    """A TunableLaser and a SweptLaser (a set-and-hold module refuses sweeps itself)."""

    def __init__(self, transport: MessageTransport, options: N7776COptions | None = None) -> None:
        self.name = transport.name
        self._scpi = ScpiSession(transport)
        self._options = options or N7776COptions()
        self._source = f":SOUR{self._options.slot}"

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(N7776COptions, name, options)
        transport = open_visa(name, address, library=library, timeout_s=read.timeout_s)
        laser = cls(transport, read)
        return verified(laser, address, laser._scpi.forget_errors, laser.identify)

    def identify(self) -> Identity:
        """Ask `*IDN?`, or the module in its slot; raises ReplyError if it is another model."""
        if not self._options.mainframe:
            return self._scpi.identify((self._options.model or "N7776C").upper())
        query = f"SLOT{self._options.slot}:IDN?"
        reply = self._scpi.query(query)
        fields = [field.strip() for field in reply.split(",", 3)]
        wanted = self._options.model or "81960A"
        if len(fields) != 4 or not fields[1].upper().startswith(wanted.upper()):
            raise ReplyError(self.name, f"{reply!r} answers, a {wanted} is expected", query)
        return Identity(*fields)

    def set_power(self, power_w: float) -> None:
        """Set the power in W, within the laser's own limits (else LimitError)."""
        self._use_watts()
        lowest, highest = (self._scpi.number(f"{self._source}:POW? {end}") for end in _ENDS)
        if not lowest <= power_w <= highest:
            raise LimitError(self.name, "power_w", power_w, f"{lowest:g} to {highest:g} W")
        self._scpi.set(f"{self._source}:POW {power_w:.8E}")

    def power_w(self) -> float:
        """Return the power in W that the laser reports, 0 while the light is off."""
        if not self.emission():
            return 0.0
        self._use_watts()
        return self._scpi.number(f"{self._source}:POW?")

    def set_emission(self, on: bool) -> None:
        """Switch the light and wait until it is; raises InstrumentTimeoutError.

        Opens the lock first if the option `pin` is given and light is wanted.
        """
        if on and self._options.pin is not None:
            self._scpi.transport.write(f":LOCK 0,{self._options.pin}")
            self._scpi.check(":LOCK 0,<pin>")
        command = f"{self._source}:POW:STAT {on:d}"
        self._scpi.set(command)
        self._wait(lambda: self.emission() is on, f"switch {'on' if on else 'off'}", command)
        self._settle(command)

    def emission(self) -> bool:
        """Tell whether the light is on."""
        return self._one_of(f"{self._source}:POW:STAT?", (0, 1)) == 1

    def locked(self) -> bool:
        """Tell whether the laser's PIN lock keeps the light off."""
        return self._one_of(":LOCK?", (0, 1)) == 1

    def set_frequency(self, frequency_hz: float) -> None:
        """Tune to a frequency in Hz within `frequency_limits_hz` (else LimitError), and wait."""
        lowest, highest = self.frequency_limits_hz()
        if not lowest <= frequency_hz <= highest:
            valid = f"{lowest:.7g} to {highest:.7g} Hz"
            raise LimitError(self.name, "frequency_hz", frequency_hz, valid)
        command = f"{self._source}:WAV {frequency_to_wavelength_m(frequency_hz):.10E}"
        self._scpi.set(command)
        self._settle(command)

    def frequency_hz(self) -> float:
        """Return the frequency in Hz that is set."""
        return wavelength_to_frequency_hz(self._wavelength_m(f"{self._source}:WAV?"))

    def frequency_limits_hz(self) -> tuple[float, float]:
        """Return the lowest and the highest frequency in Hz that the laser states."""
        shortest_m, longest_m = self._wavelength_limits_m()
        return wavelength_to_frequency_hz(longest_m), wavelength_to_frequency_hz(shortest_m)

    def configure_sweep(self, start_m: float, stop_m: float, speed_m_s: float) -> None:
        """Prepare one continuous sweep, wavelengths in m, speed in m/s; it waits for no trigger.

        Raises LimitError, or InstrumentReportedError with what the laser's own check of the
        sweep says (codes 368 to 381).
        """
        lowest, highest = self._wavelength_limits_m()
        if not lowest <= start_m < stop_m <= highest:
            valid = f"ascending within {lowest:.7g} to {highest:.7g} m"
            raise LimitError(self.name, "(start_m, stop_m)", (start_m, stop_m), valid)
        self._check_speed(speed_m_s)
        sweep = f"{self._source}:WAV:SWE"
        for command in (
            f":TRIG{self._options.slot}:INP IGN",
            f"{sweep}:MODE CONT",
            f"{sweep}:CYCL 1",
            f"{sweep}:STAR {start_m:.10E}",
            f"{sweep}:STOP {stop_m:.10E}",
            f"{sweep}:SPE {speed_m_s:.6E}",
        ):
            self._scpi.set(command)
        self._check_sweep()

    def log_wavelengths(self, step_m: float | None) -> None:
        """Log the wavelength every `step_m` (in m) during the sweep configured before; None stops.

        A trigger leaves the laser at every logged step. Raises InstrumentReportedError if the
        laser's own check refuses step and sweep together.
        """
        source = self._source
        if step_m is None:
            self._scpi.set(f"{source}:WAV:SWE:LLOG 0")
            return
        if not 0 < step_m < math.inf:
            raise LimitError(self.name, "step_m", step_m, "above 0 and finite")
        self._scpi.set(f"{source}:AM:STAT 0")
        self._scpi.set(f"{source}:WAV:SWE:STEP {step_m:.10E}")
        self._scpi.set(f":TRIG{self._options.slot}:OUTP STF")
        self._scpi.set(f"{source}:WAV:SWE:LLOG 1")
        self._check_sweep()

    def start_sweep(self) -> None:
        """Start the sweep; returns at once."""
        self._scpi.set(f"{self._source}:WAV:SWE 1")

    def sweeping(self) -> bool:
        """Tell whether a sweep runs or is paused."""
        states = (_STOPPED, _RUNNING, _PAUSED)
        return self._one_of(f"{self._source}:WAV:SWE?", states) != _STOPPED

    def stop_sweep(self) -> None:
        """End the sweep where it is."""
        self._scpi.set(f"{self._source}:WAV:SWE 0")

    def logged_wavelengths_m(self) -> NDArray[np.float64]:
        """Return the wavelengths in m that the last sweep logged, shape (n,)."""
        count = self._scpi.integer(f"{self._source}:READ:POIN? LLOG")
        if count == 0:
            return np.empty(0)
        query = f"{self._source}:READ:DATA? LLOG"
        payload = self._scpi.transport.query_block(query)
        if len(payload) != 8 * count:
            problem = f"sent {len(payload)} bytes for {count} wavelengths of 8 bytes"
            raise ReplyError(self.name, problem, query)
        return np.frombuffer(payload, dtype="<f8").astype(np.float64)

    def safe_state(self) -> None:
        """Switch the light off."""
        self.set_emission(False)

    def close(self) -> None:
        """End the session."""
        self._scpi.transport.close()

    def _use_watts(self) -> None:
        # The front panel can change the unit at any time. After a change the first reading may
        # still be in the old one (a public driver reads twice), so one is thrown away.
        if self._one_of(f"{self._source}:POW:UNIT?", (0, 1)) != _IN_WATTS:
            self._scpi.set(f"{self._source}:POW:UNIT {_IN_WATTS}")
            self._scpi.query(f"{self._source}:POW?")

    def _wavelength_limits_m(self) -> tuple[float, float]:
        lowest, highest = (self._wavelength_m(f"{self._source}:WAV? {end}") for end in _ENDS)
        return lowest, highest

    def _wavelength_m(self, query: str) -> float:
        wavelength_m = self._scpi.number(query)
        if wavelength_m <= 0:
            raise ReplyError(self.name, f"{wavelength_m:g} m is not a wavelength", query)
        return wavelength_m

    def _check_speed(self, speed_m_s: float) -> None:
        speeds = self._options.sweep_speeds_nm_s
        known = not speeds or any(math.isclose(speed_m_s, speed * 1e-9) for speed in speeds)
        if not 0 < speed_m_s < math.inf or not known:
            valid = " or ".join(f"{speed * 1e-9:g}" for speed in speeds) or "above 0 and finite"
            raise LimitError(self.name, "speed_m_s", speed_m_s, valid)

    def _check_sweep(self) -> None:
        query = f"{self._source}:WAV:SWE:CHEC?"
        reply = self._scpi.query(query)
        match = re.fullmatch(r"\s*([+-]?\d+)\s*,\s*(.*)", reply, re.DOTALL)
        if match is None:
            raise ReplyError(self.name, f"{reply!r} does not judge a sweep", query)
        code, message = int(match.group(1)), match.group(2).strip().strip('"')
        if code != 0:
            raise InstrumentReportedError(self.name, code, message, query)

    def _one_of(self, query: str, valid: tuple[int, ...]) -> int:
        value = self._scpi.integer(query)
        if value not in valid:
            raise ReplyError(self.name, f"answered {value} where one of {valid} is due", query)
        return value

    def _settle(self, command: str) -> None:
        self._wait(lambda: self._scpi.integer("*OPC?") == 1, f"complete {command!r}", "*OPC?")

    def _wait(self, condition: Callable[[], bool], what: str, command: str) -> None:
        timeout_s = self._options.settling_timeout_s
        if not wait_until(condition, self._scpi.clock, timeout_s):
            problem = f"did not {what} within {timeout_s:g} s"
            raise InstrumentTimeoutError(self.name, problem, command)
