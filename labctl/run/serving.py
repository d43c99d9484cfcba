"""The images of a run, batch by batch: reserved, sent, booked and written, in that order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from labctl.data.models import Network
from labctl.data.run_pair import RunFiles, RunPair
from labctl.data.run_writer import RunFileWriter
from labctl.errors import BudgetError, SettingError
from labctl.protocols.encoding import Floats
from labctl.protocols.ledger.charges import Basis
from labctl.protocols.ledger.run import Ledgers, RunLedger, SentBatch
from labctl.protocols.ledger.run_facts import RunFacts
from labctl.protocols.ledger.signing import SigningKey
from labctl.protocols.probation.run import QueryKind, run_on_probation
from labctl.protocols.probation.schedule import NO_PROBATION, Probation
from labctl.protocols.probation.server import ProbationServer
from labctl.protocols.server.verifier import Verifier
from labctl.protocols.session import Batch, Session
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.protocols.verification.collective_bounds import LIGHT_SHARE
from labctl.protocols.verification.doubts import EXACT, Doubts
from labctl.run.copies_of_run import booked_means
from labctl.run.opening import OpenRun
from labctl.run.request import Asked, LinkLevel, ProbationRequest

BATCH_IMAGES = {Sampling.MEASURED: 512, Sampling.ALL: 32}


@dataclass
class Progress:
    """How far a run came: images, how many of them right, and what refused to go on."""

    images: int = 0
    correct: int = 0
    refusal: BudgetError | None = None

    @property
    def stopped(self) -> str | None:
        """Why it stopped before the last image."""
        return None if self.refusal is None else str(self.refusal)


def classify(
    request: Asked,
    run: OpenRun,
    books: RunLedger | None,
    files: RunPair,
    on_images: Callable[[int], None],
    check: Callable[[], None],
) -> Progress:
    """Classify images, each batch written before the next, to the last or until a budget ends.

    The client's file gets labels, classes and values, the server's sums over what came back.

    Raises BudgetError if not even the first fits.
    """
    done = Progress()
    try:
        for batch in _batches(request, run, books):
            count = len(batch.classes)
            labels = request.images.labels[batch.first_image : batch.first_image + count]
            files.client.append_results(batch.first_image, labels, batch.classes, batch.measured)
            _write_evidence(run.session, files.server)
            files.server.append_queries(batch.first_image, count)
            done.images += count
            done.correct += int(np.count_nonzero(batch.classes == labels))
            on_images(count)
            check()
    except BudgetError as refusal:
        if not done.images:
            raise
        done.refusal = refusal
    return done


def _batches(request: Asked, run: OpenRun, books: RunLedger | None) -> Iterator[Batch]:
    """Yield batches; with a ledger each is reserved before its light is sent, and then booked."""
    images = request.images.images
    size = 1 if request.link is LinkLevel.BENCH else BATCH_IMAGES[request.sampling]
    server = run.session.server
    if isinstance(server, ProbationServer) and request.probation is not None:
        yield from _served(request, request.probation, run, books, server, size)
        return
    if books is None:
        yield from run.session.run(images, batch_images=size)
        return
    first = 0
    while first < len(images):
        with books.sending(images[first : first + size], or_fewer=True) as sent:
            count = sent.queries
            with _noting(run.session, sent):
                batches = list(run.session.run(images[first : first + count], batch_images=count))
            _book(run, sent)
        for batch in batches:
            yield replace(batch, first_image=first + batch.first_image)
        first += count


def _book(run: OpenRun, sent: SentBatch) -> None:
    """Book a batch by what came back of the run so far."""
    honest, session = run.expectation(), run.session
    verdict, record = session.verdict(honest), session.record(honest)
    sent.book(verdict, record, session.server.own_evidence, honest.doubts)


@contextmanager
def _noting(session: Session, sent: SentBatch) -> Iterator[None]:
    """Note in the ledgers, before light leaves, how much of the batch is then sent."""
    before, session.on_light = session.on_light, sent.noted()
    try:
        yield
    finally:
        session.on_light = before


def _served(
    request: Asked,
    wanted: ProbationRequest,
    run: OpenRun,
    books: RunLedger | None,
    server: ProbationServer,
    size: int,
) -> Iterator[Batch]:
    """Yield the batches of served queries; counts the others in the run's tally."""

    @contextmanager
    def around(kind: QueryKind, inputs: Floats) -> Iterator[None]:
        if books is None or kind is QueryKind.PRACTICE:
            yield
        elif kind is QueryKind.WORTHLESS:
            with books.repeating(inputs):
                yield
        else:
            with books.sending(inputs) as sent:
                with _noting(run.session, sent):
                    yield
                _book(run, sent)

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


def ledgers_of(request: Asked) -> Ledgers | None:
    """Return the run's ledgers, its client admitted and its budget set; None if it has none.

    Before anything is opened or reserved, and before any light. Raises IdentityError for a client
    that does not prove its key, and for a budget that only the operator may raise.
    """
    wanted = request.ledger
    if wanted is None:
        return None
    ledgers = Ledgers.in_folder(wanted.folder, wanted.client, operator_keys=wanted.operator_keys)
    path = wanted.client_key
    key = None if path is None else SigningKey.read(path, f"client {wanted.client}'s")
    model = request.network.sha256
    ledgers.admit(model, key)
    if wanted.budget_bits is not None:
        operator = None if wanted.operator_keys is None else ledgers.server.operator()
        ledgers.allow(model, wanted.budget_bits, operator)
    return ledgers


def books_of(
    request: Asked, run: OpenRun, files: RunFiles, ledgers: Ledgers | None
) -> RunLedger | None:
    """Return what books the run, or None; a ledger is only made where one is asked for."""
    wanted = request.ledger
    if wanted is None or ledgers is None:
        return None
    probation = NO_PROBATION if request.probation is None else request.probation.probation
    facts = run_facts(
        run.session.server_half.verifier,
        request.network,
        run.settings,
        link=str(request.link),
        run_file=files.server,
        worst_case=wanted.worst_case,
        probation=probation,
        doubts=run.expectation().doubts,
    )
    books = RunLedger(ledgers, facts, str(files.client))
    run.session.history = books.server.history()
    return books


def run_facts(
    verifier: Verifier,
    network: Network,
    settings: SessionSettings,
    *,
    link: str,
    run_file: Path,
    worst_case: Basis,
    probation: Probation = NO_PROBATION,
    doubts: Doubts = EXACT,
) -> RunFacts:
    """Return what a ledger is given of a run of a network at these settings.

    link: in words. doubts: of the bench's constants. Raises SettingError where they leave the light
    without a bound.
    """
    server = verifier.server
    return RunFacts(
        model_sha256=network.sha256,
        shapes=server.shapes,
        mean_photons=settings.light.mean_photons,
        leakage=verifier.leakage(),
        settings=_booked_settings(link, settings),
        run_file=str(run_file),
        worst_case=worst_case,
        carriers=max(part.carriers for part in server.evidence),
        technical_noise=settings.channel.technical_noise,
        link_transmittance=verifier.expectation().link_transmittance,
        failure_probability=settings.verification.failure_probability,
        copies=booked_means(network, settings, probation),
        light_factor=light_factor(doubts, settings.verification.failure_probability),
        doubts=doubts,
    )


def light_factor(doubts: Doubts, failure_probability: float) -> float:
    """Return true over stated light, at most; raises SettingError where nothing bounds it."""
    factor = doubts.light_factor(LIGHT_SHARE * failure_probability)
    if not math.isfinite(factor):
        least = _least_probability(doubts, failure_probability)
        valid = "larger" if least is None else f"{least:.2g} or more"
        valid += ": so far out the bench's calibration does not bound its light"
        raise SettingError("failure_probability", failure_probability, valid)
    return factor


def _least_probability(doubts: Doubts, refused: float) -> float | None:
    """Return the smallest failure probability at which the light is bounded, rounded up."""
    low, high = math.log10(refused), -1e-9

    def bounded(exponent: float) -> bool:
        return math.isfinite(doubts.light_factor(LIGHT_SHARE * 10.0**exponent))

    if not bounded(high):
        return None
    # Halved until it is known to a thousandth of a power of ten, less than what is shown.
    while high - low > 1e-3:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if bounded(middle) else (middle, high)
    power = 10.0 ** math.floor(high)
    return float(math.ceil(10.0 * 10.0**high / power) / 10.0 * power)


def _booked_settings(link: str, settings: SessionSettings) -> dict[str, Any]:
    return {
        "link": link,
        "mu": settings.light.mean_photons,
        "gain": settings.receiver.gain,
        "block_modes": settings.channel.block_modes,
        "decoys": settings.hiding.decoys,
        "return_modes": settings.hiding.return_modes,
        "transmittance": settings.transmittance,
        "technical_noise": settings.channel.technical_noise,
        "sample": str(settings.sampling),
    }


def _write_evidence(session: Session, writer: RunFileWriter) -> None:
    layers = session.server.layers
    for index, evidence in enumerate(session.server.evidence):
        sums = evidence.take_sums()
        if len(sums):
            name = f"layer{index}" if index < layers else f"stand-in-layer{index - layers}"
            writer.append_raw("evidence", name, sums)
