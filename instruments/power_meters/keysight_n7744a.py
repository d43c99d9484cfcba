"""Keysight N7744A and N7745A multi-port optical power meters (SCPI).

Commands: docs/wire/keysight_n7744a.md, sections Power and Settings [V][2+]. Wavelength range and
the longest log are [M]: options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from labctl.hazards import Hazard
from labctl.instruments.capabilities import Identity
from labctl.instruments.driver_rules import require_channel, try_all
from labctl.instruments.power_meters.keysight_n7744a_port import N7744AOptions, PowerMeterPort
from labctl.instruments.transports.opening import read_options, verified
from labctl.instruments.transports.scpi_session import ScpiSession
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa

__all__ = ["KeysightN7744A", "N7744AOptions", "PowerMeterPort"]


class KeysightN7744A:
    """Four or eight PowerMeters, one for each port (`channel`)."""

    Options = N7744AOptions
    hazard = Hazard.NONE

    def __init__(self, transport: MessageTransport, options: N7744AOptions | None = None) -> None:
        self.name = transport.name
        self._scpi = ScpiSession(transport)
        self._options = options or N7744AOptions()
        self._channels = tuple(
            PowerMeterPort(self._scpi, number, self._options)
            for number in self._options.channel_range()
        )

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(N7744AOptions, name, options)
        transport = open_visa(name, address, library=library, timeout_s=read.timeout_s)
        meter = cls(transport, read)
        return verified(meter, address, meter._scpi.forget_errors, meter.identify)

    def identify(self) -> Identity:
        """Ask `*IDN?`; raises ReplyError if no N7744A/C or N7745A/C answers."""
        return self._scpi.identify("N7744", "N7745")

    def channel(self, number: int) -> PowerMeterPort:
        """Return a port, counting from 1; raises LimitError."""
        require_channel(self.name, number, self._options.channel_range())
        return self._channels[number - 1]

    def restarted(self) -> bool:
        """Return whether it was switched off and on since it was opened, or since last asked."""
        return self._scpi.restarted()

    def safe_state(self) -> None:
        """End the logs of all ports, each also when another fails; a power meter does no harm."""
        try_all(*(port.stop_log for port in self._channels))

    def close(self) -> None:
        """End the session."""
        self._scpi.transport.close()
