"""A walk of a front panel through its settings: no error in any state that they lead to.

Drawn messages (`panel_fuzz`) are mostly refused and leave the settings alone. Here each command
comes at values that its own declaration allows, or a message of the specification as it is,
while triggers come, time passes and replies are read.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from labctl.instruments.codecs.itla import Request
from labctl.instruments.codecs.scpi import Command
from labctl.instruments.codecs.scpi_values import Boolean, Integer, Number, Text, Word
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panel import FrontPanel
from labctl.testing.grammar import REGISTER_DATA, REGISTERS
from labctl.testing.host import Host, chosen_seed
from labctl.testing.words import scpi_cores

STEPS = 2000
# Of all messages that are sent; what conflicts with other settings is refused, as it must be.
_FEWEST_TAKEN = 0.5
# A walk that begins again every few steps goes nowhere.
_BACK_TO_START = ("*RST", ":SYSTem:PRESet")
_RESET = re.compile(r"(?i)\*RST|:?SYST\w*:PRES")
# A failure shows the messages before it: enough to see the state, few enough to read.
_SHOWN = 10


def panel_walk(
    bench: str | Path,
    panel: str,
    *,
    steps: int = STEPS,
    seed: int | None = None,
    specified: Sequence[str] = (),
) -> None:
    """Walk a panel of a bench file through its settings; fails if a write or a read raises.

    bench, panel, seed, specified: as for `panel_fuzz`; steps: how many messages. Of a panel that
    speaks SCPI, half of the messages at least must be taken.

    Raises AssertionError, or what the panel raised, with a note of the seed and the messages.
    """
    host = Host(bench, panel)
    walk(
        host.panel,
        host.bench.clock,
        host.bench.trigger.fire,
        kind=host.kind,
        steps=steps,
        seed=seed,
        specified=_frames() if host.framed else _lines(specified),
    )


def walk(
    panel: FrontPanel,
    clock: BenchClock,
    fire: Callable[[], object],
    *,
    kind: str,
    steps: int,
    seed: int | None,
    specified: Sequence[bytes],
) -> None:
    """Walk a panel through its settings, on its clock; `fire` is the trigger, the rest as above."""
    chosen = chosen_seed(seed)
    print(f"panel_walk of {kind}: seed {chosen}, {steps} steps")
    words = _Words(f"{kind} {chosen}", panel, specified)
    answers_scpi = bool(scpi_cores(panel))
    taken = 0
    said: list[bytes] = []
    try:
        for _ in range(steps):
            said.append(words.message())
            panel.write(said[-1], end=True)
            while panel.read(1 << 20)[0]:
                pass
            if answers_scpi:
                panel.write(b":SYST:ERR?\n", end=True)
                taken += int(panel.read(1 << 20)[0].partition(b",")[0] or b"0") == 0
            words.choose(
                lambda: None,
                fire,
                fire,
                lambda: clock.sleep(0.3),
                panel.clear,
                panel.status_byte,
            )()
    except BaseException as error:
        error.add_note(f"panel_walk of {kind} with seed {chosen}, after {said[-_SHOWN:]}")
        raise
    share = taken / steps
    assert share >= _FEWEST_TAKEN or not answers_scpi, f"{share:.0%} of the messages were taken"


class _Words:
    """Messages that a panel may get, drawn at random with a seed."""

    def __init__(self, seed: str, panel: FrontPanel, specified: Sequence[bytes]) -> None:
        self._draw = random.Random(seed)
        self._commands = [
            command
            for core in scpi_cores(panel)
            for command in core.declared
            if command.pattern not in _BACK_TO_START
        ]
        self._specified = list(specified)

    def message(self) -> bytes:
        """Return the next message: of a declared command, or as the specification has it."""
        if self._commands and (not self._specified or self._draw.random() < 0.8):
            return self._of(self._draw.choice(self._commands))
        assert self._specified, "no commands are declared and no messages specified"
        return self._draw.choice(self._specified)

    def choose(self, *actions: Callable[[], object]) -> Callable[[], object]:
        """Return one of the actions."""
        return self._draw.choice(actions)

    def _of(self, command: Command) -> bytes:
        header = re.sub(r"[\[\]a-z]", "", re.sub(r"\[[^\]]*\]", "", command.pattern))
        header = re.sub("#", lambda _: self._draw.choice("112"), header)
        if command.ask is not None and (command.do is None or self._draw.random() < 0.2):
            return f"{header}?\n".encode()
        value = self._value(command.kind)
        return f"{header} {value}".strip().encode("latin-1") + b"\n"

    def _value(self, kind: object) -> str:
        if isinstance(kind, Word):
            return self._draw.choice(kind.words)
        if isinstance(kind, Boolean):
            return self._draw.choice(("0", "1"))
        if isinstance(kind, Number | Integer):
            return self._draw.choice(("MIN", "MAX", "DEF", "1", "2", "0.001", *kind.words))
        return '"A1"' if isinstance(kind, Text) else ""


def _lines(specified: Sequence[str]) -> list[bytes]:
    return [f"{text}\n".encode("latin-1") for text in specified if not _RESET.search(text)]


def _frames() -> list[bytes]:
    """Return frames that read and write the registers of an ITLA."""
    return [
        Request(register, each, write).encode()
        for register in REGISTERS
        for each in REGISTER_DATA
        for write in (True, False)
    ]
