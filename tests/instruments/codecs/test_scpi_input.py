"""SCPI input: a stream that is cut anywhere gives the same messages."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.codecs.ieee488 import encode_block
from labctl.instruments.codecs.scpi_input import MessageInput
from labctl.instruments.codecs.scpi_status import ScpiError

MESSAGES = st.one_of(
    st.binary(max_size=30).map(lambda payload: b"DATA X," + encode_block(payload)),
    st.sampled_from([b"*IDN?", b"", b"A 'x\"#12'", b'L "it\'s #3"', b"V #H1F;W 2", b"N#13"]),
)


def drain(source: MessageInput) -> list[bytes]:
    taken = []
    while (message := source.take()) is not None:
        taken.append(message)
    return taken


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(places)]


@settings(deadline=None)
@given(st.lists(MESSAGES, max_size=4), st.lists(st.integers(0, 500), max_size=8))
def test_messages_do_not_depend_on_the_pieces(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(message + b"\n" for message in messages)
    source, taken = MessageInput(1000), []
    for piece in pieces(stream, cuts):
        source.feed(piece, end=False)
        taken += drain(source)
    assert taken == messages


@settings(deadline=None)
@given(st.binary(max_size=50))
def test_end_closes_a_message_without_newline(payload: bytes) -> None:
    source = MessageInput(1000)
    message = b"D " + encode_block(payload)
    source.feed(message, end=True)
    assert drain(source) == [message]
    source.feed(b"*OPC?", end=True)
    assert drain(source) == [b"*OPC?"]


@settings(deadline=None)
@given(st.binary(max_size=50))
def test_an_indefinite_block_runs_to_end(payload: bytes) -> None:
    source = MessageInput(1000)
    source.feed(b"D #0" + payload, end=False)
    source.feed(b"\n", end=True)
    assert drain(source) == [b"D #0" + payload]


def test_end_cuts_a_block_short_instead_of_waiting_for_ever() -> None:
    source = MessageInput(1000)
    source.feed(b"D #3100abc", end=True)
    assert drain(source) == [b"D #3100abc"]


def test_end_of_messages_that_had_to_wait_is_not_lost() -> None:
    source = MessageInput(1000)
    source.feed(b"A", end=True)
    source.feed(b"B #19x", end=True)
    source.feed(b"C\n", end=True)
    assert drain(source) == [b"A", b"B #19x", b"C"]


@pytest.mark.parametrize("long", [b"x" * 200, b"D #9999999999", b"D #3150" + b"x" * 150])
def test_too_long_a_message_is_dropped_and_reported_once(long: bytes) -> None:
    source = MessageInput(100)
    for start in range(0, len(long), 7):
        source.feed(long[start : start + 7], end=False)
        assert source.take() is None
    assert len(source) <= 100
    source.feed(b" rest\n*IDN?\n", end=False)
    with pytest.raises(ScpiError, match="-363"):
        source.take()
    assert drain(source) == [b"*IDN?"]
