"""One run's dealings with the ledgers: reserve before light is sent, book what came back.

What one more query can tell depends on all light before it. Reserved is what the account's bound
rises by if the client keeps all of the new light; booked is what the bound has risen by once it is
known what came back, and never more than was reserved, because both bounds hold.

Where a reservation takes the client at its word, only the light of its own queries does: what
light before it is owed counts at the bound, also that of runs which were killed. A query that
never happened may have replaced what others were charged less; it leaves that behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from labctl.errors import BudgetError, IdentityError, LabctlError, SettingError
from labctl.protocols.copies.figure import CopyFigure
from labctl.protocols.copies.table import Order
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, LayerShape, Leakage
from labctl.protocols.ledger.accounts import Balance, Party, input_account, weights_account
from labctl.protocols.ledger.admission import NAME_ALONE, PossessionProof, unbound
from labctl.protocols.ledger.amounts import UNITS_PER_ONE, Amounts, Meter, Values
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.charges import (
    COMPOSITION_OF_DATA,
    COMPOSITION_OF_WEIGHTS,
    COUNTED_ADDITIVELY,
    Basis,
    WeightCharge,
    data_charge,
    modes_of,
    times,
)
from labctl.protocols.ledger.collective_store import CollectiveStore, LightTerms
from labctl.protocols.ledger.copy_account import CopyBudget, CopyMeans, with_copies
from labctl.protocols.ledger.cumulative_account import CumulativeAccount
from labctl.protocols.ledger.further import COUNTLESS, QueryTerms
from labctl.protocols.ledger.open_query import OpenQuery
from labctl.protocols.ledger.signing import SigningKey
from labctl.protocols.ledger.state import Worst
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


@dataclass(frozen=True)
class RunFacts:
    """What a run's entries say of it.

    `worst_case`: what is reserved of the weights, everything or an honest client's share; the
    latter may turn out to be less than what is booked, which can overdraw an account by a batch.
    `carriers`: quadratures of a query that carry one weight, at most. `technical_noise` of the link
    in SNU, `link_transmittance` as calibrated: what the bounds may trust. `doubts` of a bench are
    known when light was sent: `SentBatch.book` takes them.
    `copies`: what a query leaves to a thief of copies, None if nobody can say.
    """

    model_sha256: str
    shapes: tuple[LayerShape, ...]
    mean_photons: float
    leakage: Leakage
    settings: Mapping[str, Any]
    run_file: str
    worst_case: Basis = Basis.EVERYTHING
    carriers: int = 1
    technical_noise: float = 0.0
    link_transmittance: float = 1.0
    failure_probability: float = 1e-10
    copies: CopyMeans | None = None

    def __post_init__(self) -> None:
        if self.worst_case is Basis.COLLECTIVE:
            raise SettingError(
                "worst_case", str(self.worst_case), "everything or honest: bounds come after light"
            )

    @property
    def assumptions(self) -> Assumptions:
        """What the figures assume of loss and technical noise."""
        return self.leakage.assumptions

    @property
    def rows(self) -> int:
        """Rows M of the layer that carries the input itself."""
        return self.shapes[0].rows

    @property
    def light(self) -> float:
        """Photons per mode with which one query carries each weight, at most."""
        return self.carriers * self.mean_photons

    @property
    def terms(self) -> LightTerms:
        """How the run's light carries weights, and what it may trust."""
        return LightTerms(
            self.mean_photons,
            self.carriers,
            self.assumptions,
            technical_noise=self.technical_noise,
            link_transmittance=self.link_transmittance,
        )

    @property
    def query_terms(self) -> QueryTerms:
        """What decides how much each query of the run reserves."""
        return QueryTerms(
            light=self.light,
            modes=modes_of(self.shapes),
            worst_case=self.worst_case,
            honest_bits=self.leakage.weights_bits_per_real,
            failure_probability=self.failure_probability,
            copies=self.copies or CopyMeans(None, Order.FIXED),
        )

    def charge(self, queries: int, bits: float, failure_probability: float = 0.0) -> WeightCharge:
        """Return the charge of `queries` queries that leak `bits` per weight together."""
        modes = modes_of(self.shapes)
        return WeightCharge(queries, queries * self.light, bits, modes, failure_probability)

    def about(self, basis: Basis) -> dict[str, Any]:
        """Return what a server's entry says beside its amounts."""
        assumed = self.assumptions
        return {
            "basis": str(basis),
            "settings": dict(self.settings),
            "assumptions": {
                "loss": str(assumed.loss),
                "technical_noise": str(assumed.technical_noise),
                "in_words": [*assumed.sentences(), basis.words, COMPOSITION_OF_WEIGHTS],
            },
            "run_file": self.run_file,
            "query_terms": self.query_terms.as_json(),
        }


@dataclass
class RunLedger:
    """Books one run, batch by batch, on the server's account and on those of the inputs."""

    ledgers: Ledgers
    facts: RunFacts
    queries: int = 0
    charged: dict[Meter, float] = field(default_factory=dict)
    basis: Basis | None = None

    def __post_init__(self) -> None:
        self.account = weights_account(self.ledgers.name, self.facts.model_sha256)
        self.ledgers.server.start()
        self.store = CollectiveStore(self.ledgers.server.folder, self.ledgers.server.secret())
        self._kept = CollectiveRecord()
        self._secret = self.ledgers.client.secret()
        self._data = data_charge(self.facts.leakage, self.facts.rows)
        self.copies = CopyBudget(self.facts.model_sha256, self.facts.query_terms.copies)

    def inputs(self, images: Floats) -> list[str]:
        """Return the client's account of each image (B, N)."""
        return [input_account(image, self._secret) for image in images]

    def history(self) -> CollectiveRecord:
        """Return the sums by weight of what this client was sent before on the run's terms."""
        return self.store.load(self.account, self.facts.terms)

    def cumulative(self) -> CumulativeAccount:
        """Return the bound of the account's light as what came back shows it so far."""
        kept = self.store.kept(self.account)
        return CumulativeAccount(kept, self.facts.failure_probability)

    def worst(self, balance: Balance, queries: int) -> WeightCharge:
        """Return what `queries` more queries have to reserve, given the state of the account."""
        return self.facts.query_terms.worst(balance, self.cumulative(), queries)

    def fitting(self, images: Floats) -> int:
        """Return how many of the images, from the first on, fit all budgets now."""
        most = self._queries_left(len(images))
        accounts = self.inputs(images[:most])
        balances = self.ledgers.client.balances_of(set(accounts))
        seen: Counter[str] = Counter()
        for count, account in enumerate(accounts):
            seen[account] += 1
            fits = balances[account].fitting(Amounts.of(self._data))
            if fits is not None and fits < seen[account]:
                return count
        return most

    def _queries_left(self, most: int) -> int:
        """Return how many queries fit the account's budget if they are reserved together."""
        balance = self.ledgers.server.balance(self.account)
        return self.facts.query_terms.fitting(balance, self.cumulative(), self.copies, most)

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
        about = {"run_file": self.facts.run_file, "assumptions": [COMPOSITION_OF_DATA]}
        with uninterrupted():
            client = self.ledgers.client.reserve(self._of_inputs(images), about)
        try:
            yield
        finally:
            client.commit(client.worst_case, {"why": "a query with worthless weights"})

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
        queries = len(images)

        def worst(stands: Callable[[str], Balance]) -> Worst:
            balance = stands(self.account)
            # Under the ledger's lock: nobody else reserves between this look and the entry.
            self.copies.refuse_beyond(balance, queries)
            return {self.account: self.worst(balance, queries).values()}

        server = self.ledgers.server.reserve(worst, self.facts.about(self.facts.worst_case))
        try:
            about = {"run_file": self.facts.run_file, "assumptions": [COMPOSITION_OF_DATA]}
            client = self.ledgers.client.reserve(self._of_inputs(images), about)
        except LabctlError:
            self.free(server, "the client's ledger refused: no light was sent")
            raise
        return SentBatch(self, server, client, tuple(self.inputs(images)))

    def free(self, server: OpenQuery, reason: str) -> None:
        """Free a reservation of queries that never happened, but for what others owe without it."""
        bound, held = self.cumulative(), server.worst_case[self.account]

        def owed(stands: Callable[[str], Balance]) -> Worst:
            balance = stands(self.account)
            others = replace(balance, reserved=balance.reserved - Amounts.of(held))
            bits = bound.owed(others)
            if not bits > _ROUNDING_BITS:
                return {}
            return {self.account: self.facts.charge(0, bits).values()}

        server.release(reason, owed)

    def _of_inputs(self, images: Floats) -> dict[str, Values]:
        counts = Counter(self.inputs(images))
        return {account: times(self._data, count) for account, count in counts.items()}

    def keep(
        self, record: CollectiveRecord, evidence: Sequence[LayerEvidence], doubts: Doubts = EXACT
    ) -> bool:
        """Add what the run has read since the last time to the account's sums by weight.

        `record` of the whole run so far; `doubts` of the constants that it rests on. On disk when
        this returns; whether there was anything.
        """
        new = record.beyond(self._kept)
        if not new.queries:
            return False
        terms = replace(self.facts.terms, doubts=doubts)
        self.store.add(self.account, terms, new, evidence)
        self._kept = record
        return True

    def best_copy(self) -> CopyFigure:
        """Return the best copy of the account, all its queries so far counted."""
        return self.copies.figure(self.ledgers.server.balance(self.account))

    def state(self) -> dict[str, Any]:
        """Return what a report says of the ledger: this run's charge, and the account's balance."""
        balance = self.ledgers.server.balance(self.account)
        each = self.worst(balance, 1).values()
        left = self._queries_left(COUNTLESS)
        head = self.ledgers.server.head()
        return {
            "folder": str(self.ledgers.server.folder),
            "client": self.ledgers.name,
            "identity": self.ledgers.server.client_key(self.ledgers.name) or NAME_ALONE,
            "model_sha256": self.facts.model_sha256,
            "queries": self.queries,
            "charged": {str(meter): value for meter, value in self.charged.items()},
            "basis": None if self.basis is None else str(self.basis),
            "basis_in_words": None if self.basis is None else self.basis.words,
            "reserved_per_query": {str(meter): value for meter, value in each.items()},
            "worst_case": str(self.facts.worst_case),
            "spent": balance.spent.values(),
            "reserved": balance.reserved.values(),
            "budget": balance.limits.values(),
            "overdrawn": balance.overdrawn,
            "queries_left": None if left == COUNTLESS else left,
            "counted_additively": additive_bits(balance),
            "composition": [*composition(balance), COMPOSITION_OF_DATA],
            "head": {"entries": head.count, "hash": head.hash},
        }


# Balances are kept in units of 1e-12, each charge rounded up.
_ROUNDING_BITS = 1e-9


def additive_bits(balance: Balance) -> float:
    """Return the bits per real weight that were booked query by query, before sums were kept."""
    taken = balance.taken
    units = taken.unit(Meter.WEIGHT_BITS) - taken.unit(Meter.CUMULATIVE_BITS)
    return max(units, 0) / UNITS_PER_ONE


def composition(balance: Balance) -> list[str]:
    """Return how the account's bits of weights were put together, in words."""
    words = [COMPOSITION_OF_WEIGHTS]
    additive = additive_bits(balance)
    if additive > 0.0:
        words.append(f"additive: {additive:.6g} bit per real weight {COUNTED_ADDITIVELY}")
    return words


@dataclass
class SentBatch:
    """A batch whose worst case is reserved in both ledgers."""

    run: RunLedger
    server: OpenQuery
    client: OpenQuery
    inputs: tuple[str, ...]

    @property
    def queries(self) -> int:
        """How many queries it is of."""
        return len(self.inputs)

    def noted(self) -> Callable[[int], None]:
        """Return what has to be called before light leaves, with how many queries were then sent.

        If this process is killed, both ledgers can be settled for no more than that.
        """
        notes = [
            self.server.noted([self.run.account] * self.queries),
            self.client.noted(self.inputs),
        ]

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
        """Book the batch: the weights by what came back of the run so far, the data as reserved.

        `record` and `evidence` of the run so far, `doubts` of the bench's constants; without a
        record nobody looked, and all light of the batch counts as kept.
        """
        run, facts = self.run, self.run.facts
        with uninterrupted():
            looked = record is not None and run.keep(record, evidence, doubts)
            about = {"run_file": facts.run_file, "verdict": _verdict(verdict)}
            self.client.commit(self.client.worst_case, {"run_file": facts.run_file})
            self._commit(looked=looked, passed=looked and verdict.accepted is True, about=about)

    def release(self, reason: str) -> None:
        """Free everything; only if no light was sent."""
        self.client.release(reason)
        self.run.free(self.server, reason)

    def close(self) -> None:
        """Book at the worst case what was not booked: light may have been sent."""
        about = {"why": "the batch ended before it was booked: light may have been sent"}
        with uninterrupted():
            if self.client.is_open:
                self.client.commit(self.client.worst_case, about)
            if self.server.is_open:
                self._commit(looked=False, passed=False, about=about)

    def _commit(self, *, looked: bool, passed: bool, about: Mapping[str, Any]) -> None:
        """Book the weights; what a thief of copies had is known only of light that `passed`."""
        run, facts = self.run, self.run.facts
        reserved = self.server.worst_case[run.account][Meter.CUMULATIVE_BITS]
        capped = facts.worst_case is Basis.EVERYTHING
        bound = run.cumulative()

        def charge(stands: Callable[[str], Balance]) -> Worst:
            bits = bound.charge(stands(run.account), reserved)
            # What was reserved is a bound too: of all light as stated, this batch's as kept.
            exact = bound.light_factor == 1.0
            bits = min(bits, reserved) if capped and exact else bits
            failure = facts.failure_probability if looked else 0.0
            values = facts.charge(self.queries, bits, failure).values()
            copies = facts.copies if passed else None
            return {run.account: with_copies(values, copies, self.queries)}

        basis = Basis.COLLECTIVE if looked else Basis.EVERYTHING
        booked = self.server.commit(charge, {**facts.about(basis), **about})
        self._add(booked[run.account], basis)

    def _add(self, values: Values, basis: Basis) -> None:
        run = self.run
        run.queries += self.queries
        run.basis = basis
        for meter, value in values.items():
            run.charged[meter] = run.charged.get(meter, 0.0) + value


def _verdict(report: VerificationReport) -> dict[str, Any]:
    return {
        "accepted": report.accepted,
        "reason": report.reason,
        "samples": report.samples,
        "failure_probability": report.failure_probability,
    }
