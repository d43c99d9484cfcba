"""How often honest sessions are rejected, counted: whole sessions, from light to verdict.

Each session has its own seed: shot-noise calibration, client's data, all light and the monitor's
readings are drawn again and go through the same code as any session. A session is rejected at any
false-alarm probability above its `level`, so one set of sessions answers for several.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from labctl import checks
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.disguise import PLAIN
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.mode_link import ModeLink
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.session import Session
from labctl.protocols.settings import (
    Channel,
    Light,
    Sampling,
    SessionSettings,
    VerificationSettings,
)
from labctl.protocols.verification.checks import SHARES
from labctl.protocols.verification.verdict import VerificationReport
from labctl.shares import share_interval

CONFIDENCE = 0.95
# Days of sessions, and what memory holds: 1e7 numbers are 40 MB, of which a session makes dozens.
MOST_SESSIONS = 10**6
_MOST_WEIGHTS = 10**7

HONEST = SessionSettings(
    light=Light(4.0, PLAIN),
    channel=Channel(loss_db=1.5, technical_noise=0.02),
    receiver=CloneReceiver(1.8, 1.2, Homodyne(efficiency=0.7, electronic_noise=0.12)),
    verifier=Homodyne(efficiency=0.65, electronic_noise=0.2),
    assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
    sampling=Sampling.ALL,
    seed=0,
    verification=VerificationSettings(calibration_samples=100_000, monitor_samples=50_000),
)


@dataclass(frozen=True)
class FalseAlarms:
    """Honest sessions rejected at a stated probability, and by which checks.

    `lower` and `upper`: Clopper and Pearson's interval of the true probability, 95 %.
    `by_check`: rejected sessions in which the check failed; a session may fail several.
    """

    stated: float
    sessions: int
    rejected: int
    lower: float
    upper: float
    by_check: dict[str, int] = field(default_factory=dict)

    @property
    def measured(self) -> float:
        """Share of the sessions that was rejected."""
        return self.rejected / self.sessions

    @property
    def consistent(self) -> bool:
        """Whether the true probability may be the stated one or lower."""
        return self.lower <= self.stated


def require_sizes(sizes: tuple[int, ...]) -> None:
    """Refuse a network of fewer than two sizes, or one that memory does not hold; SettingError."""
    holds = len(sizes) >= 2 and min(sizes) >= 1
    holds = holds and sum(map(operator.mul, sizes, sizes[1:])) <= _MOST_WEIGHTS
    valid = f"two or more, each 1 or more, with at most {_MOST_WEIGHTS:.0e} weights"
    checks.require(holds, "sizes", sizes, valid)


def count_false_alarms(
    probabilities: Sequence[float],
    sessions: int,
    *,
    settings: SessionSettings = HONEST,
    sizes: tuple[int, ...] = (64, 32, 10),
    images: int = 1,
    on_session: Callable[[int], None] = lambda count: None,
) -> tuple[FalseAlarms, ...]:
    """Run honest sessions and count those rejected at each probability.

    Network of normal weights and uniform data of `images` images per session; seeds count upwards
    from that of the settings. Raises SettingError for numbers out of range.
    """
    checks.within("sessions", sessions, 1, MOST_SESSIONS)
    require_sizes(sizes)
    checks.within("images", images, 1, max(_MOST_WEIGHTS // max(sizes), 1))
    stated = [_verification(settings, each) for each in probabilities]
    if not stated:
        raise SettingError("probabilities", probabilities, "one or more")
    network = _network(sizes, settings.seed)
    counts = [dict.fromkeys(("", *SHARES), 0) for _ in stated]
    for session in range(sessions):
        report = honest_session(network, replace(stated[0], seed=settings.seed + session), images)
        for probability, count in zip(probabilities, counts, strict=True):
            failed = failed_at(report, probability)
            for name in ("", *failed) if failed else ():
                count[name] += 1
        on_session(1)
    return tuple(
        _counted(probability, sessions, count)
        for probability, count in zip(probabilities, counts, strict=True)
    )


def honest_session(network: Network, settings: SessionSettings, images: int) -> VerificationReport:
    """Run one honest session on its own random data; return the verdict, without figures."""
    random = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(23,)))
    data = random.random((images, network.sizes[0]), dtype=np.float32)
    session = Session(network, settings, ModeLink(settings))
    for _ in session.run(data):
        pass
    return session.verdict(figures=False)


def failed_at(report: VerificationReport, probability: float) -> tuple[str, ...]:
    """Return the checks that would fail at another false-alarm probability."""
    scale = probability / report.false_alarm_probability
    return tuple(
        check.name
        for check in report.checks
        if check.p_value is not None and check.p_value < check.false_alarm_probability * scale
    )


def _verification(settings: SessionSettings, probability: float) -> SessionSettings:
    own = replace(settings.verification, false_alarm_probability=probability)
    return replace(settings, verification=own, sampling=Sampling.ALL)


def _network(sizes: tuple[int, ...], seed: int) -> Network:
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(29,)))
    layers = [
        random.standard_normal((outputs, inputs), dtype=np.float32)
        for inputs, outputs in pairwise(sizes)
    ]
    return Network(tuple(layers), "random", {})


def _counted(stated: float, sessions: int, counts: dict[str, int]) -> FalseAlarms:
    rejected = counts[""]
    lower, upper = share_interval(rejected / sessions, sessions, CONFIDENCE)
    by_check = {name: count for name, count in counts.items() if name}
    return FalseAlarms(stated, sessions, rejected, lower, upper, by_check)
