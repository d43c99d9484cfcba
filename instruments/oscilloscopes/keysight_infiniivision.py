"""Keysight InfiniiVision oscilloscopes, 2000, 3000, 4000 X-Series and DSOX1000 (SCPI).

Commands: docs/wire/keysight_infiniivision.md, sections Settings and Acquisition [V][2+]. Bit 3 of
`:OPER:COND?` says that the oscilloscope runs, which after `:SING` means that it waits for a record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import Field

from labctl.errors import LimitError
from labctl.hazards import Hazard
from labctl.instruments.capabilities import Identity, Trace, TriggerInput
from labctl.instruments.driver_rules import (
    require_channel,
    require_channels,
    require_finite,
    require_positive,
    require_range,
)
from labctl.instruments.oscilloscopes.keysight_record import read_record
from labctl.instruments.transports.opening import DriverOptions, read_options, verified
from labctl.instruments.transports.scpi_session import ScpiSession
from labctl.instruments.transports.transport import MessageTransport
from labctl.instruments.transports.visa_transport import open_visa

_MODELS = ("DSO-X", "MSO-X", "DSOX", "MSOX", "EDUX")
# Bit 3 of `:OPER:COND?` (docs/wire/keysight_infiniivision.md).
_RUNNING = 1 << 3
_MOST_AVERAGES = 65536
_LABEL = re.compile(r"[ !#-~]{0,32}")


class InfiniiVisionOptions(DriverOptions):
    """Waits, the number of `channels`, and how they are terminated.

    `trigger_timeout_s`: how long `read` waits for a trigger. `input_impedance`: left as it is
    unless given; models without a 50 ohm input refuse FIFT [M].
    """

    timeout_s: float = Field(default=10.0, gt=0)
    trigger_timeout_s: float = Field(default=10.0, gt=0)
    channels: int = Field(default=4, ge=1, le=4)
    input_impedance: Literal["FIFT", "ONEM"] | None = None

    def channel_range(self) -> range:
        """Return the numbers of the channels."""
        return range(1, self.channels + 1)


class KeysightInfiniiVision:
    """A Digitizer."""

    Options = InfiniiVisionOptions
    hazard = Hazard.NONE

    def __init__(
        self, transport: MessageTransport, options: InfiniiVisionOptions | None = None
    ) -> None:
        self.name = transport.name
        self._scpi = ScpiSession(transport)
        self._options = options or InfiniiVisionOptions()
        self._channels = self._options.channel_range()

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
        require_channel(self.name, channel, self._channels)
        require_finite(self.name, "offset_v", offset_v)
        require_positive(self.name, "range_v", range_v)
        if self._options.input_impedance is not None:
            self._scpi.set(f":CHAN{channel}:IMP {self._options.input_impedance}")
        self._scpi.set(f":CHAN{channel}:RANG {range_v:.9g}")
        self._scpi.set(f":CHAN{channel}:OFFS {offset_v:.9g}")

    def configure_record(self, *, start_s: float, duration_s: float) -> None:
        """Set the record's start, in s after the trigger (may be negative), and length in s.

        The oscilloscope may round the length up to a range it has.
        """
        require_finite(self.name, "start_s", start_s)
        require_positive(self.name, "duration_s", duration_s)
        self._scpi.set(":TIM:REF CENT")
        self._scpi.set(f":TIM:RANG {duration_s:.12g}")
        self._scpi.set(f":TIM:POS {start_s + duration_s / 2:.12g}")

    def configure_trigger(self, source: TriggerInput, *, level_v: float) -> None:
        """Trigger on the rising edge through `level_v` of a channel, or of "external"."""
        require_finite(self.name, "level_v", level_v)
        if source != "external" and source not in self._channels:
            valid = f'"external" or a channel, 1 to {self._options.channels}'
            raise LimitError(self.name, "trigger source", source, valid)
        self._scpi.set(f":TRIG:EDGE:SOUR {'EXT' if source == 'external' else f'CHAN{source}'}")
        self._scpi.set(":TRIG:EDGE:SLOP POS")
        self._scpi.set(f":TRIG:EDGE:LEV {level_v:.9g}")

    def arm(self, channels: Sequence[int]) -> None:
        """Switch the channels on and wait for one trigger; returns at once."""
        require_channels(self.name, channels, self._channels)
        for channel in channels:
            self._scpi.set(f":CHAN{channel}:DISP 1")
        self._scpi.set(":SING")

    def complete(self) -> bool:
        """Return whether nothing is being waited for any more."""
        return not self._scpi.integer(":OPER:COND?") & _RUNNING

    def read(self, channel: int) -> Trace:
        """Wait for the record and return one channel with all its samples.

        Raises InstrumentTimeoutError when no trigger came, ReplyError on a malformed record.
        """
        require_channel(self.name, channel, self._channels)
        self._wait_for_trigger()
        return read_record(self._scpi, channel)

    def configure_input(
        self,
        channel: int,
        *,
        coupling: Literal["AC", "DC"],
        bandwidth_limit: bool = False,
        inverted: bool = False,
        probe_ratio: float = 1.0,
        label: str | None = None,
    ) -> None:
        """Set how a channel takes its signal; `probe_ratio` is the attenuation of its probe.

        `label`: up to 32 printable characters without quotation marks, left as it is unless
        given. Raises LimitError.
        """
        require_channel(self.name, channel, self._channels)
        require_positive(self.name, "probe_ratio", probe_ratio)
        if label is not None and _LABEL.fullmatch(label) is None:
            raise LimitError(self.name, "label", label, 'up to 32 printable characters without "')
        self._scpi.set_all(
            f":CHAN{channel}:COUP {coupling}",
            f":CHAN{channel}:BWL {bandwidth_limit:d}",
            f":CHAN{channel}:INV {inverted:d}",
            f":CHAN{channel}:PROB {probe_ratio:.9g}",
        )
        if label is not None:
            self._scpi.set(f':CHAN{channel}:LAB "{label}"')

    def configure_acquisition(
        self, kind: Literal["NORM", "AVER", "HRES"], *, count: int = 8
    ) -> None:
        """Choose how samples are taken; `count` records are averaged. Raises LimitError.

        Peak detection is left out: it gives two samples for each time.
        """
        require_range(self.name, "count", count, 1, _MOST_AVERAGES)
        self._scpi.set(f":ACQ:TYPE {kind}")
        if kind == "AVER":
            self._scpi.set(f":ACQ:COUN {count}")

    def run(self) -> None:
        """Record again and again, as for a person who looks at the screen."""
        self._scpi.set(":RUN")

    def autoscale(self) -> None:
        """Let the oscilloscope choose ranges, record and trigger by the signals it finds."""
        self._scpi.set(":AUT")

    def restarted(self) -> bool:
        """Return whether it was switched off and on since it was opened, or since last asked."""
        return self._scpi.restarted()

    def safe_state(self) -> None:
        """Stop waiting for triggers; an oscilloscope does no harm."""
        self._scpi.set(":STOP")

    def close(self) -> None:
        """End the session."""
        self._scpi.transport.close()

    def _wait_for_trigger(self) -> None:
        self._scpi.wait(
            self.complete,
            self._options.trigger_timeout_s,
            "no trigger",
            ":SING",
            interval_s=0.01,
            hint=(
                ": check that the generator's sync output is connected to the trigger input, the "
                "trigger level, and that a burst was started"
            ),
        )
