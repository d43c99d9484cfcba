"""Front panel of a Qontrol Q8iv multichannel driver: text lines in, values and error lines out.

Source: docs/wire/qontrol_q8iv.md, sections Line, Commands, Error lines and Assumed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from labctl.clock import Clock
from labctl.instruments.simulated.panels.qontrol_frames import (
    begins_frame,
    frame_command,
    frame_length,
)
from labctl.instruments.simulated.panels.serial_lines import LineInput, LineOutput
from labctl.instruments.simulated.ports import SourcePort

# Numbers of error lines (docs/wire/qontrol_q8iv.md).
OVER_VOLTAGE, OVER_CURRENT = 1, 2
UNRECOGNISED, BAD_PARAMETER, BAD_CHANNEL, FORBIDDEN = 10, 11, 12, 13
VECTORS = ("VVEC", "IVEC", "VMAXVEC", "IMAXVEC")
_COMMAND = re.compile(r"(NUPALL|VALL|IALL|[A-Z]+)(\d{0,4})(\?|=)(.*)", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
# What falls short by less may be the noise of a reading.
_SHORT_SHARE, _SHORT_V, _SHORT_A = 0.01, 5e-3, 20e-6
# Bytes of one command, here: room for 256 values of a vector.
_LONGEST_LINE = 4096


class FaultError(Exception):
    """The reply is an error line with this number and channel."""

    def __init__(self, number: int, channel: int = 0) -> None:
        super().__init__(f"E{number:02d}:{channel:02d}")


@dataclass(frozen=True)
class Channel:
    """Settings of one channel, in V and A: the quantity it holds, and its limits."""

    voltage_limit_v: float
    current_limit_a: float
    holds_voltage: bool = True
    value: float = 0.0


class QontrolQ8ivPanel:
    """One module with a channel per entry of `outputs`, from 0; satisfies `FrontPanel`.

    A channel holds the voltage (V) or the current (I) that was set last, up to VMAX and IMAX; V?
    and I? are what it measures, in V and mA. When a channel comes to its limit, an error line
    `E01:<channel>` or `E02:<channel>` comes at the next message or read, once until it has left
    the limit. Assumed, not confirmed by a source: that a channel at a limit stays there, two digits
    and 00 for no channel in error lines, and the texts of firmware and lifetime. Binary
    frames are answered in text, as the vendor's library reads them; those by device number or to
    all modules are unrecognised.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        outputs: Mapping[int, SourcePort],
        *,
        identity: str = "Q8iv-0123",
        firmware: str = "1.0.0",
        lifetime: str = "0",
        full_scale_v: float = 12.0,
        full_scale_a: float = 24e-3,
    ) -> None:
        self.name, self._clock, self._ports = name, clock, dict(sorted(outputs.items()))
        self._identity, self._index = identity, 0
        self._texts = {"ID": identity, "FIRMWARE": firmware, "LIFETIME": lifetime}
        self._full_v, self._full_a = full_scale_v, full_scale_a
        self._input, self._output = LineInput(longest=_LONGEST_LINE), LineOutput()
        self._frame = bytearray()
        self._channels = {n: Channel(full_scale_v, full_scale_a) for n in self._ports}
        self._limited: dict[int, int | None] = dict.fromkeys(self._ports)
        for number in self._ports:
            self._apply(number)

    def write(self, data: bytes, *, end: bool) -> None:
        """Take bytes from the host and answer the lines that they complete."""
        for part in self._parts(data):
            self._input.feed(part, end=False)
            self._work()
        if end:
            self._input.feed(b"", end=True)
            self._frame.clear()
            self._work()

    def read(self, limit: int) -> tuple[bytes, bool]:
        """Hand out up to `limit` bytes of the oldest line, and whether it ends with them."""
        self._watch()
        return self._output.read(limit)

    def clear(self) -> None:
        """Drop half a line and replies that wait."""
        self._input.clear()
        self._output.clear()
        self._frame.clear()

    def status_byte(self) -> int:
        """Return 0: it has none."""
        return 0

    def _parts(self, data: bytes) -> Iterator[bytes]:
        """Yield what was received, with each binary frame as the equivalent line."""
        for byte in data:
            if not self._frame and not begins_frame(byte):
                yield bytes((byte,))
                continue
            self._frame.append(byte)
            if len(self._frame) == frame_length(self._frame):
                line = frame_command(self._frame, self._full_v, self._full_a * 1e3)
                self._frame.clear()
                yield f"\n{line}\n".encode("latin-1")

    def _work(self) -> None:
        """Answer the lines that wait."""
        while (line := self._input.take()) is not None:
            self._output.put(self._answer(line))
            self._watch()

    def _answer(self, line: str) -> str:
        try:
            lines = self._carry_out(line.upper())
        except FaultError as fault:
            lines = [str(fault)]
        return "".join(f"{text}\n" for text in lines)

    def _carry_out(self, line: str) -> list[str]:
        match = _COMMAND.fullmatch(line)
        if match is None:
            raise FaultError(UNRECOGNISED)
        header, digits, operator, argument = match.groups()
        if header in ("V", "I", "VMAX", "IMAX"):
            return self._channel_command(header, digits, operator, argument)
        if header in VECTORS and operator == "=":
            return self._put_vector(header.removesuffix("VEC"), digits, argument)
        if header == "NUP" and operator == "=" and not digits:
            self._index = int(self._number(argument, 0, 255.0))
            return ["OK"]
        if digits:
            raise FaultError(UNRECOGNISED)
        return self._module_query(header, operator)

    def _module_query(self, header: str, operator: str) -> list[str]:
        queries = {
            **{name: [text] for name, text in self._texts.items()},
            "NUP": [f"{self._identity} : {self._index}"],
            "NUPALL": [f"{self._identity} : {self._index}"],
            "NCHAN": [str(len(self._ports))],
            "VFULL": [_volts(self._full_v)],
            "IFULL": [_milliamperes(self._full_a)],
            "VALL": [_volts(port.voltage_v()) for port in self._ports.values()],
            "IALL": [_milliamperes(port.current_a()) for port in self._ports.values()],
        }
        if header not in queries:
            raise FaultError(UNRECOGNISED)
        if operator == "=":
            raise FaultError(FORBIDDEN)
        return queries[header]

    def _channel_command(self, header: str, digits: str, operator: str, argument: str) -> list[str]:
        number = self._number_of(digits)
        if operator == "=":
            self._put(header, number, argument)
            return ["OK"]
        channel, port = self._channels[number], self._ports[number]
        if header == "V":
            return [_volts(port.voltage_v())]
        if header == "I":
            return [_milliamperes(port.current_a())]
        if header == "VMAX":
            return [_volts(channel.voltage_limit_v)]
        return [_milliamperes(channel.current_limit_a)]

    def _number_of(self, digits: str) -> int:
        number = int(digits) if digits else -1
        if number not in self._ports:
            raise FaultError(BAD_CHANNEL, max(number, 0))
        return number

    def _put(self, header: str, number: int, argument: str) -> None:
        in_volts = header.startswith("V")
        value = self._number(argument, number, self._largest(header))
        value *= 1.0 if in_volts else 1e-3
        channel = self._channels[number]
        if header == "VMAX":
            channel = replace(channel, voltage_limit_v=value)
        elif header == "IMAX":
            channel = replace(channel, current_limit_a=value)
        else:
            channel = replace(channel, holds_voltage=in_volts, value=value)
        self._channels[number] = channel
        self._apply(number)

    def _put_vector(self, header: str, digits: str, argument: str) -> list[str]:
        """Set what `header` is of channels in a row: of all of them, or none if one is wrong."""
        first = self._number_of(digits)
        words = argument.split(",")
        numbers = range(first, first + len(words))
        if any(number not in self._ports for number in numbers):
            raise FaultError(BAD_PARAMETER, first)
        for number, word in zip(numbers, words, strict=True):
            self._number(word, number, self._largest(header))
        for number, word in zip(numbers, words, strict=True):
            self._put(header, number, word)
        return ["OK"]

    def _largest(self, header: str) -> float:
        return self._full_v if header.startswith("V") else self._full_a * 1e3

    def _number(self, text: str, channel: int, largest: float) -> float:
        if _NUMBER.fullmatch(text.strip()) is None or not 0.0 <= float(text) <= largest:
            raise FaultError(BAD_PARAMETER, channel)
        return float(text)

    def _apply(self, number: int) -> None:
        channel, port = self._channels[number], self._ports[number]
        limit_v, limit_a = channel.voltage_limit_v, channel.current_limit_a
        if channel.holds_voltage:
            port.force_voltage(True, min(channel.value, limit_v), limit_a)
        else:
            port.force_current(True, min(channel.value, limit_a), limit_v)

    def _watch(self) -> None:
        """Send an error line for each channel that has come to a limit."""
        for number in self._ports:
            fault = self._limit(number)
            if fault is not None and fault != self._limited[number]:
                self._output.put(f"E{fault:02d}:{number:02d}\n")
            self._limited[number] = fault

    def _limit(self, number: int) -> int | None:
        """Return which limit keeps a channel from what was set, if any."""
        channel, port = self._channels[number], self._ports[number]
        own, other = OVER_VOLTAGE, OVER_CURRENT
        own_limit, actual, noise = channel.voltage_limit_v, port.voltage_v(), _SHORT_V
        if not channel.holds_voltage:
            own, other = other, own
            own_limit, actual, noise = channel.current_limit_a, port.current_a(), _SHORT_A
        if channel.value > own_limit:
            return own
        short = channel.value - actual
        return other if short > max(channel.value * _SHORT_SHARE, noise) else None


def _volts(voltage_v: float) -> str:
    return f"{voltage_v:+.3f} V"


def _milliamperes(current_a: float) -> str:
    return f"{current_a * 1e3:+.3f} mA"
