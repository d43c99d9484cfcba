"""Every panel of the fleet bench stands thousands of drawn messages: no crash, no hang, no growth.

A search by drawing is never done: 2000 messages a panel here, 20,000 and more on demand, e.g.

    LABCTL_FUZZ_MESSAGES=20000 pytest tests/instruments/simulated/test_fuzz_panels.py

What is drawn is bytes; a grammar makes messages of them, from the panel's own command headers, the
words in its source and the messages in its specification, as they are and spoilt. Panels are found
by their types on the shipped bench, so that a new one is drawn too. Each message goes with reads,
waits, device clears and trigger pulses.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from labctl.data import shipped_fleet_path
from labctl.instruments.codecs.itla import Reply, Request
from labctl.instruments.codecs.scpi import ScpiCore
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_file import build_bench
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.doors.serving import FRAMED_PANELS
from labctl.instruments.simulated.panel import FrontPanel
from labctl.instruments.simulated.visa_session import TimeoutWitness
from labctl.toml_file import read_toml

MESSAGES = int(os.environ.get("LABCTL_FUZZ_MESSAGES", "2000"))
PER_EXAMPLE = 100
# Hypothesis also draws genes that stand for no message, and repeats examples when it starts.
EXAMPLES = MESSAGES // PER_EXAMPLE + 15
GENE_BYTES = 16
LONGEST_HANG_S = 60.0
MOST_READS = 20_000
MOST_ERRORS = 64
MOST_HELD_BYTES = 96 << 20
"""What one panel may hold in queues, settings and memories: its own records and waveforms, and
replies that nobody read; a hundred messages that only ever add up to more are a leak."""


FLEET = read_toml(shipped_fleet_path(), BenchFile)
NAMES: dict[str, str] = {panel.type: name for name, panel in FLEET.panels.items()}

# How instruments without *IDN? are asked who they are, and how the answer begins.
IDENTITIES = {
    "itla": (Request(0x02).encode(), None),
    "thorlabs_mx10b": (b"SYS:MODEL?\n", b"MX10B"),
    "oz_optics_dd100": (b"CD\n", b"DD100MC"),
    "qontrol_q8iv": (b"ID?\n", b"Q8iv-"),
}
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
    *(
        b"#0",
        b"#10",
        b"#13abc",
        b"#15ab",
        b"#9",
        b"#900000000",
        b"#9999999999",
        b"#216" + b"\0" * 16,
    ),
    *(
        b"#216\x00\x00\x80?\x00\x00\x80\xbf\x00\x00\x00\x00\xff\xff\xff\x7f",
        b"#12\n\n",
        b"#1x",
        b"#",
    ),
    *(b"#0\x01\x02\x03\n\x04", b"#18\xff\xff\xff\xff\x00\x00\xc0\x7f", b"#11", b"#3010abc"),
)
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
PAUSES_S = (1e-4, 0.01, 0.3, 5.0, 100.0, 0.0)


class Genes:
    """Choices read off drawn bytes; when they end, the first choice each time."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self, below: int) -> int:
        width = 1 if below <= 256 else 2
        chunk = self._data[self._at : self._at + width]
        self._at += width
        return int.from_bytes(chunk, "big") % below

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.number(len(options))]

    def rest(self) -> bytes:
        return self._data[self._at :]


class Grammar:
    """Messages for one kind of panel."""

    def __init__(self, panel: FrontPanel, kind: str) -> None:
        self._kind = kind
        self._words = _words_in_source(type(panel))
        self._messages = _messages_specified(kind)
        self._headers = [c.pattern for core in _cores(panel) for c in core.declared]
        self._answers_scpi = bool(self._headers)
        if not self._headers:
            self._headers = list(self._words)

    def message(self, genes: Genes) -> bytes:
        if self._kind in FRAMED_PANELS:
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


class Host:
    """Whoever plays with one panel: on a bench of its own, alone but for the trigger cable."""

    def __init__(self, kind: str) -> None:
        name = NAMES[kind]
        table = FLEET.model_copy(update={"panels": {name: FLEET.panels[name]}})
        self.bench: LinkBench = build_bench(table, shipped_fleet_path())
        self.panel: FrontPanel = self.bench.panels[FLEET.panels[name].address]
        self.kind = kind
        self._meanwhile: tuple[Callable[[], object], ...] = (
            lambda: None,
            lambda: self.panel.read(3),
            self._time_out,
            self.panel.clear,
            self.panel.status_byte,
            self.bench.trigger.fire,
        )

    def _time_out(self) -> None:
        if isinstance(self.panel, TimeoutWitness):
            self.panel.read_timed_out()

    def play(self, gene: bytes, grammar: Grammar) -> bool:
        """Send one message and do what comes with it; False if the gene stands for none."""
        genes = Genes(gene)
        what = genes.number(32)
        message = grammar.message(genes) if any(gene) else b""
        if not message:
            return False
        note(f"{message!r} then {what}")
        self.panel.write(message, end=what < 22)
        if what & 1:
            self.drain()
        elif what >= 12:
            self.bench.clock.sleep(PAUSES_S[what % len(PAUSES_S)])
        else:
            self._meanwhile[what // 2]()
        return True

    def drain(self) -> bytes:
        """Read until nothing comes; fails if the panel never stops talking."""
        received = bytearray()
        for _ in range(MOST_READS):
            chunk, _ends = self.panel.read(1 << 20)
            if not chunk:
                return bytes(received)
            received += chunk
            assert len(received) <= MOST_HELD_BYTES
        raise AssertionError(f"it is still talking after {MOST_READS} reads")

    def ask(self, message: bytes) -> bytes:
        self.panel.write(message, end=True)
        return self.drain()

    def check_alive(self) -> None:
        """After a device clear it must answer as ever, and its queues must run empty."""
        self.panel.clear()
        assert self.drain() == b""
        self.bench.clock.sleep(1000.0)
        self.drain()
        if self.kind == "itla":
            assert Reply.decode(self.ask(IDENTITIES["itla"][0])).register == 0x02
            return
        question, answer = IDENTITIES.get(self.kind, (b"*IDN?\n", None))
        if answer is not None:
            assert self.ask(question).startswith(answer)
            return
        self.ask(b"*CLS\n")
        fields = self.ask(question).split(b",")
        assert len(fields) == 4
        for _ in range(MOST_ERRORS):
            self.ask(b":NO:SUCH:HEADER 1\n")
        errors = 0
        while int(self.ask(b":SYST:ERR?\n").partition(b",")[0]):
            errors += 1
        assert 0 < errors < MOST_ERRORS


@pytest.mark.parametrize("kind", sorted(NAMES))
def test_drawn_messages_leave_a_panel_alive(kind: str) -> None:
    grammar = Grammar(Host(kind).panel, kind)
    sent = 0

    @settings(
        deadline=None,
        max_examples=EXAMPLES,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.lists(
            st.binary(min_size=GENE_BYTES, max_size=GENE_BYTES),
            min_size=PER_EXAMPLE,
            max_size=PER_EXAMPLE,
        )
    )
    def play(genes: list[bytes]) -> None:
        nonlocal sent
        with no_hang():
            host = Host(kind)
            sent += sum(host.play(gene, grammar) for gene in genes)
            assert held_bytes(host.panel) < MOST_HELD_BYTES
            host.check_alive()

    play()
    assert sent >= MESSAGES


@contextmanager
def no_hang() -> Iterator[None]:
    """Fail, with the place, if what is inside does not come back."""

    def ring(_: int, frame: FrameType | None) -> None:
        place = f"{frame.f_code.co_qualname}, line {frame.f_lineno}" if frame else "?"
        raise AssertionError(f"it hangs in {place}")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def held_bytes(panel: FrontPanel) -> int:
    """Return roughly how much memory a panel holds, physics behind its ports left out."""
    seen: set[int] = set()
    total, left = 0, [panel]
    while left:
        thing: Any = left.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, np.ndarray):
            total += thing.nbytes
            continue
        total += sys.getsizeof(thing, 0)
        if isinstance(thing, dict):
            left += thing.values()
        elif isinstance(thing, list | tuple | set | frozenset) or hasattr(thing, "appendleft"):
            left += thing
        elif type(thing).__module__.startswith(_HELD_BY) and hasattr(thing, "__dict__"):
            left += vars(thing).values()
    return total


_HELD_BY = ("labctl.instruments.simulated.panels", "labctl.instruments.codecs")


def _cores(panel: FrontPanel) -> list[ScpiCore]:
    return [part for part in vars(panel).values() if isinstance(part, ScpiCore)]


@cache
def _words_in_source(panel: Callable[..., object]) -> tuple[str, ...]:
    """Return the short words in the source of a panel and of the panel modules it imports."""
    module = inspect.getmodule(panel)
    assert module is not None
    modules = [module, *(sys.modules[name] for name in _imported(module))]
    words = {
        node.value
        for each in modules
        for node in ast.walk(ast.parse(inspect.getsource(each)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return tuple(sorted(word for word in words if re.fullmatch(r"[\x20-\x7e]{1,24}", word)))


@cache
def _messages_specified(kind: str) -> tuple[str, ...]:
    """Return what looks like messages in the test module of a kind of panel."""
    path = Path(__file__).parent / "panels" / f"test_{kind}_panel.py"
    if not path.is_file():
        return ()
    found = {
        node.value if isinstance(node.value, str) else node.value.decode("latin-1")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    }
    return tuple(sorted(text for text in found if re.fullmatch(_MESSAGE, text)))


_MESSAGE = r"[:*A-Za-z][\x20-\x7e]{0,99}"


def _imported(module: ModuleType) -> set[str]:
    owners = {getattr(value, "__module__", None) for value in vars(module).values()}
    return {name for name in owners if name and name.startswith(_HELD_BY[0])} - {module.__name__}
