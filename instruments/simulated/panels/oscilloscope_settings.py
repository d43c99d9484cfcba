"""Time base, edge trigger, acquisition type and limits of an InfiniiVision oscilloscope.

Source: docs/wire/keysight_infiniivision.md, sections Settings and Assumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.simulated.panels.oscilloscope_record import ChannelSettings
from labctl.instruments.simulated.ports import Capture, CaptureWindow, Volts

# Of the screen. Limits are assumed (docs/wire/keysight_infiniivision.md, [M]).
DIVISIONS_X, DIVISIONS_Y = 10.0, 8.0
RANGE_LIMITS_V = (8e-3, 40.0)
TIME_RANGE_LIMITS_S = (20e-9, 500.0)
_REFERENCE = {"LEFT": 0.1, "CENT": 0.5, "RIGH": 0.9}


def engineering(value: float) -> str:
    """Write a number as the instrument does: +40.0E+00, +500.0E-06; 0 below 1e-99."""
    if abs(value) < 1e-99:
        return "+0.0E+00"
    exponent = 3 * math.floor(math.log10(abs(value)) / 3)
    mantissa = f"{value / 10.0**exponent:+.9g}"
    return f"{mantissa}{'' if '.' in mantissa else '.0'}E{exponent:+03d}"


@dataclass(frozen=True)
class Timebase:
    """Horizontal settings: full range, and the reference point's time after the trigger."""

    range_s: float = 1e-3
    position_s: float = 0.0
    reference: str = "CENT"

    @property
    def start_s(self) -> float:
        """Time of the left edge of the screen after the trigger."""
        return self.position_s - _REFERENCE[self.reference] * self.range_s

    def summary(self) -> str:
        """Return the reply to `:TIM?`."""
        ranges = f"MAIN:RANG {engineering(self.range_s)};POS {engineering(self.position_s)}"
        return f":TIM:MODE MAIN;REF {self.reference};{ranges}"


@dataclass(frozen=True)
class EdgeTrigger:
    """Edge trigger settings."""

    source: str = "CHAN1"
    level_v: float = 0.0
    slope: str = "POS"

    def first_edge(self, volts: Volts) -> int:
        """Return the index of the first edge, 0 if there is none."""
        above = volts >= self.level_v
        edges = {
            "POS": above[1:] & ~above[:-1],
            "NEG": above[:-1] & ~above[1:],
        }.get(self.slope, above[1:] ^ above[:-1])
        return int(np.argmax(edges)) + 1 if edges.any() else 0


def checked(settings: ChannelSettings) -> ChannelSettings:
    """Return the settings; raises ScpiError -222 if the instrument does not have the range."""
    low_v, high_v = RANGE_LIMITS_V
    if not low_v * 0.999 <= settings.range_v / settings.probe <= high_v * 1.001:
        raise ScpiError(-222)
    return settings


def finer_window(window: CaptureWindow, finer: int) -> CaptureWindow:
    """Return the window with `finer` samples for each."""
    rate_hz = window.sample_rate_hz * finer
    return replace(window, sample_rate_hz=rate_hz, samples=window.samples * finer)


def coarser(capture: Capture, finer: int) -> Capture:
    """Return the means of every `finer` samples."""
    if finer == 1:
        return capture
    means = {n: volts.reshape(-1, finer).mean(axis=1) for n, volts in capture.items()}
    return {n: volts.astype(np.float32) for n, volts in means.items()}


def channel_summary(number: int, c: ChannelSettings) -> str:
    """Return the reply to `:CHAN<n>?`."""
    fields = [
        f":CHAN{number}:RANG {engineering(c.range_v)}",
        f"OFFS {engineering(c.offset_v)}",
        f"COUP {c.coupling}",
        f"IMP {c.impedance}",
        f"DISP {c.display:d}",
        f"BWL {c.bandwidth_limit:d}",
        f"INV {c.invert:d}",
        f'LAB "{c.label}"',
        "UNIT VOLT",
        f"PROB {engineering(c.probe)}",
        "PROB:SKEW +0.00E+00",
        "STYP SING",
    ]
    return ";".join(fields)
