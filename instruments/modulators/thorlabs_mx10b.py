"""Thorlabs MX10B: laser, modulator bias controller and optical attenuator in one box (serial).

Commands: remote control guide TTN116413-D04 and section 10 of the command tables [V]. Setters
have a colon behind the last mnemonic; errors come as replies. Whether a setting is acknowledged
with `1` is told differently by the guide and by public drivers: each setting is therefore fenced
by a query with a known answer, and what comes before that answer is its acknowledgement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Self

from pydantic import Field

from labctl.clock import wait_until
from labctl.errors import (
    InstrumentError,
    InstrumentReportedError,
    InstrumentTimeoutError,
    LimitError,
    ReplyError,
)
from labctl.instruments.capabilities import BiasPoint, Identity
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa
from labctl.units import dbm_to_w

_MARKER = "SYS:MODEL?"
_ERROR = "Err:"
_NO_CODE = -1
_OFF, _MANUAL = 0, 7
_LOCKS = {
    BiasPoint.PEAK: 1,
    BiasPoint.NULL: 2,
    BiasPoint.QUADRATURE_PLUS: 3,
    BiasPoint.QUADRATURE_MINUS: 4,
}
_LARGEST_BIAS_MV = 10_000


class MX10BOptions(DriverOptions):
    """Line, waits and the attenuator's range.

    `min_attenuation_db`: 1 dB by the guide [V]; a public driver allows 0.5 dB.
    `settling_timeout_s`: how long a bias lock, the laser or the attenuator may take.
    """

    baud_rate: int = Field(default=115_200, gt=0)
    timeout_s: float = Field(default=2.0, gt=0)
    settling_timeout_s: float = Field(default=60.0, gt=0)
    min_attenuation_db: float = Field(default=1.0, ge=0)
    max_attenuation_db: float = Field(default=20.0, gt=0)
    model: str = "MX10B"


class ThorlabsMX10B:
    """A ModulatorBias and an Attenuator, with the box's own laser to switch."""

    def __init__(self, transport: MessageTransport, options: MX10BOptions | None = None) -> None:
        self.name = transport.name
        self._transport = transport
        self._options = options or MX10BOptions()
        self._marker_answer: str | None = None

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(MX10BOptions, name, options)
        transport = open_visa(
            name, address, library=library, timeout_s=read.timeout_s, baud_rate=read.baud_rate
        )
        box = cls(transport, read)
        return verified(box, address, box.identify)

    def identify(self) -> Identity:
        """Ask model, serial number and firmware; raises ReplyError if it is another model."""
        model = self._query(_MARKER)
        wanted = self._options.model
        if not model.upper().startswith(wanted.upper()):
            raise ReplyError(self.name, f"{model!r} answers, a {wanted} is expected", _MARKER)
        self._marker_answer = model
        return Identity("Thorlabs", model, self._query("SYS:SER?"), self._query("SYS:FIRM?"))

    def lock(self, point: BiasPoint) -> None:
        """Lock the bias to a point and wait until it is stable; raises InstrumentTimeoutError."""
        self._set(f"MZM:MODE: {_LOCKS[point]}")
        self._settle(self._is_locked, f"bias did not lock to the {point.value}", "MZM:SET?")

    def hold_voltage(self, voltage_v: float) -> None:
        """Hold a bias in V, -10 to 10 in steps of 1 mV; raises LimitError."""
        if not abs(voltage_v) * 1e3 <= _LARGEST_BIAS_MV:
            raise LimitError(self.name, "voltage_v", voltage_v, "-10 to 10 V")
        self._set(f"MZM:HOLD:V: {round(voltage_v * 1e3)}")
        self._set(f"MZM:MODE: {_MANUAL}")

    def bias_voltage_v(self) -> float:
        """Return the bias voltage in V that is applied now."""
        return self._number("MZM:V?")

    def release(self) -> None:
        """Switch the bias controller off."""
        self._set(f"MZM:MODE: {_OFF}")

    def set_attenuation(self, attenuation_db: float) -> None:
        """Set the attenuation in dB and wait until it is reached; raises LimitError.

        Switches the attenuator on: off means least attenuation [V].
        """
        lowest, highest = self._options.min_attenuation_db, self._options.max_attenuation_db
        if not lowest <= attenuation_db <= highest:
            valid = f"{lowest:g} to {highest:g} dB"
            raise LimitError(self.name, "attenuation_db", attenuation_db, valid)
        self._attenuate(attenuation_db)
        self._settle(lambda: self._flag("VOA:SET?"), "attenuator did not settle", "VOA:SET?")

    def attenuation_db(self) -> float:
        """Return the attenuation that is set, in dB."""
        return self._number("VOA:ATT?")

    def set_emission(self, on: bool) -> None:
        """Switch the box's laser, return when it is locked and stable."""
        self._set(f"LAS:POW: {on:d}")
        if on:
            self._settle(lambda: self._flag("LAS:SET?"), "laser did not lock", "LAS:SET?")

    def emission(self) -> bool:
        """Tell whether the box's laser is on."""
        return self._flag("LAS:POW?")

    def power_w(self) -> float:
        """Return the power in W that the box's laser emits."""
        return dbm_to_w(self._number("LAS:OOP?"))

    def safe_state(self) -> None:
        """Switch the laser off, attenuate fully, release the bias; each even if another fails."""
        failures: list[InstrumentError] = []
        actions: tuple[Callable[[], None], ...] = (
            lambda: self.set_emission(False),
            lambda: self._attenuate(self._options.max_attenuation_db),
            self.release,
        )
        for action in actions:
            try:
                action()
            except InstrumentError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def close(self) -> None:
        """End the session."""
        self._transport.close()

    def _attenuate(self, attenuation_db: float) -> None:
        self._set("VOA:MODE: 0")
        self._set(f"VOA:ATT: {attenuation_db:g}")
        self._set("VOA:POW: 1")

    def _is_locked(self) -> bool:
        return self._flag("MZM:SET?") and not self._flag("MZM:CAL?")

    def _settle(self, condition: Callable[[], bool], problem: str, query: str) -> None:
        timeout_s = self._options.settling_timeout_s
        if not wait_until(condition, self._transport.clock, timeout_s):
            raise InstrumentTimeoutError(self.name, f"{problem} within {timeout_s:g} s", query)

    def _set(self, command: str) -> None:
        if self._marker_answer is None:
            self._marker_answer = self._query(_MARKER)
        for line in self._transport.fence(command, _MARKER, self._marker_answer):
            self._refuse_error(line, command)
            if line not in ("", "1"):
                raise ReplyError(self.name, f"acknowledged with {line!r}, not 1", command)

    def _query(self, command: str) -> str:
        reply = self._transport.query(command)
        self._refuse_error(reply, command)
        return reply

    def _number(self, command: str) -> float:
        reply = self._query(command)
        try:
            value = float(reply)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ReplyError(self.name, f"answered {reply!r} where a number is due", command)
        return value

    def _flag(self, command: str) -> bool:
        value = self._number(command)
        if value not in (0.0, 1.0):
            raise ReplyError(self.name, f"answered {value:g} where 0 or 1 is due", command)
        return value == 1.0

    def _refuse_error(self, line: str, command: str) -> None:
        if line.startswith(_ERROR):
            message = line.removeprefix(_ERROR).strip()
            raise InstrumentReportedError(self.name, _NO_CODE, message, command)
