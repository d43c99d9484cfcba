"""Red Pitaya STEMlab 125-14 through its SCPI server (TCP port 5000).

Commands: the maker's client and examples, docs/wire/red_pitaya.md, sections Acquisition, Records
and Identity [V]. Records travel as blocks of big-endian float32 volts. A trigger delay of 0 puts
the trigger into the middle of the buffer. Which range the inputs' jumpers are set for nothing on
the wire tells: an option.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Self

import numpy as np
from pydantic import Field

from labctl.errors import LimitError, ReplyError
from labctl.hazards import Hazard
from labctl.instruments.capabilities import Identity, Trace, TriggerInput
from labctl.instruments.digitizers.red_pitaya_outputs import RedPitayaGenerator, RedPitayaPins
from labctl.instruments.digitizers.red_pitaya_session import RedPitayaSession
from labctl.instruments.driver_rules import (
    require_channel,
    require_channels,
    require_finite,
    require_positive,
    require_range,
    try_all,
)
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa

_DECIMATIONS = tuple(1 << power for power in range(17))
_PEAK_V = {"LV": 1.0, "HV": 20.0}
# A range or time that is met but for rounding is met.
_ROUNDING = 1 + 1e-9
_LARGEST_DELAY = 2**31 - 1
_TRIGGER_STATES = {"TD": True, "WAIT": False}


class RedPitayaOptions(DriverOptions):
    """Waits, and what the board is.

    `trigger_timeout_s`: how long `read` waits for a trigger. `jumpers`: the range that the
    inputs are wired for, "LV" (1 V) or "HV" (20 V); unless given the smaller that fits is set.
    `averaging`: average the samples that decimation leaves out. `outputs`: how many fast outputs
    there are, `max_output_v` their peak and `max_pin_v` the most of a slow output, in V [M].
    """

    timeout_s: float = Field(default=10.0, gt=0)
    trigger_timeout_s: float = Field(default=10.0, gt=0)
    channels: int = Field(default=2, ge=1, le=4)
    jumpers: Literal["LV", "HV"] | None = None
    averaging: bool = True
    sample_rate_hz: float = Field(default=125e6, gt=0)
    outputs: int = Field(default=2, ge=0, le=2)
    max_output_v: float = Field(default=1.0, gt=0)
    max_pin_v: float = Field(default=1.8, gt=0)

    def channel_range(self) -> range:
        """Return the numbers of the channels."""
        return range(1, self.channels + 1)


@dataclass(frozen=True)
class _Record:
    start_s: float
    interval_s: float
    samples: int


class RedPitaya:
    """A Digitizer; `generator` and `pins` are its outputs."""

    Options = RedPitayaOptions
    hazard = Hazard.BIAS
    generator: RedPitayaGenerator
    pins: RedPitayaPins

    def __init__(
        self, transport: MessageTransport, options: RedPitayaOptions | None = None
    ) -> None:
        self.name = transport.name
        self._scpi = RedPitayaSession(transport)
        self._options = options or RedPitayaOptions()
        self._channels = self._options.channel_range()
        outputs, max_output_v = self._options.outputs, self._options.max_output_v
        self.generator = RedPitayaGenerator(self._scpi, outputs, max_output_v)
        self.pins = RedPitayaPins(self._scpi, self._options.max_pin_v)
        self._record: _Record | None = None
        self._armed: _Record | None = None
        self._trigger: str | None = None

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(RedPitayaOptions, name, options)
        transport = open_visa(
            name, address, library=library, timeout_s=read.timeout_s, terminator="\r\n"
        )
        board = cls(transport, read)
        return verified(board, address, board._scpi.forget_errors, board.identify)

    def identify(self) -> Identity:
        """Ask `*IDN?` (`REDPITAYA,INSTR<year>,...`); raises ReplyError if it is another maker."""
        identity = self._scpi.identify("INSTR")
        if identity.maker.upper() != "REDPITAYA":
            problem = f"expected a REDPITAYA, got a {identity.maker!r}"
            raise ReplyError(self.name, problem, "*IDN?")
        return identity

    def configure_channel(self, channel: int, *, range_v: float, offset_v: float) -> None:
        """Choose the input range that holds `offset_v` +- half of `range_v` (V, peak to peak).

        The board has two ranges, 1 V and 20 V to either side of 0. Raises LimitError.
        """
        require_channel(self.name, channel, self._channels)
        require_positive(self.name, "range_v", range_v)
        peak_v = abs(offset_v) + range_v / 2
        allowed = (self._options.jumpers,) if self._options.jumpers is not None else ("LV", "HV")
        for gain in allowed:
            if peak_v <= _PEAK_V[gain] * _ROUNDING:
                self._scpi.set(f"ACQ:SOUR{channel}:GAIN {gain}")
                return
        valid = f"at most {_PEAK_V[allowed[-1]]:g} V"
        raise LimitError(self.name, "|offset_v| + range_v / 2", peak_v, valid)

    def configure_record(self, *, start_s: float, duration_s: float) -> None:
        """Set the record's start, in s after the trigger (may be negative), and length in s.

        The sample rate is the highest at which the record fits the buffer. Raises LimitError.
        """
        size = self._buffer_samples()
        rate_hz = self._options.sample_rate_hz
        longest_s = size * _DECIMATIONS[-1] / rate_hz
        require_positive(self.name, "duration_s", duration_s, longest_s * _ROUNDING, "s")
        fitting = (n for n in _DECIMATIONS if duration_s <= n * size / rate_hz * _ROUNDING)
        decimation = next(fitting)
        interval_s = decimation / rate_hz
        latest_s = (_LARGEST_DELAY - size) * interval_s
        require_range(self.name, "start_s", start_s, -size * interval_s, latest_s, "s")
        first = round(start_s / interval_s)
        self._record = None
        self._scpi.set_all(
            f"ACQ:DEC {decimation}",
            f"ACQ:AVG {'ON' if self._options.averaging else 'OFF'}",
            f"ACQ:TRIG:DLY {first + size // 2}",
        )
        samples = min(size, max(1, math.ceil(duration_s / interval_s / _ROUNDING)))
        self._record = _Record(first * interval_s, interval_s, samples)

    def configure_trigger(self, source: TriggerInput, *, level_v: float) -> None:
        """Trigger on the rising edge through `level_v` (V) of a channel, or of "external".

        The external input is digital: the level does not matter there.
        """
        require_finite(self.name, "level_v", level_v)
        if source == "external":
            self._trigger = "EXT_PE"
            return
        if source not in self._channels:
            valid = f'"external" or a channel, 1 to {self._options.channels}'
            raise LimitError(self.name, "trigger source", source, valid)
        self._scpi.set(f"ACQ:TRIG:LEV {level_v:.9g}")
        self._trigger = f"CH{source}_PE"

    def arm(self, channels: Sequence[int]) -> None:
        """Wait for one trigger and record; returns once the samples before the trigger are there.

        The board always records all channels. Raises LimitError unless record and trigger have
        been configured.
        """
        require_channels(self.name, channels, self._channels)
        if self._record is None:
            raise LimitError(self.name, "record", None, "configured first (configure_record)")
        if self._trigger is None:
            raise LimitError(self.name, "trigger", None, "configured first (configure_trigger)")
        self._scpi.set_all("ACQ:DATA:FORMAT BIN", "ACQ:DATA:UNITS VOLTS", "ACQ:START")
        # A trigger that comes earlier would find older samples in the buffer.
        self._scpi.clock.sleep(max(0.0, -self._record.start_s))
        self._scpi.set(f"ACQ:TRIG {self._trigger}")
        self._armed = self._record

    def complete(self) -> bool:
        """Return whether the trigger has come and the buffer has been filled after it."""
        state = self._scpi.query("ACQ:TRIG:STAT?").upper()
        if state not in _TRIGGER_STATES:
            raise ReplyError(
                self.name, f"expected a trigger state (TD or WAIT), got {state!r}", "ACQ:TRIG:STAT?"
            )
        return _TRIGGER_STATES[state] and self._scpi.integer("ACQ:TRIG:FILL?") == 1

    def read(self, channel: int) -> Trace:
        """Wait for the record and return one channel of it.

        Raises InstrumentTimeoutError when no trigger came, ReplyError on a malformed record,
        LimitError if the board was not armed.
        """
        require_channel(self.name, channel, self._channels)
        record = self._armed
        if record is None:
            raise LimitError(self.name, "record", None, "armed first (arm)")
        self._wait_for_trigger()
        query = f"ACQ:SOUR{channel}:DATA:OLD:N? {record.samples}"
        voltage_v = self._scpi.array(query, ">f4", record.samples, "samples").astype(np.float32)
        if not np.isfinite(voltage_v).all():
            raise ReplyError(self.name, "sent samples that are not finite", query)
        return Trace(record.start_s, record.interval_s, voltage_v)

    def safe_state(self) -> None:
        """Disconnect the fast outputs and stop recording; each also when another fails."""
        self._armed = None
        try_all(self.generator.switch_off, partial(self._scpi.set, "ACQ:STOP"))

    def reset(self) -> None:
        """Return the acquisition to its defaults (`ACQ:RST`); all has to be configured again."""
        self._record = self._armed = self._trigger = None
        self._scpi.set("ACQ:RST")

    def close(self) -> None:
        """End the session."""
        self._scpi.transport.close()

    def _wait_for_trigger(self) -> None:
        self._scpi.wait(
            self.complete,
            self._options.trigger_timeout_s,
            "no trigger",
            f"ACQ:TRIG {self._trigger}",
            interval_s=0.01,
            hint=": check that it is connected, its level, and that a burst was started",
        )

    def _buffer_samples(self) -> int:
        size = self._scpi.integer("ACQ:BUF:SIZE?")
        if size < 2:
            raise ReplyError(
                self.name, f"expected a buffer of 2 samples or more, got {size}", "ACQ:BUF:SIZE?"
            )
        return size
