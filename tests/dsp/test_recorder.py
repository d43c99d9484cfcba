"""The recorder: arms one channel on the external trigger, and fits its range to what it saw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from labctl.dsp.recorder import FIRST_RANGE_V, Recorder
from labctl.instruments.capabilities import Trace, TriggerInput


class Digitizer:
    """Writes down how it is set; records a sine of a given peak."""

    def __init__(self, peak_v: float) -> None:
        self.peak_v = peak_v
        self.told: list[tuple[object, ...]] = []

    def configure_channel(self, channel: int, *, range_v: float, offset_v: float) -> None:
        self.told.append(("channel", channel, range_v, offset_v))

    def configure_record(self, *, start_s: float, duration_s: float) -> None:
        self.told.append(("record", start_s, duration_s))

    def configure_trigger(self, source: TriggerInput, *, level_v: float) -> None:
        self.told.append(("trigger", source, level_v))

    def arm(self, channels: Sequence[int]) -> None:
        self.told.append(("arm", *channels))

    def complete(self) -> bool:
        return True

    def read(self, channel: int) -> Trace:
        voltage_v = self.peak_v * np.sin(np.linspace(0.0, 2.0 * np.pi, 101))
        return Trace(0.0, 1e-8, voltage_v.astype(np.float32))


def test_arms_its_channel_on_the_external_trigger() -> None:
    digitizer = Digitizer(0.3)
    Recorder(digitizer, 2).arm(1e-4)
    assert digitizer.told == [
        ("channel", 2, FIRST_RANGE_V, 0.0),
        ("record", 0.0, 1e-4),
        ("trigger", "external", 1.0),
        ("arm", 2),
    ]


@pytest.mark.parametrize("peak_v", [0.05, 0.3, 4.0])
def test_range_leaves_room_above_what_was_seen(peak_v: float) -> None:
    recorder = Recorder(Digitizer(peak_v), 1)
    recorder.fit_range(recorder.read())
    assert recorder.range_v == pytest.approx(2.0 * peak_v * 1.6)


def test_range_has_a_floor_in_the_dark() -> None:
    recorder = Recorder(Digitizer(0.0), 1)
    recorder.fit_range(recorder.read())
    assert recorder.range_v == 0.02


def test_next_record_takes_the_fitted_range() -> None:
    digitizer = Digitizer(0.5)
    recorder = Recorder(digitizer, 1)
    recorder.fit_range(recorder.read())
    recorder.arm(1e-6)
    assert digitizer.told[0] == ("channel", 1, pytest.approx(1.6), 0.0)
