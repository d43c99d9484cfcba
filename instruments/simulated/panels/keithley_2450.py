"""Front panel of a Keithley 2450 source meter in its SCPI command set.

Source: the drivers of PyMeasure, QCoDeS and tm_devices, which agree on these commands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from labctl.clock import Clock
from labctl.instruments.codecs.scpi import (
    Command,
    Parameters,
    Reply,
    ScpiCore,
    Suffixes,
    action,
    none,
    readout,
    setting,
)
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import (
    INFINITY,
    Boolean,
    Form,
    Integer,
    Kind,
    Number,
    Parameter,
    T,
    Word,
)
from labctl.instruments.simulated.ports import SourcePort

KEITHLEY_ERRORS = '{code:d},"{text};0;0 0"'
BUFFERS = ("DEFBUFFER1", "DEFBUFFER2")
STYLE = "{:.6E}"
OVER_RANGE = 1.05
RANGES: Mapping[str, tuple[float, ...]] = {
    "VOLT": (20e-3, 200e-3, 2.0, 20.0, 200.0),
    "CURR": (10e-9, 100e-9, 1e-6, 10e-6, 100e-6, 1e-3, 10e-3, 100e-3, 1.0),
    "RES": (20.0, 200.0, 2e3, 20e3, 200e3, 2e6, 20e6, 200e6),
}
_NODES = {"VOLT": "VOLTage[:DC]", "CURR": "CURRent[:DC]", "RES": "RESistance"}
_UNITS = {"VOLT": "V", "CURR": "A", "RES": "OHM"}
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


@dataclass(frozen=True)
class Sense:
    """Settings of measuring one quantity."""

    range: float
    auto: bool = True
    cycles: float = 1.0
    four_wire: bool = False


class Reading(NamedTuple):
    """One entry of a reading buffer, with the bench time in s it was taken at."""

    value: float
    source: float
    time_s: float


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


class Keithley2450Panel:
    """One source meter; satisfies `FrontPanel`.

    Every :READ? takes SENS:COUN measurements into a buffer and replies the last one; each takes
    its power-line cycles, the first after a change of the source also the source delay. A reading
    beyond 1.05 of a fixed range is 9.9E+37, so is a resistance without current. TRAC:DATA?
    gives READ, SOUR and REL elements. Assumed, not confirmed by a source: the ";0;0 0" of error
    replies (`error_style`), the reply to SENS:FUNC?, the ranges, `auto_delay_s`, defaults of
    limits and ranges, 0 as the readings with the output off, the buffer size of 100000, -222 for
    levels beyond a fixed range and for buffer entries that are not there. Its power envelope and
    four-wire sensing change nothing here.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        output: SourcePort,
        *,
        identity: str = "Keithley Instruments Inc., Model 2450, 01419964, 3.3.5",
        error_style: str = KEITHLEY_ERRORS,
        voltage_limit_v: float = 210.0,
        current_limit_a: float = 1.05,
        line_frequency_hz: float = 60.0,
        auto_delay_s: float = 1e-3,
    ) -> None:
        self.name, self._clock, self._port = name, clock, output
        self._limits = {"VOLT": voltage_limit_v, "CURR": current_limit_a, "RES": 210e6}
        self._line_hz, self._auto_delay_s = line_frequency_hz, auto_delay_s
        self._scpi = ScpiCore(
            self._commands(),
            identity=identity,
            reset=self._reset,
            error_style=error_style,
            message_bytes=1 << 16,
            output_bytes=1 << 24,
        )
        self.write, self.read = self._scpi.write, self._scpi.read
        self.clear, self.status_byte = self._scpi.clear, self._scpi.status_byte
        self.read_timed_out = self._scpi.read_timed_out
        self._reset()

    def _reset(self) -> None:
        self._on = False
        self._sourced, self._sensed = "VOLT", "CURR"
        self._sources = {"VOLT": Source(105e-6, range=20e-3), "CURR": Source(21.0, range=10e-9)}
        self._senses = {name: Sense(ranges[-1]) for name, ranges in RANGES.items()}
        self._count, self._terminals = 1, "FRON"
        self._buffers: dict[str, deque[Reading]] = {
            buffer: deque(maxlen=100_000) for buffer in BUFFERS
        }
        self._settled_s = self._clock.now_s()
        self._apply()

    def _commands(self) -> list[Command]:
        commands = [*self._system_commands(), *self._buffer_commands()]
        for quantity in ("VOLT", "CURR"):
            commands += self._source_commands(quantity)
        for quantity in _NODES:
            commands += self._sense_commands(quantity)
        return commands

    def _system_commands(self) -> list[Command]:
        return [
            readout("*LANG", lambda _: "SCPI"),
            action(":STATus:PRESet", lambda _: None),
            action(":ABORt", lambda _: None),
            Command(":SYSTem:BEEPer[:IMMediate]", _beep),
            setting(":OUTPut#[:STATe]", Boolean(), lambda _: self._on, self._switch),
            setting(
                ":SOURce#:FUNCtion[:MODE]",
                Word("VOLTage", "CURRent"),
                lambda _: self._sourced,
                self._put_source,
            ),
            setting(
                ":SENSe#:FUNCtion[:ON]", Function(), lambda _: self._sensed, self._put_function
            ),
            setting(
                ":SENSe#:COUNt",
                Integer(1, 100_000, 1),
                lambda _: self._count,
                self._put_count,
            ),
            setting(
                ":ROUTe:TERMinals",
                Word("FRONt", "REAR"),
                lambda _: self._terminals,
                self._put_terminals,
            ),
        ]

    def _buffer_commands(self) -> list[Command]:
        return [
            Command(":READ", ask=self._read),
            Command(":TRACe:DATA", ask=self._ask_data),
            Command(":TRACe:ACTual", ask=self._ask_count),
            Command(":TRACe:CLEar", self._clear_buffer),
            Command(":TRACe:POINts", self._put_points, self._ask_points),
        ]

    def _source_commands(self, quantity: str) -> list[Command]:
        other = "CURR" if quantity == "VOLT" else "VOLT"
        limit_node = "ILIMit" if quantity == "VOLT" else "VLIMit"
        root = f":SOURce#:{_NODES[quantity].removesuffix('[:DC]')}"
        highest, highest_limit = self._limits[quantity], self._limits[other]
        level = Number(_UNITS[quantity], -highest, highest, 0.0, STYLE)
        limit = Number(_UNITS[other], -highest_limit, highest_limit, style=STYLE)

        def declare(
            node: str, kind: Kind[T], get: Callable[[Source], T], put: Callable[[Source, T], Source]
        ) -> Command:
            return self._source_setting(quantity, f"{root}{node}", kind, get, put)

        return [
            declare(
                "[:LEVel][:IMMediate][:AMPLitude]",
                level,
                lambda s: s.level,
                lambda s, value: _with_level(quantity, s, value),
            ),
            declare(
                ":RANGe",
                level,
                lambda s: s.range,
                lambda s, value: _with_range(quantity, s, value),
            ),
            declare(
                ":RANGe:AUTO",
                Boolean(),
                lambda s: s.auto,
                lambda s, auto: _with_level(quantity, replace(s, auto=auto), s.level),
            ),
            declare(
                f":{limit_node}[:LEVel]",
                limit,
                lambda s: s.limit,
                lambda s, value: replace(s, limit=abs(value)),
            ),
            readout(f"{root}:{limit_node}[:LEVel]:TRIPped", lambda _: self._tripped(quantity)),
            declare(
                ":DELay",
                Number("S", 0.0, 1e4, 0.0, STYLE),
                lambda s: s.delay_s,
                lambda s, delay_s: replace(s, delay_s=delay_s, auto_delay=False),
            ),
            declare(
                ":DELay:AUTO",
                Boolean(),
                lambda s: s.auto_delay,
                lambda s, auto: replace(s, auto_delay=auto),
            ),
        ]

    def _source_setting(
        self,
        quantity: str,
        pattern: str,
        kind: Kind[T],
        get: Callable[[Source], T],
        put: Callable[[Source, T], Source],
    ) -> Command:
        def adopt(suffixes: Suffixes, value: T) -> None:
            _first(suffixes)
            self._sources[quantity] = put(self._sources[quantity], value)
            self._apply()

        return setting(pattern, kind, lambda _: get(self._sources[quantity]), adopt)

    def _sense_commands(self, quantity: str) -> list[Command]:
        root = f":SENSe#:{_NODES[quantity]}"
        highest = self._limits[quantity]

        def declare(
            node: str, kind: Kind[T], get: Callable[[Sense], T], put: Callable[[Sense, T], Sense]
        ) -> Command:
            def adopt(suffixes: Suffixes, value: T) -> None:
                _first(suffixes)
                self._senses[quantity] = put(self._senses[quantity], value)

            return setting(f"{root}{node}", kind, lambda _: get(self._senses[quantity]), adopt)

        return [
            declare(
                ":RANGe[:UPPer]",
                Number(_UNITS[quantity], -highest, highest, style=STYLE),
                lambda s: s.range,
                lambda s, value: replace(s, range=_fitting(quantity, value), auto=False),
            ),
            declare(":RANGe:AUTO", Boolean(), lambda s: s.auto, lambda s, v: replace(s, auto=v)),
            declare(
                ":NPLCycles",
                Number("", 0.01, 10.0, 1.0, STYLE),
                lambda s: s.cycles,
                lambda s, cycles: replace(s, cycles=cycles),
            ),
            declare(
                ":RSENse", Boolean(), lambda s: s.four_wire, lambda s, v: replace(s, four_wire=v)
            ),
        ]

    def _switch(self, suffixes: Suffixes, on: bool) -> None:
        _first(suffixes)
        self._on = on
        self._apply()

    def _put_source(self, suffixes: Suffixes, quantity: str) -> None:
        _first(suffixes)
        self._sourced = quantity
        self._apply()

    def _put_function(self, suffixes: Suffixes, quantity: str) -> None:
        _first(suffixes)
        self._sensed = quantity

    def _put_count(self, _: Suffixes, count: int) -> None:
        self._count = count

    def _put_terminals(self, _: Suffixes, terminals: str) -> None:
        self._terminals = terminals

    def _apply(self) -> None:
        """Put the settings on the output, and note when it will have settled."""
        source = self._sources[self._sourced]
        if self._sourced == "VOLT":
            self._port.force_voltage(self._on, source.level, source.limit)
        else:
            self._port.force_current(self._on, source.level, source.limit)
        delay_s = self._auto_delay_s if source.auto_delay else source.delay_s
        self._settled_s = self._clock.now_s() + (delay_s if self._on else 0.0)

    def _tripped(self, quantity: str) -> str:
        """Tell whether the output is at the limit of the other quantity."""
        if not self._on or quantity != self._sourced:
            return "0"
        held = self._port.current_a() if quantity == "VOLT" else self._port.voltage_v()
        return "1" if abs(held) >= self._sources[quantity].limit * (1.0 - 1e-6) else "0"

    def _read(self, _: Suffixes, parameters: Parameters) -> Reply:
        if len(parameters) > 1:
            raise ScpiError(-108)
        buffer = self._buffer(parameters[0] if parameters else None)
        for _index in range(self._count):
            buffer.append(self._measure())
        return STYLE.format(buffer[-1].value)

    def _measure(self) -> Reading:
        sense = self._senses[self._sensed]
        settling_s = max(self._settled_s - self._clock.now_s(), 0.0)
        self._clock.sleep(settling_s + sense.cycles / self._line_hz)
        value = self._quantity(self._sensed)
        if sense.auto:
            self._senses[self._sensed] = replace(sense, range=_fitting(self._sensed, value))
        elif abs(value) > OVER_RANGE * sense.range:
            value = INFINITY
        return Reading(value, self._quantity(self._sourced), self._clock.now_s())

    def _quantity(self, quantity: str) -> float:
        if quantity == "VOLT":
            return self._port.voltage_v()
        current_a = self._port.current_a()
        if quantity == "CURR":
            return current_a
        return self._port.voltage_v() / current_a if current_a else INFINITY

    def _buffer(self, parameter: Parameter | None) -> deque[Reading]:
        name = "DEFBUFFER1" if parameter is None else parameter.text().strip().upper()
        if name not in self._buffers:
            raise ScpiError(-224, "no such buffer")
        return self._buffers[name]

    def _optional_buffer(self, parameters: Parameters) -> deque[Reading]:
        none(parameters[1:])
        return self._buffer(parameters[0] if parameters else None)

    def _ask_data(self, _: Suffixes, parameters: Parameters) -> Reply:
        if len(parameters) < 2:
            raise ScpiError(-109)
        buffer = self._buffer(parameters[2] if len(parameters) > 2 else None)
        first = Integer(1, max(len(buffer), 1)).parse(parameters[0])
        last = Integer(first, max(len(buffer), first)).parse(parameters[1])
        if last > len(buffer):
            raise ScpiError(-222, "the buffer is empty")
        word = Word("READing", "SOURce", "RELative")
        elements = [word.parse(p) for p in parameters[3:]] or ["READ"]
        start_s = buffer[0].time_s
        fields = (
            _element(buffer[index], element, start_s)
            for index in range(first - 1, last)
            for element in elements
        )
        return ",".join(map(STYLE.format, fields))

    def _ask_count(self, _: Suffixes, parameters: Parameters) -> Reply:
        return str(len(self._optional_buffer(parameters)))

    def _clear_buffer(self, _: Suffixes, parameters: Parameters) -> None:
        self._optional_buffer(parameters).clear()

    def _put_points(self, _: Suffixes, parameters: Parameters) -> None:
        """Resize a buffer, which empties it."""
        if not parameters:
            raise ScpiError(-109)
        points = Integer(10, 6_875_000).parse(parameters[0])
        self._optional_buffer(parameters[1:])
        name = parameters[1].text().strip().upper() if parameters[1:] else BUFFERS[0]
        self._buffers[name] = deque(maxlen=points)

    def _ask_points(self, _: Suffixes, parameters: Parameters) -> Reply:
        return str(self._optional_buffer(parameters).maxlen)


def _first(suffixes: Suffixes) -> None:
    if suffixes[0] != 1:
        raise ScpiError(-114)


def _beep(_: Suffixes, parameters: Parameters) -> None:
    if len(parameters) != 2:
        raise ScpiError(-109 if len(parameters) < 2 else -108)
    Number("HZ", 20.0, 8e3).parse(parameters[0])
    Number("S", 0.0, 100.0).parse(parameters[1])


def _fitting(quantity: str, value: float) -> float:
    """Return the smallest range that holds a value, or the largest there is."""
    ranges = RANGES[quantity]
    fitting = (limit for limit in ranges if abs(value) <= limit * OVER_RANGE)
    return next(fitting, ranges[-1])


def _with_level(quantity: str, source: Source, level: float) -> Source:
    if source.auto:
        return replace(source, level=level, range=_fitting(quantity, level))
    if abs(level) > source.range * OVER_RANGE * (1.0 + 1e-9):
        raise ScpiError(-222, "the level exceeds the source range")
    return replace(source, level=level)


def _with_range(quantity: str, source: Source, value: float) -> Source:
    fixed = replace(source, range=_fitting(quantity, value), auto=False)
    return _with_level(quantity, fixed, source.level)


def _element(reading: Reading, element: str, start_s: float) -> float:
    if element == "READ":
        return reading.value
    return reading.source if element == "SOUR" else reading.time_s - start_s
