"""Measuring the yardstick's table: which points, of which networks, with which thieves.

The QND attack is measured over its spend with couplings so weak (bright light, little noise) that
a reading's own vacuum does not count: no setting of the same spend does better. That curve needs
one query. With a fresh order in each query it is measured over queries as well. What classes alone
give is measured over queries, with the noise of the settings on the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from labctl.data.mnist import LabelledImages
from labctl.data.models import Network
from labctl.protocols.copies.table import (
    CopyPoint,
    CopyTable,
    Order,
    ServedNetwork,
    honest_spend,
)
from labctl.protocols.disguise import Disguise
from labctl.protocols.settings import Sampling, SessionSettings
from labctl.studies.attacks.copies.classes_alone import ClassesAlone
from labctl.studies.attacks.copies.copy_curve import CopyCurvePoint, copy_curve
from labctl.studies.attacks.copies.principal_modes import PrincipalModes
from labctl.studies.attacks.copies.stolen import PublicImages, StolenNetwork, named

# Photons at which the couplings of any spend below are far from the vacuum's 1 SNU.
_BRIGHT = 1e4
_SPENDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4)
_CLASS_QUERIES = (1, 2, 3, 5, 10, 30, 100, 255, 1000)
_FRESH_SPENDS = (0.3, 1.0, 4.0, 25.0)
_FRESH_QUERIES = (1, 3, 10)


@dataclass(frozen=True)
class Plan:
    """What is measured of each network; the default is what ships."""

    spends: Sequence[float] = _SPENDS
    class_queries: Sequence[int] = _CLASS_QUERIES
    fresh_spends: Sequence[float] = _FRESH_SPENDS
    fresh_queries: Sequence[int] = _FRESH_QUERIES

    @property
    def points(self) -> int:
        """Points of one network."""
        fresh = len(self.fresh_spends) * len(self.fresh_queries)
        return len(self.spends) + len(self.class_queries) + fresh


def measure_table(
    networks: Sequence[Network],
    settings: SessionSettings,
    public: PublicImages,
    judged: LabelledImages,
    *,
    seeds: int,
    command: str,
    described: tuple[str, str],
    plan: Plan | None = None,
    on_point: Callable[[CopyPoint], None] = lambda point: None,
) -> CopyTable:
    """Measure all networks; `described` says in words what public and judged images are.

    `settings`: of the sessions, whose photons and noise the attacks replace.
    """
    points, served = [], []
    for network in networks:
        layers = tuple(one.astype(np.float64) for one in network.layers)
        right = named(StolenNetwork(layers).scores(judged.images)) == judged.labels
        served.append(
            ServedNetwork(name=network.name, sha256=network.sha256, accuracy=float(np.mean(right)))
        )
        for point in _measured(network, settings, public, judged, seeds, plan or Plan()):
            points.append(point)
            on_point(point)
    return CopyTable(
        command=command,
        public=described[0],
        judged=described[1],
        network=tuple(served),
        point=tuple(points),
    )


def _measured(
    network: Network,
    settings: SessionSettings,
    public: PublicImages,
    judged: LabelledImages,
    seeds: int,
    plan: Plan,
) -> Iterator[CopyPoint]:
    # Nobody needs to look at the light: this thief is honest, and the noise is on its answers.
    answers = replace(settings, sampling=Sampling.MEASURED)
    for queries in plan.class_queries:
        (found,) = copy_curve(
            lambda count: ClassesAlone(public, count),
            network,
            answers,
            [queries],
            public,
            judged,
            seeds=seeds,
        )
        yield _point(network, Order.FIXED, ClassesAlone.name, 0.0, found)
    bright = replace(settings, light=replace(settings.light, mean_photons=_BRIGHT))
    for order, spends, counts in (
        (Order.FIXED, plan.spends, (1,)),
        (Order.FRESH, plan.fresh_spends, plan.fresh_queries),
    ):
        disguised = replace(
            bright, light=replace(bright.light, disguise=Disguise(permute=order is Order.FRESH))
        )
        for spend in spends:
            attack = PrincipalModes(public, spend / honest_spend(network, bright))
            for queries in counts:
                (found,) = copy_curve(
                    _always(attack),
                    network,
                    disguised,
                    [queries],
                    public,
                    judged,
                    seeds=seeds,
                )
                yield _point(network, order, attack.name, spend, found)


def _always(attack: PrincipalModes) -> Callable[[int], PrincipalModes]:
    return lambda queries: attack


def _point(
    network: Network, order: Order, attack: str, spend: float, found: CopyCurvePoint
) -> CopyPoint:
    return CopyPoint(
        network_sha256=network.sha256,
        order=order,
        attack=attack,
        queries=found.queries,
        spend=spend,
        accuracy=found.best,
        standard_error=found.standard_error,
        seeds=len(found.copies),
        highest=found.highest,
        images=found.images,
    )
