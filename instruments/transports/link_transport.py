"""Messages over any link: commands become lines, payloads become definite-length blocks."""

from __future__ import annotations

from labctl.clock import Clock
from labctl.errors import ReplyError, SettingError
from labctl.instruments.codecs.ieee488 import MOST_BLOCK_BYTES, BlockError, block_header
from labctl.instruments.transports.link import WireLink

# More lines than any command answers with.
_FENCE_LINES = 32


class LinkTransport:
    """A MessageTransport over a link; `terminator` ends every command.

    Raises SettingError for a command that is not ASCII or a payload of 1 GB or more.
    """

    def __init__(self, link: WireLink, terminator: str) -> None:
        self.name = link.name
        self.clock: Clock = link.clock
        self._link = link
        self._end = terminator.encode("ascii")

    def write(self, command: str) -> None:
        """Send a command that has no reply."""
        self._link.transact((self._line(command),), _nothing, command)

    def query(self, command: str) -> str:
        """Send a command and return its reply, stripped."""
        link = self._link
        return link.transact((self._line(command),), lambda: link.read_line(command), command)

    def query_block(self, command: str) -> memoryview:
        """Send a command and return the payload of the block that it replies."""
        link = self._link
        return link.transact((self._line(command),), lambda: link.read_block(command), command)

    def write_block(self, prefix: str, payload: bytes | memoryview) -> None:
        """Send a prefix and a definite-length block in one message."""
        view = memoryview(payload)
        data = view.cast("B") if view.c_contiguous and view.nbytes else memoryview(bytes(view))
        head = self._ascii(prefix) + self._block_header(len(data))
        self._link.transact((head, data, self._end), _nothing, prefix)

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

        return self._link.transact((self._line(command) + self._line(marker),), receive, command)

    def clear(self) -> None:
        """Abandon what is under way and discard replies that are still to come."""
        self._link.clear()

    def close(self) -> None:
        """End the session."""
        self._link.close()

    def _line(self, command: str) -> bytes:
        return self._ascii(command) + self._end

    def _ascii(self, command: str) -> bytes:
        try:
            return command.encode("ascii")
        except UnicodeEncodeError as error:
            raise SettingError(f"{self.name} command", command, "ASCII text") from error

    def _block_header(self, payload_bytes: int) -> bytes:
        try:
            return block_header(payload_bytes)
        except BlockError as error:
            valid = f"at most {MOST_BLOCK_BYTES}, what a block header can say"
            raise SettingError(f"{self.name} payload in bytes", payload_bytes, valid) from error


def _nothing() -> None:
    return None
