"""The server's side of one session: its machine, its half of the bench, and what the client says.

The server leads. Light goes out only for a frame that the client has said it is armed for, and
only in its own turn (`lease`): it is aligned at the beginning of each. Any error here has to
end the session; the one that holds the station switches emission off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from labctl.errors import AbortedError, ProtocolError, VerificationError
from labctl.instruments.capabilities import Trace
from labctl.parties.lease import Turn
from labctl.parties.talk import Talk, batch_too_long
from labctl.party import Party
from labctl.protocols.alignment import AlignmentFrame
from labctl.protocols.link import LayerLight
from labctl.protocols.messages import (
    AbortCode,
    AlignArmed,
    AlignTaken,
    Armed,
    Close,
    Done,
    LayerOpen,
    Message,
    Queries,
    Ready,
)
from labctl.protocols.server.bench_alignment import ServerAlignment
from labctl.protocols.server.bench_sender import BenchSender
from labctl.protocols.server.machine import Light, ServerMachine
from labctl.protocols.verification.verdict import VerificationReport

Said = TypeVar("Said", bound=Message)

# What a client's own work for one message takes at most, in s: a rotation's upload, a record.
_PROMPT_S = 5.0
# Beyond that, of one turn, while others wait: then it is the others' light that it holds.
_MOST_DAWDLED_S = 60.0


class Booking(Protocol):
    """What is done beside the light of a batch."""

    def begin(self, queries: int) -> None:
        """Called before the first light of a batch; what it raises refuses the batch."""
        ...

    def light(self, queries: int) -> None:
        """Called before light leaves, with how many queries of the batch have then been sent."""
        ...

    def end(self, queries: int) -> VerificationReport:
        """Called after the last light of a batch; returns the verdict on all light so far."""
        ...


@dataclass
class ServerSession:
    """Serves one client until it closes; `run` again, with another talk, after a loss in between.

    machine: of this session, greeted. turn: its place among those who want the light. new_turn:
    called when it has the light, before each alignment; returns the sender to use from then on.
    booking: see `Booking`. lo_excess_noise: of the receiver's local oscillator, in SNU. on_step:
    called with the name of each step of an alignment.
    """

    machine: ServerMachine
    turn: Turn
    new_turn: Callable[[], BenchSender]
    talk: Talk
    booking: Booking
    lo_excess_noise: float = 0.0
    on_step: Callable[[str], None] = lambda step: None
    _sender: BenchSender | None = field(default=None, init=False)
    _dawdled_s: float = field(default=0.0, init=False)

    @property
    def sender(self) -> BenchSender:
        """Of the turn."""
        assert self._sender is not None
        return self._sender

    def run(self) -> None:
        """Align once the client is ready, then serve its batches; returns when it closes.

        Raises VerificationError, the session being aborted, after a verdict that rejects.
        """
        while True:
            message = self._heard()
            if isinstance(message, Queries):
                self._begin(message)
            answer = self.machine.receive(message)
            match message:
                case Close():
                    return
                case Ready():
                    self._align()
                case Armed():
                    self._send(message)
            if isinstance(answer, LayerOpen):
                self._load()
            if answer is not None:
                self.talk.send(answer, more=isinstance(answer, Done))
            if isinstance(answer, Done):
                report = self.booking.end(answer.count)
                self.turn.rest()
                self.talk.send(self.machine.judge(report), more=report.accepted is False)
                if report.accepted is False:
                    self.talk.abort(AbortCode.VERDICT_REJECTED, report.reason)
                    raise VerificationError(report.reason)

    def _begin(self, batch: Queries) -> None:
        """Book a batch if the light is still this session's; else the machine has to realign.

        Raises AbortedError for one that is longer than the terms allow: no light, nothing booked.
        """
        terms = self.machine.terms
        if terms is not None and batch.count > terms.batch_queries:
            raise batch_too_long(Party.SERVER, batch.count, terms)
        if self._sender is None:
            raise ProtocolError("server", str(self.machine.state), "no alignment before a batch")
        if self.turn.use():
            self.booking.begin(batch.count)
        else:
            self.machine.lose_light()

    def _heard(self) -> Message:
        """Return the client's next message.

        Raises AbortedError where it keeps the light from others for too long.
        """
        holds, began_s = self.turn.in_use, self.turn.now_s()
        message = self.talk.receive()
        if holds:
            self._dawdled_s += max(self.turn.now_s() - began_s - _PROMPT_S, 0.0)
        if self._dawdled_s > _MOST_DAWDLED_S and self.turn.wanted:
            reason = f"silent for {self._dawdled_s:.0f} s with the light that others wait for"
            raise AbortedError("server", str(AbortCode.TIMEOUT), reason)
        return message

    def _align(self) -> None:
        """Wait for the light, switch on, align both receivers, measure the own one's noise."""
        machine = self.machine
        self.turn.take(lambda ahead: self.talk.send(machine.queued(ahead), more=True))
        self._dawdled_s = 0.0
        sender = self._sender = self.new_turn()
        sender.expect(dict(enumerate(machine.server.shapes)))
        sender.settle()
        alignment = ServerAlignment(
            sender, self._exchange, lo_excess_noise=self.lo_excess_noise, on_step=self.on_step
        )
        alignment.prepare(machine.server.templates)
        machine.verifier.calibration = alignment.calibrate()
        self.turn.rest()
        self.talk.send(machine.aligned())

    def _exchange(self, frame: AlignmentFrame) -> tuple[Trace | None, bool]:
        """Send a frame to align by once the client is armed, and return what it was worth to it."""
        sender = self.sender
        self.talk.send(self.machine.align(frame))
        self._expected(AlignArmed)
        if frame.read_by_server:
            sender.arm(sender.alignment_s(frame))
        sender.send()
        trace = sender.read() if frame.read_by_server else None
        sender.wait()
        return trace, self._expected(AlignTaken).enough

    def _expected(self, kind: type[Said]) -> Said:
        """Give the machine the client's next message, and return it."""
        message = self._heard()
        self.machine.receive(message)
        if not isinstance(message, kind):
            raise ProtocolError("server", str(self.machine.state), f"{message} came too early")
        return message

    def _load(self) -> None:
        """Make the light of the open frames ready, and choose what is read of what returns.

        Before the client is armed: its digitizer waits for a trigger no longer than it has to.
        """
        self.sender.load(_plain(self.machine.opened))
        self.sender.choose_basis()

    def _send(self, armed: Armed) -> None:
        """Send the frame that the client is armed for, and read what returns of it."""
        sender, light = self.sender, _plain(self.machine.light)
        self.booking.light(armed.frames.first + armed.frames.count)
        sender.arm(sender.record_s(light.layer))
        sender.send()
        trace = sender.read()
        sender.wait()
        self.machine.returned(sender.values(light, trace))


def _plain(light: Light) -> LayerLight:
    """Return light that a generator can hold."""
    assert isinstance(light, LayerLight)
    return light
