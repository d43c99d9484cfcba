"""Lines in and lines out of an instrument on a serial wire that knows no END."""

from __future__ import annotations

import re
from collections import deque

_ENDS = re.compile("[\r\n]")


class LineInput:
    """Cuts received bytes into lines, which end with CR, NL, both, or END.

    A line longer than `longest` characters is replaced by one NUL, which is no command; when
    `most` lines wait, further ones are lost, as in a serial buffer that is full.
    """

    def __init__(self, longest: int = 256, most: int = 1024) -> None:
        self._longest, self._most = longest, most
        self._waiting: deque[str] = deque()
        self._rest = ""

    def feed(self, data: bytes, *, end: bool) -> None:
        """Add received bytes."""
        *lines, rest = _ENDS.split(self._rest + data.decode("latin-1"))
        for line in [*lines, rest] if end else lines:
            if line.strip() and len(self._waiting) < self._most:
                self._waiting.append(line.strip() if len(line) <= self._longest else "\0")
        self._rest = "" if end else rest[: self._longest + 1]

    def take(self) -> str | None:
        """Return the oldest line, None if none waits."""
        return self._waiting.popleft() if self._waiting else None

    def clear(self) -> None:
        """Forget everything received."""
        self._waiting.clear()
        self._rest = ""


class LineOutput:
    """Lines that wait for the host, at most `most` bytes; what is beyond is lost."""

    def __init__(self, most: int = 1 << 16) -> None:
        self._most = most
        self._waiting = b""

    def put(self, text: str) -> None:
        """Add text with its line ends."""
        if len(self._waiting) + len(text) <= self._most:
            self._waiting += text.encode("latin-1")

    def read(self, limit: int) -> tuple[bytes, bool]:
        """Hand out up to `limit` bytes of the oldest line, and whether it ends with them."""
        stop = min(limit, self._waiting.find(b"\n") + 1)
        chunk, self._waiting = self._waiting[:stop], self._waiting[stop:]
        return chunk, chunk.endswith(b"\n")

    def clear(self) -> None:
        """Forget everything that waits."""
        self._waiting = b""
