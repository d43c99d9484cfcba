"""What the server does before a session: switch on, level, and frames that carry no weights.

The server leads: it says which frame comes next, and what for. The client's part in a frame, and
who waits for whom, is `exchange`'s: in one process a call, between two a message each way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from labctl.calibration.shot_noise import ReceiverCalibration, calibration_from_variances
from labctl.instruments.capabilities import Trace
from labctl.protocols.alignment import AlignmentFrame, AlignmentPurpose
from labctl.protocols.link import LayerLight
from labctl.protocols.server.bench_sender import BenchSender

# The first is recorded in the widest range, too coarse for dim light; the second corrects it.
_RANGE_ROUNDS = 2
# Their mean phase scatters by 1/sqrt(8) = 35 % of one frame's.
_PHASE_ROUNDS = 8
# Short or dim frames each tell little about the clocks: more than this number are not worth it.
_CLOCK_RECORDS = 16

Exchange = Callable[[AlignmentFrame], tuple[Trace | None, bool]]
"""Sends a frame: the server's record, if it took one, and whether the client has learnt enough."""


class ServerAlignment:
    """Leads the alignment of a bench. lo_excess_noise: see `BenchLink`."""

    def __init__(
        self,
        sender: BenchSender,
        exchange: Exchange,
        *,
        lo_excess_noise: float = 0.0,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._sender = sender
        self._exchange = exchange
        self._lo_excess_noise = lo_excess_noise
        self._on_step = on_step

    def prepare(self, layers: Sequence[LayerLight]) -> None:
        """Switch on, level, align phases and ranges, with stand-ins for the layers' light.

        Both sides have settled and know the shapes of the layers.
        """
        self._sender.prepare(layers)
        longest = self._sender.longest()
        self._on_step("clocks: longest frame")
        self.align(longest)
        self._learn_clocks(longest)
        for light in layers:
            self._on_step(f"layer {light.layer + 1}: find frame, align phases")
            self.align(light.layer)

    def align(self, layer: int) -> None:
        """Find the frame without rotation, fit both ranges, and turn both phases to zero."""
        sender = self._sender
        sender.load_stand_in(layer)
        sender.widest_range()
        for trace in self._frames(AlignmentPurpose.RANGE, layer, _RANGE_ROUNDS):
            sender.fit_range(trace)
        for number in range(_PHASE_ROUNDS):
            self._exchange(AlignmentFrame(AlignmentPurpose.PHASE, layer, number, _PHASE_ROUNDS))
        sender.block()
        for trace in self._frames(AlignmentPurpose.DARK, layer, 1):
            sender.learn_offset(trace)
        sender.unblock()

    def calibrate(self) -> ReceiverCalibration:
        """Measure the verifier's noise with shutter closed, then with the laser off.

        Same frames, same matched filter, same range as the data that follow.
        """
        sender = self._sender
        layer = max(sender.layouts, key=lambda index: sender.layouts[index].rows)
        sender.select(layer)
        self._on_step("shot noise: shutter closed")
        sender.block()
        blocked, samples = self._noise(layer, sender.blocked_records(layer))
        self._on_step("electronic noise: laser off")
        sender.set_laser(False)
        electronic, electronic_samples = self._noise(layer, 1)
        sender.set_laser(True)
        sender.unblock()
        calibration = calibration_from_variances(
            blocked=blocked,
            electronic=electronic,
            samples=samples,
            efficiency=sender.efficiency,
            electronic_samples=electronic_samples,
            lo_excess_noise=self._lo_excess_noise,
        )
        self.align(layer)
        return calibration

    def _learn_clocks(self, layer: int) -> None:
        """Learn how both digitizers run against the generator, from frames without rotation.

        Only then does the client see pilots along the whole frame. As many are pooled as place the
        last slot well, or all that are worth it.
        """
        for number in range(_CLOCK_RECORDS):
            frame = AlignmentFrame(AlignmentPurpose.CLOCK, layer, number, _CLOCK_RECORDS)
            trace, found = self._exchange(frame)
            assert trace is not None
            if self._sender.learn_clock(layer, trace) and found:
                return

    def _noise(self, layer: int, records: int) -> tuple[float, int]:
        """Return variance in V^2 and sample count of the server's slots, with any content."""
        total, samples = 0.0, 0
        for trace in self._frames(AlignmentPurpose.NOISE, layer, records):
            squares, count = self._sender.noise(layer, trace)
            total += squares
            samples += count
        return total / samples, samples

    def _frames(self, purpose: AlignmentPurpose, layer: int, count: int) -> Iterator[Trace]:
        """Send frames one by one; yield the server's record of each before the next one."""
        for number in range(count):
            trace, _ = self._exchange(AlignmentFrame(purpose, layer, number, count))
            assert trace is not None
            yield trace
