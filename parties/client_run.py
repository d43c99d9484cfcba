"""A client's station and its images: one session with a server, from the greeting to the close."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import BudgetError, LabctlError, ProtocolError
from labctl.parties.client_session import ClientSession
from labctl.parties.offer import facts_of, frame_sha256
from labctl.parties.talk import Talk
from labctl.protocols.client.bench_receiver import BenchReceiver
from labctl.protocols.client.machine import Answers, ClientMachine
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, Leakage, Trust, leakage_of
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.client_books import ClientBooks
from labctl.protocols.messages import AbortCode, Verdict, Welcome
from labctl.station.equipment import ClientEquipment
from labctl.station.file import ClientConstants, FrameTable


@dataclass(frozen=True)
class ClientRun:
    """The client's half of a bench, open, and its ledger.

    seed: of the places of modes, drawn by default. most_photons: per mode and query that the client
    lets a server send. run_file: named in the ledger's entries. on_step: called with the name of
    each step of an alignment.
    """

    equipment: ClientEquipment
    frame: FrameTable
    ledger: Ledger
    seed: int
    run_file: Path = Path()
    on_step: Callable[[str], None] = lambda step: None

    def classify(
        self, talk: Talk, images: Floats, *, batch_images: int = 1
    ) -> Iterator[tuple[int, Answers, Verdict]]:
        """Have a server classify images (B, N); yields first image, answers and verdict by batch.

        Any error has ended the session first. Leaving the iterator early aborts it.
        """
        try:
            session = self._begun(talk)
            session.prepare()
            books = self._books(session.machine.agreed)
            for first in range(0, len(images), batch_images):
                part = images[first : first + batch_images]
                batch = books.reserve(part)
                try:
                    batch.noted()(len(part))
                    answers, verdict = session.classify(part)
                    batch.book()
                finally:
                    batch.close()
                yield first, answers, verdict
            session.close()
        except BudgetError as refusal:
            talk.abort(AbortCode.BUDGET, "the client's own budget is spent")
            raise refusal
        except ProtocolError as refusal:
            talk.abort(AbortCode.PROTOCOL, str(refusal))
            raise
        except LabctlError:
            # What is wrong with the client's instruments is its own.
            talk.abort(AbortCode.SAFETY, "the client's bench failed")
            raise
        except BaseException:
            talk.abort(AbortCode.OPERATOR, "the client was stopped")
            raise

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
        receiver = BenchReceiver(self.equipment, self.frame, gain=gain, seed=self.seed)
        return ClientSession(machine, receiver, talk, self.on_step)

    def _books(self, agreed: Welcome) -> ClientBooks:
        leakage = leakage_to_server(agreed, self.equipment.constants)
        return ClientBooks(self.ledger, leakage, agreed.shapes[0].rows, str(self.run_file))


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
