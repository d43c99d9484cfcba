"""Acquisition of a simulated oscilloscope: settings, records that they make, and their trigger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from labctl.instruments.codecs.scpi_status import ScpiError
from labctl.instruments.simulated.panels.oscilloscope_record import (
    AcquisitionType,
    ChannelSettings,
    Record,
)
from labctl.instruments.simulated.panels.oscilloscope_settings import (
    RANGE_LIMITS_V,
    EdgeTrigger,
    Timebase,
    coarser,
    finer_window,
)
from labctl.instruments.simulated.ports import Capture, CaptureWindow, DigitizerPort, Volts

# Bits 3 and 5 of `:OPER:COND?`, docs/wire/keysight_infiniivision.md.
RUN_BIT, WAIT_TRIGGER_BIT = 8, 32
# Maximum number of samples that one message averages; a record counts as at least the second.
MOST_WORK, RECORD_WORK = 1 << 25, 40_000
# Samples of a record that are averaged down, 32 MB in single precision.
MOST_FINE = 1 << 23


class Acquisition:
    """Channels, time base and trigger of an oscilloscope, and the record that it shows."""

    def __init__(
        self,
        digitizer: DigitizerPort,
        numbers: range,
        *,
        max_sample_rate_hz: float,
        memory_samples: int,
    ) -> None:
        self._digitizer, self._numbers = digitizer, numbers
        self._max_rate_hz, self.memory_samples = max_sample_rate_hz, memory_samples
        self._sum: dict[int, Volts] = {}

    def reset(self) -> None:
        """Take the settings of *RST, without a record, running."""
        self.channels = {
            number: ChannelSettings(display=number == self._numbers[0], label=str(number))
            for number in self._numbers
        }
        self.timebase = Timebase()
        self.trigger = EdgeTrigger()
        self.type = AcquisitionType()
        self._left = 0
        self.armed, self.running = False, True
        self._expected: CaptureWindow | None = None
        self.record: Record | None = None
        self._digitizer.disarm()

    def displayed(self) -> list[int]:
        """Return the numbers of the channels that are displayed."""
        return [number for number, c in self.channels.items() if c.display]

    def single(self) -> None:
        """Take one record, or arm for it."""
        self.acquire(self.displayed())
        self.running = False

    def run(self) -> None:
        """Take a record, or arm for it, and go on."""
        self.acquire(self.displayed())
        self.running = True

    def stop(self) -> None:
        """Stop, also where the record that the screen shows now cannot be taken."""
        try:
            if self.displayed():
                self.refresh()
        finally:
            self._digitizer.disarm()
            self.armed = self.running = False

    def condition(self) -> int:
        """Return the bits of the operation condition register."""
        running = RUN_BIT if self.armed or self.running else 0
        return running | (WAIT_TRIGGER_BIT if self.armed else 0)

    def window(self, numbers: list[int]) -> CaptureWindow:
        """Return what a record of these channels captures, by time base and memory."""
        range_s = self.timebase.range_s
        rate_hz = min(self._max_rate_hz, self.memory_samples / range_s)
        windows = {number: self.channels[number].window() for number in numbers}
        samples = max(round(range_s * rate_hz), 1)
        return CaptureWindow(self.timebase.start_s, rate_hz, samples, windows)

    def autoscale(self) -> None:
        """Fit range and offset of each displayed channel to what it sees, in two passes."""
        for number in self.displayed():
            probe = self.channels[number].probe
            self.channels[number] = replace(
                self.channels[number], range_v=RANGE_LIMITS_V[1] * probe, offset_v=0.0
            )
            for _ in range(2):
                self._fit(number)

    def _fit(self, number: int) -> None:
        c = self.channels[number]
        volts = c.displayed(self._digitizer.capture_now(self.window([number]))[number])
        low_v, high_v = float(volts.min()), float(volts.max())
        smallest_v, largest_v = (limit_v * c.probe for limit_v in RANGE_LIMITS_V)
        range_v = min(max(1.25 * (high_v - low_v), smallest_v), largest_v)
        self.channels[number] = replace(c, range_v=range_v, offset_v=(low_v + high_v) / 2.0)

    def acquire(self, numbers: list[int]) -> None:
        """Take a record of the channels, or arm the digitizer for it."""
        if not numbers:
            raise ScpiError(-221, "no channel is displayed")
        window = self.window(numbers)
        finer = self.type.finer(window.sample_rate_hz, self._max_rate_hz)
        fine = finer_window(window, min(finer, max(MOST_FINE // window.samples, 1)))
        finer = fine.samples // window.samples
        work = self.type.records * (fine.samples + RECORD_WORK)
        if self.trigger.source != "EXT" and self.type.records > 1 and work > MOST_WORK:
            raise ScpiError(-221, "too many samples to average in one message")
        if self.armed:
            self._digitizer.disarm()
            self.armed = False
        self._expected, self._left = fine, self.type.records
        self._sum = {}
        settings, how = dict(self.channels), self.type

        def deliver(capture: Capture) -> None:
            self._store(fine, Record(window, settings, coarser(capture, finer), how), deliver)

        if self.trigger.source == "EXT":
            self.armed = True
            self._digitizer.arm(fine, deliver)
            return
        for _ in range(self._left):
            at_once = self.trigger.source == "LINE"
            deliver(self._digitizer.capture_now(fine) if at_once else self._edge_capture(fine))

    def _store(
        self, fine: CaptureWindow, record: Record, deliver: Callable[[Capture], None]
    ) -> None:
        """Add one record to those to be averaged; keep their mean when it is the last."""
        if fine is not self._expected:
            return
        self._left -= 1
        for number, volts in record.volts.items():
            self._sum[number] = self._sum[number] + volts if number in self._sum else volts
        if self._left > 0:
            if self.armed:
                self._digitizer.arm(fine, deliver)
            return
        scale = np.float32(record.type.records)
        self.record = replace(
            record,
            volts={
                number: record.settings[number].displayed(total / scale if scale != 1 else total)
                for number, total in self._sum.items()
            },
        )
        self._sum.clear()
        self.armed = False

    def refresh(self) -> None:
        """While running on an internal trigger, take the record that the screen shows now."""
        if self.running and self.trigger.source != "EXT":
            self.acquire(self.displayed())

    def _edge_capture(self, window: CaptureWindow) -> Capture:
        """Capture until one record after the first edge of the trigger channel."""
        source = int(self.trigger.source.removeprefix("CHAN"))
        start = round(window.start_s * window.sample_rate_hz)
        if abs(start) > 2 * window.samples:
            return self._digitizer.capture_now(window)
        lead = max(-start, 0)
        longer = replace(
            window,
            start_s=-lead / window.sample_rate_hz,
            samples=lead + max(start, 0) + 2 * window.samples,
            channels={**window.channels, source: self.channels[source].window()},
        )
        capture = self._digitizer.capture_now(longer)
        shown = self.channels[source].displayed(capture[source])
        first = lead + start + self.trigger.first_edge(shown[lead : lead + window.samples + 1])
        return {n: capture[n][first : first + window.samples].copy() for n in window.channels}
