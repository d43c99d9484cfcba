"""What one run is asked to do: a `ModeRun` or a `BenchRun`, of small values; and their settings.

A mode-level run is given its channel and its receivers. A run on instruments is not: its station
and the calibration of that say what they are. So each kind has the fields that it uses, and no
other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Required, TypedDict

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.disguise import FRESH_ORDER, Disguise
from labctl.protocols.hiding.hiding import (
    OPEN,
    Hiding,
)
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.ledger.charges import Basis
from labctl.protocols.mismatch import MATCHED_CLONE, CloneMismatch
from labctl.protocols.probation.schedule import Probation
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver, Homodyne, Receiver
from labctl.protocols.rotation import IDEAL_ROTATION, Rotation
from labctl.protocols.settings import Sampling, SessionSettings, VerificationSettings
from labctl.station.file import ClientConstants, ServerConstants
from labctl.units import ratio_to_db

# Those of the command line too, see `labctl infer --help`.
MEAN_PHOTONS, GAIN = 0.57, 1.3
IDEAL_RECEIVER = CloneReceiver(GAIN, 1.0, IDEAL_HOMODYNE)
USUAL_VERIFICATION = VerificationSettings()
WORST_CASE = Assumptions(loss=Trust.UNTRUSTED, technical_noise=Trust.UNTRUSTED)


class Stale(StrEnum):
    """What to do about calibrations of the station that do not apply, or are missing."""

    CALIBRATE = "calibrate"
    REFUSE = "refuse"
    ACCEPT = "accept"


class LinkLevel(StrEnum):
    """How the light between the parties is represented."""

    MODE = "mode"
    BENCH = "bench"


@dataclass(frozen=True)
class LedgerRequest:
    """Where to book a run: the ledger's folder, who the client is, and what it may leak.

    `budget_bits`: the account's budget in bits per real weight from now on, None: as before.
    `worst_case`: what is reserved before light is sent, everything or an honest client's share.
    """

    folder: Path
    client: str
    budget_bits: float | None = None
    worst_case: Basis = Basis.EVERYTHING


@dataclass(frozen=True, eq=False)
class ProbationRequest:
    """How a client is watched: worthless queries, and the network that they carry.

    `stand_in`: of the served network's shape, for the same task and of public data.
    """

    probation: Probation
    stand_in: Network


@dataclass(frozen=True)
class Light:
    """What the server sends: mu photons per mode, above 0, and what is drawn again per image."""

    mean_photons: float = MEAN_PHOTONS
    disguise: Disguise = FRESH_ORDER


@dataclass(frozen=True)
class Channel:
    """What is between the parties, as a mode-level link is given it: an ideal one by default.

    loss_db: of the round trip. technical_noise: excess noise in SNU at the server. rotation: loss
    and errors of the client's elements, on top. block_modes: modes that they collect at a time,
    None for whole rows. mismatch: of what the client's clone returns; None runs a matched one and
    states label reading at a typical mismatch.
    """

    loss_db: float = 0.0
    technical_noise: float = 0.0
    rotation: Rotation = IDEAL_ROTATION
    block_modes: int | None = None
    mismatch: CloneMismatch | None = None


class Common(TypedDict, total=False):
    """The fields that both kinds of run have, to be handed to either; see `ModeRun`."""

    network: Required[Network]
    images: Required[LabelledImages]
    runs: Required[Path]
    light: Light
    assumptions: Assumptions
    sampling: Sampling
    verification: VerificationSettings
    hiding: Hiding
    pictures: LabelledImages | None
    ledger: LedgerRequest | None
    probation: ProbationRequest | None
    accept_discrete_weights: bool
    seed: int


@dataclass(frozen=True, kw_only=True)
class _AnyRun:
    """What both kinds of run have.

    runs: folder of run files. light: what the server sends. assumptions: what bounds may trust.
    sampling: whether the returned light is drawn and verified. hiding: how the client hides its
    input; pictures: what its decoys are taken from, or its public subspace is made of.
    """

    network: Network
    images: LabelledImages
    runs: Path
    light: Light = Light()
    assumptions: Assumptions = WORST_CASE
    sampling: Sampling = Sampling.ALL
    verification: VerificationSettings = USUAL_VERIFICATION
    hiding: Hiding = OPEN
    pictures: LabelledImages | None = None
    ledger: LedgerRequest | None = None
    probation: ProbationRequest | None = None
    accept_discrete_weights: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class ModeRun(_AnyRun):
    """A run at mode level, over a channel and with receivers as they are said here.

    receiver: the client's, amplifier or tap. verifier: the server's homodyne receiver.
    """

    channel: Channel = Channel()
    receiver: Receiver = IDEAL_RECEIVER
    verifier: Homodyne = IDEAL_HOMODYNE

    link: ClassVar[LinkLevel] = LinkLevel.MODE

    @property
    def settings(self) -> SessionSettings:
        """Settings of the run's sessions; raises SettingError."""
        channel, matched = self.channel, MATCHED_CLONE
        return SessionSettings(
            mean_photons=self.light.mean_photons,
            receiver=self.receiver,
            verifier=self.verifier,
            loss_db=channel.loss_db,
            technical_noise=channel.technical_noise,
            assumptions=self.assumptions,
            sampling=self.sampling,
            seed=self.seed,
            verification=self.verification,
            block_modes=channel.block_modes,
            rotation=channel.rotation,
            disguise=self.light.disguise,
            hiding=self.hiding,
            mismatch=matched if channel.mismatch is None else channel.mismatch,
        )


@dataclass(frozen=True, kw_only=True)
class BenchRun(_AnyRun):
    """A run over the instruments of a station.

    station: its file. calibrations: folder of its records; stale: what to do about those that do
    not apply; effort: of routines that run for it, 1 being a full calibration. gain: G of the
    client's amplifier, above 1.
    """

    station: Path
    calibrations: Path
    gain: float = GAIN
    stale: Stale = Stale.CALIBRATE
    effort: float = 1.0

    link: ClassVar[LinkLevel] = LinkLevel.BENCH

    def settings(self, server: ServerConstants, client: ClientConstants) -> SessionSettings:
        """Return settings of sessions on hardware of which this is known; raises SettingError."""
        homodyne = Homodyne(client.efficiency, client.electronic_noise)
        return SessionSettings(
            mean_photons=self.light.mean_photons,
            receiver=CloneReceiver(self.gain, client.emission_factor, homodyne),
            verifier=Homodyne(server.efficiency, 0.0),
            loss_db=-ratio_to_db(server.transmittance),
            technical_noise=0.0,
            assumptions=self.assumptions,
            sampling=self.sampling,
            seed=self.seed,
            verification=self.verification,
            block_modes=client.block_modes,
            rotation=Rotation(
                client.rotation_loss_db_per_mode, phase_error_rad=client.rotation_error_rad
            ),
            disguise=self.light.disguise,
            hiding=self.hiding,
        )


Asked = ModeRun | BenchRun
