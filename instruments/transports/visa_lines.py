"""Replies of several lines, for instruments whose replies say when they end."""

from __future__ import annotations

from labctl.clock import Clock
from labctl.errors import ReplyError
from labctl.instruments.transports.link import WireLink
from labctl.instruments.transports.socket_transport import SocketLink, opens_own_socket
from labctl.instruments.transports.taps import tapped_lines
from labctl.instruments.transports.transport import Complete, LinesTransport
from labctl.instruments.transports.visa_link import VisaLink

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
        if opens_own_socket(address, library):
            link: WireLink = SocketLink(
                name, address, timeout_s=timeout_s, line_end="\n", drops_unasked=False
            )
        else:
            link = VisaLink(
                name,
                address,
                library=library,
                timeout_s=timeout_s,
                terminator="\n",
                baud_rate=baud_rate,
            )
        return LinkLinesTransport(link, end)

    return tapped_lines(name, address, connect)
