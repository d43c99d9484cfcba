"""What the best copy is worth at a planned setting, and what watching a client there takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from labctl import checks
from labctl.protocols.copies.figure import CopyFigure, copy_figure
from labctl.protocols.copies.table import CopyTable
from labctl.protocols.disguise import FRESH_ORDER, Disguise
from labctl.protocols.hiding.hiding import OPEN, Hiding
from labctl.protocols.probation.slack import SlackWatch
from labctl.protocols.settings import (
    Channel,
    Light,
    Sampling,
    SessionSettings,
    VerificationSettings,
)
from labctl.studies.planner.option import Conditions, Option
from labctl.wording import counted

# The middle of the shipped table, 1 to 1,000 queries, in decades; figures are also given at these.
DEFAULT_QUERIES = 30
TOLD = (1, 30, 100)


# Beyond any table, a copy of this number of queries is the network.
_MOST_QUERIES = 10**9


@dataclass(frozen=True)
class CopyLimit:
    """Most that the best copy may be worth after `queries`; None is no limit.

    `accuracy`: a share, 0 to 1. `distance`: beyond what classes alone give, 0 to 1.
    """

    accuracy: float | None = None
    distance: float | None = None
    queries: int = DEFAULT_QUERIES

    def __post_init__(self) -> None:
        for name in ("accuracy", "distance"):
            value = getattr(self, name)
            if value is not None:
                checks.within(f"limit of the copy's {name}", value, 0.0, 1.0, note=", or none")
        checks.within("queries of the copy", self.queries, 1, _MOST_QUERIES)

    @property
    def none(self) -> bool:
        """Whether nothing is limited."""
        return self.accuracy is None and self.distance is None

    def keeps(self, found: CopyFigure) -> bool:
        """Return whether a figure keeps the limits; where there is none, nothing is kept."""
        if self.none:
            return True
        if found.accuracy is None or found.distance is None:
            return False
        return (self.accuracy is None or found.accuracy <= self.accuracy) and (
            self.distance is None or found.distance <= self.distance
        )

    def in_words(self) -> str:
        """Return the limits for people."""
        parts = [
            *([f"at most {self.accuracy:.1%} right"] if self.accuracy is not None else []),
            *(
                [f"at most {100.0 * self.distance:.3g} points beyond classes alone"]
                if self.distance is not None
                else []
            ),
        ]
        sent = counted(self.queries, "query", "queries")
        return f"best copy after {sent} {' and '.join(parts)}"


@dataclass(frozen=True)
class PlannedCopies:
    """A network whose copies are looked up: SHA-256, name, layer sizes; how it would be served."""

    network_sha256: str
    name: str
    sizes: tuple[int, ...]
    hiding: Hiding = OPEN
    disguise: Disguise = FRESH_ORDER
    verification: VerificationSettings = field(default_factory=VerificationSettings)
    table: CopyTable | None = None

    def figure(self, conditions: Conditions, option: Option, queries: int) -> CopyFigure:
        """Return the best copy after a number of queries, pooled in one check, at a setting."""
        settings = SessionSettings(
            light=Light(option.mean_photons, self.disguise),
            channel=Channel(
                loss_db=conditions.loss_db,
                technical_noise=conditions.technical_noise,
                rotation=conditions.rotation,
                block_modes=option.block_modes,
            ),
            receiver=conditions.receiver(option.gain),
            verifier=conditions.verifier,
            assumptions=conditions.assumptions,
            sampling=Sampling.ALL,
            seed=0,
            verification=self.verification,
            hiding=self.hiding,
        )
        return copy_figure(
            self.network_sha256, self.sizes, settings, queries, name=self.name, table=self.table
        )

    def keeps(self, limit: CopyLimit, conditions: Conditions, option: Option) -> bool:
        """Return whether a setting keeps the limits on the best copy."""
        return limit.keeps(self.figure(conditions, option, limit.queries))


@dataclass(frozen=True)
class Watching:
    """What a probation takes at a setting, and what it leaves.

    `honest_noise` of the clones in SNU. `queries_to_honest`, `queries_to_half`: worthless queries
    until a client that adds noise evenly can hide no more than that, or half of it; None: never
    with this calibration. `seconds_per_query` of light. `robbed`: by real queries served, how many
    of them a client robs on average before it is caught half of the time, if a share `real_share`
    of all queries is real and robbing one shows `added` SNU in it.
    """

    honest_noise: float
    queries_to_honest: int | None
    queries_to_half: int | None
    seconds_per_query: float
    real_share: float
    added: float
    robbed: tuple[tuple[int, float], ...]


def watching(
    watch: SlackWatch, *, honest_noise: float, seconds_per_query: float, real_share: float
) -> Watching:
    """Return what a probation takes; see `protocols.probation.slack` for the derivation.

    A robbed query shows what hides in it alone: more is a gamble on the query itself.
    """
    added = watch.slack(1)
    robbed = tuple(
        (queries, watch.robbed(real_queries=queries, real_share=real_share, added=added))
        for queries in TOLD
    )
    return Watching(
        honest_noise=honest_noise,
        queries_to_honest=watch.queries_for(honest_noise),
        queries_to_half=watch.queries_for(honest_noise / 2.0),
        seconds_per_query=seconds_per_query,
        real_share=real_share,
        added=added,
        robbed=robbed,
    )
