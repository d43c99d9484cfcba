"""What two parties say to each other beside the light: frozen values, public all of them.

No message holds a weight, a pixel, a measured value or a returned quadrature. They say what both
sides may know: sizes, whose turn it is, how many frames went out, and the verdict. In one process
the values are handed over as they are; a network has to code and sign them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from labctl import checks
from labctl.protocols.alignment import AlignmentFrame
from labctl.protocols.carried import Inputs
from labctl.protocols.leakage import LayerShape
from labctl.protocols.terms import Terms

# Of the messages of this file: another once one of them changes.
VERSION = 3


class AbortCode(StrEnum):
    """Why a party ends a session before its time."""

    PEER_LOST = "peer-lost"
    TIMEOUT = "timeout"
    VERDICT_REJECTED = "verdict-rejected"
    LIGHT_TOO_BRIGHT = "light-too-bright"
    BUDGET = "budget"
    CALIBRATION_EXPIRED = "calibration-expired"
    PROTOCOL = "protocol"
    OPERATOR = "operator"
    SAFETY = "safety"
    # Of the channel between two processes: what came was refused before it reached a machine.
    MALFORMED = "malformed"
    OVERSIZED = "oversized"
    OTHER_SESSION = "other-session"
    OLD_SEQUENCE = "old-sequence"
    SKIPPED_SEQUENCE = "skipped-sequence"
    OTHER_TRANSCRIPT = "other-transcript"
    OUT_OF_TURN = "out-of-turn"
    OUT_OF_PLACE = "out-of-place"
    SIGNATURE = "signature"
    CERTIFICATE = "certificate"
    TOO_MANY = "too-many"
    BATCH_TOO_LONG = "batch-too-long"


@dataclass(frozen=True)
class Frames:
    """The frames of one layer, 0 or more, that go to `count` queries from `first` of the batch."""

    layer: int
    first: int
    count: int

    def __post_init__(self) -> None:
        for name, least in (("layer", 0), ("first", 0), ("count", 1)):
            checks.at_least(name, getattr(self, name), least)

    @property
    def part(self) -> slice:
        """Their places among the batch's queries."""
        return slice(self.first, self.first + self.count)

    def __str__(self) -> str:
        return (
            f"layer {self.layer + 1}, queries {self.first + 1} to {self.first + self.count} of "
            "the batch"
        )


@dataclass(frozen=True)
class ReceiverFacts:
    """What a client says of its receiver; what honest use shows follows from it, no bound does.

    block_modes: modes collected at a time, None for whole rows; turns: of each block's light.
    emission_factor of its amplifier, 1 or more; efficiency and electronic_noise (SNU) of its
    detector; rotation_loss_db_per_mode and rotation_error_rad of its rotation unit.
    """

    block_modes: int | None
    turns: int
    emission_factor: float
    efficiency: float
    electronic_noise: float
    rotation_loss_db_per_mode: float
    rotation_error_rad: float

    def __post_init__(self) -> None:
        if self.block_modes is not None:
            checks.at_least("block_modes", self.block_modes, 1)
        checks.at_least("turns", self.turns, 1)


@dataclass(frozen=True)
class Hello:
    """Client to server: the versions of these messages that it speaks, and its receiver.

    receiver: None where both are set up by one program. frame_sha256: of the timing that both
    station files have to agree on, "" in one program.
    """

    versions: tuple[int, ...] = (VERSION,)
    receiver: ReceiverFacts | None = None
    frame_sha256: str = ""


@dataclass(frozen=True, eq=False)
class Welcome:
    """Server to client: what is public of the network and of how it is sent.

    sizes: inputs, then the rows of each layer. inputs: which values of an image are fed. shapes: of
    the layers as they are sent, with blocks and clones. signed: whether hidden neurons come with
    signs that the client cannot know. mean_photons: mu per mode. gain: G that the client's
    amplifier is to have, None where it is set up already. terms: what both agree on beside that,
    None in one program, where both are made from the same settings.
    """

    version: int
    sizes: tuple[int, ...]
    inputs: Inputs
    shapes: tuple[LayerShape, ...]
    signed: bool
    mean_photons: float
    gain: float | None = None
    terms: Terms | None = None


@dataclass(frozen=True)
class Ready:
    """Client to server: its receiver may be switched on and aligned."""


@dataclass(frozen=True)
class Queued:
    """Server to client: others have the light; `ahead` of them have it, or get it, before."""

    ahead: int

    def __post_init__(self) -> None:
        checks.at_least("ahead", self.ahead, 1)


@dataclass(frozen=True)
class AlignOpen:
    """Server to client: this frame to align by is ready to be sent."""

    frame: AlignmentFrame


@dataclass(frozen=True)
class AlignArmed:
    """Client to server: the receiver is set for this frame."""

    frame: AlignmentFrame


@dataclass(frozen=True)
class AlignTaken:
    """Client to server: the frame was recorded; whether that is `enough` of its purpose."""

    frame: AlignmentFrame
    enough: bool


@dataclass(frozen=True)
class Aligned:
    """Server to client: both receivers are aligned and the light is set."""


@dataclass(frozen=True)
class Queries:
    """Client to server: how many queries come next, one batch."""

    count: int

    def __post_init__(self) -> None:
        checks.at_least("count", self.count, 1)


@dataclass(frozen=True)
class Realign:
    """Server to client: no light was sent for the batch; others had it since the alignment.

    The client says `Ready` again, and then asks for the batch.
    """


@dataclass(frozen=True)
class LayerOpen:
    """Server to client: these frames are ready to be sent."""

    frames: Frames


@dataclass(frozen=True)
class Armed:
    """Client to server: the receiver is set for these frames."""

    frames: Frames


@dataclass(frozen=True)
class Taken:
    """Client to server: these frames were measured and sent back."""

    frames: Frames


@dataclass(frozen=True)
class Done:
    """Server to client: all layers of the batch's queries were sent."""

    count: int


@dataclass(frozen=True)
class Verdict:
    """Server to client: its verdict so far, `accepted` being None where no light was read.

    transmittance_lower, excess_noise_upper (SNU) and weights_bits_upper (bits per real weight) hold
    together except for failure_probability; None where no light was read.
    """

    accepted: bool | None
    reason: str
    transmittance_lower: float | None
    excess_noise_upper: float | None
    weights_bits_upper: float | None
    failure_probability: float


@dataclass(frozen=True)
class Close:
    """Client to server: no more queries."""


@dataclass(frozen=True)
class Abort:
    """Either to the other: the session has ended; a query that was under way is lost."""

    code: AbortCode
    reason: str


Message = (
    Hello
    | Welcome
    | Ready
    | Queued
    | AlignOpen
    | AlignArmed
    | AlignTaken
    | Aligned
    | Queries
    | Realign
    | LayerOpen
    | Armed
    | Taken
    | Done
    | Verdict
    | Close
    | Abort
)
