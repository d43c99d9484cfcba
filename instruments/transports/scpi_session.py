"""What SCPI instruments have in common: checked settings, parsed numbers, `*IDN?`.

Source: IEEE 488.2 and SCPI-99; error replies as in section 20 of the command tables.
"""

from __future__ import annotations

import math
from contextlib import suppress

from labctl.clock import Clock
from labctl.errors import InstrumentReportedError, InstrumentTimeoutError, ReplyError
from labctl.instruments.capabilities import Identity
from labctl.instruments.codecs.ieee488 import parse_error
from labctl.instruments.transports.transport import MessageTransport

ERROR_QUERY = "SYST:ERR?"
_QUEUE_DEPTH = 32


class ScpiSession:
    """A message transport that checks the instrument's error queue after each setting."""

    def __init__(self, transport: MessageTransport) -> None:
        self.transport = transport
        self.name = transport.name
        self.clock: Clock = transport.clock
        self.query = transport.query

    def set(self, command: str) -> None:
        """Send a setting; raises InstrumentReportedError, naming it, if it is refused."""
        self.transport.write(command)
        self.check(command)

    def set_block(self, prefix: str, payload: bytes | memoryview) -> None:
        """Send a setting that carries a block, and check it like any other."""
        self.transport.write_block(prefix, payload)
        self.check(prefix)

    def forget_errors(self) -> None:
        """Empty the error queue of what others left in it (`*CLS`)."""
        self.transport.write("*CLS")

    def check(self, command: str) -> None:
        """Empty the error queue; raises InstrumentReportedError with the first error in it."""
        first = self._next_error(command)
        if first is None:
            return
        with suppress(ReplyError, InstrumentTimeoutError):
            for _ in range(_QUEUE_DEPTH):
                if self._next_error(command) is None:
                    break
        code, message = first
        raise InstrumentReportedError(self.name, code, message, command)

    def number(self, command: str) -> float:
        """Query a number; raises ReplyError if it is none, or not finite."""
        reply = self.query(command)
        try:
            value = float(reply)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ReplyError(self.name, f"answered {reply!r} where a number is due", command)
        return value

    def integer(self, command: str) -> int:
        """Query a whole number; raises ReplyError if it is none."""
        value = self.number(command)
        if value != int(value):
            raise ReplyError(self.name, f"answered {value!r} where a count is due", command)
        return int(value)

    def identify(self, *models: str) -> Identity:
        """Ask `*IDN?`; raises ReplyError unless the model starts with one of `models`."""
        reply = self.query("*IDN?")
        fields = [field.strip() for field in reply.split(",", 3)]
        if len(fields) != 4:
            raise ReplyError(self.name, f"{reply!r} does not identify an instrument", "*IDN?")
        identity = Identity(*fields)
        if not identity.model.upper().startswith(models):
            wanted = " or ".join(models)
            raise ReplyError(self.name, f"{reply!r} answers, a {wanted} is expected", "*IDN?")
        return identity

    def _next_error(self, command: str) -> tuple[int, str] | None:
        reply = self.query(ERROR_QUERY)
        try:
            code, message = parse_error(reply)
        except ValueError as error:
            raise ReplyError(self.name, f"{error} (after {command!r})", ERROR_QUERY) from error
        return (code, message) if code != 0 else None
