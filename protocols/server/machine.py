"""The server's half of a session: messages in, messages out, and which light is sent when.

Rules of this file. The machine holds the server's secrets (network, disguise, what it expects) and
is given what its own receiver reads. It never sees an image, a direction of the client's receiver
or a measured value: no message has them. It does no I/O: the code that carries messages and light
calls it. States: `protocols.states`, table SERVER.

1. `Hello` is answered by `Welcome`: what is public of the network.
   A client with its own receiver says `Ready`: `align` then opens frames without weights, one
   by one, each armed for and taken by the client, until `aligned` ends that. Where others have
   the light first, `queued` says so; where they had it since, `Queries` is answered by
   `Realign`, and nothing has begun.
2. `Queries` opens a batch: the first frames are made ready and announced by `LayerOpen`.
3. `Armed` lets the light go: `light` says what to send. What returns goes to `returned`.
4. `Taken` opens the next frames, or ends the batch with `Done`.
5. Between batches `judge` gives the verdict on all light so far, `Close` ends.
"""

from __future__ import annotations

from collections.abc import Iterator

from labctl.protocols.alignment import AlignmentFrame
from labctl.protocols.link import LayerLight, Reordered, ReturnedLight
from labctl.protocols.messages import (
    VERSION,
    Abort,
    AlignArmed,
    Aligned,
    AlignOpen,
    AlignTaken,
    Armed,
    Close,
    Done,
    Frames,
    Hello,
    LayerOpen,
    Message,
    Queries,
    Queued,
    Ready,
    Realign,
    Taken,
    Verdict,
    Welcome,
)
from labctl.protocols.server.plain import Server
from labctl.protocols.server.verifier import Verifier
from labctl.protocols.settings import SessionSettings
from labctl.protocols.states import SERVER, Machine, Own, PartyState
from labctl.protocols.terms import Terms
from labctl.protocols.verification.collective_record import CollectiveRecord
from labctl.protocols.verification.verdict import VerificationReport

Light = LayerLight | Reordered


class ServerMachine(Machine):
    """One session at the server.

    server: network, disguise and evidence. settings: what is agreed on. in_one: light of a batch
    may go out for all queries at once, with the order of each (`Server.together`), which only a
    simulated link can carry. one_by_one: the frames of each query are opened apart, as hardware
    needs it, whose client loads a rotation and arms for each. gain, terms: see `Welcome`; `terms`
    may be set before the greeting.
    """

    def __init__(
        self,
        server: Server,
        settings: SessionSettings,
        *,
        in_one: bool = False,
        one_by_one: bool = False,
        gain: float | None = None,
        terms: Terms | None = None,
    ) -> None:
        super().__init__("server", SERVER)
        self.server = server
        self.settings = settings
        self.verifier = Verifier(server, settings)
        self._mean_photons = settings.light.mean_photons
        self._in_one = in_one
        self._one_by_one = one_by_one
        self._gain, self.terms = gain, terms
        self._alignment: AlignmentFrame | None = None
        self._unaligned = False
        self._layer = 0
        self._count = 0
        self._parts: Iterator[tuple[slice, Light]] = iter(())
        self._frames: Frames | None = None
        self._light: Light | None = None
        self._returned = 0

    def receive(self, message: Message) -> Message | None:
        """Take the client's message and return the answer, if there is one.

        Raises ProtocolError for a message that is out of place or names other frames than those
        that are open; SettingError where the server cannot serve such a batch.
        """
        self._require(type(message))
        match message:
            case Hello():
                return self._welcome(message)
            case Ready():
                self._enter(Ready, PartyState.ALIGNING)
            case AlignArmed():
                self._require_aligning(message.frame)
                self._enter(AlignArmed, PartyState.ALIGN_SENDING)
            case AlignTaken():
                self._require_aligning(message.frame)
                self._enter(AlignTaken, PartyState.ALIGNING)
            case Queries():
                if self._unaligned:
                    self._enter(Queries, PartyState.AGREED)
                    return Realign()
                return self._begin(message.count)
            case Armed():
                self._require_open(message.frames)
                self._returned = 0
                self._enter(Armed, PartyState.SENDING)
            case Taken():
                return self._taken(message.frames)
            case Close():
                self._enter(Close, PartyState.CLOSED)
            case Abort():
                self._end(Abort, message)
        return None

    def queued(self, ahead: int) -> Queued:
        """Say that others have the light; raises ProtocolError where the client does not wait."""
        self._require(Own.QUEUED)
        self._enter(Own.QUEUED, PartyState.ALIGNING)
        return Queued(ahead)

    def lose_light(self) -> None:
        """Ask for another alignment before the next batch; others have had the light."""
        self._unaligned = True

    def begin_turn(self, server: Server, history: CollectiveRecord) -> None:
        """Go on with new evidence, for which its own alignment comes next.

        server: of the same network and settings. history: sums by weight of all light before.
        Raises ProtocolError in a batch.
        """
        if self._state not in (PartyState.AGREED, PartyState.ALIGNING):
            raise self._refused("a new turn is out of place")
        self.server, self.verifier = server, Verifier(server, self.settings)
        self.verifier.history = history

    def align(self, frame: AlignmentFrame) -> AlignOpen:
        """Open a frame to align by; raises ProtocolError where the client has not said `Ready`."""
        self._require(Own.ALIGN_FRAME)
        self._alignment = frame
        self._enter(Own.ALIGN_FRAME, PartyState.ALIGN_OPENED)
        return AlignOpen(frame)

    def aligned(self) -> Aligned:
        """End the alignment."""
        self._require(Own.ALIGNED)
        self._alignment = None
        self._unaligned = False
        self._enter(Own.ALIGNED, PartyState.AGREED)
        return Aligned()

    @property
    def opened(self) -> Light:
        """What the open frames will carry, to be made ready before the client is armed.

        Raises ProtocolError where no frames wait for the client.
        """
        if self._state is not PartyState.OPENED or self._light is None:
            raise self._refused("no frames are open")
        return self._light

    @property
    def light(self) -> Light:
        """What is sent in the frames that the client is armed for; raises ProtocolError."""
        if self._state is not PartyState.SENDING or self._light is None:
            raise self._refused("no light may go: the client is not armed")
        return self._light

    def returned(self, light: ReturnedLight) -> None:
        """Take what the server's receiver read of one frame.

        Raises ProtocolError if no frame is on its way or all of them came back already.
        """
        self._require(Own.RETURNED)
        assert self._frames is not None
        if self._returned == self._frames.count:
            raise self._refused(f"returned light of {self._frames.count} frames is there already")
        self.server.check(self._frames.layer, light)
        self._returned += 1
        self._enter(Own.RETURNED, PartyState.SENDING)

    def judge(self, report: VerificationReport | None = None) -> Verdict:
        """Return the verdict on all light so far as the client gets it; `report`: if there is one.

        Raises ProtocolError while a batch is under way.
        """
        self._require(Own.JUDGE)
        found = self.verifier.verdict() if report is None else report
        self._enter(Own.JUDGE, PartyState.AGREED)
        return Verdict(
            found.accepted,
            found.reason,
            found.transmittance_lower,
            found.excess_noise_upper,
            found.weights_bits_prior_free_upper,
            found.failure_probability,
        )

    def _welcome(self, hello: Hello) -> Welcome:
        if VERSION not in hello.versions:
            raise self._refused(f"client speaks versions {hello.versions}; expected {VERSION}")
        carried = self.server.carried
        self._enter(Hello, PartyState.AGREED)
        return Welcome(
            VERSION,
            carried.network.sizes,
            carried.inputs,
            self.server.shapes,
            self.server.signed,
            self._mean_photons,
            self._gain,
            self.terms,
        )

    def _begin(self, count: int) -> LayerOpen:
        parts = self._parts_of(0, count)
        # A server may refuse a batch: nothing is changed before it has made the first light.
        part, light = next(parts)
        self._layer, self._count, self._parts = 0, count, parts
        self._enter(Queries, PartyState.OPENED)
        return self._open(part, light)

    def _taken(self, frames: Frames) -> Message:
        self._require_open(frames)
        if self._returned not in (0, frames.count):
            raise self._refused(
                f"{self._returned} frames came back of {frames}; expected {frames.count}, or none "
                "where nobody reads them"
            )
        following = next(self._parts, None)
        if following is None and self._layer + 1 < self.server.layers:
            self._layer += 1
            self._parts = self._parts_of(self._layer, self._count)
            following = next(self._parts)
        if following is None:
            count = self._count
            self._forget()
            self._enter(Taken, PartyState.AGREED)
            return Done(count)
        self._enter(Taken, PartyState.OPENED)
        return self._open(*following)

    def _open(self, part: slice, light: Light) -> LayerOpen:
        self._frames = Frames(self._layer, part.start, part.stop - part.start)
        self._light = light
        return LayerOpen(self._frames)

    def _parts_of(self, layer: int, count: int) -> Iterator[tuple[slice, Light]]:
        if self._in_one:
            together = self.server.together(layer, count)
            if together is not None:
                return iter([(slice(0, count), together)])
        sent = iter(self.server.sent(layer, count))
        return _apart(sent) if self._one_by_one else sent

    def _require_aligning(self, frame: AlignmentFrame) -> None:
        if frame != self._alignment:
            raise self._refused(f"{frame} named; expected {self._alignment}")

    def _require_open(self, frames: Frames) -> None:
        if frames != self._frames:
            raise self._refused(f"{frames} named; expected {self._frames}")

    def _forget(self) -> None:
        self._parts, self._frames, self._light = iter(()), None, None
        self._returned, self._alignment = 0, None


def _apart(parts: Iterator[tuple[slice, Light]]) -> Iterator[tuple[slice, Light]]:
    """Yield the same light for each query by itself."""
    for part, light in parts:
        for query in range(part.start, part.stop):
            yield slice(query, query + 1), light
