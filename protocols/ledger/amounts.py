"""What a ledger adds up: quantities that are additive over queries, counted exactly.

Photons add: all light that carried a weight is one mode with all of them. Bits of weights do not,
against a client with a memory: a query is booked as what it adds to the bound of all light so far
(`cumulative_account`). Bits of data do not add either, Fisher information does: R returns of the
same input tell each symbol with R times the information of one, and (1/2) log2(1 + R J) is at most
R times (1/2) log2(1 + J). So data are charged by J, the information per symbol in units of its
prior's. The sum of bits is kept beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum

from labctl import checks

# Counted in whole units, so that sums and refunds are exact: charges rounded up, limits down.
UNITS_PER_ONE = 10**12
# Decimal places of a unit.
_DIGITS = 12
# At a query a microsecond, twelve days: a slip beyond.
MOST = 1e12


class Meter(StrEnum):
    """A quantity that adds up over queries.

    queries: times that light was sent; for an input, its repeats. bits_per_weight: bits per real
    weight; bits_in_total: bits of all weights. photons_per_mode: that carried each weight;
    bits_by_memory: the bits per real weight that were booked as increments of the bound on all
    light, against a client with a memory; the rest was booked query by query, as additive.
    information_*: Fisher information J per symbol by the three formulas for data, added_bits_* the
    sums of their bits. rows: rows M that carried the input. failure_probability: of the bounds that
    were charged (union bound). copy_queries: of which it is known what a thief of copies could
    spend; copy_spend, copy_spend_squared: sums of it; fixed_order_queries: whose hidden neurons
    came in one order. copy_accuracy: only a limit, of the best copy's accuracy, never charged.
    """

    QUERIES = "queries"
    WEIGHT_BITS = "bits_per_weight"
    TOTAL_BITS = "bits_in_total"
    PHOTONS = "photons_per_mode"
    CUMULATIVE_BITS = "bits_by_memory"
    INFORMATION_FIRST = "information_first"
    INFORMATION_JOURNAL = "information_journal"
    INFORMATION_QUANTUM = "information_quantum"
    ADDED_FIRST = "added_bits_first"
    ADDED_JOURNAL = "added_bits_journal"
    ADDED_QUANTUM = "added_bits_quantum"
    ROWS = "rows"
    FAILURE_PROBABILITY = "failure_probability"
    COPY_QUERIES = "copy_queries"
    COPY_SPEND = "copy_spend"
    COPY_SPEND_SQUARED = "copy_spend_squared"
    FIXED_ORDER_QUERIES = "fixed_order_queries"
    COPY_ACCURACY = "copy_accuracy"

    @property
    def is_information(self) -> bool:
        """Whether it is Fisher information, which people read as bits per symbol."""
        return self in _INFORMATION

    @property
    def words(self) -> str:
        """What its figures are, for people."""
        return _WORDS.get(self, str(self))

    def shown(self, value: float) -> float:
        """Return a sum as people read it: information as bits per symbol, others as they are."""
        return bits_of_information(value) if self.is_information else value


_INFORMATION = {Meter.INFORMATION_FIRST, Meter.INFORMATION_JOURNAL, Meter.INFORMATION_QUANTUM}
_WORDS = {
    Meter.QUERIES: "queries",
    Meter.WEIGHT_BITS: "bit per real weight",
    Meter.TOTAL_BITS: "bit in total",
    Meter.PHOTONS: "photons per mode",
    Meter.CUMULATIVE_BITS: "bit per real weight against a memory",
    Meter.COPY_ACCURACY: "accuracy of the best copy",
    Meter.INFORMATION_FIRST: "bit per symbol (first)",
    Meter.INFORMATION_JOURNAL: "bit per symbol (journal)",
    Meter.INFORMATION_QUANTUM: "bit per symbol (quantum limit)",
}

Values = Mapping[Meter, float]


def information_of_bits(bits: float) -> float:
    """Return J = 2^(2 I) - 1 of I bits per symbol."""
    return math.expm1(2.0 * bits * math.log(2.0))


def bits_of_information(information: float) -> float:
    """Return I = (1/2) log2(1 + J) bits per symbol."""
    return 0.5 * math.log1p(information) / math.log(2.0)


def units_of(name: str, value: float) -> int:
    """Return a quantity in whole units of 1e-12, rounded up from its decimal digits.

    Raises SettingError unless it is 0 to 1e12.
    """
    checks.within(name, value, 0.0, MOST)
    return int(Decimal(repr(float(value))).scaleb(_DIGITS).to_integral_value(ROUND_CEILING))


def not_above(name: str, value: float) -> float:
    """Return the largest quantity in whole units that is not above a value: a limit to write down.

    Charges are rounded up, so that no sum of charges within it is above the value. Raises
    SettingError as `units_of` does.
    """
    checks.within(name, value, 0.0, MOST)
    units = Decimal(repr(float(value))).scaleb(_DIGITS).to_integral_value(ROUND_FLOOR)
    limit = float(units.scaleb(-_DIGITS))
    # Above 9,007 neighbouring numbers are further apart than units.
    while units_of(name, limit) > units:
        limit = math.nextafter(limit, 0.0)
    return limit


@dataclass(frozen=True)
class Amounts:
    """Quantities by meter, in whole units; a meter that is missing is 0."""

    units: Mapping[Meter, int] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Values) -> Amounts:
        """Return the amounts of values; raises SettingError outside 0 to 1e12."""
        return cls({Meter(name): units_of(str(name), value) for name, value in values.items()})

    def __add__(self, other: Amounts) -> Amounts:
        names = {**self.units, **other.units}
        return Amounts({name: self.unit(name) + other.unit(name) for name in names})

    def __sub__(self, other: Amounts) -> Amounts:
        return self + Amounts({name: -units for name, units in other.units.items()})

    def unit(self, meter: Meter) -> int:
        """Return a meter in whole units."""
        return self.units.get(meter, 0)

    def value(self, meter: Meter) -> float:
        """Return a meter as a number."""
        return self.unit(meter) / UNITS_PER_ONE

    def by_meter(self) -> dict[Meter, float]:
        """Return all meters as numbers."""
        return {name: units / UNITS_PER_ONE for name, units in sorted(self.units.items())}

    def values(self) -> dict[str, float]:
        """Return the same by name, for JSON."""
        return {str(name): value for name, value in self.by_meter().items()}


# What the union bound of `Meter.FAILURE_PROBABILITY` is called where people read it.
UNION_BOUND = "failure_probability_union_bound"


def as_shown(values: Values) -> dict[str, float]:
    """Return amounts by name as people read them: of failure probabilities their union bound.

    The ledger adds them up without end; together bounds fail with that sum or 1, the smaller.
    """
    found = {str(name): value for name, value in values.items()}
    failure = found.pop(str(Meter.FAILURE_PROBABILITY), None)
    return found if failure is None else {**found, UNION_BOUND: min(failure, 1.0)}


def limits_of(values: Values) -> dict[Meter, float]:
    """Return limits as they are written down: see `not_above`."""
    return {Meter(name): not_above(str(name), value) for name, value in values.items()}
