"""How Keysight 816x and N77xx instruments write numbers and optical powers.

Source: docs/wire/keysight_n7776c.md, section Numbers: three-digit exponents,
suffixes such as NM, MDBM and Watt, numbers without suffix in base units.
"""

from __future__ import annotations

import math
import re

from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import INFINITY, Form, Number, Parameter
from labctl.units import dbm_to_w, w_to_dbm

# As replies have them.
DBM, WATT = 0, 1
_EXPONENT = re.compile(r"E([+-])(\d\d)$")
# Beyond any instrument, whose own limits then decide.
_LARGEST_DBM = 200.0


def long_number(value: float) -> str:
    """Write a number as +1.55000000E-006; what is not finite becomes +-9.9E+037."""
    finite = 0.0 if math.isnan(value) else min(max(value, -INFINITY), INFINITY)
    return _EXPONENT.sub(r"E\g<1>0\g<2>", f"{finite:+.8E}")


class LongNumber(Number):
    """A `Number` whose replies have three-digit exponents."""

    def format(self, value: float) -> str:
        """Write a value."""
        return long_number(value)


class PowerUnit:
    """The unit of a display: 0 or DBM, 1 or W; replies +0 or +1."""

    def parse(self, parameter: Parameter) -> int:
        """Read a unit; raises ScpiError -104 or -224."""
        word = parameter.text().upper()
        if parameter.form is not Form.PLAIN:
            raise ScpiError(-104)
        if word.lstrip("+") not in ("0", "1", "DBM", "W", "WATT"):
            raise ScpiError(-224, word[:32])
        return DBM if word.lstrip("+") in ("0", "DBM") else WATT

    def limit(self, parameter: Parameter) -> int:
        """Refuse: such a query takes no parameter (ScpiError -108)."""
        raise ScpiError(-108)

    def format(self, value: int) -> str:
        """Write +0 or +1."""
        return f"{value:+d}"


def parse_power_w(parameter: Parameter, unit: int) -> float:
    """Read a power in W; a number without suffix is in `unit`. Raises ScpiError -104, -131, -222.

    dBm values may carry the suffixes DBM and MDBM, watts W or WATT with any multiplier.
    """
    text = parameter.text().upper()
    if parameter.form is not Form.PLAIN:
        raise ScpiError(-104)
    if text.endswith("DBM") or (unit == DBM and not text[-1:].isalpha()):
        return dbm_to_w(Number("DBM", -_LARGEST_DBM, _LARGEST_DBM).parse(parameter))
    plain = bytes(parameter.data)
    return Number("W").parse(Parameter(Form.PLAIN, plain[:-3] if text.endswith("WATT") else plain))


def format_power(power_w: float, unit: int) -> str:
    """Write a power in the unit of the display; no light is -9.9E+037 dBm."""
    if unit == WATT:
        return long_number(power_w)
    return long_number(w_to_dbm(power_w) if power_w > 0.0 else -INFINITY)
