"""A client that reads principal directions of the light by QND and spends the allowed noise on it.

One number per row matters for a picture-like prior: its part along each principal direction of
public images. The quadrature along a real direction v is X of the mode with coefficients
v_2k + i v_2k+1. A QND coupling of strength b reads it with 1/b SNU of added noise and puts b SNU on
P of the same mode, nothing on X. Directions that are read at once do not quite commute; coupled
together, each reading has half of what the others' kicks do to it. Sum b of a row is the budget:
an honest clone puts g on X and on P, so b adds up to 2 g. Layers come in turn: the next is read
along the principal activations of public images in the layer just stolen. No memory: noise is
independent between queries. Where the server sends a fresh order of hidden neurons, rows of each
query are matched to what is known of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
from scipy.optimize import linear_sum_assignment

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.attacks.attack import Learned, Mark, Party
from labctl.protocols.attacks.copies.looks import Looks, RowPrior
from labctl.protocols.attacks.copies.neighbours import Doubles, Indices
from labctl.protocols.attacks.copies.stolen import (
    Copy,
    PublicImages,
    StolenNetwork,
    principal_prior,
)
from labctl.protocols.attacks.copies.thief import correlation_of
from labctl.protocols.attacks.tampered_link import Beam, Path, TamperedLink
from labctl.protocols.encoding import Blocks, Floats, modes_of, pad_to_modes
from labctl.protocols.receiver import IDEAL_HOMODYNE, CloneReceiver
from labctl.protocols.settings import SessionSettings
from labctl.protocols.verification.checks import SHARES
from labctl.protocols.verification.noise_ratio import normal_isf

_DIRECTIONS = 100
_LATER_DIRECTIONS = 40
_LATER_SHARE = 0.2
_PICTURES = 1500
_REFRESH = 1.3
# So weak that the receiver the session asks for reads nothing and adds nothing.
_IDLE_GAIN = 1.0 + 1e-9


@dataclass(frozen=True)
class PrincipalModes:
    """Reads with `noise` times the excess noise of an honest clone, pooled over all modes.

    `later_share`: part of it that goes on the layers after the first, in equal parts. `last_share`:
    part that goes on the last one, None for its equal part: few rows show noise soonest.
    """

    public: PublicImages
    noise: float = 1.0
    later_share: float = _LATER_SHARE
    last_share: float | None = None
    name: ClassVar[str] = "principal-modes"
    party: ClassVar[Party] = Party.CLIENT

    def __post_init__(self) -> None:
        if not 0.0 < self.noise < math.inf:
            raise SettingError(f"{self.name} noise", self.noise, "above 0, of the honest noise")
        if not 0.0 < self.later_share < 1.0:
            raise SettingError("later_share", self.later_share, "above 0 and below 1")
        if self.last_share is not None and not 0.0 < self.last_share < 1.0:
            raise SettingError("last_share", self.last_share, "above 0 and below 1, or none")

    @property
    def strength(self) -> float:
        """Noise over that of honest use."""
        return self.noise

    def mount(self, network: Network, settings: SessionSettings) -> PrincipalThief:
        """Return the client with its couplings; raises SettingError for blocks or signs."""
        if settings.block_modes is not None:
            raise SettingError("block_modes", settings.block_modes, "none: whole rows are read")
        if settings.disguise.signs:
            raise SettingError("disguise", "signs", "none or an order alone")
        return PrincipalThief.on(self, network.sizes, settings)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return the noise above an honest clone's; slopes stay."""
        return Mark(excess_noise=(self.noise - 1.0) * honest_noise(network.sizes, settings))

    @staticmethod
    def hidden_noise(
        queries: int, sizes: Sequence[int], settings: SessionSettings, acceptance: float
    ) -> float:
        """Return how many times honest noise passes the pooled check of `queries` queries.

        With probability `acceptance` (normal approximation), if the calibration is exact; 1 or
        more. What hides per query falls with the root of the queries, its sum grows with it.
        """
        modes = queries * sum(_modes(sizes))
        alarm = settings.verification.false_alarm_probability
        slack = normal_isf(SHARES["pooled noise"] * alarm) + normal_isf(acceptance)
        hidden = max(slack, 0.0) * math.sqrt(2.0 / modes)
        return 1.0 + hidden / honest_noise(sizes, settings)

    def hidden_in(
        self, queries: int, sizes: Sequence[int], settings: SessionSettings, acceptance: float
    ) -> PrincipalModes:
        """Return the attack with the noise that hides in so many queries (`hidden_noise`).

        The last layer has few rows: its share is cut so that no row shows by itself, but not below
        what it gets at honest noise.
        """
        noise = self.hidden_noise(queries, sizes, settings, acceptance)
        honest = honest_noise(sizes, settings) * sum(_modes(sizes))
        equal = self.later_share / max(len(sizes) - 2, 1)
        # Noise on all modes of a row, of one standard deviation of its own mean square.
        unseen = sizes[-1] * math.sqrt(sizes[-2] / queries)
        last = min(equal, max(unseen / (noise * honest), equal / noise))
        return replace(self, noise=noise, last_share=last)


def _modes(sizes: Sequence[int]) -> list[int]:
    return [rows * modes_of(inputs) for inputs, rows in pairwise(sizes)]


def row_modes(sizes: Sequence[int]) -> float:
    """Return the modes per row, averaged over all rows of a network of these layer sizes."""
    return sum(_modes(sizes)) / sum(sizes[1:])


def honest_noise(sizes: Sequence[int], settings: SessionSettings) -> float:
    """Return the excess noise of honest clones at the server in SNU, pooled over all modes.

    With decoys each block has as many clones more, and the server has to accept their noise.
    """
    added = 0.0
    for layer, (inputs, rows) in enumerate(pairwise(sizes)):
        modes = modes_of(inputs)
        clones = Blocks.of(modes, settings.block_modes).collected(settings.clones_of(layer))
        added += rows * clones * settings.leg_transmittance_of(modes)
    return settings.receiver.returned_noise * added / sum(_modes(sizes))


@dataclass(frozen=True, eq=False)
class Reading:
    """What one query showed of one layer: values (rows, K) along directions (K, N)."""

    directions: Doubles
    values: Doubles
    amplitude: float
    noise: Doubles

    def into(self, looks: Looks) -> None:
        """Add it to looks whose rows and columns have the same order."""
        looks.add(self.directions, self.values, self.amplitude, self.noise)


class PrincipalThief:
    """The mounted attack."""

    def __init__(self, attack: PrincipalModes, sizes: tuple[int, ...], budget: list[float]) -> None:
        self._attack = attack
        self._sizes = sizes
        self._budget = budget
        self._readings: list[list[Reading]] = [[] for _ in sizes[1:]]
        self._known: dict[int, tuple[int, RowPrior]] = {}
        self.link: TamperedLink

    @classmethod
    def on(
        cls, attack: PrincipalModes, sizes: tuple[int, ...], settings: SessionSettings
    ) -> PrincipalThief:
        """Return the thief at its place on the path, behind the leg to the client."""
        fresh = settings.disguise.permute
        kind = FreshOrderThief if fresh else cls
        thief = kind(attack, sizes, _budgets(attack, sizes, settings))
        idle = CloneReceiver(_IDLE_GAIN, 1.0, IDEAL_HOMODYNE)
        path = replace(Path.honest(settings), receiver=idle, entering=(thief,))
        thief._scale = math.sqrt(2.0 * settings.mean_photons)
        thief.link = TamperedLink(settings, path)
        return thief

    _scale: float

    @property
    def public(self) -> PublicImages:
        """The images that it has without their labels."""
        return self._attack.public

    @property
    def server(self) -> None:
        """The server is the honest one."""
        return None

    def inputs(self, images: Floats) -> Floats:
        """Return the images as they are; the client reads what it likes."""
        return images

    @property
    def queries(self) -> int:
        """Queries of which all layers were read."""
        return len(self._readings[-1])

    def meet(self, beam: Beam) -> None:
        """Read the passing layer along this query's directions."""
        layer, inputs = beam.light.layer, self._sizes[beam.light.layer]
        query = len(self._readings[layer])
        prior = self._prior(layer, query)
        amplitude = self._scale * math.sqrt(beam.transmittance)
        strengths = self._strengths(layer, query, prior, amplitude)
        chosen = strengths > 0.0
        directions = np.ascontiguousarray(prior.directions[:, chosen].T)
        values = _couple(beam, directions, strengths[chosen])
        noise = 1.0 + 1.0 / strengths[chosen]
        self._readings[layer].append(Reading(directions[:, :inputs], values, amplitude, noise))

    def _strengths(self, layer: int, query: int, prior: RowPrior, amplitude: float) -> Doubles:
        """Return this query's couplings: what the best sum over all queries so far still lacks."""
        signal, spent = amplitude**2 * prior.variances, self._budget[layer] * (query + 1)
        # Inputs have mean squares in proportion to the prior's variances.
        return _filled(prior.variances**2, signal, spent) / (query + 1)

    def _prior(self, layer: int, query: int) -> RowPrior:
        """Return along what a layer is read in a query, from what is known by then."""
        public = self._attack.public
        if layer == 0:
            return public.principal.first(_DIRECTIONS)
        known = self._known.get(layer)
        if known is None or query + 1 >= _REFRESH * known[0]:
            network = self._network(query + 1, layer)
            inputs = network.activations(public.images[:_PICTURES], layer)
            known = query + 1, principal_prior(inputs, _LATER_DIRECTIONS)
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
        return StolenNetwork(tuple(found))

    def _prior_of_all(self, layer: int, before: Sequence[Doubles]) -> RowPrior:
        """Return what rows of a layer look like, given the layers before."""
        if layer == 0:
            return self._prior(0, 0)
        network = StolenNetwork((*before, np.zeros((1, self._sizes[layer]))))
        fed = network.activations(self._attack.public.images[:_PICTURES], layer)
        return principal_prior(fed, _DIRECTIONS)

    def copy(self) -> Copy:
        """Return the network as read in all queries."""
        return self._network(self.queries, len(self._sizes) - 1)

    def learned(self, network: Network, images: LabelledImages) -> Learned:
        """Score the first layers' weights, read from all queries, against the truth."""
        return correlation_of(self._network(self.queries, len(self._sizes) - 1), network)


class FreshOrderThief(PrincipalThief):
    """The same against a server that sends its hidden neurons in an order of its own per query.

    Rows are matched, query by query, to the rows known so far; neurons that look alike may be taken
    for each other, which costs a copy little.
    """

    def copy(self) -> Copy:
        """Return what the matched network and the networks of single queries say together."""
        layers = len(self._sizes) - 1
        singles = [self._single(query, layers) for query in range(self.queries)]
        if len(singles) == 1:
            return singles[0]
        return self._matched()

    def learned(self, network: Network, images: LabelledImages) -> Learned:
        """Score nothing: the orders are not known, so no weight has a place."""
        return Learned(sum(one.size for one in network.layers))

    def _prior(self, layer: int, query: int) -> RowPrior:
        if layer == 0:
            return super()._prior(0, query)
        known = self._known.get(layer)
        if known is None or known[0] != query:
            inputs = self._single(query, layer).activations(
                self._attack.public.images[:_PICTURES], layer
            )
            known = query, principal_prior(inputs, _LATER_DIRECTIONS)
            self._known[layer] = known
        return known[1]

    def _strengths(self, layer: int, query: int, prior: RowPrior, amplitude: float) -> Doubles:
        # What is not matched does not add up: every query is spent as if it were the only one.
        return super()._strengths(layer, 0, prior, amplitude)

    def _single(self, query: int, layers: int) -> StolenNetwork:
        """Return the first layers as one query shows them, in its own order."""
        found: list[Doubles] = []
        for layer in range(layers):
            looks = Looks(self._sizes[layer + 1], self._sizes[layer])
            self._readings[layer][query].into(looks)
            found.append(looks.estimate(self._prior_of_all(layer, found)))
        return StolenNetwork(tuple(found))

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
        return StolenNetwork(tuple(found))


def _placed(directions: Doubles, order: Indices) -> Doubles:
    """Return directions (K, N) with slot i at place order[i]."""
    placed = np.empty_like(directions)
    placed[:, order] = directions
    return placed


def _matching(reading: Reading, known: Doubles) -> Indices:
    """Return for each slot the row that explains its values best, each row taken once."""
    expected = reading.amplitude * (known @ reading.directions.T)
    weighed = expected / reading.noise
    likelihood = reading.values @ weighed.T - 0.5 * np.sum(expected * weighed, axis=1)
    return np.asarray(linear_sum_assignment(likelihood, maximize=True)[1])


def _budgets(
    attack: PrincipalModes, sizes: Sequence[int], settings: SessionSettings
) -> list[float]:
    """Return the sum of couplings of a row of each layer, in SNU at the client.

    Noise of X and P of all modes, summed, over what reaches the server.
    """
    modes, rows = _modes(sizes), sizes[1:]
    total = 2.0 * attack.noise * honest_noise(sizes, settings) * sum(modes)
    later = len(modes) - 1
    shares = [1.0]
    if later:
        equal = attack.later_share / later
        last = equal if attack.last_share is None else attack.last_share
        between = [equal] * (later - 1)
        shares = [1.0 - sum(between) - last, *between, last]
    return [
        share * total / (count * settings.leg_transmittance_of(modes_of(inputs)))
        for share, count, inputs in zip(shares, rows, sizes[:-1], strict=True)
    ]


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
