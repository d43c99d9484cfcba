"""What is printed as leakage after some queries, to set beside what an attack has learned."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.data.models import Network
from labctl.protocols.carried import carried
from labctl.protocols.encoding import modes_of
from labctl.protocols.leakage import LayerShape
from labctl.protocols.leakage.cumulative import AssumedChannel, cumulative
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.verdict import VerificationReport


@dataclass(frozen=True)
class PrintedFigures:
    """Leakage after some queries in bits per real weight.

    `honest_additive`: the closed form for weights that are alike and independent, times the
    queries. All others hold for any Gaussian prior of the weights. `additive`: of one query,
    times the queries. `memory_unchecked`: of a client with a memory, where single queries alone
    are looked at. `collective_upper`: the same where residuals are summed by weight, at the bound
    that this session's light gives; None where no light was read.
    """

    honest_additive: float
    additive: float
    memory_unchecked: float
    collective_upper: float | None


def printed_figures(
    network: Network, settings: SessionSettings, queries: int, report: VerificationReport
) -> PrintedFigures:
    """Return the figures of honest noise at these settings, of the worst layer.

    `report`: the verdict on the session, for the collective noise and the transmittance at their
    bounds.
    """
    shapes = tuple(
        LayerShape(
            int(layer.shape[0]),
            modes_of(layer.shape[1]),
            int(layer.shape[1]),
            settings.channel.block_modes,
        )
        for layer in carried(network).network.layers
    )
    honest = settings.leakage(shapes)

    def channel(through: float) -> AssumedChannel:
        own = min(settings.channel.rotation.transmittance(shape.blocks.size) for shape in shapes)
        return AssumedChannel(through, settings.channel.technical_noise, settings.assumptions, own)

    seen, lower = report.collective, report.transmittance_lower
    found = cumulative(
        channel(min(settings.transmittance_of(shape.modes) for shape in shapes)),
        queries=queries,
        mean_photons=settings.light.mean_photons,
        excess_noise=honest.excess_noise,
        collective_noise=None,
        collective_noise_upper=None,
    )
    upper = None
    if seen is not None and lower is not None:
        upper = channel(lower).bits(queries * settings.light.mean_photons, seen.upper)
    return PrintedFigures(
        honest_additive=queries * honest.weights_bits_per_real,
        additive=found.additive,
        memory_unchecked=found.memory_unchecked,
        collective_upper=upper,
    )
