"""One inference run from request to report: what `labctl infer` and the demo have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

from labctl.data.models import PublicModel
from labctl.data.run_pair import RunFiles, RunPair
from labctl.data.runs_folder import require_runs_folder
from labctl.instruments.transports.masking import masked
from labctl.party import Party
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
from labctl.run.blame import reason_for
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
    known_to_client,
    leakage_json,
    session_record,
    told_json,
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
    """Run it, at mode level or on instruments, and write each party's run file.

    The files stay readable if this is interrupted. `on_report` is called with the report as soon as
    it is there: before an error is raised of a station that could not be left safe then, or of an
    interruption that came meanwhile.
    """
    started = time.perf_counter()
    if isinstance(request, ModeRun):
        require_blocks_of(request.network, request.channel.block_modes)
    distribution = look_at(request.network, request.light.mean_photons)
    require_not_told_apart(distribution, accepted=request.accept_discrete_weights)
    # A folder that cannot be written to is found before a bench is calibrated and light is sent.
    require_runs_folder(request.runs, request.network.size_bytes)
    ledgers = ledgers_of(request)
    done: _Done | None = None
    try:
        with interruptible() as check, opened(request, on_step, on_station) as run:
            done = _carried_out(request, run, ledgers, on_images, check)
    except BaseException as late:
        if done is None:
            raise
        on_report(_report(request, done, distribution, time.perf_counter() - started))
        late.add_note(f"the run itself is whole: {done.paths.server} and {done.paths.client}")
        raise
    report = _report(request, done, distribution, time.perf_counter() - started)
    on_report(report)
    return report


@dataclass(frozen=True)
class _Done:
    """What a run came to, its files closed."""

    run: OpenRun
    paths: RunFiles
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
    """Classify, judge and write the run's files."""
    with _run_files(request, run) as files, _dark_before_the_files(run.station):
        paths = files.paths
        run.raw.writer = files.server
        books = books_of(request, run, paths, ledgers)
        # Before light of the network is sent: where nothing bounds it, no figure does.
        most = light_factor(run.expectation().doubts, run.settings.verification.failure_probability)
        done = classify(request, run, books, files, on_images, check)
        spectrum = spectrum_of(request.network)
        verification = run.session.verdict(run.expectation(), spectrum)
        leakage = run.session.leakage(spectrum)
        under_trust = under_every_trust(run.settings, verification)
        parameters = run.parameters()
        files.server.set_verification(verification_json(verification))
        files.client.set_verification(told_json(verification))
        together = cumulative_of(
            run.session.server_half.verifier, run.settings, verification, done.images, most
        )
        written = leakage_json(leakage, queries=done.images)
        files.server.set_leakage({**written, "cumulative": finite(together.as_json())})
        # By public numbers alone: the client does not know the network's spectrum.
        files.client.set_leakage(leakage_json(run.session.leakage(), queries=done.images))
        state = None if books is None else books.server.state()
        session = session_record(state)
        files.server.set_session(session)
        files.client.set_session(known_to_client(session))
        if done.refusal is not None:
            files.finish("aborted", partial(reason_for, error=done.refusal, words=done.stopped))
    return _Done(
        run, paths, done, books, state, leakage, verification, under_trust, parameters, together
    )


@contextmanager
def _dark_before_the_files(station: Station | None) -> Iterator[None]:
    """Switch emission off on an error, before the files are ended: their disk may be slow."""
    try:
        yield
    except BaseException:
        if station is not None:
            station.darken()
        raise


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
        run_files=found.paths,
        signal_to_noise=run.signal_to_noise(),
        phase_rad2=run.phase_rad2(),
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


def _run_files(request: Asked, run: OpenRun) -> RunPair:
    """Start the files of the run, with everything that it depends on."""
    network = request.network
    sizes = run.session.client_half.agreed.sizes
    return RunPair.start(
        request.runs,
        f"infer-{request.link}",
        settings=lambda party: _record(request, run, party),
        station_text=_station_text(run),
        network=network,
        public=PublicModel(network.name, network.sha256, sizes),
        versions=versions(),
        seed=run.settings.seed,
        reason=reason_for,
    )


def _record(request: Asked, run: OpenRun, party: Party) -> dict[str, Any]:
    """Return everything that the run depends on, for a party's file."""
    settings = asdict(run.settings)
    settings |= settings.pop("light") | settings.pop("channel")
    settings["mismatch"] = asdict(run.settings.channel.clone_mismatch)
    settings["link"] = str(request.link)
    settings["images"] = len(request.images.labels)
    calibration = run.session.calibrate()
    if calibration is not None and party is Party.SERVER:
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


def versions() -> dict[str, str]:
    """Return the versions of labctl and of what its numbers rest on."""
    return {"labctl": __version__, **{name: version(name) for name in _PACKAGES}}
