"""Commands of a function generator that each keep one setting of an output.

Source: docs/wire/keysight_33512b.md, sections Output and Triggers and bursts; the manual's
programming reference has more of them (FUNCtion, BURSt, TRIGger, OUTPut subsystems).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from labctl.instruments.codecs.scpi import Command
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Boolean, Kind, Number, T, Word
from labctl.instruments.simulated.panels.generator_settings import Settings
from labctl.instruments.simulated.panels.kept_settings import as_set

INFINITE = {"INFinity": math.inf}
ROOT = "[:SOURce#]"


class Declare(Protocol):
    """How a panel declares a setting of one output."""

    def __call__(
        self,
        pattern: str,
        kind: Kind[T],
        get: Callable[[Settings], T],
        put: Callable[[Settings, T], Settings],
    ) -> Command:
        """Return the command; `put` gives the new settings."""
        ...


def shape_commands(declare: Declare, max_frequency_hz: float) -> list[Command]:
    """Declare duty cycle, symmetry, and the width and edges of pulses."""
    edge = Number("S", 8.4e-9, 1e-6, 10e-9)
    return [
        declare(
            f"{ROOT}:FUNCtion:SQUare:DCYCle",
            Number("PCT", 0.01, 99.99, 50.0),
            *as_set("square_duty_pct"),
        ),
        declare(
            f"{ROOT}:FUNCtion:RAMP:SYMMetry",
            Number("PCT", 0.0, 100.0, 100.0),
            *as_set("symmetry_pct"),
        ),
        declare(
            f"{ROOT}:FUNCtion:PULSe:WIDTh",
            Number("S", 16e-9, 1e6, 100e-6),
            lambda s: s.pulse_width_s,
            lambda s, v: s.with_pulse_width(v),
        ),
        declare(
            f"{ROOT}:FUNCtion:PULSe:DCYCle",
            Number("PCT", 0.0, 100.0, 10.0),
            lambda s: 100.0 * s.pulse_width_s * s.frequency_hz,
            lambda s, v: s.with_pulse_width(v / 100.0 / s.frequency_hz),
        ),
        declare(
            f"{ROOT}:FUNCtion:PULSe:PERiod",
            Number("S", 1.0 / max_frequency_hz, 1e6, 1e-3),
            lambda s: 1.0 / s.frequency_hz,
            lambda s, v: s.with_frequency(1.0 / v),
        ),
        declare(f"{ROOT}:FUNCtion:PULSe:HOLD", Word("WIDTh", "DCYCle"), *as_set("pulse_hold")),
        declare(f"{ROOT}:FUNCtion:PULSe:TRANsition[:LEADing]", edge, *as_set("leading_s")),
        declare(f"{ROOT}:FUNCtion:PULSe:TRANsition:TRAiling", edge, *as_set("trailing_s")),
        declare(
            f"{ROOT}:FUNCtion:PULSe:TRANsition:BOTH",
            edge,
            lambda s: s.leading_s,
            lambda s, v: replace(s, leading_s=v, trailing_s=v),
        ),
    ]


def burst_commands(declare: Declare) -> list[Command]:
    """Declare the settings of bursts."""
    return [
        declare(f"{ROOT}:BURSt:STATe", Boolean(), *as_set("burst")),
        declare(f"{ROOT}:BURSt:MODE", Word("TRIGgered", "GATed"), lambda s: "TRIG", _not_gated),
        declare(
            f"{ROOT}:BURSt:NCYCles",
            Number("", 1.0, 1e8, 1.0, words=INFINITE),
            lambda s: s.cycles,
            lambda s, v: replace(s, cycles=_whole(v)),
        ),
        declare(
            f"{ROOT}:BURSt:INTernal:PERiod",
            Number("S", 1e-6, 8e3, 10e-3),
            *as_set("burst_period_s"),
        ),
        declare(
            f"{ROOT}:BURSt:PHASe", Number("DEG", -360.0, 360.0, 0.0), *as_set("burst_phase_deg")
        ),
        declare(
            f"{ROOT}:BURSt:GATE:POLarity", Word("NORMal", "INVerted"), *as_set("gate_polarity")
        ),
    ]


def trigger_commands(declare: Declare) -> list[Command]:
    """Declare the settings of the trigger system."""
    return [
        declare(
            ":TRIGger#:SOURce",
            Word("IMMediate", "EXTernal", "TIMer", "BUS"),
            *as_set("trigger_source"),
        ),
        declare(":TRIGger#:SLOPe", Word("POSitive", "NEGative"), *as_set("trigger_slope")),
        declare(":TRIGger#:DELay", Number("S", 0.0, 1e3, 0.0), *as_set("trigger_delay_s")),
        declare(":TRIGger#:TIMer", Number("S", 1e-6, 8e3, 1.0), *as_set("trigger_timer_s")),
        declare(
            ":TRIGger#:COUNt",
            Number("", 1.0, 1e6, 1.0),
            lambda s: s.trigger_count,
            lambda s, v: replace(s, trigger_count=_whole(v)),
        ),
    ]


def mode_commands(declare: Declare) -> list[Command]:
    """Declare how frequency and samples advance: nothing but the plain ways is fitted."""
    return [
        declare(f"{ROOT}:FREQuency:MODE", Word("CW", "FIXed", "SWEep", "LIST"), _cw, _only_cw),
        declare(
            f"{ROOT}:FUNCtion:ARBitrary:ADVance",
            Word("TRIGger", "SRATe"),
            lambda _: "SRAT",
            _only_sample_rate,
        ),
    ]


def _cw(_: Settings) -> str:
    return "CW"


def _only_cw(settings: Settings, mode: str) -> Settings:
    if mode not in ("CW", "FIX"):
        raise ScpiError(-221, "only a fixed frequency is fitted")
    return settings


def _only_sample_rate(settings: Settings, mode: str) -> Settings:
    if mode != "SRAT":
        raise ScpiError(-221, "only advance by sample rate is fitted")
    return settings


def _whole(cycles: float) -> float:
    return cycles if cycles == math.inf else float(math.floor(cycles + 0.5))


def _not_gated(settings: Settings, mode: str) -> Settings:
    if mode == "GAT":
        raise ScpiError(-221, "no gate signal is connected")
    return settings
