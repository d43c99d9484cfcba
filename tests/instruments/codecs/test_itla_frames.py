"""ITLA frames: the golden ones of the MSA and of public drivers, and the checksum's algebra."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.codecs.itla import (
    ChecksumError,
    Reply,
    Request,
    Status,
    to_signed,
    to_unsigned,
)

GOLDEN = {
    "00000000": Request(0x00),
    "30030000": Request(0x03),
    "b00b0000": Request(0x0B),
    "81320008": Request(0x32, 8, write=True),
    "01320000": Request(0x32, 0, write=True),
    "613103e8": Request(0x31, 1000, write=True),
    "e131fe0c": Request(0x31, to_unsigned(-500), write=True),
    "a13500c1": Request(0x35, 193, write=True),
    "61361388": Request(0x36, 5000, write=True),
    "31300001": Request(0x30, 1, write=True),
    "913500c2": Request(0x35, 194, write=True),
    "813606d7": Request(0x36, 1751, write=True),
    "81670019": Request(0x67, 25, write=True),
    "c13401f4": Request(0x34, 500, write=True),
    "016203e8": Request(0x62, 1000, write=True),
    "f162fc18": Request(0x62, to_unsigned(-1000), write=True),
    "a1900002": Request(0x90, 2, write=True),
    "91900001": Request(0x90, 1, write=True),
    "40400000": Request(0x40),
    "70430000": Request(0x43),
    "d0580000": Request(0x58),
    "20200000": Request(0x20),
}
WORDS = st.integers(0, 0xFFFF)
BYTES = st.integers(0, 0xFF)


@pytest.mark.parametrize(("frame", "request_"), GOLDEN.items())
def test_golden_frames_are_written_and_read(frame: str, request_: Request) -> None:
    assert request_.encode().hex() == frame
    assert Request.decode(bytes.fromhex(frame)) == request_


@settings(deadline=None)
@given(BYTES, WORDS, st.sampled_from(Status), st.booleans())
def test_replies_survive_the_wire(
    register: int, data: int, status: Status, checksum_error: bool
) -> None:
    reply = Reply(register, data, status, checksum_error)
    assert Reply.decode(reply.encode()) == reply


@settings(deadline=None)
@given(BYTES, WORDS, st.integers(0, 31))
def test_any_single_bit_error_is_found(register: int, data: int, bit: int) -> None:
    frame = int.from_bytes(Request(register, data).encode(), "big") ^ 1 << bit
    with pytest.raises(ChecksumError):
        Request.decode(frame.to_bytes(4, "big"))


@settings(deadline=None)
@given(st.integers(-0x8000, 0x7FFF))
def test_signed_words_round_trip(value: int) -> None:
    assert to_signed(to_unsigned(value)) == value


def test_a_frame_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="4 bytes, not 3"):
        Reply.decode(b"abc")
