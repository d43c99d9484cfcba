"""The OIF ITLA serial frame: four bytes each way, guarded by a BIP-4 checksum.

Source: OIF-ITLA-MSA-01.2 section 6 and the PurePhotonics command structure page, as in
docs/wire/purephotonics_ppcl550.md, section Frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

FRAME_BYTES = 4
"""Bytes of each request and each reply (docs/wire/purephotonics_ppcl550.md, section Frame)."""


class Status(IntEnum):
    """Bits 1:0 of a reply's first byte."""

    OK = 0
    EXECUTION_ERROR = 1
    AEA = 2
    PENDING = 3


class ChecksumError(ValueError):
    """A frame's BIP-4 does not match its content."""


def bip4(first: int, second: int, third: int, fourth: int) -> int:
    """Return the 4-bit interleaved parity of a frame, bits 7:4 of the first byte left out.

    >>> bip4(0x00, 0x35, 0x00, 0xC1)
    11
    """
    folded = (first & 0x0F) ^ second ^ third ^ fourth
    return (folded >> 4) ^ (folded & 0x0F)


def _seal(low_nibble: int, register: int, data: int) -> bytes:
    high, low = data >> 8 & 0xFF, data & 0xFF
    checksum = bip4(low_nibble, register, high, low)
    return bytes((checksum << 4 | low_nibble, register, high, low))


def _check(frame: bytes) -> None:
    if len(frame) != FRAME_BYTES:
        raise ValueError(f"an ITLA frame has {FRAME_BYTES} bytes, not {len(frame)}")
    if bip4(*frame) != frame[0] >> 4:
        raise ChecksumError(f"BIP-4 of ITLA frame {frame.hex()} does not match")


@dataclass(frozen=True)
class Request:
    """A frame from host to module; `data` is unsigned, 0 to 0xFFFF."""

    register: int
    data: int = 0
    write: bool = False
    last_response: bool = False

    def encode(self) -> bytes:
        """Return the four bytes on the wire.

        >>> Request(register=0x35, data=193, write=True).encode().hex()
        'a13500c1'
        """
        return _seal(self.last_response << 3 | self.write, self.register, self.data)

    @classmethod
    def decode(cls, frame: bytes) -> Request:
        """Read a frame; raises ChecksumError, or ValueError on a wrong length."""
        _check(frame)
        return cls(
            register=frame[1],
            data=frame[2] << 8 | frame[3],
            write=bool(frame[0] & 1),
            last_response=bool(frame[0] & 8),
        )


@dataclass(frozen=True)
class Reply:
    """A frame from module to host; `data` is unsigned, 0 to 0xFFFF."""

    register: int
    data: int = 0
    status: Status = Status.OK
    checksum_error: bool = False

    def encode(self) -> bytes:
        """Return the four bytes on the wire; bit 2 is sent as 1, and readers ignore it."""
        return _seal(self.checksum_error << 3 | 0x04 | self.status, self.register, self.data)

    @classmethod
    def decode(cls, frame: bytes) -> Reply:
        """Read a frame; raises ChecksumError, or ValueError on a wrong length."""
        _check(frame)
        return cls(
            register=frame[1],
            data=frame[2] << 8 | frame[3],
            status=Status(frame[0] & 3),
            checksum_error=bool(frame[0] & 8),
        )


def to_signed(data: int) -> int:
    """Read 16 bits as two's complement.

    >>> to_signed(0xFFFF), to_signed(0x7FFF)
    (-1, 32767)
    """
    return data - 0x10000 if data & 0x8000 else data


def to_unsigned(value: int) -> int:
    """Write a value of -32768 to 65535 as 16 bits; raises ValueError outside.

    >>> hex(to_unsigned(-1))
    '0xffff'
    """
    if not -0x8000 <= value <= 0xFFFF:
        raise ValueError(f"{value} does not fit in 16 bits")
    return value & 0xFFFF
