"""The server: owns the weights, sends them as light, and never learns the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from labctl.data.models import Network
from labctl.protocols.carried import carried
from labctl.protocols.encoding import quadratures
from labctl.protocols.leakage import LayerShape
from labctl.protocols.link import LayerLight, Reordered, ReturnedLight
from labctl.protocols.verification.evidence import LayerEvidence


def one_clone(_layer: int) -> int:
    """Return how many modes of each block a client collects that hides nothing."""
    return 1


class Server:
    """Holds the network and the light it sent; nothing of a client's data or values.

    `carried`: the part of the network that is sent, and which inputs it needs (public).
    `signed`: whether hidden neurons come with signs that the client cannot know, so that it has to
    feed the next layer with values and magnitudes; public.
    """

    signed = False

    def __init__(
        self,
        network: Network,
        mean_photons: float,
        block_modes: int | None = None,
        clones_of: Callable[[int], int] = one_clone,
    ) -> None:
        """`clones_of`: how many modes of each block of a layer a client collects; public."""
        self.carried = carried(network)
        self._light = tuple(
            LayerLight(index, quadratures(weights, mean_photons), block_modes, clones_of(index))
            for index, weights in enumerate(self.carried.network.layers)
        )
        self._evidence: tuple[LayerEvidence, ...] = tuple(
            LayerEvidence(light) for light in self._light
        )
        self._sizes = self.carried.network.sizes

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self._light)

    @property
    def shapes(self) -> tuple[LayerShape, ...]:
        """Rows, modes per row and block and real inputs of each layer: public."""
        return tuple(
            LayerShape(light.rows, light.modes, inputs, light.block_modes, light.clones)
            for light, inputs in zip(self._light, self._sizes[:-1], strict=True)
        )

    def light(self, layer: int) -> LayerLight:
        """Return what is sent for a layer; the same for every query."""
        return self._light[layer]

    @property
    def templates(self) -> tuple[LayerLight, ...]:
        """Light of each layer's shape, power and largest value, for a link to be prepared with."""
        return self._light

    def sent(self, layer: int, images: int) -> Iterator[tuple[slice, LayerLight]]:
        """Yield what is sent for a layer to `images` images, and to which of them.

        Layers come in order; check what returns of each light before asking for the next.
        """
        yield slice(0, images), self._light[layer]

    def together(self, layer: int, images: int) -> Reordered | None:
        """Return the layer's light for all images at once, and how each image's is ordered.

        Asked for in place of `sent`; None where each query's light must be sent by itself.
        """
        return None

    def check(self, layer: int, returned: ReturnedLight) -> None:
        """Compare one image's returned light of a layer with what was sent, and pool it."""
        self._evidence[layer].add(returned)

    @property
    def evidence(self) -> tuple[LayerEvidence, ...]:
        """What the returned light has shown so far, one entry per layer of `evidence_shapes`."""
        return self._evidence

    @property
    def evidence_shapes(self) -> tuple[LayerShape, ...]:
        """The layers that `evidence` is of."""
        return self.shapes

    @property
    def own_evidence(self) -> tuple[LayerEvidence, ...]:
        """What returned of the network's own layers; see `evidence`."""
        return self.evidence
