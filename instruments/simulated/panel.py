"""What a door needs of a front panel: bytes in, bytes out, nothing about what they mean."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

# More bytes than any panel holds: a read of all that waits.
EVERYTHING = 1 << 30


class FrontPanel(Protocol):
    """The wire side of one simulated instrument."""

    def write(self, data: bytes, *, end: bool) -> None:
        """Take bytes from the host; `end`: END (EOI) came with the last one."""
        ...

    def read(self, limit: int) -> tuple[bytes, bool]:
        """Hand out up to `limit` bytes that wait; True when a message ends with the last one.

        Returns (b"", False) when nothing waits: the door turns that into a time-out.
        """
        ...

    def clear(self) -> None:
        """Device clear: drop input and output that wait; settings stay."""
        ...

    def status_byte(self) -> int:
        """Return the IEEE 488.2 status byte as a serial poll would read it (0 if it has none)."""
        ...


class ConnectionLostError(Exception):
    """The connection to a panel breaks; a door cuts its client off."""


@runtime_checkable
class PluggedPanel(Protocol):
    """A panel whose cable can be pulled."""

    @property
    def plugged_in(self) -> bool:
        """Whether a door may open a session to it."""
        ...


def plugged_in(panel: FrontPanel) -> bool:
    """Return whether a session to a panel may be opened."""
    return not isinstance(panel, PluggedPanel) or panel.plugged_in


@runtime_checkable
class PowerCycledPanel(Protocol):
    """A panel that can lose its supply and come back as it leaves the factory."""

    def power_cycle(self) -> None:
        """Switch off and on again."""
        ...


@runtime_checkable
class PolledPanel(Protocol):
    """A panel that requests service until it is polled (IEEE 488.2 section 11.2.2.1)."""

    def serial_poll(self) -> int:
        """Return the status byte; its bit 6, the request for service, ends with that."""
        ...


def serial_poll(panel: FrontPanel) -> int:
    """Poll a panel; one that cannot request service returns its status byte."""
    return panel.serial_poll() if isinstance(panel, PolledPanel) else panel.status_byte()
