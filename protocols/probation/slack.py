"""How much noise a client can hide in what is pooled, and how many served queries it may rob.

The pooled noise of N queries has standard error sigma(N) = s^2 sqrt(2/(N m) + 2/m_cal), with m
samples per query, m_cal those of the shot-noise calibration and s^2 the variance read, near 1. A
client that adds less than z sigma(N), z the score of the false-alarm probability, is as likely to
pass as not: that is the slack. It adds it evenly, or N sigma(N) z all in a few queries.

Even theft: the slack falls like 1/sqrt(N), and a probation of N queries lowers it below the honest
client's own noise. Theft in few queries: what may be added in one query grows like sqrt(N), so that
a client that behaves until it knows that the weights are real is not held by any probation. It is
held by not knowing: where only a share p of the queries is real, drawn in secret, K robbed queries
hit p K real ones. With Q real queries served, N = Q/p, and each robbed query showing `added` SNU,

    robbed real queries = p N z sigma(N)/added = z sqrt(2 p Q/m)/added,

the calibration's term left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from labctl import checks
from labctl.protocols.verification.noise_ratio import normal_isf

# At a query a millisecond, twelve days: as much as never.
MOST_QUERIES = 10**9


@dataclass(frozen=True)
class SlackWatch:
    """What the server pools: samples per query and of the shot-noise unit, false alarms allowed.

    `samples_per_query`: modes read per query. `calibration_samples`: of the shot-noise unit.
    `variance`: of what is read, in units of the blocked variance; 1 for light of little noise.
    """

    samples_per_query: int
    calibration_samples: int
    false_alarm_probability: float = 1e-6
    variance: float = 1.0

    def __post_init__(self) -> None:
        for name in ("samples_per_query", "calibration_samples"):
            checks.at_least(name, getattr(self, name), 2)
        checks.inside("false_alarm_probability", self.false_alarm_probability, 0.0, 0.5)

    @property
    def score(self) -> float:
        """Standard deviations that honest noise exceeds with the false-alarm probability."""
        return normal_isf(self.false_alarm_probability)

    def slack(self, queries: float) -> float:
        """Return the excess noise in SNU, the same in each of `queries` queries, that half hide."""
        checks.require(queries > 0.0, "queries", queries, "above 0")
        spread = 2.0 / (queries * self.samples_per_query) + 2.0 / self.calibration_samples
        return self.score * self.variance * math.sqrt(spread)

    def queries_for(self, slack: float) -> int | None:
        """Return the least queries whose slack is at most this, in SNU; None if none is enough.

        The calibration's own scatter is never pooled away.
        """
        checks.require(slack > 0.0, "slack", slack, "above 0 SNU")
        left = (slack / (self.score * self.variance)) ** 2 - 2.0 / self.calibration_samples
        if not left > 0.0:
            return None
        queries = math.ceil(2.0 / (left * self.samples_per_query))
        return queries if queries <= MOST_QUERIES else None

    def robbed(self, *, real_queries: float, real_share: float, added: float) -> float:
        """Return how many real queries a client may rob, on average, and be caught half the time.

        `real_queries`: served in all; `real_share`: of all queries, those that are real, drawn in
        secret; `added`: excess noise in SNU that robbing one query shows in it.
        """
        checks.above("real_share", real_share, 0.0, 1.0)
        checks.require(added > 0.0, "added", added, "above 0 SNU")
        queries = real_queries / real_share
        return min(real_share * queries * self.slack(queries) / added, real_queries)
