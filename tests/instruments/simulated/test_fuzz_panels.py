"""Every panel of the fleet bench stands drawn messages, and walks through its settings.

A search by drawing is never done: 500 messages a panel here, 20,000 and more on demand, e.g.

    export LABCTL_FUZZ_SEED=random LABCTL_FUZZ_MESSAGES=20000
    pytest tests/instruments/simulated/test_fuzz_panels.py

Panels are found by their types on the shipped bench, so that a new one is drawn too. The 500
messages find the link dark: the light of their records is nine tenths of their work, and what a
panel does with records does not depend on it. The search on demand has the whole bench's light.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from long_tests import long

from labctl.data import shipped_fleet_path
from labctl.instruments.simulated.bench_light import Light
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.keysight_infiniivision import InfiniiVisionPanel
from labctl.instruments.simulated.physics.grid import Instants, Real, Window
from labctl.instruments.simulated.ports import Capture, CaptureWindow
from labctl.testing import messages_in, panel_fuzz, panel_walk
from labctl.testing.fuzz import MESSAGES_VARIABLE
from labctl.testing.walk import walk
from labctl.toml_file import read_toml

FLEET = read_toml(shipped_fleet_path(), BenchFile)
NAMES: dict[str, str] = {panel.type: name for name, panel in FLEET.panels.items()}

# How instruments without *IDN? are asked who they are, and how the answer begins.
IDENTITIES = {
    "thorlabs_mx10b": (b"SYS:MODEL?\n", b"MX10B"),
    "oz_optics_dd100": (b"CD\n", b"DD100MC"),
    "qontrol_q8iv": (b"ID?\n", b"Q8iv-"),
}
# The oscilloscope has the most states to be in, and an error that took 200 to 5000 steps to show;
# the source meter's sweeps take the longest.
SCOPE = "keysight_infiniivision"
SCOPE_STEPS = [2000, *long(8000)]
STEPS = [500, *long(2000)]
SHARES = {"keithley_2450": 0.1}
MESSAGES = None if MESSAGES_VARIABLE in os.environ else 500


def specified(kind: str) -> tuple[str, ...]:
    return messages_in(Path(__file__).parent / "panels" / f"test_{kind}_panel.py")


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


@pytest.fixture
def dark_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let detectors show 0 V for nothing; digitizers go on with ranges, codes and noise."""
    if MESSAGES is None:
        return

    def voltages(_: Light, windows: Mapping[str, Window]) -> dict[str, Real]:
        return {name: np.zeros(window.samples, np.float32) for name, window in windows.items()}

    def voltage_at(_: Light, _name: str, at: Instants, *_more: int) -> tuple[Real, int]:
        return np.zeros(len(at), np.float32), 0

    monkeypatch.setattr(Light, "voltages", voltages)
    monkeypatch.setattr(Light, "voltage_at", voltage_at)


@pytest.mark.usefixtures("dark_link")
@pytest.mark.parametrize("kind", sorted(NAMES))
def test_drawn_messages_leave_a_panel_alive(kind: str) -> None:
    question, answer = IDENTITIES.get(kind, (b"*IDN?\n", b""))
    panel_fuzz(
        shipped_fleet_path(),
        NAMES[kind],
        messages=MESSAGES,
        specified=specified(kind),
        question=question,
        answer=answer,
    )


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("kind", sorted(set(NAMES) - {SCOPE}))
def test_no_error_leaves_a_panel_while_it_walks_through_its_settings(kind: str, steps: int) -> None:
    taken = round(steps * SHARES.get(kind, 1.0))
    panel_walk(shipped_fleet_path(), NAMES[kind], steps=taken, specified=specified(kind))


@pytest.mark.parametrize("steps", SCOPE_STEPS)
def test_no_error_leaves_an_oscilloscope_while_it_walks_through_its_settings(steps: int) -> None:
    clock, digitizer = BenchClock(), Digitizer()
    scope = InfiniiVisionPanel("scope", clock, digitizer, 2, memory_samples=1000)
    messages = [f"{text}\n".encode("latin-1") for text in specified(SCOPE) if "RST" not in text]
    walk(
        scope,
        clock,
        digitizer.fire,
        kind=SCOPE,
        steps=steps,
        seed=None,
        specified=messages,
    )
