"""SCPI program messages: the units in them, and the parameters of each unit.

Source: IEEE 488.2-1992 chapter 7 and SCPI-99 volume 1, chapter 6; as tolerant of case, spaces and
line endings as the messages of public drivers need.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from labctl.instruments.codecs.ieee488 import BlockError, block_span
from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.codecs.scpi_values import Form, Parameter, spellings

_SPACE = bytes(range(33))
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_HEADER = re.compile(rb"[\x00-\x20]*(\*?[A-Za-z:][A-Za-z0-9_:]*)(\??)(?=[\x00-\x20;]|\Z)")
_RUN = re.compile(rb"[^;\"'#(]*")
_RADIX = re.compile(rb"#[HhQqBb][0-9A-Fa-f]+")
_STRINGS = {ord(q): re.compile(b"%c((?:[^%c]|%c%c)*)%c" % ((ord(q),) * 5)) for q in "\"'"}
_NODE = re.compile(r"(\[?):?([A-Za-z_*][A-Za-z_]*)(#?)(\]?)")


@lru_cache(maxsize=4096)
def header_expression(pattern: str) -> re.Pattern[str]:
    """Compile a header pattern such as `[:SOURce#]:FREQuency`, to match upper-case headers.

    Capitals are the short form, brackets make a node optional, `#` admits a numeric suffix (one
    group each). A leading colon in the pattern is optional and messages come without it.

    >>> bool(header_expression("[:SOURce#]:FREQuency").fullmatch(":SOUR2:FREQ"))
    True
    """
    expression = ""
    for opening, mnemonic, suffix, _ in _NODE.findall(pattern):
        names = "|".join(dict.fromkeys(re.escape(name) for name in spellings(mnemonic)))
        node = f":(?:{names})" + (r"(\d{0,4})" if suffix else "")
        expression += f"(?:{node})?" if opening else node
    return re.compile(expression)


class ProgramUnit(NamedTuple):
    """One command or query; `header` is upper case, from the root, with a leading colon."""

    header: str
    query: bool
    parameters: tuple[Parameter, ...]


def program_units(message: bytes, *, last_may_lack: bool = False) -> Iterator[ProgramUnit]:
    """Split a message (without its terminator) into units; raises ScpiError where it is wrong.

    A header without leading colon continues the path of the one before; common commands (`*`)
    leave the path as it is. `last_may_lack` lets nothing follow the last comma of a unit.

    >>> [unit.header for unit in program_units(b":CHAN1:DISP 0;SCAL 0.1;*OPC?")]
    [':CHAN1:DISP', ':CHAN1:SCAL', ':*OPC']
    """
    path, at = "", 0
    while (at := _skip_blank(message, at, also=b";")) < len(message):
        match = _HEADER.match(message, at)
        if match is None:
            raise ScpiError(-101 if message[at] not in b":*" + _LETTERS else -102)
        name = match.group(1).decode().upper()
        if name.startswith("*"):
            header = ":" + name
        else:
            header = name if name.startswith(":") else f"{path}:{name}"
            path = header.rpartition(":")[0]
        parameters, at = _parameters(message, match.end(), last_may_lack)
        yield ProgramUnit(header, bool(match.group(2)), parameters)


def _skip_blank(message: bytes, at: int, also: bytes = b"") -> int:
    while at < len(message) and (message[at] <= 32 or message[at] in also):
        at += 1
    return at


def _parameters(message: bytes, at: int, last_may_lack: bool) -> tuple[tuple[Parameter, ...], int]:
    """Read parameters up to the next `;` or the end; returns them and where they stop."""
    found: list[Parameter] = []
    at = _skip_blank(message, at)
    if at == len(message) or message[at] == ord(";"):
        return (), at
    while True:
        items, at = _elements(message, at, last_may_lack)
        found += items
        at = _skip_blank(message, at)
        if at == len(message) or message[at] == ord(";"):
            return tuple(found), at
        if message[at] != ord(","):
            raise ScpiError(-103)
        at = _skip_blank(message, at + 1)


def _elements(message: bytes, at: int, last_may_lack: bool) -> tuple[list[Parameter], int]:
    """Read one special element, or as many plain ones as follow each other."""
    first = message[at] if at < len(message) else ord(";")
    if first in _STRINGS:
        return _string(message, at)
    if first == ord("#"):
        return _block_or_radix(message, at)
    if first == ord("("):
        close = message.find(b")", at)
        if close < 0:
            raise ScpiError(-102)
        return [Parameter(Form.EXPRESSION, message[at : close + 1])], close + 1
    return _plain_elements(message, at, last_may_lack)


def _plain_elements(message: bytes, at: int, last_may_lack: bool) -> tuple[list[Parameter], int]:
    match = _RUN.match(message, at)
    end = match.end() if match else at
    items = [item.strip(_SPACE) for item in message[at:end].split(b",")]
    if end < len(message) and message[end] != ord(";"):
        if items[-1] or len(items) == 1:
            raise ScpiError(-103)
        items.pop()
        end = message.rindex(b",", at, end)
    elif last_may_lack and not items[-1]:
        items.pop()
    if not all(items):
        raise ScpiError(-102)
    return [Parameter(Form.PLAIN, item) for item in items], end


def _string(message: bytes, at: int) -> tuple[list[Parameter], int]:
    quote = message[at : at + 1]
    match = _STRINGS[quote[0]].match(message, at)
    if match is None:
        raise ScpiError(-151)
    return [Parameter(Form.STRING, match.group(1).replace(quote * 2, quote))], match.end()


def _block_or_radix(message: bytes, at: int) -> tuple[list[Parameter], int]:
    radix = _RADIX.match(message, at)
    if radix is not None:
        return [Parameter(Form.PLAIN, radix.group())], radix.end()
    view = memoryview(message)
    if message[at + 1 : at + 2] == b"0":
        return [Parameter(Form.BLOCK, view[at + 2 :])], len(message)
    try:
        span = block_span(view, at)
    except BlockError as error:
        raise ScpiError(-161) from error
    if span is None or span[1] > len(message):
        raise ScpiError(-161, "block is cut short")
    return [Parameter(Form.BLOCK, view[span[0] : span[1]])], span[1]
