"""Facts on the pages that can be computed agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labctl.instruments.codecs.itla import Request
from labctl.instruments.lasers.itla_registers import Register

PAGE = Path(__file__).resolve().parents[2] / "docs" / "wire" / "purephotonics_ppcl550.md"
TEXT = PAGE.read_text(encoding="utf-8")
FRAMES = re.findall(r"\b[0-9a-f]{8}\b", TEXT)


def spelled(name: str) -> str:
    return name.strip().replace("_", "").replace("-", "").upper()


def test_there_are_frames() -> None:
    assert len(FRAMES) > 15


@pytest.mark.parametrize("frame", FRAMES)
def test_every_frame_of_the_page_is_what_the_codec_makes(frame: str) -> None:
    data = bytes.fromhex(frame)
    value = int.from_bytes(data[2:], "big")
    assert Request(data[1], value, write=bool(data[0] & 1)).encode().hex() == frame


def registers_of_the_page() -> dict[int, str]:
    """Return the names in the page's table; `01 to 07` and `20, 21` name several in a row."""
    rows: dict[int, str] = {}
    for numbers, names in re.findall(r"^\| ([0-9A-F]{2}[^|]*) \| ([^|]+) \|", TEXT, re.MULTILINE):
        ends = [[int(end, 16) for end in part.split(" to ")] for part in numbers.split(", ")]
        listed = [number for part in ends for number in range(part[0], part[-1] + 1)]
        rows |= dict(zip(listed, map(spelled, names.split(",")), strict=False))
    return rows


def test_every_register_that_drivers_use_is_on_the_page_under_its_number() -> None:
    page, also = registers_of_the_page(), {Register.SERIAL: "SERNO"}
    for register in Register:
        if register is not Register.MODE:
            assert page[register] == also.get(register, spelled(register.name)), register
    assert f"0x{Register.MODE:02X} Mode: 0 dither, 1 no dither, 2 whisper" in TEXT
