"""Qontrol Q8iv eight-channel voltage driver with current read-back (serial, 115200 baud).

Commands: the vendor's library and manual, section 11 of the command tables [V]. A setting is
answered `OK`. Lines `E<nn>:<ch>` come at any time: some instead of an answer, others (a load that
takes more than its limits) on their own. Every setting is therefore followed by a reading of the
same channel, and whatever line of that kind has arrived by then is raised.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import Field

from labctl.errors import (
    InstrumentError,
    InstrumentReportedError,
    InstrumentTimeoutError,
    LimitError,
    ReplyError,
)
from labctl.instruments.capabilities import Identity, SourceMeter
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.visa_lines import LinesTransport, open_visa_lines

_ERRORS = {
    1: "over-voltage",
    2: "over-current",
    3: "power error",
    10: "command not recognised",
    11: "bad parameter",
    12: "bad channel",
    13: "forbidden",
    14: "overflow",
    15: "communication error",
    16: "time-out",
    30: "more errors suppressed",
    90: "module powered up: outputs and limits are lost",
}
_REFUSALS = range(10, 17)
_POWERED_UP = 90
_ERROR_LINE = re.compile(r"E(\d+):(\d+)")
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d*)?)\s*(V|mA)")


class Q8ivOptions(DriverOptions):
    """Line, channels, and limits that the module itself enforces.

    `channels`: 8 for each module of a chain. `max_voltage_v` (V) and `max_current_a` (A): written
    to VMAX and IMAX of a channel before its first voltage; unless given, the module's stay.
    """

    baud_rate: int = Field(default=115_200, gt=0)
    timeout_s: float = Field(default=2.0, gt=0)
    channels: int = Field(default=8, ge=1)
    max_voltage_v: float | None = Field(default=None, gt=0)
    max_current_a: float | None = Field(default=None, gt=0)


class QontrolQ8iv:
    """SourceMeters, one for each channel (`dc_output`); voltages are 0 or positive."""

    def __init__(self, transport: LinesTransport, options: Q8ivOptions | None = None) -> None:
        self.name = transport.name
        self._transport = transport
        self._options = options or Q8ivOptions()
        self._full_scale: tuple[float, float] | None = None
        self._limited: set[int] = set()

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify.

        Raises SettingError, ConnectionFailedError, or LimitError if the options' limits are
        beyond what the module can.
        """
        read = read_options(Q8ivOptions, name, options)
        transport = open_visa_lines(
            name,
            address,
            library=library,
            timeout_s=read.timeout_s,
            baud_rate=read.baud_rate,
            end="\n",
        )
        source = cls(transport, read)
        return verified(source, address, source.identify, source.check_limits)

    def identify(self) -> Identity:
        """Ask `id?`; raises ReplyError if no Q8iv answers."""
        reply = self._query("id?")
        model, _, serial = reply.partition("-")
        if model.upper() != "Q8IV":
            raise ReplyError(self.name, f"{reply!r} answers, a Q8iv is expected", "id?")
        return Identity("Qontrol", model, serial, "")

    def full_scale(self) -> tuple[float, float]:
        """Return the largest voltage in V and the largest current in A; asked for once."""
        if self._full_scale is None:
            self._full_scale = self._quantity("vfull?", "V"), self._quantity("ifull?", "mA") * 1e-3
        return self._full_scale

    def check_limits(self) -> None:
        """Raise LimitError if the options' limits are beyond the module's full scale."""
        full_v, full_a = self.full_scale()
        self._check("option max_voltage_v", self._options.max_voltage_v or 0.0, full_v, "V")
        self._check("option max_current_a", self._options.max_current_a or 0.0, full_a, "A")

    def dc_output(self, channel: int) -> SourceMeter:
        """Return a channel (from 0, as the module counts); nothing is sent before it is used."""
        self._check_channel(channel)
        return _Output(self, channel)

    def hold_voltage(self, channel: int, voltage_v: float) -> None:
        """Apply a voltage in V to a channel; raises LimitError."""
        self._check_channel(channel)
        self._check("voltage_v", voltage_v, self._highest_v(), "V")
        self._limit(channel)
        self._set(f"V{channel}={abs(voltage_v):.5f}", f"V{channel}?")

    def set_voltages(self, voltages_v: Sequence[float]) -> None:
        """Apply voltages in V to all channels of the first module at once; raises LimitError."""
        channels = min(8, self._options.channels)
        if len(voltages_v) != channels:
            raise LimitError(self.name, "number of voltages", len(voltages_v), str(channels))
        for voltage_v in voltages_v:
            self._check("voltage_v", voltage_v, self._highest_v(), "V")
        for channel in range(channels):
            self._limit(channel)
        values = ",".join(f"{abs(voltage_v):.5f}" for voltage_v in voltages_v)
        self._set(f"VVEC0={values}", "V1?")

    def channel_voltage_v(self, channel: int) -> float:
        """Return the voltage in V that the module reports for a channel."""
        self._check_channel(channel)
        return self._quantity(f"V{channel}?", "V")

    def channel_current_a(self, channel: int) -> float:
        """Return the current in A that a channel delivers."""
        self._check_channel(channel)
        return self._quantity(f"I{channel}?", "mA") * 1e-3

    def voltages_v(self) -> tuple[float, ...]:
        """Return the voltages in V of all channels."""
        return self._quantities("Vall?", "V")

    def currents_a(self) -> tuple[float, ...]:
        """Return the currents in A of all channels."""
        return tuple(current_ma * 1e-3 for current_ma in self._quantities("Iall?", "mA"))

    def limit_current(self, channel: int, current_a: float) -> None:
        """Set the current in A above which the module reports an over-current (IMAX).

        Raises LimitError.
        """
        self._check_channel(channel)
        if not current_a > 0:
            raise LimitError(self.name, "current_a", current_a, "above 0 A")
        self._check("current_a", current_a, self._highest_a(), "A")
        self._limit(channel)
        self._set(f"IMAX{channel}={current_a * 1e3:.4f}", f"V{channel}?")

    def safe_state(self) -> None:
        """Put all channels to 0 V; each also when another fails."""
        failures: list[InstrumentError] = []
        for channel in self._channels():
            try:
                self._acknowledged(f"V{channel}=0")
            except InstrumentError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def close(self) -> None:
        """End the session."""
        self._transport.close()

    def _channels(self) -> range:
        return range(self._options.channels)

    def _check_channel(self, channel: int) -> None:
        if channel not in self._channels():
            raise LimitError(self.name, "channel", channel, f"0 to {self._options.channels - 1}")

    def _check(self, what: str, value: float, highest: float, unit: str) -> None:
        if not 0 <= value <= highest:
            raise LimitError(self.name, what, value, f"0 to {highest:g} {unit}")

    def _highest_v(self) -> float:
        limit_v = self._options.max_voltage_v
        return self.full_scale()[0] if limit_v is None else min(limit_v, self.full_scale()[0])

    def _highest_a(self) -> float:
        limit_a = self._options.max_current_a
        return self.full_scale()[1] if limit_a is None else min(limit_a, self.full_scale()[1])

    def _limit(self, channel: int) -> None:
        if channel in self._limited:
            return
        if self._options.max_voltage_v is not None:
            self._acknowledged(f"VMAX{channel}={self._options.max_voltage_v:.5f}")
        if self._options.max_current_a is not None:
            self._acknowledged(f"IMAX{channel}={self._options.max_current_a * 1e3:.4f}")
        self._limited.add(channel)

    def _set(self, command: str, reading: str) -> None:
        self._acknowledged(command)
        self._exchange(reading, 1, blamed=command)

    def _acknowledged(self, command: str) -> None:
        reply = self._query(command)
        if reply != "OK":
            self._transport.clear()
            raise ReplyError(self.name, f"answered {reply!r} where OK is due", command)

    def _query(self, command: str) -> str:
        return self._exchange(command, 1, blamed=command)[0]

    def _quantity(self, command: str, unit: str) -> float:
        return self._parsed(self._query(command), unit, command)

    def _quantities(self, command: str, unit: str) -> tuple[float, ...]:
        lines = self._exchange(command, self._options.channels, blamed=command)
        return tuple(self._parsed(line, unit, command) for line in lines)

    def _parsed(self, reply: str, unit: str, command: str) -> float:
        match = _QUANTITY.fullmatch(reply)
        if match is None or match.group(2) != unit:
            self._transport.clear()
            problem = f"answered {reply!r} where a number and {unit} are due"
            raise ReplyError(self.name, problem, command)
        return float(match.group(1))

    def _exchange(self, command: str, count: int, *, blamed: str) -> list[str]:
        """Return `count` lines of answer; raise the first error line among or instead of them."""
        answer: list[str] = []
        errors: list[tuple[int, int]] = []

        def complete(lines: Sequence[str]) -> bool:
            match = _ERROR_LINE.fullmatch(lines[-1])
            if match is not None:
                errors.append((int(match.group(1)), int(match.group(2))))
                return errors[-1][0] in _REFUSALS
            if lines[-1]:
                answer.append(lines[-1])
            return len(answer) == count

        try:
            self._transport.exchange(command, complete)
        except InstrumentTimeoutError:
            self._raise(errors, blamed)
            raise
        self._raise(errors, blamed)
        return answer

    def _raise(self, errors: Sequence[tuple[int, int]], command: str) -> None:
        if any(code == _POWERED_UP for code, _ in errors):
            self._limited.clear()
        for code, channel in errors:
            message = f"{_ERRORS.get(code, 'unknown error')} (channel {channel})"
            raise InstrumentReportedError(self.name, code, message, command)


class _Output:
    """One channel of the module as a SourceMeter."""

    def __init__(self, source: QontrolQ8iv, channel: int) -> None:
        self._source = source
        self._channel = channel

    def set_voltage(self, voltage_v: float) -> None:
        self._source.hold_voltage(self._channel, voltage_v)

    def voltage_v(self) -> float:
        return self._source.channel_voltage_v(self._channel)

    def set_current_limit(self, current_a: float) -> None:
        self._source.limit_current(self._channel, current_a)

    def measured_voltage_v(self) -> float:
        return self._source.channel_voltage_v(self._channel)

    def measured_current_a(self) -> float:
        return self._source.channel_current_a(self._channel)
