"""Qontrol Q8iv eight-channel voltage driver with current read-back (serial, 115200 baud).

Commands: docs/wire/qontrol_q8iv.md, sections Commands and Error lines [V]. The module reports a
load that takes more than its limits in a separate error line: every setting is therefore
followed by a reading of the same channel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Self

from pydantic import Field

from labctl.errors import LimitError, ReplyError
from labctl.hazards import Hazard
from labctl.instruments.capabilities import Identity, SourceMeter
from labctl.instruments.driver_rules import (
    require_channel,
    require_positive,
    require_range,
    try_all,
)
from labctl.instruments.sources.qontrol_lines import QontrolLines
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.transport import LinesTransport
from labctl.instruments.transports.visa_lines import open_visa_lines

# A reading of a channel is what is at its output: it differs from what was set by the converters'
# errors, which no source states. 50 mV is assumed (docs/wire/qontrol_q8iv.md, section Assumed) [M].
_SCATTER_V = 50e-3
# Limits are shown to a thousandth of a volt and of a milliampere (same page, section Commands).
_SHOWN = 1e-3


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

    def channel_range(self) -> range:
        """Return the numbers of the channels."""
        return range(self.channels)


class QontrolQ8iv:
    """SourceMeters, one for each channel (`dc_output`); voltages are 0 or positive."""

    Options = Q8ivOptions
    hazard = Hazard.HEATER

    def __init__(self, transport: LinesTransport, options: Q8ivOptions | None = None) -> None:
        self.name = transport.name
        self._transport = transport
        self._options = options or Q8ivOptions()
        self._lines = QontrolLines(transport, self._forget_limits)
        self._full_scale: tuple[float, float] | None = None
        self._limited: set[int] = set()
        self._channels = self._options.channel_range()

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
        reply = self._lines.query("id?")
        model, _, serial = reply.partition("-")
        if model.upper() != "Q8IV":
            raise ReplyError(self.name, f"expected a Q8iv, got {reply!r}", "id?")
        return Identity("Qontrol", model, serial, "")

    def full_scale(self) -> tuple[float, float]:
        """Return the largest voltage in V and the largest current in A; asked for once."""
        if self._full_scale is None:
            self._full_scale = (
                self._lines.quantity("vfull?", "V"),
                self._lines.quantity("ifull?", "mA") * 1e-3,
            )
        return self._full_scale

    def check_limits(self) -> None:
        """Raise LimitError if the options' limits are beyond the module's full scale."""
        full_v, full_a = self.full_scale()
        require_range(
            self.name, "option max_voltage_v", self._options.max_voltage_v or 0.0, 0, full_v, "V"
        )
        require_range(
            self.name, "option max_current_a", self._options.max_current_a or 0.0, 0, full_a, "A"
        )

    def dc_output(self, channel: int) -> SourceMeter:
        """Return a channel (from 0, as the module counts); nothing is sent before it is used."""
        self._check_channel(channel)
        return _Output(self, channel)

    def hold_voltage(self, channel: int, voltage_v: float) -> None:
        """Apply a voltage in V to a channel; raises LimitError."""
        self._check_channel(channel)
        require_range(self.name, "voltage_v", voltage_v, 0, self._highest_v(), "V")
        self._limit(channel)
        setting, reading = f"V{channel}={abs(voltage_v):.5f}", f"V{channel}?"
        self._lines.set_and_see(setting, reading, voltage_v, "V", scatter=_SCATTER_V)

    def set_voltages(self, voltages_v: Sequence[float]) -> None:
        """Apply voltages in V to all channels of the first module at once; raises LimitError."""
        channels = min(8, self._options.channels)
        if len(voltages_v) != channels:
            raise LimitError(self.name, "number of voltages", len(voltages_v), str(channels))
        for voltage_v in voltages_v:
            require_range(self.name, "voltage_v", voltage_v, 0, self._highest_v(), "V")
        for channel in range(channels):
            self._limit(channel)
        values = ",".join(f"{abs(voltage_v):.5f}" for voltage_v in voltages_v)
        self._lines.set(f"VVEC0={values}", "V1?")

    def channel_voltage_v(self, channel: int) -> float:
        """Return the voltage in V that the module reports for a channel."""
        self._check_channel(channel)
        return self._lines.quantity(f"V{channel}?", "V")

    def channel_current_a(self, channel: int) -> float:
        """Return the current in A that a channel delivers."""
        self._check_channel(channel)
        return self._lines.quantity(f"I{channel}?", "mA") * 1e-3

    def voltages_v(self) -> tuple[float, ...]:
        """Return the voltages in V of all channels."""
        return self._lines.quantities("Vall?", "V", self._options.channels)

    def currents_a(self) -> tuple[float, ...]:
        """Return the currents in A of all channels."""
        currents_ma = self._lines.quantities("Iall?", "mA", self._options.channels)
        return tuple(current_ma * 1e-3 for current_ma in currents_ma)

    def limit_current(self, channel: int, current_a: float) -> None:
        """Set the current in A above which the module reports an over-current (IMAX).

        Raises LimitError.
        """
        self._check_channel(channel)
        require_positive(self.name, "current_a", current_a, self._highest_a(), "A")
        self._limit(channel)
        self._write_current_limit(channel, current_a)

    def set_limits(self, channel: int, *, voltage_v: float, current_a: float) -> None:
        """Set the voltage (V) and the current (A) above which the module reports an error.

        They are VMAX and IMAX. Raises LimitError.
        """
        self._check_channel(channel)
        require_range(self.name, "voltage_v", voltage_v, 0, self._highest_v(), "V")
        require_range(self.name, "current_a", current_a, 0, self._highest_a(), "A")
        self._write_voltage_limit(channel, voltage_v)
        self._write_current_limit(channel, current_a)
        self._limited.add(channel)

    def limits(self, channel: int) -> tuple[float, float]:
        """Return the voltage in V and the current in A that a channel is limited to."""
        self._check_channel(channel)
        voltage_v = self._lines.quantity(f"VMAX{channel}?", "V")
        return voltage_v, self._lines.quantity(f"IMAX{channel}?", "mA") * 1e-3

    def drive_current(self, channel: int, current_a: float) -> None:
        """Drive a channel to a current in A; raises LimitError."""
        self._check_channel(channel)
        require_range(self.name, "current_a", current_a, 0, self._highest_a(), "A")
        self._limit(channel)
        self._lines.set(f"I{channel}={abs(current_a) * 1e3:.4f}", f"V{channel}?")

    def number_chain(self) -> tuple[str, ...]:
        """Number the modules of a chain again (`nup=0`) and return the name of each."""
        self._lines.acknowledged("nup=0")
        return self.chain()

    def chain(self) -> tuple[str, ...]:
        """Return the name of each module of the chain, with its number behind a colon."""
        return tuple(self._lines.lines("nupall?", math.ceil(self._options.channels / 8)))

    def chain_position(self) -> str:
        """Return where in the chain the first module is, as it spells it."""
        return self._lines.query("nup?")

    def channel_count(self) -> int:
        """Return how many channels the module counts."""
        reply = self._lines.query("nchan?")
        if not (reply.isascii() and reply.isdigit() and len(reply) < 6):
            raise ReplyError(self.name, f"expected a whole number, got {reply!r}", "nchan?")
        return int(reply)

    def safe_state(self) -> None:
        """Put all channels to 0 V; each also when another fails."""
        self.safe_state_except(None)

    def safe_state_except(self, kept: int | None) -> None:
        """Put all channels to 0 V but one, which may hold a shutter closed."""
        settings = (f"V{channel}=0" for channel in self._channels if channel != kept)
        try_all(*(partial(self._lines.acknowledged, setting) for setting in settings))

    def close(self) -> None:
        """End the session."""
        self._transport.close()

    def _forget_limits(self) -> None:
        self._limited.clear()

    def _check_channel(self, channel: int) -> None:
        require_channel(self.name, channel, self._channels)

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
            self._write_voltage_limit(channel, self._options.max_voltage_v)
        if self._options.max_current_a is not None:
            self._write_current_limit(channel, self._options.max_current_a)
        self._limited.add(channel)

    def _write_voltage_limit(self, channel: int, voltage_v: float) -> None:
        setting, query = f"VMAX{channel}={voltage_v:.5f}", f"VMAX{channel}?"
        self._lines.set_and_see(setting, query, voltage_v, "V", scatter=_SHOWN)

    def _write_current_limit(self, channel: int, current_a: float) -> None:
        current_ma = current_a * 1e3
        setting, query = f"IMAX{channel}={current_ma:.4f}", f"IMAX{channel}?"
        self._lines.set_and_see(setting, query, current_ma, "mA", scatter=_SHOWN)


class _Output:
    """One channel of the module as a SourceMeter."""

    reads_back = frozenset({"set_voltage", "set_current_limit"})

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
