"""Keysight 33512B two-channel arbitrary waveform generator (SCPI).

Commands: docs/wire/keysight_33512b.md, sections Output, Arbitrary waveforms and Triggers and bursts
[2+]. What the outputs and the memory can do is [M]: options. `*RST` restores the instrument's own
defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Literal, Self, TypeAlias

from labctl.errors import LimitError
from labctl.hazards import Hazard
from labctl.instruments.capabilities import Identity, TriggerSource, VoltageSource
from labctl.instruments.driver_rules import require_positive, require_range, try_all
from labctl.instruments.generators.keysight_33512b_arbitrary import (
    CHANNELS,
    ArbitraryWaveforms,
    Keysight33512BOptions,
)
from labctl.instruments.transports.opening import read_options, verified
from labctl.instruments.transports.scpi_session import ScpiSession
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa

__all__ = ["Keysight33512B", "Keysight33512BOptions", "Shape"]

Shape: TypeAlias = Literal["SIN", "SQU", "TRI", "RAMP", "PULS", "PRBS", "NOIS"]
"""A shape that the instrument makes itself."""

_TRIGGERS = {
    TriggerSource.IMMEDIATE: "IMM",
    TriggerSource.EXTERNAL: "EXT",
    TriggerSource.SOFTWARE: "BUS",
}


class Keysight33512B(ArbitraryWaveforms):
    """A WaveformGenerator whose channels can also be VoltageSources (`dc_output`)."""

    Options = Keysight33512BOptions
    hazard = Hazard.BIAS

    def __init__(
        self, transport: MessageTransport, options: Keysight33512BOptions | None = None
    ) -> None:
        super().__init__(ScpiSession(transport), options or Keysight33512BOptions())

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

    def play_shape(
        self,
        channel: int,
        shape: Shape,
        *,
        frequency_hz: float,
        amplitude_v: float,
        offset_v: float = 0.0,
        phase_rad: float = 0.0,
    ) -> None:
        """Play a standard shape continuously; does not switch the output. Raises LimitError.

        `frequency_hz` in Hz, `amplitude_v` (peak) and `offset_v` in V at the load, `phase_rad` in
        rad within a turn either way. The instrument counts phases in degrees unless
        set otherwise [M].
        """
        self._check_channel(channel)
        limit_hz = self._options.max_frequency_hz
        require_positive(self.name, "frequency_hz", frequency_hz, limit_hz, "Hz")
        require_range(self.name, "phase_rad", phase_rad, -math.tau, math.tau, "rad")
        self._check_swing(amplitude_v, offset_v)
        source = f"SOUR{channel}"
        self._scpi.set_all(
            f"OUTP{channel}:LOAD {self._load()}",
            f"{source}:BURS:STAT 0",
            f"{source}:FUNC {shape}",
            f"{source}:FREQ {frequency_hz:.12g}",
            *self._swing(channel, amplitude_v, offset_v),
            f"{source}:PHAS {math.degrees(phase_rad):.9g}",
        )

    def set_levels(self, channel: int, *, low_v: float, high_v: float) -> None:
        """Set the lowest and the highest voltage in V of what is played; raises LimitError."""
        self._check_channel(channel)
        self._check_swing((high_v - low_v) / 2, (high_v + low_v) / 2)
        # Neither level may pass the other on the way.
        self._scpi.set_all(
            f"SOUR{channel}:VOLT:OFFS 0",
            f"SOUR{channel}:VOLT {high_v - low_v:.9g}",
        )
        higher, lower = (
            f"SOUR{channel}:VOLT:HIGH {high_v:.9g}",
            f"SOUR{channel}:VOLT:LOW {low_v:.9g}",
        )
        self._scpi.set_all(*((higher, lower) if high_v + low_v >= 0 else (lower, higher)))

    def set_polarity(self, channel: int, inverted: bool) -> None:
        """Turn what the output delivers upside down, or not."""
        self._check_channel(channel)
        self._scpi.set(f"OUTP{channel}:POL {'INV' if inverted else 'NORM'}")

    def synchronise(self) -> None:
        """Start the periods of both channels together (`PHAS:SYNC`)."""
        self._scpi.set("PHAS:SYNC")

    def burst(
        self,
        channel: int,
        *,
        cycles: int,
        trigger: TriggerSource,
        delay_s: float = 0.0,
        rising: bool = True,
    ) -> None:
        """Play the selected waveform `cycles` times, `delay_s` (s) after each trigger.

        `rising`: which edge of an external trigger counts. Raises LimitError.
        """
        self._check_channel(channel)
        if cycles < 1:
            raise LimitError(self.name, "cycles", cycles, "1 or more")
        if not 0 <= delay_s < math.inf:
            raise LimitError(self.name, "delay_s", delay_s, "0 or more")
        self._scpi.set_all(
            f"SOUR{channel}:BURS:MODE TRIG",
            f"SOUR{channel}:BURS:NCYC {cycles}",
            f"TRIG{channel}:SOUR {_TRIGGERS[trigger]}",
            f"TRIG{channel}:DEL {delay_s:.9g}",
        )
        if trigger is TriggerSource.EXTERNAL:
            self._scpi.set(f"TRIG{channel}:SLOP {'POS' if rising else 'NEG'}")
        self._scpi.set(f"SOUR{channel}:BURS:STAT 1")

    def set_burst_period(self, channel: int, period_s: float) -> None:
        """Set how often bursts that need no trigger are repeated, in s; raises LimitError."""
        self._check_channel(channel)
        require_positive(self.name, "period_s", period_s)
        self._scpi.set(f"SOUR{channel}:BURS:INT:PER {period_s:.12g}")

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

    def restarted(self) -> bool:
        """Return whether it was switched off and on since it was opened, or since last asked."""
        return self._scpi.restarted()

    def safe_state(self) -> None:
        """Switch both outputs off; the second also when the first fails."""
        self.safe_state_except(None)

    def safe_state_except(self, kept: int | None) -> None:
        """Switch all outputs off but one, which may hold a shutter closed."""
        off = (channel for channel in CHANNELS if channel != kept)
        try_all(*(partial(self.set_output, channel, False) for channel in off))

    def reset(self) -> None:
        """Return to the instrument's own defaults (`*RST`), outputs off."""
        self._scpi.set("*RST")

    def close(self) -> None:
        """End the session."""
        self._scpi.transport.close()

    def hold_voltage(self, channel: int, voltage_v: float) -> None:
        """Put a constant voltage in V on a channel and connect it; raises LimitError."""
        self._check_channel(channel)
        self._check_peak("|voltage_v|", abs(voltage_v))
        offset, output = f"SOUR{channel}:VOLT:OFFS", f"OUTP{channel}"
        self._scpi.set_all(f"{output}:LOAD {self._load()}", f"SOUR{channel}:FUNC DC")
        # Shutters, amplifiers and phases are held by it: a lost setting must not pass unseen.
        self._scpi.set_and_see(f"{offset} {voltage_v:.9g}", f"{offset}?", voltage_v)
        self._scpi.set_and_see(f"{output} 1", f"{output}?", 1.0)


class _DcOutput:
    """One channel of a generator as a VoltageSource."""

    reads_back = frozenset({"set_voltage"})

    def __init__(self, generator: Keysight33512B, scpi: ScpiSession, channel: int) -> None:
        self._generator = generator
        self._scpi = scpi
        self._channel = channel

    def set_voltage(self, voltage_v: float) -> None:
        self._generator.hold_voltage(self._channel, voltage_v)

    def voltage_v(self) -> float:
        return self._scpi.number(f"SOUR{self._channel}:VOLT:OFFS?")

    def restarted(self) -> bool:
        return self._generator.restarted()
