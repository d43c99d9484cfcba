"""SCPI program data: what a parameter may be, read into typed values and written back.

Source: IEEE 488.2-1992 section 7.7 and SCPI-99 volume 1, chapter 7 (suffix multipliers, MIN, MAX
and DEF, boolean and character data).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeVar

from labctl.instruments.codecs.scpi_status import ScpiError

T = TypeVar("T")

INFINITY = 9.9e37
"""What SCPI instruments reply for infinity (SCPI-99 volume 1, 7.2.1.4)."""

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:\s?[eE]\s?[+-]?\d+)?)\s*([A-Za-z/%]*)")
_RADIX = re.compile(r"#([HQB])([0-9A-F]+)", re.IGNORECASE)
_BASES = {"H": 16, "Q": 8, "B": 2}
_MULTIPLIERS = {
    **{"EX": 1e18, "PE": 1e15, "T": 1e12, "G": 1e9, "MA": 1e6, "K": 1e3, "": 1.0},
    **{"M": 1e-3, "U": 1e-6, "N": 1e-9, "P": 1e-12, "F": 1e-15, "A": 1e-18},
}
_MEGA_UNITS = ("HZ", "OHM")


class Form(Enum):
    """How a parameter was written."""

    PLAIN = "plain"
    STRING = "string"
    BLOCK = "block"
    EXPRESSION = "expression"


class Parameter(NamedTuple):
    """One program data element; `data` is its text without quotes, or the payload of a block."""

    form: Form
    data: bytes | memoryview

    def text(self) -> str:
        """Return the characters as sent."""
        return bytes(self.data).decode("latin-1")


class Kind(Protocol[T]):
    """A type of setting: reads parameters, writes replies."""

    def parse(self, parameter: Parameter) -> T:
        """Read a parameter; raises ScpiError."""
        ...

    def limit(self, parameter: Parameter) -> T:
        """Read the MIN, MAX or DEF that follows a query; raises ScpiError."""
        ...

    def format(self, value: T) -> str:
        """Write a value as the instrument replies it."""
        ...


@lru_cache(maxsize=4096)
def spellings(pattern: str) -> tuple[str, str]:
    """Return short and long form, both upper case, of a mnemonic such as `FREQuency`.

    >>> spellings("FREQuency")
    ('FREQ', 'FREQUENCY')
    """
    return re.sub("[a-z]", "", pattern), pattern.upper()


def suffix_factor(suffix: str, unit: str) -> float:
    """Return the factor of a unit suffix; raises ScpiError -131 if it does not belong to `unit`.

    `M` is milli, except before HZ and OHM where it is mega, as SCPI-99 has it.

    >>> suffix_factor("mW", "W"), suffix_factor("MHz", "HZ")
    (0.001, 1000000.0)
    """
    prefix = suffix.upper().removesuffix(unit) if unit else None
    if prefix is None or prefix + unit != suffix.upper() or prefix not in _MULTIPLIERS:
        raise ScpiError(-131, suffix)
    if prefix == "M" and unit in _MEGA_UNITS:
        return 1e6
    return _MULTIPLIERS[prefix]


def _plain(parameter: Parameter) -> str:
    if parameter.form is not Form.PLAIN:
        raise ScpiError(-104)
    return parameter.text()


@dataclass(frozen=True)
class Number:
    """A real number in `unit`; MIN, MAX and DEF mean `low`, `high` and `default`.

    `words` are further names for values (long form, e.g. {"INFinity": inf}); `style` is the
    format of a reply. Values outside low..high give -222.
    """

    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    default: float | None = None
    style: str = "{:+.15E}"
    words: Mapping[str, float] = field(default_factory=dict)

    def parse(self, parameter: Parameter) -> float:
        """Read number and suffix; raises ScpiError -104, -131, -222 or -224."""
        text = _plain(parameter)
        match = _NUMBER.fullmatch(text)
        if match is None:
            return self._named(text)
        suffix = match.group(2)
        factor = suffix_factor(suffix, self.unit) if suffix else 1.0
        return self._checked(float(re.sub(r"\s", "", match.group(1))) * factor)

    def limit(self, parameter: Parameter) -> float:
        """Return the value of MIN, MAX or DEF; raises ScpiError -224 for anything else."""
        named = {"MIN": self.low, "MAX": self.high}
        if self.default is not None:
            named["DEF"] = self.default
        word = _plain(parameter).upper()
        short = {"MINIMUM": "MIN", "MAXIMUM": "MAX", "DEFAULT": "DEF"}.get(word, word)
        if not math.isfinite(named.get(short, math.nan)):
            raise ScpiError(-224, word)
        return named[short]

    def format(self, value: float) -> str:
        """Write a value; infinity becomes 9.9E+37 as SCPI has it."""
        return "9.9E+37" if value == math.inf else self.style.format(value)

    def _named(self, text: str) -> float:
        radix = _RADIX.fullmatch(text)
        if radix is not None:
            return self._checked(_radix_value(radix))
        for pattern, value in self.words.items():
            if text.upper() in spellings(pattern):
                return value
        if text[:3].upper() in ("MIN", "MAX", "DEF"):
            return self.limit(Parameter(Form.PLAIN, text.encode("latin-1")))
        raise ScpiError(-104, text[:32])

    def _checked(self, value: float) -> float:
        if not (self.low <= value <= self.high and math.isfinite(value)):
            raise ScpiError(-222)
        return value


def _radix_value(match: re.Match[str]) -> float:
    try:
        return float(int(match.group(2), _BASES[match.group(1).upper()]))
    except (ValueError, OverflowError) as error:
        raise ScpiError(-104, match.group()[:32]) from error


@dataclass(frozen=True)
class Integer:
    """A whole number; a real one is rounded, as IEEE 488.2 (10.10) lets instruments do."""

    low: int
    high: int
    default: int | None = None
    style: str = "{:d}"
    words: Mapping[str, float] = field(default_factory=dict)

    def parse(self, parameter: Parameter) -> int:
        """Read a number; raises ScpiError -104 or -222."""
        return self._whole(self._number().parse(parameter))

    def limit(self, parameter: Parameter) -> int:
        """Return the value of MIN, MAX or DEF; raises ScpiError -224 for anything else."""
        return self._whole(self._number().limit(parameter))

    def format(self, value: int) -> str:
        """Write a value."""
        return self.style.format(value)

    def _number(self) -> Number:
        return Number("", self.low, self.high, self.default, words=self.words)

    def _whole(self, value: float) -> int:
        return math.floor(value + 0.5)


@dataclass(frozen=True)
class Boolean:
    """ON, OFF or a number, which is true unless it rounds to 0; replies 1 or 0."""

    def parse(self, parameter: Parameter) -> bool:
        """Read a boolean; raises ScpiError -104 or -222."""
        word = _plain(parameter).upper()
        if word in ("ON", "OFF"):
            return word == "ON"
        return round(Number().parse(parameter)) != 0

    def limit(self, parameter: Parameter) -> bool:
        """Refuse: a boolean query takes no parameter (ScpiError -108)."""
        raise ScpiError(-108)

    def format(self, value: bool) -> str:
        """Write 1 or 0."""
        return "1" if value else "0"


class Word:
    """One of a set of mnemonics such as `SINusoid`; values are their short forms, `words`."""

    def __init__(self, *patterns: str) -> None:
        self._values = {name: spellings(p)[0] for p in patterns for name in spellings(p)}
        self.words = tuple(dict.fromkeys(self._values.values()))

    def parse(self, parameter: Parameter) -> str:
        """Read a mnemonic; raises ScpiError -104, or -224 if it is not in the set."""
        word = _plain(parameter).upper()
        if word not in self._values:
            raise ScpiError(-224, word[:32])
        return self._values[word]

    def limit(self, parameter: Parameter) -> str:
        """Refuse: such a query takes no parameter (ScpiError -108)."""
        raise ScpiError(-108)

    def format(self, value: str) -> str:
        """Write the short form."""
        return value


@dataclass(frozen=True)
class Text:
    """Characters, quoted or bare, of at most `longest`; replies are quoted."""

    longest: int = 255

    def parse(self, parameter: Parameter) -> str:
        """Read a string; raises ScpiError -104, or -150 if it is too long."""
        if parameter.form not in (Form.STRING, Form.PLAIN):
            raise ScpiError(-104)
        text = parameter.text()
        if len(text) > self.longest:
            raise ScpiError(-150, f"more than {self.longest} characters")
        return text

    def limit(self, parameter: Parameter) -> str:
        """Refuse: a string query takes no parameter (ScpiError -108)."""
        raise ScpiError(-108)

    def format(self, value: str) -> str:
        """Write the string in double quotes."""
        return '"' + value.replace('"', '""') + '"'
