"""What the best copy of an account is worth: all queries of a client on a model, counted together.

Kept are sums that add over queries, for any order of reserving, booking and releasing: how many
queries a spend is known of, the spends, their squares, and how many came with one fixed order of
hidden neurons. The largest of Q numbers of mean m and variance v is at most m + sqrt((Q - 1) v)
(Samuelson), which is that number itself where all queries had the same settings: this is taken as
the spend of every query. Known is it only of light that came back and passed the verdict: what
is still out, was rejected, or broke off may have been kept, and then nobody knows what a copy is
worth.

A budget in accuracy is no meter that adds up. It is held under the ledger's lock: before a query,
the best copy after all queries so far and this one is looked up and compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from labctl.errors import BudgetError
from labctl.protocols.copies.figure import (
    CopyFigure,
    QuerySpend,
    figure_of,
    most_queries,
    no_figure,
)
from labctl.protocols.copies.table import CopyTable, Order
from labctl.protocols.ledger.accounts import Balance, named
from labctl.protocols.ledger.amounts import Meter, Values
from labctl.wording import counted

# Sums are kept within 1e12; beyond any spend that was measured the number does not matter.
_MOST_SPEND = 1e4
# Of queries that may still be asked: a quota beyond this is none.
_MOST_QUERIES = 10**6

UNKNOWN = (
    "{} of {} did not pass a verdict: they are still out or were killed, nobody looked at "
    "their light, it was rejected, or they were booked before copies were counted: what a thief "
    "had of them is not known"
)
NO_QUERIES = "no query was sent yet"


@dataclass(frozen=True)
class CopyMeans:
    """What one query of a run leaves to a thief: its spend, None if nobody looks, and the order."""

    spend: QuerySpend | None
    order: Order

    def values(self, queries: int) -> dict[Meter, float]:
        """Return what this number of queries adds to an account."""
        if self.spend is None:
            return {}
        each = min(self.spend.most, _MOST_SPEND)
        fixed = queries if self.order is Order.FIXED else 0
        return {
            Meter.COPY_QUERIES: float(queries),
            Meter.COPY_SPEND: queries * each,
            Meter.COPY_SPEND_SQUARED: queries * each**2,
            Meter.FIXED_ORDER_QUERIES: float(fixed),
        }


@dataclass(frozen=True)
class CopyAccount:
    """An account's queries so far, and how they look to a thief.

    `queries` of which `counted` have a known spend; `spend`: at least that of any of them; `order`:
    fixed if any of them came in one order.
    """

    queries: int
    counted: int
    spend: float
    order: Order

    @classmethod
    def of(cls, balance: Balance) -> CopyAccount:
        """Return the state of an account; of what is reserved nothing is known yet."""
        spent = balance.spent
        counted = round(spent.value(Meter.COPY_QUERIES))
        worst = 0.0
        if counted:
            mean = spent.value(Meter.COPY_SPEND) / counted
            variance = max(spent.value(Meter.COPY_SPEND_SQUARED) / counted - mean**2, 0.0)
            worst = mean
            # Rounding of the sums alone is no spread.
            if variance > 1e-9 * mean**2:
                worst = mean + math.sqrt((counted - 1) * variance)
        fixed = spent.unit(Meter.FIXED_ORDER_QUERIES) > 0
        queries = round(balance.taken.value(Meter.QUERIES))
        return cls(queries, counted, worst, Order.FIXED if fixed else Order.FRESH)

    def with_more(self, means: CopyMeans, queries: int) -> CopyAccount:
        """Return the account after this number of further queries of a run."""
        counted = queries if means.spend is not None else 0
        spend = 0.0 if means.spend is None else min(means.spend.most, _MOST_SPEND)
        either = {self.order, means.order} if self.queries else {means.order}
        return CopyAccount(
            self.queries + queries,
            self.counted + counted,
            max(self.spend, spend) if counted else self.spend,
            Order.FIXED if Order.FIXED in either else Order.FRESH,
        )

    def figure(self, model_sha256: str, table: CopyTable | None = None) -> CopyFigure:
        """Return the best copy of the account, or why there is no figure."""
        if not self.queries:
            return no_figure(0, NO_QUERIES)
        if self.counted < self.queries:
            unknown = self.queries - self.counted
            return no_figure(
                self.queries, UNKNOWN.format(unknown, counted(self.queries, "query", "queries"))
            )
        # All of it in every query: sessions may have been of one query, each with what hides there.
        return figure_of(
            model_sha256,
            self.order,
            self.queries,
            QuerySpend(self.spend, 0.0),
            name=f"model {model_sha256[:12]}",
            table=table,
        )


@dataclass(frozen=True)
class CopyBudget:
    """Holds a run to its account's budget in accuracy, where there is one."""

    model_sha256: str
    means: CopyMeans
    table: CopyTable | None = None

    def figure(self, balance: Balance, more: int = 0) -> CopyFigure:
        """Return the best copy of an account, after `more` queries of this run."""
        account = CopyAccount.of(balance)
        if more:
            account = account.with_more(self.means, more)
        return account.figure(self.model_sha256, self.table)

    def fits(self, balance: Balance, queries: int) -> bool:
        """Return whether this number of further queries keep the budget in accuracy."""
        limit = accuracy_limit(balance)
        if limit is None or not queries:
            return True
        accuracy = self.figure(balance, queries).accuracy
        return accuracy is not None and accuracy <= limit

    def refuse_beyond(self, balance: Balance, queries: int) -> None:
        """Raise BudgetError if `queries` more queries do not keep the budget in accuracy."""
        limit = accuracy_limit(balance)
        if limit is None or self.fits(balance, queries):
            return
        left = most_queries(partial(self.figure, balance), limit, _MOST_QUERIES)
        raise BudgetError(
            f"budget of {named(balance.account)}: {self.figure(balance, queries).in_words()}, of "
            f"{limit:.6g} allowed; {counted(left, 'more such query fits', 'more such queries fit')}"
        )


def accuracy_limit(balance: Balance) -> float | None:
    """Return the budget in accuracy of the best copy that holds for an account, None for none."""
    if Meter.COPY_ACCURACY not in balance.limits.units:
        return None
    return balance.limits.value(Meter.COPY_ACCURACY)


def with_copies(values: Values, means: CopyMeans | None, queries: int) -> dict[Meter, float]:
    """Return a charge with what its queries leave to a thief."""
    return {**values, **({} if means is None else means.values(queries))}
