"""Transports that follow a script: how a driver is tested without an instrument.

A script is the exact conversation expected. A driver that sends anything else fails the test with
an AssertionError, and so does `finish` when the driver stopped before the script's end.
"""

from __future__ import annotations

from collections.abc import Iterable

from labctl.errors import ConnectionFailedError, LabctlError

Reply = str | bytes | tuple[str, ...] | LabctlError | None
"""What answers a command: text, a block's payload, fenced lines, an error to raise, or nothing."""


class ScriptedClock:
    """A clock that moves only when a caller sleeps on it."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now_s(self) -> float:
        """Return the seconds slept so far."""
        return self._now_s

    def sleep(self, duration_s: float) -> None:
        """Let time pass at once."""
        self._now_s += duration_s


class ScriptedTransport:
    """A MessageTransport whose conversation is known in advance.

    A step is (what the driver sends, what answers). A block is sent as prefix + payload.
    `sent` keeps everything as it was sent; `cleared` counts the clears.
    """

    def __init__(self, steps: Iterable[tuple[str | bytes, Reply]], name: str = "scripted") -> None:
        self.name = name
        self.clock = ScriptedClock()
        self.sent: list[str | bytes] = []
        self.cleared = 0
        self.closed = False
        self._steps = list(steps)

    def write(self, command: str) -> None:
        """Check a command that has no reply."""
        reply = self._next(command)
        assert reply is None, f"{command!r} was written, its reply {reply!r} stays unread"

    def query(self, command: str) -> str:
        """Check a query and return its scripted reply."""
        reply = self._next(command)
        assert isinstance(reply, str), f"{command!r} was queried, but is answered with {reply!r}"
        return reply

    def query_block(self, command: str) -> memoryview:
        """Check a query and return its scripted payload."""
        reply = self._next(command)
        assert isinstance(reply, bytes), f"{command!r} expects a block, not {reply!r}"
        return memoryview(reply)

    def write_block(self, prefix: str, payload: bytes | memoryview) -> None:
        """Check a command that carries a block."""
        reply = self._next(prefix.encode() + bytes(payload))
        assert reply is None, f"{prefix!r} was written, its reply {reply!r} stays unread"

    def fence(self, command: str, marker: str, answer: str) -> tuple[str, ...]:
        """Check a command; the marker is taken as answered after the scripted lines."""
        reply = self._next(command)
        assert isinstance(reply, tuple), f"{command!r} is fenced by {marker!r} -> {answer!r}"
        return reply

    def clear(self) -> None:
        """Count a clear."""
        self.cleared += 1

    def close(self) -> None:
        """Refuse everything from now on."""
        self.closed = True

    def finish(self) -> None:
        """Assert that the whole script was played."""
        assert not self._steps, f"never sent: {[sent for sent, _ in self._steps]!r}"

    def _next(self, sent: str | bytes) -> Reply:
        if self.closed:
            raise ConnectionFailedError(self.name, "session is closed", str(sent))
        self.sent.append(sent)
        assert self._steps, f"{sent!r} was sent after the script's end"
        expected, reply = self._steps.pop(0)
        assert sent == expected, f"{sent!r} was sent, {expected!r} expected"
        if isinstance(reply, LabctlError):
            raise reply
        return reply


class ScriptedFrames:
    """A FrameTransport whose frames are known in advance, written in hexadecimal."""

    def __init__(self, steps: Iterable[tuple[str, str | LabctlError]]) -> None:
        self.name = "scripted"
        self.clock = ScriptedClock()
        self.cleared = 0
        self.closed = False
        self._steps = list(steps)

    def exchange(self, frame: bytes) -> bytes:
        """Check a frame and return the scripted one."""
        if self.closed:
            raise ConnectionFailedError(self.name, "session is closed", frame.hex())
        assert self._steps, f"{frame.hex()} was sent after the script's end"
        expected, reply = self._steps.pop(0)
        assert frame == bytes.fromhex(expected), f"{frame.hex()} was sent, {expected} expected"
        if isinstance(reply, LabctlError):
            raise reply
        return bytes.fromhex(reply)

    def clear(self) -> None:
        """Count a clear."""
        self.cleared += 1

    def close(self) -> None:
        """Refuse everything from now on."""
        self.closed = True

    def finish(self) -> None:
        """Assert that the whole script was played."""
        assert not self._steps, f"never sent: {[sent for sent, _ in self._steps]!r}"
