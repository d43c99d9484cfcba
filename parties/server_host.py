"""A server's station with its offer: serves one client after the other, each on its own account."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labctl.calibration.knowledge import NOTHING, Knowledge
from labctl.errors import BudgetError, LabctlError, ProtocolError
from labctl.parties.offer import Offer, require_same_bench
from labctl.parties.server_session import ServerSession
from labctl.parties.talk import Talk
from labctl.protocols.bench_doubts import bench_doubts, bench_expectation, lo_excess_noise
from labctl.protocols.disguise import new_key
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.charges import Basis
from labctl.protocols.ledger.server_books import ServerBatch, ServerBooks
from labctl.protocols.messages import AbortCode, Hello
from labctl.protocols.server.bench_sender import BenchSender
from labctl.protocols.server.disguised import honest_server
from labctl.protocols.server.machine import ServerMachine
from labctl.protocols.settings import SessionSettings
from labctl.protocols.terms import Terms
from labctl.protocols.verification.doubts import EXACT, Doubts
from labctl.protocols.verification.verdict import Expectation, VerificationReport
from labctl.run.serving import run_facts
from labctl.station.equipment import ServerEquipment
from labctl.station.file import FrameTable

# How long a client may be silent between batches before its session ends.
IDLE_S = 600.0


@dataclass(frozen=True)
class ServerHost:
    """The server's half of a bench, open, and what it offers.

    ledger: the server's own. knowledge: of its constants, by calibration. run_file: named in the
    ledger's entries. on_step: called with the name of each step of an alignment; on_batch: with how
    many queries a batch had, and the verdict after it.
    """

    offer: Offer
    equipment: ServerEquipment
    frame: FrameTable
    ledger: Ledger
    knowledge: Knowledge = NOTHING
    run_file: Path = Path()
    on_step: Callable[[str], None] = lambda step: None
    on_batch: Callable[[int, VerificationReport], None] = lambda queries, report: None

    def serve(self, client: str, talk: Talk) -> None:
        """Serve one session of a client, by the name that its certificate has.

        Any error has ended the session first, with what the client may know of it.
        """
        try:
            self._serve(client, talk)
        except BudgetError as refusal:
            talk.abort(AbortCode.BUDGET, str(refusal))
            raise
        except ProtocolError as refusal:
            talk.abort(AbortCode.PROTOCOL, str(refusal))
            raise
        except LabctlError:
            # What is wrong with the server's instruments is its own.
            talk.abort(AbortCode.SAFETY, "the server's bench failed")
            raise
        except BaseException:
            talk.abort(AbortCode.OPERATOR, "the server was stopped")
            raise

    def _serve(self, client: str, talk: Talk) -> None:
        hello = talk.receive()
        if not isinstance(hello, Hello):
            raise ProtocolError("server", "new", f"{type(hello).__name__} came before Hello")
        facts = require_same_bench(hello, self.frame)
        settings = self.offer.settings(self.equipment.constants, facts)
        machine, books = self._begun(client, settings)
        answer = machine.receive(hello)
        assert answer is not None
        talk.send(answer)
        sender = BenchSender(
            self.equipment,
            self.frame,
            mean_photons=settings.light.mean_photons,
            seed=settings.seed,
            on_raw=None,
            on_step=self.on_step,
        )
        booking = _Booking(self, machine, sender, books)
        session = ServerSession(
            machine,
            sender,
            talk,
            booking,
            lo_excess_noise=lo_excess_noise(self.knowledge),
            on_step=self.on_step,
        )
        try:
            session.run()
        finally:
            booking.close()

    def _begun(self, client: str, settings: SessionSettings) -> tuple[ServerMachine, ServerBooks]:
        """Return the session's machine, and what books it on the client's account."""
        network = self.offer.network
        server = honest_server(network, settings, key=new_key())
        machine = ServerMachine(server, settings, one_by_one=True, gain=self.offer.gain)
        about = run_facts(
            machine.verifier,
            network,
            settings,
            link="two parties",
            run_file=self.run_file,
            worst_case=Basis.EVERYTHING,
        )
        books = ServerBooks(self.ledger, client, about)
        machine.verifier.history = books.history()
        machine.terms = self._terms(settings, machine, books)
        return machine, books

    def _terms(
        self, settings: SessionSettings, machine: ServerMachine, books: ServerBooks
    ) -> Terms:
        balance = self.ledger.balance(books.account)
        state = books.state()
        limit = balance.limits.values().get(Meter.WEIGHT_BITS)
        shapes = machine.server.shapes
        return Terms(
            model=self.offer.network.name,
            model_sha256=self.offer.network.sha256,
            signal_to_noise=min(settings.signal_to_noise_of(shape.modes) for shape in shapes),
            disguise=settings.light.disguise,
            sampling=settings.sampling,
            verification=settings.verification,
            assumptions=settings.assumptions,
            queries_left=state["queries_left"],
            bits_per_weight_left=None
            if limit is None
            else max(limit - balance.taken.value(Meter.WEIGHT_BITS), 0.0),
            deadline_s=IDLE_S,
        )


class _Booking:
    """The ledger's side of a session: reserve a batch, note its light, book what came back."""

    def __init__(
        self, host: ServerHost, machine: ServerMachine, sender: BenchSender, books: ServerBooks
    ) -> None:
        self._host, self._machine, self._sender, self._books = host, machine, sender, books
        self._batch: ServerBatch | None = None
        self._noted: Callable[[int], None] = lambda queries: None

    def begin(self, queries: int) -> None:
        """Reserve for a batch; raises BudgetError."""
        self._batch = self._books.reserve(queries)
        self._noted = self._batch.noted()

    def light(self, queries: int) -> None:
        """Note how many queries of the batch have been sent once the light has left."""
        self._noted(queries)

    def end(self, queries: int) -> VerificationReport:
        """Book the batch by what came back, and return the verdict on all light so far."""
        verifier, expected = self._machine.verifier, self._expectation()
        report = verifier.verdict(expected)
        assert self._batch is not None
        evidence = self._machine.server.own_evidence
        self._batch.book(report, verifier.record(expected), evidence, expected.doubts)
        self._batch = None
        self._host.on_batch(queries, report)
        return report

    def close(self) -> None:
        """Book at the worst case what was not booked."""
        if self._batch is not None:
            self._batch.close()

    def _expectation(self) -> Expectation:
        constants, knowledge = self._host.equipment.constants, self._host.knowledge
        honest = self._machine.verifier.expectation()
        return bench_expectation(honest, self._doubts(), knowledge, constants)

    def _doubts(self) -> Doubts:
        level, calibration = self._sender.level, self._machine.verifier.calibration
        if level is None or calibration is None:
            return EXACT
        host = self._host
        return bench_doubts(level, calibration, host.knowledge, host.equipment.constants)
