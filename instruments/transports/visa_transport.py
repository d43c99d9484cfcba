"""Messages and frames at a VISA address: the two transports that drivers use on real wires."""

from __future__ import annotations

import math
from collections.abc import Callable

from labctl.clock import Clock
from labctl.errors import ConnectionFailedError
from labctl.instruments.transports.link import WireLink
from labctl.instruments.transports.link_transport import LinkTransport
from labctl.instruments.transports.socket_transport import (
    SocketLink,
    SocketTransport,
    opens_own_socket,
)
from labctl.instruments.transports.taps import tapped_frames, tapped_messages
from labctl.instruments.transports.transport import FrameTransport, MessageTransport
from labctl.instruments.transports.visa_link import (
    VisaLink,
    close_library,
    resource_manager,
)

__all__ = [
    "LinkFrameTransport",
    "VisaTransport",
    "close_library",
    "open_link",
    "open_visa",
    "open_visa_frames",
    "resource_manager",
]


_GREETED_S = 0.1
# An instrument that holds no part of a frame answers only the last filler byte. With a whole
# time-out after each of those before it, a laser whose program was interrupted in mid-frame stayed
# lit for 1.2 s, and longer where an attempt failed. Modules answer within 50 ms
# (docs/wire/purephotonics_ppcl550.md), and a serial adapter holds bytes back for some 16 ms. For
# the same reason a line of frames that was silent for so long carries no old answer.


def open_visa(
    name: str,
    address: str,
    *,
    library: str,
    timeout_s: float,
    terminator: str = "\n",
    baud_rate: int = 9600,
) -> MessageTransport:
    """Open a VISA address for text messages; raises ConnectionFailedError.

    `terminator` ends every command and every reply (a carriage return before it is stripped).
    `baud_rate` holds for serial addresses (8N1). `library` is PyVISA's library string; a raw
    socket (`TCPIP::host::port::SOCKET`) needs none unless one is asked for: with `""` or `"@py"`
    it is opened as a SocketTransport.
    """

    def connect() -> MessageTransport:
        if opens_own_socket(address, library):
            return SocketTransport(name, address, timeout_s=timeout_s, terminator=terminator)
        link = VisaLink(
            name,
            address,
            library=library,
            timeout_s=timeout_s,
            terminator=terminator,
            baud_rate=baud_rate,
        )
        return VisaTransport(link, terminator)

    return tapped_messages(name, address, connect)


def open_visa_frames(
    name: str,
    address: str,
    *,
    library: str,
    timeout_s: float,
    frame_bytes: int,
    filler: bytes,
    baud_rate: int,
) -> FrameTransport:
    """Open a VISA address for frames of `frame_bytes` both ways; raises ConnectionFailedError.

    After a disturbance `filler` (one byte) is sent until a whole frame comes back, at most
    `frame_bytes` times: so an instrument that holds part of a frame gets to its end. Raw
    sockets are opened as by `open_visa`.
    """

    def greet(link: WireLink) -> None:
        for sent in range(1, frame_bytes + 1):
            link.send(filler)
            if link.read_if_any(frame_bytes, math.inf if sent == frame_bytes else _GREETED_S):
                return
        problem = f"{link.address} does not answer {frame_bytes} filler bytes; check the baud rate"
        raise ConnectionFailedError(name, problem)

    def connect() -> LinkFrameTransport:
        link = open_link(
            name,
            address,
            library=library,
            timeout_s=timeout_s,
            terminator=None,
            baud_rate=baud_rate,
            greet=greet,
            quiet_s=_GREETED_S,
        )
        return LinkFrameTransport(link, frame_bytes)

    return tapped_frames(name, address, connect)


def open_link(
    name: str,
    address: str,
    *,
    library: str,
    timeout_s: float,
    terminator: str | None,
    baud_rate: int,
    greet: Callable[[WireLink], None] | None = None,
    quiet_s: float = math.inf,
    drops_unasked: bool = True,
) -> WireLink:
    """Open an address for replies that are no plain messages; raises ConnectionFailedError.

    A raw socket is opened as by `open_visa`, its lines end with a line feed; see `SocketLink` for
    `drops_unasked`, and `VisaLink` for the rest.
    """
    if opens_own_socket(address, library):
        return SocketLink(
            name,
            address,
            timeout_s=timeout_s,
            line_end="\n",
            drops_unasked=drops_unasked,
            greet=greet,
        )
    return VisaLink(
        name,
        address,
        library=library,
        timeout_s=timeout_s,
        terminator=terminator,
        baud_rate=baud_rate,
        greet=greet,
        quiet_s=quiet_s,
    )


class VisaTransport(LinkTransport):
    """A MessageTransport over a VISA session."""


class LinkFrameTransport:
    """A FrameTransport over a link."""

    def __init__(self, link: WireLink, frame_bytes: int) -> None:
        self.name = link.name
        self.clock: Clock = link.clock
        self._link = link
        self._frame_bytes = frame_bytes

    def exchange(self, frame: bytes) -> bytes:
        """Send a frame and return the one that answers it."""
        link = self._link
        return link.transact((frame,), lambda: link.read_exactly(self._frame_bytes), frame.hex())

    def clear(self) -> None:
        """Discard what has been received and return both ends to a frame boundary."""
        self._link.clear()

    def close(self) -> None:
        """End the session."""
        self._link.close()
