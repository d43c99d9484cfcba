"""IEEE 488.2 wire elements: arbitrary blocks and error-queue replies.

Source: IEEE 488.2-1992 sections 7.7.6 and 8.7.9; error replies as in SCPI-99 volume 2, 21.8.
"""

from __future__ import annotations

import re

# Nine digits are the most that a block's header has room for (IEEE 488.2, 8.7.9).
MOST_BLOCK_BYTES = 999_999_999
_ERROR = re.compile(r"^\s*([+-]?\d+)\s*(?:,\s*(.*))?$", re.DOTALL)


class BlockError(ValueError):
    """Bytes that should be an arbitrary block are not, or are cut short."""


def block_header(payload_bytes: int, *, digits: int | None = None) -> bytes:
    """Return the header of a definite-length block of that many bytes.

    `digits` forces the width of its length field. Raises BlockError unless that is 1 to 9 digits
    and the length fits in them.

    >>> block_header(1200), block_header(12, digits=8)
    (b'#41200', b'#800000012')
    """
    length = b"%d" % payload_bytes
    width = digits if digits is not None else len(length)
    if not len(length) <= width <= 9:
        raise BlockError(f"{payload_bytes} bytes do not fit a block header of {width} digits")
    return b"#%d" % width + length.zfill(width)


def encode_block(payload: bytes, *, digits: int | None = None) -> bytes:
    """Return a definite-length block; `digits` forces the width of its length field (1 to 9).

    >>> encode_block(b"light")
    b'#15light'
    """
    return block_header(len(payload), digits=digits) + payload


def block_span(message: bytes | memoryview, start: int = 0) -> tuple[int, int] | None:
    """Return where the payload of the definite block at `start` begins and ends.

    None means that the header is not complete yet. The end may lie beyond the message: then
    more bytes must come. Raises BlockError if no definite block starts there.

    >>> block_span(b"#15light"), block_span(b"#4120")
    ((3, 8), None)
    """
    view = memoryview(message)
    if len(view) <= start:
        return None
    if view[start] != ord("#"):
        raise BlockError(f"a block starts with '#', not {bytes(view[start : start + 8])!r}")
    if len(view) < start + 2:
        return None
    width = view[start + 1] - ord("0")
    if not 1 <= width <= 9:
        raise BlockError(f"block header {bytes(view[start : start + 12])!r} has no length")
    begin = start + 2 + width
    if len(view) < begin:
        return None
    length = bytes(view[start + 2 : begin])
    if not length.isdigit():
        raise BlockError(f"block header {bytes(view[start:begin])!r} has no length")
    return begin, begin + int(length)


def decode_block(message: bytes | memoryview) -> memoryview:
    """Return the payload of a definite (`#<d><len>`) or indefinite (`#0...`) block.

    An indefinite block runs to the end of the message less one final newline. What follows a
    definite block must be white space. Raises BlockError otherwise or when bytes are missing.

    >>> bytes(decode_block(b"#15light"))
    b'light'
    """
    view = memoryview(message)
    if bytes(view[:2]) == b"#0":
        end = len(view) - 1 if bytes(view[-1:]) == b"\n" else len(view)
        return view[2:end]
    span = block_span(view)
    if span is None or span[1] > len(view):
        raise BlockError(f"block is cut short after {len(view)} bytes")
    begin, end = span
    if bytes(view[end:]).strip():
        raise BlockError(f"{len(view) - end} bytes follow the block")
    return view[begin:end]


def parse_error(reply: str) -> tuple[int, str]:
    """Return code and text of an error-queue reply; raises ValueError on any other reply.

    >>> parse_error('-113,"Undefined header"')
    (-113, 'Undefined header')
    """
    match = _ERROR.match(reply)
    if match is None:
        raise ValueError(f"{reply!r} is not an error-queue reply")
    return int(match.group(1)), (match.group(2) or "").strip().strip('"')
