"""A session that stays in step on any wire: one lock, whole transactions, our errors.

Until an answer is complete a session counts as out of step, so that an error or an interrupt
anywhere in between cannot leave half a reply for the next query. How it gets back in step is the
wire's business; a session that cannot refuses the transaction, and tries again at the next one.
"""

from __future__ import annotations

import logging
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from labctl.clock import Clock
from labctl.errors import ConnectionFailedError, InstrumentTimeoutError, LabctlError
from labctl.haste import at_most, in_haste, patience_s
from labctl.instruments.transports.masking import masked
from labctl.instruments.transports.recognition import Recognition, note_asked, recognising
from labctl.permit import require_permit
from labctl.pulse import pulse
from labctl.visible import visible_logger

_T = TypeVar("_T")
_wire = visible_logger("labctl.wire")
_SHOWN = 200  # characters of a message in the log; a waveform has megabytes

BLOCK_END_S = 0.1
"""How long to wait for the terminator behind a block, which some instruments do not send."""


class WireLink(ABC):
    """Bytes out and in under a lock; `timeout_s` is how long an answer may take.

    `greet` runs after a disturbance, once old bytes are gone. `recognition` is asked who answers
    before the first message over a wire that was opened again.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        timeout_s: float,
        clock: Clock,
        greet: Callable[[WireLink], None] | None = None,
    ) -> None:
        self.name = name
        self.address = address
        self._timeout_s = timeout_s
        self.clock = clock
        self._greet = greet
        # Who answers is asked in the middle of a turn.
        self._lock = threading.RLock()
        self._closed = False
        self._in_step = True
        self._settled = True
        self._silences = 0
        self._reopened = False
        self.recognition: Recognition | None = None

    @property
    def timeout_s(self) -> float:
        """How long an answer may take, in s; less where this thread is in haste."""
        return patience_s(self._timeout_s)

    def transact(
        self, message: Sequence[bytes | memoryview], receive: Callable[[], _T], command: str
    ) -> _T:
        """Send the parts of one message and return what `receive` reads of the answer.

        Raises InstrumentTimeoutError, ConnectionFailedError, and what `receive` raises; each
        names `command`.
        """
        with self._turn(command):
            if not self._in_step:
                self._resynchronise(command)
            note_asked(self)
            self._recognise(command)
            self._in_step = False
            self._settled = True
            logged = _wire.isEnabledFor(logging.DEBUG)
            if logged:
                _wire.debug("%s > %s", self.name, _readable(command))
            try:
                self._prepare(command)
                self.send(*message)
                answer = receive()
                self._silences = 0
            except LabctlError as error:
                _wire.debug("%s ! %s", self.name, error)
                raise
            except Exception as error:  # backends raise what they like: VISA, OS, serial errors
                _wire.debug("%s ! %s", self.name, error)
                raise self._translated(error, command) from error
            self._in_step = self._settled
            pulse.beat()
            if logged and answer is not None:
                _wire.debug("%s < %s", self.name, _readable(answer))
            return answer

    @contextmanager
    def _turn(self, command: str) -> Iterator[None]:
        """Wait for the other threads' transactions; in haste no longer than for an answer."""
        if not self._lock.acquire(timeout=self.timeout_s if in_haste() else -1):
            problem = f"busy with another command for more than {self.timeout_s:g} s"
            raise InstrumentTimeoutError(self.name, problem, command)
        try:
            require_permit()
            self._be_patient()
            yield
        finally:
            self._lock.release()

    def _be_patient(self) -> None:  # noqa: B027  most wires ask `timeout_s` each time
        """Take over `timeout_s`, which may differ from thread to thread."""

    @abstractmethod
    def send(self, *parts: bytes | memoryview) -> None:
        """Send one message; for use within a transaction, like all `read_...`."""

    @abstractmethod
    def read_line(self, command: str) -> str:
        """Read up to the terminator; return the line without it and surrounding space."""

    @abstractmethod
    def read_block(self, command: str) -> memoryview:
        """Read an arbitrary block with the terminator behind it; return its payload."""

    @abstractmethod
    def read_exactly(self, count: int) -> bytes:
        """Read a number of bytes of any values."""

    def read_if_any(self, count: int, within_s: float = math.inf) -> bytes:
        """Read a number of bytes, or return none when they do not come in time.

        `within_s`: how long to wait for them at most, in s, if that is less than for an answer.
        """
        try:
            with at_most(min(within_s, self.timeout_s)):
                self._be_patient()
                return self.read_exactly(count)
        except Exception as error:
            if self._is_timeout(error):
                return b""
            raise
        finally:
            self._be_patient()

    def clear(self) -> None:
        """Discard what may still come; raises ConnectionFailedError if that is impossible."""
        with self._lock:
            self._in_step = False
            self._resynchronise(None)

    def close(self) -> None:
        """End the session; it counts as closed even if the wire raises."""
        with self._lock:
            self._closed = True
            self._in_step = False
            self.recognition = None
            self._disconnect()

    @abstractmethod
    def _get_in_step(self, command: str | None) -> None:
        """Make sure that no reply to an earlier command can be read any more."""

    @abstractmethod
    def _connect(self) -> None:
        """Open the wire; raises ConnectionFailedError."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Let go of the wire; never raises."""

    def _reconnect(self) -> None:
        """Open the wire again; who answers is asked before the next message."""
        self._disconnect()
        self._reopened = True
        self._connect()

    @abstractmethod
    def _is_timeout(self, error: Exception) -> bool:
        """Return whether an error of the wire means that nothing came in time."""

    def _prepare(self, command: str) -> None:  # noqa: B027  most wires need no preparation
        """Do what the wire needs right before a command is sent."""

    def _recognise(self, command: str) -> None:
        """Make sure, once the wire was opened again, that the same instrument is at its end."""
        if not self._reopened or recognising():
            return
        if self.recognition is not None:
            self.recognition.require(self.name, self.address, command)
        self._reopened = False

    def _resynchronise(self, command: str | None) -> None:
        if self._closed:
            raise ConnectionFailedError(self.name, f"session to {self.address} is closed", command)
        try:
            self._get_in_step(command)
            if self._greet is not None:
                self._greet(self)
        except LabctlError:
            self._silences += 1
            raise
        except Exception as error:
            raise self._translated(error, command) from error
        self._in_step = True

    def _translated(self, error: Exception, command: str | None) -> LabctlError:
        if self._is_timeout(error):
            self._silences += 1
            return self._timed_out(command)
        self._disconnect()
        problem = f"connection to {self.address} failed: {error}"
        return ConnectionFailedError(self.name, problem, command)

    def _timed_out(self, command: str | None) -> InstrumentTimeoutError:
        problem = f"no answer from {self.address} within {self.timeout_s:g} s"
        return InstrumentTimeoutError(self.name, problem, command)


def _readable(message: object) -> str:
    """Return a message for the log: one line, secrets masked, blocks by their length."""
    if isinstance(message, bytes | bytearray | memoryview):
        size = len(message)
        return bytes(message).hex() if size <= _SHOWN // 2 else f"{size} bytes"
    text = masked(message if isinstance(message, str) else repr(message))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
