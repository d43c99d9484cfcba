"""The instrument side of SCPI: commands are declared, bytes come in, replies go out; no I/O.

Source: IEEE 488.2-1992 (message exchange, status reporting, common commands) and SCPI-99.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from labctl.instruments.codecs.scpi_input import MessageInput
from labctl.instruments.codecs.scpi_status import (
    MASTER_SUMMARY,
    OPERATION_COMPLETE,
    ScpiError,
    Status,
)
from labctl.instruments.codecs.scpi_syntax import ProgramUnit, header_expression, program_units
from labctl.instruments.codecs.scpi_values import Integer, Kind, Parameter

T = TypeVar("T")

Suffixes = tuple[int, ...]
Parameters = Sequence[Parameter]
Reply = str | bytes
Do = Callable[[Suffixes, Parameters], None]
Ask = Callable[[Suffixes, Parameters], Reply]

KEYSIGHT_ERRORS = '{code:+d},"{text}"'
SCPI_ERRORS = '{code:d},"{text}"'

_BYTE = Integer(0, 255)
# Of one message, which is carried out without a pause; the longest set-ups have some fifty.
MOST_UNITS = 1000
_CACHED_BYTES = 128
_CACHED_MESSAGES = 1024


@dataclass(frozen=True)
class Command:
    """A header and what it does as a command and as a query; None: not allowed as such.

    Handlers get the numeric suffixes, one for each `#` of the pattern (1 where none was sent),
    and the parameters. They raise ScpiError to queue an error. A command that `waits` is not
    begun, nor anything behind it, while the instrument is busy. `kind`: of the one value that a
    setting takes, None for other commands.
    """

    pattern: str
    do: Do | None = None
    ask: Ask | None = None
    waits: bool = False
    kind: Kind[Any] | None = None


def only(parameters: Parameters) -> Parameter:
    """Return the one parameter there must be; raises ScpiError -109 or -108."""
    if not parameters:
        raise ScpiError(-109)
    if len(parameters) > 1:
        raise ScpiError(-108)
    return parameters[0]


def none(parameters: Parameters) -> None:
    """Raise ScpiError -108 if there is a parameter."""
    if parameters:
        raise ScpiError(-108)


def setting(
    pattern: str, kind: Kind[T], get: Callable[[Suffixes], T], put: Callable[[Suffixes, T], None]
) -> Command:
    """Declare a setting of one value with its query, which also answers `? MIN|MAX|DEF`."""

    def do(suffixes: Suffixes, parameters: Parameters) -> None:
        put(suffixes, kind.parse(only(parameters)))

    def ask(suffixes: Suffixes, parameters: Parameters) -> Reply:
        value = kind.limit(only(parameters)) if parameters else get(suffixes)
        return kind.format(value)

    return Command(pattern, do, ask, kind=kind)


def readout(pattern: str, get: Callable[[Suffixes], Reply]) -> Command:
    """Declare a query without parameters."""

    def ask(suffixes: Suffixes, parameters: Parameters) -> Reply:
        none(parameters)
        return get(suffixes)

    return Command(pattern, ask=ask)


def action(pattern: str, run: Callable[[Suffixes], None]) -> Command:
    """Declare a command without parameters."""

    def do(suffixes: Suffixes, parameters: Parameters) -> None:
        none(parameters)
        run(suffixes)

    return Command(pattern, do)


class _Step(NamedTuple):
    """One unit of a message, resolved; `fault` is what is wrong with it, if anything."""

    do: Do | None = None
    ask: Ask | None = None
    suffixes: Suffixes = ()
    parameters: Parameters = ()
    waits: bool = False
    fault: ScpiError | None = None


class ScpiCore:
    """Parser, status reporting and output queue of one instrument.

    `reset` is *RST; `trigger` is *TRG, absent if None; `busy` returns whether an overlapped
    operation is still running: *OPC?, *WAI and *OPC wait for it. Error replies follow
    `error_style`, the error queue holds `error_depth` entries. A message has at most
    `message_bytes` and 1000 commands, replies that wait at most `output_bytes` (beyond: -363,
    -430). `declared` are all commands. `last_may_lack` is for instruments that take a comma with
    nothing behind it for an omitted last parameter, which IEEE 488.2 does not allow.
    """

    def __init__(
        self,
        commands: Iterable[Command],
        *,
        identity: str,
        reset: Callable[[], None],
        trigger: Callable[[], None] | None = None,
        busy: Callable[[], bool] = lambda: False,
        error_depth: int = 20,
        error_style: str = KEYSIGHT_ERRORS,
        message_bytes: int = 1 << 28,
        output_bytes: int = 1 << 28,
        last_may_lack: bool = False,
    ) -> None:
        self._identity, self._reset, self._trigger = identity, reset, trigger
        self._busy = busy
        self._last_may_lack = last_may_lack
        self.status = Status(error_depth, error_style)
        self.declared = (*commands, *self._common_commands())
        self._commands = [(header_expression(c.pattern), c) for c in self.declared]
        self._input = MessageInput(message_bytes)
        self._input_limit = message_bytes
        self._output: deque[bytes] = deque()
        self._output_bytes, self._output_limit = 0, output_bytes
        self._sent = 0
        self._steps: deque[_Step] = deque()
        self._parts: list[bytes] = []
        self._part_bytes = 0
        self._completion_asked = False
        self._cache: dict[bytes, tuple[_Step, ...]] = {}
        self._headers: dict[tuple[str, bool], tuple[Command, Suffixes] | None] = {}

    def write(self, data: bytes, *, end: bool) -> None:
        """Take bytes from the host and carry out the messages that they complete.

        On a wire with END, a new message while a reply waits is a query error (-410) and the
        reply is lost, and so is that of a message that is not finished, once it is (IEEE 488.2
        section 6.3.2.3); on a wire without, replies queue up.
        """
        if end and self._output:
            self._interrupt()
        steps = self._cache.get(data)
        if steps is not None and (end or data[-1] == 10) and not (self._steps or self._input):
            self._begin(steps)
            return
        self._input.feed(data, end)
        self._remember(data)
        self._run()

    def read(self, limit: int) -> tuple[bytes, bool]:
        """Hand out up to `limit` bytes of the oldest reply, and whether it ends with them."""
        if self._steps:
            self._run()
        if not self._output:
            return b"", False
        reply, start = self._output[0], self._sent
        if start == 0 and len(reply) <= limit:
            self._take_reply()
            return reply, True
        chunk = bytes(memoryview(reply)[start : start + limit])
        self._sent += len(chunk)
        if self._sent < len(reply):
            return chunk, False
        self._take_reply()
        return chunk, True

    def _take_reply(self) -> None:
        self._output_bytes -= len(self._output.popleft())
        self._sent = 0
        self._note_reasons()

    def read_timed_out(self) -> None:
        """Note that the host timed out on a reply: a query error (-420), unless one is pending."""
        if not (self._steps or self._output):
            self.status.fault(ScpiError(-420))

    def clear(self) -> None:
        """Device clear: forget input, output and commands that wait."""
        self._input.clear()
        self._drop_output()
        self._steps.clear()
        self._parts.clear()
        self._part_bytes = 0
        self._completion_asked = False

    def power_cycle(self) -> None:
        """Lose the supply and come back: settings, queues and registers as after switching on."""
        self.clear()
        self._reset()
        self.status.power_on()

    def status_byte(self) -> int:
        """Return the status byte as a serial poll would read it; bit 6 is the service request."""
        self._note_completion()
        return self.status.polled_byte(bool(self._output))

    def serial_poll(self) -> int:
        """Return the status byte and end the service request (IEEE 488.2 section 11.2.2.1)."""
        value = self.status_byte()
        self.status.end_request()
        return value

    def master_status(self) -> int:
        """Return the status byte as *STB? replies it; bit 6 is the master summary."""
        self._note_completion()
        return self.status.byte(bool(self._output))

    def _interrupt(self) -> None:
        self._drop_output()
        self.status.fault(ScpiError(-410))

    def _drop_output(self) -> None:
        self._output.clear()
        self._output_bytes = self._sent = 0
        self._note_reasons()

    def _note_reasons(self) -> None:
        if self.status.service_enable:
            self.status.note_reasons(bool(self._output))

    def _remember(self, data: bytes) -> None:
        """Cache the steps of a short write that is exactly one message."""
        message = data.rstrip(b"\r\n")
        if len(data) > _CACHED_BYTES or self._steps or len(self._input) != len(data):
            return
        if b"\n" in message or b"#" in message or not message:
            return
        if len(self._cache) >= _CACHED_MESSAGES:
            self._cache.clear()
        self._cache[data] = tuple(self._resolve(message))

    def _run(self) -> None:
        """Carry out what is complete, until something has to wait."""
        while not self._steps or self._carry_out():
            try:
                message = self._input.take()
            except ScpiError:
                self.status.fault(self._too_long())
                continue
            if message is None:
                return
            self._steps.extend(self._resolve(message))
        if len(self._input) > self._input_limit:
            self._input.clear()
            self.status.fault(self._too_long())

    def _too_long(self) -> ScpiError:
        return ScpiError(-363, f"a message has at most {self._input_limit} bytes")

    def _begin(self, steps: tuple[_Step, ...]) -> None:
        self._input.passed_by()
        self._steps.extend(steps)
        self._carry_out()

    def _carry_out(self) -> bool:
        """Carry out the steps of one message; False if the next of them has to wait."""
        while self._steps:
            step = self._steps[0]
            if step.waits and self._busy():
                return False
            self._steps.popleft()
            try:
                self._perform(step)
            except ScpiError as fault:
                self.status.fault(fault)
                if -200 < fault.code <= -100:
                    self._steps.clear()
            self._note_reasons()
        if self._parts:
            self._answer(b";".join(self._parts) + b"\n")
            self._parts.clear()
            self._part_bytes = 0
            self._note_reasons()
        return True

    def _perform(self, step: _Step) -> None:
        if step.ask is not None:
            reply = step.ask(step.suffixes, step.parameters)
            if isinstance(reply, str):
                # Upper case of what came in as Latin-1 need not be Latin-1.
                reply = reply.encode("latin-1", "replace")
            if self._part_bytes + len(reply) > self._output_limit:
                self._parts.clear()
                self._part_bytes = 0
                raise ScpiError(-430)
            self._parts.append(reply)
            self._part_bytes += len(reply)
        elif step.do is not None:
            step.do(step.suffixes, step.parameters)
        elif step.fault is not None:
            raise step.fault

    def _answer(self, reply: bytes) -> None:
        if self._input.is_followed:
            self._interrupt()
            return
        if self._output_bytes + len(reply) > self._output_limit:
            self._drop_output()
            self.status.fault(ScpiError(-430))
            return
        self._output.append(reply)
        self._output_bytes += len(reply)

    def _resolve(self, message: bytes) -> Iterable[_Step]:
        try:
            units = program_units(message, last_may_lack=self._last_may_lack)
            for number, unit in enumerate(units):
                if number == MOST_UNITS:
                    raise ScpiError(-363, f"a message has at most {MOST_UNITS} commands")
                yield self._step(unit)
        except ScpiError as fault:
            yield _Step(fault=fault)

    def _step(self, unit: ProgramUnit) -> _Step:
        found = self._declared_as(unit.header, unit.query)
        if found is None:
            return _Step(fault=ScpiError(-113, unit.header.lstrip(":")[:32]))
        command, suffixes = found
        if unit.query:
            return _Step(None, command.ask, suffixes, unit.parameters, command.waits)
        return _Step(command.do, None, suffixes, unit.parameters, command.waits)

    def _declared_as(self, header: str, query: bool) -> tuple[Command, Suffixes] | None:
        """Return the command, or query, of a header with its suffixes; None if there is none.

        A setting is sent again and again, each time with another value: its header is looked
        for once.
        """
        if (header, query) not in self._headers:
            if len(self._headers) >= _CACHED_MESSAGES:
                self._headers.clear()
            self._headers[header, query] = next(self._searched(header, query), None)
        return self._headers[header, query]

    def _searched(self, header: str, query: bool) -> Iterator[tuple[Command, Suffixes]]:
        for expression, command in self._commands:
            match = expression.fullmatch(header)
            if match is not None and (command.ask if query else command.do) is not None:
                yield command, tuple(int(group or 1) for group in match.groups())

    def _common_commands(self) -> list[Command]:
        status = self.status
        commands = [
            action("*CLS", lambda _: self._clear_status()),
            setting("*ESE", _BYTE, lambda _: status.event_enable, self._enable_events),
            setting("*SRE", _BYTE, lambda _: status.service_enable, self._enable_service),
            readout("*ESR", lambda _: self._take_event()),
            readout("*IDN", lambda _: self._identity),
            action("*OPC", lambda _: self._ask_completion()),
            Command("*OPC", ask=readout("*OPC", lambda _: "1").ask, waits=True),
            action("*RST", lambda _: self._reset()),
            readout("*STB", lambda _: str(self.master_status())),
            readout("*TST", lambda _: "0"),
            Command("*WAI", action("*WAI", lambda _: None).do, waits=True),
            readout(":SYSTem:ERRor[:NEXT]", lambda _: status.next_error()),
        ]
        trigger = self._trigger
        return commands if trigger is None else [*commands, action("*TRG", lambda _: trigger())]

    def _enable_events(self, _: Suffixes, mask: int) -> None:
        self.status.event_enable = mask

    def _enable_service(self, _: Suffixes, mask: int) -> None:
        self.status.service_enable = mask & ~MASTER_SUMMARY
        self.status.note_reasons(bool(self._output))

    def _clear_status(self) -> None:
        self._completion_asked = False
        self.status.clear()

    def _ask_completion(self) -> None:
        self._completion_asked = True
        self._note_completion()

    def _note_completion(self) -> None:
        if self._completion_asked and not self._busy():
            self._completion_asked = False
            self.status.event |= OPERATION_COMPLETE

    def _take_event(self) -> str:
        self._note_completion()
        return str(self.status.take_event())
