"""Wire records played back: transports that answer from a record and hold the program to it.

The program has to send what the record has, in the same order. At the first difference the
instrument that it concerns, and from then on every one, raises ConnectionFailedError with the
line, what it expects and what it got. Waiting takes no time: the clock reads what it read then.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import operator
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from labctl.clock import Clock
from labctl.environment import REPLAY_STATE
from labctl.errors import (
    ConnectionFailedError,
    InstrumentError,
    InstrumentTimeoutError,
    OtherInstrumentError,
    ReplyError,
    RunFileError,
)
from labctl.instruments.transports.masking import masked
from labctl.instruments.transports.wire_record import block_entry
from labctl.plain_file import SMALL_BYTES, parsed_json, read_plain_text, within_memory
from labctl.record_header import FORMAT

if TYPE_CHECKING:
    from labctl.instruments.transports.transport import Complete

_ERRORS: dict[str, type[InstrumentError]] = {
    error.__name__: error
    for error in (ConnectionFailedError, InstrumentTimeoutError, OtherInstrumentError, ReplyError)
}
_EVENTS = ("open", "sent", "received", "failed", "time", "clear", "close")
# What is shown of a message: two lines of a terminal.
_LONGEST = 160
# An entry of a hundred bytes becomes a mapping of a thousand.
_GROWS = 10

_replays: dict[tuple[str, str], WireReplay] = {}
_replays_lock = threading.Lock()

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class ReplayDifference:
    """Where a program left its record: the line, what it expects, what the program did."""

    line: int
    expected: str
    got: str

    def __str__(self) -> str:
        return f"line {self.line}: expected {self.expected}, got {self.got}"


@dataclass(frozen=True)
class ReplayState:
    """How far a replay has come: the index of the next entry, and the first difference."""

    position: int = 0
    difference: ReplayDifference | None = None


def read_record(path: Path) -> list[Entry]:
    """Return the entries of a record without its header; raises RunFileError naming the line.

    Entry k is line k + 2.
    """
    try:
        text = read_plain_text(path, within_memory(_GROWS), errors="surrogatepass")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise RunFileError(f"{path}: cannot be read ({reason})") from error
    lines = enumerate(text.split("\n"), 1)
    parsed = [_parsed(path, number, line) for number, line in lines if line.strip()]
    if not parsed or parsed[0].get("format") != FORMAT:
        raise RunFileError(f"{path}:1: must be the header of a wire record, format {FORMAT!r}")
    for number, entry in enumerate(parsed[1:], start=2):
        _check_entry(path, number, entry)
    return list(parsed[1:])


def read_state(path: Path) -> ReplayState:
    """Return how far a replay has come, from the state file that it keeps.

    Raises RunFileError.
    """
    if not path.exists():
        return ReplayState()
    try:
        values = parsed_json(read_plain_text(path, SMALL_BYTES))
        position, difference = operator.index(values["position"]), values["difference"]
        return ReplayState(position, ReplayDifference(**difference) if difference else None)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunFileError(f"{path}: not the state of a replay ({error})") from error


def unplayed(entries: list[Entry], state: ReplayState) -> ReplayDifference | None:
    """Return the difference of a program that ended: its first one, or the line it never reached.

    Sessions that are only left to be closed are no difference.
    """
    if state.difference is not None:
        return state.difference
    for index in range(state.position, len(entries)):
        if entries[index]["event"] != "close":
            return ReplayDifference(index + 2, _told(entries[index]), "the end of the program")
    return None


def replay_clock(path: str, name: str) -> Clock:
    """Return the clock as it was read in the record at `path`."""
    return ReplayedClock(_replay(path), name, name)


class WireReplay:
    """A record and how far it has been played; where that is, is kept in a state file.

    So programs that a script starts one after the other play one record.
    """

    def __init__(self, path: Path, state: Path | None) -> None:
        self.path = path
        self.lock = threading.RLock()
        self._entries = read_record(path)
        self._keeps = state
        self._state = read_state(state) if state is not None else ReplayState()

    def ask(self, name: str, address: str, entry: Entry) -> Entry:
        """Hold the next line to what the program asks for; return it.

        Raises what the program got at that point of the record, or ConnectionFailedError at a
        difference.
        """
        asked = {"instrument": name, "address": address, **entry}
        with self.lock:
            expected = self._next(asked)
            if not _agree(expected, asked):
                self._differ(asked)
            self._advance()
            self.fail_as_recorded(name, address)
            return expected

    def receive(self, name: str, address: str, kind: str) -> Entry:
        """Return the next line, which must be what this instrument replied, as text, hex, block."""
        asked = {"instrument": name, "address": address, "event": "received", kind: None}
        with self.lock:
            expected = self._next(asked)
            if not _same_wire(expected, asked) or kind not in expected:
                self._differ(asked)
            self._advance()
            return expected

    def payload(self, entry: Entry) -> bytes:
        """Return the content of a block; raises RunFileError if the record does not keep it."""
        block = entry["block"]
        if "base64" not in block:
            raise RunFileError(
                f"{self.path}: line {self._state.position + 1} holds a block as its hash alone: "
                "record with --blocks keep to replay"
            )
        try:
            payload = base64.b64decode(block["base64"], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise RunFileError(
                f"{self.path}: line {self._state.position + 1}: block is not base64"
            ) from error
        if hashlib.sha256(payload).hexdigest() != block.get("sha256"):
            raise RunFileError(
                f"{self.path}: line {self._state.position + 1}: block does not have its SHA-256"
            )
        return payload

    def _next(self, asked: Entry) -> Entry:
        if self._state.difference is not None:
            problem = f"the replay ended at line {self._state.difference.line} of {self.path}"
            raise ConnectionFailedError(asked["instrument"], problem, _command(asked))
        if self._state.position == len(self._entries):
            self._differ(asked)
        return self._entries[self._state.position]

    def _advance(self) -> None:
        self._keep(ReplayState(self._state.position + 1))

    def fail_as_recorded(self, name: str, address: str) -> None:
        """Raise the error that the next line records; do nothing if it records none."""
        if self._state.position == len(self._entries):
            return
        entry = self._entries[self._state.position]
        if not _same_wire(entry, {"instrument": name, "address": address, "event": "failed"}):
            return
        self._advance()
        if entry["error"] == KeyboardInterrupt.__name__:
            raise KeyboardInterrupt
        kind = _ERRORS.get(entry["error"], ConnectionFailedError)
        raise kind(name, entry["problem"], entry["command"])

    def _differ(self, asked: Entry) -> NoReturn:
        position = self._state.position
        ended = position == len(self._entries)
        expected = "the end of the record" if ended else _told(self._entries[position])
        difference = ReplayDifference(position + 2, expected, _told(asked))
        self._keep(ReplayState(position, difference))
        problem = f"differs from {self.path}, {difference}"
        raise ConnectionFailedError(asked["instrument"], problem, _command(asked))

    def _keep(self, state: ReplayState) -> None:
        self._state = state
        if self._keeps is not None:
            self._keeps.write_text(json.dumps(asdict(state)), encoding="utf-8")


class ReplayedClock:
    """The clock as the program read it when it was recorded."""

    def __init__(self, replay: WireReplay, name: str, address: str) -> None:
        self._replay = replay
        self._name = name
        self._address = address

    def now_s(self) -> float:
        """Return the time in s that was read then."""
        return float(self._replay.ask(self._name, self._address, {"event": "time"})["time_s"])

    def sleep(self, duration_s: float) -> None:
        """Return at once: the next reading has the time that passed."""


class _Replayed:
    """What all replayed transports do alike: open, clear and close, each held to its line."""

    def __init__(self, path: str, name: str, address: str) -> None:
        """Open a transport that answers from the record at `path`."""
        self.name = name
        self._replay = _replay(path)
        self.clock: Clock = ReplayedClock(self._replay, name, address)
        self._address = address
        self._closed = False
        self._ask({"event": "open"})

    def clear(self) -> None:
        """Check that the record has a clear next."""
        self._ask({"event": "clear"})

    def close(self) -> None:
        """Check that the session ends here; closing twice does nothing."""
        if not self._closed:
            self._closed = True
            # A close raises nothing; a difference is kept, and reported when the state is read.
            with suppress(InstrumentError):
                self._ask({"event": "close"})

    def _ask(self, entry: Entry) -> None:
        self._replay.ask(self.name, self._address, entry)

    def _received(self, kind: str) -> Entry:
        return self._replay.receive(self.name, self._address, kind)


class ReplayedMessages(_Replayed):
    """A MessageTransport that answers from a record."""

    def write(self, command: str) -> None:
        """Check a command that has no reply."""
        self._ask({"event": "sent", "text": command})

    def query(self, command: str) -> str:
        """Check a command and return its recorded reply."""
        with self._replay.lock:
            self._ask({"event": "sent", "text": command})
            return self._line()

    def query_block(self, command: str) -> memoryview:
        """Check a command and return its recorded payload."""
        with self._replay.lock:
            self._ask({"event": "sent", "text": command})
            entry = self._received("block")
            return memoryview(self._replay.payload(entry))

    def write_block(self, prefix: str, payload: bytes | memoryview) -> None:
        """Check a command that carries a block."""
        block = block_entry(payload, keep=False)
        self._ask({"event": "sent", "text": prefix, "block": block})

    def fence(self, command: str, marker: str, answer: str) -> tuple[str, ...]:
        """Check a command and its marker; return the recorded lines before `answer`."""
        with self._replay.lock:
            self._ask({"event": "sent", "text": command})
            self._ask({"event": "sent", "text": marker})
            lines: list[str] = []
            while (line := self._line()) != answer:
                lines.append(line)
            return tuple(lines)

    def _line(self) -> str:
        return str(self._received("text")["text"])


class ReplayedFrames(_Replayed):
    """A FrameTransport that answers from a record."""

    def exchange(self, frame: bytes) -> bytes:
        """Check a frame and return the recorded answer."""
        with self._replay.lock:
            self._ask({"event": "sent", "hex": frame.hex()})
            entry = self._received("hex")
        return bytes.fromhex(entry["hex"])


class ReplayedLines(_Replayed):
    """A LinesTransport that answers from a record."""

    def exchange(self, command: str, complete: Complete) -> tuple[str, ...]:
        """Check a command and return the recorded lines of its reply."""
        lines: list[str] = []
        with self._replay.lock:
            self._ask({"event": "sent", "text": command})
            while True:
                entry = self._received("text")
                lines.append(str(entry["text"]))
                if complete(lines):
                    return tuple(lines)
                self._replay.fail_as_recorded(self.name, self._address)


def _replay(path: str) -> WireReplay:
    state = os.environ.get(REPLAY_STATE, "")
    with _replays_lock:
        replay = _replays.get((path, state))
        if replay is None:
            replay = WireReplay(Path(path), Path(state) if state else None)
            _replays[path, state] = replay
        return replay


def _parsed(path: Path, number: int, line: str) -> Entry:
    try:
        entry = parsed_json(line)
    except ValueError as error:
        raise RunFileError(
            f"{path}:{number}: must be one JSON object, not {line[:40]!r}"
        ) from error
    if not isinstance(entry, dict):
        raise RunFileError(f"{path}:{number}: must be one JSON object, not {line[:40]!r}")
    return entry


def _check_entry(path: Path, number: int, entry: Entry) -> None:
    """Raise RunFileError unless an entry has what its event needs, of the right types."""
    if entry.get("event") not in _EVENTS:
        valid = ", ".join(_EVENTS)
        raise RunFileError(f"{path}:{number}: event {entry.get('event')!r} must be one of {valid}")
    needs: dict[str, Any] = {"instrument": str, "address": str}
    if entry["event"] == "failed":
        needs |= {"error": str, "problem": str, "command": str | None}
    if entry["event"] == "time":
        needs["time_s"] = int | float
    for key in ("text", "hex"):
        if key in entry:
            needs[key] = str
    if "block" in entry:
        needs["block"] = dict
    for key, kind in needs.items():
        if not isinstance(entry.get(key), kind):
            raise RunFileError(
                f"{path}:{number}: {key} = {entry.get(key)!r} is not what it must be"
            )
    if "time_s" in needs and not math.isfinite(entry["time_s"]):
        raise RunFileError(f"{path}:{number}: time_s = {entry['time_s']!r} is not finite")
    if "hex" in entry and not _is_hex(entry["hex"]):
        raise RunFileError(f"{path}:{number}: hex = {entry['hex']!r} must be bytes in hexadecimal")


def _is_hex(text: str) -> bool:
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return True


def _same_wire(expected: Entry, asked: Entry) -> bool:
    return all(expected[key] == asked[key] for key in ("instrument", "address", "event"))


def _agree(expected: Entry, asked: Entry) -> bool:
    return (
        _same_wire(expected, asked)
        and expected.get("text") == _command(asked)
        and expected.get("hex") == asked.get("hex")
        and expected.get("block", {}).get("sha256") == asked.get("block", {}).get("sha256")
    )


def _command(asked: Entry) -> str | None:
    text = asked.get("text")
    return masked(text) if isinstance(text, str) else None


def _told(entry: Entry) -> str:
    """Return a line in words, shortened."""
    name, event = entry["instrument"], entry["event"]
    if event == "open":
        return f"{name} opened at {entry['address']}"
    if event == "time":
        return f"{name}'s clock read"
    if event == "failed":
        return f"{name} failing with {entry['error']}"
    if event in ("sent", "received"):
        return f"{name} {event} {_content(entry)}"
    return f"{name} {event}{'d' if event == 'close' else 'ed'}"


def _content(entry: Entry) -> str:
    parts = []
    if isinstance(entry.get("text"), str):
        parts.append(repr(masked(entry["text"][:_LONGEST])))
    if isinstance(entry.get("hex"), str):
        parts.append(f"frame {entry['hex'][:_LONGEST]}")
    if isinstance(entry.get("block"), dict):
        block = entry["block"]
        parts.append(
            f"a block of {block.get('bytes')} bytes, sha256 {block.get('sha256', '')[:12]}"
        )
    return " with ".join(parts) or "a reply of another kind"
