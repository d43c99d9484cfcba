"""What a door needs of a front panel: bytes in, bytes out, nothing about what they mean."""

from __future__ import annotations

from typing import Protocol


class FrontPanel(Protocol):
    """The wire side of one simulated instrument."""

    def write(self, data: bytes, *, end: bool) -> None:
        """Take bytes from the host; `end` tells that END (EOI) came with the last one."""
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
        """Return the IEEE 488.2 status byte as a serial poll reads it (0 if it has none)."""
        ...
