"""Front panel of a Keithley 2450 source meter in its SCPI command set.

Source: docs/wire/keithley_2450.md, sections Connection, Source, Measurement, Errors and Assumed,
and the SCPI command reference of the manual named there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean

from labctl.clock import Clock
from labctl.instruments.codecs.scpi import (
    Ask,
    Command,
    Parameters,
    Reply,
    ScpiCore,
    Suffixes,
    action,
    none,
    only,
    readout,
    setting,
)
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import (
    INFINITY,
    Boolean,
    Integer,
    Kind,
    Number,
    T,
    Word,
)
from labctl.instruments.simulated.panels.keithley_2450_buffers import (
    STYLE,
    Reading,
    ReadingBuffers,
)
from labctl.instruments.simulated.panels.keithley_2450_settings import (
    OVER_RANGE,
    RANGES,
    Function,
    Sense,
    Source,
    fitting,
    with_level,
    with_range,
)
from labctl.instruments.simulated.panels.keithley_2450_sweep import (
    LONGEST_DELAY_S,
    Sweep,
    parse_sweep,
)
from labctl.instruments.simulated.panels.kept_settings import as_set
from labctl.instruments.simulated.ports import SourcePort

KEITHLEY_ERRORS = '{code:d},"{text};0;0 0"'
# Assumed, as limits of ranges and buffers are (docs/wire/keithley_2450.md, [M]).
MOST_AVERAGED = 100
USER_DELAYS = range(1, 6)
USER_DELAY = Number("S", 0.0, LONGEST_DELAY_S, style=STYLE)
_NODES = {"VOLT": "VOLTage[:DC]", "CURR": "CURRent[:DC]", "RES": "RESistance"}
_UNITS = {"VOLT": "V", "CURR": "A", "RES": "OHM"}


class Keithley2450Panel:
    """One source meter; satisfies `FrontPanel`.

    Every :READ? takes SENS:COUN measurements into a buffer and replies the last one; each takes
    its power-line cycles, the first after a change of the source also the source delay. A reading
    beyond 1.05 of a fixed range is 9.9E+37, so is a resistance without current. TRAC:DATA? gives
    the numeric elements, and FORM:DATA knows ASCii only. An empty last parameter counts as left
    out: QCoDeS, which is used with real ones, sends `:TRACe:MAKE 'name', 100, `. INIT runs the
    sweep that is set up, output on, to its end and switches the output off. Delays of trigger
    models and output-off states are kept only. Assumed, not confirmed by a source: the reply to
    SENS:FUNC?, the ranges, `auto_delay_s`, defaults of limits and ranges, 0 as the readings with
    the output off, the buffer size of 100000, -222 for levels beyond a fixed range and for buffer
    entries that are not there. Its power envelope and four-wire sensing change nothing here.
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
        self._buffers = ReadingBuffers()
        self._scpi = ScpiCore(
            self._commands(),
            identity=identity,
            reset=self._reset,
            error_style=error_style,
            message_bytes=1 << 16,
            output_bytes=1 << 24,
            last_may_lack=True,
        )
        self.write, self.read = self._scpi.write, self._scpi.read
        self.clear, self.status_byte = self._scpi.clear, self._scpi.status_byte
        self.serial_poll = self._scpi.serial_poll
        self.read_timed_out = self._scpi.read_timed_out
        self.power_cycle = self._scpi.power_cycle
        self._reset()

    def _reset(self) -> None:
        self._on = False
        self._sourced, self._sensed = "VOLT", "CURR"
        self._sources = {"VOLT": Source(105e-6, range=20e-3), "CURR": Source(21.0, range=10e-9)}
        self._senses = {name: Sense(ranges[-1]) for name, ranges in RANGES.items()}
        self._count, self._terminals = 1, "FRON"
        self._buffers.reset()
        self._sweep: Sweep | None = None
        self._moving: deque[float] = deque(maxlen=MOST_AVERAGED)
        self._user_delays_s: dict[tuple[str, int], float] = {}
        self._settled_s = self._clock.now_s()
        self._apply()

    def _commands(self) -> list[Command]:
        commands = [*self._system_commands(), *self._reading_commands()]
        for quantity in ("VOLT", "CURR"):
            commands += self._source_commands(quantity)
        for quantity in _NODES:
            commands += self._sense_commands(quantity)
        return commands

    def _system_commands(self) -> list[Command]:
        return [
            setting("*LANG", Word("SCPI"), lambda _: "SCPI", lambda _, name: None),
            action(":STATus:PRESet", lambda _: None),
            action(":STATus:CLEar", lambda _: self._scpi.status.clear()),
            action(":SYSTem:CLEar", lambda _: self._clear_errors()),
            readout(":SYSTem:LFRequency", lambda _: f"{self._line_hz:g}"),
            action(":SENSe#:AZERo:ONCE", lambda _: None),
            action(":ABORt", lambda _: None),
            setting(":FORMat[:DATA]", Word("ASCii"), lambda _: "ASC", lambda _, name: None),
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

    def _reading_commands(self) -> list[Command]:
        return [
            *self._buffers.commands(),
            Command(":READ", ask=self._read),
            Command(":MEASure", ask=self._read),
            *(Command(f":MEASure:{node}", ask=self._measuring(q)) for q, node in _NODES.items()),
            Command(":FETCh", ask=lambda _, parameters: self._buffers.last(parameters)),
            Command(":TRACe:TRIGger", self._trigger),
            action(":INITiate[:IMMediate]", lambda _: self._initiate()),
            *(command for q in ("VOLT", "CURR") for command in self._sweep_commands(q)),
        ]

    def _sweep_commands(self, quantity: str) -> list[Command]:
        root = f":SOURce#:SWEep:{_NODES[quantity].removesuffix('[:DC]')}"
        highest = self._limits[quantity]
        level = Number(_UNITS[quantity], -highest, highest)

        def declare(node: str, spacing: str) -> Command:
            def do(suffixes: Suffixes, parameters: Parameters) -> None:
                _first(suffixes)
                sweep = parse_sweep(quantity, spacing, level, parameters)
                self._buffers.buffer(sweep.buffer)
                self._sweep = sweep

            return Command(f"{root}:{node}", do)

        return [declare("LINear", "LIN"), declare("LINear:STEP", "STEP"), declare("LOG", "LOG")]

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
                lambda s, value: with_level(quantity, s, value),
            ),
            declare(
                ":RANGe",
                level,
                lambda s: s.range,
                lambda s, value: with_range(quantity, s, value),
            ),
            declare(
                ":RANGe:AUTO",
                Boolean(),
                lambda s: s.auto,
                lambda s, auto: with_level(quantity, replace(s, auto=auto), s.level),
            ),
            declare(
                f":{limit_node}[:LEVel]",
                limit,
                lambda s: s.limit,
                lambda s, value: replace(s, limit=abs(value)),
            ),
            readout(f"{root}:{limit_node}[:LEVel]:TRIPped", lambda _: self._tripped(quantity)),
            *self._delay_settings(quantity, root),
            declare(":READ:BACK", Boolean(), *as_set("read_back")),
            self._source_setting(
                quantity,
                f":OUTPut#:{_NODES[quantity].removesuffix('[:DC]')}:SMODe",
                Word("NORMal", "HIMPedance", "ZERO", "GUARd"),
                *as_set("off_state"),
            ),
            self._delay_command(root),
        ]

    def _delay_settings(self, quantity: str, root: str) -> list[Command]:
        return [
            self._source_setting(
                quantity,
                f"{root}:DELay",
                Number("S", 0.0, LONGEST_DELAY_S, 0.0, STYLE),
                lambda s: s.delay_s,
                lambda s, delay_s: replace(s, delay_s=delay_s, auto_delay=False),
            ),
            self._source_setting(quantity, f"{root}:DELay:AUTO", Boolean(), *as_set("auto_delay")),
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
                self._moving.clear()

            return setting(f"{root}{node}", kind, lambda _: get(self._senses[quantity]), adopt)

        return [
            declare(
                ":RANGe[:UPPer]",
                Number(_UNITS[quantity], -highest, highest, style=STYLE),
                lambda s: s.range,
                lambda s, value: replace(s, range=fitting(quantity, value), auto=False),
            ),
            declare(":RANGe:AUTO", Boolean(), *as_set("auto")),
            declare(":NPLCycles", Number("", 0.01, 10.0, 1.0, STYLE), *as_set("cycles")),
            declare(":RSENse", Boolean(), *as_set("four_wire")),
            declare(":AZERo[:STATe]", Boolean(), *as_set("auto_zero")),
            declare(":AVERage[:STATe]", Boolean(), *as_set("filtered")),
            declare(":AVERage:COUNt", Integer(1, MOST_AVERAGED, 10), *as_set("filter_count")),
            declare(":AVERage:TCONtrol", Word("REPeat", "MOVing"), *as_set("filter_type")),
            self._delay_command(root),
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
        self._moving.clear()

    def _clear_errors(self) -> None:
        event = self._scpi.status.event
        self._scpi.status.clear()
        self._scpi.status.event = event

    def _delay_command(self, root: str) -> Command:
        def do(suffixes: Suffixes, parameters: Parameters) -> None:
            delay_s = USER_DELAY.parse(only(parameters))
            self._user_delays_s[root, _user(suffixes)] = delay_s

        def ask(suffixes: Suffixes, parameters: Parameters) -> Reply:
            none(parameters)
            return USER_DELAY.format(self._user_delays_s.get((root, _user(suffixes)), 0.0))

        return Command(f"{root}:DELay:USER#", do, ask)

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
        """Return whether the output is at the limit of the other quantity."""
        if not self._on or quantity != self._sourced:
            return "0"
        held = self._port.current_a() if quantity == "VOLT" else self._port.voltage_v()
        return "1" if abs(held) >= self._sources[quantity].limit * (1.0 - 1e-6) else "0"

    def _read(self, _: Suffixes, parameters: Parameters) -> Reply:
        """Take readings into a buffer and reply the last: [buffer[, elements...]]."""
        self._fill(parameters[:1])
        return self._buffers.last(parameters)

    def _measuring(self, quantity: str) -> Ask:
        def ask(suffixes: Suffixes, parameters: Parameters) -> Reply:
            self._sensed = quantity
            return self._read(suffixes, parameters)

        return ask

    def _trigger(self, _: Suffixes, parameters: Parameters) -> None:
        none(parameters[1:])
        self._fill(parameters)

    def _fill(self, parameters: Parameters) -> None:
        buffer = self._buffers.buffer(parameters[0] if parameters else None)
        for _index in range(self._count):
            buffer.append(self._measure())

    def _initiate(self) -> None:
        """Run the sweep: output on, a reading at every level, output off."""
        sweep = self._sweep
        if sweep is None:
            raise ScpiError(-221, "no sweep is set up")
        buffer = self._buffers.buffer(sweep.buffer)
        self._sourced, self._on = sweep.quantity, True
        for level in sweep.levels:
            source = replace(self._sources[sweep.quantity], auto=True)
            self._sources[sweep.quantity] = with_level(sweep.quantity, source, level)
            self._apply()
            self._settled_s += sweep.delay_s
            buffer.append(self._measure())
        self._on = False
        self._apply()

    def _measure(self) -> Reading:
        """Take one reading, of which a filter averages several."""
        sense = self._senses[self._sensed]
        count = sense.filter_count if sense.filtered and sense.filter_type == "REP" else 1
        value = fmean(self._sample() for _ in range(count))
        if sense.filtered and sense.filter_type == "MOV":
            self._moving.append(value)
            value = fmean(list(self._moving)[-sense.filter_count :])
        sourced = self._sources[self._sourced]
        source = self._quantity(self._sourced) if sourced.read_back else sourced.level
        return Reading(value, source, self._clock.now_s())

    def _sample(self) -> float:
        sense = self._senses[self._sensed]
        settling_s = max(self._settled_s - self._clock.now_s(), 0.0)
        self._clock.sleep(settling_s + sense.cycles / self._line_hz)
        value = self._quantity(self._sensed)
        if sense.auto:
            self._senses[self._sensed] = replace(sense, range=fitting(self._sensed, value))
        elif abs(value) > OVER_RANGE * sense.range:
            value = INFINITY
        return value

    def _quantity(self, quantity: str) -> float:
        if quantity == "VOLT":
            return self._port.voltage_v()
        current_a = self._port.current_a()
        if quantity == "CURR":
            return current_a
        return self._port.voltage_v() / current_a if current_a else INFINITY


def _first(suffixes: Suffixes) -> None:
    if suffixes[0] != 1:
        raise ScpiError(-114)


def _user(suffixes: Suffixes) -> int:
    if suffixes[-1] not in USER_DELAYS:
        raise ScpiError(-114)
    return suffixes[-1]


def _beep(_: Suffixes, parameters: Parameters) -> None:
    if len(parameters) != 2:
        raise ScpiError(-109 if len(parameters) < 2 else -108)
    Number("HZ", 20.0, 8e3).parse(parameters[0])
    Number("S", 0.0, 100.0).parse(parameters[1])
