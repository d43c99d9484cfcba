"""The client that reads principal directions by QND, layer after layer, with a budget for each.

One number per row matters for a picture-like prior: its part along each principal direction of
public images. The quadrature along a real direction v is X of the mode with coefficients
v_2k + i v_2k+1. A QND coupling of strength b reads it with 1/b SNU of added noise and puts b SNU on
P of the same mode, nothing on X. Directions that are read at once do not quite commute; coupled
together, each reading has half of what the others' kicks do to it. Sum b of a row is the budget.
Layers come in turn: the next is read along the principal activations of public images in the layer
just stolen. No memory: noise is independent between queries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.carried import Carried
from labctl.protocols.encoding import pad_to_modes
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Learned
from labctl.studies.attacks.copies.looks import Looks, RowPrior
from labctl.studies.attacks.copies.neighbours import Doubles
from labctl.studies.attacks.copies.read_bits import bits_per_weight
from labctl.studies.attacks.copies.stolen import (
    PublicImages,
    StolenNetwork,
    principal_prior,
)
from labctl.studies.attacks.copies.thief import correlation_of
from labctl.studies.attacks.mounted import BesideHonestServer
from labctl.studies.attacks.tampered_link import Beam, Path, TamperedLink

# Of 784 pixels of digits, 100 directions hold 95 % of the power and 40 hold 87 %: later layers are
# read with fewer couplings, as their inputs have fewer strong directions.
DIRECTIONS = 100
LATER_DIRECTIONS = 40
PICTURES = 1500
# As in `honest_optics`.
_REFRESH = 1.3
# So weak that the receiver the session asks for reads nothing and adds nothing.
_IDLE_GAIN = 1.0 + 1e-9


@dataclass(frozen=True, eq=False)
class LightReading:
    """What one query showed of one layer: values (rows, K) along directions (K, N)."""

    directions: Doubles
    values: Doubles
    amplitude: float
    noise: Doubles

    def into(self, looks: Looks) -> None:
        """Add it to looks whose rows and columns have the same order."""
        looks.add(self.directions, self.values, self.amplitude, self.noise)


class PrincipalThief(BesideHonestServer):
    """The mounted attack."""

    def __init__(
        self,
        public: PublicImages,
        sent: Carried,
        settings: SessionSettings,
        budgets: Sequence[float],
        robbed: int | None = None,
    ) -> None:
        """Take its place on the path, behind the leg to the client.

        `sent`: of its network, sizes and fed inputs alone are known to a thief. `budgets`: sum of
        the couplings of a row of each layer in SNU. `robbed`: queries that are read, None for all.
        """
        self._public = public
        self._inputs, self._sizes = sent.inputs, sent.network.sizes
        self._first = public.principal_of(sent.inputs)
        self._budget = budgets
        self._robbed = robbed
        self._readings: list[list[LightReading]] = [[] for _ in self._sizes[1:]]
        self._known: dict[int, tuple[int, RowPrior]] = {}
        self._scale = math.sqrt(2.0 * settings.light.mean_photons)
        idle = CloneReceiver(_IDLE_GAIN, 1.0, IDEAL_HOMODYNE)
        path = replace(Path.honest(settings), receiver=idle, entering=(self,))
        self.link = TamperedLink(settings, path)

    @property
    def public(self) -> PublicImages:
        """The images that it has without their labels."""
        return self._public

    @property
    def queries(self) -> int:
        """Queries of which all layers were read."""
        return len(self._readings[-1])

    def meet(self, beam: Beam) -> None:
        """Read the passing layer along this query's directions, if it is robbed."""
        layer, inputs = beam.light.layer, self._sizes[beam.light.layer]
        query = len(self._readings[layer])
        if query == self._robbed:
            return
        prior = self._prior(layer, query)
        amplitude = self._scale * math.sqrt(beam.transmittance)
        strengths = self._strengths(layer, query, prior, amplitude)
        chosen = strengths > 0.0
        directions = np.ascontiguousarray(prior.directions[:, chosen].T)
        values = _couple(beam, directions, strengths[chosen])
        noise = 1.0 + 1.0 / strengths[chosen]
        self._readings[layer].append(LightReading(directions[:, :inputs], values, amplitude, noise))

    def _strengths(self, layer: int, query: int, prior: RowPrior, amplitude: float) -> Doubles:
        """Return this query's couplings: what the best sum over all queries so far still lacks."""
        signal, spent = amplitude**2 * prior.variances, self._budget[layer] * (query + 1)
        # Inputs have mean squares in proportion to the prior's variances.
        return _filled(prior.variances**2, signal, spent) / (query + 1)

    def _prior(self, layer: int, query: int) -> RowPrior:
        """Return along what a layer is read in a query, from what is known by then."""
        if layer == 0:
            return self._first.first(DIRECTIONS)
        known = self._known.get(layer)
        if known is None or query + 1 >= _REFRESH * known[0]:
            network = self._network(query + 1, layer)
            inputs = network.activations(self._public.images[:PICTURES], layer)
            known = query + 1, principal_prior(inputs, LATER_DIRECTIONS)
            self._known[layer] = known
        return known[1]

    def _network(self, queries: int, layers: int) -> StolenNetwork:
        """Return the first layers as known after some queries."""
        found: list[Doubles] = []
        for layer in range(layers):
            looks = Looks(self._sizes[layer + 1], self._sizes[layer])
            for reading in self._readings[layer][:queries]:
                reading.into(looks)
            found.append(looks.estimate(self._prior_of_all(layer, found)))
        return StolenNetwork(tuple(found), self._inputs)

    def _prior_of_all(self, layer: int, before: Sequence[Doubles]) -> RowPrior:
        """Return what rows of a layer look like, given the layers before."""
        if layer == 0:
            return self._prior(0, 0)
        network = StolenNetwork((*before, np.zeros((1, self._sizes[layer]))), self._inputs)
        fed = network.activations(self._public.images[:PICTURES], layer)
        return principal_prior(fed, DIRECTIONS)

    def copy(self) -> StolenNetwork:
        """Return the network as read in all queries."""
        return self._network(self.queries, len(self._sizes) - 1)

    def learned(self, network: Network, images: LabelledImages) -> Learned:
        """Score the first layers' weights, read from all queries, against the truth."""
        found = correlation_of(self._network(self.queries, len(self._sizes) - 1), network)
        looks = [
            [(each.directions, each.amplitude, each.noise) for each in layer]
            for layer in self._readings
        ]
        return replace(found, weights_bits_network=bits_per_weight(network, looks))


def _filled(importance: Doubles, signal: Doubles, budget: float) -> Doubles:
    """Return couplings b >= 0 of sum `budget` that leave least of the rows' effect unknown.

    A direction of variance v in the rows and mean square s in the inputs leaves s v/(1 + signal b)
    unknown, `importance` being s v. Least where 1 + signal b is sqrt(s v signal/level), or b is 0.
    """
    height = np.sqrt(importance / signal)
    order = np.argsort(-height * signal, kind="stable")
    heights, floors = np.cumsum(height[order]), np.cumsum(1.0 / signal[order])
    levels = (budget + floors) / heights
    # With the first k directions in use, each of them must come out above 0.
    used = int(np.count_nonzero(levels * (height * signal)[order] > 1.0))
    return np.asarray(np.maximum(height * levels[max(used, 1) - 1] - 1.0 / signal, 0.0))


def _couple(beam: Beam, directions: Doubles, strengths: Doubles) -> Doubles:
    """Read directions (K, N) of all rows with these couplings (K,); return values (rows, K)."""
    modes = pad_to_modes(directions.astype(np.float32)).view(np.complex64)
    roots = np.sqrt(strengths).astype(np.float32)
    ancillas = beam.vacuum(beam.light.rows, len(roots))
    before = (beam.field @ modes.conj().T).real
    # On P of each mode alone: X keeps its value.
    beam.field += (1j * roots * ancillas.imag).astype(np.complex64) @ modes
    after = (beam.field @ modes.conj().T).real
    return np.asarray(0.5 * (before + after) + ancillas.real / roots, np.float64)
