"""HiSLIP headers: 16 bytes there and back; without the prologue there is no session."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.simulated.doors.hislip_messages import (
    HEADER_BYTES,
    Fatal,
    FatalError,
    Header,
    Kind,
    decode,
    encode,
)

BYTE = st.integers(0, 255)


def test_a_header_is_laid_out_as_in_the_standard() -> None:
    expected = b"HS\x07\x01\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x05"
    assert encode(Kind.DATA_END, 1, 0xFFFF_FF00, 5) == expected


@settings(deadline=None)
@given(st.sampled_from(Kind), BYTE, st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_what_is_encoded_is_decoded(kind: Kind, control: int, parameter: int, length: int) -> None:
    data = encode(kind, control, parameter, length)
    assert len(data) == HEADER_BYTES
    assert decode(data) == Header(kind, control, parameter, length)


@settings(deadline=None)
@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_any_sixteen_bytes_are_a_header_or_a_fatal_error(data: bytes) -> None:
    if data[:2] == b"HS":
        assert decode(data).kind == data[2]
        return
    with pytest.raises(FatalError, match="begins with 'HS'") as caught:
        decode(data)
    assert caught.value.code is Fatal.POOR_HEADER
