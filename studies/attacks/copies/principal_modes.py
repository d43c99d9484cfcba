"""A client that reads principal directions of the light by QND and spends the allowed noise on it.

An honest clone puts g on X and on P of its mode, so a row's couplings may add up to 2 g. Here they
are shared out between layers; what they read is in `principal_thief`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from labctl import checks
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.carried import carried
from labctl.protocols.copies.spend import (
    hidden_noise,
    honest_noise,
    modes_of_layers,
    sent_sizes,
)
from labctl.protocols.encoding import modes_of
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Attacker, Mark
from labctl.studies.attacks.copies.fresh_order_thief import FreshOrderThief
from labctl.studies.attacks.copies.principal_thief import PrincipalThief
from labctl.studies.attacks.copies.stolen import PublicImages
from labctl.studies.attacks.demands import require_whole_rows

_LATER_SHARE = 0.2
# Principal directions crowd on the modes where pictures are bright. Of the deep network with three
# decoys all that hides in 30 queries showed there by a twentieth too much.
_SPENT_AT_ONCE = 0.8


@dataclass(frozen=True)
class PrincipalModes:
    """Reads with `noise` times the excess noise of an honest clone, pooled over all modes.

    `later_share`: part of it that goes on the layers after the first, in equal parts. `last_share`:
    part that goes on the last one, None for its equal part: few rows show noise soonest. `robbed`:
    queries, the first ones, that are read; the light of all others is returned as it came.
    """

    public: PublicImages
    noise: float = 1.0
    later_share: float = _LATER_SHARE
    last_share: float | None = None
    robbed: int | None = None
    name: ClassVar[str] = "principal-modes"
    party: ClassVar[Attacker] = Attacker.CLIENT

    def __post_init__(self) -> None:
        checks.positive(f"{self.name} noise", self.noise, ", of the honest noise")
        checks.inside("later_share", self.later_share, 0.0, 1.0)
        if self.last_share is not None:
            checks.inside("last_share", self.last_share, 0.0, 1.0, note=", or none")
        if self.robbed is not None:
            checks.at_least("robbed", self.robbed, 1, note=", or none for all queries")

    @property
    def strength(self) -> float:
        """Noise over that of honest use."""
        return self.noise

    def mount(self, network: Network, settings: SessionSettings) -> PrincipalThief:
        """Return the client with its couplings; raises SettingError for blocks or signs."""
        require_whole_rows(settings, "whole rows are read")
        if settings.light.disguise.signs:
            raise SettingError("disguise", "signs", "none or an order alone")
        kind = FreshOrderThief if settings.light.disguise.permute else PrincipalThief
        sent = carried(network)
        budgets = _budgets(self, sent.network.sizes, settings)
        return kind(self.public, sent, settings, budgets, self.robbed)

    def mark(self, network: Network, settings: SessionSettings) -> Mark:
        """Return the noise of a robbed query above an honest clone's; slopes stay."""
        return Mark(excess_noise=(self.noise - 1.0) * honest_noise(sent_sizes(network), settings))

    def mark_after(self, queries: int, network: Network, settings: SessionSettings) -> Mark:
        """Return the noise pooled over `queries` queries, robbed or not."""
        share = min(self.robbed or queries, queries) / queries
        noise = (self.noise * share - 1.0) * honest_noise(sent_sizes(network), settings)
        return Mark(excess_noise=noise)

    def hidden_in(
        self, queries: int, sizes: Sequence[int], settings: SessionSettings, acceptance: float
    ) -> PrincipalModes:
        """Return the attack with the noise that hides in this number of queries (`hidden_noise`).

        The last layer has few rows: its share is cut so that no row shows by itself, but not below
        what it gets at honest noise.
        """
        noise = hidden_noise(queries, sizes, settings, acceptance)
        equal = self.later_share / max(len(sizes) - 2, 1)
        unseen = _unseen_last(queries, sizes, settings) / noise
        return replace(self, noise=noise, last_share=min(equal, max(unseen, equal / noise)))

    def at_once_in(
        self, queries: int, sizes: Sequence[int], settings: SessionSettings, acceptance: float
    ) -> PrincipalModes:
        """Return the attack with all noise that hides in this number of queries spent on the first.

        A fifth is left unspent, so that no group of modes shows; the last layer's share is cut so
        that no row does, which is enough for one query.
        """
        noise = hidden_noise(queries, sizes, settings, acceptance)
        equal = self.later_share / max(len(sizes) - 2, 1)
        last = min(equal, _unseen_last(queries, sizes, settings) / noise)
        return replace(self, noise=_SPENT_AT_ONCE * queries * noise, last_share=last, robbed=1)


def _unseen_last(queries: int, sizes: Sequence[int], settings: SessionSettings) -> float:
    """Return the share of all honest noise that the last layer's few rows can have unseen.

    One standard deviation of the mean square of a row's light in this number of queries.
    """
    honest = honest_noise(sizes, settings) * sum(modes_of_layers(sizes))
    return sizes[-1] * math.sqrt(sizes[-2] / queries) / honest


def _budgets(
    attack: PrincipalModes, sizes: Sequence[int], settings: SessionSettings
) -> list[float]:
    """Return the sum of couplings of a row of each layer, in SNU at the client.

    Noise of X and P of all modes, summed, over what reaches the server.
    """
    modes, rows = modes_of_layers(sizes), sizes[1:]
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
