"""Keysight E36312A and E36313A three-output power supplies (SCPI).

Commands: docs/wire/keysight_e36312a.md, sections Commands and Outputs [2+]: the output is a channel
list behind each command. What the outputs can deliver comes from one source [1]: options, by
default an E36312A.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Self

from pydantic import Field

from labctl.errors import ReplyError
from labctl.hazards import Hazard
from labctl.instruments.capabilities import Identity, SourceMeter
from labctl.instruments.driver_rules import (
    require_channel,
    require_positive,
    require_range,
    try_all,
)
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.scpi_session import ScpiSession
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa

_CHANNELS = range(1, 4)
# Overflow is 9.9E37 and not-a-number 9.91E37 (SCPI-99, 7.2.1): no reading comes near this.
_OVERFLOW = 1e30
# Of settings, assumed (docs/wire/keysight_e36312a.md, section Outputs) [M].
_RESOLUTION_V, _RESOLUTION_A = 1e-3, 1e-3


class E36312AOptions(DriverOptions):
    """Limits of outputs 1, 2 and 3, checked before anything is sent.

    `max_voltages_v` in V and `max_currents_a` in A: those of an E36312A unless given [1].
    """

    timeout_s: float = Field(default=10.0, gt=0)
    max_voltages_v: list[float] = Field(default=[6.0, 25.0, 25.0], min_length=3, max_length=3)
    max_currents_a: list[float] = Field(default=[5.0, 1.0, 1.0], min_length=3, max_length=3)

    def channel_range(self) -> range:
        """Return the numbers of the channels."""
        return _CHANNELS


class KeysightE36312A:
    """Three SourceMeters, one for each output (`dc_output`)."""

    Options = E36312AOptions
    hazard = Hazard.BIAS

    def __init__(self, transport: MessageTransport, options: E36312AOptions | None = None) -> None:
        self.name = transport.name
        self._scpi = ScpiSession(transport)
        self._options = options or E36312AOptions()

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(E36312AOptions, name, options)
        transport = open_visa(name, address, library=library, timeout_s=read.timeout_s)
        supply = cls(transport, read)
        return verified(supply, address, supply._scpi.forget_errors, supply.identify)

    def identify(self) -> Identity:
        """Ask `*IDN?`; raises ReplyError if no E36312A or E36313A answers."""
        return self._scpi.identify("E36312A", "E36313A")

    def dc_output(self, channel: int) -> SourceMeter:
        """Return an output, 1 to 3; nothing is sent before it is used. Raises LimitError."""
        self._check_channel(channel)
        limits = (self._options.max_voltages_v, self._options.max_currents_a)
        max_voltage_v, max_current_a = (limit[channel - 1] for limit in limits)
        return _Output(self.name, self._scpi, channel, max_voltage_v, max_current_a)

    def set_output(self, channel: int, on: bool) -> None:
        """Connect or disconnect an output; raises LimitError."""
        self._check_channel(channel)
        self._scpi.set(f"OUTP {on:d}, (@{channel})")

    def safe_state(self) -> None:
        """Switch all outputs off; each also when another fails."""
        self.safe_state_except(None)

    def safe_state_except(self, kept: int | None) -> None:
        """Switch all outputs off but one, which may hold a shutter closed."""
        off = (channel for channel in _CHANNELS if channel != kept)
        try_all(*(partial(self.set_output, channel, False) for channel in off))

    def close(self) -> None:
        """End the session."""
        self._scpi.transport.close()

    def _check_channel(self, channel: int) -> None:
        require_channel(self.name, channel, _CHANNELS)


class _Output:
    """One output of the supply as a SourceMeter; its voltages are 0 or positive."""

    reads_back = frozenset({"set_voltage", "set_current_limit"})

    def __init__(
        self,
        name: str,
        scpi: ScpiSession,
        channel: int,
        max_voltage_v: float,
        max_current_a: float,
    ) -> None:
        self._name = name
        self._scpi = scpi
        self._list = f"(@{channel})"
        self._max_voltage_v = max_voltage_v
        self._max_current_a = max_current_a

    def set_voltage(self, voltage_v: float) -> None:
        unit = f"V at output {self._list}"
        require_range(self._name, "voltage_v", voltage_v, 0, self._max_voltage_v, unit)
        setting, query = f"VOLT {voltage_v:.9g}, {self._list}", f"VOLT? {self._list}"
        self._scpi.set_and_see(setting, query, voltage_v, resolution=_RESOLUTION_V)
        self._scpi.set(f"OUTP 1, {self._list}")

    def voltage_v(self) -> float:
        return self._scpi.number(f"VOLT? {self._list}")

    def set_current_limit(self, current_a: float) -> None:
        unit = f"A at output {self._list}"
        require_positive(self._name, "current_a", current_a, self._max_current_a, unit)
        setting, query = f"CURR {current_a:.9g}, {self._list}", f"CURR? {self._list}"
        self._scpi.set_and_see(setting, query, current_a, resolution=_RESOLUTION_A)

    def measured_voltage_v(self) -> float:
        return self._measured(f"MEAS:VOLT? {self._list}")

    def measured_current_a(self) -> float:
        return self._measured(f"MEAS:CURR? {self._list}")

    def _measured(self, query: str) -> float:
        value = self._scpi.number(query)
        if abs(value) > _OVERFLOW:
            raise ReplyError(self._name, f"reading is beyond the range ({value:g})", query)
        return value
