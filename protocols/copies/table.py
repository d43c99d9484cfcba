"""The yardstick: how good the best copy is after some queries, looked up, without an attack run.

What thieves were measured to reach ships as `copy_table.toml`; `labctl copies --table FILE` makes
it again. A thief's means are two numbers. Queries; and its spend per query, photons times noise:
mu per mode times the excess noise that it may make at the server, times modes per row, so that an
honest clone spends mu n_sp g. For weak couplings nothing else matters, at any mu, G and loss;
stronger ones read less for the same spend, which errs on the safe side. With one order of neurons
for all queries the spends of the QND attack add up, so its curve is one over the total; with fresh
orders a thief has no more than that, even if more was measured.

A figure between measured points is that of the next point where the thief has more of everything,
after successes were made monotone: on the safe side. It is never below a copy that was seen in a
whole session where the thief had no more (`SeenCopy`). No copy is taken to be better than the
network itself, or than the best that was measured. Networks that were not measured get no figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from labctl import checks
from labctl.data.models import Network
from labctl.errors import SettingError
from labctl.protocols.copies.spend import hidden_noise, honest_noise, row_modes, sent_sizes
from labctl.protocols.settings import SessionSettings
from labctl.toml_file import read_toml

_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Share = Annotated[float, Field(ge=0.0, le=1.0)]
CLASSES_ALONE = "classes-alone"
# The attack whose spend adds up over queries: `labctl.studies.attacks.copies.principal_modes`.
ADDS_UP = "principal-modes"
# 2.3 % of normal runs lie higher; what a run did reach counts in any case.
SIGMAS = 2.0
# An attack that hides in the sample size passes the pooled check this often.
ACCEPTANCE = 0.9
# Measured spends and asked ones may differ by rounding.
_SLACK = 1.0 + 1e-9


class Order(StrEnum):
    """Whether hidden neurons come in the same order in all queries."""

    FIXED = "fixed"
    FRESH = "fresh"


class CopyPoint(BaseModel):
    """One attack's copy after `queries` queries of `spend` each; what classes alone do needs none.

    `accuracy`: share of unseen images named rightly, the mean of `seeds` runs; `standard_error`: of
    that mean, it counts the spread of images and of runs. `highest`: the best single run; None
    where it was not kept, which tables of two runs need not. `images`: that judged each run, the
    same for all; None where it was not kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    network_sha256: _Digest
    order: Order
    attack: str
    queries: int = Field(ge=1)
    spend: float = Field(ge=0.0)
    accuracy: _Share
    standard_error: float = Field(gt=0.0)
    seeds: int = Field(ge=1)
    highest: _Share | None = None
    images: Annotated[int, Field(ge=1)] | None = None

    @property
    def image_error(self) -> float:
        """Standard error that the choice of images leaves to all runs alike; 0 if not kept."""
        return 0.0 if self.images is None else share_error(self.accuracy, self.images)

    @property
    def spread(self) -> float:
        """Standard deviation of a run about the mean of runs judged by the same images.

        What the error of the mean has beyond the images', sqrt(seeds) times. Where the number of
        images was not kept all of it counts as spread, which is more.
        """
        return math.sqrt(self.seeds * max(self.standard_error**2 - self.image_error**2, 0.0))

    @property
    def deviation(self) -> float:
        """Standard deviation of a single run: of its images, and of the spread between runs."""
        return math.hypot(self.image_error, self.spread)


class SeenCopy(BaseModel):
    """The best of the copies that accepted sessions of `queries` and this spend each gave.

    A limit from below and no more: thieves in a session, with decoys or with noise that hides, make
    less of a spend than those of the table's points.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    network_sha256: _Digest
    queries: int = Field(ge=1)
    spend: float = Field(ge=0.0)
    highest: _Share
    sessions: int = Field(ge=1)


class ServedNetwork(BaseModel):
    """A network that was measured, with the share of images that it names rightly without noise."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    sha256: _Digest
    accuracy: _Share


class CopyTable(BaseModel):
    """All measured copies, and what they rest on."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    command: str
    public: str
    judged: str
    network: tuple[ServedNetwork, ...] = Field(min_length=1)
    point: tuple[CopyPoint, ...] = Field(min_length=1)
    seen: tuple[SeenCopy, ...] = ()

    def toml(self) -> str:
        """Return the file's text."""
        lines = [f"command = {_quoted(self.command)}", f"public = {_quoted(self.public)}"]
        lines.append(f"judged = {_quoted(self.judged)}")
        for network in self.network:
            lines += ["", "[[network]]", f"name = {_quoted(network.name)}"]
            lines += [f'sha256 = "{network.sha256}"', f"accuracy = {network.accuracy!r}"]
        for point in self.point:
            lines += ["", "[[point]]", f'network_sha256 = "{point.network_sha256}"']
            lines += [f'order = "{point.order}"', f"attack = {_quoted(point.attack)}"]
            lines += [f"queries = {point.queries}", f"spend = {point.spend!r}"]
            lines += [f"accuracy = {point.accuracy!r}"]
            lines += [f"standard_error = {point.standard_error!r}", f"seeds = {point.seeds}"]
            lines += [] if point.highest is None else [f"highest = {point.highest!r}"]
            lines += [] if point.images is None else [f"images = {point.images}"]
        for one in self.seen:
            lines += ["", "[[seen]]", f'network_sha256 = "{one.network_sha256}"']
            lines += [f"queries = {one.queries}", f"spend = {one.spend!r}"]
            lines += [f"highest = {one.highest!r}", f"sessions = {one.sessions}"]
        return "\n".join(lines) + "\n"

    def joined(self, other: CopyTable) -> CopyTable:
        """Return this table with what another holds besides; raises SettingError for other images.

        A network or a point that both hold is taken from this one.
        """
        mine = {one.sha256 for one in self.network}
        measured = {_what(one) for one in self.point}
        if (self.public, self.judged) != (other.public, other.judged):
            raise SettingError("table", f"of {other.public}", f"a table of {self.public}")
        added = tuple(one for one in other.network if one.sha256 not in mine)
        points = tuple(one for one in other.point if _what(one) not in measured)
        return CopyTable(
            command=f"{other.command}; {self.command}",
            public=self.public,
            judged=self.judged,
            network=added + self.network,
            point=points + self.point,
            seen=tuple(dict.fromkeys(other.seen + self.seen)),
        )

    def served(self, network: Network) -> ServedNetwork | None:
        """Return what is known of a network, None if it was not measured."""
        return self.served_of(network.sha256)

    def served_of(self, sha256: str) -> ServedNetwork | None:
        """Return what is known of the network of this SHA-256, None if it was not measured."""
        return next((one for one in self.network if one.sha256 == sha256), None)

    def refusal(self, network: Network, order: Order = Order.FIXED) -> str | None:
        """Say why there is no figure for a network, None where there is one."""
        return self.refusal_of(network.sha256, network.name, order)

    def refusal_of(self, sha256: str, name: str, order: Order = Order.FIXED) -> str | None:
        """Say the same of a network of this SHA-256, called `name`."""
        known = ", ".join(one.name for one in self.network)
        if self.served_of(sha256) is None:
            return (
                f"no copy of {name!r} was measured, and what one network gives away says "
                f"nothing of another; measured: {known}"
            )
        if not self._attacks(sha256, order):
            return f"copies of {name!r} were not measured with an order that is {order}"
        return None

    def _attacks(self, sha256: str, order: Order) -> list[str]:
        """Return the attacks of which something is known: fixed orders say something of fresh."""
        known = {order, Order.FIXED}
        names = {
            one.attack for one in self.point if one.network_sha256 == sha256 and one.order in known
        }
        return sorted(names - {CLASSES_ALONE})

    def best(
        self, network: Network, queries: int, spend: float, order: Order = Order.FIXED
    ) -> BestCopy | None:
        """Return the best copy after `queries` of at most this mean spend each.

        None for a network or an order that was not measured (`refusal` says it in words). Raises
        SettingError for no queries or a spend that is no number from 0 on.
        """
        return self.best_of(network.sha256, queries, spend, order)

    def best_of(
        self, sha256: str, queries: int, spend: float, order: Order = Order.FIXED
    ) -> BestCopy | None:
        """Return the same for the network of this SHA-256."""
        checks.at_least("queries", queries, 1)
        checks.not_negative("spend", spend, ": photons times noise in SNU")
        served = self.served_of(sha256)
        if served is None or self.refusal_of(sha256, served.name, order) is not None:
            return None
        alone = self._figure(served, order, CLASSES_ALONE, queries, 0.0)
        found = {CLASSES_ALONE: alone}
        for name in self._attacks(served.sha256, order):
            found[name] = self._figure(served, order, name, queries, spend)
        attack = max(found, key=lambda name: found[name].upper)
        return BestCopy(attack, found[attack], alone, queries, spend)

    def robbed_counts(self, sha256: str, queries: int) -> list[int]:
        """Return how many of its queries a thief may rob, the others being left alone.

        A figure is that of measured points with no fewer queries: of the counts between two points
        the lowest leaves most spend for each. With these, more queries never have a worse copy.
        """
        counts = {one.queries for one in self.point if one.network_sha256 == sha256}
        after = {count + 1 for count in counts}
        return sorted({1, queries, *(one for one in counts | after if one < queries)})

    def _of(self, sha256: str, order: Order | None, attack: str) -> list[CopyPoint]:
        """Return one attack's points; what classes alone give does not depend on the order."""
        return [
            one
            for one in self.point
            if one.network_sha256 == sha256
            and (order is None or one.order is order or attack == CLASSES_ALONE)
            and one.attack == attack
        ]

    def _figure(
        self, served: ServedNetwork, order: Order, attack: str, queries: int, spend: float
    ) -> Figure:
        """Return one attack's figure: the lowest of points where the thief has no less.

        Of points that promise the same the one of the lowest mean: all are on the safe side.
        """
        found = self._covering(served.sha256, order, attack, queries, spend)
        if order is Order.FRESH and attack != CLASSES_ALONE:
            # A thief may shuffle rows itself: with one order for all queries it has no less.
            found += self._covering(served.sha256, Order.FIXED, attack, queries, spend)
            least = self._reached(served.sha256, attack, queries, spend)
            found = [Figure(one.accuracy, max(one.upper, least)) for one in found]
        most = self._most(served)
        if not found:
            return Figure(served.accuracy, most)
        best = min(found, key=lambda one: (one.upper, one.accuracy))
        seen = 0.0 if attack == CLASSES_ALONE else self._seen(served.sha256, queries, spend)
        return replace(best, upper=min(max(best.upper, seen), most))

    def _most(self, served: ServedNetwork) -> float:
        """Return the maximum that any copy is taken to be worth: the network, or the best measured.

        Without standard errors, which two runs of a few answers do not give well.
        """
        mine = [_highest(one) for one in self.point if one.network_sha256 == served.sha256]
        mine += [one.highest for one in self.seen if one.network_sha256 == served.sha256]
        return max(served.accuracy, *mine)

    def _reached(self, sha256: str, attack: str, queries: int, spend: float) -> float:
        """Return what was measured in fresh orders of thieves that had no more; 0 if nothing was.

        Of one query there is no order.
        """
        points = [
            one
            for one in self._of(sha256, None, attack)
            if one.order is Order.FRESH or one.queries == 1
        ]
        done = float(queries), spend
        return max((_upper(one) for one in points if _covers(done, _both(one))), default=0.0)

    def _seen(self, sha256: str, queries: int, spend: float) -> float:
        """Return the best copy seen in sessions in which the thief had no more; 0 if none was."""
        asked = float(queries), spend
        return max(
            (
                one.highest
                for one in self.seen
                if one.network_sha256 == sha256 and _covers(asked, (one.queries, one.spend))
            ),
            default=0.0,
        )

    def _covering(
        self, sha256: str, order: Order, attack: str, queries: int, spend: float
    ) -> list[Figure]:
        """Return the figures of all points of an order at which the thief has no less."""
        points = self._of(sha256, order, attack)
        means = _means(order, attack)
        asked = (queries * spend, spend) if means is _total else (float(queries), spend)
        return [_raised(one, points, means) for one in points if _covers(means(one), asked)]


@dataclass(frozen=True)
class Figure:
    """An accuracy as measured, the mean of its runs, and what a single copy has at most."""

    accuracy: float
    upper: float


@dataclass(frozen=True)
class BestCopy:
    """The best copy known after `queries` of `spend` each, and what classes alone give.

    `figure.upper` is the figure to promise by: it errs on the safe side.
    """

    attack: str
    figure: Figure
    classes_alone: Figure
    queries: int
    spend: float

    @property
    def beyond_classes_alone(self) -> float:
        """What the light gives away beyond what any inference service does, 0 or more."""
        return max(self.figure.upper - self.classes_alone.accuracy, 0.0)


def share_error(share: float, images: int) -> float:
    """Return the standard error of a share of `images` images; above 0 at 0 and 1, too."""
    mean = (share * images + 1.0) / (images + 2.0)
    return math.sqrt(mean * (1.0 - mean) / images)


def _total(point: CopyPoint) -> tuple[float, float]:
    return point.queries * point.spend, math.inf


def _both(point: CopyPoint) -> tuple[float, float]:
    return float(point.queries), point.spend


_Means = Callable[[CopyPoint], tuple[float, float]]


def _means(order: Order, attack: str) -> _Means:
    return _total if attack == ADDS_UP and order is Order.FIXED else _both


def _covers(has: tuple[float, float], asked: tuple[float, float]) -> bool:
    return has[0] * _SLACK >= asked[0] and has[1] * _SLACK >= asked[1]


def _raised(point: CopyPoint, points: Sequence[CopyPoint], means: _Means) -> Figure:
    """Return a point's figure, no lower than that of any point where the thief has less."""
    below = [one for one in points if _covers(means(point), means(one))]
    best = max(below, key=lambda one: one.accuracy)
    return Figure(best.accuracy, max(map(_upper, below)))


def _upper(point: CopyPoint) -> float:
    """Return what a single copy has at most: no lower than any that was measured.

    A thief makes one copy, which may be a lucky one: two standard deviations of a single run above
    the mean.
    """
    return min(max(point.accuracy + SIGMAS * point.deviation, _highest(point)), 1.0)


def _highest(point: CopyPoint) -> float:
    return point.accuracy if point.highest is None else point.highest


def _what(point: CopyPoint) -> tuple[str, Order, str, int, float]:
    return point.network_sha256, point.order, point.attack, point.queries, point.spend


def spend_of(network: Network, settings: SessionSettings, noise: float) -> float:
    """Return the spend per query of excess noise in SNU at the server, pooled over all modes."""
    return settings.light.mean_photons * noise * row_modes(sent_sizes(network))


def honest_spend(network: Network, settings: SessionSettings) -> float:
    """Return the spend of a client whose noise is exactly honest."""
    return spend_of(network, settings, honest_noise(sent_sizes(network), settings))


def hidden_spend(network: Network, settings: SessionSettings, queries: int) -> float:
    """Return the mean spend per query that passes the pooled check of this number of queries alone.

    Nine times in ten, if the calibration is exact.
    """
    attack = hidden_noise(queries, sent_sizes(network), settings, ACCEPTANCE)
    return attack * honest_spend(network, settings)


def best_copy(
    network: Network,
    settings: SessionSettings,
    queries: int,
    *,
    hidden: bool = True,
    table: CopyTable | None = None,
) -> BestCopy | None:
    """Return the best copy after `queries` at these settings, looked up in `table` or the shipped.

    `hidden`: whether a thief may also use the noise that hides in the sample size, all of it in as
    many of the queries as serve it best; otherwise its noise is exactly honest. None where nothing
    was measured (`CopyTable.refusal` says why).
    """
    known = load_copies() if table is None else table
    order = Order.FRESH if settings.light.disguise.permute else Order.FIXED
    if not hidden:
        return known.best(network, queries, honest_spend(network, settings), order)
    each = hidden_spend(network, settings, queries)
    spread = known.best(network, queries, each, order)
    if spread is None:
        return None
    best = spread
    for robbed in known.robbed_counts(network.sha256, queries):
        # All noise may go into some queries, the light of the others being returned as it came.
        found = known.best(network, robbed, each * queries / robbed, order)
        if found is not None and found.figure.upper > best.figure.upper:
            best = found
    return replace(spread, attack=best.attack, figure=best.figure, spend=best.spend)


def load_copies(path: Path | None = None) -> CopyTable:
    """Read a table, by default the shipped one; raises StationFileError if it is damaged."""
    if path is None:
        import labctl.data

        path = Path(labctl.data.__file__).parent / "copy_table.toml"
    return read_toml(path, CopyTable)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
