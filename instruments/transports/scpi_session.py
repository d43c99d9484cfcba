"""What SCPI instruments have in common: checked settings, parsed numbers, `*IDN?`.

Source: IEEE 488.2 and SCPI-99; docs/wire/scpi.md, sections Common commands and Errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from labctl.clock import Clock
from labctl.errors import (
    ConnectionFailedError,
    InstrumentError,
    InstrumentReportedError,
    InstrumentTimeoutError,
    ReplyError,
)
from labctl.instruments.capabilities import Identity
from labctl.instruments.codecs.ieee488 import parse_error
from labctl.instruments.codecs.replies import number_of
from labctl.instruments.driver_rules import wait_for
from labctl.instruments.transports.transport import MessageTransport

_Reply = TypeVar("_Reply", str, memoryview)

ERROR_QUERY = "SYST:ERR?"
_QUEUE_DEPTH = 32


class ScpiSession:
    """A message transport that checks the instrument's error queue after each setting."""

    def __init__(self, transport: MessageTransport) -> None:
        self.transport = transport
        self.name = transport.name
        self.clock: Clock = transport.clock

    def set(self, command: str) -> None:
        """Send a setting; raises InstrumentReportedError, naming it, if it is refused."""
        self.transport.write(command)
        self.check(command)

    def set_all(self, *commands: str) -> None:
        """Send settings in this order, checking each; the first that is refused ends it."""
        for command in commands:
            self.set(command)

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

    def query(self, command: str) -> str:
        """Send a query and return its reply.

        A query that the instrument refuses has no reply: then its own error is raised
        (InstrumentReportedError), else InstrumentTimeoutError.
        """
        return self._answered(self.transport.query, command)

    def number(self, command: str) -> float:
        """Query a finite number; raises ReplyError on any other reply, an overload included."""
        return self.as_number(self.query(command), command)

    def as_number(self, reply: str, command: str) -> float:
        """Return the number in a reply to `command`; raises ReplyError if there is none."""
        try:
            return number_of(reply)
        except OverflowError as error:
            raise ReplyError(self.name, str(error), command) from error
        except ValueError as error:
            raise self._nonsense(str(error), command) from error

    def integer(self, command: str) -> int:
        """Query a whole number; raises ReplyError on any other reply."""
        value = self.number(command)
        if value != int(value):
            raise self._nonsense(f"expected a whole number, got {value!r}", command)
        return int(value)

    def one_of(self, command: str, valid: Sequence[int]) -> int:
        """Query a whole number; raises ReplyError unless it is one of `valid`."""
        value = self.integer(command)
        if value not in valid:
            raise self._nonsense(f"expected one of {valid}, got {value}", command)
        return value

    def flag(self, command: str) -> bool:
        """Query 0 or 1; raises ReplyError on anything else."""
        return self.one_of(command, (0, 1)) == 1

    def fields(self, command: str, what: str) -> tuple[str, str]:
        """Ask two queries in one message; raises ReplyError, naming `what`, unless both answer."""
        replies = self.query(command).split(";")
        if len(replies) != 2 or not all(replies):
            raise self._nonsense(f"expected {what}, got {';'.join(replies)!r}", command)
        return replies[0].strip(), replies[1].strip()

    def numbers(self, command: str, count: int, what: str) -> list[float]:
        """Query `count` finite numbers with commas between; raises ReplyError, naming `what`."""
        reply = self.query(command)
        try:
            values = [number_of(field) for field in reply.split(",")]
        except OverflowError as error:
            raise ReplyError(self.name, f"expected {count} {what}: {error}", command) from error
        except ValueError as error:
            raise self._nonsense(f"expected {count} {what}: {error}", command) from error
        if len(values) != count:
            raise self._nonsense(f"expected {count} {what}, got {reply!r}", command)
        return values

    def array(self, command: str, dtype: str, count: int, what: str) -> NDArray[np.generic]:
        """Query a block of `count` items of a NumPy `dtype`, byte order included, shape (count,).

        The array is a view of what arrived. Raises ReplyError, naming `what` the items are, on
        another number of bytes.
        """
        payload = self._answered(self.transport.query_block, command)
        item_bytes = np.dtype(dtype).itemsize
        if len(payload) != item_bytes * count:
            problem = f"expected {count} {what} of {item_bytes} bytes, got {len(payload)} bytes"
            raise self._nonsense(problem, command)
        return np.frombuffer(payload, dtype=dtype)

    def wait(
        self,
        condition: Callable[[], bool],
        timeout_s: float,
        problem: str,
        command: str,
        interval_s: float = 0.05,
        hint: str = "",
    ) -> None:
        """Poll every `interval_s` (s); raises InstrumentTimeoutError after `timeout_s` (s).

        The error has `problem`, the time, and `hint`, which may name the cause.
        """
        wait_for(
            condition,
            self.clock,
            timeout_s,
            instrument=self.name,
            problem=f"{problem} within {timeout_s:g} s{hint}",
            command=command,
            interval_s=interval_s,
        )

    def operation_complete(self) -> bool:
        """Return whether nothing is pending (`*OPC?`)."""
        return self.integer("*OPC?") == 1

    def settle(self, timeout_s: float, command: str) -> None:
        """Wait until what `command` started has ended; raises InstrumentTimeoutError."""
        problem = f"did not complete {command!r}"
        self.wait(self.operation_complete, timeout_s, problem, "*OPC?")

    def identify(self, *models: str, query: str = "*IDN?") -> Identity:
        """Ask who answers; raises ReplyError unless its model starts with one of `models`."""
        reply = self.query(query)
        fields = [field.strip() for field in reply.split(",", 3)]
        if len(fields) != 4:
            raise ReplyError(
                self.name, f"expected maker, model, serial and firmware, got {reply!r}", query
            )
        identity = Identity(*fields)
        if not identity.model.upper().startswith(models):
            wanted = " or ".join(models)
            raise ReplyError(self.name, f"expected a {wanted}, got {reply!r}", query)
        return identity

    def _answered(self, ask: Callable[[str], _Reply], command: str) -> _Reply:
        """Return what `ask` returns; a query without an answer may have been refused."""
        try:
            return ask(command)
        except InstrumentTimeoutError as silence:
            self._raise_refusal(command, silence)
            raise

    def _nonsense(self, problem: str, command: str) -> ReplyError:
        """Return the error for a reply that makes no sense; the session is out of step then.

        It may be the reply to another query, so what may still come is discarded. Raises the
        instrument's own error instead, if there is one.
        """
        failure = ReplyError(self.name, problem, command)
        with suppress(InstrumentError):
            self.transport.clear()
            self._raise_refusal(command, failure)
        return failure

    def _raise_refusal(self, command: str, failure: InstrumentError) -> None:
        """Raise what the instrument reports of a query that failed; it must not stay queued.

        Left there, the error would be taken for that of the next setting.
        """
        with suppress(InstrumentTimeoutError, ReplyError, ConnectionFailedError):
            try:
                self.check(command)
            except InstrumentReportedError as refusal:
                raise refusal from failure

    def _next_error(self, command: str) -> tuple[int, str] | None:
        reply = self.transport.query(ERROR_QUERY)
        try:
            code, message = parse_error(reply)
        except ValueError as error:
            raise ReplyError(self.name, f"{error} (after {command!r})", ERROR_QUERY) from error
        return (code, message) if code != 0 else None
