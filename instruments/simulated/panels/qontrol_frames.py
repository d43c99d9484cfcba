"""The binary frames of Qontrol modules, as the equivalent text commands.

Source: docs/wire/qontrol_q8iv.md, section Binary frames: header byte (1, BCAST, ALLCH,
ADDM, RW, ACT, DEXT, parity), command byte, three bytes of address, then one 16-bit value, or with
DEXT their number and as many.
"""

from __future__ import annotations

# Bits of the header byte, and bytes before the first value (docs/wire/qontrol_q8iv.md).
_FRAME = 0x80
_BROADCAST, _ALL, _BY_DEVICE, _READ, _EXTENDED = 0x40, 0x20, 0x10, 0x08, 0x02
_HEAD_BYTES = 5
_CODES = {0x00: "V", 0x01: "I", 0x02: "VMAX", 0x03: "IMAX", 0x20: "VFULL", 0x21: "IFULL"}
_CODES |= {0x22: "NCHAN", 0x23: "FIRMWARE", 0x24: "ID", 0x25: "LIFETIME", 0x32: "NUP"}
_SETTINGS = ("V", "I", "VMAX", "IMAX")
# Values have 16 bits; a frame that announces more of them than any stack has is cut short.
_FULL_SCALE = 0xFFFF
_MOST_VALUES = 256
# No command: the module answers it as unrecognised.
UNKNOWN = "\0"


def begins_frame(byte: int) -> bool:
    """Return whether a byte is a header byte, of even parity, and no text."""
    return bool(byte & _FRAME) and byte.bit_count() % 2 == 0


def frame_length(data: bytes | bytearray) -> int | None:
    """Return how many bytes the frame at the start of `data` has, None while that is open.

    One that announces more values than there are channels ends with their number.
    """
    if not data:
        return None
    if not data[0] & _EXTENDED:
        return _HEAD_BYTES + 2
    if len(data) < _HEAD_BYTES + 2:
        return None
    values = int.from_bytes(data[_HEAD_BYTES : _HEAD_BYTES + 2], "big")
    return _HEAD_BYTES + 2 + (2 * values if values <= _MOST_VALUES else 0)


def frame_command(frame: bytes | bytearray, full_v: float, full_ma: float) -> str:
    """Return the text command of a whole frame; values are parts of the full scale."""
    header, name = frame[0], _CODES.get(frame[1])
    if name is None or header & (_BROADCAST | _BY_DEVICE):
        return UNKNOWN
    channel = int.from_bytes(frame[2:_HEAD_BYTES], "big")
    if header & _READ:
        if header & _ALL:
            return f"{name}ALL?"
        return f"{name}{channel}?" if name in _SETTINGS else f"{name}?"
    if header & _ALL or name not in _SETTINGS:
        return UNKNOWN
    full = full_v if name.startswith("V") else full_ma
    words = frame[_HEAD_BYTES + (2 if header & _EXTENDED else 0) :]
    codes = [int.from_bytes(words[at : at + 2], "big") for at in range(0, len(words), 2)]
    values = ",".join(f"{code / _FULL_SCALE * full:.6f}" for code in codes)
    return f"{name}{'VEC' if header & _EXTENDED else ''}{channel}={values}"
