"""The server: owns the weights, sends them as light, and never learns the data."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.data.models import Network
from labctl.protocols.encoding import quadratures
from labctl.protocols.leakage import LayerShape
from labctl.protocols.link import LayerLight, ReturnedLight
from labctl.protocols.verification.evidence import LayerEvidence


class Server:
    """Holds the network and the light it sent; nothing of a client's data or values.

    `signed`: whether hidden neurons come with signs that the client cannot know, so that it has to
    feed the next layer with values and magnitudes; public.
    """

    signed = False

    def __init__(
        self, network: Network, mean_photons: float, block_modes: int | None = None
    ) -> None:
        self._light = tuple(
            LayerLight(index, quadratures(weights, mean_photons), block_modes)
            for index, weights in enumerate(network.layers)
        )
        self._evidence: tuple[LayerEvidence, ...] = tuple(
            LayerEvidence(light) for light in self._light
        )
        self._sizes = network.sizes

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self._light)

    @property
    def shapes(self) -> tuple[LayerShape, ...]:
        """Rows, modes per row and block and real inputs of each layer: public."""
        return tuple(
            LayerShape(light.rows, light.modes, inputs, light.block_modes)
            for light, inputs in zip(self._light, self._sizes[:-1], strict=True)
        )

    def light(self, layer: int) -> LayerLight:
        """Return what is sent for a layer; the same for every query."""
        return self._light[layer]

    def sent(self, layer: int, images: int) -> Iterator[tuple[slice, LayerLight]]:
        """Yield what is sent for a layer to `images` images, and to which of them.

        Layers come in order; check what returns of each light before asking for the next.
        """
        yield slice(0, images), self._light[layer]

    def check(self, layer: int, returned: ReturnedLight) -> None:
        """Compare one image's returned light of a layer with what was sent, and pool it."""
        self._evidence[layer].add(returned)

    @property
    def evidence(self) -> tuple[LayerEvidence, ...]:
        """What the returned light has shown so far, one entry per layer."""
        return self._evidence
