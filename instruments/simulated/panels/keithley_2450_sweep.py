"""Source sweeps of a Keithley 2450, set up by one command and run by INITiate.

Source: Model 2450 Reference Manual, pages 6-81 to 6-87; docs/wire/keithley_2450.md, section
Sources.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labctl.instruments.codecs.scpi import Parameters
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Boolean, Integer, Number, Parameter, Word

# Assumed: a sweep is no longer than its readings fit in memory.
MOST_POINTS = 1_000_000
LONGEST_DELAY_S = 1e4
"""10 ks: 2461 reference manual (2015), p. 6-89; the 2450's revision B (2013) still has 4 s."""


@dataclass(frozen=True)
class Sweep:
    """The levels to source, the extra delay in s before each reading, and the buffer to fill."""

    quantity: str
    levels: tuple[float, ...]
    delay_s: float
    buffer: Parameter | None


def parse_sweep(quantity: str, spacing: str, level: Number, parameters: Parameters) -> Sweep:
    """Read start, stop, points or step [, delay, count, range type, fail abort, dual, buffer].

    `spacing` is LIN, STEP or LOG. Raises ScpiError -108, -109, -221 or -222.
    """
    if len(parameters) < 3:
        raise ScpiError(-109)
    if len(parameters) > 9:
        raise ScpiError(-108)
    start, stop = (level.parse(parameter) for parameter in parameters[:2])
    levels = _levels(spacing, start, stop, parameters[2])
    rest = parameters[3:]
    delay_s = Number("S", -1.0, LONGEST_DELAY_S).parse(rest[0]) if rest else -1.0
    count = Integer(0, 268_435_455).parse(rest[1]) if rest[1:] else 1
    if count == 0:
        raise ScpiError(-221, "an endless sweep never ends here")
    if rest[2:]:
        Word("AUTO", "BEST", "FIXed").parse(rest[2])
    if rest[3:]:
        Boolean().parse(rest[3])
    if rest[4:] and Boolean().parse(rest[4]):
        levels += levels[::-1]
    if count * len(levels) > MOST_POINTS:
        raise ScpiError(-222, "too many points")
    return Sweep(quantity, levels * count, max(delay_s, 0.0), rest[5] if rest[5:] else None)


def _levels(spacing: str, start: float, stop: float, third: Parameter) -> tuple[float, ...]:
    if spacing == "STEP":
        step = Number("", 0.0).parse(third)
        if step == 0.0:
            raise ScpiError(-222, "the step must not be 0")
        points = np.floor(abs(stop - start) / step + 1e-9) + 1
        if points > MOST_POINTS:
            raise ScpiError(-222, "too many points")
        direction = 1.0 if stop >= start else -1.0
        return tuple((start + direction * step * np.arange(int(points))).tolist())
    points = Integer(2, MOST_POINTS).parse(third)
    if spacing == "LIN":
        return tuple(np.linspace(start, stop, points).tolist())
    if start * stop <= 0.0:
        raise ScpiError(-222, "a logarithmic sweep cannot reach 0")
    return tuple(np.geomspace(start, stop, points).tolist())
