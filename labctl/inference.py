"""One inference run from request to report: what `labctl infer` and the demo have in common."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labctl import __version__
from labctl.calibration.knowledge import NOTHING, Knowledge
from labctl.calibration.quantity import Quantity
from labctl.copies_of_run import booked_means, copies_of_run
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.data.run_file import RunFileWriter, new_run_path
from labctl.errors import BudgetError, SettingError
from labctl.instruments.equipment import Equipment
from labctl.protocols.attacks.copies.copy_figure import CopyFigure
from labctl.protocols.attacks.label_figures import (
    TYPICAL_MISMATCH,
    LabelFigure,
    label_figures,
    supported_mismatch,
)
from labctl.protocols.carried import carried
from labctl.protocols.countermeasures.disguise import FRESH_ORDER, PLAIN, Disguise, key_of_seed
from labctl.protocols.encoding import Floats
from labctl.protocols.hiding.collection import Collection
from labctl.protocols.hiding.decoys import Decoys, decoy_key_of_seed
from labctl.protocols.hiding.hiding import (
    ASSUMED_GUESS_ERROR,
    DEFAULT_DECOYS,
    OPEN,
    Hiding,
    reading_cap,
)
from labctl.protocols.hiding.public_return import PublicReturn
from labctl.protocols.hiding.turns import check_turns
from labctl.protocols.leakage import LEAKAGE_FIGURES, Assumptions, Leakage, Trust, spectrum_of
from labctl.protocols.leakage.cumulative import Channel, Cumulative, cumulative, unseen
from labctl.protocols.ledger.charges import Basis
from labctl.protocols.ledger.run import Ledgers, RunFacts, RunLedger
from labctl.protocols.mismatch import MATCHED_CLONE, CloneMismatch
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.parameters import SessionParameters, session_parameters
from labctl.protocols.probation.run import Kind, run_on_probation
from labctl.protocols.probation.schedule import NO_PROBATION, Probation, Schedule
from labctl.protocols.probation.server import ProbationServer
from labctl.protocols.receiver import Homodyne, Receiver, ReceiverKind, TapReceiver, receiver_of
from labctl.protocols.rotation import IDEAL_ROTATION, Rotation
from labctl.protocols.server import Server
from labctl.protocols.session import Batch, Session, honest_server
from labctl.protocols.settings import Sampling, SessionSettings, VerificationSettings
from labctl.protocols.verification.client_guard import ClientGuard, PowerLimit, PowerMonitor
from labctl.protocols.verification.doubts import EXACT, Doubts
from labctl.protocols.verification.trust import UnderTrust, under_every_trust
from labctl.protocols.verification.verdict import Expectation, VerificationReport
from labctl.protocols.weight_distribution import (
    WeightDistribution,
    look_at,
    require_not_told_apart,
)
from labctl.safety import interruptible
from labctl.station import Station, describe
from labctl.station_file import ClientConstants, ServerConstants
from labctl.units import ratio_to_db

if TYPE_CHECKING:
    from labctl.protocols.bench_link import BenchLink

_PACKAGES = ("numpy", "scipy", "h5py", "pyvisa")
_BATCH = {Sampling.MEASURED: 512, Sampling.ALL: 32}
RAW_IMAGES = 2
# Weights of 8 times their RMS make a mode 64 times as bright as the mean; no row exceeds that much.
_PEAK_RATIO = 100.0
_STAND_IN_PURPOSE = b"stand-in network"
_PREDICTIONS = 16


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


@dataclass(frozen=True)
class Report:
    """What a run found.

    `calibration`: the records that it rests on by routine, what is doubtful about them, and the
    measured values that it used. `predicted_accuracy`: what an exact link of the same measured
    parameters finds on the same images, on average. `parameters`: mu, G, T and excess noise with
    their uncertainty. All None for a mode-level link. `weights_under_trust`: what the returned
    light says of the weights under each assumption. `ledger`: what the run was charged and what
    stands on its account, None without a ledger. `cumulative`: what all queries of the run told of
    the weights together. `stopped`: why it ended before the last image.
    `probation`: worthless queries asked for and sent, None where there were none to be.
    `label_cap`: with decoys, the most labels that any reader of the returned light names.
    `decoys_price`: what that costs in weights; without decoys, what three would bring and cost.
    `labels`: how often a curious server reads an image's label from one sending, empty where that
    was not measured for images of this size.
    `distribution`: whether the weights are such that figures for Gaussian weights apply to them.
    `best_copy`: what the best copy known is worth after the run's queries; with a ledger, after all
    of the account.
    """

    accuracy: float
    images: int
    link: LinkLevel
    model: str
    settings: SessionSettings
    leakage: Leakage
    verification: VerificationReport
    seconds: float
    run_file: Path
    signal_to_noise: float
    calibration: Mapping[str, Any] | None = None
    predicted_accuracy: float | None = None
    parameters: SessionParameters | None = None
    weights_under_trust: tuple[UnderTrust, ...] = ()
    ledger: Mapping[str, Any] | None = None
    stopped: str | None = None
    probation: Mapping[str, Any] | None = None
    label_cap: float | None = None
    decoys_price: Mapping[str, float] | None = None
    cumulative: Cumulative | None = None
    labels: tuple[LabelFigure, ...] = ()
    distribution: WeightDistribution | None = None
    best_copy: CopyFigure | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values for JSON; what is not finite becomes null."""
        return finite(
            {
                "accuracy": self.accuracy,
                "accuracy_standard_error": math.sqrt(
                    self.accuracy * (1.0 - self.accuracy) / self.images
                ),
                "accuracy_predicted": self.predicted_accuracy,
                "images": self.images,
                "link": str(self.link),
                "model": self.model,
                "mu": self.settings.mean_photons,
                "gain": self.settings.receiver.gain,
                "F": self.signal_to_noise,
                "block_modes": self.settings.block_modes,
                "decoys": self.settings.hiding.decoys,
                "return_modes": self.settings.hiding.return_modes,
                "hidden_return_modes": self.settings.hiding.hidden_return_modes,
                "label_cap": self.label_cap,
                "decoys_price": self.decoys_price,
                "receiver": _kind(self.settings.receiver),
                "loss_db": self.settings.loss_db,
                "technical_noise": self.settings.technical_noise,
                "sample": str(self.settings.sampling),
                "disguise": asdict(self.settings.disguise),
                "seed": self.settings.seed,
                "leakage": leakage_json(self.leakage, queries=self.images),
                "cumulative": None
                if self.cumulative is None
                else finite(self.cumulative.as_json()),
                "label_read": [each.as_json() for each in self.labels],
                "best_copy": None if self.best_copy is None else self.best_copy.as_json(),
                "weight_distribution": None
                if self.distribution is None
                else self.distribution.as_json(),
                "verification": verification_json(self.verification),
                "weights_under_trust": [trust_json(each) for each in self.weights_under_trust],
                "parameters": None
                if self.parameters is None
                else {
                    name: quantity_json(quantity)
                    for name, quantity in self.parameters.known().items()
                },
                "calibration": self.calibration,
                "ledger": self.ledger,
                "probation": self.probation,
                "stopped": self.stopped,
                "seconds": self.seconds,
                "run_file": str(self.run_file),
            }
        )


def leakage_json(leakage: Leakage, *, queries: int) -> dict[str, Any]:
    """Return a leakage figure with its assumptions as plain values."""
    values = {name: getattr(leakage, name) for name in LEAKAGE_FIGURES}
    return finite(
        {
            **values,
            "queries": queries,
            "weights_bits_prior_free_all_queries": leakage.after(queries),
            "assumptions": {
                "loss": str(leakage.assumptions.loss),
                "technical_noise": str(leakage.assumptions.technical_noise),
                "in_words": list(leakage.assumptions.sentences()),
            },
        }
    )


def trust_json(found: UnderTrust) -> dict[str, Any]:
    """Return what the light says under one assumption as plain values."""
    return finite(
        {
            "loss": str(found.assumptions.loss),
            "technical_noise": str(found.assumptions.technical_noise),
            "weights_bits_prior_free": found.bits_at_estimate,
            "weights_bits_prior_free_upper": found.bits_upper,
        }
    )


def quantity_json(quantity: Quantity) -> dict[str, Any]:
    """Return a measured quantity with its 95 % interval as plain values."""
    low, high = quantity.interval()
    return {
        "value": quantity.value,
        "standard_uncertainty": quantity.standard_uncertainty,
        "low_95": low,
        "high_95": high,
        "unit": quantity.unit,
        "budget": dict(quantity.budget),
    }


def verification_json(report: VerificationReport) -> dict[str, Any]:
    """Return a verdict as plain values."""
    return finite(asdict(report))


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with infinities and NaN as None, which JSON can say."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }


def run_inference(
    request: Request,
    *,
    on_images: Callable[[int], None] = lambda count: None,
    on_step: Callable[[str], None] = lambda step: None,
    on_station: Callable[[Station], None] = lambda station: None,
) -> Report:
    """Run the request and write its run file; the file stays readable if this is interrupted."""
    started = time.perf_counter()
    distribution = look_at(request.network, request.mean_photons)
    require_not_told_apart(distribution, accepted=request.accept_discrete_weights)
    with interruptible() as check, _opened(request, on_step, on_station) as run:
        path = new_run_path(request.runs, f"infer-{request.link}")
        with RunFileWriter.create(
            path,
            settings=_record(request, run),
            station_text=run.station.path.read_text(encoding="utf-8") if run.station else None,
            model=request.network,
            versions=_versions(),
            seed=request.seed,
        ) as writer:
            run.raw.writer = writer
            books = _books(request, run, path)
            done = _classify(request, run, books, writer, on_images, check)
            spectrum = spectrum_of(request.network)
            verification = run.session.verdict(run.expectation(), spectrum)
            leakage = run.session.leakage(spectrum)
            under_trust = under_every_trust(run.settings, verification)
            parameters = run.parameters()
            writer.set_verification(verification_json(verification))
            together = cumulative_of(run.session, run.settings, verification, done.images)
            written = leakage_json(leakage, queries=done.images)
            writer.set_leakage({**written, "cumulative": finite(together.as_json())})
            if done.stopped is not None:
                writer.finish("aborted", done.stopped)
    return Report(
        accuracy=done.correct / done.images,
        images=done.images,
        link=request.link,
        model=request.network.name,
        settings=run.settings,
        leakage=leakage,
        verification=verification,
        seconds=time.perf_counter() - started,
        run_file=path,
        signal_to_noise=run.signal_to_noise(),
        calibration=None if run.knowledge is None else calibration_json(run.knowledge),
        predicted_accuracy=None if run.knowledge is None else predicted_accuracy(request, run),
        parameters=parameters,
        weights_under_trust=under_trust,
        ledger=None if books is None else books.state(),
        stopped=done.stopped,
        probation=_probation_json(request, run),
        label_cap=run.collection.cap if isinstance(run.collection, Decoys) else None,
        decoys_price=_decoys_price(run),
        cumulative=together,
        labels=_labels(request, run),
        distribution=distribution,
        best_copy=copies_of_run(
            request.network, run.settings, done.images, run.tally, verification, run.expectation()
        )
        if books is None
        else books.best_copy(),
    )


def cumulative_of(
    session: Session, settings: SessionSettings, verification: VerificationReport, queries: int
) -> Cumulative:
    """Return what all queries of a run told of the weights, by the evidence that the run kept.

    A weight that rides on several quadratures of a query is that many queries of it.
    """
    carriers = max(part.carriers for part in session.server.own_evidence)
    found, bounds = verification.collective, verification.bounds
    if found is None or bounds is None:
        together = unseen(queries * carriers, settings.mean_photons)
        return replace(together, queries=queries)
    at_estimate = Channel(
        transmittance=verification.transmittance or 0.0,
        technical_noise=settings.technical_noise,
        assumptions=settings.assumptions,
        client_transmittance=session.expectation().client_transmittance,
    )
    at_bound = replace(at_estimate, transmittance=bounds.round_trip.transmittance)
    noise, upper = bounds.round_trip.excess_noise, found.upper
    if settings.assumptions.loss is Trust.TRUSTED:
        # Trusted is the loss of the link as calibrated and no more; see `verification.bounds`.
        noise, link = bounds.in_client.excess_noise, bounds.link_transmittance
        upper = found.upper / link
        at_bound = Channel(
            transmittance=bounds.in_client.transmittance,
            technical_noise=settings.technical_noise / link,
            assumptions=replace(settings.assumptions, loss=Trust.UNTRUSTED),
        )
    together = cumulative(
        at_estimate,
        queries=queries * carriers,
        mean_photons=settings.mean_photons,
        mean_photons_upper=bounds.mean_photons,
        excess_noise=noise,
        collective_noise=max(found.estimate, 0.0),
        collective_noise_upper=upper,
        confident=at_bound,
    )
    return replace(together, queries=queries)


def _probation_json(request: Request, run: _Run) -> dict[str, Any] | None:
    """Return what was asked of the client before and while it was served, None if nothing."""
    wanted = request.probation
    if wanted is None:
        return None
    return {
        "queries": wanted.probation.queries,
        "real_share": wanted.probation.real_share,
        "stand_in": wanted.stand_in.name,
        **{f"{kind.value}_queries": run.tally.get(kind, 0) for kind in Kind},
    }


def _decoys_price(run: _Run) -> dict[str, float] | None:
    """Return the cap on labels beside the bits of the weights, with the run's decoys or with three.

    None with a public subspace, and where there are too few classes to draw decoys from.
    """
    hiding, collection = run.settings.hiding, run.collection
    decoys, classes = hiding.decoys or DEFAULT_DECOYS, run.session.server.carried.network.sizes[-1]
    if hiding.return_modes is not None or decoys >= classes:
        return None
    cap = reading_cap(decoys, classes, ASSUMED_GUESS_ERROR)
    leakage = run.session.leakage(decoys=decoys)
    return {
        "decoys": decoys,
        "label_cap": collection.cap if isinstance(collection, Decoys) else cap,
        "weights_bits_per_real": leakage.weights_bits_per_real,
        "weights_bits_prior_free": leakage.weights_bits_prior_free,
    }


def _labels(request: Request, run: _Run) -> tuple[LabelFigure, ...]:
    """Return how labels are read, at the mismatch that is calibrated, stated, or typical.

    Of a client that clones its input alone: what hides it has a cap of its own.
    """
    if request.hiding != OPEN:
        return ()
    mismatch = None if run.knowledge is None else supported_mismatch(run.knowledge.quantities)
    if mismatch is None:
        mismatch = TYPICAL_MISMATCH if request.mismatch is None else request.mismatch
    return label_figures(request.network, request.images.images, run.settings, mismatch)


def predicted_accuracy(request: Request, run: _Run) -> float:
    """Return the mean accuracy of a mode-level link of the run's parameters on its images."""
    # The order of hidden neurons changes no class: none is drawn here.
    settings = replace(run.settings, sampling=Sampling.MEASURED, disguise=PLAIN)
    found = []
    for repeat in range(_PREDICTIONS):
        drawn = replace(settings, seed=settings.seed + repeat)
        collection = collection_of(request, drawn)
        session = Session(request.network, drawn, ModeLink(drawn), collection=collection)
        batches = session.run(request.images.images, batch_images=_BATCH[Sampling.MEASURED])
        classes = np.concatenate([batch.classes for batch in batches])
        found.append(float(np.mean(classes == request.images.labels)))
    return sum(found) / len(found)


def calibration_json(knowledge: Knowledge) -> dict[str, Any]:
    """Return what a result rests on: records, doubts, and measured values with uncertainty."""
    return {
        "records": dict(knowledge.records),
        "doubts": dict(knowledge.doubts),
        "values": {
            name: {
                "value": quantity.value,
                "standard_uncertainty": quantity.standard_uncertainty,
                "unit": quantity.unit,
            }
            for name, quantity in knowledge.quantities.items()
        },
    }


def _kind(receiver: Receiver) -> str:
    tap = isinstance(receiver, TapReceiver)
    return str(ReceiverKind.TAP if tap else ReceiverKind.AMPLIFIER)


@dataclass
class _Raw:
    """Where the bench link's raw arrays go: the first images' light, into the run file."""

    writer: RunFileWriter | None = None
    taken: dict[str, int] = field(default_factory=dict)

    def __call__(self, name: str, values: Floats) -> None:
        count = self.taken.get(name, 0)
        if self.writer is not None and count < RAW_IMAGES:
            self.writer.append_raw("bench", name, values[None])
            self.taken[name] = count + 1


@dataclass(frozen=True)
class _Run:
    """What is open while a request runs."""

    settings: SessionSettings
    session: Session
    station: Station | None
    raw: _Raw
    knowledge: Knowledge | None = None
    constants: ServerConstants | None = None
    link: BenchLink | None = None
    tally: dict[Kind, int] = field(default_factory=dict)
    collection: Collection | None = None

    def parameters(self) -> SessionParameters | None:
        """Return what a bench session was run at; None at mode level, which is exact."""
        if self.link is None or self.link.level is None or self.knowledge is None:
            return None
        estimate = self.session.estimate()
        return session_parameters(
            self.link.level, self.settings.receiver, estimate, self.knowledge.quantities
        )

    def expectation(self) -> Expectation:
        """Return what honest use shows; on a bench, with the uncertainty of its constants."""
        honest = self.session.expectation()
        if self.constants is None:
            return honest
        return replace(
            honest,
            doubts=self._doubts(),
            transmittance_uncertainty=self._uncertainty("server.transmittance"),
            excess_noise_uncertainty=self._uncertainty("server.excess_noise"),
        )

    def _doubts(self) -> Doubts:
        """Return what a bench does not know exactly; nothing before its light and unit are set."""
        calibration = self.session.calibrate()
        if self.link is None or self.link.level is None or calibration is None:
            return EXACT
        assert self.constants is not None
        from labctl.protocols.bench_doubts import bench_doubts

        return bench_doubts(self.link.level, calibration, self.knowledge or NOTHING, self.constants)

    def signal_to_noise(self) -> float:
        """Return the smallest F of all layers."""
        shapes = self.session.server.shapes
        return min(self.settings.signal_to_noise_of(shape.modes) for shape in shapes)

    def _uncertainty(self, name: str) -> float:
        """Return a measured value's uncertainty, the station file's where it was not measured."""
        assert self.constants is not None
        if self.knowledge is not None and name in self.knowledge.quantities:
            return self.knowledge.quantities[name].standard_uncertainty
        nominal: float = getattr(self.constants, name.removeprefix("server.") + "_uncertainty")
        return nominal


@contextmanager
def _opened(
    request: Request, on_step: Callable[[str], None], on_station: Callable[[Station], None]
) -> Iterator[_Run]:
    if request.link is LinkLevel.MODE:
        settings = _settings(request)
        collection = collection_of(request, settings)
        session = Session(
            request.network,
            settings,
            ModeLink(settings),
            server=_server_of(request, settings),
            guard=_guard_of(settings),
            collection=collection,
        )
        yield _Run(settings, session, None, _Raw(), collection=collection)
        return
    if request.station is None:
        raise SettingError("station", None, "a station file, for the bench link")
    station = Station.read(request.station)
    # What cannot be run is refused before anything is switched on.
    check_turns(request.hiding, station.table.frame.turns)
    _settings(_as_measured(request, station.table.server.constants, station.table.client.constants))
    with station:
        on_station(station)
        from labctl.instruments.equipment import equipment_of
        from labctl.protocols.bench_link import BenchLink

        nominal = equipment_of(station)
        knowledge = _calibrated(request, station, nominal, on_step)
        equipment = knowledge.applied(nominal)
        server, client = equipment.server.constants, equipment.client.constants
        settings = _settings(_as_measured(request, server, client))
        raw = _Raw()
        link = BenchLink(equipment, settings, on_raw=raw, on_step=on_step)
        collection = collection_of(request, settings)
        session = Session(
            request.network,
            settings,
            link,
            server=_server_of(request, settings),
            collection=collection,
        )
        link.prepare(list(session.server.templates))
        yield _Run(settings, session, station, raw, knowledge, server, link, collection=collection)


def collection_of(request: Request, settings: SessionSettings) -> Collection | None:
    """Return what the client collects where it hides its input, None where it does not.

    A simulated client's key of decoys follows from the seed, so that runs repeat.
    """
    if request.hiding == OPEN:
        return None
    if request.pictures is None:
        raise SettingError("pictures", None, "pictures to take decoys or a public subspace from")
    sent = carried(request.network)
    fed = sent.inputs.taken(request.pictures.images)
    if request.hiding.decoys:
        key = decoy_key_of_seed(settings.seed)
        pictures = LabelledImages(fed, request.pictures.labels)
        return Decoys(pictures, request.hiding.decoys, key)
    return PublicReturn(
        fed,
        sent.network.sizes,
        settings.block_modes,
        request.hiding,
        doubled=settings.disguise.signs,
    )


def _server_of(request: Request, settings: SessionSettings) -> Server:
    """Return the server: the network's own, or one that mixes worthless queries in."""
    own = honest_server(request.network, settings)
    wanted = request.probation
    if wanted is None:
        return own
    # As secret as the seed, like all orders of simulated runs.
    key = key_of_seed(settings.seed)
    stand_in = honest_server(wanted.stand_in, settings, key=_STAND_IN_PURPOSE + key)
    return ProbationServer(own, stand_in, Schedule(wanted.probation, key))


def _guard_of(settings: SessionSettings) -> ClientGuard:
    """Return the client's power monitor, which refuses light brighter than was agreed."""
    arriving = settings.mean_photons * settings.leg_transmittance
    limit = PowerLimit(arriving, peak_ratio=_PEAK_RATIO)
    return ClientGuard(limit, PowerMonitor(), seed=settings.seed)


def _calibrated(
    request: Request, station: Station, equipment: Equipment, on_step: Callable[[str], None]
) -> Knowledge:
    """Return what is known of the station; measures what is stale if the request says so."""
    from labctl.calibration.calibrator import Calibrator
    from labctl.calibration.catalogue import ROUTINES
    from labctl.calibration.store import Store

    if request.calibrations is None:
        raise SettingError("calibrations", None, "a folder, for the bench link")
    calibrator = Calibrator(
        station,
        equipment,
        Store(request.calibrations),
        ROUTINES,
        effort=request.effort,
        seed=request.seed,
        on_step=on_step,
    )
    if request.stale is Stale.CALIBRATE:
        for record in calibrator.run_stale():
            on_step(f"{record.routine}: record {record.id}")
    return calibrator.demand(anyway=request.stale is Stale.ACCEPT)


def _as_measured(request: Request, server: ServerConstants, client: ClientConstants) -> Request:
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


def _settings(request: Request) -> SessionSettings:
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


@dataclass
class _Done:
    """How far a run came: images, how many of them right, and why it stopped before the last."""

    images: int = 0
    correct: int = 0
    stopped: str | None = None


def _books(request: Request, run: _Run, path: Path) -> RunLedger | None:
    """Return what books the run, or None; a ledger is only made where one is asked for."""
    wanted = request.ledger
    if wanted is None:
        return None
    settings = run.settings
    facts = RunFacts(
        model_sha256=request.network.sha256,
        shapes=run.session.server.shapes,
        mean_photons=settings.mean_photons,
        leakage=run.session.leakage(),
        settings=_booked_settings(request, settings),
        run_file=str(path),
        worst_case=wanted.worst_case,
        carriers=max(part.carriers for part in run.session.server.evidence),
        technical_noise=settings.technical_noise,
        client_transmittance=run.session.expectation().client_transmittance,
        failure_probability=settings.verification.failure_probability,
        copies=booked_means(
            request.network,
            settings,
            NO_PROBATION if request.probation is None else request.probation.probation,
        ),
    )
    books = RunLedger(Ledgers.in_folder(wanted.folder, wanted.client), facts)
    if wanted.budget_bits is not None:
        books.allow(wanted.budget_bits)
    run.session.history = books.history()
    return books


def _booked_settings(request: Request, settings: SessionSettings) -> dict[str, Any]:
    return {
        "link": str(request.link),
        "mu": settings.mean_photons,
        "gain": settings.receiver.gain,
        "block_modes": settings.block_modes,
        "decoys": settings.hiding.decoys,
        "return_modes": settings.hiding.return_modes,
        "transmittance": settings.transmittance,
        "technical_noise": settings.technical_noise,
        "sample": str(settings.sampling),
    }


def _batches(request: Request, run: _Run, books: RunLedger | None) -> Iterator[Batch]:
    """Yield batches; with a ledger each is reserved before its light is sent, and then booked."""
    images = request.images.images
    size = 1 if request.link is LinkLevel.BENCH else _BATCH[request.sampling]
    server = run.session.server
    if isinstance(server, ProbationServer) and request.probation is not None:
        yield from _served(request, request.probation, run, books, server, size)
        return
    if books is None:
        yield from run.session.run(images, batch_images=size)
        return
    first = 0
    while first < len(images):
        # Where not even one image fits, asking for one says why.
        count = books.fitting(images[first : first + size]) or 1
        part = images[first : first + count]
        with books.sending(part) as sent:
            batches = list(run.session.run(part, batch_images=count))
            honest = run.expectation()
            verdict = run.session.verdict(honest)
            sent.book(verdict, run.session.record(honest), run.session.server.own_evidence)
        for batch in batches:
            yield replace(batch, first_image=first + batch.first_image)
        first += count


def _served(
    request: Request,
    wanted: ProbationRequest,
    run: _Run,
    books: RunLedger | None,
    server: ProbationServer,
    size: int,
) -> Iterator[Batch]:
    """Yield the batches of served queries; counts the others in the run's tally."""

    @contextmanager
    def around(kind: Kind, inputs: Floats) -> Iterator[None]:
        if books is None or kind is Kind.PRACTICE:
            yield
        elif kind is Kind.WORTHLESS:
            with books.repeating(inputs):
                yield
        else:
            with books.sending(inputs) as sent:
                yield
                honest = run.expectation()
                verdict = run.session.verdict(honest)
                sent.book(verdict, run.session.record(honest), run.session.server.own_evidence)

    rounds = run_on_probation(
        run.session,
        server,
        request.images.images,
        practice_queries=wanted.probation.queries,
        batch_images=size,
        around=around,
        fitting=len if books is None else lambda images: books.fitting(images) or 1,
    )
    for part in rounds:
        run.tally[part.kind] = run.tally.get(part.kind, 0) + len(part.inputs)
        if part.batch is not None:
            yield part.batch


def _classify(
    request: Request,
    run: _Run,
    books: RunLedger | None,
    writer: RunFileWriter,
    on_images: Callable[[int], None],
    check: Callable[[], None],
) -> _Done:
    """Classify images, each batch written before the next, to the last or until a budget ends.

    Raises BudgetError if not even the first fits.
    """
    done = _Done()
    try:
        for batch in _batches(request, run, books):
            count = len(batch.classes)
            labels = request.images.labels[batch.first_image : batch.first_image + count]
            writer.append_results(batch.first_image, labels, batch.classes, batch.measured)
            _write_evidence(run.session, writer)
            done.images += count
            done.correct += int(np.count_nonzero(batch.classes == labels))
            on_images(count)
            check()
    except BudgetError as refusal:
        if not done.images:
            raise
        done.stopped = str(refusal)
    return done


def _write_evidence(session: Session, writer: RunFileWriter) -> None:
    layers = session.server.layers
    for index, evidence in enumerate(session.server.evidence):
        sums = evidence.take_sums()
        if len(sums):
            name = f"layer{index}" if index < layers else f"stand-in-layer{index - layers}"
            writer.append_raw("evidence", name, sums)


def _record(request: Request, run: _Run) -> dict[str, Any]:
    """Return everything that the run depends on, for its file."""
    settings = {**asdict(run.settings), "link": str(request.link)}
    settings["images"] = len(request.images.labels)
    calibration = run.session.calibrate()
    if calibration is not None:
        settings["verifier_calibration"] = asdict(calibration)
    if run.station is not None:
        settings["instruments"] = describe(run.station.identities)
    if run.knowledge is not None:
        settings["calibration"] = calibration_json(run.knowledge)
    return settings


def _versions() -> dict[str, str]:
    return {"labctl": __version__, **{name: version(name) for name in _PACKAGES}}
