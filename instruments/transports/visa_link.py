"""The link over PyVISA: one session of one VISA library.

How a session gets back in step after a time-out (or an interrupt in mid-query) depends on what
the wire offers: a raw socket is closed and opened again, for a new connection cannot carry an old
reply; a serial line is drained until it has been silent for one whole time-out, or for as long as
its protocol lets an answer take; everything else (HiSLIP, VXI-11, USB, GPIB) has a device clear.
After a second time-out in a row the session is opened again: a connection that is closed at its
far end alone takes all that is sent, and never answers.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from labctl.clock import Clock, SystemClock
from labctl.errors import ConnectionFailedError, ReplyError
from labctl.haste import at_most
from labctl.instruments.codecs.ieee488 import BlockError, block_span
from labctl.instruments.transports.link import BLOCK_END_S, WireLink

if TYPE_CHECKING:
    import pyvisa
    from pyvisa.resources import MessageBasedResource, Resource

# What is read of blocks and lines at a time: large for blocks, since each read is a call.
_CHUNK_BYTES = 1 << 18
_LINE_BYTES = 1 << 16
# 16 MB without a line's end: not an answer.
_LINE_READS = 256
# 4 MB of what nobody asked for: an instrument that goes on is not made silent by reading.
_DRAIN_READS = 64
# Time-outs in a row before the session is opened again; see the top of this file.
_SILENCES = 2

_managers: dict[str, pyvisa.ResourceManager] = {}
_managers_lock = threading.Lock()


def resource_manager(library: str) -> pyvisa.ResourceManager:
    """Return the one resource manager of a VISA library; opened at first use, then cached.

    All sessions of one library string share it, so that an in-process bench is one bench.
    Raises ConnectionFailedError if there is no such library.
    """
    import pyvisa

    with _managers_lock:
        manager = _managers.get(library)
        if manager is not None and _is_open(manager):
            return manager
        try:
            manager = pyvisa.ResourceManager(library)
        except Exception as error:  # what a backend raises while loading is its own choice
            problem = f"library {library!r} cannot be loaded: {error}"
            raise ConnectionFailedError("VISA", problem) from error
        _managers[library] = manager
        return manager


def library_clock(library: str) -> Clock:
    """Return the time of the instruments behind a VISA library: a bench's own, or the wall's.

    A library that is not open has the wall's: no instrument of it is in use.
    """
    with _managers_lock:
        manager = _managers.get(library)
    clock: Clock | None = getattr(manager.visalib, "clock", None) if manager else None
    return clock if clock is not None else SystemClock()


def close_library(library: str) -> None:
    """Close a library's resource manager and all its sessions; the next use opens it again."""
    with _managers_lock:
        manager = _managers.pop(library, None)
    if manager is not None:
        manager.close()


def _is_open(manager: pyvisa.ResourceManager) -> bool:
    import pyvisa

    try:
        manager.session  # noqa: B018  the property raises once the manager is closed
    except pyvisa.errors.InvalidSession:
        return False
    return True


class VisaLink(WireLink):
    """A VISA session; opens at construction, raises ConnectionFailedError.

    `terminator` ends a line read (None: there are no lines). `baud_rate` is set on serial lines
    (8N1) and means nothing elsewhere. `greet` runs after a disturbance, once old bytes are gone.
    `quiet_s`: how long a serial line has to be silent to carry no old answer any more, in s, if
    that is less than the time-out.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        library: str,
        timeout_s: float,
        terminator: str | None,
        baud_rate: int,
        greet: Callable[[WireLink], None] | None = None,
        quiet_s: float = math.inf,
    ) -> None:
        self._quiet_s = quiet_s
        self._manager = resource_manager(library)
        clock: Clock | None = getattr(self._manager.visalib, "clock", None)
        super().__init__(
            name,
            address,
            timeout_s=timeout_s,
            clock=clock if clock is not None else SystemClock(),
            greet=greet,
        )
        self._visalib: Any = self._manager.visalib
        self._terminator = terminator
        self._baud_rate = baud_rate
        self._resource: MessageBasedResource | None = None
        self._given_ms = 0
        self._connect()

    def send(self, *parts: bytes | memoryview) -> None:
        """Send one message, in one write: its end may be marked on the wire."""
        self._visalib.write(self._session, b"".join(parts))

    def read_line(self, command: str) -> str:
        """Read up to the terminator, or to the end of the message where the wire marks it."""
        line, status = self._read(_LINE_BYTES)
        for _ in range(_LINE_READS):
            if status != self._more:
                return str(line, "latin-1").strip()
            chunk, status = self._read(_LINE_BYTES)
            line += chunk
        raise ReplyError(self.name, f"sent {len(line)} bytes without ending the line", command)

    def read_exactly(self, count: int) -> bytes:
        """Read a number of bytes of any values."""
        chunks = []
        while count > 0:
            chunk, _ = self._read(min(count, _CHUNK_BYTES))
            chunks.append(bytes(chunk))
            count -= len(chunk)
        return b"".join(chunks)

    def read_block(self, command: str) -> memoryview:
        """Read a definite-length block with the terminator behind it; return its payload."""
        resource = self._opened()
        resource.read_termination = None  # the payload may contain the terminator
        header = self.read_exactly(2)
        if header[:1] == b"#" and header[1:].isdigit():
            header += self.read_exactly(int(header[1:]))
        payload = self._read_payload(self._payload_bytes(header, command), command)
        resource.read_termination = self._terminator
        return payload

    def _be_patient(self) -> None:
        """Give the session this thread's time-out, if the last one was another."""
        if self._resource is not None and self._timeout_ms() != self._given_ms:
            self._given_ms = self._timeout_ms()
            self._resource.timeout = self._given_ms

    def _prepare(self, command: str) -> None:
        """Discard what came on a serial line since the last answer: nobody asked for it.

        A doubled reply or a stray terminator would otherwise be taken for the next answer. The
        other wires keep one message's answer apart from the next, or have their own link.
        """
        if self._is_serial and self._resource is not None:
            self._visalib.flush(self._session, self._discard)

    def _connect(self) -> None:
        try:
            resource = self._manager.open_resource(self.address, open_timeout=self._timeout_ms())
        except Exception as error:  # PyVISA-py raises a bare Exception when nothing listens
            problem = f"cannot open {self.address}: {error}"
            raise ConnectionFailedError(self.name, problem) from error
        try:
            self._configure(resource)
        except Exception as error:
            resource.close()
            problem = f"cannot set up {self.address}: {error}"
            raise ConnectionFailedError(self.name, problem) from error

    def _configure(self, resource: Resource) -> None:
        from pyvisa import resources
        from pyvisa.constants import BufferOperation, StatusCode

        if not isinstance(resource, resources.MessageBasedResource):
            raise TypeError(f"a {type(resource).__name__} carries no messages")
        self._given_ms = self._timeout_ms()
        resource.timeout = self._given_ms
        resource.read_termination = self._terminator
        if isinstance(resource, resources.SerialInstrument):
            resource.baud_rate = self._baud_rate
        self._is_serial = isinstance(resource, resources.SerialInstrument)
        # Of the driver and of VISA itself; PyVISA-py looks at the second alone.
        self._discard = BufferOperation.discard_receive_buffer | BufferOperation.discard_read_buffer
        self._is_socket = isinstance(resource, resources.TCPIPSocket)
        self._session: Any = resource.session
        self._more: StatusCode = StatusCode.success_max_count_read
        self._quiet = resource.ignore_warning(self._more, StatusCode.success_device_not_present)
        self._quiet.__enter__()  # for as long as the session lives: entering costs at every read
        self._widen_reads()
        self._resource = resource

    def _timeout_ms(self) -> int:
        return max(1, round(self.timeout_s * 1000))

    def _widen_reads(self) -> None:
        # PyVISA-py asks the kernel for 4 kB at a time, which makes long records slow.
        sessions = getattr(self._visalib, "sessions", None)
        session: Any = sessions.get(self._session) if isinstance(sessions, dict) else None
        if hasattr(session, "max_recv_size"):
            session.max_recv_size = _CHUNK_BYTES

    def _disconnect(self) -> None:
        resource, self._resource = self._resource, None
        if resource is not None:
            with suppress(Exception):  # a lost connection cannot be closed, and need not be
                resource.close()

    def _get_in_step(self, command: str | None) -> None:
        if self._resource is None or self._is_socket or self._silences >= _SILENCES:
            self._silences = 0
            self._reconnect()
        if self._is_serial:
            self._drain(command)
        elif not self._is_socket:
            self._device_clear()
        self._opened().read_termination = self._terminator

    def _device_clear(self) -> None:
        try:
            self._opened().clear()
        except Exception:  # a clear that fails says only that this session is beyond repair
            self._reconnect()
            self._opened().clear()

    def _drain(self, command: str | None) -> None:
        with at_most(min(self._quiet_s, self.timeout_s)):
            self._be_patient()
            for _ in range(_DRAIN_READS):
                try:
                    self._read(_LINE_BYTES)
                except Exception as error:
                    if self._is_timeout(error):
                        break
                    raise
            else:
                self._raise_endless(command)
        self._be_patient()

    def _raise_endless(self, command: str | None) -> NoReturn:
        problem = f"{self.address} does not stop sending; check the baud rate, switch it off and on"
        raise ConnectionFailedError(self.name, problem, command)

    def _payload_bytes(self, header: bytes, command: str) -> int:
        try:
            span = block_span(header)
        except BlockError as error:
            raise ReplyError(self.name, str(error), command) from error
        if span is None:
            raise ReplyError(self.name, f"{header!r} does not start a block", command)
        return span[1] - span[0]

    def _read_payload(self, count: int, command: str) -> memoryview:
        # Where the wire marks the end of a message the terminator comes with the payload or not.
        is_stream = self._is_socket or self._is_serial
        chunks, have, wanted = [], 0, count if is_stream else count + 2
        while have < wanted:
            chunk, status = self._read(min(wanted - have, _CHUNK_BYTES))
            chunks.append(bytes(chunk))
            have += len(chunk)
            if have >= count and status != self._more:
                break
        message = memoryview(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        rest = self._read_block_end() if is_stream else bytes(message[count:])
        if rest.strip():
            raise ReplyError(self.name, f"a block is followed by {rest!r}", command)
        return message[:count]

    def _read_block_end(self) -> bytes:
        """Read the terminator behind a block on a stream; some instruments send none there."""
        resource = self._opened()
        resource.timeout = 1000.0 * min(BLOCK_END_S, self.timeout_s)
        end = self.read_if_any(1)
        if end == b"\r" != (self._terminator or "")[-1:].encode():
            end += self.read_if_any(1)
        resource.timeout = self._timeout_ms()
        self._settled = bool(end)
        return end

    def _read(self, count: int) -> tuple[bytes, Any]:
        answer: tuple[bytes, Any] = self._visalib.read(self._session, count)
        return answer

    def _opened(self) -> MessageBasedResource:
        if self._resource is None:
            raise ConnectionFailedError(self.name, f"session to {self.address} is closed")
        return self._resource

    def _is_timeout(self, error: Exception) -> bool:
        import pyvisa

        return (
            isinstance(error, pyvisa.errors.VisaIOError)
            and error.error_code == pyvisa.constants.StatusCode.error_timeout
        )
