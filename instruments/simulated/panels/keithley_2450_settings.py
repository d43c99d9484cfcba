"""Settings of a Keithley 2450: what it sources and measures, and in which ranges.

Source: docs/wire/keithley_2450.md, sections Source, Measurement and Assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Form, Parameter, Word

# Assumed: a range reaches 5 % beyond its name, so that 210 V is in the range of 200 V.
OVER_RANGE = 1.05
RANGES: Mapping[str, tuple[float, ...]] = {
    "VOLT": (20e-3, 200e-3, 2.0, 20.0, 200.0),
    "CURR": (10e-9, 100e-9, 1e-6, 10e-6, 100e-6, 1e-3, 10e-3, 100e-3, 1.0),
    "RES": (20.0, 200.0, 2e3, 20e3, 200e3, 2e6, 20e6, 200e6),
}
_SHOWN = {"VOLT": '"VOLT:DC"', "CURR": '"CURR:DC"', "RES": '"RES"'}


@dataclass(frozen=True)
class Source:
    """Settings of sourcing voltage or current; the limit is of the other quantity."""

    limit: float
    level: float = 0.0
    range: float = 0.0
    auto: bool = True
    delay_s: float = 0.0
    auto_delay: bool = True
    read_back: bool = True
    off_state: str = "NORM"


@dataclass(frozen=True)
class Sense:
    """Settings of measuring one quantity."""

    range: float
    auto: bool = True
    cycles: float = 1.0
    four_wire: bool = False
    auto_zero: bool = True
    filtered: bool = False
    filter_count: int = 10
    filter_type: str = "REP"


class Function:
    """A measure function in quotes, with or without `:DC`."""

    def parse(self, parameter: Parameter) -> str:
        """Read a name; raises ScpiError -104 or -224."""
        if parameter.form not in (Form.STRING, Form.PLAIN):
            raise ScpiError(-104)
        name = parameter.text().strip().upper().removesuffix(":DC").encode("latin-1", "replace")
        return Word("VOLTage", "CURRent", "RESistance").parse(Parameter(Form.PLAIN, name))

    def limit(self, parameter: Parameter) -> str:
        """Refuse: such a query takes no parameter (ScpiError -108)."""
        raise ScpiError(-108)

    def format(self, value: str) -> str:
        """Write the name as the instrument does."""
        return _SHOWN[value]


def fitting(quantity: str, value: float) -> float:
    """Return the smallest range that holds a value, or the largest range."""
    ranges = RANGES[quantity]
    fitting = (limit for limit in ranges if abs(value) <= limit * OVER_RANGE)
    return next(fitting, ranges[-1])


def with_level(quantity: str, source: Source, level: float) -> Source:
    """Return the settings at another level; raises ScpiError -222 beyond a fixed range."""
    if source.auto:
        return replace(source, level=level, range=fitting(quantity, level))
    if abs(level) > source.range * OVER_RANGE * (1.0 + 1e-9):
        raise ScpiError(-222, "the level exceeds the source range")
    return replace(source, level=level)


def with_range(quantity: str, source: Source, value: float) -> Source:
    """Return the settings with the range fixed that holds a value; raises ScpiError -222."""
    fixed = replace(source, range=fitting(quantity, value), auto=False)
    return with_level(quantity, fixed, source.level)
