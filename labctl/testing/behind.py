"""What somebody changes at the front panel, or in another program, must not become a wrong value.

Units, measured functions and command sets are changed on the panel itself, past the driver. After
each change every reading of the driver must be what it was, or an error; and a voltage that is set
must be one that the panel delivers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from labctl.errors import InstrumentError
from labctl.instruments.capabilities import (
    Laser,
    PowerMeter,
    SourceMeter,
    TunableLaser,
    VoltageSource,
)
from labctl.instruments.codecs.scpi import Command
from labctl.instruments.codecs.scpi_values import Word
from labctl.testing.alone import about
from labctl.testing.on_bench import OnBench
from labctl.testing.words import scpi_cores

# What decides in which unit, or of what, a number is; and what a source delivers.
_OF_READINGS = re.compile(r"UNIT|SENS.*FUNC|:COD", re.IGNORECASE)
_OF_SOURCES = re.compile(r"SOUR[^ ]*FUNCtion(\[:MODE\])?$", re.IGNORECASE)
# Values that such settings take where the declaration lists none; a panel refuses the others.
_VALUES = ("0", "1", "W", "DBM", "VPP", "VRMS", "'VOLT'", "'CURR'", "'RES'", "VOLT", "CURR")
_READINGS: dict[type[Any], tuple[str, ...]] = {
    PowerMeter: ("power_w",),
    SourceMeter: ("measured_voltage_v", "measured_current_a"),
    Laser: ("power_w",),
    TunableLaser: ("frequency_hz",),
    VoltageSource: ("voltage_v",),
}
_VOLTAGE_V = 1.25
_FIRST = 1
# Readings of light scatter; a unit is wrong by far more.
_RELATIVE, _ABSOLUTE = 0.5, 1e-8


def what_the_panel_changes_is_no_wrong_value(bench: OnBench) -> None:
    """Each reading after each change is as before, or an InstrumentError; voltages are voltages."""
    for source in bench.get(VoltageSource):
        source.set_voltage(_VOLTAGE_V)
    readings = list(_readings(bench))
    before = {name: read() for name, read in readings}
    for header, value in _changes(bench, _OF_READINGS, _FIRST):
        shown = bench.panel_reply(f"{header}?")
        bench.panel_write(f"{header} {value}")
        for name, read in readings:
            with about(f"{name} after {header} {value}"):
                _check_reading(name, read, before[name])
        bench.panel_write(f"{header} {shown}")
    channels = [(_FIRST, bench.instrument), *bench.numbered_channels()]
    for number, source in channels:
        if not isinstance(source, VoltageSource):
            continue
        for header, value in _changes(bench, _OF_SOURCES, number):
            source.set_voltage(_VOLTAGE_V)
            shown = bench.panel_reply(f"{header}?")
            bench.panel_write(f"{header} {value}")
            with about(f"set_voltage after {header} {value}"):
                _check_source(bench, source, header, shown)
    bench.instrument.safe_state()


def _readings(bench: OnBench) -> Iterator[tuple[str, Callable[[], float]]]:
    for capability, names in _READINGS.items():
        for each in bench.get(capability):
            for name in names:
                yield f"{type(each).__name__}.{name}", getattr(each, name)


def _changes(bench: OnBench, pattern: re.Pattern[str], number: int) -> Iterator[tuple[str, str]]:
    """Yield settings of the panel that it takes, of one channel."""
    for core in scpi_cores(bench.panel):
        for command in core.declared:
            if command.do is None or command.ask is None or not pattern.search(command.pattern):
                continue
            # Optional words go, but for the one with the channel's number.
            header = re.sub(r"[\[\]a-z]", "", re.sub(r"\[[^\]#]*\]", "", command.pattern))
            header = header.replace("#", str(number))
            for value in _values(command):
                bench.panel_write("*CLS")
                shown = bench.panel_reply(f"{header}?")
                bench.panel_write(f"{header} {value}")
                taken = bench.panel_reply("SYST:ERR?").lstrip("+").startswith("0")
                if taken and shown:
                    bench.panel_write(f"{header} {shown}")
                    yield header, value


def _values(command: Command) -> tuple[str, ...]:
    return command.kind.words if isinstance(command.kind, Word) else _VALUES


def _check_reading(name: str, read: Callable[[], float], before: float) -> None:
    try:
        found = read()
    except InstrumentError:
        return
    close = math.isclose(found, before, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    assert close, f"{name} was {before:.4g}, and is {found:.4g} now"


def _check_source(bench: OnBench, source: VoltageSource, header: str, shown: str) -> None:
    try:
        source.set_voltage(_VOLTAGE_V)
    except InstrumentError:
        bench.panel_write(f"{header} {shown}")
        return
    delivered = bench.panel_reply(f"{header}?")
    assert delivered == shown, f"a voltage was set, the panel delivers {delivered}, not {shown}"
