"""Reading buffers of a Keithley 2450: what is stored, read back, and computed from it.

Source: docs/wire/keithley_2450.md, section Buffers; the manual's TRACe subsystem.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from labctl.instruments.codecs.scpi import Command, Parameters, Reply, Suffixes, none, only
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Integer, Parameter, Text, Word

STYLE = "{:.6E}"
DEFAULT_BUFFERS = ("DEFBUFFER1", "DEFBUFFER2")
# Assumed (docs/wire/keithley_2450.md, [M]).
DEFAULT_POINTS = 100_000
MOST_POINTS = 6_875_000
MOST_ELEMENTS = 14
_STYLES = Word("STANdard", "COMPact", "FULL")
_ELEMENTS = Word("READing", "SOURce", "RELative", "SEConds", "FRACtional")


class Reading(NamedTuple):
    """One entry of a reading buffer, with the bench time in s it was taken at."""

    value: float
    source: float
    time_s: float


Buffer = deque[Reading]


class ReadingBuffers:
    """The buffers by name; the two default ones are always there."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Empty the default buffers and delete the others."""
        self._buffers = {name: Buffer(maxlen=DEFAULT_POINTS) for name in DEFAULT_BUFFERS}

    def buffer(self, parameter: Parameter | None) -> Buffer:
        """Return a buffer, the first default one without name; raises ScpiError -224."""
        name = DEFAULT_BUFFERS[0] if parameter is None else _name(parameter)
        if name not in self._buffers:
            raise ScpiError(-224, "no such buffer")
        return self._buffers[name]

    def last(self, parameters: Parameters) -> str:
        """Reply the newest entry of `[buffer[, elements...]]`; raises ScpiError -230."""
        buffer = self.buffer(parameters[0] if parameters else None)
        if not buffer:
            raise ScpiError(-230, "the buffer is empty")
        return _fields([buffer[-1]], parameters[1:], buffer[0].time_s)

    def commands(self) -> list[Command]:
        """Declare the TRACe subsystem, except what takes readings."""
        statistics: dict[str, Callable[[Sequence[float]], float]] = {
            "AVERage": fmean,
            "MAXimum": max,
            "MINimum": min,
            "STDDev": lambda values: stdev(values) if len(values) > 1 else 0.0,
            "PK2Pk": lambda values: max(values) - min(values),
        }
        return [
            Command(":TRACe:DATA", ask=self._ask_data),
            Command(":TRACe:ACTual", ask=self._ask_count),
            Command(":TRACe:CLEar", self._clear),
            Command(":TRACe:POINts", self._put_points, self._ask_points),
            Command(":TRACe:MAKE", self._make),
            Command(":TRACe:DELete", self._delete),
            *(
                Command(f":TRACe:STATistics:{name}", ask=self._asking(compute))
                for name, compute in statistics.items()
            ),
        ]

    def _optional(self, parameters: Parameters) -> Buffer:
        none(parameters[1:])
        return self.buffer(parameters[0] if parameters else None)

    def _asking(
        self, compute: Callable[[Sequence[float]], float]
    ) -> Callable[[Suffixes, Parameters], Reply]:
        def ask(_: Suffixes, parameters: Parameters) -> Reply:
            buffer = self._optional(parameters)
            if not buffer:
                raise ScpiError(-230, "the buffer is empty")
            return STYLE.format(compute([reading.value for reading in buffer]))

        return ask

    def _ask_data(self, _: Suffixes, parameters: Parameters) -> Reply:
        if len(parameters) < 2:
            raise ScpiError(-109)
        buffer = self.buffer(parameters[2] if len(parameters) > 2 else None)
        first = Integer(1, max(len(buffer), 1)).parse(parameters[0])
        last = Integer(first, max(len(buffer), first)).parse(parameters[1])
        if last > len(buffer):
            raise ScpiError(-222, "the buffer is empty")
        chosen = [buffer[index] for index in range(first - 1, last)]
        return _fields(chosen, parameters[3:], buffer[0].time_s)

    def _ask_count(self, _: Suffixes, parameters: Parameters) -> Reply:
        return str(len(self._optional(parameters)))

    def _clear(self, _: Suffixes, parameters: Parameters) -> None:
        self._optional(parameters).clear()

    def _put_points(self, _: Suffixes, parameters: Parameters) -> None:
        """Resize a buffer, which empties it."""
        if not parameters:
            raise ScpiError(-109)
        points = Integer(10, MOST_POINTS).parse(parameters[0])
        self._optional(parameters[1:])
        name = _name(parameters[1]) if parameters[1:] else DEFAULT_BUFFERS[0]
        self._buffers[name] = Buffer(maxlen=points)

    def _ask_points(self, _: Suffixes, parameters: Parameters) -> Reply:
        return str(self._optional(parameters).maxlen)

    def _make(self, _: Suffixes, parameters: Parameters) -> None:
        """Create a buffer: name, points [, style]."""
        if len(parameters) < 2:
            raise ScpiError(-109)
        none(parameters[3:])
        name = _name(parameters[0])
        points = Integer(10, MOST_POINTS).parse(parameters[1])
        for style in parameters[2:]:
            _STYLES.parse(style)
        if name in self._buffers:
            raise ScpiError(-224, "the buffer exists already")
        self._buffers[name] = Buffer(maxlen=points)

    def _delete(self, _: Suffixes, parameters: Parameters) -> None:
        self.buffer(only(parameters))
        name = _name(parameters[0])
        if name in DEFAULT_BUFFERS:
            raise ScpiError(-224, "a default buffer cannot be deleted")
        del self._buffers[name]


def _name(parameter: Parameter) -> str:
    return Text(31).parse(parameter).strip().upper()


def _fields(readings: Sequence[Reading], elements: Parameters, start_s: float) -> str:
    if len(elements) > MOST_ELEMENTS:
        raise ScpiError(-108)
    words = [_ELEMENTS.parse(element) for element in elements] or ["READ"]
    fields = (_element(reading, word, start_s) for reading in readings for word in words)
    return ",".join(map(STYLE.format, fields))


def _element(reading: Reading, element: str, start_s: float) -> float:
    fraction_s, seconds = math.modf(reading.time_s)
    return {
        "READ": reading.value,
        "SOUR": reading.source,
        "REL": reading.time_s - start_s,
        "SEC": seconds,
        "FRAC": fraction_s,
    }[element]
