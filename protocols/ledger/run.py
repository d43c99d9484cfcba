"""One run's dealings with the ledgers: reserve before light is sent, book what came back.

The verification pools the light of the whole run, and its bound holds for all of it. So each batch
is booked as what the bound on the run so far comes to beyond what the run has been charged: the
bookings of a run add up to at least its bound at every time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.errors import LabctlError, SettingError
from labctl.protocols.encoding import Floats
from labctl.protocols.leakage import Assumptions, LayerShape, Leakage
from labctl.protocols.ledger.accounts import Party, input_account, weights_account
from labctl.protocols.ledger.amounts import Amounts, Meter, Values
from labctl.protocols.ledger.book import Ledger, OpenQuery
from labctl.protocols.ledger.charges import (
    COMPOSITION_OF_DATA,
    COMPOSITION_OF_WEIGHTS,
    Basis,
    WeightCharge,
    at_bounds,
    beyond,
    data_charge,
    everything,
    honest,
    times,
)
from labctl.protocols.verification.verdict import VerificationReport
from labctl.safety import uninterrupted


@dataclass(frozen=True)
class Ledgers:
    """The two parties' ledgers, and the client's name at the server."""

    server: Ledger
    client: Ledger
    name: str

    @classmethod
    def in_folder(cls, folder: Path, name: str) -> Ledgers:
        """Return both ledgers in one folder, as where one laboratory plays both parties."""
        return cls(Ledger(folder, Party.SERVER), Ledger(folder, Party.CLIENT), name)


@dataclass(frozen=True)
class RunFacts:
    """What a run's entries say of it.

    `worst_case`: what is reserved of the weights, everything or an honest client's share; the
    latter may turn out to be less than what is booked, which can overdraw an account by a batch.
    """

    model_sha256: str
    shapes: tuple[LayerShape, ...]
    mean_photons: float
    leakage: Leakage
    settings: Mapping[str, Any]
    run_file: str
    worst_case: Basis = Basis.EVERYTHING

    def __post_init__(self) -> None:
        if self.worst_case is Basis.BOUNDS:
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

    def reserved(self) -> WeightCharge:
        """Return what one query reserves of the weights."""
        if self.worst_case is Basis.HONEST:
            return honest(self.leakage)
        return everything(self.shapes, self.mean_photons)

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
        self._secret = self.ledgers.client.secret()
        self._data = data_charge(self.facts.leakage, self.facts.rows)

    def allow(self, bits_per_weight: float) -> None:
        """Set the account's budget in bits per real weight; its other limits stay."""
        limits = self.ledgers.server.balance(self.account).limits
        wanted = {meter: limits.value(meter) for meter in limits.units}
        wanted[Meter.WEIGHT_BITS] = bits_per_weight
        if Amounts.of(wanted) != limits:
            self.ledgers.server.set_budget(self.account, wanted)

    def inputs(self, images: Floats) -> list[str]:
        """Return the client's account of each image (B, N)."""
        return [input_account(image, self._secret) for image in images]

    def fitting(self, images: Floats) -> int:
        """Return how many of the images, from the first on, fit all budgets now."""
        each = self.facts.reserved().values(1)
        most = self.ledgers.server.fitting(self.account, each, len(images))
        accounts = self.inputs(images[:most])
        balances = self.ledgers.client.balances_of(set(accounts))
        seen: Counter[str] = Counter()
        for count, account in enumerate(accounts):
            seen[account] += 1
            fits = balances[account].fitting(Amounts.of(self._data))
            if fits is not None and fits < seen[account]:
                return count
        return most

    @contextmanager
    def sending(self, images: Floats) -> Iterator[SentBatch]:
        """Reserve for a batch of images in both ledgers, before the block sends their light.

        Left without `SentBatch.book`, the batch counts at its worst case. Raises BudgetError if it
        does not fit a budget; then nothing stays reserved.
        """
        batch = None
        try:
            with uninterrupted():
                batch = self._reserve(images)
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

    def _reserve(self, images: Floats) -> SentBatch:
        worst = self.facts.reserved()
        reserved = {self.account: worst.values(len(images))}
        server = self.ledgers.server.reserve(reserved, self.facts.about(worst.basis))
        try:
            about = {"run_file": self.facts.run_file, "assumptions": [COMPOSITION_OF_DATA]}
            client = self.ledgers.client.reserve(self._of_inputs(images), about)
        except LabctlError:
            server.release("the client's ledger refused: no light was sent")
            raise
        return SentBatch(self, server, client, len(images))

    def _of_inputs(self, images: Floats) -> dict[str, Values]:
        counts = Counter(self.inputs(images))
        return {account: times(self._data, count) for account, count in counts.items()}

    def due(self, queries: int, verdict: VerificationReport) -> tuple[dict[Meter, float], Basis]:
        """Return what the next `queries` queries are charged, given the verdict on the run so far.

        Without returned light to look at: an honest client's share of each.
        """
        bound = at_bounds(verdict, self.facts.shapes, self.facts.mean_photons)
        if bound is None:
            charge = honest(self.facts.leakage)
            return charge.values(queries), charge.basis
        whole = bound.values(self.queries + queries)
        due = beyond(whole, self.charged)
        # Each look at the light may fail once.
        due[Meter.FAILURE_PROBABILITY] = bound.failure_probability
        return due, bound.basis

    def state(self) -> dict[str, Any]:
        """Return what a report says of the ledger: this run's charge, and the account's balance."""
        balance = self.ledgers.server.balance(self.account)
        each = self.facts.reserved().values(1)
        left = self.ledgers.server.fitting(self.account, each, _COUNTLESS)
        head = self.ledgers.server.head()
        return {
            "folder": str(self.ledgers.server.folder),
            "client": self.ledgers.name,
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
            "queries_left": None if left == _COUNTLESS else left,
            "composition": [COMPOSITION_OF_WEIGHTS, COMPOSITION_OF_DATA],
            "head": {"entries": head.count, "hash": head.hash},
        }


_COUNTLESS = 10**9


@dataclass
class SentBatch:
    """A batch whose worst case is reserved in both ledgers."""

    run: RunLedger
    server: OpenQuery
    client: OpenQuery
    queries: int

    def book(self, verdict: VerificationReport) -> None:
        """Book the batch: the weights by the verdict on the run so far, the data as reserved."""
        run = self.run
        due, basis = run.due(self.queries, verdict)
        about = {**run.facts.about(basis), "verdict": _verdict(verdict)}
        self.client.commit(self.client.worst_case, {"run_file": run.facts.run_file})
        self.server.commit({run.account: due}, about)
        self._add(due, basis)

    def release(self, reason: str) -> None:
        """Free everything; only if no light was sent."""
        self.client.release(reason)
        self.server.release(reason)

    def close(self) -> None:
        """Book at the worst case what was not booked: light may have been sent."""
        about = {"why": "the batch ended before it was booked: light may have been sent"}
        if self.client.is_open:
            self.client.commit(self.client.worst_case, about)
        if self.server.is_open:
            worst = self.server.worst_case
            basis = self.run.facts.worst_case
            self.server.commit(worst, {**self.run.facts.about(basis), **about})
            self._add(worst[self.run.account], basis)

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
