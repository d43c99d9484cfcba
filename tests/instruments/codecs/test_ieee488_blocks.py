"""Arbitrary blocks and error replies."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.codecs.ieee488 import (
    MOST_BLOCK_BYTES,
    BlockError,
    block_header,
    block_span,
    decode_block,
    encode_block,
    parse_error,
)


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([None, 8, 9]), st.sampled_from([b"", b"\n"]))
def test_definite_blocks_round_trip(payload: bytes, digits: int | None, ending: bytes) -> None:
    assert bytes(decode_block(encode_block(payload, digits=digits) + ending)) == payload


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_an_indefinite_block_ends_at_its_final_newline(payload: bytes) -> None:
    assert bytes(decode_block(b"#0" + payload + b"\n")) == payload


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=300), st.data())
def test_a_block_cut_short_is_never_handed_out(payload: bytes, data: st.DataObject) -> None:
    block = encode_block(payload)
    cut = data.draw(st.integers(0, len(block) - 1))
    with pytest.raises(BlockError):
        decode_block(block[:cut])


@settings(deadline=None)
@given(st.integers(0, MOST_BLOCK_BYTES))
def test_a_header_announces_what_follows_it(payload_bytes: int) -> None:
    header = block_header(payload_bytes)
    assert block_span(header) == (len(header), len(header) + payload_bytes)
    assert block_span(block_header(payload_bytes, digits=9)) == (11, 11 + payload_bytes)


def test_a_header_cannot_say_more_than_nine_digits() -> None:
    with pytest.raises(BlockError, match="1000000000 bytes do not fit"):
        block_header(MOST_BLOCK_BYTES + 1)
    with pytest.raises(BlockError, match="100 bytes do not fit a block header of 2 digits"):
        block_header(100, digits=2)


@pytest.mark.parametrize("digits", [0, 1, 10])
def test_a_width_that_the_length_does_not_fit_or_the_header_cannot_say_is_refused(
    digits: int,
) -> None:
    with pytest.raises(BlockError, match=f"12 bytes do not fit a block header of {digits} digits"):
        block_header(12, digits=digits)


def test_headers_are_as_wide_as_they_must_or_are_told_to_be() -> None:
    assert block_header(0) == b"#10"
    assert block_header(MOST_BLOCK_BYTES) == b"#9999999999"
    assert [block_header(7, digits=width) for width in (1, 2, 9)] == [
        b"#17",
        b"#207",
        b"#9000000007",
    ]


def test_a_span_waits_for_its_header() -> None:
    assert block_span(b"DATA #3", 5) is None
    assert block_span(b"#3012") == (5, 17)


def test_a_span_waits_for_every_byte_of_its_header_wherever_it_starts() -> None:
    for before in (b"", b"D", b"DATA "):
        start = len(before)
        header = b"#3012"
        for come in range(len(header)):
            assert block_span(before + header[:come], start) is None
        assert block_span(before + header, start) == (start + 5, start + 17)


@pytest.mark.parametrize("bad", [b"x", b"x3012", b"#0", b"#:", b"#/1", b"#2 1", b"#2-1"])
def test_no_span_begins_with_anything_else(bad: bytes) -> None:
    for before in (b"", b"DATA "):
        with pytest.raises(BlockError):
            block_span(before + bad, len(before))


@pytest.mark.parametrize(
    ("message", "payload"),
    [(b"#0", b""), (b"#0\n", b""), (b"#0ab", b"ab"), (b"#0ab\n\n", b"ab\n"), (b"#0\nb", b"\nb")],
)
def test_an_indefinite_block_is_all_but_one_newline(message: bytes, payload: bytes) -> None:
    assert bytes(decode_block(message)) == payload


def test_only_space_may_follow_a_definite_block() -> None:
    assert bytes(decode_block(b"#12ab \r\n")) == b"ab"
    with pytest.raises(BlockError, match="3 bytes follow"):
        decode_block(b"#12ab c\n")
    with pytest.raises(BlockError, match="cut short after 4 bytes"):
        decode_block(b"#12a")


@pytest.mark.parametrize("bad", [b"12", b"#x12", b"#2ab", b"#13abcd"])
def test_what_is_no_block_is_refused(bad: bytes) -> None:
    with pytest.raises(BlockError):
        decode_block(bad)


def test_a_payload_too_long_for_its_header_is_refused() -> None:
    with pytest.raises(BlockError, match="do not fit"):
        encode_block(b"0123456789", digits=1)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ('+0,"No error"', (0, "No error")),
        ('0,"No error"\n', (0, "No error")),
        ("-113", (-113, "")),
        ('-222,"Data out of range; 5"', (-222, "Data out of range; 5")),
        (' -350 , "Queue, full" ', (-350, "Queue, full")),
        ("7,", (7, "")),
    ],
)
def test_error_replies_of_all_styles_are_read(reply: str, error: tuple[int, str]) -> None:
    assert parse_error(reply) == error


@pytest.mark.parametrize("reply", ["", "No error", "1.5", '"No error",0', "- 1"])
def test_any_other_reply_is_no_error_reply(reply: str) -> None:
    with pytest.raises(ValueError, match="is not an error-queue reply"):
        parse_error(reply)
