"""The same thief against a server that sends its hidden neurons in a fresh order for each query.

What one query shows is complete in its own order; over queries, slots are matched to the rows that
they most look like.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.carried import Inputs
from labctl.protocols.encoding import Floats, unit_norm
from labctl.studies.attacks.attack import Learned
from labctl.studies.attacks.copies.looks import Looks, RowPrior
from labctl.studies.attacks.copies.neighbours import Doubles, Indices
from labctl.studies.attacks.copies.principal_thief import (
    DIRECTIONS,
    LATER_DIRECTIONS,
    PICTURES,
    LightReading,
    PrincipalThief,
)
from labctl.studies.attacks.copies.stolen import (
    PublicImages,
    StolenNetwork,
    passed_on,
    principal_prior,
)


class _SingleCopy:
    """The layers that one query shows, built up in turn, and their values for public images."""

    def __init__(self, public: PublicImages, inputs: Inputs, first: RowPrior) -> None:
        self._inputs, self._first = inputs, first
        self.layers: list[Doubles] = []
        self.fed: list[Floats] = [unit_norm(inputs.taken(public.images[:PICTURES]))]

    @property
    def network(self) -> StolenNetwork:
        """The layers so far as a network."""
        return StolenNetwork(tuple(self.layers), self._inputs)

    def add(self, looks: Looks) -> None:
        """Add the next layer, of these looks."""
        prior = principal_prior(self.fed[-1], DIRECTIONS) if self.layers else self._first
        self.layers.append(looks.estimate(prior))
        self.fed.append(passed_on(self.fed[-1], self.layers[-1]))


class FreshOrderThief(PrincipalThief):
    """The same against a server that sends its hidden neurons in a different order per query.

    Rows are matched, query by query, to the rows known so far; neurons that look alike may be taken
    for each other, which costs a copy little.
    """

    # Layers are met in turn, query by query: what one query has shown is built up once.
    _last: tuple[int, _SingleCopy] | None = None

    def copy(self) -> StolenNetwork:
        """Return the network of all queries, each query's rows matched to it."""
        if self.queries == 1:
            return self._single(0, len(self._sizes) - 1).network
        return self._matched()

    def learned(self, network: Network, images: LabelledImages) -> Learned:
        """Score nothing: the orders are not known, so no weight has a place."""
        return Learned(sum(one.size for one in network.layers))

    def _prior(self, layer: int, query: int) -> RowPrior:
        if layer == 0:
            return super()._prior(0, query)
        known = self._known.get(layer)
        if known is None or known[0] != query:
            inputs = self._single(query, layer).fed[layer]
            known = query, principal_prior(inputs, LATER_DIRECTIONS)
            self._known[layer] = known
        return known[1]

    def _strengths(self, layer: int, query: int, prior: RowPrior, amplitude: float) -> Doubles:
        # What is not matched does not add up: every query is spent as if it were the only one.
        return super()._strengths(layer, 0, prior, amplitude)

    def _single(self, query: int, layers: int) -> _SingleCopy:
        """Return the first layers, and maybe more, as one query shows them, in its own order."""
        if self._last is None or self._last[0] != query:
            self._last = query, _SingleCopy(self._public, self._inputs, self._prior(0, query))
        single = self._last[1]
        for layer in range(len(single.layers), layers):
            looks = Looks(self._sizes[layer + 1], self._sizes[layer])
            self._readings[layer][query].into(looks)
            single.add(looks)
        return single

    def _matched(self) -> StolenNetwork:
        """Return the layers pooled over queries, each slot taken for the row it most looks like."""
        found: list[Doubles] = []
        orders = [np.arange(self._sizes[0])] * self.queries
        for layer in range(len(self._sizes) - 1):
            hidden = layer < len(self._sizes) - 2
            looks, prior = Looks(self._sizes[layer + 1], self._sizes[layer]), None
            rows = [np.arange(self._sizes[layer + 1])]
            prior = self._prior_of_all(layer, found)
            for query, reading in enumerate(self._readings[layer]):
                placed = replace(reading, directions=_placed(reading.directions, orders[query]))
                if hidden and query:
                    order = _matching(placed, looks.estimate(prior))
                    rows.append(order)
                    values = np.empty_like(placed.values)
                    values[order] = placed.values
                    placed = replace(placed, values=values)
                elif query:
                    rows.append(rows[0])
                placed.into(looks)
            found.append(looks.estimate(prior))
            orders = rows
        return StolenNetwork(tuple(found), self._inputs)


def _placed(directions: Doubles, order: Indices) -> Doubles:
    """Return directions (K, N) with slot i at place order[i]."""
    placed = np.empty_like(directions)
    placed[:, order] = directions
    return placed


def _matching(reading: LightReading, known: Doubles) -> Indices:
    """Return for each slot the row that explains its values best, each row taken once."""
    expected = reading.amplitude * (known @ reading.directions.T)
    weighed = expected / reading.noise
    likelihood = reading.values @ weighed.T - 0.5 * np.sum(expected * weighed, axis=1)
    return np.asarray(linear_sum_assignment(likelihood, maximize=True)[1])
