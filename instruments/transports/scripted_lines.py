"""A transport for replies of several lines that follows a script, as those in `scripted` do."""

from __future__ import annotations

from collections.abc import Iterable

from labctl.errors import ConnectionFailedError, InstrumentTimeoutError, LabctlError
from labctl.instruments.transports.scripted import ScriptedClock
from labctl.instruments.transports.visa_lines import Complete


class ScriptedLines:
    """A LinesTransport whose conversation is known in advance.

    A step is (what the driver sends, the lines that have arrived by the time its reply ends). A
    reply that does not end with its last line times out; one that ends before fails the test.
    """

    def __init__(
        self, steps: Iterable[tuple[str, tuple[str, ...] | LabctlError]], name: str = "scripted"
    ) -> None:
        self.name = name
        self.clock = ScriptedClock()
        self.cleared = 0
        self.closed = False
        self._steps = list(steps)

    def exchange(self, command: str, complete: Complete) -> tuple[str, ...]:
        """Check a command and return its scripted lines, one by one."""
        if self.closed:
            raise ConnectionFailedError(self.name, "session is closed", command)
        assert self._steps, f"{command!r} was sent after the script's end"
        expected, reply = self._steps.pop(0)
        assert command == expected, f"{command!r} was sent, {expected!r} expected"
        if isinstance(reply, LabctlError):
            raise reply
        for count in range(1, len(reply) + 1):
            if complete(reply[:count]):
                assert count == len(reply), f"{reply[count:]!r} is left for the next reply"
                return reply
        raise InstrumentTimeoutError(self.name, "reply has not ended", command)

    def clear(self) -> None:
        """Count a clear."""
        self.cleared += 1

    def close(self) -> None:
        """Refuse everything from now on."""
        self.closed = True

    def finish(self) -> None:
        """Assert that the whole script was played."""
        assert not self._steps, f"never sent: {[sent for sent, _ in self._steps]!r}"
