"""The client's half of a session: messages in, messages out, and how its receiver is set.

Rules of this file. The machine holds the client's secrets (images, activations, what hides them)
and is given what its own receiver measures. It never sees a weight or light that was sent: only
what is public of the network, by `Welcome`. It does no I/O: the code that carries messages and
sets the receiver calls it. States: `protocols.states`, table CLIENT.

1. `hello` greets; `Welcome` says what is public of the network. Where its receiver has to be
   aligned it says `ready`: each `AlignOpen` is answered by `AlignArmed` once the receiver is set,
   and `align_taken` says what the record was worth, until `Aligned`. `Queued` says that others
   have the light. `Realign`, instead of a batch's first light, asks for all this again.
2. `begin` takes a batch of images and asks for `Queries`.
3. `LayerOpen` is answered by `Armed`, once `setting` is what the receiver is set to.
4. `arrived` looks at how bright the light comes in, before anything is returned; `measured` takes
   the values and says `Taken`. After a layer's last frames they become the next layer's input.
5. `Done` ends the batch: `answers` hands out classes and values, and the machine forgets them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labctl.errors import VerificationError
from labctl.protocols.alignment import AlignmentFrame
from labctl.protocols.client.activations import Client
from labctl.protocols.encoding import Blocks, Floats
from labctl.protocols.hiding.collection import Collection
from labctl.protocols.messages import (
    VERSION,
    Abort,
    AbortCode,
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
    ReceiverFacts,
    Taken,
    Verdict,
    Welcome,
)
from labctl.protocols.states import CLIENT, Machine, Own, PartyState
from labctl.protocols.verification.client_guard import ClientGuard


@dataclass(frozen=True, eq=False)
class Answers:
    """What the client knows of a batch: the class of each image, each layer's measured values."""

    classes: npt.NDArray[np.uint8]
    measured: tuple[Floats, ...]


class ClientMachine(Machine):
    """One session at the client.

    block_modes: modes that its receiver collects at a time, None for whole rows. collection: which
    modes it collects so that its input does not show, None for the input's own alone. guard: its
    power monitor, which refuses light that is too bright. receiver, frame_sha256: see `Hello`.
    """

    def __init__(
        self,
        *,
        block_modes: int | None = None,
        collection: Collection | None = None,
        guard: ClientGuard | None = None,
        receiver: ReceiverFacts | None = None,
        frame_sha256: str = "",
    ) -> None:
        super().__init__("client", CLIENT)
        self._greeting = Hello(receiver=receiver, frame_sha256=frame_sha256)
        self._alignment: AlignmentFrame | None = None
        self._block_modes = block_modes
        self._collection = collection
        self._guard = guard
        self._agreed: Welcome | None = None
        self._client: Client | None = None
        self._layer = 0
        self._next = 0
        self._count = 0
        self._frames: Frames | None = None
        self._coefficients: Floats | None = None
        self._parts: list[Floats] = []
        self._measured: list[Floats] = []
        self._answers: Answers | None = None
        self._verdict: Verdict | None = None

    def hello(self) -> Hello:
        """Greet the server."""
        self._require(Own.HELLO)
        self._enter(Own.HELLO, PartyState.GREETED)
        return self._greeting

    def ready(self) -> Ready:
        """Ask for frames to align the receiver by."""
        self._require(Own.READY)
        self._enter(Own.READY, PartyState.ALIGNING)
        return Ready()

    @property
    def agreed(self) -> Welcome:
        """What the server said of the network and its light; raises ProtocolError before that."""
        if self._agreed is None:
            raise self._refused("the server has not answered the greeting")
        return self._agreed

    def receive(self, message: Message) -> Message | None:
        """Take the server's message and return the answer, if there is one.

        Raises ProtocolError for a message that is out of place, or does not fit what was agreed.
        """
        self._require(type(message))
        match message:
            case Welcome():
                self._require_suitable(message)
                self._agreed = message
                self._enter(Welcome, PartyState.AGREED)
            case AlignOpen():
                if message.frame.layer >= len(self.agreed.shapes):
                    raise self._refused(f"{message.frame} of {len(self.agreed.shapes)} layers")
                self._alignment = message.frame
                self._enter(AlignOpen, PartyState.ALIGN_ARMED)
                return AlignArmed(message.frame)
            case Aligned():
                self._enter(Aligned, PartyState.AGREED)
            case Queued():
                self._enter(Queued, PartyState.ALIGNING)
            case Realign():
                self._require_unbegun()
                self._forget()
                self._enter(Realign, PartyState.AGREED)
            case LayerOpen():
                return self._arm(message.frames)
            case Done():
                self._finish(message.count)
            case Verdict():
                self._verdict = message
                self._enter(Verdict, PartyState.AGREED)
            case Abort():
                self._end(Abort, message)
        return None

    def align_taken(self, *, enough: bool) -> AlignTaken:
        """Say that the open frame was recorded, and whether that is enough of its purpose."""
        self._require(Own.ALIGN_TAKEN)
        assert self._alignment is not None
        taken = AlignTaken(self._alignment, enough)
        self._alignment = None
        self._enter(Own.ALIGN_TAKEN, PartyState.ALIGNING)
        return taken

    @property
    def verdict(self) -> Verdict | None:
        """The server's last verdict, if it said one."""
        return self._verdict

    def begin(self, images: Floats) -> Queries:
        """Take images (B, N) to be classified, and ask for a query each; raises SettingError."""
        self._require(Own.BEGIN)
        agreed = self._agreed
        assert agreed is not None
        asked = Queries(len(images))
        self._client = Client(
            agreed.sizes,
            images,
            self._block_modes,
            signed=agreed.signed,
            inputs=agreed.inputs,
            collection=self._collection,
        )
        self._forget_layer()
        self._layer, self._count, self._measured, self._answers = 0, len(images), [], None
        self._enter(Own.BEGIN, PartyState.WAITING)
        return asked

    @property
    def setting(self) -> Floats:
        """What the receiver is set to for the open frames, (queries, [K,] 2n); ProtocolError."""
        if (
            self._state is not PartyState.ARMED
            or self._coefficients is None
            or self._frames is None
        ):
            raise self._refused("no frames are open: nothing to set the receiver to")
        return self._coefficients[self._frames.part]

    def arrived(self, photons: npt.NDArray[np.float64] | None) -> None:
        """Judge how bright the open frames arrive: photons (rows, blocks), None if not measured.

        Raises VerificationError for light that is too bright: the session is aborted then.
        """
        self._require(Own.LIGHT_ARRIVED)
        if self._guard is not None:
            assert self._frames is not None
            assert self._agreed is not None
            shape = self._agreed.shapes[self._frames.layer]
            blocks = Blocks.of(shape.modes, shape.block_modes)
            try:
                self._guard.check(self._frames.layer, blocks, photons, self._frames.count)
            except VerificationError as refusal:
                self.abort(AbortCode.LIGHT_TOO_BRIGHT, str(refusal))
                raise
        self._enter(Own.LIGHT_ARRIVED, PartyState.ARMED)

    def measured(self, values: Floats) -> Taken:
        """Take the values (queries, [K,] rows * blocks) of the open frames; raises SettingError."""
        self._require(Own.MEASURED)
        client, frames = self._client, self._frames
        assert client is not None
        assert frames is not None
        client.require_values(values, frames.count)
        self._parts.append(values)
        self._next = frames.first + frames.count
        self._frames = None
        if self._next == self._count:
            whole = self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts)
            self._measured.append(client.receive(whole))
            self._forget_layer()
            self._layer += 1
        self._enter(Own.MEASURED, PartyState.WAITING)
        return Taken(frames)

    def answers(self) -> Answers:
        """Return what was found of the batch that ended, once; raises ProtocolError."""
        self._require(Own.ANSWERS)
        if self._answers is None:
            raise self._refused("no batch has ended whose answers were not handed out")
        found, self._answers = self._answers, None
        self._enter(Own.ANSWERS, PartyState.AGREED)
        return found

    def close(self) -> Close:
        """End the session between batches."""
        self._require(Own.CLOSE)
        self._forget()
        self._enter(Own.CLOSE, PartyState.CLOSED)
        return Close()

    def _require_suitable(self, welcome: Welcome) -> None:
        """Refuse a network that this client's receiver cannot meet, or that contradicts itself."""
        if welcome.version != VERSION:
            raise self._refused(f"server speaks version {welcome.version}; expected {VERSION}")
        if len(welcome.shapes) != len(welcome.sizes) - 1 or not welcome.shapes:
            raise self._refused(
                f"{len(welcome.shapes)} layers for {len(welcome.sizes)} sizes; expected one layer "
                "between two sizes"
            )
        for number, (shape, rows) in enumerate(
            zip(welcome.shapes, welcome.sizes[1:], strict=True), 1
        ):
            if shape.rows != rows:
                raise self._refused(f"layer {number} has {shape.rows} rows; expected {rows}")
            if shape.blocks != Blocks.of(shape.modes, self._block_modes):
                raise self._refused(
                    f"layer {number} comes in blocks of {shape.blocks.size} modes; expected "
                    f"{Blocks.of(shape.modes, self._block_modes).size}, what the receiver collects"
                )

    def _arm(self, frames: Frames) -> Armed:
        agreed, client = self._agreed, self._client
        assert agreed is not None
        assert client is not None
        layers = len(agreed.shapes)
        due = f"layer {self._layer + 1}" if self._layer < layers else "the end of the batch"
        in_order = frames.layer == self._layer < layers and frames.first == self._next
        if not in_order or frames.first + frames.count > self._count:
            raise self._refused(
                f"{frames} opened; expected {due} from query {self._next + 1}, to at most "
                f"{self._count}"
            )
        if self._coefficients is None:
            self._coefficients = client.coefficients()
        self._frames = frames
        self._enter(LayerOpen, PartyState.ARMED)
        return Armed(frames)

    def _require_unbegun(self) -> None:
        """Refuse to begin a batch again of which light has come."""
        if self._layer or self._next or self._measured:
            raise self._refused("the batch has begun: what came of it cannot be asked for again")

    def _finish(self, count: int) -> None:
        agreed, client = self._agreed, self._client
        assert agreed is not None
        assert client is not None
        if self._layer < len(agreed.shapes) or count != self._count:
            raise self._refused(
                f"{count} queries ended after {self._layer} layers; expected {self._count} after "
                f"{len(agreed.shapes)}"
            )
        answers = Answers(client.classes(), tuple(self._measured))
        self._forget()
        self._answers = answers
        self._enter(Done, PartyState.AGREED)

    def _forget_layer(self) -> None:
        self._coefficients, self._frames, self._parts, self._next = None, None, [], 0

    def _forget(self) -> None:
        self._forget_layer()
        self._alignment = None
        self._client, self._measured, self._answers = None, [], None
