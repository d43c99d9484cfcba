"""Transports that follow a script: how a driver is tested without an instrument.

A script is the exact conversation expected, step by step. A driver that sends anything else fails
the test with a ScriptError, which names the step, what was sent and what was expected; so does
`finish` when the driver stopped before the script's end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from labctl.errors import ConnectionFailedError, InstrumentTimeoutError, LabctlError

Reply = str | bytes | tuple[str, ...] | LabctlError | None
"""What answers a command: text, a block's payload, fenced lines, an error to raise, or nothing."""

OK = '+0,"No error"'
"""What `SYST:ERR?` replies when nothing went wrong."""

# What a session asks once it has been disturbed, and what an instrument without errors answers.
_NO_ERRORS: dict[str | bytes, str] = {"SYST:ERR?": OK, "SYST:ERR:COUN?": "0"}

_Sent = TypeVar("_Sent", bound=str | bytes)
_Answer = TypeVar("_Answer")


class ScriptError(AssertionError):
    """The conversation was another than the script's."""


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


def accepted(*commands: str | bytes) -> list[tuple[str | bytes, Reply]]:
    """Return steps of SCPI settings, each followed by an error query that finds nothing."""
    return [step for command in commands for step in ((command, None), ("SYST:ERR?", OK))]


class _Script(Generic[_Sent, _Answer]):
    """A conversation known in advance: steps of (what is sent, what answers).

    `sent` keeps everything as it was sent; `cleared` counts the clears; `closed` ends it.
    """

    def __init__(self, steps: Iterable[tuple[_Sent, _Answer]], name: str = "scripted") -> None:
        self.name = name
        self.clock = ScriptedClock()
        self.sent: list[_Sent] = []
        self.cleared = 0
        self.closed = False
        self._disturbed = False
        self._steps = list(steps)

    def clear(self) -> None:
        """Count a clear."""
        self.cleared += 1
        self._disturbed = True

    def close(self) -> None:
        """Refuse everything from now on."""
        self.closed = True

    def finish(self) -> None:
        """Check that the whole script was played; raises ScriptError with what was never sent."""
        left = [sent for sent, _ in self._steps[len(self.sent) :]]
        if left:
            raise ScriptError(f"{self.name}: never sent: {left!r}")

    def _next(self, sent: _Sent) -> _Answer:
        """Check what is sent against the next step and return what answers it, or raise that."""
        if self.closed:
            shown = sent.hex() if isinstance(sent, bytes) else str(sent)
            raise ConnectionFailedError(self.name, "session is closed", shown)
        number, steps = len(self.sent), self._steps
        self.sent.append(sent)
        if number >= len(steps):
            raise ScriptError(
                f"{self.name}: {sent!r} was sent after the script's end ({len(steps)} steps)"
            )
        expected, answer = steps[number]
        if sent != expected:
            raise ScriptError(
                f"{self.name}: {sent!r} was sent, {expected!r} expected"
                f" (step {number + 1} of {len(steps)})"
            )
        if isinstance(answer, LabctlError):
            self._disturbed = True
            raise answer
        return answer

    def _wrong(self, problem: str) -> ScriptError:
        return ScriptError(f"{self.name}: {problem} (step {len(self.sent)} of {len(self._steps)})")


class ScriptedTransport(_Script[str | bytes, Reply]):
    """A MessageTransport whose conversation is known in advance.

    A step is (what the driver sends, what answers). A block is sent as prefix + payload. After a
    clear or a scripted failure, error queries beyond the script's end find no error.
    """

    def _next(self, sent: str | bytes) -> Reply:
        if self._disturbed and len(self.sent) >= len(self._steps) and sent in _NO_ERRORS:
            return _NO_ERRORS[sent]
        return super()._next(sent)

    def write(self, command: str) -> None:
        """Check a command that has no reply."""
        reply = self._next(command)
        if reply is not None:
            raise self._wrong(f"{command!r} was written, its reply {reply!r} stays unread")

    def query(self, command: str) -> str:
        """Check a query and return its scripted reply."""
        reply = self._next(command)
        if not isinstance(reply, str):
            raise self._wrong(f"{command!r} was queried, but is answered with {reply!r}")
        return reply

    def query_block(self, command: str) -> memoryview:
        """Check a query and return its scripted payload."""
        reply = self._next(command)
        if not isinstance(reply, bytes):
            raise self._wrong(f"{command!r} expects a block, not {reply!r}")
        return memoryview(reply)

    def write_block(self, prefix: str, payload: bytes | memoryview) -> None:
        """Check a command that carries a block."""
        reply = self._next(prefix.encode() + bytes(payload))
        if reply is not None:
            raise self._wrong(f"{prefix!r} was written, its reply {reply!r} stays unread")

    def fence(self, command: str, marker: str, answer: str) -> tuple[str, ...]:
        """Check a command; the marker is taken as answered after the scripted lines."""
        reply = self._next(command)
        if not isinstance(reply, tuple):
            raise self._wrong(
                f"{command!r} is fenced by {marker!r} -> {answer!r}, but is answered with {reply!r}"
            )
        return reply


class ScriptedFrames(_Script[bytes, bytes | LabctlError]):
    """A FrameTransport whose frames are known in advance, written in hexadecimal."""

    def __init__(
        self, steps: Iterable[tuple[str, str | LabctlError]], name: str = "scripted"
    ) -> None:
        super().__init__([(bytes.fromhex(sent), _of_hex(reply)) for sent, reply in steps], name)

    def exchange(self, frame: bytes) -> bytes:
        """Check a frame and return the scripted one."""
        reply = self._next(frame)
        assert isinstance(reply, bytes)  # an error has been raised
        return reply


class ScriptedLines(_Script[str, tuple[str, ...] | LabctlError]):
    """A LinesTransport whose conversation is known in advance.

    A step is (what the driver sends, the lines that have arrived by the time its reply ends). A
    reply that does not end with its last line times out; one that ends before fails the test.
    """

    def exchange(self, command: str, complete: Callable[..., bool]) -> tuple[str, ...]:
        """Check a command and return its scripted lines, one by one."""
        reply = self._next(command)
        assert isinstance(reply, tuple)  # an error has been raised
        for count in range(1, len(reply) + 1):
            if complete(reply[:count]):
                if count < len(reply):
                    raise self._wrong(f"{reply[count:]!r} is left for the next reply")
                return reply
        raise InstrumentTimeoutError(self.name, "reply has not ended", command)


def _of_hex(reply: str | LabctlError) -> bytes | LabctlError:
    return bytes.fromhex(reply) if isinstance(reply, str) else reply
