"""What an oscilloscope keeps of one acquisition, and how it puts it on the wire.

Source: docs/wire/keysight_infiniivision.md, section Record:
V = (code - yref) yinc + yorg, t = (n - xref) xinc + xorg.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from labctl.instruments.codecs.ieee488 import encode_block
from labctl.instruments.simulated.ports import CaptureWindow, ChannelWindow, Volts

FORMAT_CODES = {"BYTE": 0, "WORD": 1, "ASC": 4}
# High resolution then gains a factor of 4 in noise, two bits.
MOST_FINER = 16
_BITS = {"BYTE": 8, "WORD": 16}


@dataclass(frozen=True)
class ChannelSettings:
    """Vertical settings of one channel; range and offset in V at the probe's tip."""

    range_v: float = 40.0
    offset_v: float = 0.0
    coupling: str = "DC"
    impedance: str = "ONEM"
    display: bool = True
    bandwidth_limit: bool = False
    invert: bool = False
    probe: float = 1.0
    label: str = ""

    def window(self) -> ChannelWindow:
        """Return range and offset at the input connector."""
        sign = -1.0 if self.invert else 1.0
        return ChannelWindow(self.range_v / self.probe, sign * self.offset_v / self.probe)

    def displayed(self, volts: Volts) -> Volts:
        """Return the volts on the screen from those at the input connector."""
        factor = -self.probe if self.invert else self.probe
        return volts if factor == 1.0 else volts * np.float32(factor)


@dataclass(frozen=True)
class WaveformFormat:
    """How `:WAV:DATA?` sends a record; `points` None means all of them."""

    form: str = "BYTE"
    little_endian: bool = False
    unsigned: bool = True
    mode: str = "NORM"
    points: int | None = None


@dataclass(frozen=True)
class AcquisitionType:
    """How a record comes about; `count` is that of averages.

    NORM takes the samples, HRES the mean of up to 16 finer ones for each, AVER the mean of
    `count` records.
    """

    name: str = "NORM"
    count: int = 8

    @property
    def records(self) -> int:
        """Number of acquisitions averaged into one record."""
        return self.count if self.name == "AVER" else 1

    @property
    def code(self) -> int:
        """Return what the preamble calls it (Programmer's Guide, :WAVeform:TYPE)."""
        return {"NORM": 0, "AVER": 2, "HRES": 3}[self.name]

    def finer(self, rate_hz: float, max_rate_hz: float) -> int:
        """Return the number of fine samples averaged into one."""
        return max(min(int(max_rate_hz / rate_hz), MOST_FINER), 1) if self.name == "HRES" else 1


NORMAL = AcquisitionType()


@dataclass(frozen=True, eq=False)
class Record:
    """One acquisition with the settings it was made with; volts as displayed."""

    window: CaptureWindow
    settings: Mapping[int, ChannelSettings]
    volts: Mapping[int, Volts]
    type: AcquisitionType = NORMAL


@dataclass(frozen=True)
class Transfer:
    """One channel of a record in one format."""

    record: Record
    channel: int
    format: WaveformFormat

    @property
    def step(self) -> int:
        """Every how many-th sample is sent."""
        samples = self.record.window.samples
        return -(-samples // (self.format.points or samples))

    @property
    def points(self) -> int:
        """How many points are sent."""
        return -(-self.record.window.samples // self.step)

    @property
    def x_increment_s(self) -> float:
        """Time from point to point."""
        return self.step / self.record.window.sample_rate_hz

    @property
    def x_origin_s(self) -> float:
        """Time of the first point after the trigger."""
        return self.record.window.start_s

    @property
    def y_increment_v(self) -> float:
        """Volts per code."""
        levels = 1 << _BITS.get(self.format.form, 16)
        return self.record.settings[self.channel].range_v / levels

    @property
    def y_origin_v(self) -> float:
        """Volts of the reference code."""
        return self.record.settings[self.channel].offset_v

    @property
    def y_reference(self) -> int:
        """The code in the middle of the screen."""
        middle = 1 << (_BITS.get(self.format.form, 16) - 1)
        return middle if self.format.unsigned else 0

    def preamble(self) -> str:
        """Return the ten fields of `:WAV:PRE?`."""
        how = self.record.type
        kind = f"{FORMAT_CODES[self.format.form]:+d},{how.code:+d}"
        head = f"{kind},{self.points:+d},{how.records:+d}"
        x = f"{self.x_increment_s:+.8E},{self.x_origin_s:+.8E},+0"
        y = f"{self.y_increment_v:+.8E},{self.y_origin_v:+.8E},{self.y_reference:+d}"
        return f"{head},{x},{y}"

    def block(self) -> bytes:
        """Return the data block of `:WAV:DATA?`, always with an 8-digit length."""
        volts = self.record.volts[self.channel][:: self.step]
        if self.format.form == "ASC":
            text = ",".join(map("{:+.5E}".format, volts.tolist()))
            return encode_block(text.encode("ascii"), digits=8)
        return encode_block(self._codes(volts), digits=8)

    def _codes(self, volts: Volts) -> bytes:
        middle = 1 << (_BITS[self.format.form] - 1)
        codes = np.rint((volts - np.float32(self.y_origin_v)) / np.float32(self.y_increment_v))
        codes = np.clip(codes, -middle, middle - 1) + self.y_reference
        order = "<" if self.format.little_endian else ">"
        sign = "u" if self.format.unsigned else "i"
        width = _BITS[self.format.form] // 8
        return bytes(codes.astype(f"{order}{sign}{width}").tobytes())
