"""What a query is charged: bits of weights at the server, information on the data at the client.

Weights, worst first. *Everything*: nobody looked at the light, and the client may have kept all of
it; it then holds at most the entropy of what was sent, because no state of that variance has more
(Holevo, Sohma and Hirota, Phys. Rev. A 59, 1820 (1999)), for any attack and any distribution of the
weights. *Collective*: the bound of all light of the account, at the confidence bounds on
transmittance and collective noise of what came back. *Honest*: the closed form of the settings,
which takes the client's word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from labctl.protocols.leakage import (
    WEIGHTS_PER_MODE,
    LayerShape,
    Leakage,
)
from labctl.protocols.ledger.amounts import Meter, Values, information_of_bits


class Basis(StrEnum):
    """What a charge of weight bits rests on."""

    EVERYTHING = "everything"
    COLLECTIVE = "collective"
    HONEST = "honest"

    @property
    def words(self) -> str:
        """The assumption in words."""
        return _WORDS[self]


_WORDS = {
    Basis.EVERYTHING: "the client may keep all light: entropy of what was sent",
    Basis.COLLECTIVE: "increment of the bound on all light of the account against a client with a "
    "memory, at the confidence bounds of what came back",
    Basis.HONEST: "an honest client, taken at its word: closed form of the settings",
}

COMPOSITION_OF_WEIGHTS = (
    "bits do not add over queries: all queries of a client on a model are one mode with all their "
    "light, bounded at its transmittance and at the noise that repeats from query to query; the "
    "client may have a quantum memory; light that nobody looked at counts as kept; attacks are "
    "taken as Gaussian, the weights as of the worst Gaussian prior of their mean power"
)
COUNTED_ADDITIVELY = (
    "booked before sums by weight were kept, query by query: holds against a client that keeps "
    "nothing from one query to the next"
)
COMPOSITION_OF_DATA = (
    "Fisher information adds over repeats of an input: R repeats tell (1/2) log2(1 + R J) bit per "
    "symbol; honest server; inputs that differ in any value are counted apart"
)


@dataclass(frozen=True)
class WeightCharge:
    """What some queries are charged: their light and, together, their bits per real weight.

    `photons` per mode that carried each weight. `modes`: of all layers, two weights each.
    """

    queries: int
    photons: float
    bits_per_weight: float
    modes: int
    failure_probability: float = 0.0

    def values(self) -> dict[Meter, float]:
        """Return the charge by meter."""
        return {
            Meter.QUERIES: float(self.queries),
            Meter.PHOTONS: self.photons,
            Meter.WEIGHT_BITS: self.bits_per_weight,
            Meter.CUMULATIVE_BITS: self.bits_per_weight,
            Meter.TOTAL_BITS: self.bits_per_weight * WEIGHTS_PER_MODE * self.modes,
            Meter.FAILURE_PROBABILITY: self.failure_probability,
        }


def data_charge(leakage: Leakage, rows: int) -> dict[Meter, float]:
    """Return what one send of an input, in `rows` rows, tells an honest server of each symbol."""
    bits = {
        (Meter.INFORMATION_FIRST, Meter.ADDED_FIRST): leakage.data_bits_first,
        (Meter.INFORMATION_JOURNAL, Meter.ADDED_JOURNAL): leakage.data_bits_journal,
        (Meter.INFORMATION_QUANTUM, Meter.ADDED_QUANTUM): leakage.data_bits_quantum,
    }
    charge = {Meter.QUERIES: 1.0, Meter.ROWS: float(rows)}
    for (information, added), value in bits.items():
        charge[information] = information_of_bits(value)
        charge[added] = value
    return charge


def times(values: Values, count: int) -> dict[Meter, float]:
    """Return `count` charges together."""
    return {meter: count * value for meter, value in values.items()}


def modes_of(shapes: Sequence[LayerShape]) -> int:
    """Return the modes of all layers together."""
    return sum(shape.rows * shape.modes for shape in shapes)
