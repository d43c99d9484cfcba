"""A front panel behind a faulty wire: what was planned happens to its messages, all else passes.

A fault waits for a message that holds its text, lets `after` of these pass, and then acts on as
many as it is to. Faults of a reply change what comes back; faults of a command what arrives;
faults of the connection break it; faults of the instrument happen before the message arrives.
All delays are on the bench's clock.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from labctl.clock import Clock
from labctl.instruments.codecs.itla import FRAME_BYTES, Reply, Status
from labctl.instruments.simulated.faults.other_serial import OtherSerial
from labctl.instruments.simulated.panel import (
    EVERYTHING,
    ConnectionLostError,
    FrontPanel,
    PowerCycledPanel,
    serial_poll,
)
from labctl.instruments.simulated.visa_session import TimeoutWitness

# 32 MB of digits without an end: twice what a link reads of one line before it gives up.
_ENDLESS, _ENDLESS_CHUNKS = b"0" * (1 << 12), 1 << 13

ReplyFault: TypeAlias = Literal[
    "late",
    "lost",
    "cut",
    "cut number",
    "doubled",
    "doubled late",
    "stray terminator",
    "unasked line",
    "stale",
    "garbled",
    "digit changed",
    "exponent changed",
    "underscore",
    "bits flipped",
    "endless",
    "empty",
    "said",
    "said, then reply",
    "block cut",
    "block longer",
    "pending",
    "checksum refused",
]
"""What can happen to a reply."""

CommandFault: TypeAlias = Literal["command lost", "command garbled", "command doubled"]
"""What can happen to a command."""

ConnectionFault: TypeAlias = Literal["dropped", "half-closed", "unplugged", "silent"]
"""What can happen to a connection."""

InstrumentFault: TypeAlias = Literal[
    "reboot", "local", "queue full", "foreign error", "panel", "other serial"
]
"""What can happen to an instrument."""

WireFaultKind: TypeAlias = ReplyFault | CommandFault | ConnectionFault | InstrumentFault
"""What can happen on a wire or at its far end."""

OF_REPLIES = frozenset(get_args(ReplyFault))


@dataclass(frozen=True)
class WireFault:
    """One fault: `kind`, at messages with `on` in them; ITLA: "read 42 0000", "write 32 0008".

    The first `after` of these pass, the next `times` are hit (0: all of them). `value`: a delay
    in s, bytes or digits that are kept, a number of errors; `text`: what is said or sent.
    """

    kind: WireFaultKind
    on: str = ""
    after: int = 0
    times: int = 1
    value: float = 0.0
    text: str = ""


@dataclass
class _Armed:
    fault: WireFault
    instead: Callable[[], object] | None = None
    seen: int = 0
    hits: int = 0

    def hit_by(self, message: str) -> bool:
        """Count a message; return whether the fault acts on it."""
        if self.fault.on not in message or (self.fault.times and self.hits >= self.fault.times):
            return False
        self.seen += 1
        if self.seen <= self.fault.after:
            return False
        self.hits += 1
        return True


@dataclass
class _Chunk:
    data: bytes
    ends: bool
    due_s: float


@dataclass
class _Line:
    """What is on its way to the host, and how the connection is."""

    chunks: deque[_Chunk] = field(default_factory=deque)
    last: bytes = b""
    back_s: float = -math.inf
    deaf: bool = False


class FaultyPanel:
    """A panel behind a wire on which faults can be armed; without any it is as it was."""

    def __init__(self, panel: FrontPanel, clock: Clock, *, framed: bool = False) -> None:
        """`framed`: its messages are ITLA frames, not text."""
        self._panel = panel
        self._clock = clock
        self._framed = framed
        self._armed: list[_Armed] = []
        self._acting: list[WireFault] = []
        self._swallowed = False
        self._serial: OtherSerial | None = None
        self._line = _Line()

    @property
    def panel(self) -> FrontPanel:
        """The panel itself."""
        return self._panel

    def arm(self, fault: WireFault, instead: Callable[[], object] | None = None) -> None:
        """Let a fault wait for its message; `instead` is what then happens away from the wire."""
        self._armed.append(_Armed(fault, instead))

    def disarm(self) -> None:
        """End all faults; what they did stays done."""
        self._armed.clear()
        self._acting.clear()
        self._serial = None
        self._line = _Line()

    def replace_by(self, old: str, new: str) -> None:
        """Let another instrument with the serial number `new` instead of `old` answer."""
        self._serial = OtherSerial(old, new, framed=self._framed)

    def hits(self) -> int:
        """Return how often faults have acted."""
        return sum(each.hits for each in self._armed)

    @property
    def plugged_in(self) -> bool:
        """Whether a session may be opened: not while it is unplugged or starts up."""
        if self._clock.now_s() < self._line.back_s:
            return False
        # Who opens a session again has a new connection, which is not half closed.
        self._line.deaf = False
        return True

    def write(self, data: bytes, *, end: bool) -> None:
        """Take bytes from the host, as far as the wire lets them through."""
        self._check_connection()
        if end:
            # On a wire with ENDs a new message ends the old one's reply.
            self._line.chunks.clear()
        self._swallowed = False
        message = _readable(data, self._framed)
        if self._serial is not None:
            self._serial.asked(message)
        hitting = [each for each in self._armed if each.hit_by(message)]
        for each in hitting:
            if each.instead is not None:
                each.instead()
        faults = [each.fault for each in hitting if each.instead is None]
        self._acting = [fault for fault in faults if fault.kind in OF_REPLIES]
        for fault in faults:
            data = self._before(fault, data)
        self._check_connection()
        if data and not self._line.deaf:
            self._panel.write(data, end=end)

    def read(self, limit: int) -> tuple[bytes, bool]:
        """Hand out what the wire lets through by now."""
        self._check_connection()
        if self._line.deaf:
            return b"", False
        if not self._line.chunks:
            self._fetch(limit)
        if not self._line.chunks or self._line.chunks[0].due_s > self._clock.now_s():
            return b"", False
        chunk = self._line.chunks.popleft()
        if len(chunk.data) <= limit:
            return chunk.data, chunk.ends
        rest = _Chunk(chunk.data[limit:], chunk.ends, chunk.due_s)
        self._line.chunks.appendleft(rest)
        return chunk.data[:limit], False

    def clear(self) -> None:
        """Device clear, which reaches the instrument if anything does."""
        self._check_connection()
        self._line.chunks.clear()
        self._acting.clear()
        if not self._line.deaf:
            self._panel.clear()

    def status_byte(self) -> int:
        """Return the panel's status byte."""
        return self._panel.status_byte()

    def _check_connection(self) -> None:
        if self._clock.now_s() < self._line.back_s:
            raise ConnectionLostError("the connection is down")

    def _before(self, fault: WireFault, data: bytes) -> bytes:
        """Let what is no fault of a reply happen; return what arrives of a message."""
        act: dict[str, Callable[[WireFault, bytes], bytes]] = {
            "command lost": lambda _, data: b"",
            "command garbled": lambda _, data: bytes([data[0] ^ 0x08]) + data[1:],
            "command doubled": lambda _, data: data + data,
            "dropped": self._drop,
            "unplugged": self._drop,
            "half-closed": self._deafen,
            "silent": self._deafen,
            "reboot": self._reboot,
            "local": lambda _, data: data if b"?" in data else b"",
            "queue full": self._fill_queue,
            "foreign error": self._fill_queue,
            "panel": self._touch,
            "other serial": self._swap,
        }
        return act[fault.kind](fault, data) if fault.kind in act else data

    def _drop(self, fault: WireFault, data: bytes) -> bytes:
        """Break the connection; it can be opened again after `value` s."""
        self._line = _Line(back_s=self._clock.now_s() + fault.value)
        self._panel.clear()
        raise ConnectionLostError("the connection breaks")

    def _deafen(self, fault: WireFault, data: bytes) -> bytes:
        self._line.deaf = True
        return b""

    def _reboot(self, fault: WireFault, data: bytes) -> bytes:
        """Lose the supply: settings go, the connection too, for as long as starting takes."""
        if not isinstance(self._panel, PowerCycledPanel):
            raise TypeError(f"{type(self._panel).__name__} has no power_cycle")
        self._panel.power_cycle()
        self._line = _Line(back_s=self._clock.now_s() + fault.value)
        return b"" if fault.value else data

    def _fill_queue(self, fault: WireFault, data: bytes) -> bytes:
        """Let another program send what the instrument refuses, `value` times."""
        for _ in range(max(round(fault.value), 1)):
            self._panel.write(b"NOSUCH:COMM 1\n", end=True)
        return data

    def _touch(self, fault: WireFault, data: bytes) -> bytes:
        """Let somebody at the front panel, or another program, set something."""
        for command in fault.text.split(" | "):
            self._panel.write(command.encode("ascii") + b"\n", end=True)
        return data

    def _swap(self, fault: WireFault, data: bytes) -> bytes:
        """Put another instrument of this model in its place: `text` is "old > new" serial.

        For that the first one has to be unplugged: its connection goes, for `value` s.
        """
        old, _, new = fault.text.partition(" > ")
        self.replace_by(old, new)
        return self._drop(fault, data)

    def _fetch(self, limit: int) -> None:
        """Take what the panel has to say, changed by the faults that act on it."""
        data, ends = self._panel.read(EVERYTHING if self._acting else limit)
        if not data:
            return
        while self._acting and not ends:
            more, ends = self._panel.read(EVERYTHING)
            if not more:
                break
            data += more
        if self._serial is not None:
            data = self._serial.said(data)
        chunks = [_Chunk(data, ends, -math.inf)]
        for fault in self._acting:
            chunks = [new for old in chunks for new in self._changed(fault, old)]
        self._swallowed = self._swallowed or (bool(self._acting) and not chunks)
        self._acting.clear()
        self._line.last = data
        self._line.chunks.extend(chunks)

    def _changed(self, fault: WireFault, chunk: _Chunk) -> Iterator[_Chunk]:
        """Yield what comes of a reply."""
        data, ends, now_s = chunk.data, chunk.ends, self._clock.now_s()
        end = _terminator(data)
        said = fault.text.encode("latin-1") + end
        match fault.kind:
            case "late":
                yield _Chunk(data, ends, now_s + fault.value)
            case "lost":
                return
            case "doubled":
                yield chunk
                yield _Chunk(data, ends, now_s)
            case "doubled late":
                yield chunk
                yield _Chunk(data, ends, now_s + fault.value)
            case "stray terminator":
                yield _Chunk(end or b"\n", ends, now_s)
                yield _Chunk(data, ends, now_s + fault.value)
            case "unasked line" | "said, then reply":
                yield _Chunk(said, ends, now_s)
                yield _Chunk(data, ends, now_s + fault.value)
            case "said":
                yield _Chunk(said, ends, now_s)
            case "stale":
                yield _Chunk(self._line.last or data, ends, now_s)
                yield _Chunk(data, ends, now_s + fault.value)
            case "endless":
                yield from [_Chunk(_ENDLESS, False, now_s)] * _ENDLESS_CHUNKS
            case _:
                yield _Chunk(changed_text(fault, data), ends, now_s)


class FaultyMessagePanel(FaultyPanel):
    """A faulty panel that takes note of query errors and requests service, as its panel does."""

    def read_timed_out(self) -> None:
        """Pass on that a read found nothing, unless it was the wire that lost the reply."""
        if isinstance(self._panel, TimeoutWitness) and not (self._swallowed or self._line.deaf):
            self._panel.read_timed_out()

    def serial_poll(self) -> int:
        """Poll the panel."""
        return serial_poll(self._panel)


def faulty(panel: FrontPanel, clock: Clock, *, framed: bool = False) -> FaultyPanel:
    """Return a panel behind a wire on which faults can be armed; one that is, as it is."""
    if isinstance(panel, FaultyPanel):
        return panel
    kind = FaultyMessagePanel if isinstance(panel, TimeoutWitness) else FaultyPanel
    return kind(panel, clock, framed=framed)


def changed_text(fault: WireFault, data: bytes) -> bytes:
    """Return a reply that a fault has changed, with its terminator where it is not cut.

    >>> changed_text(WireFault("digit changed"), b"+1.0E-03" + bytes([10]))
    b'+9.0E-03\\n'
    """
    end = _terminator(data)
    body = data[: len(data) - len(end)]
    digits = re.search(rb"[0-9]", body)
    at = digits.start() if digits else 0
    head, digit, tail = body[:at], body[at : at + 1], body[at + 1 :]
    kept = round(fault.value)
    by_kind: dict[str, Callable[[], bytes]] = {
        "cut": lambda: body[:kept],
        "cut number": lambda: body[: at + max(kept, 1)] + end,
        "garbled": lambda: head + b"\xff" + tail + end,
        "digit changed": lambda: head + (b"1" if digit == b"9" else b"9") + tail + end,
        "exponent changed": lambda: body.upper().partition(b"E")[0] + b"E+09" + end,
        "underscore": lambda: head + digit + b"_" + tail + end,
        "empty": lambda: end,
        "bits flipped": lambda: _two_flipped(data),
        "block cut": lambda: data[: max(len(data) // 2, 1)],
        "block longer": lambda: _longer(data),
        "pending": lambda: _frame(fault, data),
        "checksum refused": lambda: _frame(fault, data),
    }
    return by_kind[fault.kind]()


def _longer(data: bytes) -> bytes:
    """Return a block whose header announces one digit more than there is."""
    width = int(data[1:2])
    count = int(data[2 : 2 + width])
    return data[:2] + b"%0*d" % (width, min(2 * count, 10**width - 1)) + data[2 + width :]


def _two_flipped(data: bytes) -> bytes:
    """Flip two bits of an ITLA frame's data that its checksum does not see.

    Bit 3 of either byte is in the same bit of the checksum, so that both flips cancel; of the
    register that enables the output it is the bit that says so.
    """
    if len(data) != FRAME_BYTES:
        raise ValueError(f"expected a frame of {FRAME_BYTES} bytes, got {len(data)}")
    return data[:2] + bytes([data[2] ^ 0x08, data[3] ^ 0x08])


def _frame(fault: WireFault, data: bytes) -> bytes:
    """Return an ITLA frame that says what the fault has it say."""
    reply = Reply.decode(data)
    refused = fault.kind == "checksum refused"
    status = reply.status if refused else Status.PENDING
    return Reply(reply.register, reply.data, status, checksum_error=refused).encode()


def _terminator(data: bytes) -> bytes:
    """Return the line's end of a reply, if it has one."""
    return data[len(data.rstrip(b"\r\n")) :]


def _readable(data: bytes, framed: bool) -> str:
    """Return a message as plans write it: text, or what a frame does to which register."""
    if not framed or len(data) != FRAME_BYTES:
        return data.decode("latin-1")
    return f"{'write' if data[0] & 1 else 'read'} {data[1]:02x} {data[2:].hex()}"
