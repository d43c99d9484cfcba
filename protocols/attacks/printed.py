"""What is printed as leakage after some queries, to set beside what an attack has learned."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.data.models import Network
from labctl.protocols.carried import carried
from labctl.protocols.encoding import modes_of
from labctl.protocols.leakage import WEIGHTS_PER_MODE, LayerShape, leakage_of
from labctl.protocols.leakage.prior_free import prior_free_bits_per_mode
from labctl.protocols.settings import SessionSettings


@dataclass(frozen=True)
class PrintedFigures:
    """Leakage after some queries in bits per real weight, whatever Gaussian prior they have.

    `honest_additive`: the closed form for weights that are alike and independent, times the
    queries. `additive`: for the worst prior, times the queries: no memory between queries.
    `memory_unchecked`: of a client with a quantum memory whose light is checked query by query
    alone.
    """

    honest_additive: float
    additive: float
    memory_unchecked: float


def printed_figures(network: Network, settings: SessionSettings, queries: int) -> PrintedFigures:
    """Return the figures of honest noise at these settings, of the worst layer.

    Loss and noise untrusted or trusted as the settings say for the first; the others take all of
    both as the client's. Light of R queries is, up to a passive transformation, one mode of R times
    the light and R - 1 without; noise put into it on purpose may all sit on that one.
    """
    shapes = tuple(
        LayerShape(
            int(layer.shape[0]), modes_of(layer.shape[1]), int(layer.shape[1]), settings.block_modes
        )
        for layer in carried(network).network.layers
    )
    honest = leakage_of(
        shapes,
        mean_photons=settings.mean_photons,
        gain=settings.receiver.gain,
        transmittance=settings.transmittance,
        technical_noise=settings.technical_noise,
        assumptions=settings.assumptions,
        emission_factor=settings.receiver.emission_factor,
        rotation=settings.rotation,
    )
    through = min(settings.transmittance_of(shape.modes) for shape in shapes)
    mu, noise = settings.mean_photons, honest.excess_noise
    one = prior_free_bits_per_mode(mu, through, noise)
    memory = prior_free_bits_per_mode(queries * mu, through, queries * noise)
    return PrintedFigures(
        honest_additive=honest.after(queries),
        additive=queries * one / WEIGHTS_PER_MODE,
        memory_unchecked=memory / WEIGHTS_PER_MODE,
    )
