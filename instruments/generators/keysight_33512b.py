"""Keysight 33512B two-channel arbitrary waveform generator (SCPI).

Commands: section 9.1 of the command tables [2+]. Waveforms travel as little-endian int16
converter codes (`FORM:BORD SWAP`, `DATA:ARB:DAC`), codes -32767 to 32767 standing for -1 to +1.
The shortest waveform, the longest name, the fastest rate and the largest voltage are [M]: options.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from labctl.errors import InstrumentError, LimitError
from labctl.instruments.capabilities import Identity, TriggerSource, VoltageSource
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.scpi_session import ScpiSession
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa

_CHANNELS = (1, 2)
_FULL_SCALE = 32767
_OUTPUT_OHM = 50.0
_ROUNDING = 1 + 1e-9
_TRIGGERS = {
    TriggerSource.IMMEDIATE: "IMM",
    TriggerSource.EXTERNAL: "EXT",
    TriggerSource.SOFTWARE: "BUS",
}


class Keysight33512BOptions(DriverOptions):
    """What the instrument is connected to, and limits to check before anything is sent.

    `load_ohm`: what terminates the outputs, in ohm (inf for high impedance); all voltages are
    those at the load. `open_circuit_v`: largest peak voltage without a load. `filter`: the
    reconstruction filter of arbitrary waveforms.
    """

    timeout_s: float = Field(default=10.0, gt=0)
    load_ohm: float = Field(default=50.0, ge=1.0, allow_inf_nan=True)
    open_circuit_v: float = Field(default=10.0, gt=0)
    max_sample_rate_hz: float = Field(default=160e6, gt=0)
    min_samples: int = Field(default=8, ge=1)
    max_name_length: int = Field(default=12, ge=1)
    filter: Literal["NORM", "STEP", "OFF"] = "NORM"


class Keysight33512B:
    """A WaveformGenerator whose channels can also be VoltageSources (`dc_output`)."""

    def __init__(
        self, transport: MessageTransport, options: Keysight33512BOptions | None = None
    ) -> None:
        self.name = transport.name
        self._scpi = ScpiSession(transport)
        self._options = options or Keysight33512BOptions()

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(Keysight33512BOptions, name, options)
        transport = open_visa(name, address, library=library, timeout_s=read.timeout_s)
        generator = cls(transport, read)
        return verified(generator, address, generator._scpi.forget_errors, generator.identify)

    def identify(self) -> Identity:
        """Ask `*IDN?`; raises ReplyError if no 33512B answers."""
        return self._scpi.identify("33512B")

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
        reply = self._scpi.query(f"SOUR{channel}:DATA:VOL:CAT?")
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
        if not 0 < sample_rate_hz <= limit_hz:
            valid = f"above 0, at most {limit_hz:g} Hz"
            raise LimitError(self.name, "sample_rate_hz", sample_rate_hz, valid)
        if not amplitude_v > 0:
            raise LimitError(self.name, "amplitude_v", amplitude_v, "above 0 V")
        self._check_peak("amplitude_v + |offset_v|", amplitude_v + abs(offset_v))
        source = f"SOUR{channel}"
        # The offset goes to 0 first: old offset and new amplitude need not fit together.
        for command in (
            f"OUTP{channel}:LOAD {self._load()}",
            f"{source}:BURS:STAT 0",
            f"{source}:FUNC:ARB {name}",
            f"{source}:FUNC:ARB:SRAT {sample_rate_hz:.9g}",
            f"{source}:FUNC:ARB:FILT {self._options.filter}",
            f"{source}:FUNC ARB",
            f"{source}:VOLT:UNIT VPP",
            f"{source}:VOLT:OFFS 0",
            f"{source}:VOLT {2 * amplitude_v:.9g}",
            f"{source}:VOLT:OFFS {offset_v:.9g}",
        ):
            self._scpi.set(command)

    def burst(
        self, channel: int, *, cycles: int, trigger: TriggerSource, delay_s: float = 0.0
    ) -> None:
        """Play the selected waveform `cycles` times after each trigger; raises LimitError."""
        self._check_channel(channel)
        if cycles < 1:
            raise LimitError(self.name, "cycles", cycles, "1 or more")
        if not 0 <= delay_s < math.inf:
            raise LimitError(self.name, "delay_s", delay_s, "0 or more")
        for command in (
            f"SOUR{channel}:BURS:MODE TRIG",
            f"SOUR{channel}:BURS:NCYC {cycles}",
            f"TRIG{channel}:SOUR {_TRIGGERS[trigger]}",
            f"TRIG{channel}:DEL {delay_s:.9g}",
            f"SOUR{channel}:BURS:STAT 1",
        ):
            self._scpi.set(command)

    def set_output(self, channel: int, on: bool) -> None:
        """Connect or disconnect the output."""
        self._check_channel(channel)
        self._scpi.set(f"OUTP{channel} {on:d}")

    def trigger(self) -> None:
        """Start the bursts of both channels that wait for a software trigger (`*TRG`)."""
        self._scpi.set("*TRG")

    def wait_for_bursts(self) -> None:
        """Wait for the end of the bursts that the last trigger started (`*OPC?`)."""
        self._scpi.query("*OPC?")

    def dc_output(self, channel: int) -> VoltageSource:
        """Return the channel as a constant voltage; nothing is sent before a voltage is set."""
        self._check_channel(channel)
        return _DcOutput(self, self._scpi, channel)

    def safe_state(self) -> None:
        """Switch both outputs off; the second also when the first fails."""
        failures: list[InstrumentError] = []
        for channel in _CHANNELS:
            try:
                self.set_output(channel, False)
            except InstrumentError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def close(self) -> None:
        """End the session."""
        self._scpi.transport.close()

    def hold_voltage(self, channel: int, voltage_v: float) -> None:
        """Put a constant voltage in V on a channel and connect it; raises LimitError."""
        self._check_channel(channel)
        self._check_peak("|voltage_v|", abs(voltage_v))
        for command in (
            f"OUTP{channel}:LOAD {self._load()}",
            f"SOUR{channel}:FUNC DC",
            f"SOUR{channel}:VOLT:OFFS {voltage_v:.9g}",
            f"OUTP{channel} 1",
        ):
            self._scpi.set(command)

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

    def _check_peak(self, name: str, peak_v: float) -> None:
        load_ohm = self._options.load_ohm
        share = 1.0 if math.isinf(load_ohm) else load_ohm / (load_ohm + _OUTPUT_OHM)
        limit_v = self._options.open_circuit_v * share
        if not peak_v <= limit_v * _ROUNDING:
            raise LimitError(self.name, name, peak_v, f"at most {limit_v:g} V into {self._load()}")

    def _check_channel(self, channel: int) -> None:
        if channel not in _CHANNELS:
            raise LimitError(self.name, "channel", channel, "1 or 2")

    def _check_name(self, name: str) -> None:
        longest = self._options.max_name_length
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name, re.ASCII) is None or len(name) > longest:
            valid = f"a letter, then letters, digits or _, at most {longest} in all"
            raise LimitError(self.name, "waveform name", name, valid)


class _DcOutput:
    """One channel of a generator as a VoltageSource."""

    def __init__(self, generator: Keysight33512B, scpi: ScpiSession, channel: int) -> None:
        self._generator = generator
        self._scpi = scpi
        self._channel = channel

    def set_voltage(self, voltage_v: float) -> None:
        self._generator.hold_voltage(self._channel, voltage_v)

    def voltage_v(self) -> float:
        return self._scpi.number(f"SOUR{self._channel}:VOLT:OFFS?")
