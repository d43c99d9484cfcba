"""How often intervals held the truth: counted by quantity, with what chance leaves open."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy import stats

from labctl.studies.coverage.benches import BenchResult, Case
from labctl.studies.coverage.truths import why_unjudged

# Shares of intervals of 95 % that are not looked into; see docs/calibration.md.
BAND = (0.90, 0.98)
COLUMNS = ["routine", "quantity", "covered", "share", "95 % range"]
COLUMNS += ["mean pull", "RMS pull", "90–98 %"]
# That of the intervals that are counted.
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Row:
    """Coverage of one quantity, or of one bound, which is to hold at least as often as stated.

    `share_low` and `share_high`: the shares that are consistent with the count at 95 % (Clopper
    and Pearson, Biometrika 26, 404 (1934)). `mean_pull` and `rms_pull`: of error over standard
    uncertainty, 0 and 1 if uncertainties are those of the normal law.
    """

    routine: str
    name: str
    covered: int
    cases: int
    share_low: float
    share_high: float
    mean_pull: float
    rms_pull: float
    is_bound: bool = False

    @property
    def share(self) -> float:
        """The share of intervals that hold the truth."""
        return self.covered / self.cases

    @property
    def in_band(self) -> bool:
        """Whether 90 % to 98 % of the intervals hold the truth; 95 % or more, of a bound."""
        if self.is_bound:
            return self.share >= _CONFIDENCE
        return BAND[0] <= self.share <= BAND[1]

    @property
    def consistent(self) -> bool:
        """Whether a share in the band makes such a count with more than 5 % of chance."""
        if self.is_bound:
            return self.share_high >= _CONFIDENCE
        return self.share_low <= BAND[1] and self.share_high >= BAND[0]

    @property
    def verdict(self) -> str:
        """Whether it is in the band: yes, no, or no that may be chance."""
        if self.in_band:
            return "yes"
        return "no, by chance?" if self.consistent else "no"


@dataclass(frozen=True)
class Refusal:
    """How many benches a routine refused, and what it said at the first."""

    routine: str
    benches: int
    complaint: str

    def __str__(self) -> str:
        return f"{self.benches}: {self.complaint}"


@dataclass(frozen=True)
class Coverage:
    """The table: rows, quantities without a truth and why, refusals, and number of benches."""

    benches: int
    rows: tuple[Row, ...]
    unjudged: dict[str, str]
    refusals: tuple[Refusal, ...]


def counted(results: Sequence[BenchResult]) -> Coverage:
    """Count what came of benches."""
    judged: dict[tuple[str, str], list[Case]] = {}
    unjudged: dict[str, str] = {}
    for case in (case for result in results for case in result.cases):
        if case.truth is None:
            unjudged[case.name] = why_unjudged(case.name)
        else:
            judged.setdefault((case.routine, case.name), []).append(case)
    rows = (_row(routine, name, cases) for (routine, name), cases in judged.items())
    return Coverage(len(results), tuple(rows), unjudged, tuple(_refusals(results)))


def _row(routine: str, name: str, cases: Sequence[Case]) -> Row:
    covered, pulls = sum(case.covered for case in cases), [case.pull for case in cases]
    chance = stats.binomtest(covered, len(cases)).proportion_ci(_CONFIDENCE, method="exact")
    return Row(
        routine,
        name,
        covered,
        len(cases),
        float(chance.low),
        float(chance.high),
        sum(pulls) / len(pulls),
        math.sqrt(sum(pull**2 for pull in pulls) / len(pulls)),
        any(case.held is not None for case in cases),
    )


def _refusals(results: Iterable[BenchResult]) -> list[Refusal]:
    found: dict[str, Refusal] = {}
    for result in results:
        for routine, complaint in result.refused.items():
            first = found.get(routine, Refusal(routine, 0, complaint))
            found[routine] = Refusal(routine, first.benches + 1, first.complaint)
    return list(found.values())


def cells(row: Row) -> list[str]:
    """Return a row of the table for people."""
    return [
        row.routine,
        row.name,
        f"{row.covered} / {row.cases}",
        f"{100.0 * row.share:.1f} %",
        f"{100.0 * row.share_low:.1f} to {100.0 * row.share_high:.1f} %",
        f"{row.mean_pull:+.2f}",
        f"{row.rms_pull:.2f}",
        row.verdict,
    ]


def markdown(coverage: Coverage, command: str) -> str:
    """Return the table in Markdown, with the command that makes it; the same for the same count."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(cells(row) for row in coverage.rows)]
    text = [f"`{command}`", "", *("| " + " | ".join(row) + " |" for row in rows)]
    if coverage.unjudged:
        text += ["", "Not judged:", ""]
        text += [f"- `{name}`: {why}" for name, why in coverage.unjudged.items()]
    if coverage.refusals:
        text += ["", f"Refused, of {coverage.benches} benches:", ""]
        text += [
            f"- {each.routine}, {each.benches}: {each.complaint}" for each in coverage.refusals
        ]
    return "\n".join(text) + "\n"
