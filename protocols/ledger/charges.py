"""What a query is charged: bits of weights at the server, information on the data at the client.

Weights, worst first. *Everything*: the client keeps all light; it then holds at most the entropy
h(2 mu + 1) of each mode, because no state of that variance has more (Holevo, Sohma and Hirota,
Phys. Rev. A 59, 1820 (1999)), whatever it does and however the weights are distributed. *Bounds*:
the Holevo bound at the confidence bounds on transmittance and excess noise of the light that came
back. *Honest*: the closed form of the settings, which takes the client's word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from labctl.protocols.leakage import (
    WEIGHTS_PER_MODE,
    LayerShape,
    Leakage,
    thermal_entropy_bits,
)
from labctl.protocols.ledger.amounts import Meter, Values, information_of_bits
from labctl.protocols.verification.verdict import VerificationReport


class Basis(StrEnum):
    """What a charge of weight bits rests on."""

    EVERYTHING = "everything"
    BOUNDS = "bounds"
    HONEST = "honest"

    @property
    def words(self) -> str:
        """The assumption in words."""
        return _WORDS[self]


_WORDS = {
    Basis.EVERYTHING: "the client may keep all light: entropy of what was sent",
    Basis.BOUNDS: "Holevo bound at the confidence bounds of the light that came back",
    Basis.HONEST: "an honest client, taken at its word: closed form of the settings",
}

COMPOSITION_OF_WEIGHTS = (
    "bits add over queries: the light of different queries is independent given the weights, so "
    "that its Holevo information is at most the sum; attacks are taken as collective"
)
COMPOSITION_OF_DATA = (
    "Fisher information adds over repeats of an input: R repeats tell (1/2) log2(1 + R J) bit per "
    "symbol; honest server; inputs that differ in any value are counted apart"
)


@dataclass(frozen=True)
class WeightCharge:
    """Bits per real weight and of all weights, what that rests on, and how surely it holds."""

    bits_per_weight: float
    bits_in_total: float
    basis: Basis
    failure_probability: float = 0.0

    def values(self, queries: int) -> dict[Meter, float]:
        """Return what `queries` queries of this charge each come to."""
        return {
            Meter.QUERIES: float(queries),
            Meter.WEIGHT_BITS: queries * self.bits_per_weight,
            Meter.TOTAL_BITS: queries * self.bits_in_total,
            Meter.FAILURE_PROBABILITY: self.failure_probability,
        }


def everything(shapes: Sequence[LayerShape], mean_photons: float) -> WeightCharge:
    """Return the most that one query can tell a client that keeps all light."""
    bits = thermal_entropy_bits(2.0 * mean_photons + 1.0)
    return WeightCharge(bits / WEIGHTS_PER_MODE, bits * _modes(shapes), Basis.EVERYTHING)


def honest(leakage: Leakage) -> WeightCharge:
    """Return what one query tells an honest client."""
    return WeightCharge(leakage.weights_bits_per_real, leakage.weights_bits_per_query, Basis.HONEST)


def at_bounds(
    report: VerificationReport, shapes: Sequence[LayerShape], mean_photons: float
) -> WeightCharge | None:
    """Return what one of the pooled queries told at most; None if no light was looked at.

    Never more than everything: where the bounds say nothing, that is the charge.
    """
    bits = report.weights_bits_per_real_upper
    if bits is None:
        return None
    most = everything(shapes, mean_photons)
    if not bits < most.bits_per_weight:
        return most
    total = bits * WEIGHTS_PER_MODE * _modes(shapes)
    return WeightCharge(bits, total, Basis.BOUNDS, report.failure_probability)


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


def beyond(charge: Values, charged: Values) -> dict[Meter, float]:
    """Return what is still to be charged of a sum of which `charged` has been booked."""
    return {meter: max(value - charged.get(meter, 0.0), 0.0) for meter, value in charge.items()}


def _modes(shapes: Sequence[LayerShape]) -> int:
    return sum(shape.rows * shape.modes for shape in shapes)
