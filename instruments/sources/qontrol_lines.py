"""The line protocol of Qontrol modules: answers, and error lines that come at any time.

Source: docs/wire/qontrol_q8iv.md, sections Line and Error lines [V]. A setting is answered `OK`.
Lines `E<nn>:<ch>` come instead of an answer or on their own; what has arrived of them by the end of
an answer is raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from labctl.errors import InstrumentReportedError, InstrumentTimeoutError, ReplyError
from labctl.instruments.driver_rules import asked_again
from labctl.instruments.transports.transport import LinesTransport

_ERRORS = {
    1: "over-voltage",
    2: "over-current",
    3: "power error",
    10: "command not recognised",
    11: "bad parameter",
    12: "bad channel",
    13: "forbidden",
    14: "overflow",
    15: "communication error",
    16: "time-out",
    30: "more errors suppressed",
    90: "module powered up: outputs and limits are lost",
}
# Of the codes above: a setting was refused, and the module lost what was set.
_REFUSALS = range(10, 17)
_POWERED_UP = 90
_ERROR_LINE = re.compile(r"E(\d+):(\d+)")
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d*)?)\s*(V|mA)")


class QontrolLines:
    """Asks and sets; `powered_up` is called when the module reports that it was powered up."""

    def __init__(self, transport: LinesTransport, powered_up: Callable[[], None]) -> None:
        self._name = transport.name
        self._transport = transport
        self._powered_up = powered_up

    def set(self, command: str, reading: str) -> None:
        """Send a setting, then a reading of the same channel, so that its error line arrives."""
        self.acknowledged(command)
        self._exchange(reading, 1, blamed=command)

    def set_and_see(
        self, command: str, query: str, value: float, unit: str, *, scatter: float
    ) -> None:
        """Send a setting and read back what it set, to within `scatter`, both in `unit`.

        An acknowledgement says that something was set; a digit that changed on its way, it does
        not. Sent again if another value is found; raises ReplyError, naming both, if it is not
        there then.
        """
        for _ in range(2):
            self.acknowledged(command)
            found = self._parsed(self._exchange(query, 1, blamed=command)[0], unit, query)
            if abs(found - value) <= scatter:
                return
        problem = f"expected {value:g} {unit} after it was set, got {found:g} {unit}"
        raise ReplyError(self._name, f"{problem} (from {query!r})", command)

    def acknowledged(self, command: str) -> None:
        """Send a setting; raises ReplyError unless it is answered `OK`."""
        reply = self.query(command)
        if reply != "OK":
            self._transport.clear()
            raise ReplyError(self._name, f"expected OK, got {reply!r}", command)

    def query(self, command: str) -> str:
        """Return the line that answers a command."""
        return self._exchange(command, 1, blamed=command)[0]

    def quantity(self, command: str, unit: str) -> float:
        """Return the number that answers a command; raises ReplyError unless it is in `unit`."""
        return self._parsed(self.query(command), unit, command)

    def quantities(self, command: str, unit: str, count: int) -> tuple[float, ...]:
        """Return the numbers that answer a command, one on each of `count` lines."""
        return tuple(self._parsed(line, unit, command) for line in self.lines(command, count))

    def lines(self, command: str, count: int) -> list[str]:
        """Return `count` lines that answer a command."""
        return self._exchange(command, count, blamed=command)

    def _parsed(self, reply: str, unit: str, command: str) -> float:
        match = _QUANTITY.fullmatch(reply)
        if match is None or match.group(2) != unit:
            self._transport.clear()
            problem = f"expected a number in {unit}, got {reply!r}"
            raise ReplyError(self._name, problem, command)
        return float(match.group(1))

    def _exchange(self, command: str, count: int, *, blamed: str) -> list[str]:
        """Return `count` lines of answer; raise the first error line among or instead of them."""
        answer: list[str] = []
        errors: list[tuple[int, int]] = []

        def complete(lines: Sequence[str]) -> bool:
            match = _ERROR_LINE.fullmatch(lines[-1])
            if match is not None:
                errors.append((int(match.group(1)), int(match.group(2))))
                return errors[-1][0] in _REFUSALS
            if lines[-1]:
                answer.append(lines[-1])
            return len(answer) == count

        def exchange() -> None:
            answer.clear()
            try:
                self._transport.exchange(command, complete)
            except InstrumentTimeoutError:
                self._raise(errors, blamed)
                raise

        if command.endswith("?"):
            asked_again(exchange)
        else:
            exchange()
        self._raise(errors, blamed)
        return answer

    def _raise(self, errors: Sequence[tuple[int, int]], command: str) -> None:
        if any(code == _POWERED_UP for code, _ in errors):
            self._powered_up()
        for code, channel in errors:
            message = f"{_ERRORS.get(code, 'unknown error')} (channel {channel})"
            raise InstrumentReportedError(self._name, code, message, command)
