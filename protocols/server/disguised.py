"""A server that sends every query another order, and other signs, of its hidden neurons."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.disguise import (
    Disguise,
    HiddenOrder,
    OrderSource,
    key_of_seed,
    new_key,
)
from labctl.protocols.encoding import Floats, pad_to_modes, quadratures
from labctl.protocols.leakage import LayerShape
from labctl.protocols.link import LayerLight, Reordered, ReturnedLight
from labctl.protocols.server.plain import Server, one_clone
from labctl.protocols.server.varying_evidence import VaryingEvidence
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.collective import Placement


class DisguisedServer(Server):
    """Sends the network in disguise; classes are those of the plain network, up to rounding.

    `key`: the secret of the orders, drawn if it is None. With signs the layers after the first have
    twice the inputs.
    """

    def __init__(
        self,
        network: Network,
        mean_photons: float,
        block_modes: int | None,
        disguise: Disguise,
        *,
        key: bytes | None = None,
        clones_of: Callable[[int], int] = one_clone,
    ) -> None:
        self._clones_of = clones_of
        super().__init__(network, mean_photons, block_modes, clones_of)
        self._plain = self._light
        self.signed = disguise.signs
        # Scaled once: order and signs change neither a layer's power nor, doubled, its mean power.
        self._sent = tuple(
            quadratures(weights, mean_photons)[:, : weights.shape[1]]
            for weights in self.carried.network.layers
        )
        self._block_modes = block_modes
        self._source = OrderSource(disguise, new_key() if key is None else key)
        self._first_query = 0
        self._queries = 0
        self._current: LayerLight | None = None
        self._templates = tuple(self._light_of(0, layer) for layer in range(self.layers))
        self._placed: Placement | None = None
        self._varying = tuple(
            VaryingEvidence(
                light,
                weights if self._doubled(layer) else pad_to_modes(weights),
                2 if self._doubled(layer) else 1,
            )
            for layer, (light, weights) in enumerate(zip(self._templates, self._sent, strict=True))
        )
        self._evidence = self._varying

    @property
    def shapes(self) -> tuple[LayerShape, ...]:
        """Rows, modes per row and block and real inputs of each layer, as they are sent."""
        factors = (1, *(2 if self.signed else 1 for _ in self._sent[1:]))
        return tuple(
            LayerShape(
                light.row_count,
                light.blocks.modes,
                factor * inputs,
                self._block_modes,
                self._clones_of(light.layer),
            )
            for light, factor, inputs in zip(self._evidence, factors, self._sizes[:-1], strict=True)
        )

    def light(self, layer: int) -> LayerLight:
        """Refuse, with SettingError: no light is the same for every query; see `sent`."""
        raise SettingError(
            "disguise",
            f"layer {layer + 1} asked for once",
            "none where light is uploaded only once",
        )

    @property
    def templates(self) -> tuple[LayerLight, ...]:
        """Light of each layer's shape, power and largest value; that of the first query."""
        return self._templates

    def sent(self, layer: int, images: int) -> Iterator[tuple[slice, LayerLight]]:
        """Yield each image's own light; layer 0 begins new queries. See `Server.sent`."""
        self._count(layer, images)
        for image in range(images):
            self._current = self._light_of(self._first_query + image, layer)
            self._placed = self._placement_of(self._first_query + image, layer)
            yield slice(image, image + 1), self._current

    def together(self, layer: int, images: int) -> Reordered | None:
        """Return the layer's plain light and each query's orders; None with signs or in blocks.

        The other light of a query with signs is not a reordered one, and blocks of a row are
        normalised by slot.
        """
        if self.signed or self._plain[layer].blocks.count > 1:
            return None
        self._count(layer, images)
        queries = range(self._first_query, self._first_query + images)
        return Reordered(
            self._plain[layer],
            columns=self._orders(queries, layer - 1) if layer > 0 else None,
            rows=self._orders(queries, layer) if layer < self.layers - 1 else None,
        )

    def _orders(self, queries: range, layer: int) -> npt.NDArray[np.intp]:
        return np.stack([self._order(query, layer).neurons for query in queries])

    def _count(self, layer: int, images: int) -> None:
        """Begin new queries with layer 0."""
        if layer == 0:
            self._first_query += self._queries
            self._queries = images

    def check(self, layer: int, returned: ReturnedLight) -> None:
        """Compare the returned light of the query that was sent last with what that was."""
        assert self._current is not None
        assert self._current.layer == layer
        assert self._placed is not None
        self._varying[layer].add_query(self._current, self._placed, returned)

    def _light_of(self, query: int, layer: int) -> LayerLight:
        """Return what is sent of a layer for a query."""
        weights: Floats = self._sent[layer]
        plain, order = None, None
        if layer > 0:
            weights = self._order(query, layer - 1).columns(weights, self.signed)
        if layer < self.layers - 1:
            drawn = self._order(query, layer)
            weights = drawn.rows(weights)
            if layer == 0 and drawn.changed_signs is None:
                plain, order = self._plain[0], drawn.neurons
        return LayerLight(
            layer,
            pad_to_modes(weights),
            self._block_modes,
            self._clones_of(layer),
            plain,
            order,
        )

    def _placement_of(self, query: int, layer: int) -> Placement:
        """Return which weight each slot of a layer carries for a query."""
        outputs, inputs = self._sent[layer].shape
        rows = HiddenOrder(np.arange(outputs), np.ones(outputs, np.float32))
        if layer < self.layers - 1:
            rows = self._order(query, layer)
        columns, signs = np.arange(inputs), np.ones(inputs, np.float32)
        if layer > 0:
            # Activations are positive: a neuron's sign is in its row, and in the doubled columns.
            order = self._order(query, layer - 1)
            columns = order.neurons
            if self.signed:
                columns = np.concatenate([columns, columns])
                signs = np.concatenate([order.signs, signs])
        if len(columns) % 2:
            columns, signs = np.append(columns, inputs), np.append(signs, np.float32(1.0))
        return Placement(rows.neurons, rows.signs, columns, signs)

    def _doubled(self, layer: int) -> bool:
        """Whether a layer's weights ride twice in each query."""
        return self.signed and layer > 0

    def _order(self, query: int, layer: int) -> HiddenOrder:
        return self._source.draw(query, layer, self._sizes[layer + 1])


def honest_server(
    network: Network, settings: SessionSettings, *, key: bytes | None = None
) -> Server:
    """Return the server of the settings.

    `key`: the secret of its disguise; None takes it from the settings' seed, so that runs repeat.
    """
    if settings.light.disguise.plain or len(network.layers) == 1:
        return Server(
            network, settings.light.mean_photons, settings.channel.block_modes, settings.clones_of
        )
    return DisguisedServer(
        network,
        settings.light.mean_photons,
        settings.channel.block_modes,
        settings.light.disguise,
        key=key or key_of_seed(settings.seed),
        clones_of=settings.clones_of,
    )
