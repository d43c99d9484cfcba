"""The error queue of a Red Pitaya: it counts its errors, and gives them out under a longer name.

Source: the maker's client, docs/wire/red_pitaya.md, section Errors [V].
"""

from __future__ import annotations

from labctl.errors import ReplyError
from labctl.instruments.codecs.ieee488 import parse_error
from labctl.instruments.codecs.replies import number_of
from labctl.instruments.transports.scpi_session import ScpiSession

# No more errors are asked for than this number, even if more are counted: asking must end.
_QUEUE_DEPTH = 32
_ERROR_COUNT = "SYST:ERR:COUN?"
_NEXT_ERROR = "SYST:ERR:NEXT?"


class RedPitayaSession(ScpiSession):
    """A ScpiSession that asks how many errors there are before it asks for them."""

    def _first_error(self, command: str) -> tuple[int, str] | None:
        return self._next_error(command)

    def _next_error(self, command: str) -> tuple[int, str] | None:
        """Take the first error off the queue, if it counts any; see `ScpiSession`."""
        # By the transport itself: a query that fails asks here for its own error.
        counted = self.transport.query(_ERROR_COUNT)
        try:
            count = min(int(number_of(counted)), _QUEUE_DEPTH)
        except (ValueError, OverflowError) as error:
            raise ReplyError(self.name, str(error), _ERROR_COUNT) from error
        if count == 0:
            return None
        reply = self.transport.query(_NEXT_ERROR)
        try:
            return parse_error(reply)
        except ValueError as error:
            problem = f"{error} (after {command!r})"
            raise ReplyError(self.name, problem, _NEXT_ERROR) from error
