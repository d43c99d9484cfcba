"""Example VS1 voltage source (SCPI).

Commands: SCPI-99 volume 2, SOURce and OUTPut subsystems. The largest voltage is an option.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import Field

from labctl.instruments.capabilities import Identity
from labctl.instruments.driver_rules import require_range
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.scpi_session import ScpiSession
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa


class VS1Options(DriverOptions):
    """`timeout_s` of one message in s; `max_voltage_v`: magnitude never to exceed, in V."""

    timeout_s: float = Field(default=5.0, gt=0)
    max_voltage_v: float = Field(default=10.0, gt=0)


class ExampleVS1:
    """A VoltageSource."""

    Options = VS1Options

    def __init__(self, transport: MessageTransport, options: VS1Options | None = None) -> None:
        self.name = transport.name
        self._scpi = ScpiSession(transport)
        self._options = options or VS1Options()

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(VS1Options, name, options)
        transport = open_visa(name, address, library=library, timeout_s=read.timeout_s)
        source = cls(transport, read)
        return verified(source, address, source._scpi.forget_errors, source.identify)

    def identify(self) -> Identity:
        """Ask `*IDN?`; raises ReplyError if no VS1 answers."""
        return self._scpi.identify("VS1")

    def set_voltage(self, voltage_v: float) -> None:
        """Apply a voltage in V and switch the output on; raises LimitError."""
        limit_v = self._options.max_voltage_v
        require_range(self.name, "voltage_v", voltage_v, -limit_v, limit_v, "V")
        self._scpi.set(f"SOUR:VOLT {voltage_v:.9g}")
        self._scpi.set("OUTP 1")

    def voltage_v(self) -> float:
        """Return the voltage that is set, in V."""
        return self._scpi.number("SOUR:VOLT?")

    def safe_state(self) -> None:
        """Switch the output off."""
        self._scpi.set("OUTP 0")

    def close(self) -> None:
        """End the session."""
        self._scpi.transport.close()
