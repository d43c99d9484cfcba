"""Thorlabs PM100D optical power meter (SCPI over USBTMC).

Commands: docs/wire/thorlabs_pm100d.md, sections Sensor, Correction and Measurement [V].
Wavelengths are nanometres on this wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import Field

from labctl.errors import LimitError
from labctl.hazards import Hazard
from labctl.instruments.capabilities import Identity
from labctl.instruments.driver_rules import require_positive, require_range
from labctl.instruments.power_meters.watts import BEYOND_RANGE_W, power_in_watts
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.scpi_session import ScpiSession
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa

# [M]: a model's value; a meter that allows less refuses a setting with its own error.
_LARGEST_LOSS_DB = 60.0


class PM100DOptions(DriverOptions):
    """`timeout_s` of one message, and `zero_timeout_s` of the zero adjustment, in s.

    `max_averages`: the most readings to average [M].
    """

    timeout_s: float = Field(default=5.0, gt=0)
    zero_timeout_s: float = Field(default=30.0, gt=0)
    max_averages: int = Field(default=10_000, ge=1)


class ThorlabsPM100D:
    """A PowerMeter."""

    Options = PM100DOptions
    hazard = Hazard.NONE

    def __init__(self, transport: MessageTransport, options: PM100DOptions | None = None) -> None:
        self.name = transport.name
        self._scpi = ScpiSession(transport)
        self._options = options or PM100DOptions()

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
        command, query = f"SENS:CORR:WAV {wavelength_nm:.6f}", "SENS:CORR:WAV?"
        # Every power that is read rests on it.
        self._scpi.set_and_see(command, query, wavelength_nm)

    def wavelength_m(self) -> float:
        """Return the wavelength in m for which the responsivity is corrected."""
        return self._scpi.number("SENS:CORR:WAV?") * 1e-9

    def power_w(self) -> float:
        """Measure the power in W; raises ReplyError when the light is beyond the range."""
        return self._power("MEAS:POW?")

    def start_measuring(self) -> None:
        """Start one measurement with the settings there are; returns at once."""
        self._use_watts()
        self._scpi.set("CONF:POW")
        self._scpi.set("INIT")

    def latest_power_w(self) -> float:
        """Return the power in W of the measurement started last, without a new one."""
        return self._power("FETC?")

    def next_power_w(self) -> float:
        """Measure and return the power in W as configured last (`READ?`)."""
        return self._power("READ?")

    def sensor(self) -> str:
        """Return what sensor is attached, as the instrument spells it."""
        return self._scpi.query("SYST:SENS:IDN?")

    def set_loss(self, loss_db: float) -> None:
        """Correct readings for a loss in front of the sensor, in dB; raises LimitError."""
        require_range(self.name, "loss_db", loss_db, -_LARGEST_LOSS_DB, _LARGEST_LOSS_DB, "dB")
        self._scpi.set(f"SENS:CORR {loss_db:.6g}")

    def loss_db(self) -> float:
        """Return the loss in dB that readings are corrected for."""
        return self._scpi.number("SENS:CORR?")

    def set_range(self, power_w: float | None) -> None:
        """Set the range to what covers a power in W, or let the instrument choose (None)."""
        if power_w is None:
            self._scpi.set("SENS:POW:RANG:AUTO 1")
            return
        require_positive(self.name, "power_w", power_w, BEYOND_RANGE_W, "W")
        self._use_watts()
        self._scpi.set("SENS:POW:RANG:AUTO 0")
        self._scpi.set(f"SENS:POW:RANG {power_w:.9g}")

    def range_w(self) -> float:
        """Return the power in W up to which the range goes."""
        self._use_watts()
        return self._scpi.number("SENS:POW:RANG?")

    def set_averaging(self, count: int) -> None:
        """Set how many readings one measurement averages; raises LimitError."""
        require_range(self.name, "count", count, 1, self._options.max_averages)
        self._scpi.set(f"SENS:AVER {count}")

    def averaging(self) -> int:
        """Return how many readings one measurement averages."""
        return self._scpi.integer("SENS:AVER?")

    def zero(self) -> None:
        """Take the present light as darkness; raises InstrumentTimeoutError if it never ends."""
        self._scpi.set("SENS:CORR:COLL:ZERO")
        query = "SENS:CORR:COLL:ZERO:STAT?"
        self._scpi.wait(
            lambda: self._scpi.integer(query) == 0,
            self._options.zero_timeout_s,
            "zero adjustment has not ended",
            query,
            hint="; is the sensor dark?",
        )
        self._scpi.check("SENS:CORR:COLL:ZERO")

    def restarted(self) -> bool:
        """Return whether it was switched off and on since it was opened, or since last asked."""
        return self._scpi.restarted()

    def safe_state(self) -> None:
        """Stop a measurement that is under way; a power meter does no harm."""
        self._scpi.set("ABOR")

    def reset(self) -> None:
        """Return to the instrument's own defaults (`*RST`)."""
        self._scpi.set("*RST")

    def close(self) -> None:
        """End the session."""
        self._scpi.transport.close()

    def _use_watts(self) -> None:
        # The front panel can change the unit at any time, so what was set before says nothing.
        if self._scpi.query("SENS:POW:UNIT?").upper() != "W":
            self._scpi.set("SENS:POW:UNIT W")

    def _power(self, query: str) -> float:
        return power_in_watts(
            self._scpi,
            query,
            unit="SENS:POW:UNIT?",
            is_watts=lambda shown, _: shown.upper() == "W",
            to_watts="SENS:POW:UNIT W",
        )
