"""Messages and frames over PyVISA: the two transports that drivers use on real wires."""

from __future__ import annotations

from labctl.clock import Clock
from labctl.errors import ConnectionFailedError, ReplyError
from labctl.instruments.codecs.ieee488 import encode_block
from labctl.instruments.transports.taps import tapped_frames, tapped_messages
from labctl.instruments.transports.transport import FrameTransport, MessageTransport
from labctl.instruments.transports.visa_link import VisaLink, close_library, resource_manager

__all__ = [
    "VisaFrameTransport",
    "VisaTransport",
    "close_library",
    "open_visa",
    "open_visa_frames",
    "resource_manager",
]

_FENCE_LINES = 32


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
    `baud_rate` holds for serial addresses (8N1). `library` is PyVISA's library string.
    """

    def connect() -> VisaTransport:
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
    `frame_bytes` times: so an instrument that holds part of a frame is brought to its end.
    """

    def greet(link: VisaLink) -> None:
        for _ in range(frame_bytes):
            link.send(filler)
            if link.read_if_any(frame_bytes):
                return
        problem = f"{link.address} does not answer {frame_bytes} filler bytes; check the baud rate"
        raise ConnectionFailedError(name, problem)

    def connect() -> VisaFrameTransport:
        link = VisaLink(
            name,
            address,
            library=library,
            timeout_s=timeout_s,
            terminator=None,
            baud_rate=baud_rate,
            greet=greet,
        )
        return VisaFrameTransport(link, frame_bytes)

    return tapped_frames(name, address, connect)


class VisaTransport:
    """A MessageTransport over a VISA session."""

    def __init__(self, link: VisaLink, terminator: str) -> None:
        self.name = link.name
        self.clock: Clock = link.clock
        self._link = link
        self._end = terminator.encode("ascii")

    def write(self, command: str) -> None:
        """Send a command that has no reply."""
        self._link.transact(self._line(command), _nothing, command)

    def query(self, command: str) -> str:
        """Send a command and return its reply, stripped."""
        link = self._link
        return link.transact(self._line(command), lambda: link.read_line(command), command)

    def query_block(self, command: str) -> memoryview:
        """Send a command and return the payload of the block that it replies."""
        link = self._link
        return link.transact(self._line(command), lambda: link.read_block(command), command)

    def write_block(self, prefix: str, payload: bytes | memoryview) -> None:
        """Send a prefix and a definite-length block in one message."""
        message = b"".join((prefix.encode("ascii"), encode_block(bytes(payload)), self._end))
        self._link.transact(message, _nothing, prefix)

    def fence(self, command: str, marker: str, answer: str) -> tuple[str, ...]:
        """Send a command and the query `marker`; return the lines that come before `answer`."""

        def receive() -> tuple[str, ...]:
            lines: list[str] = []
            while len(lines) < _FENCE_LINES:
                line = self._link.read_line(command)
                if line == answer:
                    return tuple(lines)
                lines.append(line)
            problem = f"{marker!r} was never answered with {answer!r}, but with {lines[0]!r}"
            raise ReplyError(self.name, problem, command)

        return self._link.transact(self._line(command) + self._line(marker), receive, command)

    def clear(self) -> None:
        """Abandon what is under way and discard replies that are still to come."""
        self._link.clear()

    def close(self) -> None:
        """End the session."""
        self._link.close()

    def _line(self, command: str) -> bytes:
        return command.encode("ascii") + self._end


class VisaFrameTransport:
    """A FrameTransport over a VISA session."""

    def __init__(self, link: VisaLink, frame_bytes: int) -> None:
        self.name = link.name
        self.clock: Clock = link.clock
        self._link = link
        self._frame_bytes = frame_bytes

    def exchange(self, frame: bytes) -> bytes:
        """Send a frame and return the one that answers it."""
        link = self._link
        return link.transact(frame, lambda: link.read_exactly(self._frame_bytes), frame.hex())

    def clear(self) -> None:
        """Discard what has been received and bring both ends back to a frame boundary."""
        self._link.clear()

    def close(self) -> None:
        """End the session."""
        self._link.close()


def _nothing() -> None:
    return None
