"""The leakage of an honest run at one setting: weights and data, by symbol, input and query.

1. The honest client's clones add n_sp g to K modes of each of B blocks, so n_sp g K B/n on average
   over the n modes of a row, g = 2 - 2/G. The link's technical noise comes on top.
2. Weights: transmittance and this noise, with what the assumptions trust taken off, give the
   channel that counts as the client's (`weights`). Each layer has its own; the figures are of the
   worst one: honest, for the network sent, prior-free.
3. Data: gain, modes and rows of each layer give three figures per symbol (`data`), of which the
   worst symbol's is stated; an input's figure is the sum over its symbols.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from labctl import checks
from labctl.protocols.leakage.assumptions import Assumptions
from labctl.protocols.leakage.data import data_bits_first, data_bits_journal, data_bits_quantum
from labctl.protocols.leakage.holevo import holevo_bits_per_mode
from labctl.protocols.leakage.network import Spectrum, network_bits_per_mode
from labctl.protocols.leakage.prior_free import prior_free_bits_per_mode
from labctl.protocols.leakage.shape import LayerShape
from labctl.protocols.leakage.weights import WEIGHTS_PER_MODE, Figure, weights_bits_per_mode
from labctl.protocols.receiver import GAIN_RANGE, MOST_GAIN, added_noise
from labctl.protocols.rotation import IDEAL_ROTATION, Rotation


class WeightsFigure(StrEnum):
    """Which figure of the weights to go by where no network is known."""

    PRIOR_FREE = "prior-free"
    HONEST = "honest"

    @property
    def figure(self) -> Figure:
        """The bits per mode of a channel."""
        if self is WeightsFigure.HONEST:
            return holevo_bits_per_mode
        return prior_free_bits_per_mode


LEAKAGE_FIGURES = (
    "weights_bits_per_real",
    "weights_bits_network",
    "weights_bits_prior_free",
    "weights_bits_per_mode",
    "data_bits_first",
    "data_bits_journal",
    "data_bits_quantum",
    "data_bits_first_per_input",
    "data_bits_journal_per_input",
    "data_bits_quantum_per_input",
    "weights_bits_per_query",
    "queries_per_bit_per_weight",
    "excess_noise",
)


@dataclass(frozen=True)
class Leakage:
    """Leakage of one setting: per symbol (of the worst layer), per input, per query.

    Of the weights, bits per real weight and query by three figures: `weights_bits_per_real` is the
    honest one, true for weights that are alike and a client that spreads its noise evenly;
    `weights_bits_network` the bound for this network's own covariance, None where no network is
    known; `weights_bits_prior_free` the bound for any Gaussian prior of this mean power.
    `weights_bits_per_mode` is the honest figure too, `weights_bits_per_query` the prior-free one
    over all weights, and `queries_per_bit_per_weight` its inverse. `channels`: mean photons,
    transmittance and noise of each layer that count as the client's.
    """

    weights_bits_per_mode: float
    weights_bits_per_real: float
    weights_bits_network: float | None
    data_bits_first: float
    data_bits_journal: float
    data_bits_quantum: float
    data_bits_first_per_input: float
    data_bits_journal_per_input: float
    data_bits_quantum_per_input: float
    excess_noise: float
    assumptions: Assumptions
    channels: tuple[tuple[float, float, float], ...]
    modes_per_query: int

    @property
    def weights_bits_prior_free(self) -> float:
        """Bits per real weight of the worst layer, for any Gaussian prior."""
        return max(prior_free_bits_per_mode(*each) for each in self.channels) / WEIGHTS_PER_MODE

    @property
    def weights_bits_per_query(self) -> float:
        """Bits of one query over all weights, prior-free."""
        return self.weights_bits_prior_free * WEIGHTS_PER_MODE * self.modes_per_query

    @property
    def queries_per_bit_per_weight(self) -> float:
        """Queries after which a bit per real weight may be known, prior-free."""
        bits = self.weights_bits_prior_free
        return 1.0 / bits if bits > 0.0 else math.inf

    def weights_bits(self, by: WeightsFigure) -> float:
        """Return the bits per real weight and query by one of the figures that need no network."""
        if by is WeightsFigure.HONEST:
            return self.weights_bits_per_real
        return self.weights_bits_prior_free

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
        """Return the bits per real weight leaked by `queries` queries, prior-free; it adds up."""
        return queries * self.weights_bits_prior_free


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
    spectrum: Spectrum | None = None,
) -> Leakage:
    """Return the leakage of an honest client's run at these settings.

    `emission_factor` n_sp (1: quantum limit) is the amplifier's spontaneous-emission factor, or
    its equal for a tap's detectors. The honest client adds n_sp g to each of the K modes that it
    collects of each block, so n_sp g K B/n to each of n modes in B blocks. The honest figure is
    concave in the noise alone: at the mean noise it is no less than the mean over modes that are
    equally bright. Where brightness differs only the bounds hold; `spectrum` is that of the network
    sent, for its own. The same noise shows the server the data. It is counted undimmed by the way
    back, more than the server sees of it. `transmittance` is that of the round trip without the
    client's
    `rotation`, `technical_noise` the link's own in SNU at the server.
    """
    checks.require(1.0 < gain <= MOST_GAIN, "gain", gain, GAIN_RANGE)
    checks.at_least("emission_factor", emission_factor, 1)
    checks.above("transmittance", transmittance, 0.0, 1.0)
    honest = emission_factor * added_noise(gain)
    shares = [honest * layer.loud_modes / layer.modes for layer in layers]

    def worst_layer(figure: Figure) -> float:
        """Return the bits per mode of the layer that leaks most by this figure."""
        bits = []
        for layer, share in zip(layers, shares, strict=True):
            own = rotation.transmittance(layer.blocks.size, layer.clones)
            bits.append(
                weights_bits_per_mode(
                    mean_photons=mean_photons,
                    transmittance=transmittance * own,
                    excess_noise=share + technical_noise,
                    technical_noise=technical_noise,
                    assumptions=assumptions,
                    client_transmittance=own,
                    figure=figure,
                )
            )
        return max(bits)

    data = [_DataBits.of(layer, gain, emission_factor) for layer in layers]
    channels: list[tuple[float, float, float]] = []

    def honest_figure(mean_photons: float, transmittance: float, excess_noise: float) -> float:
        """Return the honest figure, and keep the channel that it is of."""
        channels.append((mean_photons, transmittance, excess_noise))
        return holevo_bits_per_mode(mean_photons, transmittance, excess_noise)

    honest_bits = worst_layer(honest_figure)
    network = None
    if spectrum is not None:
        network = worst_layer(partial(network_bits_per_mode, spectrum)) / WEIGHTS_PER_MODE
    return Leakage(
        weights_bits_per_mode=honest_bits,
        weights_bits_per_real=honest_bits / WEIGHTS_PER_MODE,
        weights_bits_network=network,
        data_bits_first=max(max(bits.first) for bits in data),
        data_bits_journal=max(max(bits.journal) for bits in data),
        data_bits_quantum=max(max(bits.quantum) for bits in data),
        data_bits_first_per_input=sum(_weighted_sum(bits.first, bits.inputs) for bits in data),
        data_bits_journal_per_input=sum(_weighted_sum(bits.journal, bits.inputs) for bits in data),
        data_bits_quantum_per_input=sum(_weighted_sum(bits.quantum, bits.inputs) for bits in data),
        excess_noise=max(shares) + technical_noise,
        assumptions=assumptions,
        channels=tuple(channels),
        modes_per_query=sum(layer.rows * layer.modes for layer in layers),
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
