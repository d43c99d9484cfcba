"""One inference run from request to report: what `labctl infer` and the demo have in common."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from labctl import __version__
from labctl.calibration.knowledge import Knowledge
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.data.run_file import RunFileWriter, new_run_path
from labctl.errors import SettingError
from labctl.instruments.equipment import Equipment
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, Leakage
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import Homodyne, Receiver, ReceiverKind, TapReceiver, receiver_of
from labctl.protocols.rotation import IDEAL_ROTATION, Rotation
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling, SessionSettings, VerificationSettings
from labctl.protocols.verification import Expectation, VerificationReport
from labctl.safety import interruptible
from labctl.station import Station, describe
from labctl.station_file import ClientConstants, ServerConstants
from labctl.units import ratio_to_db

_PACKAGES = ("numpy", "scipy", "h5py", "pyvisa")
_BATCH = {Sampling.MEASURED: 512, Sampling.ALL: 32}
RAW_IMAGES = 2
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
class Request:
    """What to run.

    Loss, technical noise, receivers and rotation describe a mode-level link; for a bench, the
    station's calibration says them. `calibrations` is its store, `stale` what to do about records
    that do not apply, `effort` that of routines which run for it.
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


@dataclass(frozen=True)
class Report:
    """What a run found.

    `calibration`: the records that it rests on by routine, what is doubtful about them, and the
    measured values that it used. `predicted_accuracy`: what an exact link of the same measured
    parameters finds on the same images, on average. Both None for a mode-level link.
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
                "receiver": _kind(self.settings.receiver),
                "loss_db": self.settings.loss_db,
                "technical_noise": self.settings.technical_noise,
                "sample": str(self.settings.sampling),
                "seed": self.settings.seed,
                "leakage": leakage_json(self.leakage, queries=self.images),
                "verification": verification_json(self.verification),
                "calibration": self.calibration,
                "seconds": self.seconds,
                "run_file": str(self.run_file),
            }
        )


def leakage_json(leakage: Leakage, *, queries: int) -> dict[str, Any]:
    """Return a leakage figure with its assumptions as plain values."""
    values = {
        entry.name: getattr(leakage, entry.name)
        for entry in fields(leakage)
        if entry.name != "assumptions"
    }
    return finite(
        {
            **values,
            "queries": queries,
            "weights_bits_per_real_all_queries": leakage.after(queries),
            "assumptions": {
                "loss": str(leakage.assumptions.loss),
                "technical_noise": str(leakage.assumptions.technical_noise),
                "in_words": list(leakage.assumptions.sentences()),
            },
        }
    )


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
            correct = _classify(request, run.session, writer, on_images, check)
            verification = run.session.verdict(run.expectation())
            leakage = run.session.leakage()
            writer.set_verification(verification_json(verification))
            writer.set_leakage(leakage_json(leakage, queries=len(request.images.labels)))
    return Report(
        accuracy=correct / len(request.images.labels),
        images=len(request.images.labels),
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
    )


def predicted_accuracy(request: Request, run: _Run) -> float:
    """Return the mean accuracy of a mode-level link of the run's parameters on its images."""
    settings = replace(run.settings, sampling=Sampling.MEASURED)
    found = []
    for repeat in range(_PREDICTIONS):
        drawn = replace(settings, seed=settings.seed + repeat)
        session = Session(request.network, drawn, ModeLink(drawn))
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

    def expectation(self) -> Expectation:
        """Return what honest use shows; on a bench, with the uncertainty of its constants."""
        honest = self.session.expectation()
        if self.constants is None:
            return honest
        return replace(
            honest,
            transmittance_uncertainty=self._uncertainty("server.transmittance"),
            excess_noise_uncertainty=self._uncertainty("server.excess_noise"),
        )

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
        session = Session(request.network, settings, ModeLink(settings))
        yield _Run(settings, session, None, _Raw())
        return
    if request.station is None:
        raise SettingError("station", None, "a station file, for the bench link")
    station = Station.read(request.station)
    # What cannot be run is refused before anything is switched on.
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
        session = Session(request.network, settings, link)
        link.prepare([session.server.light(layer) for layer in range(session.server.layers)])
        yield _Run(settings, session, station, raw, knowledge, server)


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
    )


def _classify(
    request: Request,
    session: Session,
    writer: RunFileWriter,
    on_images: Callable[[int], None],
    check: Callable[[], None],
) -> int:
    """Classify all images, each batch written before the next; returns the correct ones."""
    correct = 0
    size = 1 if request.link is LinkLevel.BENCH else _BATCH[request.sampling]
    for batch in session.run(request.images.images, batch_images=size):
        count = len(batch.classes)
        labels = request.images.labels[batch.first_image : batch.first_image + count]
        writer.append_results(batch.first_image, labels, batch.classes, batch.measured)
        for layer, evidence in enumerate(session.server.evidence):
            sums = evidence.take_sums()
            if len(sums):
                writer.append_raw("evidence", f"layer{layer}", sums)
        correct += int(np.count_nonzero(batch.classes == labels))
        on_images(count)
        check()
    return correct


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
