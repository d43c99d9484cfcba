"""One inference run from request to report: what `labctl infer` and the demo have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from labctl.data.run_writer import RunFileWriter
from labctl.data.runs_folder import require_runs_folder
from labctl.instruments.transports.masking import masked
from labctl.protocols.carried import require_blocks_of
from labctl.protocols.hiding.decoys import Decoys
from labctl.protocols.leakage import Leakage, spectrum_of
from labctl.protocols.leakage.cumulative import Cumulative
from labctl.protocols.ledger.run import Ledgers, RunLedger
from labctl.protocols.parameters import SessionParameters
from labctl.protocols.verification.trust import UnderTrust, under_every_trust
from labctl.protocols.verification.verdict import VerificationReport
from labctl.protocols.weight_distribution import WeightDistribution
from labctl.protocols.weight_search import look_at, require_not_told_apart
from labctl.run.copies_of_run import copies_of_run
from labctl.run.figures import (
    cumulative_of,
    decoys_price,
    labels_of,
    predicted_accuracy,
    probation_json,
)
from labctl.run.opening import OpenRun, opened
from labctl.run.report import (
    Report,
    calibration_json,
    finite,
    leakage_json,
    session_record,
    verification_json,
)
from labctl.run.request import Asked, ModeRun
from labctl.run.serving import Progress, books_of, classify, ledgers_of, light_factor
from labctl.safety import interruptible
from labctl.station import Station, describe
from labctl.toml_file import toml_text
from labctl.version import __version__

_PACKAGES = ("numpy", "scipy", "h5py", "pyvisa")


def run_inference(
    request: Asked,
    *,
    on_images: Callable[[int], None] = lambda count: None,
    on_step: Callable[[str], None] = lambda step: None,
    on_station: Callable[[Station], None] = lambda station: None,
    on_report: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Run it, at mode level or on instruments, and write its run file.

    The file stays readable if this is interrupted. `on_report` is called with the report as soon as
    it is there: before an error is raised of a station that could not be left safe then, or of an
    interruption that came meanwhile.
    """
    started = time.perf_counter()
    if isinstance(request, ModeRun):
        require_blocks_of(request.network, request.channel.block_modes)
    distribution = look_at(request.network, request.light.mean_photons)
    require_not_told_apart(distribution, accepted=request.accept_discrete_weights)
    # A folder that cannot be written to is found before a bench is calibrated and light is sent.
    require_runs_folder(request.runs)
    ledgers = ledgers_of(request)
    done: _Done | None = None
    try:
        with interruptible() as check, opened(request, on_step, on_station) as run:
            done = _carried_out(request, run, ledgers, on_images, check)
    except BaseException as late:
        if done is None:
            raise
        on_report(_report(request, done, distribution, time.perf_counter() - started))
        late.add_note(f"the run itself is whole: {done.path}")
        raise
    report = _report(request, done, distribution, time.perf_counter() - started)
    on_report(report)
    return report


@dataclass(frozen=True)
class _Done:
    """What a run came to, its file closed."""

    run: OpenRun
    path: Path
    progress: Progress
    books: RunLedger | None
    ledger: Mapping[str, Any] | None
    leakage: Leakage
    verification: VerificationReport
    under_trust: tuple[UnderTrust, ...]
    parameters: SessionParameters | None
    together: Cumulative


def _carried_out(
    request: Asked,
    run: OpenRun,
    ledgers: Ledgers | None,
    on_images: Callable[[int], None],
    check: Callable[[], None],
) -> _Done:
    """Classify, judge and write the run's file."""
    writing = _run_file(request, run)
    path = writing.path
    with writing as writer:
        run.raw.writer = writer
        books = books_of(request, run, path, ledgers)
        # Before light of the network is sent: where nothing bounds it, no figure does.
        most = light_factor(run.expectation().doubts, run.settings.verification.failure_probability)
        done = classify(request, run, books, writer, on_images, check)
        spectrum = spectrum_of(request.network)
        verification = run.session.verdict(run.expectation(), spectrum)
        leakage = run.session.leakage(spectrum)
        under_trust = under_every_trust(run.settings, verification)
        parameters = run.parameters()
        writer.set_verification(verification_json(verification))
        together = cumulative_of(run.session, run.settings, verification, done.images, most)
        written = leakage_json(leakage, queries=done.images)
        writer.set_leakage({**written, "cumulative": finite(together.as_json())})
        state = None if books is None else books.server.state()
        writer.set_session(session_record(state))
        if done.stopped is not None:
            writer.finish("aborted", done.stopped)
    return _Done(
        run, path, done, books, state, leakage, verification, under_trust, parameters, together
    )


def _report(
    request: Asked, found: _Done, distribution: WeightDistribution, seconds: float
) -> Report:
    run, done, books = found.run, found.progress, found.books
    return Report(
        accuracy=done.correct / done.images,
        images=done.images,
        link=request.link,
        model=request.network.name,
        settings=run.settings,
        leakage=found.leakage,
        verification=found.verification,
        seconds=seconds,
        run_file=found.path,
        signal_to_noise=run.signal_to_noise(),
        calibration=None if run.knowledge is None else calibration_json(run.knowledge),
        predicted_accuracy=None if run.knowledge is None else predicted_accuracy(request, run),
        parameters=found.parameters,
        weights_under_trust=found.under_trust,
        ledger=found.ledger,
        stopped=done.stopped,
        probation=probation_json(request, run),
        label_cap=run.collection.cap if isinstance(run.collection, Decoys) else None,
        decoys_price=decoys_price(run),
        cumulative=found.together,
        labels=labels_of(request, run),
        distribution=distribution,
        best_copy=copies_of_run(
            request.network,
            run.settings,
            done.images,
            run.tally,
            found.verification,
            run.expectation(),
        )
        if books is None
        else books.server.best_copy(),
    )


def _run_file(request: Asked, run: OpenRun) -> RunFileWriter:
    """Start the file of the run, with everything that it depends on."""
    return RunFileWriter.start(
        request.runs,
        f"infer-{request.link}",
        settings=_record(request, run),
        station_text=_station_text(run),
        model=request.network,
        versions=_versions(),
        seed=run.settings.seed,
    )


def _record(request: Asked, run: OpenRun) -> dict[str, Any]:
    """Return everything that the run depends on, for its file."""
    settings = asdict(run.settings)
    settings |= settings.pop("light") | settings.pop("channel")
    settings["mismatch"] = asdict(run.settings.channel.clone_mismatch)
    settings["link"] = str(request.link)
    settings["images"] = len(request.images.labels)
    calibration = run.session.calibrate()
    if calibration is not None:
        settings["verifier_calibration"] = asdict(calibration)
    if run.station is not None:
        settings["instruments"] = describe(run.station.identities)
    if run.knowledge is not None:
        settings["calibration"] = calibration_json(run.knowledge)
    return settings


def _station_text(run: OpenRun) -> str | None:
    """Return the station file as it is, its passwords, pins and keys masked."""
    if run.station is None:
        return None
    return masked(toml_text(run.station.path))


def _versions() -> dict[str, str]:
    return {"labctl": __version__, **{name: version(name) for name in _PACKAGES}}
