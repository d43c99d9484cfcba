"""What SCPI instruments have in common: checked settings, parsed numbers, `*IDN?`.

Source: IEEE 488.2 and SCPI-99; docs/wire/scpi.md, sections Common commands and Errors.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
from labctl.haste import in_haste, patience_s
from labctl.instruments.capabilities import Identity
from labctl.instruments.codecs.ieee488 import parse_error
from labctl.instruments.codecs.replies import NumberForms, number_of
from labctl.instruments.driver_rules import wait_for
from labctl.instruments.transports.recognition import recognising
from labctl.instruments.transports.transport import MessageTransport

_Reply = TypeVar("_Reply", str, memoryview)

ERROR_QUERY = "SYST:ERR?"
EVENT_QUERY = "*ESR?"
_QUEUE_DEPTH = 32
# Of the standard event register (IEEE 488.2-1992, 11.5.1.1): power on, and errors of queries, of
# the device, of execution and of commands.
_POWER_ON, _ERRORS = 0x80, 0x3C
_QUERY_ERRORS = (-499, -400)  # SCPI-99 volume 2, 21.8.11: interrupted, unterminated, deadlocked
# A turn that another thread holds in an ordinary call ends; a program that is stuck is not waited
# for longer than the longest wait of a driver.
_LONGEST_TURN_S = 120.0


class ScpiSession:
    """A message transport that checks the instrument's error queue after each setting.

    A setting and its error query are one turn: threads that share the instrument do not get each
    other's errors. A query that is not answered in time is asked again.
    """

    def __init__(self, transport: MessageTransport) -> None:
        self.transport = transport
        self.name = transport.name
        self.clock: Clock = transport.clock
        self._turns = threading.RLock()
        self._forms = NumberForms()
        self._restarted = False

    def set(self, command: str) -> None:
        """Send a setting; raises InstrumentReportedError, naming it, if it is refused."""
        with self._turn(command):
            self.transport.write(command)
            self.check(command)

    def set_and_see(
        self, command: str, query: str, value: float, *, resolution: float = 1e-9
    ) -> None:
        """Send a setting and read back what it set; send it again if that is another value.

        For what safety or a figure rests on: a setting that is lost on its way leaves no error.
        `value` is compared to a part in a thousand, or to the instrument's `resolution`, in the
        same unit, where that is coarser. Raises ReplyError, naming both values, if it is not there
        then.
        """
        with self._turn(command):
            for _ in range(2):
                self.set(command)
                found = self.number(query)
                if math.isclose(found, value, rel_tol=1e-3, abs_tol=resolution):
                    return
            problem = f"expected {value:g} after it was set, got {found:g} (from {query!r})"
            raise ReplyError(self.name, problem, command)

    def set_and_see_word(self, command: str, query: str, word: str) -> None:
        """Send a setting and read back that the reply starts with `word`, as `set_and_see` does."""
        with self._turn(command):
            for _ in range(2):
                self.set(command)
                found = self.query(query).strip('"').upper()
                if found.startswith(word):
                    return
            problem = f"expected {word} after it was set, got {found} (from {query!r})"
            raise ReplyError(self.name, problem, command)

    def set_all(self, *commands: str) -> None:
        """Send settings in this order, checking each; the first that is refused ends it."""
        for command in commands:
            self.set(command)

    def set_block(self, prefix: str, payload: bytes | memoryview) -> None:
        """Send a setting that carries a block, and check it like any other."""
        with self._turn(prefix):
            self.transport.write_block(prefix, payload)
            self.check(prefix)

    def forget_errors(self) -> None:
        """Empty the error queue of what others left in it (`*CLS`)."""
        self.transport.write("*CLS")

    def check(self, command: str) -> None:
        """Empty the error queue; raises InstrumentReportedError with the first error in it.

        One setting makes one error, so that more of them are said to be of another program.
        """
        with self._turn(command):
            self._refuse(self._first_error(command), command)

    def _refuse(self, first: tuple[int, str] | None, command: str) -> None:
        """Raise the first error of the queue, if there is one, and empty the rest."""
        if first is None:
            return
        more = 0
        with self._turn(command), suppress(ReplyError, InstrumentTimeoutError):
            while more < _QUEUE_DEPTH and self._next_error(command) is not None:
                more += 1
        code, message = first
        if more:
            message += f" and {more} more, some of which another program may have left"
        raise InstrumentReportedError(self.name, code, message, command)

    def restarted(self) -> bool:
        """Return whether the instrument has been switched on since this was last asked.

        What was set before is lost then. The event register is empty from `forget_errors` on.
        """
        self._note_events()
        restarted, self._restarted = self._restarted, False
        return restarted

    def query(self, command: str, *, may_be_empty: bool = False) -> str:
        """Send a query and return its reply, which is not empty unless it may be.

        A query that the instrument refuses has no reply: then its own error is raised
        (InstrumentReportedError), else InstrumentTimeoutError. Raises ReplyError on an empty one.
        """
        reply = self._reply(command)
        if not (reply or may_be_empty):
            raise self._nonsense(f"expected a reply, got {reply!r}", command)
        return reply

    def number(self, command: str, quantity: str = "") -> float:
        """Query a finite number; raises ReplyError on any other reply, an overload included.

        quantity: what the command measures now, where that is set beforehand.
        """
        reply = self._reply(command)
        reply = self.confirmed(command + quantity, reply, lambda: self._reply(command))
        return self.as_number(reply, command)

    def confirmed(self, question: str, reply: str, ask: Callable[[], str]) -> str:
        """Return a reply that is a number; one that is written in an unusual way only if it agrees
        with what `ask` replies when it asks again. Raises ReplyError.
        """
        try:
            return self._forms.confirmed(question, reply, ask)
        except ValueError as error:
            raise self._nonsense(str(error), question) from error

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
        replies = self._reply(command).split(";")
        if len(replies) != 2 or not all(replies):
            raise self._nonsense(f"expected {what}, got {';'.join(replies)!r}", command)
        return replies[0].strip(), replies[1].strip()

    def numbers(self, command: str, count: int, what: str) -> list[float]:
        """Query `count` finite numbers with commas between; raises ReplyError, naming `what`."""
        reply = self._reply(command)
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
        reply = self._reply(query)
        fields = [field.strip() for field in reply.split(",", 3)]
        if len(fields) != 4:
            problem = f"expected maker, model, serial and firmware, got {reply!r}"
            raise self._nonsense(problem, query)
        identity = Identity(*fields)
        if not identity.model.upper().startswith(models):
            wanted = " or ".join(models)
            raise ReplyError(self.name, f"expected a {wanted}, got {reply!r}", query)
        return identity

    @contextmanager
    def _turn(self, command: str) -> Iterator[None]:
        """Keep other threads' messages out; in haste they are not waited for long.

        Who asks who answers holds the wire itself, and must not wait for those who wait for it.
        """
        if recognising():
            yield
            return
        if not self._turns.acquire(timeout=patience_s(_LONGEST_TURN_S)):
            problem = "busy with another thread's command"
            raise InstrumentTimeoutError(self.name, problem, command)
        try:
            yield
        finally:
            self._turns.release()

    def _reply(self, command: str) -> str:
        """Return a query's reply, empty or not."""
        return self._answered(self.transport.query, command)

    def _answered(self, ask: Callable[[str], _Reply], command: str) -> _Reply:
        """Return what `ask` returns; a query without an answer may have been refused.

        One that was not is asked again: a dropped reply must not end a run. In haste a caller
        has its own attempts.
        """
        with self._turn(command):
            try:
                return ask(command)
            except InstrumentTimeoutError as silence:
                self._raise_refusal(command, silence)
                if in_haste():
                    raise
                failed = silence
            try:
                return ask(command)
            except ConnectionFailedError as error:
                # That the wire cannot get in step says less than that nobody answers.
                raise failed from error

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

        Left there, the error would be taken for that of the next setting. That its answer was not
        waited for is reported by an instrument too, and is no refusal.
        """
        with suppress(InstrumentTimeoutError, ReplyError, ConnectionFailedError):
            first = self._next_error(command)
            while first is not None and _QUERY_ERRORS[0] <= first[0] <= _QUERY_ERRORS[1]:
                first = self._next_error(command)
            try:
                self._refuse(first, command)
            except InstrumentReportedError as refusal:
                raise refusal from failure

    def _first_error(self, command: str) -> tuple[int, str] | None:
        """Take the first error off the queue; a reply that is lost takes its error with it.

        The event register still knows whether there was one, and is asked then.
        """
        try:
            return self._next_error(command)
        except InstrumentTimeoutError:
            if in_haste():
                raise
            if self._note_events() & _ERRORS:
                raise
            return self._next_error(command)

    def _note_events(self) -> int:
        """Return what the event register held; remember that power came on.

        Reading empties it, so that it is asked once: a second reply would say that nothing was.
        """
        events = int(self.as_number(self.transport.query(EVENT_QUERY), EVENT_QUERY))
        self._restarted = self._restarted or bool(events & _POWER_ON)
        return events

    def _next_error(self, command: str) -> tuple[int, str] | None:
        reply = self.transport.query(ERROR_QUERY)
        try:
            code, message = parse_error(reply)
        except ValueError as error:
            raise ReplyError(self.name, f"{error} (after {command!r})", ERROR_QUERY) from error
        return (code, message) if code != 0 else None
