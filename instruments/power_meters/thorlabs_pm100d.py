"""Thorlabs PM100D optical power meter (SCPI over USBTMC).

Commands: PM100D manual pages 49 and 51, section 17 of the command tables [V]. Wavelengths are
nanometres on this wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import Field

from labctl.clock import wait_until
from labctl.errors import InstrumentTimeoutError, LimitError, ReplyError
from labctl.instruments.capabilities import Identity
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.scpi_session import ScpiSession
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa

_BEYOND_RANGE_W = 1e9


class PM100DOptions(DriverOptions):
    """`timeout_s` of one message, and `zero_timeout_s` of the zero adjustment, in s."""

    timeout_s: float = Field(default=5.0, gt=0)
    zero_timeout_s: float = Field(default=30.0, gt=0)


class ThorlabsPM100D:
    """A PowerMeter."""

    def __init__(self, transport: MessageTransport, options: PM100DOptions | None = None) -> None:
        self.name = transport.name
        self._scpi = ScpiSession(transport)
        self._options = options or PM100DOptions()
        self._in_watts = False

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(PM100DOptions, name, options)
        transport = open_visa(name, address, library=library, timeout_s=read.timeout_s)
        meter = cls(transport, read)
        return verified(meter, address, meter._scpi.forget_errors, meter.identify)

    def identify(self) -> Identity:
        """Ask `*IDN?`; raises ReplyError if no PM100D answers."""
        return self._scpi.identify("PM100D")

    def set_wavelength(self, wavelength_m: float) -> None:
        """Set the wavelength in m, within what the attached sensor allows (else LimitError)."""
        wavelength_nm = round(wavelength_m * 1e9, 6)
        lowest = self._scpi.number("SENS:CORR:WAV? MIN")
        highest = self._scpi.number("SENS:CORR:WAV? MAX")
        if not lowest <= wavelength_nm <= highest:
            valid = f"{lowest * 1e-9:g} to {highest * 1e-9:g} m with this sensor"
            raise LimitError(self.name, "wavelength_m", wavelength_m, valid)
        self._scpi.set(f"SENS:CORR:WAV {wavelength_nm:.6f}")

    def wavelength_m(self) -> float:
        """Return the wavelength in m for which the responsivity is corrected."""
        return self._scpi.number("SENS:CORR:WAV?") * 1e-9

    def power_w(self) -> float:
        """Measure the power in W; raises ReplyError when the light is beyond the range."""
        if not self._in_watts:
            self._scpi.set("SENS:POW:UNIT W")
            self._in_watts = True
        power_w = self._scpi.number("MEAS:POW?")
        if abs(power_w) > _BEYOND_RANGE_W:
            raise ReplyError(self.name, f"power is beyond the range ({power_w:g})", "MEAS:POW?")
        return power_w

    def zero(self) -> None:
        """Take the present light as darkness; raises InstrumentTimeoutError if it never ends."""
        self._scpi.set("SENS:CORR:COLL:ZERO")
        query = "SENS:CORR:COLL:ZERO:STAT?"
        timeout_s = self._options.zero_timeout_s
        if not wait_until(lambda: self._scpi.integer(query) == 0, self._scpi.clock, timeout_s):
            problem = f"zero adjustment has not ended within {timeout_s:g} s; is the sensor dark?"
            raise InstrumentTimeoutError(self.name, problem, query)
        self._scpi.check("SENS:CORR:COLL:ZERO")

    def safe_state(self) -> None:
        """Stop a measurement that is under way; a power meter does no harm."""
        self._scpi.set("ABOR")

    def close(self) -> None:
        """End the session."""
        self._scpi.transport.close()
