"""A plan's copies for people: what the best copy is worth, what a probation takes, why nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from labctl.cli import output
from labctl.errors import SettingError
from labctl.protocols.copies.figure import CopyFigure, load_once, order_of_disguise
from labctl.protocols.probation.slack import SlackWatch
from labctl.studies.planner.copies import (
    TOLD,
    CopyLimit,
    PlannedCopies,
    Watching,
    watching,
)
from labctl.studies.planner.option import Option
from labctl.studies.planner.plan import Plan, Planner
from labctl.wording import counted

# A calibration this long adds next to nothing to the noise that is allowed.
_CALIBRATION_SAMPLES = 100_000_000


def require_measured(copies: PlannedCopies) -> None:
    """Refuse limits on the copies of a network that was not measured; raises SettingError."""
    table = copies.table or load_once()
    refused = table.refusal_of(
        copies.network_sha256, copies.name, order_of_disguise(copies.disguise)
    )
    if refused is not None:
        raise SettingError("--copy-accuracy and --copy-distance", copies.name, refused)


@dataclass(frozen=True)
class PlanCopies:
    """The best copies at the recommended setting, or at the closest one where there is none.

    `limited`: after as many queries as the limit names, at the setting that leaks least of the
    weights at that accuracy, without regard to copies.
    """

    at: Option | None
    found: tuple[CopyFigure, ...]
    limit: CopyLimit
    refused: bool
    limited: CopyFigure | None
    watching: Watching | None

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "best_copy": [one.as_json() for one in self.found],
            "copy_limit": asdict(self.limit),
            "probation": None if self.watching is None else asdict(self.watching),
        }

    def show(self) -> None:
        """Print sentences for people."""
        if self.at is None:
            return
        where = f"at G = {self.at.gain:.4g}, μ = {self.at.mean_photons:.3g}"
        for one in self.found:
            output.people.print(f"· {where}: {one.in_words()}")
            if one.reason is not None:
                break
        watched = self.watching
        if watched is None:
            return
        for name, queries in (
            ("the honest noise", watched.queries_to_honest),
            ("half of it", watched.queries_to_half),
        ):
            output.people.print(f"· probation until what hides evenly is below {name}: " + _light(
                queries, watched.seconds_per_query
            ))  # fmt: skip
        robbed = ", ".join(f"{share:.2g} of {queries}" for queries, share in watched.robbed)
        output.people.print(
            f"· real queries robbed on average by a client that behaves until then, at a real "
            f"share of {watched.real_share:g}: {robbed} (each showing {watched.added:.2g} SNU)"
        )

    def refusal(self) -> str | None:
        """Return why nothing keeps the limit on copies, None if that is not what fails."""
        if not self.refused or self.limit.none or self.limited is None:
            return None
        if self.limit.keeps(self.limited):
            return None
        alone = self.limited.classes_alone
        why = ""
        if alone is not None and self.limit.accuracy is not None and alone > self.limit.accuracy:
            why = ": the classes alone that any service gives away make a better copy"
        return (
            f"no setting of this accuracy within the limits keeps {self.limit.in_words()}{why}; "
            f"where the weights leak least, {self.limited.in_words()}"
        )


def found_copies(
    planner: Planner, plan: Plan, copies: PlannedCopies, limit: CopyLimit, real_share: float
) -> PlanCopies:
    """Return what a thief's copies are worth at the setting that a plan ends with."""
    conditions, reach = planner.search.conditions, plan.reach
    best = None if plan.recommended is None else plan.recommended.option
    at = best or reach.compromise or reach.weights
    if at is None:
        return PlanCopies(None, (), limit, plan.recommended is None, None, None)
    limited = copies.figure(conditions, reach.weights or at, limit.queries)
    return PlanCopies(
        at=at,
        found=tuple(copies.figure(conditions, at, queries) for queries in TOLD),
        limit=limit,
        refused=plan.recommended is None,
        limited=limited,
        watching=_watching(planner, plan, at, real_share),
    )


def _watching(planner: Planner, plan: Plan, at: Option, real_share: float) -> Watching:
    evidence, proof = planner.search.evidence(at), planner.proof
    watch = SlackWatch(
        evidence.samples_per_image,
        proof.calibration_samples or _CALIBRATION_SAMPLES,
        proof.verification.false_alarm_probability,
    )
    return watching(
        watch,
        honest_noise=evidence.expectation.excess_noise - evidence.technical_noise,
        seconds_per_query=planner.setting(at, plan.wish).throughput.seconds_per_inference,
        real_share=real_share,
    )


def _light(queries: int | None, seconds: float) -> str:
    if queries is None:
        return "never with this calibration of the shot-noise unit"
    sent = counted(queries, "worthless query", "worthless queries")
    return f"{sent}, {queries * seconds:.3g} s of light"
