"""VISA addresses: one instrument has many spellings, which must count as one.

Forms: VPP-4.3 (VISA specification 7.2), section 4.3.1.1: the interface with its board number (0
unless given), the parts of the address, and the resource class (INSTR unless given). Case says
nothing; numbers of a USB device may be decimal or hexadecimal; a LAN device is `inst0` unless
named.
"""

from __future__ import annotations

import re
from contextlib import suppress

_INTERFACE = re.compile(r"(ASRL|GPIB|USB|TCPIP|VICP|PXI|VXI|PRLGX-TCPIP|PRLGX-ASRL)(.*)")
_CLASSES = ("INSTR", "SOCKET", "RAW", "INTFC", "BACKPLANE", "MEMACC", "SERVANT")
_HISLIP_PORT = ",4880"  # IANA's, which an address need not say


def canonical(address: str) -> str:
    """Return the one spelling that all spellings of an address share.

    >>> canonical("USB::4883::32888::P0000001")
    'USB0::0X1313::0X8078::P0000001::0::INSTR'
    >>> canonical("ASRL2") == canonical("asrl2::INSTR") == canonical("COM2")
    True
    """
    parts = re.sub(r"^COM(?=\d)", "ASRL", address.strip().upper()).split("::")
    found = _INTERFACE.fullmatch(parts[0])
    if found is None:
        return "::".join(parts)
    kind, board = found.group(1), found.group(2)
    resource = parts.pop() if len(parts) > 1 and parts[-1] in _CLASSES else "INSTR"
    rest = parts[1:]
    if kind == "ASRL":
        board = board.removeprefix("COM")
        # A device file's name has capitals that count.
        board = address.strip().split("::")[0][4:] if board.startswith("/") else board
    if board.isascii() and board.isdigit():
        board = str(int(board))
    if kind == "USB":
        rest = [*(_hexadecimal(part) for part in rest[:2]), *rest[2:]]
        if resource == "INSTR" and len(rest) == 3:
            rest.append("0")
    elif kind == "TCPIP" and resource == "INSTR":
        device = rest[1] if len(rest) > 1 else "INST0"
        rest = [*rest[:1], device.removesuffix(_HISLIP_PORT)]
    elif kind == "GPIB":
        rest = [str(int(part)) if part.isascii() and part.isdigit() else part for part in rest]
    return "::".join([f"{kind}{board or '0'}", *rest, resource])


def _hexadecimal(number: str) -> str:
    """Return a manufacturer's or a model's number in hexadecimal; what is none as it is."""
    with suppress(ValueError):
        return f"0X{int(number, 0):04X}"
    return number
