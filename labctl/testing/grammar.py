"""A grammar of messages for front panels: what a host may send, spelt right, wrong and spoilt.

What is drawn is bytes (`Genes`); the grammar makes a message of them, from the panel's own command
headers, the words in its source and the messages in its specification. The first choice of each
list is the plainest, so that a search that makes bytes smaller ends at a simple message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from labctl.instruments.codecs.itla import Request
from labctl.instruments.simulated.panel import FrontPanel
from labctl.testing.words import scpi_cores, words_in_source

MARKS = ("?", " ", " ", "?", " ", "", "? ", ":")
LINE_MARKS = ("?", " ", "", ":", "=", "? ", ": ", " = ")
NUMBERS = (
    *("0", "1", "-1", "2", "3.5", "1550", "1e-3", "1E9", "-1e300", "1e999", ".5", "5.", "007"),
    *("1 V", "10 MHZ", "3DBM", "1550NM", "1 furlong", "100 us", "2.5e-6S", "1e5 PT", "2**4"),
    *("9999999999999999999999", "-0.0", "nan", "NAN", "inf", "-INF", "9.9E37", "1e-400"),
    *("MIN", "MAX", "DEF", "INF", "ON", "OFF", "on", "TRUE", "1,2", "1,2,3,4,5,6,7,8", ",", "1,,2"),
    *("#HFF", "#B102", "#Q17", "(@1)", "(@1,2:3)", "(@", "()", '"abc"', "'abc'", '"', "'", '""'),
    *('"a;b\nc"', "ARB_1", '"ARB_1"', "VOLATILE", "CHAN1", "CHANNEL2", "EXT", "BUS", "IMM"),
)
BLOCKS = (
    *(b"#0", b"#10", b"#13abc", b"#15ab", b"#9", b"#900000000", b"#9999999999"),
    *(b"#216" + b"\0" * 16, b"#12\n\n", b"#1x", b"#"),
    b"#216\x00\x00\x80?\x00\x00\x80\xbf\x00\x00\x00\x00\xff\xff\xff\x7f",
    *(b"#0\x01\x02\x03\n\x04", b"#18\xff\xff\xff\xff\x00\x00\xc0\x7f", b"#11", b"#3010abc"),
)
# Registers that the panel knows and some that it does not, and data at the edges of their ranges.
REGISTERS = (0x32, 0x30, 0x31, 0x34, 0x35, 0x36, 0x62, 0x90, 0x20, 0x21, 0x00, 0x0B, 0x01, 0x58)
REGISTER_DATA = (8, 0, 1, 2, 10, 196, 191, 5000, 600, 1350, 1000, 0xFFFF, 0x8000, 0x00FF, 9)
COMMON = (
    *("*CLS", "*RST", "*OPC", "*OPC?", "*WAI", "*TRG"),
    *("*IDN?", "*STB?", "*ESR?", "*TST?", "*ESE", "*SRE?"),
)
ENDINGS = (b"\n", b"", b"\r\n", b"\r", b";\n", b"\n\n", b" \n")
JUNK = (
    *(b"\0", b"\xff\xfe", b";", b":", b"::", b";;;", b"?", b"*", b",", b"\t", b"#", b'"'),
    *(b"\n", b"\r"),
)
SUFFIXES = ("1", "", "2", "1", "0", "3", "9999", "", "1", "12345")


class Genes:
    """Choices read off drawn bytes; when they end, the first choice each time."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self, below: int) -> int:
        """Return the next choice, from 0 and below `below` (at most 65,536)."""
        width = 1 if below <= 256 else 2
        chunk = self._data[self._at : self._at + width]
        self._at += width
        return int.from_bytes(chunk, "big") % below

    def pick(self, options: Sequence[Any]) -> Any:
        """Return one of the options."""
        return options[self.number(len(options))]

    def rest(self) -> bytes:
        """Return the bytes that no choice has used."""
        return self._data[self._at :]


class Grammar:
    """Messages for one front panel.

    specified: messages as the panel's specification or tests have them, without terminator;
    framed: the panel speaks frames of an ITLA instead of lines.
    """

    def __init__(self, panel: FrontPanel, specified: Sequence[str], *, framed: bool) -> None:
        self._framed = framed
        self._words = words_in_source(type(panel))
        self._messages = tuple(specified)
        self._headers = [c.pattern for core in scpi_cores(panel) for c in core.declared]
        self._answers_scpi = bool(self._headers)
        if not self._headers:
            self._headers = list(self._words)

    def message(self, genes: Genes) -> bytes:
        """Return the message that drawn bytes mean; empty if they mean none."""
        if self._framed:
            return self._frame(genes)
        form = genes.number(16)
        if form == 15:
            return genes.rest()
        if form == 14:
            return bytes(genes.pick(JUNK)) + self._unit(genes) + bytes(genes.pick(JUNK))
        return self._units(form, genes) + bytes(genes.pick(ENDINGS))

    def _units(self, form: int, genes: Genes) -> bytes:
        if form < 6:
            return self._unit(genes)
        if form < 10:
            return self._specified(genes)
        if form < 12:
            return b";".join(self._unit(genes) for _ in range(2 + genes.number(2)))
        if form == 12:
            return self._unit(genes) + b" " + bytes(genes.pick(BLOCKS))
        return str(genes.pick(COMMON)).encode()

    def _specified(self, genes: Genes) -> bytes:
        """Return a message of the specification, maybe with another number in it."""
        if not self._messages:
            return self._unit(genes)
        text: str = genes.pick(self._messages)
        if genes.number(2):
            text = re.sub(r"(?<=[ ,=])[-+.0-9eE]+", genes.pick(NUMBERS), text, count=1)
        return text.encode("latin-1")

    def _unit(self, genes: Genes) -> bytes:
        header = self._spelled(genes.pick(self._headers), genes)
        mark = genes.pick(MARKS if self._answers_scpi else LINE_MARKS)
        text: str = header + mark
        if not mark.startswith("?") or not genes.number(4):
            text += genes.pick(NUMBERS if genes.number(3) else self._words)
        if genes.number(8) == 1:
            text += "," + genes.pick(NUMBERS)
        return text.encode("latin-1")

    def _spelled(self, pattern: str, genes: Genes) -> str:
        """Write a header out: long or short, optional nodes or not, with suffixes or none."""
        form = genes.number(32)
        if form in (1, 5, 9, 31):
            pattern = re.sub(r"\[[^\]]*\]", "", pattern)
        pattern = pattern.replace("[", "").replace("]", "")
        pattern = pattern.replace("#", SUFFIXES[form % len(SUFFIXES)])
        if form & 2:
            pattern = re.sub(r"[a-z]", "", pattern)
        if form == 31:
            return pattern[: len(pattern) // 2]
        if not self._answers_scpi and form % 3 == 1:
            pattern += ("0", "1", "7", "8", "255", "-1")[form % 6]
        return pattern.lower() if form == 30 else pattern

    @staticmethod
    def _frame(genes: Genes) -> bytes:
        form = genes.number(32)
        if form == 31:
            return genes.rest()
        register = genes.pick(REGISTERS) if genes.number(4) else genes.number(256)
        data = genes.pick(REGISTER_DATA) if genes.number(4) else genes.number(1 << 16)
        frame = Request(register, data, form < 12, form == 30).encode()
        damaged = bytes((frame[0] ^ 0x10 * (1 + genes.number(15)),)) + frame[1:]
        return frame[: genes.number(4)] if form == 29 else damaged if form > 26 else frame
