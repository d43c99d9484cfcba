"""A server's station with its offer: serves one client after the other, each on its own account."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from labctl.calibration.knowledge import NOTHING, Knowledge
from labctl.data.run_writer import RunFileWriter, ending
from labctl.data.session_record import SessionRecord
from labctl.errors import AbortedError, IdentityError, ProtocolError
from labctl.parties.lease import Lease, Turn
from labctl.parties.offer import LINK, Offer, new_seed, require_same_bench
from labctl.parties.parked import ParkedSessions, Served
from labctl.parties.server_session import ServerSession
from labctl.parties.talk import Talk, ended_by_errors
from labctl.party import Party
from labctl.protocols.bench_doubts import bench_doubts, bench_expectation, lo_excess_noise
from labctl.protocols.disguise import new_key
from labctl.protocols.leakage import Leakage, spectrum_of
from labctl.protocols.ledger.amounts import Meter
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.charges import Basis
from labctl.protocols.ledger.server_books import ServerBatch, ServerBooks
from labctl.protocols.messages import AbortCode, Hello
from labctl.protocols.server.bench_sender import BenchSender
from labctl.protocols.server.disguised import honest_server
from labctl.protocols.server.machine import ServerMachine
from labctl.protocols.server.plain import Server
from labctl.protocols.settings import SessionSettings
from labctl.protocols.terms import Terms
from labctl.protocols.verification.doubts import EXACT, Doubts
from labctl.protocols.verification.verdict import Expectation, VerificationReport
from labctl.run.figures import cumulative_of
from labctl.run.inference import versions
from labctl.run.report import account_record, finite, leakage_json, verification_json
from labctl.run.serving import light_factor, run_facts
from labctl.station.equipment import ServerEquipment
from labctl.station.file import FrameTable

# How long a client may be silent between batches before its session ends.
IDLE_S = 600.0


@dataclass(frozen=True)
class Caller:
    """Who a client is by its certificate: its name, and the SHA-256 of its public key."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class ServerHost:
    """The server's half of a bench, open, and what it offers.

    ledger: the server's own. runs: folder of its run files. station_text: of its station file,
    secrets masked. knowledge: of its constants, by calibration. lease: who has the light. on_step:
    called with the name of each step of an alignment; on_batch: with client, how many queries a
    batch had, and the verdict after it; on_end: when a session is over that had a run file; one
    that is lost and kept is not.
    """

    offer: Offer
    equipment: ServerEquipment
    frame: FrameTable
    ledger: Ledger
    runs: Path
    station_text: str | None = None
    knowledge: Knowledge = NOTHING
    lease: Lease = field(default_factory=Lease)
    _parked: ParkedSessions = field(default_factory=ParkedSessions, init=False)
    on_step: Callable[[str], None] = lambda step: None
    on_batch: Callable[[str, int, VerificationReport], None] = lambda client, queries, report: None
    on_end: Callable[[], None] = lambda: None

    def serve(self, client: Caller, talk: Talk) -> Path:
        """Serve one session of a client; return its run file.

        Any error has ended the session first, with what the client may know of it; but one that was
        lost between two queries is kept, for a talk that resumes it.
        """
        with ended_by_errors(talk, Party.SERVER):
            self._require_own_key(client)
            served = self._parked.take(talk.session) if talk.resumes else self._begun(client, talk)
            if served is None:
                raise ProtocolError("server", "lost", "the session is not kept any more")
            served.session.talk = talk
            return self._run(served)

    def expire(self) -> None:
        """End the sessions that were lost and not resumed in time."""
        self._parked.expire()

    def close(self) -> None:
        """End all sessions that were lost and not resumed."""
        self._parked.close()

    def _run(self, served: Served) -> Path:
        """Run a session; emission is off before its run file and account are ended."""
        try:
            try:
                served.session.run()
            finally:
                self._dark(served.session.turn)
        except AbortedError as lost:
            if lost.code == AbortCode.PEER_LOST and served.session.talk.ticket() is not None:
                self._parked.keep(served)
            else:
                served.end(lost)
            raise
        except BaseException as error:
            served.end(error)
            raise
        served.end(None)
        return served.path

    def _dark(self, turn: Turn) -> None:
        """Switch emission off and give the light back; it is left to others who have it by now."""
        if turn.use():
            try:
                self.equipment.laser.set_emission(False)
            finally:
                turn.leave()

    def _require_own_key(self, client: Caller) -> None:
        """Raise IdentityError where the ledger knows the name by another key."""
        bound = self.ledger.client_key(client.name) if self.ledger.exists else None
        if bound is not None and bound != client.fingerprint:
            raise IdentityError(
                f"client {client.name} is bound to the key {bound[:16]} in the ledger; its "
                f"certificate has {client.fingerprint[:16]}"
            )

    def _begun(self, client: Caller, talk: Talk) -> Served:
        """Greet a client, and return its session."""
        hello = talk.receive()
        if not isinstance(hello, Hello):
            raise ProtocolError("server", "new", f"{type(hello).__name__} came before Hello")
        facts = require_same_bench(hello, self.frame)
        settings = self.offer.settings(self.equipment.constants, facts)
        writer = self._run_file(settings)
        try:
            machine, books = self._accounted(client, settings, writer.path)
            answer = machine.receive(hello)
            assert answer is not None
            talk.send(answer)
        except BaseException as error:
            writer.end(*ending(error))
            self.on_end()
            raise
        booking = _Booking(self, client.name, machine, books, writer)
        session = ServerSession(
            machine,
            self.lease.turn(client.name),
            booking.new_turn,
            talk,
            booking,
            lo_excess_noise=lo_excess_noise(self.knowledge),
            on_step=self.on_step,
        )

        def end(error: BaseException | None) -> None:
            try:
                booking.close()
                writer.set_session(self._record(client, session, books))
            except BaseException as last:
                error = error or last
                raise
            finally:
                writer.end(*ending(error))
                self.on_end()

        return Served(session, writer.path, end)

    def _record(self, client: Caller, session: ServerSession, books: ServerBooks) -> SessionRecord:
        return SessionRecord(
            id=session.talk.session.hex(),
            kind="two-party",
            client=client.name,
            client_identity="certificate",
            client_fingerprint=client.fingerprint,
            account=account_record(books.state()),
            server_ledger_head=self.ledger.head().hash,
            transcript_sha256=session.talk.transcript.hex(),
        )

    def _run_file(self, settings: SessionSettings) -> RunFileWriter:
        about = {**asdict(settings), "link": LINK}
        return RunFileWriter.start(
            self.runs,
            "serve",
            settings=about,
            station_text=self.station_text,
            model=self.offer.network,
            versions=versions(),
            seed=settings.seed,
            party=Party.SERVER,
        )

    def _accounted(
        self, client: Caller, settings: SessionSettings, run_file: Path
    ) -> tuple[ServerMachine, ServerBooks]:
        """Return the session's machine, and what books it on the client's account."""
        network = self.offer.network
        server = self._server(settings)
        machine = ServerMachine(server, settings, one_by_one=True, gain=self.offer.gain)
        about = run_facts(
            machine.verifier,
            network,
            settings,
            link=LINK,
            run_file=run_file,
            worst_case=Basis.EVERYTHING,
        )
        books = ServerBooks(self.ledger, client.name, about)
        machine.verifier.history = books.history()
        machine.terms = self._terms(settings, machine, books)
        return machine, books

    def _server(self, settings: SessionSettings) -> Server:
        return honest_server(self.offer.network, settings, key=new_key())

    def _sender(self, settings: SessionSettings) -> BenchSender:
        """Return a sender of one turn, whose bases are drawn afresh."""
        return BenchSender(
            self.equipment,
            self.frame,
            mean_photons=settings.light.mean_photons,
            seed=new_seed(),
            on_raw=None,
            on_step=self.on_step,
        )

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
            batch_queries=self.offer.batch_queries,
        )


class _Booking:
    """The ledger's side of a session: reserve a batch, note its light, book what came back.

    Each turn has its own evidence, as it has its own calibration; the account's history joins them.
    """

    def __init__(
        self,
        host: ServerHost,
        client: str,
        machine: ServerMachine,
        books: ServerBooks,
        writer: RunFileWriter,
    ) -> None:
        self._host, self._client, self._machine = host, client, machine
        self._sender: BenchSender | None = None
        self._books, self._writer, self._answered = books, writer, 0
        self._batch: ServerBatch | None = None
        self._noted: Callable[[int], None] = lambda queries: None

    def new_turn(self) -> BenchSender:
        """Return the sender of a turn that begins."""
        host, machine = self._host, self._machine
        if self._sender is not None:
            machine.begin_turn(host._server(machine.settings), self._books.begin_turn())
        self._sender = host._sender(machine.settings)
        return self._sender

    def begin(self, queries: int) -> None:
        """Reserve for a batch; raises BudgetError."""
        # Known now that the light is set: what nobody looks at counts as it was at most.
        facts, failure = self._books.facts, self._machine.settings.verification.failure_probability
        doubts = self._doubts()
        factor = light_factor(doubts, failure)
        self._books.facts = replace(facts, light_factor=factor, doubts=doubts)
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
        self._written(queries, report)
        self._host.on_batch(self._client, queries, report)
        return report

    def _written(self, queries: int, report: VerificationReport) -> None:
        """Write what came back of a batch to the run file."""
        for index, evidence in enumerate(self._machine.server.own_evidence):
            sums = evidence.take_sums()
            if len(sums):
                self._writer.append_raw("evidence", f"layer{index}", sums)
        self._writer.append_queries(self._answered, queries)
        self._answered += queries
        self._writer.set_verification(verification_json(report))
        together = cumulative_of(
            self._machine.verifier,
            self._machine.settings,
            report,
            self._answered,
            self._books.facts.light_factor,
        )
        leakage = leakage_json(self._leakage, queries=self._answered)
        self._writer.set_leakage({**leakage, "cumulative": finite(together.as_json())})

    @cached_property
    def _leakage(self) -> Leakage:
        """Of the settings, which all batches have in common."""
        return self._machine.verifier.leakage(spectrum_of(self._host.offer.network))

    def close(self) -> None:
        """Book at the worst case what was not booked."""
        if self._batch is not None:
            self._batch.close()

    def _expectation(self) -> Expectation:
        constants, knowledge = self._host.equipment.constants, self._host.knowledge
        honest = self._machine.verifier.expectation()
        return bench_expectation(honest, self._doubts(), knowledge, constants)

    def _doubts(self) -> Doubts:
        level = None if self._sender is None else self._sender.level
        calibration = self._machine.verifier.calibration
        if level is None or calibration is None:
            return EXACT
        host = self._host
        return bench_doubts(level, calibration, host.knowledge, host.equipment.constants)
