"""Messages as bytes: what goes in comes out, and nothing but a message is taken for one."""

from __future__ import annotations

import math
import tracemalloc
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("google.protobuf", reason="needs labctl[parties]")

from labctl.errors import ProtocolError
from labctl.parties.channel_messages import Closed, Resume, Resumed, Said
from labctl.parties.codec import ENTRIES, MOST_BYTES, decode, encode
from labctl.parties.envelope import MOST_BODY_BYTES, Envelope
from labctl.parties.greetings import MOST_SIZE
from labctl.parties.schema import session_pb2 as schema
from labctl.protocols.alignment import AlignmentFrame, AlignmentPurpose
from labctl.protocols.carried import Inputs
from labctl.protocols.disguise import Disguise
from labctl.protocols.leakage import Assumptions, LayerShape, Trust
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
    Message,
    Queries,
    Queued,
    Ready,
    Realign,
    ReceiverFacts,
    Taken,
    Verdict,
    Welcome,
)
from labctl.protocols.settings import Sampling, VerificationSettings
from labctl.protocols.terms import MOST_QUERIES, Terms

DIGEST = "ab" * 32
TERMS = Terms(
    model="digits",
    model_sha256=DIGEST,
    signal_to_noise=0.3,
    disguise=Disguise(permute=True),
    sampling=Sampling.ALL,
    verification=VerificationSettings(weights_bits_limit=0.1),
    assumptions=Assumptions(Trust.UNTRUSTED, Trust.TRUSTED),
    queries_left=7,
    bits_per_weight_left=0.5,
    deadline_s=600.0,
    batch_queries=100,
)
WELCOME = Welcome(
    1,
    (6, 4, 3),
    Inputs(9, np.array([0, 1, 2, 5, 6, 8])),
    (LayerShape(4, 3, 6, 2, 1), LayerShape(3, 2, 4)),
    False,
    0.57,
    1.3,
    TERMS,
)
# JSON's numbers, NaN aside; protobuf has no others.
numbers = st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
counts = st.integers(1, MOST_QUERIES)
sizes = st.integers(1, MOST_SIZE)
frames = st.builds(Frames, st.integers(0, 63), st.integers(0, MOST_QUERIES - 1), counts)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


@st.composite
def inputs(draw: st.DrawFn) -> Inputs:
    width = draw(st.integers(2, 300))
    fed = draw(st.none() | st.sets(st.integers(0, width - 1), min_size=1, max_size=width - 1))
    return Inputs(width, None if fed is None else np.array(sorted(fed)))


@st.composite
def shapes(draw: st.DrawFn) -> LayerShape:
    modes = draw(sizes)
    wide = draw(st.integers(1, 2 * modes))
    return LayerShape(draw(sizes), modes, wide, draw(st.none() | sizes), draw(sizes))


probabilities = st.floats(1e-100, 1.0, exclude_max=True)
verifications = st.builds(
    VerificationSettings,
    probabilities,
    probabilities,
    st.integers(2, 10**15),
    st.none() | st.floats(0.0, 1e6, exclude_min=True),
    st.just(0) | st.integers(2, 10**15),
)
terms = st.builds(
    Terms,
    model=texts.filter(bool),
    model_sha256=digests,
    signal_to_noise=st.floats(1e-9, 1e9),
    disguise=st.builds(Disguise, st.booleans(), st.booleans()),
    sampling=st.sampled_from(Sampling),
    verification=verifications,
    assumptions=st.builds(Assumptions, st.sampled_from(Trust), st.sampled_from(Trust)),
    queries_left=st.none() | st.integers(0, 10**15),
    bits_per_weight_left=st.none() | st.floats(0.0, 64.0),
    deadline_s=st.floats(0.001, 86_400.0),
    batch_queries=counts,
)
welcomes = st.builds(
    Welcome,
    st.integers(1, 2**31 - 1),
    st.lists(sizes, min_size=1, max_size=65).map(tuple),
    inputs(),
    st.lists(shapes(), min_size=1, max_size=4).map(tuple),
    st.booleans(),
    st.floats(1e-300, 1e9),
    st.none() | st.floats(1.0, 1e9),
    st.none() | terms,
)
verdicts = st.builds(
    Verdict,
    st.none() | st.booleans(),
    texts,
    st.none() | numbers,
    st.none() | numbers,
    st.none() | numbers,
    st.floats(0.0, 1.0),
)
versions = st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=16).map(tuple)
receivers = st.builds(
    ReceiverFacts,
    st.none() | sizes,
    sizes,
    st.floats(1.0, 1e9),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1e9),
    st.floats(0.0, 1e9),
    st.floats(0.0, 1e9),
)


@st.composite
def alignments(draw: st.DrawFn) -> AlignmentFrame:
    count = draw(st.integers(1, 1024))
    purpose = draw(st.sampled_from(AlignmentPurpose))
    number = draw(st.integers(0, count - 1))
    return AlignmentFrame(purpose, draw(st.integers(0, 63)), number, count)


DRAWN: dict[type[Said], st.SearchStrategy[Any]] = {
    Hello: st.builds(Hello, versions, st.none() | receivers, st.just("") | digests),
    Ready: st.just(Ready()),
    Queued: st.builds(Queued, st.integers(1, 2**20)),
    Realign: st.just(Realign()),
    AlignOpen: st.builds(AlignOpen, alignments()),
    AlignArmed: st.builds(AlignArmed, alignments()),
    AlignTaken: st.builds(AlignTaken, alignments(), st.booleans()),
    Aligned: st.just(Aligned()),
    Welcome: welcomes,
    Queries: st.builds(Queries, counts),
    LayerOpen: st.builds(LayerOpen, frames),
    Armed: st.builds(Armed, frames),
    Taken: st.builds(Taken, frames),
    Done: st.builds(Done, counts),
    Verdict: verdicts,
    Close: st.just(Close()),
    Abort: st.builds(Abort, st.sampled_from(AbortCode), texts),
    Closed: st.just(Closed()),
    Resume: st.builds(Resume, st.integers(0, MOST_QUERIES)),
    Resumed: st.just(Resumed()),
}
said = st.one_of(*DRAWN.values())


def plain(value: object) -> object:
    """Return a value as nested tuples, so that arrays compare."""
    if is_dataclass(value) and not isinstance(value, type):
        return type(value), *(plain(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, np.ndarray):
        return tuple(value.tolist())
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


def test_every_message_has_a_form_and_is_drawn_here() -> None:
    kinds = {entry.kind for entry in ENTRIES}
    assert kinds == {*get_args(Message), Closed, Resume, Resumed} == set(DRAWN)
    lines = {field.name for field in schema.Body.DESCRIPTOR.fields}
    assert {entry.name for entry in ENTRIES} == lines


def test_every_abort_has_a_number() -> None:
    for code in AbortCode:
        assert decode(encode(Abort(code, "why"))) == Abort(code, "why")


@given(said)
@settings(derandomize=True, max_examples=300, deadline=None)
def test_what_was_said_is_what_comes(message: Said) -> None:
    assert plain(decode(encode(message))) == plain(message)


@given(st.binary(max_size=400))
@settings(derandomize=True, max_examples=500, deadline=None)
def test_drawn_bytes_are_refused_by_name_or_are_a_message(data: bytes) -> None:
    for read in (decode, Envelope.decoded):
        with suppress(ProtocolError):
            read(data)


@given(said, st.data())
@settings(derandomize=True, max_examples=500, deadline=None)
def test_a_message_with_damage_is_refused_by_name_or_is_another(
    message: Said, data: st.DataObject
) -> None:
    coded = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(coded) - 1))
        coded[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(coded)))
    for damaged in (bytes(coded), bytes(coded[:cut])):
        try:
            came = decode(damaged)
        except ProtocolError:
            continue
        assert plain(decode(encode(came))) == plain(came)


def welcome(**changes: Any) -> schema.Welcome:
    body = schema.Body.FromString(encode(WELCOME)).welcome
    for name, value in changes.items():
        part = body
        *path, last = name.split("__")
        for each in path:
            part = getattr(part, each)
        if value is None:
            part.ClearField(last)
        elif isinstance(value, list):
            getattr(part, last)[:] = value
        else:
            setattr(part, last, value)
    return body


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": None}, "Welcome.*version is missing"),
        ({"signed": None}, "signed is missing"),
        ({"inputs": None}, "inputs is missing"),
        ({"version": 0}, "version = 0: must be 1 to"),
        ({"sizes": []}, "length of sizes = 0: must be 1 to 65"),
        ({"sizes": [5] * 66}, "length of sizes = 66: must be 1 to 65"),
        ({"sizes": [0]}, "sizes = 0: must be 1 to 1048576"),
        ({"mean_photons": math.nan}, "mean_photons = nan: must be"),
        ({"mean_photons": math.inf}, "mean_photons = inf: must be"),
        ({"mean_photons": 0.0}, r"mean_photons = 0\.0: must be"),
        ({"inputs__width": 40}, "length of fed = 2: must be 5 bytes"),
        ({"inputs__fed": b"\0\0"}, "fed = '0 values'"),
        ({"inputs__fed": b"\1\2"}, "fed = '2 values': must be some of 9 values"),
        ({"gain": 0.5}, r"gain = 0\.5: must be 1 to"),
        ({"terms__loss": 0}, "loss = 0: must be one of 1"),
        ({"terms__sampling": 9}, "sampling = 9: must be one of 1"),
        ({"terms__model": ""}, "model = ''"),
        ({"terms__model": "x" * 201}, "length of model = 201: must be at most 200"),
        ({"terms__model_sha256": b"ab"}, "length of model_sha256 = 2: must be 32 bytes"),
        ({"terms__deadline_s": math.inf}, "deadline_s = inf"),
        ({"terms__batch_queries": 0}, "batch_queries = 0: must be 1 to"),
        ({"terms__batch_queries": None}, "batch_queries is missing"),
        ({"terms__verification": None}, "verification is missing"),
        ({"terms__verification__failure_probability": 2.0}, "failure_probability = 2"),
    ],
)
def test_a_refusal_names_the_field_its_value_and_what_is_valid(
    changes: dict[str, Any], problem: str
) -> None:
    data = schema.Body(welcome=welcome(**changes)).SerializeToString()
    with pytest.raises(ProtocolError, match=problem):
        decode(data)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no message in it; expected one of: abort"),
        (b"\xf0\x07\x01", "field 126 unknown"),
        (encode(Queries(3)) + b"\xf8\x01\x01", "field 31 unknown"),
        (encode(Queries(3)) + encode(Done(3)), "said comes 2 times"),
        (encode(Queries(3)) * 2, "said comes 2 times"),
        # The count twice; protobuf takes the last one.
        (b"\x1a\x04\x08\x03\x08\x04", "count comes 2 times"),
        (b"\x1a\x02\x10\x03", "field 2 unknown"),
        (b"\x1a\x03\x09\x03\x00", "Queries.count: wire type 1|Queries.count.*wire type 1"),
        (b"\x1a\x02\x08\x00", "count = 0: must be 1 to"),
        (b"\x1a\x03\x08\x83\x00", "shortest form"),
        (b"\x1a\x0c\x08" + b"\xff" * 10 + b"\x01", "cut off, too long"),
        (b"\x1a\x09\x08\x03", "9 bytes announced, 2 are left"),
        (b"\x1a", "cut off"),
        (b"\x52\x05\x08\x01\x12\x01\xff", "UTF-8"),
        (b"\x52\x05\x08\x00\x12\x01a", "code = 0: must be one of 1"),
        (b"\x52\x02\x12\x00", "code is missing"),
    ],
)
def test_bytes_that_protobuf_would_read_over_are_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ProtocolError, match=problem):
        decode(data)


# A tag and a length, then parts of two bytes, half a million of them.
EMPTY_SHAPES = b"\x22\x00" * 499_990
ONES = b"\x12\xb0\xea\x3c" + b"\x01" * 996_656


@pytest.mark.parametrize("inside", [EMPTY_SHAPES, ONES, b"\x01" * 999_990])
def test_decoding_takes_no_more_memory_than_the_message(inside: bytes) -> None:
    length = len(inside)
    announced = bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14])
    data = b"\x12" + announced + inside
    assert len(data) <= MOST_BYTES
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match=r"list of|comes 257 times|field 0"):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < len(data)
    finally:
        tracemalloc.stop()


def test_a_message_has_at_most_a_megabyte() -> None:
    with pytest.raises(ProtocolError, match="1000001 bytes; expected at most 1000000"):
        decode(bytes(MOST_BYTES + 1))
    with pytest.raises(ProtocolError, match="body of"):
        Envelope(bytes(16), 0, bytes(32), bytes(MOST_BODY_BYTES + 1)).encoded()
    whole = Envelope(bytes(16), 0, bytes(32), bytes(MOST_BODY_BYTES)).encoded()
    assert len(Envelope.decoded(whole).body) == MOST_BODY_BYTES
    assert len(whole) <= MOST_BYTES


def test_what_the_other_side_would_refuse_is_not_sent() -> None:
    for wrong in (
        replace(WELCOME, mean_photons=math.nan),
        replace(WELCOME, sizes=()),
        Frames(64, 0, 1),
        Queries(2**40),
        Hello(()),
    ):
        with pytest.raises(ProtocolError):
            encode(LayerOpen(wrong) if isinstance(wrong, Frames) else wrong)


def test_an_abort_is_sent_however_long_its_reason_is() -> None:
    came = decode(encode(Abort(AbortCode.SAFETY, "x" * 5000 + "\ud800")))
    assert isinstance(came, Abort)
    assert came.reason == "x" * 999 + "…"
    assert decode(encode(Abort(AbortCode.SAFETY, "\ud800"))) == Abort(AbortCode.SAFETY, "?")


@given(
    st.builds(
        Envelope,
        st.binary(min_size=16, max_size=16),
        st.integers(0, 2**62),
        st.binary(min_size=32, max_size=32),
        st.binary(min_size=1, max_size=50),
        st.booleans(),
        st.none() | st.binary(min_size=32, max_size=32),
        st.none() | st.binary(min_size=1, max_size=50),
        st.none() | st.binary(min_size=1, max_size=72),
    )
)
@settings(derandomize=True, max_examples=100, deadline=None)
def test_envelopes_come_as_they_were_sent(envelope: Envelope) -> None:
    assert Envelope.decoded(envelope.encoded()) == envelope
