"""Messages as bytes and back, strictly: what is not exactly a message is refused by name.

To add a message: a frozen dataclass in `protocols.messages`, a message in `session.proto` with a
line in its `Body`, and an `Coded` here. Which message may come when is no matter of this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labctl.errors import SettingError
from labctl.parties.channel_messages import Closed, Resume, Resumed, Said
from labctl.parties.fields import MOST_TEXT, Fields, members, name_of
from labctl.parties.greetings import MOST_LAYERS, put_hello, put_welcome, take_hello, take_welcome
from labctl.parties.protobuf import DecodeError
from labctl.parties.schema import session_pb2 as schema
from labctl.parties.wire_form import malformed, require_form
from labctl.protocols.alignment import MOST_FRAMES, AlignmentFrame, AlignmentPurpose
from labctl.protocols.messages import (
    Abort,
    AbortCode,
    AlignArmed,
    Aligned,
    AlignOpen,
    AlignTaken,
    Armed,
    Close,
    Done,
    Frames,
    Hello,
    LayerOpen,
    Queries,
    Queued,
    Ready,
    Realign,
    Taken,
    Verdict,
    Welcome,
)
from labctl.protocols.terms import MOST_QUERIES

# Chunks for more: what one message may cost the other side.
MOST_BYTES = 1_000_000
# Sessions that wait: more than any server has.
_MOST_AHEAD = 2**20

_CODES = members(AbortCode, schema.AbortCode)
_PURPOSES = members(AlignmentPurpose, schema.AlignmentPurpose)


@dataclass(frozen=True)
class Coded:
    """How one kind of message is coded.

    name: its line in `Body`. put: returns its form of the schema. take: reads that form.
    """

    kind: type[Said]
    name: str
    put: Callable[[Any], Any]
    take: Callable[[Fields], Said]


def encode(message: Said) -> bytes:
    """Return a message as bytes; raises ProtocolError for one that the other side would refuse."""
    entry = _BY_KIND[type(message)]
    try:
        body = schema.Body(**{entry.name: entry.put(message)})
    except (ValueError, TypeError) as error:
        raise malformed(type(message).__name__, f"cannot be coded: {error}") from error
    data = body.SerializeToString(deterministic=True)
    decode(data)
    return data


def decode(data: bytes) -> Said:
    """Return the message in bytes; raises ProtocolError, naming the field, the value and the range.

    Nothing is built of bytes that are not of the schema's form.
    """
    if len(data) > MOST_BYTES:
        raise malformed("any", f"{len(data)} bytes; expected at most {MOST_BYTES}")
    body = schema.Body()
    read(body, data)
    name = body.WhichOneof("said")
    if name is None:
        known = ", ".join(sorted(_BY_NAME))
        raise malformed("Body", f"no message in it; expected one of: {known}")
    try:
        return _BY_NAME[name].take(Fields(getattr(body, name)))
    except SettingError as error:
        raise malformed(_BY_NAME[name].kind.__name__, str(error)) from error


def read(into: schema.Body | schema.Envelope, data: bytes) -> None:
    """Parse bytes of the schema's form; raises ProtocolError."""
    # One of two classes of protobuf's, by how it is installed.
    kind: Any = into.DESCRIPTOR
    require_form(data, kind)
    try:
        into.ParseFromString(data)
    except DecodeError as error:
        raise malformed(kind.name, "text that is not UTF-8") from error


def _put_frames(frames: Frames) -> schema.Frames:
    return schema.Frames(layer=frames.layer, first=frames.first, count=frames.count)


def _take_frames(fields: Fields) -> Frames:
    part = fields.part("frames")
    return Frames(
        part.integer("layer", 0, MOST_LAYERS - 1),
        part.integer("first", 0, MOST_QUERIES - 1),
        part.integer("count", 1, MOST_QUERIES),
    )


def _put_alignment(frame: AlignmentFrame) -> schema.AlignmentFrame:
    return schema.AlignmentFrame(
        purpose=name_of(frame.purpose, schema.AlignmentPurpose),
        layer=frame.layer,
        number=frame.number,
        count=frame.count,
    )


def _take_alignment(fields: Fields) -> AlignmentFrame:
    part = fields.part("frame")
    return AlignmentFrame(
        part.choice("purpose", _PURPOSES),
        part.integer("layer", 0, MOST_LAYERS - 1),
        part.integer("number", 0, MOST_FRAMES - 1),
        part.integer("count", 1, MOST_FRAMES),
    )


def _put_verdict(verdict: Verdict) -> schema.Verdict:
    return schema.Verdict(
        accepted=verdict.accepted,
        reason=verdict.reason,
        transmittance_lower=verdict.transmittance_lower,
        excess_noise_upper=verdict.excess_noise_upper,
        weights_bits_upper=verdict.weights_bits_upper,
        failure_probability=verdict.failure_probability,
    )


def _take_verdict(fields: Fields) -> Verdict:
    def bound(name: str) -> float | None:
        return fields.real(name) if fields.has(name) else None

    return Verdict(
        fields.flag("accepted") if fields.has("accepted") else None,
        fields.text("reason"),
        bound("transmittance_lower"),
        bound("excess_noise_upper"),
        bound("weights_bits_upper"),
        fields.real("failure_probability", 0.0, 1.0),
    )


def _put_abort(abort: Abort) -> schema.Abort:
    # An abort is never kept back because its reason is long.
    reason = abort.reason if len(abort.reason) <= MOST_TEXT else abort.reason[: MOST_TEXT - 1] + "…"
    return schema.Abort(code=name_of(abort.code, schema.AbortCode), reason=_clean(reason))


def _clean(text: str) -> str:
    """Return a text without halves of characters, which have no form in UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _take_abort(fields: Fields) -> Abort:
    return Abort(fields.choice("code", _CODES), fields.text("reason"))


ENTRIES = (
    Coded(Hello, "hello", put_hello, take_hello),
    Coded(Welcome, "welcome", put_welcome, take_welcome),
    Coded(Ready, "ready", lambda said: schema.Ready(), lambda fields: Ready()),
    Coded(
        Queued,
        "queued",
        lambda said: schema.Queued(ahead=said.ahead),
        lambda fields: Queued(fields.integer("ahead", 1, _MOST_AHEAD)),
    ),
    Coded(
        AlignOpen,
        "align_open",
        lambda said: schema.AlignOpen(frame=_put_alignment(said.frame)),
        lambda fields: AlignOpen(_take_alignment(fields)),
    ),
    Coded(
        AlignArmed,
        "align_armed",
        lambda said: schema.AlignArmed(frame=_put_alignment(said.frame)),
        lambda fields: AlignArmed(_take_alignment(fields)),
    ),
    Coded(
        AlignTaken,
        "align_taken",
        lambda said: schema.AlignTaken(frame=_put_alignment(said.frame), enough=said.enough),
        lambda fields: AlignTaken(_take_alignment(fields), fields.flag("enough")),
    ),
    Coded(Aligned, "aligned", lambda said: schema.Aligned(), lambda fields: Aligned()),
    Coded(
        Queries,
        "queries",
        lambda said: schema.Queries(count=said.count),
        lambda fields: Queries(fields.integer("count", 1, MOST_QUERIES)),
    ),
    Coded(Realign, "realign", lambda said: schema.Realign(), lambda fields: Realign()),
    Coded(
        LayerOpen,
        "layer_open",
        lambda said: schema.LayerOpen(frames=_put_frames(said.frames)),
        lambda fields: LayerOpen(_take_frames(fields)),
    ),
    Coded(
        Armed,
        "armed",
        lambda said: schema.Armed(frames=_put_frames(said.frames)),
        lambda fields: Armed(_take_frames(fields)),
    ),
    Coded(
        Taken,
        "taken",
        lambda said: schema.Taken(frames=_put_frames(said.frames)),
        lambda fields: Taken(_take_frames(fields)),
    ),
    Coded(
        Done,
        "done",
        lambda said: schema.Done(count=said.count),
        lambda fields: Done(fields.integer("count", 1, MOST_QUERIES)),
    ),
    Coded(Verdict, "verdict", _put_verdict, _take_verdict),
    Coded(Close, "close", lambda said: schema.Close(), lambda fields: Close()),
    Coded(Abort, "abort", _put_abort, _take_abort),
    Coded(Closed, "closed", lambda said: schema.Closed(), lambda fields: Closed()),
    Coded(
        Resume,
        "resume",
        lambda said: schema.Resume(committed=said.committed),
        lambda fields: Resume(fields.integer("committed", 0, MOST_QUERIES)),
    ),
    Coded(Resumed, "resumed", lambda said: schema.Resumed(), lambda fields: Resumed()),
)
_BY_KIND = {entry.kind: entry for entry in ENTRIES}
_BY_NAME = {entry.name: entry for entry in ENTRIES}
