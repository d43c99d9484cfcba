"""One run in both parties' ledgers, as where one program plays both.

The parts are `server_books` and `client_books`; together they reserve for a batch, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labctl.errors import BudgetError, IdentityError, LabctlError
from labctl.protocols.encoding import Floats
from labctl.protocols.ledger.accounts import Balance, Party, weights_account
from labctl.protocols.ledger.admission import PossessionProof, unbound
from labctl.protocols.ledger.amounts import Meter, Values
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.client_books import ClientBatch, ClientBooks
from labctl.protocols.ledger.run_facts import RunFacts
from labctl.protocols.ledger.server_books import ServerBatch, ServerBooks
from labctl.protocols.ledger.signing import SigningKey
from labctl.protocols.verification.collective_record import CollectiveRecord
from labctl.protocols.verification.doubts import EXACT, Doubts
from labctl.protocols.verification.evidence import LayerEvidence
from labctl.protocols.verification.verdict import VerificationReport
from labctl.safety import uninterrupted


@dataclass(frozen=True)
class Ledgers:
    """The two parties' ledgers, and the client's name at the server."""

    server: Ledger
    client: Ledger
    name: str

    @classmethod
    def in_folder(cls, folder: Path, name: str, *, operator_keys: Path | None = None) -> Ledgers:
        """Return both ledgers in one folder, as where one laboratory plays both parties."""
        server = Ledger(folder, Party.SERVER, operator_keys=operator_keys)
        return cls(server, Ledger(folder, Party.CLIENT), name)

    def admit(self, model_sha256: str, key: SigningKey | None) -> None:
        """Have the client prove that it holds the key that its name is bound to.

        Nothing is asked of a name that is bound to none. Raises IdentityError for a missing,
        another or an unneeded key, SettingError for a name that no account can have.
        """
        account = weights_account(self.name, model_sha256)
        bound = self.server.client_key(self.name) if self.server.exists else None
        if bound is None and key is not None:
            raise IdentityError(unbound(self.name))
        if bound is not None and key is None:
            raise IdentityError(
                f"client {self.name} is bound to the key {bound[:16]} in {self.server.folder}: "
                "--client-key FILE with its private key"
            )
        if key is not None:
            self.server.admit(account, PossessionProof.of(self.server.challenge(account), key))

    def allow(
        self, model_sha256: str, bits_per_weight: float, operator: SigningKey | None = None
    ) -> None:
        """Set the account's budget in bits per real weight; its other limits stay.

        Raises IdentityError where that raises it and the operator's key is not given.
        """

        def changed(own: Balance) -> Values:
            kept = {meter: own.limits.value(meter) for meter in own.limits.units}
            return {**kept, Meter.WEIGHT_BITS: bits_per_weight}

        account = weights_account(self.name, model_sha256)
        self.server.set_budget(account, changed, operator=operator)


@dataclass
class RunLedger:
    """Books one run, batch by batch, on the server's account and on those of the inputs.

    client_file: the client's run file, which its ledger names; that of `facts` if there is none.
    """

    ledgers: Ledgers
    facts: RunFacts
    client_file: str | None = None

    def __post_init__(self) -> None:
        facts = self.facts
        self.server = ServerBooks(self.ledgers.server, self.ledgers.name, facts)
        self.client = ClientBooks(
            self.ledgers.client, facts.leakage, facts.rows, self.client_file or facts.run_file
        )

    @property
    def account(self) -> str:
        """The server's account of the client."""
        return self.server.account

    def fitting(self, images: Floats) -> int:
        """Return how many of the images, from the first on, fit all budgets now."""
        most = self.server.queries_left(len(images))
        return self.client.fitting(images[:most])

    @contextmanager
    def sending(self, images: Floats, *, or_fewer: bool = False) -> Iterator[SentBatch]:
        """Reserve for a batch of images in both ledgers, before the block sends their light.

        Left without `SentBatch.book`, the batch counts at its worst case. `or_fewer`: the first of
        the images that fit, at least one; `SentBatch.queries` says how many. Raises BudgetError if
        they do not fit a budget; then nothing stays reserved.
        """
        batch = None
        try:
            with uninterrupted():
                batch = self._reserve_fitting(images) if or_fewer else self._reserve(images)
        except BaseException:
            if batch is not None:
                batch.release("interrupted before light was sent")
            raise
        try:
            yield batch
        finally:
            batch.close()

    @contextmanager
    def repeating(self, images: Floats) -> Iterator[None]:
        """Book images in the client's ledger alone, around the block that sends their light.

        For queries that carry none of the network's weights: they tell the server of the data as
        any other. Raises BudgetError if they do not fit a budget; then no light must be sent.
        """
        with uninterrupted():
            batch = self.client.reserve(images)
        try:
            yield
        finally:
            about = {"why": "a query with worthless weights"}
            batch.reserved.commit(batch.reserved.worst_case, about)

    def _reserve_fitting(self, images: Floats) -> SentBatch:
        while True:
            # Where not even one image fits, asking for one says why.
            count = self.fitting(images) or 1
            try:
                return self._reserve(images[:count])
            except BudgetError:
                # Another process took of the budget between the look and the reservation.
                if count == 1:
                    raise
                images = images[: count - 1]

    def _reserve(self, images: Floats) -> SentBatch:
        server = self.server.reserve(len(images))
        try:
            client = self.client.reserve(images)
        except LabctlError:
            server.release("the client's ledger refused: no light was sent")
            raise
        return SentBatch(server, client)


@dataclass
class SentBatch:
    """A batch whose worst case is reserved in both ledgers."""

    server: ServerBatch
    client: ClientBatch

    @property
    def queries(self) -> int:
        """How many queries it is of."""
        return self.server.queries

    def noted(self) -> Callable[[int], None]:
        """Return what has to be called before light leaves; see `ServerBatch.noted`."""
        notes = [self.server.noted(), self.client.noted()]

        def begins(count: int) -> None:
            for note in notes:
                note(count)

        return begins

    def book(
        self,
        verdict: VerificationReport,
        record: CollectiveRecord | None = None,
        evidence: Sequence[LayerEvidence] = (),
        doubts: Doubts = EXACT,
    ) -> None:
        """Book the batch: the weights by what came back, see `ServerBatch.book`, the data whole."""
        with uninterrupted():
            looked = self.server.looked_at(record, evidence, doubts)
            self.client.book()
            self.server.commit_seen(verdict, looked=looked)

    def release(self, reason: str) -> None:
        """Free everything; only if no light was sent."""
        self.client.release(reason)
        self.server.release(reason)

    def close(self) -> None:
        """Book at the worst case what was not booked: light may have been sent."""
        with uninterrupted():
            self.client.close()
            self.server.close()
