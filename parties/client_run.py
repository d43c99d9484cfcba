"""A client's station and its images: one session with a server, from the greeting to the close."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labctl.data.mnist import LabelledImages
from labctl.data.models import PublicModel
from labctl.data.run_writer import RunFileWriter
from labctl.data.session_record import SessionRecord
from labctl.errors import AbortedError, ProtocolError
from labctl.parties.client_session import ClientSession
from labctl.parties.offer import LINK, facts_of, frame_sha256
from labctl.parties.seals import Ticket
from labctl.parties.talk import Talk, batch_too_long, ended_by_errors
from labctl.party import Party
from labctl.protocols.client.machine import ClientMachine
from labctl.protocols.client.own_laser_receiver import bench_receiver
from labctl.protocols.leakage import Assumptions, Leakage, Trust, leakage_of
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.client_books import ClientBooks
from labctl.protocols.messages import Verdict, Welcome
from labctl.run.inference import versions
from labctl.run.report import finite
from labctl.station.equipment import ClientEquipment
from labctl.station.file import ClientConstants, FrameTable

Labels = npt.NDArray[np.integer]


@dataclass
class ClientResult:
    """What a session came to at the client.

    classes: of the images, in order. right: how many of them are as labelled. verdict: the server's
    last one. transcript: SHA-256 of all that was said, once both have signed it. phase_rad2: to
    what variance a client with its own laser knew the phases of its values; None with the server's
    light.
    """

    agreed: Welcome
    run_file: Path
    classes: list[int] = field(default_factory=list)
    right: int = 0
    verdict: Verdict | None = None
    transcript: str = ""
    phase_rad2: float | None = None

    def add(self, labels: Labels, classes: Labels, verdict: Verdict) -> None:
        """Count a batch."""
        self.classes += classes.tolist()
        self.right += int(np.count_nonzero(labels == classes))
        self.verdict = verdict


@dataclass(frozen=True)
class ClientRun:
    """The client's half of a bench, open, and its ledger.

    runs: folder of its run files. station_text: of its station file, secrets masked. seed: of the
    places of modes. on_step: called with the name of each step of an alignment; on_batch: with how
    many images a batch had, and the server's verdict after it. again: connects again for a
    session that was lost between two queries; None: it is over then.
    """

    equipment: ClientEquipment
    frame: FrameTable
    ledger: Ledger
    runs: Path
    station_text: str | None = None
    seed: int = field(default_factory=lambda: secrets.randbits(63))
    on_step: Callable[[str], None] = lambda step: None
    on_batch: Callable[[int, Verdict], None] = lambda images, verdict: None
    again: Callable[[Ticket], AbstractContextManager[Talk]] | None = None

    def classify(
        self, talk: Talk, images: LabelledImages, *, batch_images: int = 1
    ) -> ClientResult:
        """Have a server classify images, batch by batch; return what was found.

        A verdict that rejects ends the session after its batch. Any error has ended it first.
        """
        with ExitStack() as talks:
            talks.enter_context(_ended_by_errors(talk))
            return self._classify(talk, images, batch_images, talks)

    def _classify(
        self, talk: Talk, images: LabelledImages, batch_images: int, talks: ExitStack
    ) -> ClientResult:
        session = self._begun(talk)
        agreed = session.machine.agreed
        longest, terms = min(batch_images, len(images.labels)), agreed.terms
        if terms is not None and longest > terms.batch_queries:
            raise batch_too_long(Party.CLIENT, longest, terms)
        with self._run_file(agreed) as writer:
            result = ClientResult(agreed, writer.path)
            session.prepare()
            leakage = leakage_to_server(agreed, self.equipment.constants)
            assumed = leakage.assumptions
            writer.set_leakage(
                {
                    "assumptions": {
                        "loss": str(assumed.loss),
                        "technical_noise": str(assumed.technical_noise),
                        "in_words": list(assumed.sentences()),
                    }
                }
            )
            books = ClientBooks(self.ledger, leakage, agreed.shapes[0].rows, str(writer.path))
            for first in range(0, len(images.labels), batch_images):
                part = slice(first, first + batch_images)
                self._mend(session, talks)
                batch = books.reserve(images.images[part])
                try:
                    batch.noted()(len(images.labels[part]))
                    answers, verdict = session.classify(images.images[part])
                    batch.book()
                finally:
                    batch.close()
                labels = images.labels[part]
                writer.append_results(first, labels, answers.classes, answers.measured)
                writer.set_verification(finite(asdict(verdict)))
                result.add(labels, answers.classes, verdict)
                result.phase_rad2 = session.receiver.phase_rad2()
                self.on_batch(len(labels), verdict)
                if verdict.accepted is False:
                    with suppress(AbortedError):
                        session.talk.receive()  # the server ends the session now, for this reason
                    break
            else:
                self._mend(session, talks)
                session.close()
            result.transcript = session.talk.transcript.hex()
            writer.set_session(self._about(session.talk))
        return result

    def _mend(self, session: ClientSession, talks: ExitStack) -> None:
        """Go on over another talk where the server was lost since the last query."""
        ticket = session.talk.ticket() if session.talk.gone else None
        if ticket is None or self.again is None:
            return
        self.on_step("the server was lost between two queries: connect again")
        session.talk = talks.enter_context(self.again(ticket))
        talks.enter_context(_ended_by_errors(session.talk))

    def _about(self, talk: Talk) -> SessionRecord:
        return SessionRecord(
            id=talk.session.hex(),
            kind="two-party",
            client_ledger_head=self.ledger.head().hash,
            transcript_sha256=talk.transcript.hex(),
        )

    def _run_file(self, agreed: Welcome) -> RunFileWriter:
        terms = agreed.terms
        if terms is None:
            raise ProtocolError(
                "client", "agreed", "the server does not say on what terms it sends"
            )
        public = PublicModel(terms.model, terms.model_sha256, agreed.sizes)
        about = {
            "link": LINK,
            "mean_photons": agreed.mean_photons,
            "gain": agreed.gain,
            "terms": asdict(terms),
            "receiver": asdict(facts_of(self.equipment.constants, self.frame)),
        }
        return RunFileWriter.start(
            self.runs,
            "ask",
            settings=about,
            station_text=self.station_text,
            model=public,
            versions=versions(),
            seed=self.seed,
            party=Party.CLIENT,
        )

    def _begun(self, talk: Talk) -> ClientSession:
        """Greet the server, and return the session that both agree on."""
        constants = self.equipment.constants
        machine = ClientMachine(
            block_modes=constants.block_modes,
            receiver=facts_of(constants, self.frame),
            frame_sha256=frame_sha256(self.frame),
        )
        talk.send(machine.hello())
        machine.receive(talk.receive())
        gain = machine.agreed.gain
        if gain is None:
            raise ProtocolError("client", "greeted", "the server does not say which gain it wants")
        receiver = bench_receiver(self.equipment, self.frame, gain=gain, seed=self.seed)
        return ClientSession(machine, receiver, talk, self.on_step)


def _ended_by_errors(talk: Talk) -> AbstractContextManager[None]:
    spent = "the client's own budget is spent"
    return ended_by_errors(talk, Party.CLIENT, on_budget=spent)


def leakage_to_server(agreed: Welcome, constants: ClientConstants) -> Leakage:
    """Return what an honest client's light leaks, as the client knows it: no loss on the way."""
    assert agreed.gain is not None
    untrusted = Assumptions(loss=Trust.UNTRUSTED, technical_noise=Trust.UNTRUSTED)
    return leakage_of(
        agreed.shapes,
        mean_photons=agreed.mean_photons,
        gain=agreed.gain,
        transmittance=1.0,
        technical_noise=0.0,
        assumptions=untrusted if agreed.terms is None else agreed.terms.assumptions,
        emission_factor=constants.emission_factor,
    )
