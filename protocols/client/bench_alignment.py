"""What the client does in frames that carry no weights, by which both receivers find their way."""

from __future__ import annotations

from labctl.dsp.dsp import Sync
from labctl.instruments.capabilities import Trace
from labctl.protocols.alignment import AlignmentFrame, AlignmentPurpose
from labctl.protocols.client.bench_receiver import BenchReceiver


class ClientAlignment:
    """The client's part: `arm` before the light of each frame, `take` its own record after it."""

    def __init__(self, receiver: BenchReceiver) -> None:
        self._receiver = receiver
        self._syncs: list[Sync] = []

    def arm(self, frame: AlignmentFrame) -> None:
        """Set the receiver as the frame's purpose needs it, and record from the next trigger on."""
        if frame.number == 0:
            self._begin(frame.purpose)
        self._receiver.arm(self._receiver.alignment_s(frame))

    def take(self, frame: AlignmentFrame, trace: Trace) -> bool:
        """Learn from the record of a frame; return whether that is enough of its purpose.

        Raises SignalError where the record shows no frame, or one that cannot be aligned by.
        """
        receiver = self._receiver
        match frame.purpose:
            case AlignmentPurpose.RANGE:
                receiver.fit_range(trace)
            case AlignmentPurpose.PHASE:
                sync = receiver.found(frame.layer, trace)
                if sync is not None:
                    self._syncs.append(sync)
                if frame.last:
                    receiver.align(self._syncs)
            case AlignmentPurpose.DARK:
                receiver.learn_dark(frame.layer, trace)
                receiver.amplify()
            case AlignmentPurpose.CLOCK:
                return receiver.learn_clock(frame.layer, trace)
            case AlignmentPurpose.NOISE:
                pass  # the server's own noise: this side only has to let the light through
        return frame.last

    def _begin(self, purpose: AlignmentPurpose) -> None:
        match purpose:
            case AlignmentPurpose.RANGE:
                self._receiver.rest()
                self._receiver.widest_range()
            case AlignmentPurpose.PHASE:
                self._syncs = []
            case AlignmentPurpose.DARK:
                self._receiver.darken()
            case AlignmentPurpose.NOISE:
                self._receiver.rest()
            case AlignmentPurpose.CLOCK:
                pass  # as it was aligned
