"""What a server offers its clients, and the session settings that follow for one of them."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass

from labctl import checks
from labctl.data.models import Network
from labctl.errors import ProtocolError
from labctl.protocols.leakage import Assumptions
from labctl.protocols.messages import Hello, ReceiverFacts
from labctl.protocols.settings import (
    Light,
    Sampling,
    SessionSettings,
    VerificationSettings,
)
from labctl.protocols.terms import BATCH_QUERIES, MOST_QUERIES
from labctl.run.request import bench_settings
from labctl.station.file import ClientConstants, FrameTable, ServerConstants

LINK = "two parties"
"""The link of a session between two programs, as run files and ledgers name it."""

# Seeds of a session: nobody else may foresee what the server reads, or in which order it sends.
_SEED_BITS = 63


@dataclass(frozen=True)
class Offer:
    """A network and how its light is sent.

    gain: G that a client's amplifier is to have. batch_queries: that a client may ask for between
    two verdicts, 1 or more.
    """

    network: Network
    light: Light
    gain: float
    assumptions: Assumptions
    verification: VerificationSettings
    batch_queries: int = BATCH_QUERIES

    def __post_init__(self) -> None:
        checks.within("batch_queries", self.batch_queries, 1, MOST_QUERIES)

    def settings(self, constants: ServerConstants, facts: ReceiverFacts) -> SessionSettings:
        """Return a session's settings with a client that has such a receiver; raises SettingError.

        What an honest round trip shows follows from what the client says of its receiver. Bounds
        do not: they count what came back.
        """
        return bench_settings(
            constants,
            facts,
            light=self.light,
            gain=self.gain,
            assumptions=self.assumptions,
            sampling=Sampling.ALL,
            verification=self.verification,
            seed=new_seed(),
        )


def new_seed() -> int:
    """Return a seed that nobody can foresee."""
    return secrets.randbits(_SEED_BITS)


def frame_sha256(frame: FrameTable) -> str:
    """Return the SHA-256 of the timing that both parties' station files must agree on."""
    text = json.dumps(frame.model_dump(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def facts_of(constants: ClientConstants, frame: FrameTable) -> ReceiverFacts:
    """Return what a client says of its receiver: what its station file knows of it."""
    return ReceiverFacts(
        block_modes=constants.block_modes,
        turns=frame.turns,
        emission_factor=constants.emission_factor,
        efficiency=constants.efficiency,
        electronic_noise=constants.electronic_noise,
        rotation_loss_db_per_mode=constants.rotation_loss_db_per_mode,
        rotation_error_rad=constants.rotation_error_rad,
    )


def require_same_bench(hello: Hello, frame: FrameTable) -> ReceiverFacts:
    """Return the client's receiver if it can take this server's frames; raises ProtocolError."""
    facts = hello.receiver
    if facts is None:
        raise ProtocolError("server", "new", "the client says nothing of its receiver")
    if hello.frame_sha256 != frame_sha256(frame):
        raise ProtocolError(
            "server", "new", "the client's station file has another [frame]; both must be the same"
        )
    return facts
