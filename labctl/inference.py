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
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.data.run_file import RunFileWriter, new_run_path
from labctl.errors import SettingError
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, Leakage
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling, SessionSettings, VerificationSettings
from labctl.protocols.verification import Expectation, VerificationReport
from labctl.safety import interruptible
from labctl.station import Station, describe
from labctl.units import ratio_to_db

_PACKAGES = ("numpy", "scipy", "h5py", "pyvisa")
_BATCH = {Sampling.MEASURED: 512, Sampling.ALL: 32}
RAW_IMAGES = 2


class LinkLevel(StrEnum):
    """How the light between the parties is represented."""

    MODE = "mode"
    BENCH = "bench"


@dataclass(frozen=True)
class Request:
    """What to run.

    Loss, technical noise, amplifier and receivers describe a mode-level link; for a bench, the
    station file says them.
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


@dataclass(frozen=True)
class Report:
    """What a run found."""

    accuracy: float
    images: int
    link: LinkLevel
    model: str
    settings: SessionSettings
    leakage: Leakage
    verification: VerificationReport
    seconds: float
    run_file: Path

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values for JSON; what is not finite becomes null."""
        return finite(
            {
                "accuracy": self.accuracy,
                "accuracy_standard_error": math.sqrt(
                    self.accuracy * (1.0 - self.accuracy) / self.images
                ),
                "images": self.images,
                "link": str(self.link),
                "model": self.model,
                "mu": self.settings.mean_photons,
                "gain": self.settings.receiver.gain,
                "F": self.settings.signal_to_noise,
                "loss_db": self.settings.loss_db,
                "technical_noise": self.settings.technical_noise,
                "sample": str(self.settings.sampling),
                "seed": self.settings.seed,
                "leakage": leakage_json(self.leakage, queries=self.images),
                "verification": verification_json(self.verification),
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
    )


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

    def expectation(self) -> Expectation:
        """Return what honest use shows; on a bench, with the uncertainty of its constants."""
        honest = self.session.expectation()
        if self.station is None:
            return honest
        constants = self.station.table.server.constants
        return replace(
            honest,
            transmittance_uncertainty=constants.transmittance_uncertainty,
            excess_noise_uncertainty=constants.excess_noise_uncertainty,
        )


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
    settings = _settings(_as_the_station_says(request, station))
    with station:
        on_station(station)
        from labctl.instruments.equipment import equipment_of
        from labctl.protocols.bench_link import BenchLink

        raw = _Raw()
        link = BenchLink(equipment_of(station), settings, on_raw=raw, on_step=on_step)
        session = Session(request.network, settings, link)
        link.prepare([session.server.light(layer) for layer in range(session.server.layers)])
        yield _Run(settings, session, station, raw)


def _as_the_station_says(request: Request, station: Station) -> Request:
    """Return the request with what the station file knows of link and receivers."""
    server, client = station.table.server.constants, station.table.client.constants
    return replace(
        request,
        loss_db=-ratio_to_db(server.transmittance),
        emission_factor=client.emission_factor,
        client=Homodyne(client.efficiency, client.electronic_noise),
        verifier=Homodyne(server.efficiency, 0.0),
    )


def _settings(request: Request) -> SessionSettings:
    return SessionSettings(
        mean_photons=request.mean_photons,
        receiver=CloneReceiver(request.gain, request.emission_factor, request.client),
        verifier=request.verifier,
        loss_db=request.loss_db,
        technical_noise=request.technical_noise,
        assumptions=request.assumptions,
        sampling=request.sampling,
        seed=request.seed,
        verification=request.verification,
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
    return settings


def _versions() -> dict[str, str]:
    return {"labctl": __version__, **{name: version(name) for name in _PACKAGES}}
