"""The best copy as a figure of an inference run: what its settings and its light leave a thief."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.data.models import Network
from labctl.protocols.carried import carried
from labctl.protocols.copies.figure import (
    UNWATCHED,
    CopyFigure,
    QuerySpend,
    figure_of,
    no_figure,
    order_of,
    query_spend,
    raised,
)
from labctl.protocols.copies.spend import row_modes
from labctl.protocols.ledger.copy_account import CopyMeans
from labctl.protocols.probation.run import QueryKind
from labctl.protocols.probation.schedule import NO_PROBATION, Probation
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.protocols.verification.doubts import EXACT
from labctl.protocols.verification.verdict import Expectation, VerificationReport

REJECTED = "the returned light did not pass the verdict: a client may have read all of it"
# Rounds until a query is real are drawn: this many times their mean is exceeded once in 150 times.
_ROUNDS = 5.0


def spend_of_run(network: Network, settings: SessionSettings) -> QuerySpend | None:
    """Return what one query of a run leaves to a thief to spend; None if nobody looks."""
    if settings.sampling is not Sampling.ALL:
        return None
    return query_spend(carried(network).network.sizes, settings)


def booked_means(
    network: Network, settings: SessionSettings, probation: Probation = NO_PROBATION
) -> CopyMeans:
    """Return what the ledger counts of each query of a run.

    Worthless queries are judged with real ones: a thief may put all their noise in one of these.
    """
    spend = spend_of_run(network, settings)
    if spend is not None and not probation.none:
        pooled = probation.queries + _ROUNDS / probation.real_share
        spend = QuerySpend(spend.steady * pooled, spend.hides * pooled**0.5)
    return CopyMeans(spend, order_of(settings))


def copies_of_run(
    network: Network,
    settings: SessionSettings,
    queries: int,
    tally: Mapping[QueryKind, int],
    verification: VerificationReport,
    honest: Expectation,
) -> CopyFigure:
    """Return the best copy after a run's `queries` real queries; `tally`: of all queries by kind.

    Where the verifier knows less than the settings say, as on a bench, what its bound on the noise
    leaves open counts as hidden.
    """
    spend = spend_of_run(network, settings)
    if spend is None:
        return no_figure(queries, UNWATCHED)
    if verification.accepted is not True:
        return no_figure(queries, REJECTED)
    pooled = max(queries, sum(tally.values()))
    upper, lower = verification.excess_noise_upper, verification.transmittance_lower
    if honest.doubts != EXACT and upper is not None and lower:
        light = settings.light.mean_photons * row_modes(carried(network).network.sizes)
        # The bound is on the mean of all queries; in one judged alone hides the root of them more.
        beyond = max(upper - honest.excess_noise, 0.0) / lower * pooled**0.5
        spend = raised(spend, beyond, light)
    return figure_of(
        network.sha256,
        order_of(settings),
        queries,
        spend,
        pooled_queries=pooled,
        name=network.name,
    )
