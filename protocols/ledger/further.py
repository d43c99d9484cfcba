"""How many further queries of one kind fit an account: for a run, and for anybody who asks.

What the next query reserves depends on all light of the account, so that the number cannot be had
from what queries were charged so far. It follows from the account and from a few numbers of the run
(`QueryTerms`), which every reservation notes in the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labctl.protocols.copies.figure import QuerySpend
from labctl.protocols.copies.table import Order
from labctl.protocols.ledger.accounts import Balance
from labctl.protocols.ledger.amounts import Amounts, Meter
from labctl.protocols.ledger.charges import Basis, WeightCharge
from labctl.protocols.ledger.copy_account import CopyBudget, CopyMeans
from labctl.protocols.ledger.cumulative_account import CumulativeAccount

# More queries than that are any number.
COUNTLESS = 10**9
_BITS = {Meter.WEIGHT_BITS, Meter.CUMULATIVE_BITS, Meter.TOTAL_BITS}


@dataclass(frozen=True)
class QueryTerms:
    """What decides the reservation of a run's queries.

    `light`: photons per mode with which one query carries each weight, at most. `modes` of all
    layers. `worst_case`: what is reserved, everything or, of an honest client, `honest_bits` per
    real weight and query. `copies`: what a query leaves to a thief of copies.
    """

    light: float
    modes: int
    worst_case: Basis
    honest_bits: float
    failure_probability: float
    copies: CopyMeans

    def worst(self, balance: Balance, bound: CumulativeAccount, queries: int) -> WeightCharge:
        """Return what this number of further queries has to reserve, given what stands there."""
        if self.worst_case is Basis.HONEST:
            bits = queries * self.honest_bits + bound.owed(balance)
        else:
            bits = bound.reservation(balance, queries * self.light)
        return WeightCharge(queries, queries * self.light, bits, self.modes)

    def fitting(
        self, balance: Balance, bound: CumulativeAccount, copies: CopyBudget, most: int = COUNTLESS
    ) -> int:
        """Return how many queries, at most `most`, fit the account if reserved together."""

        if not balance.limits.units:
            return most
        bounded = not _BITS.isdisjoint(balance.limits.units)

        def fits(queries: int) -> bool:
            # What costs nothing to know comes first: bits are a search over attacks.
            light = WeightCharge(queries, queries * self.light, 0.0, self.modes)
            if not (_fits(balance, light) and copies.fits(balance, queries)):
                return False
            return not bounded or _fits(balance, self.worst(balance, bound, queries))

        # From few to many, for the bound on much light takes longest.
        low, high = 0, 1
        while high <= most and fits(high):
            low, high = high, 2 * high
        high = min(high, most + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def as_json(self) -> dict[str, Any]:
        """Return plain values, as an entry of the ledger keeps them."""
        spend = self.copies.spend
        return {
            "light": self.light,
            "modes": self.modes,
            "worst_case": str(self.worst_case),
            "honest_bits": self.honest_bits,
            "failure_probability": self.failure_probability,
            "copy_spend": None if spend is None else [spend.steady, spend.hides],
            "copy_order": str(self.copies.order),
        }

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> QueryTerms:
        """Return the terms that an entry keeps; raises ValueError or TypeError for others."""
        spend = values["copy_spend"]
        steady_and_hidden = None if spend is None else QuerySpend(*map(float, spend))
        numbers = [float(values[name]) for name in ("light", "honest_bits", "failure_probability")]
        if not all(map(math.isfinite, numbers)):
            raise ValueError("terms of a query that are not finite")
        return cls(
            light=numbers[0],
            modes=int(values["modes"]),
            worst_case=Basis(values["worst_case"]),
            honest_bits=numbers[1],
            failure_probability=numbers[2],
            copies=CopyMeans(steady_and_hidden, Order(values["copy_order"])),
        )


def _fits(balance: Balance, charge: WeightCharge) -> bool:
    return balance.fitting(Amounts.of(charge.values())) != 0
