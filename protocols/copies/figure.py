"""What the best copy is worth at the settings of a run, and what classes alone give; or why not.

A thief's means (`copy_table`): queries, and its spend in each: photons times noise, times modes per
row. Three terms. The noise that the server accepts of an honest client, decoys and blocks counted:
(J + 1) g. What light and noise nobody trusts hold besides, as if they were the thief's: lost light
at one SNU per unit of loss (no reading of it does better), technical noise at its own. And what
hides in the sample of a check that one query alone has to pass.

Noise is pooled: what Q queries are allowed together, Q times the steady spend and sqrt(Q) times
what hides in one, may all go into k of them, the light of the others being returned as it came. The
figure is the best over k. Lost light cannot be saved up for another query, but is counted so: on
the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from labctl import checks
from labctl.protocols.copies.spend import hidden_noise, honest_noise, row_modes
from labctl.protocols.copies.table import (
    ACCEPTANCE,
    BestCopy,
    CopyTable,
    Order,
    load_copies,
)
from labctl.protocols.disguise import Disguise
from labctl.protocols.encoding import modes_of
from labctl.protocols.leakage import Trust
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.wording import at_most_percent, counted

# Beyond any spend that was measured a copy is as good as the network, by any amount.
_MOST_SPEND = 1e5

ASSUMPTIONS = (
    "public images of the task in any number as in the table, none with a label; the best thief "
    "measured, two standard deviations of a single copy added: another may do better",
    "noise that is independent between queries, no quantum memory; sessions judged one by one or "
    "together, a thief that passes nine in ten",
    "exact calibration of the verifier; loss and technical noise that are not trusted are the "
    "thief's",
)
UNWATCHED = "nobody looked at the returned light: a client may have read all of it"


@dataclass(frozen=True)
class QuerySpend:
    """A thief's spend in one query: `steady` in every query, and what `hides` in one judged alone.

    Photons times noise in SNU times modes per row, 0 or more.
    """

    steady: float
    hides: float

    @property
    def most(self) -> float:
        """Both together: the spend of a query that is judged by itself."""
        return self.steady + self.hides


def query_spend(sizes: Sequence[int], settings: SessionSettings) -> QuerySpend:
    """Return what the settings let a thief spend, for a network of these layer sizes.

    Lost light that is not trusted counts as if the client were before the loss: its noise is then
    weakened on the way to the server, 1/T of what is seen there, and the lost share 1 - T is its
    own. The client's rotation is never trusted.
    """
    light = settings.light.mean_photons * row_modes(sizes)
    honest = honest_noise(sizes, settings)
    hidden = honest * (hidden_noise(1, sizes, settings, ACCEPTANCE) - 1.0)
    passed = min(settings.transmittance_of(modes_of(inputs)) for inputs in sizes[:-1])
    if settings.assumptions.loss is Trust.TRUSTED:
        passed /= settings.transmittance
    noise = honest
    if settings.assumptions.technical_noise is not Trust.TRUSTED:
        noise += settings.channel.technical_noise
    steady = light * (noise / passed + 1.0 - min(passed, 1.0))
    hides = light * hidden / passed
    return QuerySpend(min(steady, _MOST_SPEND), min(hides, _MOST_SPEND))


@dataclass(frozen=True)
class CopyFigure:
    """The best copy after `queries`, as shares of unseen images; `reason` says why there is none.

    `accuracy`: at most, two deviations of a single copy above the mean measured, no lower than any
    one; `classes_alone`: what any service gives away in as many queries, the mean. `attack`: the
    best thief; `spend`: what it had in each query that it robbed.
    """

    queries: int
    accuracy: float | None = None
    classes_alone: float | None = None
    attack: str | None = None
    spend: float | None = None
    reason: str | None = None
    assumptions: tuple[str, ...] = ()

    @property
    def distance(self) -> float | None:
        """What the light gives away beyond what classes alone do, 0 or more; None: no figure."""
        if self.accuracy is None or self.classes_alone is None:
            return None
        return max(self.accuracy - self.classes_alone, 0.0)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "queries": self.queries,
            "accuracy": self.accuracy,
            "classes_alone": self.classes_alone,
            "distance": self.distance,
            "attack": self.attack,
            "spend": self.spend,
            "reason": self.reason,
            "assumptions": list(self.assumptions),
        }

    def in_words(self) -> str:
        """Return the figure, or the reason why there is none, in one sentence."""
        sent = counted(self.queries, "query", "queries")
        if self.accuracy is None or self.classes_alone is None or self.distance is None:
            return f"after {sent}: no figure: {self.reason}"
        return (
            f"best copy after {sent}: at most {at_most_percent(self.accuracy)} ({self.attack}), "
            f"classes alone {self.classes_alone:.1%}, {100.0 * self.distance:.1f} points between"
        )


def no_figure(queries: int, reason: str) -> CopyFigure:
    """Return the answer where there is no figure."""
    return CopyFigure(queries, reason=reason)


def order_of(settings: SessionSettings) -> Order:
    """Return in which order hidden neurons come at these settings."""
    return order_of_disguise(settings.light.disguise)


def order_of_disguise(disguise: Disguise) -> Order:
    """Return in which order a disguise sends hidden neurons."""
    return Order.FRESH if disguise.permute else Order.FIXED


def copy_figure(
    network_sha256: str,
    sizes: Sequence[int],
    settings: SessionSettings,
    queries: int,
    *,
    pooled_queries: int | None = None,
    name: str = "this network",
    table: CopyTable | None = None,
) -> CopyFigure:
    """Return the best copy after `queries` at these settings, from `table` or the shipped one.

    `pooled_queries`: sent in all, worthless ones included, in whose sample noise hides; None: those
    alone. Raises SettingError for no queries.
    """
    if settings.sampling is not Sampling.ALL:
        return no_figure(queries, UNWATCHED)
    spend = query_spend(sizes, settings)
    return figure_of(
        network_sha256,
        order_of(settings),
        queries,
        spend,
        pooled_queries=pooled_queries,
        name=name,
        table=table,
    )


def figure_of(
    network_sha256: str,
    order: Order,
    queries: int,
    spend: QuerySpend,
    *,
    pooled_queries: int | None = None,
    name: str = "this network",
    table: CopyTable | None = None,
) -> CopyFigure:
    """Return the best copy after `queries` of a spend that are judged together; see `copy_figure`.

    Of queries judged one by one all is steady: each may have what hides in one.
    """
    checks.at_least("queries", queries, 1)
    known = load_once() if table is None else table
    refused = known.refusal_of(network_sha256, name, order)
    if refused is not None:
        return no_figure(queries, refused)
    pooled = max(queries, pooled_queries or queries)
    best: BestCopy | None = None
    for robbed in known.robbed_counts(network_sha256, queries):
        # All noise that is allowed, in as many queries.
        each = (pooled * spend.steady + math.sqrt(pooled) * spend.hides) / robbed
        found = known.best_of(network_sha256, robbed, min(each, _MOST_SPEND), order)
        assert found is not None
        if best is None or found.figure.upper > best.figure.upper:
            best = found
    alone = known.best_of(network_sha256, queries, 0.0, order)
    assert best is not None
    assert alone is not None
    return CopyFigure(
        queries,
        accuracy=best.figure.upper,
        classes_alone=alone.classes_alone.accuracy,
        attack=best.attack,
        spend=best.spend,
        assumptions=(*ASSUMPTIONS, f"public: {known.public}; judged: {known.judged}"),
    )


@cache
def load_once() -> CopyTable:
    """Return the shipped table, read once."""
    return load_copies()


def most_queries(figure_after: Callable[[int], CopyFigure], most_accuracy: float, most: int) -> int:
    """Return how many queries, up to `most`, keep the best copy at most so accurate; 0: none.

    figure_after: gives the figure after a number of queries; it never falls with them.
    """

    def within(queries: int) -> bool:
        accuracy = figure_after(queries).accuracy
        return accuracy is not None and accuracy <= most_accuracy

    if most < 1 or not within(1):
        return 0
    low, high = 1, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if within(middle) else (low, middle)
    return low


def raised(spend: QuerySpend, noise_beyond: float, light: float) -> QuerySpend:
    """Return a spend of which this much more noise in SNU may be hidden; light: mu times modes."""
    return replace(spend, hides=max(spend.hides, min(noise_beyond * light, _MOST_SPEND)))
