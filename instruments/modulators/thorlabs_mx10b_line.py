"""The line protocol of Thorlabs MX, MBX and TLX boxes: settings fenced by a query.

Source: docs/wire/thorlabs_mx10b.md, sections Line, Acknowledgement and Errors [V]. Settings have a
colon behind the last mnemonic; errors come as replies. The guide and public drivers disagree on
whether a setting is acknowledged with `1`: each setting is therefore followed by a query with a
known answer, and what comes before that answer is its acknowledgement.
"""

from __future__ import annotations

from collections.abc import Callable

from labctl.errors import InstrumentReportedError, ReplyError
from labctl.instruments.codecs.replies import NumberForms, number_of
from labctl.instruments.driver_rules import asked_again, wait_for
from labctl.instruments.transports.transport import MessageTransport

_MARKER = "SYS:MODEL?"
_ERROR = "Err:"
# The instrument gives its errors in words, without a number.
_NO_CODE = -1


class MX10BLine:
    """Asks and sets; `settling_timeout_s` is how long `settle` waits, in s."""

    def __init__(self, transport: MessageTransport, settling_timeout_s: float) -> None:
        self.name = transport.name
        self._transport = transport
        self._settling_timeout_s = settling_timeout_s
        self._marker_answer: str | None = None
        self._forms = NumberForms()

    def model(self) -> str:
        """Return the model, as the box spells it."""
        self._marker_answer = self.query(_MARKER)
        return self._marker_answer

    def set(self, *commands: str) -> None:
        """Send settings one by one; raises InstrumentReportedError if one is refused, naming it."""
        for command in commands:
            answer = self._marker_answer if self._marker_answer is not None else self.model()
            for line in self._transport.fence(command, _MARKER, answer):
                self._refuse_error(line, command)
                if line not in ("", "1"):
                    raise ReplyError(
                        self.name,
                        f"expected 1 or nothing as acknowledgement, got {line!r}",
                        command,
                    )

    def query(self, command: str) -> str:
        """Return the reply to a query; raises InstrumentReportedError if it is an error."""
        reply = asked_again(lambda: self._transport.query(command))
        self._refuse_error(reply, command)
        return reply

    def number(self, command: str) -> float:
        """Query a finite number; raises ReplyError on any other reply."""
        reply = self.query(command)
        try:
            return number_of(self._forms.confirmed(command, reply, lambda: self.query(command)))
        except (ValueError, OverflowError) as error:
            raise ReplyError(self.name, str(error), command) from error

    def flag(self, command: str) -> bool:
        """Query 0 or 1; raises ReplyError on anything else."""
        value = self.number(command)
        if value not in (0.0, 1.0):
            raise ReplyError(self.name, f"expected 0 or 1, got {value:g}", command)
        return value == 1.0

    def settle(self, condition: Callable[[], bool], problem: str, query: str) -> None:
        """Wait for a condition; raises InstrumentTimeoutError with the text `problem`."""
        timeout_s = self._settling_timeout_s
        wait_for(
            condition,
            self._transport.clock,
            timeout_s,
            instrument=self.name,
            problem=f"{problem} within {timeout_s:g} s",
            command=query,
        )

    def _refuse_error(self, line: str, command: str) -> None:
        if line.startswith(_ERROR):
            message = line.removeprefix(_ERROR).strip()
            raise InstrumentReportedError(self.name, _NO_CODE, message, command)
