"""The attacks, networks and settings on which counted detection is compared with the theory.

They span 1e3 to 1e7 pooled modes: networks of few modes where few are pooled, one of the reference
network's size where many are. Where the theory leaves out what matters, the case says so, and is
no part of the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from labctl import checks
from labctl.protocols.disguise import PLAIN
from labctl.protocols.leakage import Assumptions, Trust
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.protocols.settings import (
    Channel,
    Light,
    Sampling,
    SessionSettings,
    VerificationSettings,
)
from labctl.studies.attacks.catalogue import attack_of
from labctl.studies.attacks.detection import DetectionTheory
from labctl.studies.attacks.detection_curve import DetectionCurve, detection_curve, random_network

# Each case has 100,000 seeds to itself, more than it has sessions.
SEED = 2026
# A false alarm that can be counted in sessions, and one that a laboratory would choose.
ALARMS = (1e-3, 1e-6)
_SEEDS_APART = 100_000

IDEAL = SessionSettings(
    light=Light(4.0, PLAIN),
    channel=Channel(),
    receiver=CloneReceiver(2.0, 1.0, Homodyne(1.0, 0.0)),
    verifier=Homodyne(1.0, 0.0),
    assumptions=Assumptions(Trust.UNTRUSTED, Trust.UNTRUSTED),
    sampling=Sampling.ALL,
    seed=SEED,
)
UNWATCHED = replace(IDEAL, verification=VerificationSettings(monitor_samples=0))
SHORT = replace(IDEAL, verification=VerificationSettings(calibration_samples=100_000))
LOSSY = replace(
    IDEAL,
    receiver=CloneReceiver(2.0, 1.2, Homodyne(0.8, 0.1)),
    verifier=Homodyne(0.8, 0.1),
    channel=replace(IDEAL.channel, loss_db=1.0, technical_noise=0.02),
)

# Networks whose image takes from 1,000 to 311,248 modes: pools of every size are few images of one.
_SMALL, _MIDDLE, _LARGE, _REFERENCE = (
    (40, 40, 10),
    (136, 136, 10),
    (300, 300, 10),
    (784, 784, 10),
)


@dataclass(frozen=True)
class Case:
    """One curve of the comparison.

    `modes`: pooled ones, rounded to whole images; `sessions` at each of them. `left_out`: what the
    theory leaves out, in words, where it matters; None where it does not.
    """

    name: str
    title: str
    attack: str
    strength: float
    sizes: tuple[int, ...]
    modes: tuple[int, ...]
    sessions: int
    settings: SessionSettings = IDEAL
    left_out: str | None = None

    @property
    def heading(self) -> str:
        """The title with the network on a second line, for a figure."""
        return f"{self.title}\nnetwork {'-'.join(map(str, self.sizes))}"

    def sessions_at(self, scale: float) -> int:
        """Return the sessions of each point at `scale` times the usual number, one at least."""
        return max(round(self.sessions * scale), 1)

    def theory(self, seed: int) -> DetectionTheory:
        """Return the closed form; its network is drawn from the seed."""
        first = seed + _SEEDS_APART * tuple(CASES).index(self.name)
        settings = replace(self.settings, seed=first)
        network = random_network(self.sizes, seed)
        return DetectionTheory(attack_of(self.attack, self.strength), network, settings)

    def curve(
        self,
        seed: int,
        *,
        scale: float = 1.0,
        on_session: Callable[[int], None] = lambda count: None,
    ) -> DetectionCurve:
        """Count attacked sessions; no two cases share a seed."""
        theory = self.theory(seed)
        return detection_curve(
            theory.attack,
            theory.network,
            theory.settings,
            self.modes,
            self.sessions_at(scale),
            ALARMS,
            on_session=on_session,
        )


_ALL = (
    Case(
        name="over-gain",
        title="gain of 8 in place of 2",
        attack="over-gain",
        strength=8.0,
        sizes=_SMALL,
        modes=(1_000, 3_000, 10_000, 20_000, 50_000, 100_000),
        sessions=200,
    ),
    Case(
        name="heterodyne-resend",
        title="5 % of the modes read and resent",
        attack="heterodyne-resend",
        strength=0.05,
        sizes=_SMALL,
        modes=(1_000, 3_000, 6_000, 10_000, 20_000),
        sessions=200,
    ),
    Case(
        name="intercept-resend-short-calibration",
        title="1 % read and resent, calibration of 1e5 samples",
        attack="intercept-resend",
        strength=0.01,
        sizes=_MIDDLE,
        modes=(10_000, 30_000, 100_000, 300_000, 1_000_000),
        sessions=100,
        settings=SHORT,
    ),
    Case(
        name="tap",
        title="tap of 2 %",
        attack="tap",
        strength=0.02,
        sizes=_MIDDLE,
        modes=(10_000, 30_000, 60_000, 100_000),
        sessions=200,
    ),
    Case(
        name="tap-return-real-receivers",
        title="tap of 2 % on the way back, lossy link",
        attack="tap-return",
        strength=0.02,
        sizes=_MIDDLE,
        modes=(10_000, 30_000, 60_000, 100_000, 200_000),
        sessions=200,
        settings=LOSSY,
    ),
    Case(
        name="nothing-returned",
        title="nothing returned of 0.2 % of the modes",
        attack="nothing-returned",
        strength=0.002,
        sizes=_MIDDLE,
        modes=(10_000, 40_000, 100_000, 200_000, 400_000),
        sessions=150,
    ),
    Case(
        name="local-oscillator-unwatched",
        title="oscillator dimmed by 2 %, no monitor",
        attack="local-oscillator",
        strength=0.02,
        sizes=_MIDDLE,
        modes=(10_000, 30_000, 60_000, 100_000),
        sessions=200,
        settings=UNWATCHED,
    ),
    Case(
        name="local-oscillator-watched",
        title="oscillator dimmed by 2 % behind 1 dB, monitor",
        attack="local-oscillator",
        strength=0.02,
        sizes=_MIDDLE,
        modes=(10_000, 100_000, 1_000_000),
        sessions=60,
        settings=replace(IDEAL, channel=replace(IDEAL.channel, loss_db=1.0)),
    ),
    Case(
        name="clone-more-modes",
        title="3 modes cloned in place of 1",
        attack="clone-more-modes",
        strength=3.0,
        sizes=_LARGE,
        modes=(50_000, 150_000, 300_000, 600_000, 1_000_000),
        sessions=80,
    ),
    Case(
        name="heterodyne-resend-weak",
        title="0.15 % of the modes read and resent",
        attack="heterodyne-resend",
        strength=0.0015,
        sizes=_REFERENCE,
        modes=(1_000_000, 3_000_000, 10_000_000),
        sessions=60,
    ),
    Case(
        name="own-laser",
        title="own laser in 3 % of the modes",
        attack="own-laser",
        strength=0.03,
        sizes=_MIDDLE,
        modes=(10_000, 30_000, 100_000, 300_000),
        sessions=150,
        left_out="guesses of later queries rest on the same readings: their noise repeats from "
        "query to query, where the theory takes it as drawn again",
    ),
)
CASES: Mapping[str, Case] = MappingProxyType({case.name: case for case in _ALL})


def cases_of(names: list[str]) -> tuple[Case, ...]:
    """Return the cases of these names, all if none is given; SettingError for an unknown one."""
    for name in names:
        checks.one_of("case", name, CASES)
    return tuple(case for case in _ALL if not names or case.name in names)
