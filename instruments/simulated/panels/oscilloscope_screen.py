"""The screen of an oscilloscope as a picture: graticule and traces, as PNG or bitmap.

Source: docs/wire/keysight_infiniivision.md, section Screen: a 24-bit PNG or BMP in an IEEE 488.2
block; 800 by 480 pixels. Nothing around the graticule is drawn.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from labctl.instruments.simulated.panels.oscilloscope_record import ChannelSettings
from labctl.instruments.simulated.ports import Volts

# docs/wire/keysight_infiniivision.md: 800 by 480 pixels. The screen has 10 by 8 divisions.
WIDTH, HEIGHT = 800, 480
_DIVISIONS_X, _DIVISIONS_Y = 10, 8
_GRID = (64, 64, 64)
# Of channels 1 to 4: yellow, green, blue, red.
_COLOURS = ((255, 255, 0), (0, 255, 0), (64, 128, 255), (255, 64, 128))
# Luma of red, green and blue (ITU-R BT.601).
_GREY_WEIGHTS = (0.299, 0.587, 0.114)

Pixels = npt.NDArray[np.uint8]


def picture(
    volts: Mapping[int, Volts],
    settings: Mapping[int, ChannelSettings],
    *,
    grey: bool,
    saves_ink: bool,
) -> Pixels:
    """Draw traces (displayed V) over the screen's width; shape (HEIGHT, WIDTH, 3), top row first.

    The background is black, or white to save ink. Luminance of grey pictures as in ITU-R BT.601.
    """
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:: HEIGHT // _DIVISIONS_Y] = _GRID
    pixels[:, :: WIDTH // _DIVISIONS_X] = _GRID
    for number, trace in volts.items():
        if settings[number].display:
            _draw(pixels, trace, settings[number], _COLOURS[(number - 1) % len(_COLOURS)])
    if saves_ink:
        pixels[~pixels.any(axis=2)] = 255
    if grey:
        luminance = pixels @ np.array(_GREY_WEIGHTS)
        pixels = np.repeat(luminance.round().astype(np.uint8)[:, :, None], 3, axis=2)
    return pixels


def png(pixels: Pixels) -> bytes:
    """Return a picture as PNG (RFC 2083), eight bits a colour."""
    rows, columns, _ = pixels.shape
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), pixels.reshape(rows, -1)], axis=1)
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    data = zlib.compress(lines.tobytes())
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", data), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def bitmap(pixels: Pixels) -> bytes:
    """Return a picture as a 24-bit Windows bitmap, bottom row first; rows fill whole words."""
    rows, columns, _ = pixels.shape
    data = np.pad(pixels[::-1, :, ::-1].reshape(rows, -1), ((0, 0), (0, -3 * columns % 4)))
    info = struct.pack("<IiiHHIIiiII", 40, columns, rows, 1, 24, 0, data.size, 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 54 + data.size, 0, 0, 54) + info + data.tobytes()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _draw(
    pixels: Pixels, volts: Volts, settings: ChannelSettings, colour: tuple[int, int, int]
) -> None:
    """Fill each column from the lowest to the highest value in it, joined to the one before."""
    up = (volts - np.float32(settings.offset_v)) / np.float32(settings.range_v) + np.float32(0.5)
    rows = np.clip(np.rint((1.0 - up) * (HEIGHT - 1)), 0, HEIGHT - 1).astype(int)
    ends = np.linspace(0, rows.size, WIDTH + 1).astype(int)
    for column in range(WIDTH):
        first = max(ends[column] - 1, 0)
        part = rows[first : max(ends[column + 1], first + 1)]
        pixels[part.min() : part.max() + 1, column] = colour
