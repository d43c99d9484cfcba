"""One run in the server's ledger: reserve before light is sent, book what came back.

What one more query can tell depends on all light before it. Reserved is what the account's bound
rises by if the client keeps all of the new light; booked is what the bound has risen by once it is
known what came back, and never more than was reserved, because both bounds hold.

Where a reservation takes the client at its word, only the light of its own queries does: what
light before it is owed counts at the bound, also that of runs which were killed. A query that
never happened may have replaced what others were charged less; it leaves that behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from labctl.protocols.copies.figure import CopyFigure
from labctl.protocols.ledger.accounts import Balance, weights_account
from labctl.protocols.ledger.admission import NAME_ALONE
from labctl.protocols.ledger.amounts import UNITS_PER_ONE, Amounts, Meter, Values, as_shown
from labctl.protocols.ledger.book import Ledger
from labctl.protocols.ledger.charges import (
    COMPOSITION_OF_DATA,
    COMPOSITION_OF_WEIGHTS,
    COUNTED_ADDITIVELY,
    Basis,
    WeightCharge,
)
from labctl.protocols.ledger.collective_store import CollectiveStore
from labctl.protocols.ledger.copy_account import CopyBudget, with_copies
from labctl.protocols.ledger.cumulative_account import CumulativeAccount
from labctl.protocols.ledger.further import COUNTLESS
from labctl.protocols.ledger.open_query import OpenQuery
from labctl.protocols.ledger.run_facts import RunFacts
from labctl.protocols.ledger.state import Worst
from labctl.protocols.verification.collective_record import CollectiveRecord
from labctl.protocols.verification.doubts import EXACT, Doubts
from labctl.protocols.verification.evidence import LayerEvidence
from labctl.protocols.verification.verdict import VerificationReport
from labctl.safety import uninterrupted

# Balances are kept in units of 1e-12, each charge rounded up.
_ROUNDING_BITS = 1e-9
UNBOOKED = {"why": "the batch ended before it was booked: light may have been sent"}
"""What an entry says of a batch that was never booked, at either party."""


@dataclass
class ServerBooks:
    """Books one client's run on the server's account of it. name: the client's."""

    ledger: Ledger
    name: str
    facts: RunFacts
    queries: int = 0
    charged: dict[Meter, float] = field(default_factory=dict)
    basis: Basis | None = None

    def __post_init__(self) -> None:
        self.account = weights_account(self.name, self.facts.model_sha256)
        self.ledger.start()
        self.store = CollectiveStore(self.ledger.folder, self.ledger.secret())
        self._kept = CollectiveRecord()
        self.copies = CopyBudget(self.facts.model_sha256, self.facts.query_terms.copies)

    def history(self) -> CollectiveRecord:
        """Return the sums by weight of what this client was sent before on the run's terms."""
        return self.store.load(self.account, self.facts.terms)

    def cumulative(self) -> CumulativeAccount:
        """Return the bound of the account's light as what came back shows it so far.

        Light of the run's terms is taken as doubtful as the run's own constants make it when it
        joins: a reservation has to hold what that lifts the bound by.
        """
        kept, facts = self.store.kept(self.account), self.facts
        joined = tuple(
            replace(each, terms=replace(each.terms, doubts=each.terms.doubts.worse(facts.doubts)))
            if each.terms.key == facts.terms.key
            else each
            for each in kept
        )
        return CumulativeAccount(joined, facts.failure_probability)

    def worst(self, balance: Balance, queries: int) -> WeightCharge:
        """Return what `queries` more queries have to reserve, given the state of the account."""
        return self.facts.query_terms.worst(balance, self.cumulative(), queries)

    def queries_left(self, most: int = COUNTLESS) -> int:
        """Return how many queries, `most` at most, fit the budget if they are reserved together."""
        balance = self.ledger.balance(self.account)
        return self.facts.query_terms.fitting(balance, self.cumulative(), self.copies, most)

    def reserve(self, queries: int) -> ServerBatch:
        """Reserve for a batch, before any of its light is sent; raises BudgetError."""

        def worst(stands: Callable[[str], Balance]) -> Worst:
            balance = stands(self.account)
            # Under the ledger's lock: nobody else reserves between this look and the entry.
            self.copies.refuse_beyond(balance, queries)
            return {self.account: self.worst(balance, queries).values()}

        reserved = self.ledger.reserve(worst, self.facts.about(self.facts.worst_case))
        return ServerBatch(self, reserved, queries)

    def free(self, reserved: OpenQuery, reason: str) -> None:
        """Free a reservation of queries that never happened, but for what others owe without it."""
        bound, held = self.cumulative(), reserved.worst_case[self.account]

        def owed(stands: Callable[[str], Balance]) -> Worst:
            balance = stands(self.account)
            others = replace(balance, reserved=balance.reserved - Amounts.of(held))
            bits = bound.owed(others)
            if not bits > _ROUNDING_BITS:
                return {}
            return {self.account: self.facts.charge(0, bits).values()}

        reserved.release(reason, owed)

    def begin_turn(self) -> CollectiveRecord:
        """Begin a record of what is read from now on; return the sums by weight of all before."""
        self._kept = CollectiveRecord()
        return self.history()

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
        return self.copies.figure(self.ledger.balance(self.account))

    def state(self) -> dict[str, Any]:
        """Return what a report says of the ledger: this run's charge, and the account's balance."""
        balance = self.ledger.balance(self.account)
        each = self.worst(balance, 1).values()
        left = self.queries_left()
        head = self.ledger.head()
        return {
            "folder": str(self.ledger.folder),
            "client": self.name,
            "identity": self.ledger.client_key(self.name) or NAME_ALONE,
            "model_sha256": self.facts.model_sha256,
            "queries": self.queries,
            "charged": as_shown(self.charged),
            "basis": None if self.basis is None else str(self.basis),
            "basis_in_words": None if self.basis is None else self.basis.words,
            "reserved_per_query": as_shown(each),
            "worst_case": str(self.facts.worst_case),
            "spent": as_shown(balance.spent.by_meter()),
            "reserved": as_shown(balance.reserved.by_meter()),
            "budget": balance.limits.values(),
            "overdrawn": balance.overdrawn,
            "queries_left": None if left == COUNTLESS else left,
            "counted_additively": additive_bits(balance),
            "composition": [*composition(balance), COMPOSITION_OF_DATA],
            "head": {"entries": head.count, "hash": head.hash},
        }


@dataclass
class ServerBatch:
    """A batch of queries whose worst case is reserved in the server's ledger."""

    books: ServerBooks
    reserved: OpenQuery
    queries: int

    def noted(self) -> Callable[[int], None]:
        """Return what has to be called before light leaves, with how many queries were then sent.

        If this process is killed, the ledger can be settled for no more than that.
        """
        return self.reserved.noted([self.books.account] * self.queries)

    def book(
        self,
        verdict: VerificationReport,
        record: CollectiveRecord | None = None,
        evidence: Sequence[LayerEvidence] = (),
        doubts: Doubts = EXACT,
    ) -> None:
        """Book the batch by what came back of the run so far.

        `record` and `evidence` of the run so far, `doubts` of the bench's constants; without a
        record nobody looked, and all light of the batch counts as kept.
        """
        with uninterrupted():
            looked = self.looked_at(record, evidence, doubts)
            self.commit_seen(verdict, looked=looked)

    def looked_at(
        self, record: CollectiveRecord | None, evidence: Sequence[LayerEvidence], doubts: Doubts
    ) -> bool:
        """Keep what came back; return whether anybody looked at it."""
        return record is not None and self.books.keep(record, evidence, doubts)

    def commit_seen(self, verdict: VerificationReport, *, looked: bool) -> None:
        """Book the batch after `looked_at`."""
        about = {"run_file": self.books.facts.run_file, "verdict": _verdict(verdict)}
        self._commit(looked=looked, passed=looked and verdict.accepted is True, about=about)

    def release(self, reason: str) -> None:
        """Free the reservation; only if no light was sent."""
        self.books.free(self.reserved, reason)

    def close(self) -> None:
        """Book at the worst case what was not booked: light may have been sent."""
        with uninterrupted():
            if self.reserved.is_open:
                self._commit(looked=False, passed=False, about=UNBOOKED)

    def _commit(self, *, looked: bool, passed: bool, about: Mapping[str, Any]) -> None:
        """Book the weights; what a thief of copies had is known only of light that `passed`."""
        books, facts = self.books, self.books.facts
        held = self.reserved.worst_case[books.account]
        reserved = held[Meter.CUMULATIVE_BITS]
        capped = facts.worst_case is Basis.EVERYTHING
        bound = books.cumulative()
        # Light that came back and was looked at counts as stated: its doubt is in what was kept.
        photons = facts.charge(self.queries, 0.0, looked=looked).values()[Meter.PHOTONS]
        released = held[Meter.PHOTONS] - photons

        def charge(stands: Callable[[str], Balance]) -> Worst:
            bits = bound.charge(stands(books.account), reserved, released)
            # What was reserved is a bound too: of all light as stated, this batch's as kept.
            exact = bound.light_factor == 1.0
            bits = min(bits, reserved) if capped and exact else bits
            failure = facts.failure_probability if looked else 0.0
            values = facts.charge(self.queries, bits, failure, looked=looked).values()
            copies = facts.copies if passed else None
            return {books.account: with_copies(values, copies, self.queries)}

        basis = Basis.COLLECTIVE if looked else Basis.EVERYTHING
        booked = self.reserved.commit(charge, {**facts.about(basis), **about})
        self._add(booked[books.account], basis)

    def _add(self, values: Values, basis: Basis) -> None:
        books = self.books
        books.queries += self.queries
        books.basis = basis
        for meter, value in values.items():
            books.charged[meter] = books.charged.get(meter, 0.0) + value


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


def _verdict(report: VerificationReport) -> dict[str, Any]:
    return {
        "accepted": report.accepted,
        "reason": report.reason,
        "samples": report.samples,
        "failure_probability": report.failure_probability,
    }
