"""What both halves of a bench have: a digitizer, where frames lie in its records, and its clock."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from labctl.dsp.dsp import Sync, read_slots, synchronise
from labctl.dsp.layout import FrameLayout
from labctl.dsp.recorder import FIRST_RANGE_V, RECORD_MARGIN_S, Recorder
from labctl.dsp.sender import frame_layout
from labctl.dsp.timing import LARGEST_ERROR_SLOTS, SampleClock, pooled_clock, recover_clock
from labctl.errors import SettingError, SignalError
from labctl.instruments.capabilities import Digitizer, Trace
from labctl.protocols.alignment import AlignmentFrame, AlignmentPurpose
from labctl.protocols.leakage import LayerShape
from labctl.station.file import FrameTable

# So far off, a slot is not taken for its neighbour; all frames together place it well.
_ROUGH_CLOCK_SLOTS = 0.25
# Of pulses with noise 0.3 % come near the largest sample of a record; of one that is clipped enough
# to matter, some 10 % or more.
_NEAR_THE_END, _MOST_AT_THE_END = 0.85, 0.05
# Quartz clocks change by less with temperature.
_STEADY_PPM = 2.0
_SIGMAS = 5.0


class BenchSide:
    """Records frames and finds them; knows the public shape of each layer and no light.

    `layouts`: of the layers by index, once `expect` has said their shapes. To a frame each block is
    a separate row, with pilot and readout slot.
    """

    party = "a party"

    def __init__(self, digitizer: Digitizer, channel: int, frame: FrameTable) -> None:
        self._frame = frame
        self._recorder = Recorder(digitizer, channel)
        self._offset_v = 0.0
        self._clocks: list[SampleClock] = []
        self._clock: SampleClock | None = None
        self._shapes: dict[int, LayerShape] = {}
        self.layouts: dict[int, FrameLayout] = {}

    def expect(self, shapes: dict[int, LayerShape]) -> None:
        """Lay out the frames of layers of these public shapes, by index."""
        self._shapes.update(shapes)
        self._clocks.clear()
        for layer, shape in shapes.items():
            blocks = shape.blocks
            self.layouts[layer] = frame_layout(
                self._frame, rows=shape.rows * blocks.count, modes=blocks.size
            )

    def longest(self) -> int:
        """Return the layer whose frame has most slots; raises SettingError before `expect`."""
        if not self.layouts:
            raise SettingError("layers", 0, "1 or more: shapes have to be said first")
        return max(self.layouts, key=lambda layer: self.layouts[layer].slots)

    def record_s(self, layer: int) -> float:
        """Return how long a record of all of the layer's frame lasts."""
        return self.layouts[layer].duration_s + self._frame.longest_delay_s + RECORD_MARGIN_S

    def head_s(self, layer: int) -> float:
        """Return how long a record lasts that ends where the frame's rows start."""
        return self.layouts[layer].rows_start_s + self._frame.longest_delay_s

    def alignment_s(self, frame: AlignmentFrame) -> float:
        """Return how long a record of a frame to align by lasts, as its purpose needs it."""
        head = frame.purpose in (AlignmentPurpose.RANGE, AlignmentPurpose.PHASE)
        return (self.head_s if head else self.record_s)(frame.layer)

    def arm(self, duration_s: float) -> None:
        """Record for `duration_s` from the next trigger on."""
        self._recorder.arm(duration_s)

    def read(self) -> Trace:
        """Return the record; raises InstrumentTimeoutError when no trigger came."""
        return self._recorder.read()

    def widest_range(self) -> None:
        """Take the next record in the range that one begins with."""
        self._recorder.range_v = FIRST_RANGE_V

    def fit_range(self, trace: Trace) -> None:
        """Choose the range of later records from the largest voltage seen."""
        self._recorder.fit_range(trace)

    def learn_offset(self, dark: Trace) -> None:
        """Learn what detector and digitizer show in the dark, in the range of now."""
        self._offset_v = float(np.mean(dark.voltage_v, dtype=np.float64))

    def learn_clock(self, layer: int, trace: Trace) -> bool:
        """Learn how the digitizer runs against the generator from one more frame.

        Return whether the last slot is placed well enough by all frames so far.
        """
        layout = self.layouts[layer]
        seen, sync = self._timed(layer, trace)
        self._clocks.append(
            recover_clock(seen, layout, sync, largest_error_slots=_ROUGH_CLOCK_SLOTS)
        )
        self._clock = pooled_clock(self._clocks)
        wanted = LARGEST_ERROR_SLOTS / layout.symbol_rate_hz / trace.interval_s
        return self._clock.error_samples <= wanted

    def noise(self, layer: int, trace: Trace) -> tuple[float, int]:
        """Return the sum of squares in V^2, and its degrees of freedom, of all that is in a record.

        Of the slots of the layer's frame, at any place of it, less their mean.
        """
        layout = self.layouts[layer]
        slots = read_slots(trace, layout, trace.start_s, 0, layout.slots)
        centred = slots - slots.mean(dtype=np.float64).astype(np.float32)
        return float(np.vdot(centred, centred)), len(slots) - 1

    def sync(self, layer: int, trace: Trace) -> Sync:
        """Find the frame in a record; raises SynchronisationError."""
        return synchronise(trace, self.layouts[layer], self._frame.longest_delay_s)

    def _timed(self, layer: int, trace: Trace) -> tuple[Trace, Sync]:
        """Return a record in which pulses are seen as they were sent, and its frame's begin."""
        return trace, self.sync(layer, trace)

    def _check_clipping(self, trace: Trace) -> None:
        """Raise SignalError where much of a record is near its largest value."""
        size_v = np.abs(trace.voltage_v)
        largest_v = float(size_v.max())
        share = float(np.mean(size_v >= _NEAR_THE_END * largest_v))
        if share > _MOST_AT_THE_END:
            raise SignalError(
                f"{self.party}'s record is clipped, {share:.1%} of it near {largest_v:.3g} V: the "
                "detector saturates, or the digitizer's range is too small"
            )

    def check_clock(self, layer: int, trace: Trace) -> None:
        """Raise SignalError if the digitizer runs otherwise against the generator than learnt."""
        seen, sync = self._timed(layer, trace)
        found = recover_clock(seen, self.layouts[layer], sync, largest_error_slots=math.inf)
        known = self._clock
        if known is None:
            return
        change_ppm = found.offset_ppm - known.offset_ppm
        error_ppm = math.hypot(found.offset_error_ppm, known.offset_error_ppm)
        if abs(change_ppm) > _SIGMAS * error_ppm + _STEADY_PPM:
            raise SignalError(
                f"{self.party}'s digitizer runs {change_ppm:.3g} ppm off the clock it had: "
                "has it lost the common clock reference?"
            )

    def _found(self, layer: int, trace: Trace) -> tuple[Trace, Sync, SampleClock]:
        """Return a record less its offset, where the frame starts in it, and the clock for it."""
        self._check_clipping(trace)
        lowered = replace(trace, voltage_v=trace.voltage_v - np.float32(self._offset_v))
        sync = self.sync(layer, lowered)
        if self._clock is None:
            raise SettingError("clock", None, "learnt from frames before values are read")
        return lowered, sync, self._clock.moved(sync)
