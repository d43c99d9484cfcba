"""What one run is asked to do, and the session settings that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.disguise import FRESH_ORDER, Disguise
from labctl.protocols.hiding.hiding import (
    OPEN,
    Hiding,
)
from labctl.protocols.leakage import Assumptions
from labctl.protocols.ledger.charges import Basis
from labctl.protocols.mismatch import MATCHED_CLONE, CloneMismatch
from labctl.protocols.probation.schedule import Probation
from labctl.protocols.receiver import Homodyne, ReceiverKind, receiver_of
from labctl.protocols.rotation import IDEAL_ROTATION, Rotation
from labctl.protocols.settings import Sampling, SessionSettings, VerificationSettings
from labctl.station.file import ClientConstants, ServerConstants
from labctl.units import ratio_to_db


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

    `budget_bits`: the account's budget in bits per real weight from now on, None: as it stands.
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
class Request:
    """What to run.

    Loss, technical noise, receivers and rotation describe a mode-level link; for a bench, the
    station's calibration says them. `calibrations` is its store, `stale` what to do about records
    that do not apply, `effort` that of routines which run for it. `hiding`: how the client hides
    its input; `pictures`: what its decoys are taken from, or its public subspace is made of.
    `mismatch`: of the client's clone on a mode-level link; None runs a matched one and states label
    reading at a typical mismatch.
    """

    network: Network
    images: LabelledImages
    link: LinkLevel
    mean_photons: float
    gain: float
    emission_factor: float
    client: Homodyne
    verifier: Homodyne
    loss_db: float
    technical_noise: float
    assumptions: Assumptions
    sampling: Sampling
    seed: int
    verification: VerificationSettings
    station: Path | None
    runs: Path
    receiver: ReceiverKind = ReceiverKind.AMPLIFIER
    block_modes: int | None = None
    rotation: Rotation = IDEAL_ROTATION
    calibrations: Path | None = None
    stale: Stale = Stale.CALIBRATE
    effort: float = 1.0
    disguise: Disguise = FRESH_ORDER
    ledger: LedgerRequest | None = None
    probation: ProbationRequest | None = None
    hiding: Hiding = OPEN
    pictures: LabelledImages | None = None
    mismatch: CloneMismatch | None = None
    accept_discrete_weights: bool = False


def as_measured(request: Request, server: ServerConstants, client: ClientConstants) -> Request:
    """Return the request with what is known of link and receivers."""
    return replace(
        request,
        loss_db=-ratio_to_db(server.transmittance),
        emission_factor=client.emission_factor,
        client=Homodyne(client.efficiency, client.electronic_noise),
        verifier=Homodyne(server.efficiency, 0.0),
        block_modes=client.block_modes,
        rotation=Rotation(
            client.rotation_loss_db_per_mode, phase_error_rad=client.rotation_error_rad
        ),
    )


def settings_of(request: Request) -> SessionSettings:
    """Return the settings of the request's sessions."""
    return SessionSettings(
        mean_photons=request.mean_photons,
        receiver=receiver_of(
            request.receiver, request.gain, request.emission_factor, request.client
        ),
        verifier=request.verifier,
        loss_db=request.loss_db,
        technical_noise=request.technical_noise,
        assumptions=request.assumptions,
        sampling=request.sampling,
        seed=request.seed,
        verification=request.verification,
        block_modes=request.block_modes,
        rotation=request.rotation,
        disguise=request.disguise,
        hiding=request.hiding,
        mismatch=MATCHED_CLONE if request.mismatch is None else request.mismatch,
    )
