"""How a Santec TSL-570 writes numbers, errors and the words of its two command sets.

Source: docs/wire/santec_tsl570.md, sections Command sets, Errors and Assumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from labctl.instruments.codecs.ieee488 import parse_error
from labctl.instruments.codecs.scpi import SCPI_ERRORS, Command, readout
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Form, Integer, Number, Parameter, Word
from labctl.instruments.simulated.panels.optical_values import long_number
from labctl.units import dbm_to_w, w_to_dbm

# docs/wire/santec_tsl570.md: numbers of the command sets, steps of wavelength, speeds.
LEGACY, SCPI = 0, 1
RESOLUTION_M = 0.1e-12
SPEEDS_NM_S = (1, 2, 5, 10, 20, 50, 100, 200)
ERRORS = {
    0: "No error",
    -102: "Syntax error",
    -103: "Invalid separator",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -148: "Character data not allowed",
    -200: "Execution error",
    -222: "Data out of range",
    -410: "Query INTERRUPTED",
}
_NEAREST = {-101: -102, -104: -148, -114: -113, -131: -148, -151: -102, -161: -102, -224: -222}


@dataclass(frozen=True)
class Quantity:
    """A wavelength or frequency: in `legacy` units and `style`, or in m or Hz in the SCPI set."""

    unit: str
    low: float
    high: float
    legacy: float
    style: str
    command_set: Callable[[], int]

    def parse(self, parameter: Parameter) -> float:
        """Read a number, with or without suffix; raises ScpiError -104, -131 or -222."""
        bare = parameter.form is Form.PLAIN and not parameter.text()[-1:].isalpha()
        factor = self.legacy if bare and self.command_set() == LEGACY else 1.0
        value = Number(self.unit).parse(parameter) * factor
        if not self.low * (1.0 - 1e-12) <= value <= self.high * (1.0 + 1e-12):
            raise ScpiError(-222)
        return value

    def limit(self, parameter: Parameter) -> float:
        """Return the value of MIN or MAX; raises ScpiError -108 for another word."""
        word = Word("MINimum", "MAXimum")
        try:
            return self.low if word.parse(parameter) == "MIN" else self.high
        except ScpiError as error:
            raise ScpiError(-108) from error

    def limit_query(self, pattern: str, *, highest: bool) -> Command:
        """Declare a query of one of the limits that has its own header."""
        return readout(pattern, lambda _: self.format(self.high if highest else self.low))

    def format(self, value: float) -> str:
        """Write a value in the units of the command set."""
        legacy = self.command_set() == LEGACY
        return self.style.format(value / self.legacy) if legacy else long_number(value)


@dataclass(frozen=True)
class PowerLevel:
    """A power in W, written in dBm or mW, as the unit in force has it."""

    low_dbm: float
    high_dbm: float
    in_milliwatts: Callable[[], bool]

    def parse(self, parameter: Parameter) -> float:
        """Read a power, whose suffix goes before the unit; raises ScpiError -104, -131, -222."""
        suffix = parameter.text().upper().lstrip("0123456789.+-E ")
        if suffix.endswith("DBM") or not (suffix or self.in_milliwatts()):
            power_dbm = Number("DBM").parse(parameter)
        else:
            power_w = Number("W").parse(parameter) * (1.0 if suffix else 1e-3)
            power_dbm = w_to_dbm(power_w) if power_w > 0.0 else -math.inf
        # As the display rounds to a hundredth, a limit as it is shown must be accepted.
        if not self.low_dbm - 0.005 <= power_dbm <= self.high_dbm + 0.015:
            raise ScpiError(-222)
        return dbm_to_w(power_dbm)

    def limit(self, parameter: Parameter) -> float:
        """Return the value of MIN or MAX; raises ScpiError -224 for another word."""
        lowest = Word("MINimum", "MAXimum").parse(parameter) == "MIN"
        return dbm_to_w(self.low_dbm if lowest else self.high_dbm)

    def shown(self, power_w: float) -> float:
        """Return the number for a power in the unit in force."""
        return power_w * 1e3 if self.in_milliwatts() else w_to_dbm(power_w)

    def format(self, value: float) -> str:
        """Write +10.00."""
        return f"{self.shown(value):+.2f}"


class CommandSet:
    """0 or LEGACY, 1 or SCPI; replies 0 or 1."""

    def parse(self, parameter: Parameter) -> int:
        """Read a command set; raises ScpiError -104, -148 or -222."""
        if not parameter.text()[:1].isalpha():
            return Integer(LEGACY, SCPI).parse(parameter)
        return LEGACY if Word("LEGacy", "SCPI").parse(parameter) == "LEG" else SCPI

    def limit(self, parameter: Parameter) -> int:
        """Refuse: such a query takes no parameter (ScpiError -108)."""
        raise ScpiError(-108)

    def format(self, value: int) -> str:
        """Write 0 or 1."""
        return str(value)


def known_error(entry: str) -> str:
    """Return an entry of the error queue as the laser has it: the nearest of the ten it knows."""
    code = parse_error(entry)[0]
    known = code if code in ERRORS else _NEAREST.get(code, -200)
    return SCPI_ERRORS.format(code=known, text=ERRORS[known])


def rounded(length_m: float) -> float:
    """Return a wavelength on the laser's grid of 0.1 pm."""
    return round(length_m / RESOLUTION_M) * RESOLUTION_M


def nominal_speed(speed_nm_s: int) -> int:
    """Return a speed that the laser has; raises ScpiError -222 for another."""
    if speed_nm_s not in SPEEDS_NM_S:
        raise ScpiError(-222)
    return speed_nm_s
