"""Wires at whose other end nobody answers, or somebody answers nonsense, or that break."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.errors import InstrumentTimeoutError, ReplyError
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panel import FrontPanel
from labctl.instruments.simulated.visa_backend import LabctlVisaLibrary
from labctl.testing.scripts import ScriptedClock

DEAD_ADDRESS = "TCPIP0::dut::inst0::INSTR"
"""The one address of a BrokenLibrary."""

# A driver that asks for lines until it is content must stop by itself; this many are enough.
_MOST_LINES = 300


class SilentWire:
    """A transport of any kind, at whose other end nobody answers.

    `said` keeps what was sent, `closed` counts the calls of `close`.
    """

    def __init__(self) -> None:
        self.name = "dut"
        self.clock = ScriptedClock()
        self.said: list[object] = []
        self.closed = 0

    def write(self, command: str) -> None:
        """Take a command."""
        self.said.append(command)

    def query(self, command: str) -> str:
        """Take a command and answer."""
        return self._answer(command)

    def query_block(self, command: str) -> memoryview:
        """Take a command and answer as the payload of a block."""
        return memoryview(self._answer(command).encode("latin-1"))

    def write_block(self, prefix: str, payload: bytes | memoryview) -> None:
        """Take a block."""
        self.said.append(prefix)

    def fence(self, command: str, marker: str, answer: str) -> tuple[str, ...]:
        """Take a command and answer one line."""
        return (self._answer(command),)

    def exchange(self, message: bytes | str, complete: Callable[..., bool] | None = None) -> Any:
        """Take a frame and answer with one of its length, or a line and answer until complete."""
        answer = self._answer(str(message))
        if complete is None:
            return (answer.encode("latin-1") * len(message) + bytes(len(message)))[: len(message)]
        lines: list[str] = []
        while len(lines) < _MOST_LINES:
            lines.append(answer)
            if complete(lines):
                return tuple(lines)
        raise ReplyError(self.name, "reply has not ended", str(message))

    def clear(self) -> None:
        """Discard nothing."""

    def close(self) -> None:
        """Count."""
        self.closed += 1

    def _answer(self, command: str) -> str:
        self.said.append(command)
        raise InstrumentTimeoutError(self.name, "no answer", command)


class GarbageWire(SilentWire):
    """A transport of any kind, at whose other end somebody gives one answer to everything."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self._garbage = answer

    def _answer(self, command: str) -> str:
        self.said.append(command)
        return self._garbage


class DeadPanel:
    """A front panel that takes everything and answers nothing."""

    def write(self, data: bytes, *, end: bool) -> None:
        """Take it."""

    def read(self, limit: int) -> tuple[bytes, bool]:
        """Return nothing."""
        return b"", False

    def clear(self) -> None:
        """Drop nothing."""

    def status_byte(self) -> int:
        """Return 0."""
        return 0


@dataclass
class _DeadWorld:
    panels: Mapping[str, FrontPanel]
    clock: BenchClock


class BrokenLibrary(LabctlVisaLibrary):
    """A VISA library with one address, DEAD_ADDRESS, where every read raises `failure`."""

    failure: BaseException

    @staticmethod
    def load_world(path: Path) -> _DeadWorld:
        """Return a world of one dead panel, for any path."""
        return _DeadWorld({DEAD_ADDRESS: DeadPanel()}, BenchClock())

    def read(self, session: Any, count: int) -> Any:
        """Raise the failure."""
        raise self.failure
