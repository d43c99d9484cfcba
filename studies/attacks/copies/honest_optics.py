"""Thieves with honest optics: nothing in the returned light tells them from anybody else.

`model-copy` classifies ordinary images and keeps what it measures anyway: ridge regression of
those values gives the layers. `chosen-principal-inputs` sets its receiver to the principal
directions of public images, in later layers to those of their activations in what it has stolen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

import numpy as np

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.carried import carried
from labctl.protocols.encoding import Floats, modes_of, pad_to_modes
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Attacker, Learned, Mark
from labctl.studies.attacks.copies.looks import Looks, RowPrior
from labctl.studies.attacks.copies.neighbours import Doubles
from labctl.studies.attacks.copies.recording import RecordingLink
from labctl.studies.attacks.copies.stolen import (
    MOST_DIRECTIONS,
    PublicImages,
    StolenNetwork,
    principal_prior,
)
from labctl.studies.attacks.copies.thief import correlation_of
from labctl.studies.attacks.mounted import BesideHonestServer

DIRECTIONS = MOST_DIRECTIONS
# Five times as many pictures as directions.
_PICTURES = 1500
# Later layers are planned again when queries have grown by that factor: errors of the layers
# before, which fall as the root of queries at best, are then an eighth smaller.
_REFRESH = 1.3


class Prior(StrEnum):
    """What a thief takes for granted about rows of weights."""

    FLAT = "flat"
    IMAGES = "images"


@dataclass(frozen=True)
class HonestOptics:
    """A thief with honest optics: nothing marks it; `directions` of the prior, 1 to 300."""

    public: PublicImages
    directions: int = field(default=DIRECTIONS, kw_only=True)
    name: ClassVar[str]
    party: ClassVar[Attacker] = Attacker.CLIENT

    def __post_init__(self) -> None:
        if not 1 <= self.directions <= MOST_DIRECTIONS:
            name = f"{self.name} directions"
            raise SettingError(name, self.directions, f"1 to {MOST_DIRECTIONS}")

    @property
    def strength(self) -> float:
        """Directions of the prior."""
        return float(self.directions)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return no mark at all: the optics is honest."""
        return Mark()


@dataclass(frozen=True)
class ModelCopy(HonestOptics):
    """Regression of the values that an honest client measures.

    `prior`: unit variance for every weight, or variances like those of public images.
    """

    prior: Prior = Prior.IMAGES
    name: ClassVar[str] = "model-copy"

    def mount(self, network: Network, settings: SessionSettings) -> HonestThief:
        """Return the client with its notebook."""
        return HonestThief(self, self.prior, network, settings, chosen=False)


@dataclass(frozen=True)
class ChosenPrincipalInputs(HonestOptics):
    """The same with principal directions in place of images, each as often as it is worth."""

    name: ClassVar[str] = "chosen-principal-inputs"

    def mount(self, network: Network, settings: SessionSettings) -> HonestThief:
        """Return the client with its list of inputs."""
        return HonestThief(self, Prior.IMAGES, network, settings, chosen=True)


class HonestThief(BesideHonestServer):
    """The mounted attack; of its network the thief knows sizes and fed inputs alone."""

    def __init__(
        self,
        attack: HonestOptics,
        prior: Prior,
        network: Network,
        settings: SessionSettings,
        *,
        chosen: bool,
    ) -> None:
        self._public = attack.public
        self._directions = attack.directions
        self._prior = prior
        sent = carried(network)
        self._inputs, self._sizes = sent.inputs, sent.network.sizes
        self._first = attack.public.principal_of(sent.inputs)
        self.link = RecordingLink(settings, self._choose if chosen else None)
        self._plans: dict[int, _Plan] = {}

    @property
    def public(self) -> PublicImages:
        """The images that it has without their labels."""
        return self._public

    def copy(self) -> StolenNetwork:
        """Return the network as regression has it."""
        return self._network(len(self._sizes) - 1)

    def learned(self, network: Network, images: LabelledImages) -> Learned:
        """Score the regression against the truth."""
        return correlation_of(self._network(len(self._sizes) - 1), network)

    def _network(self, layers: int, queries: int | None = None) -> StolenNetwork:
        found: list[Doubles] = []
        for layer in range(layers):
            found.append(self._estimate(layer, found, queries))
        return StolenNetwork(tuple(found), self._inputs)

    def _estimate(self, layer: int, before: Sequence[Doubles], queries: int | None) -> Doubles:
        inputs, record = self._sizes[layer], self.link.records[layer]
        looks = Looks(self._sizes[layer + 1], inputs)
        directions = np.concatenate(record.coefficients)[:queries, :inputs].astype(np.float64)
        values = np.concatenate(record.measured)[:queries].astype(np.float64)
        noise = np.full(len(directions), self.link.noise)
        looks.add(directions, values.T, self.link.amplitude(modes_of(inputs)), noise)
        if self._prior is Prior.FLAT:
            return looks.estimate(RowPrior.flat(inputs), scaled=False)
        return looks.estimate(self._principal(layer, before))

    def _principal(self, layer: int, before: Sequence[Doubles]) -> RowPrior:
        """Return the prior of a layer's rows: variances like those of what feeds it."""
        if layer == 0:
            return self._first.first(self._directions)
        network = StolenNetwork((*before, np.zeros((1, self._sizes[layer]))), self._inputs)
        fed = network.activations(self._public.images[:_PICTURES], layer)
        return principal_prior(fed, self._directions)

    def _choose(self, layer: int, queries: int, coefficients: Floats) -> Floats:
        """Return the directions (B, 2n) of the next queries of a layer."""
        ratio = self.link.amplitude(modes_of(self._sizes[layer])) ** 2 / self.link.noise
        plan = self._plans.get(layer)
        if plan is None or (layer and queries + 1 >= _REFRESH * plan.made_at):
            # Layers of one query come in turn; of a batch the first query's knowledge must do.
            before = self._network(layer, queries + 1).layers
            used = {} if plan is None else plan.used
            plan = _Plan(self._principal(layer, before), ratio, queries + 1, used)
            self._plans[layer] = plan
        chosen = np.stack([plan.next() for _ in coefficients])
        return pad_to_modes(chosen.astype(np.float32))


class _Plan:
    """Which principal direction to ask next: the one whose answer leaves least unknown.

    A direction of variance v in rows and (in proportion) in inputs leaves v^2/(1 + v F q) unknown
    after q answers.
    """

    def __init__(self, prior: RowPrior, ratio: float, made_at: int, used: dict[int, int]) -> None:
        self._prior = prior
        self._ratio = ratio
        self.made_at = made_at
        self.used = used

    def next(self) -> Doubles:
        variances = self._prior.variances
        asked = np.zeros(len(variances))
        for place, count in self.used.items():
            if place < len(asked):
                asked[place] = count
        rest, gain = variances**2, variances * self._ratio
        worth = rest / (1.0 + gain * asked) - rest / (1.0 + gain * (asked + 1.0))
        place = int(np.argmax(worth))
        self.used[place] = self.used.get(place, 0) + 1
        return np.asarray(self._prior.directions[:, place])
