"""Replies of several lines, for instruments whose replies say when they end."""

from __future__ import annotations

from labctl.clock import Clock
from labctl.errors import ReplyError
from labctl.instruments.transports.link import WireLink
from labctl.instruments.transports.taps import tapped_lines
from labctl.instruments.transports.transport import Complete, LinesTransport
from labctl.instruments.transports.visa_transport import open_link

# More lines than any documented reply has.
_MOST_LINES = 256


class LinkLinesTransport:
    """A LinesTransport over a link; `end` is put behind every command."""

    def __init__(self, link: WireLink, end: str) -> None:
        self.name = link.name
        self.clock: Clock = link.clock
        self._link = link
        self._end = end

    def exchange(self, command: str, complete: Complete) -> tuple[str, ...]:
        """Send a command; return the lines of its reply."""

        def receive() -> tuple[str, ...]:
            lines: list[str] = []
            while len(lines) < _MOST_LINES:
                lines.append(self._link.read_line(command))
                if complete(lines):
                    return tuple(lines)
            problem = f"reply has not ended after {len(lines)} lines, the last {lines[-1]!r}"
            raise ReplyError(self.name, problem, command)

        message = (command + self._end).encode("ascii")
        return self._link.transact((message,), receive, command)

    def clear(self) -> None:
        """Abandon what is under way and discard lines that are still to come."""
        self._link.clear()

    def close(self) -> None:
        """End the session."""
        self._link.close()


def open_visa_lines(
    name: str,
    address: str,
    *,
    library: str,
    timeout_s: float,
    baud_rate: int,
    end: str,
) -> LinesTransport:
    """Open a VISA address for replies of several lines; raises ConnectionFailedError.

    Received lines end with a line feed (a carriage return before it is stripped), commands with
    `end`. `baud_rate` holds for serial addresses (8N1). Raw sockets are opened as by `open_visa`.
    """

    def connect() -> LinkLinesTransport:
        link = open_link(
            name,
            address,
            library=library,
            timeout_s=timeout_s,
            terminator="\n",
            baud_rate=baud_rate,
            drops_unasked=False,
        )
        return LinkLinesTransport(link, end)

    return tapped_lines(name, address, connect)
