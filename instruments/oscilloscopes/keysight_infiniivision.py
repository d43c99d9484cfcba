"""Keysight InfiniiVision oscilloscopes, 2000, 3000, 4000 X-Series and DSOX1000 (SCPI).

Commands: 2000 X-Series Programmer's Guide pages 632 and 644, section 14.1 of the command tables
[V]. Records travel as little-endian unsigned words: V = (code - yref) * yinc + yorg and
t = (n - xref) * xinc + xorg. Bit 3 of `:OPER:COND?` says that a record is being waited for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from pydantic import Field

from labctl.clock import wait_until
from labctl.errors import InstrumentTimeoutError, LimitError, ReplyError
from labctl.instruments.capabilities import Identity, Trace, TriggerInput
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.scpi_session import ScpiSession
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa

_MODELS = ("DSO-X", "MSO-X", "DSOX", "MSOX", "EDUX")
_RUNNING = 1 << 3
_WORD_FORMAT = 1
_RECORD_SETTINGS = ":WAV:FORM WORD;:WAV:BYT LSBF;:WAV:UNS 1;:WAV:POIN:MODE RAW;:WAV:POIN MAX"


class InfiniiVisionOptions(DriverOptions):
    """Waits, the number of `channels`, and how they are terminated.

    `trigger_timeout_s`: how long `read` waits for a trigger. `input_impedance`: left as it is
    unless given; models without a 50 ohm input refuse FIFT [M].
    """

    timeout_s: float = Field(default=10.0, gt=0)
    trigger_timeout_s: float = Field(default=10.0, gt=0)
    channels: int = Field(default=4, ge=1, le=4)
    input_impedance: Literal["FIFT", "ONEM"] | None = None


@dataclass(frozen=True)
class _Preamble:
    points: int
    interval_s: float
    start_s: float
    step_v: float
    origin_v: float
    reference: float


class KeysightInfiniiVision:
    """A Digitizer."""

    def __init__(
        self, transport: MessageTransport, options: InfiniiVisionOptions | None = None
    ) -> None:
        self.name = transport.name
        self._scpi = ScpiSession(transport)
        self._options = options or InfiniiVisionOptions()

    @classmethod
    def open(cls, name: str, address: str, *, library: str, options: Mapping[str, object]) -> Self:
        """Connect and identify; raises SettingError or ConnectionFailedError."""
        read = read_options(InfiniiVisionOptions, name, options)
        transport = open_visa(name, address, library=library, timeout_s=read.timeout_s)
        scope = cls(transport, read)
        return verified(scope, address, scope._scpi.forget_errors, scope.identify)

    def identify(self) -> Identity:
        """Ask `*IDN?`; raises ReplyError if no InfiniiVision answers."""
        return self._scpi.identify(*_MODELS)

    def configure_channel(self, channel: int, *, range_v: float, offset_v: float) -> None:
        """Set full scale (V, peak to peak, all 8 divisions) and the voltage at mid-screen (V)."""
        self._check_channel(channel)
        self._check_finite("offset_v", offset_v)
        self._check_positive("range_v", range_v)
        if self._options.input_impedance is not None:
            self._scpi.set(f":CHAN{channel}:IMP {self._options.input_impedance}")
        self._scpi.set(f":CHAN{channel}:RANG {range_v:.9g}")
        self._scpi.set(f":CHAN{channel}:OFFS {offset_v:.9g}")

    def configure_record(self, *, start_s: float, duration_s: float) -> None:
        """Set the record's start, in s after the trigger (may be negative), and length in s.

        The oscilloscope may round the length up to a range it has.
        """
        self._check_finite("start_s", start_s)
        self._check_positive("duration_s", duration_s)
        self._scpi.set(":TIM:REF CENT")
        self._scpi.set(f":TIM:RANG {duration_s:.12g}")
        self._scpi.set(f":TIM:POS {start_s + duration_s / 2:.12g}")

    def configure_trigger(self, source: TriggerInput, *, level_v: float) -> None:
        """Trigger on the rising edge through `level_v` of a channel, or of "external"."""
        self._check_finite("level_v", level_v)
        if source != "external" and source not in self._channels():
            valid = f'"external" or a channel, 1 to {self._options.channels}'
            raise LimitError(self.name, "trigger source", source, valid)
        self._scpi.set(f":TRIG:EDGE:SOUR {'EXT' if source == 'external' else f'CHAN{source}'}")
        self._scpi.set(":TRIG:EDGE:SLOP POS")
        self._scpi.set(f":TRIG:EDGE:LEV {level_v:.9g}")

    def arm(self, channels: Sequence[int]) -> None:
        """Switch the channels on and wait for one trigger; returns at once."""
        if not channels:
            raise LimitError(self.name, "channels", channels, "at least one channel")
        for channel in channels:
            self._check_channel(channel)
        for channel in channels:
            self._scpi.set(f":CHAN{channel}:DISP 1")
        self._scpi.set(":SING")

    def complete(self) -> bool:
        """Tell whether nothing is being waited for any more."""
        return not self._scpi.integer(":OPER:COND?") & _RUNNING

    def read(self, channel: int) -> Trace:
        """Wait for the record and return one channel with all its samples.

        Raises InstrumentTimeoutError when no trigger came, ReplyError on a malformed record.
        """
        self._check_channel(channel)
        self._wait_for_trigger()
        self._scpi.set(f":WAV:SOUR CHAN{channel};{_RECORD_SETTINGS}")
        preamble = self._preamble()
        codes = np.frombuffer(self._record(preamble.points), dtype="<u2")
        voltage_v = codes.astype(np.float32)
        voltage_v -= np.float32(preamble.reference)
        voltage_v *= np.float32(preamble.step_v)
        voltage_v += np.float32(preamble.origin_v)
        return Trace(preamble.start_s, preamble.interval_s, voltage_v)

    def safe_state(self) -> None:
        """Stop waiting for triggers; an oscilloscope does no harm."""
        self._scpi.set(":STOP")

    def close(self) -> None:
        """End the session."""
        self._scpi.transport.close()

    def _wait_for_trigger(self) -> None:
        timeout_s = self._options.trigger_timeout_s
        if not wait_until(self.complete, self._scpi.clock, timeout_s, interval_s=0.01):
            problem = (
                f"no trigger within {timeout_s:g} s: check that the generator's sync output is "
                "connected to the trigger input, the trigger level, and that a burst was started"
            )
            raise InstrumentTimeoutError(self.name, problem, ":SING")

    def _preamble(self) -> _Preamble:
        query = ":WAV:PRE?"
        reply = self._scpi.query(query)
        try:
            values = [float(field) for field in reply.split(",")]
        except ValueError:
            values = []
        if len(values) != 10 or not all(map(math.isfinite, values)):
            raise ReplyError(self.name, f"{reply!r} is not a preamble of ten numbers", query)
        layout, _, points, _, xinc, xorg, xref, yinc, yorg, yref = values
        if layout != _WORD_FORMAT or points < 1 or xinc <= 0:
            raise ReplyError(self.name, f"{reply!r} does not describe a record of words", query)
        return _Preamble(int(points), xinc, xorg - xref * xinc, yinc, yorg, yref)

    def _record(self, points: int) -> memoryview:
        query = ":WAV:DATA?"
        payload = self._scpi.transport.query_block(query)
        if len(payload) != 2 * points:
            problem = f"sent {len(payload)} bytes for {points} samples of 2 bytes"
            raise ReplyError(self.name, problem, query)
        return payload

    def _channels(self) -> range:
        return range(1, self._options.channels + 1)

    def _check_channel(self, channel: int) -> None:
        if channel not in self._channels():
            valid = f"1 to {self._options.channels}"
            raise LimitError(self.name, "channel", channel, valid)

    def _check_finite(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            raise LimitError(self.name, name, value, "a finite number")

    def _check_positive(self, name: str, value: float) -> None:
        if not 0 < value < math.inf:
            raise LimitError(self.name, name, value, "above 0 and finite")
