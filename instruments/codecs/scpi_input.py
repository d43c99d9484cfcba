"""SCPI input: bytes come in any pieces, program messages go out one by one.

Source: IEEE 488.2-1992 sections 6.1 and 7.7.6.
"""

from __future__ import annotations

import re
from collections import deque

from labctl.instruments.codecs.ieee488 import BlockError, block_span
from labctl.instruments.codecs.scpi_status import ScpiError

_NEWLINE, _BLOCK = ord("\n"), ord("#")
_MARK = re.compile(rb"[\n\"'#]")
# #, one digit, nine digits.
_LONGEST_BLOCK_HEADER = 11


class MessageInput:
    """Cuts received bytes into messages of at most `limit` bytes.

    A message ends at a newline outside a block, or at END. An indefinite block runs to END; on
    a wire without END it runs to a newline that is the last byte received so far.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.clear()

    def clear(self) -> None:
        """Forget everything received."""
        self._buffer = bytearray()
        self._ends: deque[int] = deque()
        self._scan = 0
        self._quote = 0
        self._dropping = False
        self._is_end_ahead = False

    @property
    def is_followed(self) -> bool:
        """Whether END has come after the one that ends the message taken last."""
        return len(self._ends) > self._is_end_ahead

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes, end: bool) -> None:
        """Add received bytes; `end`: END came with the last one."""
        self._buffer += data
        if end and self._buffer:
            self._ends.append(len(self._buffer))

    def take(self) -> bytes | None:
        """Return the next complete message without its newline, None if there is none yet.

        Raises ScpiError -363, once and in place of it, for a message longer than the limit.
        """
        stop = self._find_stop()
        if stop is None:
            if self._dropping or len(self._buffer) > self._limit:
                self._dropping = True
                self._discard(len(self._buffer))
            return None
        lost = self._dropping or stop > self._limit
        message = b"" if lost else bytes(memoryview(self._buffer)[:stop])
        self._dropping = False
        ends = len(self._ends)
        self._discard(stop + (self._buffer[stop : stop + 1] == b"\n"))
        self._is_end_ahead = 0 < ends == len(self._ends)
        if lost:
            raise ScpiError(-363)
        return message

    def passed_by(self) -> None:
        """A whole message with its END was carried out without being fed."""
        self._is_end_ahead = False

    def _discard(self, count: int) -> None:
        del self._buffer[:count]
        self._ends = deque(end - count for end in self._ends if end > count)
        self._scan = self._quote = 0

    def _find_stop(self) -> int | None:
        """Return where the first message ends, going on where the last search stopped."""
        horizon = self._ends[0] if self._ends else None
        limit = len(self._buffer) if horizon is None else horizon
        while (mark := _MARK.search(self._buffer, self._scan, limit)) is not None:
            at = mark.start()
            byte = self._buffer[at]
            if byte == _NEWLINE:
                return at
            if byte != _BLOCK:
                self._quote = 0 if self._quote == byte else self._quote or byte
            elif self._may_start_block(at):
                beyond = self._block_stop(at, limit, ended=horizon is not None)
                if beyond is None:
                    self._scan = at
                    return horizon
                self._scan = beyond
                continue
            self._scan = at + 1
        self._scan = limit
        return horizon

    def _may_start_block(self, at: int) -> bool:
        begins_parameter = at > 0 and self._buffer[at - 1] in b" ,\t"
        return begins_parameter and not self._quote and not self._dropping

    def _block_stop(self, at: int, limit: int, ended: bool) -> int | None:
        """Return where scanning continues after the `#` at `at`; None if bytes are missing."""
        header = bytes(self._buffer[at : min(at + _LONGEST_BLOCK_HEADER, limit)])
        if header[1:2] == b"0":
            newline = self._buffer[limit - 1] == _NEWLINE
            return limit - newline if ended or newline else None
        try:
            span = block_span(header)
        except BlockError:
            return at + 1
        if span is None:
            return None
        if span[1] > self._limit:
            self._dropping = True
            return at + 1
        return at + span[1] if at + span[1] <= limit else None
