"""What one run is asked to do: a `ModeRun` or a `BenchRun`, of small values; and their settings.

A mode-level run is given its channel and its receivers. A run on instruments is not: its station
and the calibration of that say what they are. So each kind has the fields that it uses, and no
other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Required, TypedDict

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.hiding.hiding import (
    OPEN,
    Hiding,
)
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.ledger.charges import Basis
from labctl.protocols.messages import ReceiverFacts
from labctl.protocols.own_oscillator import OwnOscillator
from labctl.protocols.probation.schedule import Probation
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver, Homodyne, Receiver
from labctl.protocols.rotation import Rotation
from labctl.protocols.settings import (
    IDEAL_CHANNEL,
    USUAL_LIGHT,
    Channel,
    Light,
    Sampling,
    SessionSettings,
    VerificationSettings,
)
from labctl.station.file import ClientConstants, ServerConstants
from labctl.units import ratio_to_db

# That of the command line too, see `labctl infer --help`.
GAIN = 1.3
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
    `client_key`: file of the private key that the client's name is bound to, None: by name alone.
    `operator_keys`: folder of the operator's key, which raises a budget; None: none is raised.
    `worst_case`: what is reserved before light is sent, everything or an honest client's share.
    """

    folder: Path
    client: str
    budget_bits: float | None = None
    worst_case: Basis = Basis.EVERYTHING
    client_key: Path | None = None
    operator_keys: Path | None = None


@dataclass(frozen=True, eq=False)
class ProbationRequest:
    """How a client is watched: worthless queries, and the network that they carry.

    `stand_in`: of the served network's shape, for the same task and of public data.
    """

    probation: Probation
    stand_in: Network


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
    light: Light = USUAL_LIGHT
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

    receiver: the client's, amplifier or tap. verifier: the server's homodyne receiver. oscillator:
    the client's own laser as local oscillator, None for the server's light; each quadrature of the
    receiver then has half of the efficiency that is stated.
    """

    channel: Channel = IDEAL_CHANNEL
    receiver: Receiver = IDEAL_RECEIVER
    verifier: Homodyne = IDEAL_HOMODYNE
    oscillator: OwnOscillator | None = None

    link: ClassVar[LinkLevel] = LinkLevel.MODE

    @property
    def settings(self) -> SessionSettings:
        """Settings of the run's sessions; raises SettingError."""
        receiver = self.receiver
        if self.oscillator is not None:
            receiver = replace(receiver, homodyne=receiver.homodyne.heterodyne())
        return SessionSettings(
            light=self.light,
            channel=self.channel,
            receiver=receiver,
            oscillator=self.oscillator,
            verifier=self.verifier,
            assumptions=self.assumptions,
            sampling=self.sampling,
            seed=self.seed,
            verification=self.verification,
            hiding=self.hiding,
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
        return bench_settings(
            server,
            client,
            light=self.light,
            gain=self.gain,
            assumptions=self.assumptions,
            sampling=self.sampling,
            verification=self.verification,
            hiding=self.hiding,
            seed=self.seed,
        )


def bench_settings(
    server: ServerConstants,
    client: ClientConstants | ReceiverFacts,
    *,
    light: Light,
    gain: float,
    assumptions: Assumptions,
    sampling: Sampling,
    verification: VerificationSettings,
    hiding: Hiding = OPEN,
    seed: int,
) -> SessionSettings:
    """Return settings of sessions on hardware of which this is known; raises SettingError.

    `client`: as its station file knows it, or as it says of itself.
    """
    homodyne = Homodyne(client.efficiency, client.electronic_noise)
    rotation = Rotation(client.rotation_loss_db_per_mode, phase_error_rad=client.rotation_error_rad)
    return SessionSettings(
        light=light,
        channel=Channel(
            loss_db=-ratio_to_db(server.transmittance),
            rotation=rotation,
            block_modes=client.block_modes,
        ),
        receiver=CloneReceiver(gain, client.emission_factor, homodyne),
        verifier=Homodyne(server.efficiency, 0.0),
        assumptions=assumptions,
        sampling=sampling,
        seed=seed,
        verification=verification,
        hiding=hiding,
    )


Asked = ModeRun | BenchRun
