"""Taking records of one receiver: its digitizer channel, triggered from outside, and its range."""

from __future__ import annotations

import numpy as np

from labctl.instruments.capabilities import Digitizer, Trace

# Of a record beyond frame and delay: forty slots at 20 MBd.
RECORD_MARGIN_S = 2e-6
# Before any record has shown what is there; `fit_range` follows the first one.
FIRST_RANGE_V = 1.0
# The largest voltage of one record is chance: noise of the next may be larger, and a clipped record
# is lost, while a range 1.6 times too wide costs 0.7 bit of the converter.
_RANGE_MARGIN = 1.6
# A dark channel would else ask for a range of nearly 0 V, which no digitizer has.
_LEAST_RANGE_V = 0.02
# Well inside the pulse of a generator's sync output (TTL: 0.8 V low, 2 V high).
_TRIGGER_LEVEL_V = 1.0


class Recorder:
    """One digitizer channel; `range_v` is the full scale (V, peak to peak) of the next record."""

    def __init__(self, digitizer: Digitizer, channel: int) -> None:
        self._digitizer = digitizer
        self._channel = channel
        self.range_v = FIRST_RANGE_V

    def arm(self, duration_s: float) -> None:
        """Wait for one external trigger and record for `duration_s` from it on."""
        self._digitizer.configure_channel(self._channel, range_v=self.range_v, offset_v=0.0)
        self._digitizer.configure_record(start_s=0.0, duration_s=duration_s)
        self._digitizer.configure_trigger("external", level_v=_TRIGGER_LEVEL_V)
        self._digitizer.arm([self._channel])

    def read(self) -> Trace:
        """Return the record; raises InstrumentTimeoutError when no trigger came."""
        return self._digitizer.read(self._channel)

    def fit_range(self, trace: Trace) -> None:
        """Choose the range from the largest voltage seen, with room for noise."""
        peak = float(np.max(np.abs(trace.voltage_v)))
        self.range_v = max(2.0 * peak * _RANGE_MARGIN, _LEAST_RANGE_V)
