"""No panel lets an error out of a write or a read, in whatever state its settings have brought it.

Drawn messages (test_fuzz_panels.py) are mostly refused and leave the settings alone. Here each
panel of the fleet bench walks through its settings: each command at values that its own declaration
allows, or the messages in its specification, while triggers come, time passes and replies are read.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labctl.data import shipped_fleet_path
from labctl.instruments.codecs.itla import Request
from labctl.instruments.codecs.scpi import Command, ScpiCore
from labctl.instruments.codecs.scpi_values import Boolean, Integer, Number, Text, Word
from labctl.instruments.simulated.bench_file import build_bench
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panel import FrontPanel
from labctl.instruments.simulated.panels.keysight_infiniivision import InfiniiVisionPanel
from labctl.instruments.simulated.ports import Capture, CaptureWindow
from labctl.toml_file import read_toml

FLEET = read_toml(shipped_fleet_path(), BenchFile)
NAMES: dict[str, str] = {panel.type: name for name, panel in FLEET.panels.items()}
# The oscilloscope has the most states to be in, and an error that took 200 to 5000 steps to show;
# the source meter's sweeps take the longest.
STEPS = 2000
OTHER_STEPS = {"keysight_infiniivision": 8000, "keithley_2450": 200}
# Of all messages that are sent; what conflicts with other settings is refused, as it must be.
FEWEST_TAKEN = 0.5
# A walk that begins anew every few steps goes nowhere.
BACK_TO_START = ("*RST", ":SYSTem:PRESet")
RESET = re.compile(rb"(?i)\*RST|:?SYST\w*:PRES")
SAY = re.compile(r"[:*A-Za-z][\x20-\x7e]{0,99}")


class Walk:
    """Messages that a panel may get, drawn at random with a seed."""

    def __init__(self, kind: str, panel: FrontPanel) -> None:
        self._draw = random.Random(f"{kind} 1")
        cores = [part for part in vars(panel).values() if isinstance(part, ScpiCore)]
        self._commands = [
            command
            for core in cores
            for command in core.declared
            if command.pattern not in BACK_TO_START
        ]
        self._specified = [each for each in specified(kind) if RESET.search(each) is None]

    def message(self) -> bytes:
        """Return the next message: of a declared command, or as a panel's tests have it."""
        if self._commands and (not self._specified or self._draw.random() < 0.8):
            return self._of(self._draw.choice(self._commands))
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


def specified(kind: str) -> list[bytes]:
    """Return what looks like messages in the test module of a kind of panel; frames for an ITLA."""
    if kind == "itla":
        registers = (0x30, 0x31, 0x32, 0x34, 0x35, 0x36, 0x62, 0x90, 0x20, 0x21, 0x00, 0x0B, 0x01)
        data = (8, 0, 1, 10, 196, 191, 5000, 600, 1350, 0xFFFF)
        return [
            Request(register, each, write).encode()
            for register in registers
            for each in data
            for write in (True, False)
        ]
    path = Path(__file__).parent / "panels" / f"test_{kind}_panel.py"
    if not path.is_file():
        return []
    found = {
        node.value if isinstance(node.value, str) else node.value.decode("latin-1")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    }
    return [f"{text}\n".encode("latin-1") for text in sorted(found) if SAY.fullmatch(text)]


class Digitizer:
    """A digitizer without light, whose records cost nothing."""

    def __init__(self) -> None:
        self._armed: tuple[CaptureWindow, Callable[[Capture], None]] | None = None

    def arm(self, window: CaptureWindow, deliver: Callable[[Capture], None]) -> None:
        self._armed = window, deliver

    def disarm(self) -> None:
        self._armed = None

    def capture_now(self, window: CaptureWindow) -> Capture:
        return {number: np.zeros(window.samples, np.float32) for number in window.channels}

    def fire(self) -> None:
        """Deliver the record that somebody waits for, if any."""
        if self._armed is not None:
            (window, deliver), self._armed = self._armed, None
            deliver(self.capture_now(window))


def panel_with_trigger(kind: str) -> tuple[FrontPanel, BenchClock, Callable[[], None]]:
    """Return a panel of the fleet bench, on a bench of its own, with its clock and trigger."""
    if kind == "keysight_infiniivision":
        clock, digitizer = BenchClock(), Digitizer()
        scope = InfiniiVisionPanel("scope", clock, digitizer, 2, memory_samples=1000)
        return scope, clock, digitizer.fire
    name = NAMES[kind]
    table = FLEET.model_copy(update={"panels": {name: FLEET.panels[name]}})
    bench = build_bench(table, shipped_fleet_path())
    return bench.panels[FLEET.panels[name].address], bench.clock, bench.trigger.fire


@pytest.mark.parametrize("kind", sorted(NAMES))
def test_no_error_leaves_a_panel_while_it_walks_through_its_settings(kind: str) -> None:
    panel, clock, fire = panel_with_trigger(kind)
    walk = Walk(kind, panel)
    answers_scpi = any(isinstance(part, ScpiCore) for part in vars(panel).values())
    taken = 0
    steps = OTHER_STEPS.get(kind, STEPS)
    for _ in range(steps):
        message = walk.message()
        panel.write(message, end=True)
        while panel.read(1 << 20)[0]:
            pass
        if answers_scpi:
            panel.write(b":SYST:ERR?\n", end=True)
            taken += int(panel.read(1 << 20)[0].partition(b",")[0] or b"0") == 0
        walk.choose(
            lambda: None,
            fire,
            fire,
            lambda: clock.sleep(0.3),
            panel.clear,
            panel.status_byte,
        )()
    assert taken >= FEWEST_TAKEN * steps or not answers_scpi
