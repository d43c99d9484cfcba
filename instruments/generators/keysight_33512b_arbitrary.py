"""Arbitrary waveforms of a Keysight 33512B: converter codes in a memory, chosen by name.

Commands: docs/wire/keysight_33512b.md, section Arbitrary waveforms [2+]. Waveforms travel as
little-endian int16 converter codes (`FORM:BORD SWAP`, `DATA:ARB:DAC`), codes -32767 to 32767
standing for -1 to +1.
"""

from __future__ import annotations

import math
import re
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from labctl.errors import LimitError
from labctl.instruments.driver_rules import require_channel, require_positive
from labctl.instruments.transports.opening import DriverOptions
from labctl.instruments.transports.scpi_session import ScpiSession

CHANNELS = range(1, 3)
# Samples are 16-bit numbers, both ends alike; the output has 50 ohms; a limit that is met but for
# rounding is met.
_FULL_SCALE = 32767
_OUTPUT_OHM = 50.0
_ROUNDING = 1 + 1e-9


class Keysight33512BOptions(DriverOptions):
    """What the instrument is connected to, and limits to check before anything is sent.

    `load_ohm`: what terminates the outputs, in ohm (inf for high impedance); all voltages are
    those at the load. `open_circuit_v`: largest peak voltage without a load [M].
    `max_sample_rate_hz`, `max_frequency_hz` (of standard shapes), `min_samples` and
    `max_name_length` (of arbitrary waveforms): [M]. `filter`: the reconstruction filter.
    """

    timeout_s: float = Field(default=10.0, gt=0)
    load_ohm: float = Field(default=50.0, ge=1.0, allow_inf_nan=True)
    open_circuit_v: float = Field(default=10.0, gt=0)
    max_sample_rate_hz: float = Field(default=160e6, gt=0)
    max_frequency_hz: float = Field(default=20e6, gt=0)
    min_samples: int = Field(default=8, ge=1)
    max_name_length: int = Field(default=12, ge=1)
    filter: Literal["NORM", "STEP", "OFF"] = "NORM"

    def channel_range(self) -> range:
        """Return the numbers of the channels."""
        return CHANNELS


class ArbitraryWaveforms:
    """The memories of both channels, and what is played from them."""

    def __init__(self, scpi: ScpiSession, options: Keysight33512BOptions) -> None:
        self.name = scpi.name
        self._scpi = scpi
        self._options = options

    def upload(self, channel: int, name: str, samples: NDArray[np.floating]) -> None:
        """Store samples in -1 to +1, shape (n,), as int16 codes in the volatile memory.

        `name`: a letter, then letters, digits or underscores. Raises LimitError if samples, name
        or memory do not fit, InstrumentReportedError if the instrument refuses (a second waveform
        of one name: `forget` first).
        """
        self._check_channel(channel)
        self._check_name(name)
        codes = self._codes(samples)
        free = self.memory_free(channel)
        if len(codes) > free:
            valid = f"at most {free} samples, the free memory of channel {channel}"
            raise LimitError(self.name, "samples", len(codes), valid)
        self._scpi.set("FORM:BORD SWAP")
        self._scpi.set_block(f"SOUR{channel}:DATA:ARB:DAC {name},", codes.tobytes())

    def stored(self, channel: int) -> tuple[str, ...]:
        """Return what the catalogue of the volatile memory lists, as the instrument spells it."""
        self._check_channel(channel)
        reply = self._scpi.query(f"SOUR{channel}:DATA:VOL:CAT?", may_be_empty=True)
        entries = (entry.strip().strip('"') for entry in reply.split(","))
        return tuple(entry for entry in entries if entry)

    def forget(self, channel: int) -> None:
        """Clear the channel's volatile memory."""
        self._check_channel(channel)
        self._scpi.set(f"SOUR{channel}:DATA:VOL:CLE")

    def memory_free(self, channel: int) -> int:
        """Return how many more samples the channel can store."""
        self._check_channel(channel)
        return self._scpi.integer(f"SOUR{channel}:DATA:VOL:FREE?")

    def play(
        self, channel: int, name: str, *, sample_rate_hz: float, amplitude_v: float, offset_v: float
    ) -> None:
        """Select a stored waveform and play it continuously: sample +1 is offset + amplitude.

        `sample_rate_hz` in Hz, `amplitude_v` (peak) and `offset_v` in V at the load. Ends a burst
        set before; does not switch the output. Raises LimitError.
        """
        self._check_channel(channel)
        self._check_name(name)
        limit_hz = self._options.max_sample_rate_hz
        require_positive(self.name, "sample_rate_hz", sample_rate_hz, limit_hz, "Hz")
        self._check_swing(amplitude_v, offset_v)
        source = f"SOUR{channel}"
        self._scpi.set_all(
            f"OUTP{channel}:LOAD {self._load()}",
            f"{source}:BURS:STAT 0",
            f"{source}:FUNC:ARB {name}",
            f"{source}:FUNC:ARB:SRAT {sample_rate_hz:.9g}",
            f"{source}:FUNC:ARB:FILT {self._options.filter}",
            f"{source}:FUNC ARB",
            *self._swing(channel, amplitude_v, offset_v),
        )

    def _codes(self, samples: NDArray[np.floating]) -> NDArray[np.int16]:
        if not np.isrealobj(samples):
            raise LimitError(self.name, "samples.dtype", np.asarray(samples).dtype.name, "real")
        values = np.asarray(samples, dtype=np.float64)
        if values.ndim != 1 or len(values) < self._options.min_samples:
            valid = f"one-dimensional, {self._options.min_samples} samples or more"
            raise LimitError(self.name, "samples.shape", values.shape, valid)
        peak = float(np.max(np.abs(values)))
        if not peak <= 1.0:  # also refuses NaN
            raise LimitError(self.name, "largest sample", peak, "within -1 to +1")
        return np.rint(values * _FULL_SCALE).astype("<i2")

    def _load(self) -> str:
        load_ohm = self._options.load_ohm
        return "INF" if math.isinf(load_ohm) else f"{load_ohm:g}"

    def _swing(self, channel: int, amplitude_v: float, offset_v: float) -> tuple[str, ...]:
        # The offset goes to 0 first: old offset and new amplitude need not fit together.
        source = f"SOUR{channel}"
        return (
            f"{source}:VOLT:UNIT VPP",
            f"{source}:VOLT:OFFS 0",
            f"{source}:VOLT {2 * amplitude_v:.9g}",
            f"{source}:VOLT:OFFS {offset_v:.9g}",
        )

    def _check_swing(self, amplitude_v: float, offset_v: float) -> None:
        require_positive(self.name, "amplitude_v", amplitude_v, unit="V")
        self._check_peak("amplitude_v + |offset_v|", amplitude_v + abs(offset_v))

    def _check_peak(self, name: str, peak_v: float) -> None:
        load_ohm = self._options.load_ohm
        share = 1.0 if math.isinf(load_ohm) else load_ohm / (load_ohm + _OUTPUT_OHM)
        limit_v = self._options.open_circuit_v * share
        if not peak_v <= limit_v * _ROUNDING:
            raise LimitError(self.name, name, peak_v, f"at most {limit_v:g} V into {self._load()}")

    def _check_channel(self, channel: int) -> None:
        require_channel(self.name, channel, CHANNELS)

    def _check_name(self, name: str) -> None:
        longest = self._options.max_name_length
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name, re.ASCII) is None or len(name) > longest:
            valid = f"a letter, then letters, digits or _, at most {longest} in all"
            raise LimitError(self.name, "waveform name", name, valid)
