"""How many queries a client may make: by what chosen inputs extract, and by bits.

A client with honest optics that feeds in basis vectors knows, after Q queries, the first layer's
weights with correlation sqrt(Q/N F/(1 + F)) up to Q = N, and in all rounds sqrt(mean of
q F/(1 + q F)), q being how often each weight was read (`ChosenInputs.correlation`). Nothing shows
in the light; only the count of queries limits it.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl import checks
from labctl.errors import SettingError
from labctl.studies.attacks.chosen_inputs import ChosenInputs

# A query each microsecond for thirty years.
_MOST_QUERIES = 10**15


def queries_for_correlation(correlation: float, inputs: int, signal_to_noise: float) -> int:
    """Return the fewest chosen queries that reach a correlation with all first-layer weights.

    `inputs` N of the layer, `signal_to_noise` F of one inner product. Raises SettingError for a
    correlation outside 0 to 1, or one that 1e15 queries do not reach.
    """
    checks.inside("correlation", correlation, 0.0, 1.0)
    checks.at_least("inputs", inputs, 1)
    checks.positive("signal_to_noise", signal_to_noise, " (F)")
    attack = ChosenInputs(1.0)

    def reached(queries: int) -> bool:
        return attack.correlation(queries, inputs, signal_to_noise) >= correlation

    high = 1
    while not reached(high):
        high *= 2
        if high > _MOST_QUERIES:
            raise SettingError("correlation", correlation, "within reach of 1e15 queries")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class Quota:
    """Most queries of one client: by bits, by extraction, and the smaller of both.

    `bits_per_weight`: what the ledger then holds at most, of an honest client's queries.
    """

    by_bits: int
    by_extraction: int
    bits_per_weight: float

    @property
    def queries(self) -> int:
        """The quota."""
        return min(self.by_bits, self.by_extraction)


def quota(
    *,
    bits_limit: float,
    bits_per_query: float,
    correlation_limit: float,
    inputs: int,
    signal_to_noise: float,
) -> Quota:
    """Return the number of queries within both limits, for `ledger set-budget --max-queries`.

    `bits_limit` in bits per real weight over all queries, `bits_per_query` what one is booked at:
    the honest figure, or a bound if the run is booked by its bounds. `correlation_limit` is
    what chosen inputs must stay below. Raises SettingError.
    """
    checks.positive("bits_per_query", bits_per_query, " bits per weight")
    most = _MOST_QUERIES * bits_per_query
    checks.above("bits_limit", bits_limit, 0.0, most, " (1e15 queries), in bits per weight")
    by_bits = int(bits_limit / bits_per_query)
    below = queries_for_correlation(correlation_limit, inputs, signal_to_noise) - 1
    return Quota(by_bits, below, min(by_bits, below) * bits_per_query)
