"""Detection curves: attacked sessions counted from light to verdict, beside the closed form.

Each session has its own seed, from which its shot-noise calibration, data, all light and the
attacker's own choices are drawn; points of a curve share no session. One set of sessions answers
for several false-alarm probabilities. Counted are sessions rejected by the pooled checks, which the
closed form describes, and those rejected by any check.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from labctl import checks
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.session import Session
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.protocols.verification.verdict import VerificationReport
from labctl.shares import share_interval
from labctl.studies.attacks.attack import Attack, Mark
from labctl.studies.attacks.detection import DetectionTheory
from labctl.studies.attacks.false_alarms import MOST_SESSIONS, failed_at, require_sizes

POOLED = frozenset({"pooled noise", "low gain", "high gain"})
# Of intervals of counted shares, as everywhere in this project.
CONFIDENCE = 0.95
# Images of one exchange: bounds the light that is held at once.
BATCH_IMAGES = 256
# Fifty seconds of light at 20 MBd; a slip beyond.
MOST_SESSION_MODES = 10**9
# Counts of less variance are not normal enough for chi squared; the exact test sees them.
_LEAST_SPREAD = 2.0
# Branches of a session's seed for its random network and its random data.
_NETWORK_KEY = 31
_DATA_KEY = 37


@dataclass(frozen=True)
class Rate:
    """A share of sessions, counted, with Clopper and Pearson's 95 % interval."""

    caught: int
    sessions: int

    @property
    def measured(self) -> float:
        """Share of the sessions."""
        return self.caught / self.sessions

    @property
    def lower(self) -> float:
        """Lower end of the interval of the true probability."""
        return share_interval(self.measured, self.sessions, CONFIDENCE)[0]

    @property
    def upper(self) -> float:
        """Upper end of that interval."""
        return share_interval(self.measured, self.sessions, CONFIDENCE)[1]

    def p_value(self, probability: float) -> float:
        """Return how likely counts no likelier than this one are at that true probability."""
        from scipy.stats import binomtest

        return float(binomtest(self.caught, self.sessions, min(max(probability, 0.0), 1.0)).pvalue)


@dataclass(frozen=True)
class DetectionPoint:
    """Sessions of this number of images, and pooled modes, judged at one false-alarm probability.

    `theory`: power of the pooled checks, averaged over the sessions' own marks. `pooled` counts
    rejections by those checks, `verdict` by any; `by_check` sessions in which each check failed.
    """

    images: int
    modes: int
    false_alarm_probability: float
    theory: float
    pooled: Rate
    verdict: Rate
    by_check: dict[str, int]


@dataclass(frozen=True)
class DetectionCurve:
    """A detection curve. `mark` is that of the first seed, after one image."""

    attack: str
    strength: float
    mark: Mark
    sizes: tuple[int, ...]
    settings: SessionSettings
    points: tuple[DetectionPoint, ...]

    def at(self, false_alarm_probability: float) -> tuple[DetectionPoint, ...]:
        """Return the points of one false-alarm probability."""
        return tuple(p for p in self.points if p.false_alarm_probability == false_alarm_probability)


@dataclass(frozen=True)
class Agreement:
    """How well counts and theory agree.

    `chi_square` over the `degrees` counts of which the theory expects a binomial variance of 2 or
    more; `p_value` its tail. `least_p_value`: the smallest exact binomial p-value of all `counts`,
    times their number.
    """

    chi_square: float
    degrees: int
    p_value: float
    counts: int
    least_p_value: float

    @property
    def holds(self) -> bool:
        """Whether neither is below 0.001."""
        return min(self.p_value, self.least_p_value) >= _DISAGREES


# Theory and counts that agree fail the two tests in 2 of 1,000 sets of seeds.
_DISAGREES = 1e-3


@dataclass(frozen=True)
class _Trials:
    """A binomial count with the probability that the theory gives it."""

    rate: Rate
    probability: float

    @property
    def variance(self) -> float:
        return self.rate.sessions * self.probability * (1.0 - self.probability)

    @property
    def square(self) -> float:
        return (self.rate.caught - self.rate.sessions * self.probability) ** 2 / self.variance


def agreement_of(curves: Sequence[DetectionCurve]) -> Agreement:
    """Compare the counts of the pooled checks with the theory.

    Sessions caught at one false-alarm probability are among those caught at a larger one: given
    these, their number is binomial again, so that all counts compared are independent.
    """
    from scipy.special import chdtrc

    trials = [each for curve in curves for each in _independent(curve)]
    if not trials:
        raise SettingError("curves", len(curves), "one or more, with points")
    telling = [each for each in trials if each.variance >= _LEAST_SPREAD]
    square = math.fsum(each.square for each in telling)
    least = min(each.rate.p_value(each.probability) for each in trials)
    tail = float(chdtrc(len(telling), square)) if telling else 1.0
    return Agreement(square, len(telling), tail, len(trials), min(least * len(trials), 1.0))


def _independent(curve: DetectionCurve) -> Iterator[_Trials]:
    for images in dict.fromkeys(point.images for point in curve.points):
        points = [point for point in curve.points if point.images == images]
        among, share = points[0].pooled.sessions, 1.0
        for point in sorted(points, key=lambda each: -each.false_alarm_probability):
            if among and share > 0.0:
                probability = min(point.theory / share, 1.0)
                yield _Trials(Rate(point.pooled.caught, among), probability)
            among, share = point.pooled.caught, point.theory


def sizes_for(modes: int) -> tuple[int, int, int]:
    """Return the sizes N, N, 10 of a network that reads at most this number of modes per image.

    N^2/2 + 5 N of them; N is even. Raises SettingError below 12 modes, N = 2.
    """
    checks.at_least("modes", modes, 12, note=", one image of the smallest network")
    inputs = math.isqrt(25 + 2 * modes) - 5
    return (inputs - inputs % 2, inputs - inputs % 2, 10)


def random_network(sizes: tuple[int, ...], seed: int) -> Network:
    """Return a network of independent normal weights; SettingError for sizes beyond reach."""
    require_sizes(sizes)
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_NETWORK_KEY,)))
    layers = [
        random.standard_normal((outputs, inputs), dtype=np.float32)
        for inputs, outputs in pairwise(sizes)
    ]
    return Network(tuple(layers), f"random {'-'.join(map(str, sizes))}", {})


def attacked_session(
    attack: Attack, network: Network, settings: SessionSettings, images: int
) -> VerificationReport:
    """Run one attacked session on uniform random data; return the verdict, without figures."""
    random = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(_DATA_KEY,)))
    data = random.random((images, network.sizes[0]), dtype=np.float32)
    mounted = attack.mount(network, settings)
    session = Session(network, settings, mounted.link, server=mounted.server)
    for _ in session.run(mounted.inputs(data), batch_images=BATCH_IMAGES):
        pass
    return session.verdict(figures=False)


def detection_curve(
    attack: Attack,
    network: Network,
    settings: SessionSettings,
    modes: Sequence[int],
    sessions: int,
    false_alarm_probabilities: Sequence[float],
    *,
    on_session: Callable[[int], None] = lambda count: None,
) -> DetectionCurve:
    """Count attacked sessions of about this number of pooled modes each that are rejected.

    Modes are rounded to whole images, one at least; each point has `sessions` sessions, their seeds
    count upwards from that of the settings. Raises SettingError for numbers out of range.
    """
    _require(modes, sessions, false_alarm_probabilities)
    own = replace(settings, sampling=Sampling.ALL)
    theory = DetectionTheory(attack, network, own)
    per_image = theory.honesty.modes
    counts = sorted({max(round(each / per_image), 1) for each in modes})
    points: list[DetectionPoint] = []
    for index, images in enumerate(counts):
        first = settings.seed + index * sessions
        reports, marks = [], []
        for seed in range(first, first + sessions):
            reports.append(attacked_session(attack, network, replace(own, seed=seed), images))
            marks.append(theory.mark(images, seed))
            on_session(1)
        points += [
            _point(theory, images, reports, marks, each) for each in false_alarm_probabilities
        ]
    return DetectionCurve(
        attack.name, attack.strength, theory.mark(), network.sizes, own, tuple(points)
    )


def sessions_needed(network_modes: int, modes: Sequence[int], sessions: int) -> int:
    """Return how many sessions a curve runs."""
    return sessions * len({max(round(each / network_modes), 1) for each in modes})


def _point(
    theory: DetectionTheory,
    images: int,
    reports: Sequence[VerificationReport],
    marks: Sequence[Mark],
    probability: float,
) -> DetectionPoint:
    modes = images * theory.honesty.modes
    failed = [frozenset(failed_at(report, probability)) for report in reports]
    powers = [theory.power(mark, modes, probability).either for mark in marks]
    names = [check.name for check in reports[0].checks]
    return DetectionPoint(
        images=images,
        modes=modes,
        false_alarm_probability=probability,
        theory=math.fsum(powers) / len(powers),
        pooled=Rate(sum(bool(each & POOLED) for each in failed), len(failed)),
        verdict=Rate(sum(bool(each) for each in failed), len(failed)),
        by_check={name: sum(name in each for each in failed) for name in names},
    )


def _require(modes: Sequence[int], sessions: int, probabilities: Sequence[float]) -> None:
    checks.within("sessions", sessions, 1, MOST_SESSIONS)
    if not modes or min(modes) < 2 or max(modes) > MOST_SESSION_MODES:
        raise SettingError("modes", tuple(modes), f"one or more, 2 to {MOST_SESSION_MODES:.0e}")
    if not probabilities:
        raise SettingError("false-alarm probabilities", (), "one or more")
    for each in probabilities:
        checks.probability("false_alarm_probability", each)
