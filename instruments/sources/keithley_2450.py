"""Keithley 2450 source meter as a voltage source that measures its own output (SCPI).

Commands: docs/wire/keithley_2450.md, sections Connection, Source, Measurement and Buffers [2+]. The
instrument must be in its SCPI command set (`*LANG?`). The largest voltage and current are [M]:
options.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from labctl.errors import LimitError, ReplyError
from labctl.hazards import Hazard
from labctl.instruments.capabilities import Identity
from labctl.instruments.driver_rules import require_positive, require_range
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.scpi_session import ScpiSession
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa

# Overflow is 9.9E37 and not-a-number 9.91E37 (SCPI-99, 7.2.1): no reading comes near this.
_OVERFLOW = 1e30
# A source has 40,000 steps in each of its ranges, the finest of 500 nV (its wire page).
_STEP, _FINEST_V = 2.5e-5, 500e-9
_LONGEST_DELAY_S = 1e4  # 10 ks, 2461 reference manual p. 6-89; 2450 revision B still has 4 s


class Keithley2450Options(DriverOptions):
    """Limits to check before anything is sent, and how to measure.

    `current_limit_a`: what the current is limited to from the first voltage on. `max_voltage_v`
    and `max_current_a`: magnitudes never to exceed; what the instrument has is the default [M].
    `range_v`: source range in V, automatic unless given. `nplc`: how long a reading takes, in
    power-line cycles.
    """

    timeout_s: float = Field(default=10.0, gt=0)
    current_limit_a: float = Field(default=1e-3, gt=0)
    max_voltage_v: float = Field(default=210.0, gt=0)
    max_current_a: float = Field(default=1.05, gt=0)
    range_v: float | None = Field(default=None, gt=0)
    nplc: float = Field(default=1.0, ge=0.01, le=10.0)


class Keithley2450:
    """A SourceMeter."""

    Options = Keithley2450Options
    hazard = Hazard.BIAS
    reads_back = frozenset({"set_voltage", "set_current_limit"})

    def __init__(
        self, transport: MessageTransport, options: Keithley2450Options | None = None
    ) -> None:
        self.name = transport.name
        self._scpi = ScpiSession(transport)
        self._options = options or Keithley2450Options()
        self._current_limit_a = self._options.current_limit_a
        self._check_current(self._current_limit_a)
        self._configured = False

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect, make sure of the command set, and identify.

        Raises SettingError, LimitError (options that contradict each other),
        ConnectionFailedError, or ReplyError.
        """
        read = read_options(Keithley2450Options, name, options)
        transport = open_visa(name, address, library=library, timeout_s=read.timeout_s)
        try:
            smu = cls(transport, read)
        except LimitError:
            transport.close()
            raise
        checks = (smu.check_command_set, smu._scpi.forget_errors, smu.identify)
        return verified(smu, address, *checks)

    def check_command_set(self) -> None:
        """Raise ReplyError unless the instrument speaks SCPI (and not TSP or a 2400's SCPI)."""
        language = self._scpi.query("*LANG?")
        if language.upper() != "SCPI":
            problem = f"command set is {language!r}: choose SCPI in the system menu, then restart"
            raise ReplyError(self.name, problem, "*LANG?")

    def identify(self) -> Identity:
        """Ask `*IDN?`; raises ReplyError if no 2450 answers."""
        return self._scpi.identify("MODEL 2450")

    def set_voltage(self, voltage_v: float) -> None:
        """Apply a voltage in V and switch the output on; raises LimitError.

        Function, range, current limit and integration time are set the first time, and again when
        the front panel or another program changed function or limit.
        """
        limit_v = min(self._options.max_voltage_v, self._options.range_v or math.inf)
        require_range(self.name, "voltage_v", voltage_v, -limit_v, limit_v, "V")
        if not (self._configured and self._is_limited_voltage_source()):
            self._configure()
        resolution_v = max(_STEP * (self._options.range_v or 0.0), _FINEST_V)
        self._scpi.set_and_see(
            f":SOUR:VOLT {voltage_v:.9g}", ":SOUR:VOLT?", voltage_v, resolution=resolution_v
        )
        self._scpi.set("OUTP ON")

    def voltage_v(self) -> float:
        """Return the voltage that is set, in V."""
        return self._scpi.number(":SOUR:VOLT?")

    def set_current_limit(self, current_a: float) -> None:
        """Limit the current to a magnitude in A, now and for later voltages; raises LimitError."""
        self._check_current(current_a)
        self._limit_current(current_a)
        self._current_limit_a = current_a

    def measured_voltage_v(self) -> float:
        """Measure the voltage at the output in V; raises ReplyError when beyond the range."""
        return self._reading("VOLT")

    def measured_current_a(self) -> float:
        """Measure the current in A; raises ReplyError when beyond the range."""
        return self._reading("CURR")

    def readings(self, count: int) -> NDArray[np.float64]:
        """Return the first `count` readings in the instrument's default buffer, shape (count,)."""
        if count < 1:
            raise LimitError(self.name, "count", count, "1 or more")
        query = f":TRAC:DATA? 1,{count},'defbuffer1'"
        return np.array(self._scpi.numbers(query, count, "readings"))

    def source_current(self, current_a: float, *, voltage_limit_v: float) -> None:
        """Deliver a current in A at up to a voltage in V (magnitude), output on.

        The range of the source is automatic. Raises LimitError.
        """
        limit_a, limit_v = self._options.max_current_a, self._options.max_voltage_v
        require_range(self.name, "current_a", current_a, -limit_a, limit_a, "A")
        require_positive(self.name, "voltage_limit_v", voltage_limit_v, limit_v, "V")
        if self._function() != "CURR":
            self._scpi.set("OUTP OFF")
            self._scpi.set_and_see_word(":SOUR:FUNC CURR", ":SOUR:FUNC?", "CURR")
        self._scpi.set(":SOUR:CURR:RANG:AUTO ON")
        limit = f":SOUR:CURR:VLIM {voltage_limit_v:.9g}"
        self._scpi.set_and_see(limit, ":SOUR:CURR:VLIM?", voltage_limit_v, resolution=_FINEST_V)
        self._scpi.set_and_see(f":SOUR:CURR {current_a:.9g}", ":SOUR:CURR?", current_a)
        self._scpi.set("OUTP ON")

    def set_delay(self, duration_s: float) -> None:
        """Set how long the instrument waits between setting a voltage and measuring, in s.

        Raises LimitError.
        """
        if duration_s != 0:
            require_positive(self.name, "duration_s", duration_s, _LONGEST_DELAY_S, "s")
        self._scpi.set(f":SOUR:VOLT:DEL {duration_s:.9g}")

    def set_current_range(self, current_a: float | None) -> None:
        """Measure currents in the range that holds a magnitude in A; None: automatically.

        Setting the first voltage chooses the automatic range. Raises LimitError.
        """
        if current_a is None:
            self._scpi.set(":SENS:CURR:RANG:AUTO ON")
            return
        self._check_current(current_a)
        self._scpi.set(f":SENS:CURR:RANG {current_a:.9g}")

    def set_output(self, on: bool) -> None:
        """Connect or disconnect the output."""
        self._scpi.set(f"OUTP {'ON' if on else 'OFF'}")

    def restarted(self) -> bool:
        """Return whether it was switched off and on since it was opened, or since last asked."""
        return self._scpi.restarted()

    def safe_state(self) -> None:
        """Switch the output off."""
        self._configured = False
        self.set_output(False)

    def reset(self) -> None:
        """Return to the instrument's own defaults (`*RST`), output off."""
        self._configured = False
        self._scpi.set("*RST")

    def close(self) -> None:
        """End the session."""
        self._scpi.transport.close()

    def _configure(self) -> None:
        range_v = self._options.range_v
        self._configured = False
        if self._function() != "VOLT":
            self._scpi.set("OUTP OFF")
        self._scpi.set_and_see_word(":SOUR:FUNC VOLT", ":SOUR:FUNC?", "VOLT")
        self._scpi.set(
            ":SOUR:VOLT:RANG:AUTO ON" if range_v is None else f":SOUR:VOLT:RANG {range_v:.9g}"
        )
        self._limit_current(self._current_limit_a)
        self._sense("CURR")
        self._scpi.set(":SENS:CURR:RANG:AUTO ON")
        self._scpi.set(f":SENS:CURR:NPLC {self._options.nplc:g}")
        self._configured = True

    def _limit_current(self, current_a: float) -> None:
        self._scpi.set_and_see(f":SOUR:VOLT:ILIM {current_a:.9g}", ":SOUR:VOLT:ILIM?", current_a)

    def _sense(self, quantity: Literal["CURR", "VOLT"]) -> None:
        # Set before each reading: the front panel can change it at any time, and what the
        # instrument replies when asked for it is not documented.
        self._scpi.set(f":SENS:FUNC '{quantity}'")

    def _function(self) -> str:
        """Return what is sourced, VOLT or CURR; the front panel can change it at any time."""
        return self._scpi.query(":SOUR:FUNC?").strip('"').upper()[:4]

    def _is_limited_voltage_source(self) -> bool:
        limit_a = self._current_limit_a
        return self._function() == "VOLT" and math.isclose(
            self._scpi.number(":SOUR:VOLT:ILIM?"), limit_a, rel_tol=1e-4
        )

    def _reading(self, quantity: Literal["CURR", "VOLT"]) -> float:
        self._sense(quantity)
        value = self._scpi.number(":READ?", quantity)
        if abs(value) > _OVERFLOW:
            raise ReplyError(self.name, f"reading is beyond the range ({value:g})", ":READ?")
        return value

    def _check_current(self, current_a: float) -> None:
        require_positive(self.name, "current_a", current_a, self._options.max_current_a, "A")
