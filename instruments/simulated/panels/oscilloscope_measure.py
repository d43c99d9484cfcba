"""What an oscilloscope measures of a displayed trace: levels, edges, and times between edges.

Source: docs/wire/keysight_infiniivision.md, section Measurements. Vpp = Vmax - Vmin; the
thresholds are 10, 50 and 90 % of the way from base to top; of several cycles the one closest to
the time reference counts; what cannot be measured is +9.9E+37. Top and base are the most frequent
values of the upper and the lower half of the trace (User's Guides, "Top").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from labctl.instruments.simulated.ports import Volts

NOT_MEASURED = "+9.9E+37"
# Of the histogram: as many as an 8-bit converter has.
_LEVELS = 256
# Share of a trace at its fullest level, below which the trace has no flat top or base.
_DOMINANT = 0.05


class NotMeasurableError(Exception):
    """The trace does not show what the measurement needs; answered with +9.9E+37."""


@dataclass(frozen=True)
class Edge:
    """A passage from the lower to the upper threshold or back; times in samples."""

    rises: bool
    lower: float
    middle: float
    upper: float


@dataclass(frozen=True, eq=False)
class Trace:
    """One channel as displayed; `reference` is the sample at the time reference.

    What is no higher than `resolution_v` has no edges.
    """

    volts: Volts
    sample_rate_hz: float
    reference: float
    resolution_v: float

    def top_v(self) -> float:
        """Return the most frequent value of the upper half; the largest if none stands out."""
        return self._mode_v(upper=True)

    def base_v(self) -> float:
        """Return the most frequent value of the lower half; the smallest if none stands out."""
        return self._mode_v(upper=False)

    def edges(self) -> list[Edge]:
        """Return all edges in order; a passage counts once it has crossed all thresholds."""
        base_v, top_v = self.base_v(), self.top_v()
        if top_v - base_v <= self.resolution_v:
            return []
        height = (self.volts - np.float32(base_v)) / np.float32(top_v - base_v)
        # 1 above the upper threshold, -1 below the lower one; what is in between has no say.
        zone = np.where(height >= 0.9, 1, np.where(height <= 0.1, -1, 0))
        decided = np.flatnonzero(zone)
        turns = np.flatnonzero(np.diff(zone[decided]))
        return [
            self._edge(height, int(decided[at]), int(decided[at + 1]), bool(zone[decided[at]] < 0))
            for at in turns
        ]

    def cycle(self) -> tuple[Edge, Edge, Edge]:
        """Return the three edges of the cycle closest to the reference."""
        edges = self.edges()
        triples = list(zip(edges, edges[1:], edges[2:], strict=False))
        if not triples:
            raise NotMeasurableError
        return min(triples, key=lambda each: abs(each[1].middle - self.reference))

    def period_s(self) -> float:
        """Return the time from an edge to the next one of its direction."""
        first, _, third = self.cycle()
        return (third.middle - first.middle) / self.sample_rate_hz

    def width_s(self, *, high: bool) -> float:
        """Return how long the pulse closest to the reference is high, or low."""
        edges = self.edges()
        pulses = [p for p in pairwise(edges) if p[0].rises == high]
        if not pulses:
            raise NotMeasurableError
        start, stop = min(pulses, key=lambda p: abs(p[0].middle + p[1].middle - 2 * self.reference))
        return (stop.middle - start.middle) / self.sample_rate_hz

    def duty_percent(self) -> float:
        """Return for which part of its period the cycle closest to the reference is high, in %."""
        first, second, third = self.cycle()
        high = second.middle - first.middle if first.rises else third.middle - second.middle
        return 100.0 * high / (third.middle - first.middle)

    def passage_s(self, *, rises: bool) -> float:
        """Return the time between 10 and 90 % of the edge closest to the reference."""
        edges = [edge for edge in self.edges() if edge.rises == rises]
        if not edges:
            raise NotMeasurableError
        edge = min(edges, key=lambda each: abs(each.middle - self.reference))
        return abs(edge.upper - edge.lower) / self.sample_rate_hz

    def over_a_cycle(self) -> Volts:
        """Return the samples of the cycle closest to the reference."""
        first, _, third = self.cycle()
        samples: Volts = self.volts[round(first.middle) : max(round(third.middle), 1)]
        if not samples.size:
            raise NotMeasurableError
        return samples

    def _mode_v(self, *, upper: bool) -> float:
        low_v, high_v = float(self.volts.min()), float(self.volts.max())
        if low_v == high_v:
            return low_v
        counts, ends = np.histogram(self.volts, _LEVELS, (low_v, high_v))
        half = slice(_LEVELS // 2, None) if upper else slice(None, _LEVELS // 2)
        fullest = int(counts[half].argmax()) + (_LEVELS // 2 if upper else 0)
        if counts[fullest] < _DOMINANT * self.volts.size:
            return high_v if upper else low_v
        inside = (self.volts >= ends[fullest]) & (self.volts <= ends[fullest + 1])
        return float(self.volts[inside].mean())

    def _edge(self, height: Volts, first: int, last: int, rises: bool) -> Edge:
        passage = height[first : last + 1].astype(np.float64)
        rising = passage if rises else -passage
        levels = (0.1, 0.5, 0.9) if rises else (-0.1, -0.5, -0.9)
        lower, middle, upper = (first + _crossing(rising, level) for level in levels)
        return Edge(rises, lower, middle, upper)


def _crossing(rising: npt.NDArray[np.float64], level: float) -> float:
    """Return where a passage first reaches a level, between samples."""
    after = int(np.argmax(rising >= level))
    if after == 0:
        return 0.0
    before_v, after_v = rising[after - 1], rising[after]
    return float(after - 1 + (level - before_v) / (after_v - before_v))


def _rms_v(volts: Volts, *, ac: bool) -> float:
    values = volts.astype(np.float64)
    return float(np.std(values)) if ac else float(np.sqrt(np.mean(values**2)))


def average_v(trace: Trace, *, of_a_cycle: bool) -> float:
    """Return the mean of the whole trace, or of a cycle."""
    volts = trace.over_a_cycle() if of_a_cycle else trace.volts
    return float(np.mean(volts, dtype=np.float64))


def rms_v(trace: Trace, *, of_a_cycle: bool, ac: bool) -> float:
    """Return the root mean square of the whole trace or of a cycle; without its mean if AC."""
    return _rms_v(trace.over_a_cycle() if of_a_cycle else trace.volts, ac=ac)


MEASUREMENTS: Mapping[str, Callable[[Trace], float]] = {
    "VMAX": lambda t: float(t.volts.max()),
    "VMIN": lambda t: float(t.volts.min()),
    "VPP": lambda t: float(t.volts.max()) - float(t.volts.min()),
    "VTOP": Trace.top_v,
    "VBASe": Trace.base_v,
    "VAMPlitude": lambda t: t.top_v() - t.base_v(),
    "PERiod": Trace.period_s,
    "FREQuency": lambda t: 1.0 / t.period_s(),
    "PWIDth": lambda t: t.width_s(high=True),
    "NWIDth": lambda t: t.width_s(high=False),
    "DUTYcycle": Trace.duty_percent,
    "RISetime": lambda t: t.passage_s(rises=True),
    "FALLtime": lambda t: t.passage_s(rises=False),
}
"""Measurements by their header below :MEASure, in V, s, Hz and %."""


def reply(measure: Callable[[], float]) -> str:
    """Return a measurement as the instrument sends it."""
    try:
        return f"{measure():+.8E}"
    except NotMeasurableError:
        return NOT_MEASURED
