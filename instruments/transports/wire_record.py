"""Wire records: every message between this process and its instruments, one JSON line each.

The first line is a header. Each other line has `time_s` (the instrument's clock: bench time on a
simulated bench), `wall` (UTC), `instrument`, `address` and `event`:

- open, clear, close: what the program asked of the session;
- sent, received: one message, as `text`, `hex` (a frame) and `block` (its length and SHA-256,
  with its content as base64 if blocks are kept);
- failed: the error that the program got, `error`, `problem` and `command`;
- time: the program read the clock, and got `time_s`.

Values of options that hold secrets are masked, see `masking`. Lines are in the order of the
program; a program that uses instruments from several threads at once has none.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from labctl.clock import Clock
from labctl.environment import RECORD_BLOCKS
from labctl.errors import InstrumentError, RunFileError
from labctl.instruments.transports.masking import masked, masked_arguments
from labctl.instruments.transports.recognition import recognising
from labctl.instruments.transports.transport import (
    Complete,
    FrameTransport,
    LinesTransport,
    MessageTransport,
)
from labctl.record_header import FORMAT, require_record
from labctl.version import __version__

KEEP = "keep"
HASH = "hash"


class _AnyWire(Protocol):
    """What transports of all kinds have."""

    @property
    def name(self) -> str: ...
    @property
    def clock(self) -> Clock: ...
    def clear(self) -> None: ...
    def close(self) -> None: ...


Wire = TypeVar("Wire", bound=_AnyWire)

_recorders: dict[str, WireRecorder] = {}
_recorders_lock = threading.Lock()


def record_clock(path: str, name: str, clock: Clock) -> Clock:
    """Return the clock with its readings going to the record at `path` too."""
    return RecordedClock(clock, InstrumentLog(_recorder(path), name, name))


def start_record(path: Path, command: Sequence[str], blocks: str) -> None:
    """Create a record and write its header; raises RunFileError, also if the file exists."""
    header = {
        "format": FORMAT,
        "labctl": __version__,
        "started": _now(),
        "command": masked_arguments(command),
        "blocks": blocks,
    }
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(header, ensure_ascii=False) + "\n")
    except FileExistsError as error:
        raise RunFileError(f"{path} exists already: choose another name") from error
    except OSError as error:
        raise RunFileError(f"{path}: cannot be written ({error.strerror})") from error


def block_entry(payload: bytes | memoryview, *, keep: bool) -> dict[str, object]:
    """Return a block as it is written in a record."""
    entry: dict[str, object] = {
        "bytes": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    if keep:
        entry["base64"] = base64.b64encode(payload).decode("ascii")
    return entry


class WireRecorder:
    """Appends lines to one record, whole lines at once, so that processes may share it.

    A record that cannot be written stops the program once, with RunFileError; after that nothing
    is recorded, for the way to the safe state must stay open.
    """

    def __init__(self, path: Path, *, keep_blocks: bool) -> None:
        self.path = path
        self.keep_blocks = keep_blocks
        if not path.exists():
            start_record(path, sys.argv, KEEP if keep_blocks else HASH)
        elif path.is_file():
            require_record(path)
        self._lock = threading.Lock()
        self._descriptor: int | None = self._opened()

    def note(self, entry: Mapping[str, object]) -> None:
        """Write one line; raises RunFileError."""
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
        with self._lock:
            if self._descriptor is None:
                return
            try:
                written = os.write(self._descriptor, line)
            except OSError as error:
                self._give_up(error.strerror or "unknown reason", error)
            if written < len(line):
                self._give_up("no space for a whole line", None)

    def _opened(self) -> int:
        try:
            return os.open(self.path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise RunFileError(f"{self.path}: cannot be written ({error.strerror})") from error

    def _give_up(self, reason: str, cause: Exception | None) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        raise RunFileError(f"{self.path}: recording ended ({reason})") from cause


class InstrumentLog:
    """The lines of one instrument in a record."""

    def __init__(self, recorder: WireRecorder, name: str, address: str) -> None:
        self.clock: Clock | None = None
        self.keep_blocks = recorder.keep_blocks
        self._recorder = recorder
        self._name = name
        self._address = address

    def note(self, entry: Mapping[str, object], time_s: float | None = None) -> None:
        """Write a line with its stamps; `time_s` is now on the instrument's clock if left out.

        What a wire asks between the program's own messages is none of them, and would have no place
        in a replay, where no connection is lost.
        """
        if recognising():
            return
        if time_s is None and self.clock is not None:
            time_s = self.clock.now_s()
        stamps = {"time_s": time_s, "wall": _now()}
        who = {"instrument": self._name, "address": self._address}
        self._recorder.note({**stamps, **who, **_masked_entry(entry)})

    @contextmanager
    def logged(self, *asked: Mapping[str, object]) -> Iterator[None]:
        """Write what the program asks for, then, if the block fails, how."""
        for entry in asked:
            self.note(entry)
        try:
            yield
        except BaseException as error:
            self.note(_failure(error))
            raise


class RecordedClock:
    """A clock whose readings are in the record, for time-outs depend on them."""

    def __init__(self, clock: Clock, log: InstrumentLog) -> None:
        self._clock = clock
        self._log = log

    def now_s(self) -> float:
        """Return the time in s, and record it."""
        now_s = self._clock.now_s()
        self._log.note({"event": "time"}, now_s)
        return now_s

    def sleep(self, duration_s: float) -> None:
        """Sleep; waiting leaves no line."""
        self._clock.sleep(duration_s)


class _Recorded(Generic[Wire]):
    """What all recorded transports do alike: open, clear and close, with a line of each."""

    def __init__(self, path: str, name: str, address: str, connect: Callable[[], Wire]) -> None:
        """Open what `connect` opens; its messages go to the record at `path` too."""
        log = InstrumentLog(_recorder(path), name, address)
        with log.logged({"event": "open"}):
            wire = connect()
        self.name = wire.name
        self.clock: Clock = RecordedClock(wire.clock, log)
        log.clock = wire.clock
        self._wire: Wire = wire
        self._log = log
        self._lock = threading.RLock()
        self._closed = False

    def clear(self) -> None:
        """Abandon what is under way."""
        with self._lock, self._log.logged({"event": "clear"}):
            self._wire.clear()

    def close(self) -> None:
        """End the session; it is recorded once."""
        with self._lock:
            closed, self._closed = self._closed, True
            try:
                if not closed:
                    self._log.note({"event": "close"})
            finally:
                self._wire.close()


class RecordedMessages(_Recorded[MessageTransport]):
    """A MessageTransport that records what another one carries."""

    def write(self, command: str) -> None:
        """Send a command that has no reply."""
        with self._lock, self._log.logged(_sent(command)):
            self._wire.write(command)

    def query(self, command: str) -> str:
        """Send a command and return its reply."""
        with self._lock:
            with self._log.logged(_sent(command)):
                reply = self._wire.query(command)
            self._log.note({"event": "received", "text": reply})
        return reply

    def query_block(self, command: str) -> memoryview:
        """Send a command and return the payload of the block that it replies."""
        with self._lock:
            with self._log.logged(_sent(command)):
                payload = self._wire.query_block(command)
            self._log.note({"event": "received", "block": self._block(payload)})
        return payload

    def write_block(self, prefix: str, payload: bytes | memoryview) -> None:
        """Send a prefix and a definite-length block in one message."""
        entry = {**_sent(prefix), "block": self._block(payload)}
        with self._lock, self._log.logged(entry):
            self._wire.write_block(prefix, payload)

    def fence(self, command: str, marker: str, answer: str) -> tuple[str, ...]:
        """Send a command and the query `marker`; return the lines that come before `answer`."""
        with self._lock:
            with self._log.logged(_sent(command), _sent(marker)):
                lines = self._wire.fence(command, marker, answer)
            for line in (*lines, answer):
                self._log.note({"event": "received", "text": line})
        return lines

    def _block(self, payload: bytes | memoryview) -> dict[str, object]:
        return block_entry(payload, keep=self._log.keep_blocks)


class RecordedFrames(_Recorded[FrameTransport]):
    """A FrameTransport that records what another one carries."""

    def exchange(self, frame: bytes) -> bytes:
        """Send a frame and return the one that answers it."""
        with self._lock:
            with self._log.logged({"event": "sent", "hex": frame.hex()}):
                reply = self._wire.exchange(frame)
            self._log.note({"event": "received", "hex": reply.hex()})
        return reply


class RecordedLines(_Recorded[LinesTransport]):
    """A LinesTransport that records what another one carries, each line as it is received."""

    def exchange(self, command: str, complete: Complete) -> tuple[str, ...]:
        """Send a command; return the lines of its reply."""

        def noted(lines: Sequence[str]) -> bool:
            self._log.note({"event": "received", "text": lines[-1]})
            return complete(lines)

        with self._lock, self._log.logged(_sent(command)):
            return self._wire.exchange(command, noted)


def _recorder(path: str) -> WireRecorder:
    with _recorders_lock:
        recorder = _recorders.get(path)
        if recorder is None:
            keep = os.environ.get(RECORD_BLOCKS, HASH) == KEEP
            recorder = _recorders[path] = WireRecorder(Path(path), keep_blocks=keep)
        return recorder


def _sent(command: str) -> dict[str, object]:
    return {"event": "sent", "text": command}


def _failure(error: BaseException) -> dict[str, object]:
    entry: dict[str, object] = {"event": "failed", "error": type(error).__name__}
    if isinstance(error, InstrumentError):
        return {**entry, "problem": error.problem, "command": error.command}
    return {**entry, "problem": str(error), "command": None}


def _masked_entry(entry: Mapping[str, object]) -> dict[str, Any]:
    texts = ("text", "problem", "command")
    return {
        key: masked(value) if key in texts and isinstance(value, str) else value
        for key, value in entry.items()
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
