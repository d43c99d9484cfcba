"""What copies were worth in sessions that ran: a curve over queries, each count a session."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from labctl import checks
from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.copies.table import share_error
from labctl.protocols.encoding import Floats
from labctl.protocols.hiding.collection import Collection
from labctl.protocols.session import Session
from labctl.protocols.settings import SessionSettings
from labctl.studies.attacks.attack import Attack
from labctl.studies.attacks.copies.stolen import CopyWorth, PublicImages, worth_of
from labctl.studies.attacks.copies.thief import CopyThief

# A thief may learn from one query what to read in the next.
_ONE_BY_ONE = 1


@dataclass(frozen=True)
class StolenCopy:
    """What came of one attacked session: the copy's worth and the verdict on the session."""

    worth: CopyWorth
    accepted: bool


@dataclass(frozen=True)
class CopyCurvePoint:
    """Copies after `queries` queries, one per seed."""

    queries: int
    copies: tuple[StolenCopy, ...]

    @property
    def raw(self) -> float:
        """Mean share of images that the copies classify correctly as stolen."""
        return float(np.mean([one.worth.raw for one in self.copies]))

    @property
    def smoothed(self) -> float:
        """The same when finished on the graph of public images."""
        return float(np.mean([one.worth.smoothed for one in self.copies]))

    @property
    def best(self) -> float:
        """The better of both."""
        return max(self.raw, self.smoothed)

    @property
    def highest(self) -> float:
        """The best single copy, as stolen or finished."""
        return max(max(one.worth.raw, one.worth.smoothed) for one in self.copies)

    @property
    def standard_error(self) -> float:
        """Standard error of the better one: of its images, and of the spread between seeds."""
        finished = self.smoothed >= self.raw
        shares = [one.worth.smoothed if finished else one.worth.raw for one in self.copies]
        spread = float(np.var(shares, ddof=1)) / len(shares) if len(shares) > 1 else 0.0
        return math.sqrt(share_error(self.best, self.images) ** 2 + spread)

    @property
    def images(self) -> int:
        """How many images judged each copy."""
        return self.copies[0].worth.images

    @property
    def accepted(self) -> int:
        """How many of the sessions the server accepted."""
        return sum(one.accepted for one in self.copies)


def steal(
    attack: Attack,
    network: Network,
    settings: SessionSettings,
    own: Floats,
    public: PublicImages,
    judged: LabelledImages,
    collection: Collection | None = None,
) -> StolenCopy:
    """Run a session over a client's `own` images (Q, N) and judge the copy that came of it.

    `collection`: of a client with decoys, whose noise the server then has to accept. Raises
    SettingError for an attack that is not after a copy.
    """
    mounted = attack.mount(network, settings)
    if not isinstance(mounted, CopyThief):
        raise SettingError("attack", attack.name, "one that builds a copy of the network")
    session = Session(network, settings, mounted.link, server=mounted.server, collection=collection)
    for _ in session.run(mounted.inputs(own), batch_images=_ONE_BY_ONE):
        pass
    worth = worth_of(mounted.copy(), public, judged)
    return StolenCopy(worth, session.verdict(figures=False).accepted is not False)


def copy_curve(
    attack_for: Callable[[int], Attack],
    network: Network,
    settings: SessionSettings,
    queries: Sequence[int],
    public: PublicImages,
    judged: LabelledImages,
    *,
    seeds: int = 1,
    collection: Collection | None = None,
    on_session: Callable[[], None] = lambda: None,
) -> tuple[CopyCurvePoint, ...]:
    """Return a point for each number of queries, of `seeds` sessions each.

    `attack_for` gives the attack for a number of queries: what hides depends on it. The client's
    own images are the first public ones. Raises SettingError for more queries than these.
    """
    checks.within("queries", max(queries), 1, len(public.images), note=" public images")
    points = []
    for count in queries:
        copies = []
        for place in range(seeds):
            seeded = replace(settings, seed=settings.seed + place)
            own = public.images[:count]
            copies.append(
                steal(attack_for(count), network, seeded, own, public, judged, collection)
            )
            on_session()
        points.append(CopyCurvePoint(count, tuple(copies)))
    return tuple(points)
