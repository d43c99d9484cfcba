"""The client's side of one session: its machine, its half of the bench, and what the server says.

The client follows: it sets its receiver for each frame that the server opens, says so, records the
frame and says that. Its images, directions and values stay here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labctl.parties.talk import Talk
from labctl.protocols.client.bench_alignment import ClientAlignment
from labctl.protocols.client.bench_receiver import BenchReceiver
from labctl.protocols.client.machine import Answers, ClientMachine
from labctl.protocols.encoding import Floats
from labctl.protocols.messages import (
    Aligned,
    AlignOpen,
    Done,
    LayerOpen,
    Message,
    Queued,
    Realign,
    Verdict,
)


@dataclass
class ClientSession:
    """Has one server classify images, batch by batch; over another talk if one is lost in between.

    machine: welcomed. on_step: called with the name of each step of an alignment, and while others
    have the light.
    """

    machine: ClientMachine
    receiver: BenchReceiver
    talk: Talk
    on_step: Callable[[str], None] = lambda step: None

    def prepare(self) -> None:
        """Switch on once the light is this session's, and align by the frames that then come."""
        receiver, machine = self.receiver, self.machine
        receiver.expect(dict(enumerate(machine.agreed.shapes)))
        self.talk.send(machine.ready())
        alignment: ClientAlignment | None = None
        while True:
            message = self.talk.receive()
            answer = machine.receive(message)
            match message:
                case Aligned():
                    return
                case Queued(ahead):
                    self.on_step(f"others have the light: {ahead} before this session")
                case AlignOpen(frame):
                    if alignment is None:
                        receiver.settle()
                        alignment = ClientAlignment(receiver)
                    if frame.number == 0:
                        self.on_step(f"layer {frame.layer + 1}: {frame.purpose}")
                    alignment.arm(frame)
                    assert answer is not None
                    self.talk.send(answer)
                    enough = alignment.take(frame, receiver.read())
                    self.talk.send(machine.align_taken(enough=enough))

    def classify(self, images: Floats) -> tuple[Answers, Verdict]:
        """Return what is found of images (B, N), and the server's verdict on all light so far.

        Aligns again first where others have had the light.
        """
        machine = self.machine
        self.talk.send(machine.begin(images))
        answers: Answers | None = None
        while True:
            message = self.talk.receive()
            answer = machine.receive(message)
            if isinstance(message, LayerOpen):
                assert answer is not None
                self._follow(message.frames.layer, answer)
            elif isinstance(message, Realign):
                self.prepare()
                self.talk.send(machine.begin(images))
            elif isinstance(message, Done):
                answers = machine.answers()
            elif isinstance(message, Verdict) and answers is not None:
                return answers, message

    def close(self) -> None:
        """End the session between batches; both sides then sign what was said."""
        self.talk.send(self.machine.close())
        self.talk.close()

    def _follow(self, layer: int, armed: Message) -> None:
        """Set the rotation to the query's direction, say so, and measure what then comes."""
        receiver, machine = self.receiver, self.machine
        (setting,) = machine.setting
        modes = setting.reshape(-1, setting.shape[-1])
        places = receiver.drawn_places(len(modes))
        receiver.load(layer, modes[places])
        receiver.arm(receiver.record_s(layer))
        self.talk.send(armed)
        by_turn = receiver.values(layer, receiver.read())
        machine.arrived(None)
        values = np.empty((len(modes), by_turn.shape[1]), np.float32)
        values[places] = by_turn[: len(modes)]
        self.talk.send(machine.measured(values.reshape(1, *setting.shape[:-1], -1)))
