"""Whose turn it is: what clients send is cut into small pieces of work, and all get their turns.

A panel carries out what it is given before it returns, so nobody else is served meanwhile. What is
given is therefore one message, or a short piece of one, and after a turn's time the event loop
serves the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from labctl.instruments.codecs.scpi_input import MessageInput

# A client's work before others have theirs: with 200 clients at work each comes round in 0.4 s.
TURN_S = 2e-3
# A piece of what has no line ends: 256 frames of an ITLA, 10 ms of work.
LONGEST_PIECE_BYTES = 1 << 10
# All unfinished HiSLIP messages of a bench in memory: four times the largest waveform, 16 million
# samples of two bytes.
MOST_UNFINISHED_BYTES = 1 << 27
# An indefinite block (IEEE 488.2 section 7.7.6.5) on a wire without END runs to the last byte
# received, so what follows its start is not cut.
_INDEFINITE_BLOCK = re.compile(rb"[ ,\t]#0")


def stream_pieces(data: bytes) -> Iterator[bytes]:
    """Cut what came from a wire without END after each newline, and where it gets too long.

    >>> list(stream_pieces(b"*CLS\\n*IDN?\\nDAT #0a\\nb\\n"))
    [b'*CLS\\n', b'*IDN?\\n', b'DAT #0a\\nb\\n']
    """
    start = 0
    while start < len(data):
        newline = data.find(b"\n", start, start + LONGEST_PIECE_BYTES)
        stop = newline + 1 if newline >= 0 else min(start + LONGEST_PIECE_BYTES, len(data))
        if _INDEFINITE_BLOCK.search(data, start, stop):
            stop = len(data)
        yield data[start:stop]
        start = stop


def message_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Cut what came up to one END into lines; newlines inside blocks stay where they are.

    >>> list(message_pieces([b"*CLS\\nDAT #2", b"03a\\nb\\n", b"*IDN?"]))
    [b'*CLS\\n', b'DAT #203a\\nb\\n', b'*IDN?']
    """
    lines = MessageInput(2 * MOST_UNFINISHED_BYTES)
    held, last = b"", b""
    for piece in filter(None, pieces):
        if held:
            lines.feed(held, False)
            yield from _whole(lines, last)
        held = piece
    last = held[-1:]
    lines.feed(held, True)
    yield from _whole(lines, last)


def _whole(lines: MessageInput, last: bytes) -> Iterator[bytes]:
    """Hand out the complete lines; the one at the end has a newline only if that is `last`."""
    while (line := lines.take()) is not None:
        yield line + b"\n" if len(lines) or last in (b"", b"\n") else line


class Memory:
    """What all unfinished messages of a bench may hold together, `most_bytes`."""

    def __init__(self, most_bytes: int = MOST_UNFINISHED_BYTES) -> None:
        self.most_bytes, self._held_bytes = most_bytes, 0

    def take(self, size_bytes: int) -> bool:
        """Hold so much more; False, and nothing is held, if that is more than there is."""
        if self._held_bytes + size_bytes > self.most_bytes:
            return False
        self._held_bytes += size_bytes
        return True

    def give_back(self, size_bytes: int) -> None:
        """Hold so much less."""
        self._held_bytes -= size_bytes
