"""The leakage of an honest run at one setting: weights and data, by symbol, input and query."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from labctl.protocols.leakage.assumptions import Assumptions
from labctl.protocols.leakage.data import data_bits_first, data_bits_journal, data_bits_quantum
from labctl.protocols.leakage.ranges import require
from labctl.protocols.leakage.shape import LayerShape
from labctl.protocols.leakage.weights import WEIGHTS_PER_MODE, weights_bits_per_mode
from labctl.protocols.receiver import GAIN_RANGE, MOST_GAIN, added_noise
from labctl.protocols.rotation import IDEAL_ROTATION, Rotation


@dataclass(frozen=True)
class Leakage:
    """Leakage of one setting: per symbol (of the worst layer), per input, per query."""

    weights_bits_per_mode: float
    weights_bits_per_real: float
    data_bits_first: float
    data_bits_journal: float
    data_bits_quantum: float
    data_bits_first_per_input: float
    data_bits_journal_per_input: float
    data_bits_quantum_per_input: float
    weights_bits_per_query: float
    queries_per_bit_per_weight: float
    excess_noise: float
    assumptions: Assumptions

    def without_data(self) -> Leakage:
        """Return the figures of a client whose returned light does not depend on its input."""
        return replace(
            self,
            data_bits_first=0.0,
            data_bits_journal=0.0,
            data_bits_quantum=0.0,
            data_bits_first_per_input=0.0,
            data_bits_journal_per_input=0.0,
            data_bits_quantum_per_input=0.0,
        )

    def after(self, queries: int) -> float:
        """Return the bits per real weight leaked by `queries` queries; leakage adds up."""
        return queries * self.weights_bits_per_real


def leakage_of(
    layers: tuple[LayerShape, ...],
    *,
    mean_photons: float,
    gain: float,
    transmittance: float,
    technical_noise: float,
    assumptions: Assumptions,
    emission_factor: float,
    rotation: Rotation = IDEAL_ROTATION,
) -> Leakage:
    """Return the leakage of an honest client's run at these settings.

    `emission_factor` n_sp (1: quantum limit) is the amplifier's spontaneous-emission factor, or
    what a tap's detectors make of it. The honest client adds n_sp g to each of the K modes that it
    collects of each block, hence n_sp g K B/n to each of n modes in B blocks; the leakage is
    concave in the noise, so that of the mean noise is no less than the mean over modes and blocks.
    The same noise shows the server the data. It is counted undimmed by the way back, which is more
    than the server sees of it. `transmittance` is that of the round trip without the client's
    `rotation`, `technical_noise` the link's own in SNU at the server.
    """
    require("gain", gain, 1.0 < gain <= MOST_GAIN, GAIN_RANGE)
    require("emission_factor", emission_factor, 1.0 <= emission_factor < math.inf, "1 or more")
    require("transmittance", transmittance, 0.0 < transmittance <= 1.0, "above 0, at most 1")
    honest = emission_factor * added_noise(gain)
    shares = [honest * layer.loud_modes / layer.modes for layer in layers]
    per_mode = []
    for layer, share in zip(layers, shares, strict=True):
        own = rotation.transmittance(layer.blocks.size, layer.clones)
        bits = weights_bits_per_mode(
            mean_photons=mean_photons,
            transmittance=transmittance * own,
            excess_noise=share + technical_noise,
            technical_noise=technical_noise,
            assumptions=assumptions,
            client_transmittance=own,
        )
        per_mode.append(bits)
    data = [_DataBits.of(layer, gain, emission_factor) for layer in layers]
    worst = max(per_mode)
    return Leakage(
        weights_bits_per_mode=worst,
        weights_bits_per_real=worst / WEIGHTS_PER_MODE,
        data_bits_first=max(max(bits.first) for bits in data),
        data_bits_journal=max(max(bits.journal) for bits in data),
        data_bits_quantum=max(max(bits.quantum) for bits in data),
        data_bits_first_per_input=sum(_weighted_sum(bits.first, bits.inputs) for bits in data),
        data_bits_journal_per_input=sum(_weighted_sum(bits.journal, bits.inputs) for bits in data),
        data_bits_quantum_per_input=sum(_weighted_sum(bits.quantum, bits.inputs) for bits in data),
        weights_bits_per_query=_weighted_sum(
            per_mode, [layer.rows * layer.modes for layer in layers]
        ),
        queries_per_bit_per_weight=WEIGHTS_PER_MODE / worst if worst > 0.0 else math.inf,
        excess_noise=max(shares) + technical_noise,
        assumptions=assumptions,
    )


@dataclass(frozen=True)
class _DataBits:
    """Bits per data symbol of one layer for each size of block, and the symbols of each."""

    inputs: list[int]
    first: list[float]
    journal: list[float]
    quantum: list[float]

    @classmethod
    def of(cls, layer: LayerShape, gain: float, factor: float) -> _DataBits:
        modes, rows, counts = layer.modes, layer.rows, layer.inputs_by_block_size
        return cls(
            list(counts.values()),
            [data_bits_first(gain, modes, block_modes=b, emission_factor=factor) for b in counts],
            [
                data_bits_journal(gain, modes, rows, block_modes=b, emission_factor=factor)
                for b in counts
            ],
            [
                data_bits_quantum(gain, modes, rows, block_modes=b, emission_factor=factor)
                for b in counts
            ],
        )


def _weighted_sum(bits: list[float], counts: list[int]) -> float:
    return sum(bit * count for bit, count in zip(bits, counts, strict=True))
