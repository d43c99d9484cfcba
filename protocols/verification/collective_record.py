"""Sums by weight of one or many sessions, in units of light in front of the receiver.

Each query's residual counts with the amplitude sqrt(2 mu) of what was sent: the sum is then the
residual of the one mode that carries the weight, R queries' light together. What the sessions'
calibrations and settings were is kept beside the sums, one part per calibration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from labctl.calibration.shot_noise import ReceiverCalibration
from labctl.errors import SettingError
from labctl.protocols.verification.channel import Expectation, shot_noise_at_server
from labctl.protocols.verification.collective import WeightSums
from labctl.protocols.verification.evidence import LayerEvidence
from labctl.protocols.verification.running_evidence import CalibratedSums, PooledEvidence

_ADDS = ("sessions", "samples", "clones", "fitted", "sent", "cross", "received")
_PART_ADDS = ("queries", "light", "weight", "white", "clone", "loud")


@dataclass(frozen=True)
class CollectivePart:
    """What was read under one calibration.

    `pooled`: the sums over all its light. `queries`: images; `light`: photons per mode that carried
    each weight, summed over them. `weight`: sum of 2 mu over all readings; `white` and `clone`: the
    same times what honest noise was expected of all but the clones, and of one clone on its mode,
    in SNU. `loud`: clones per reading.
    """

    pooled: CalibratedSums
    queries: int
    light: float
    weight: float
    white: float
    clone: float
    loud: float

    def beyond(self, before: CollectivePart) -> CollectivePart:
        """Return what was added since `before`, of the same session."""
        own, theirs = asdict(self.pooled), asdict(before.pooled)
        pooled = CalibratedSums(
            **{name: own[name] - theirs[name] if name in _ADDS else own[name] for name in own}
        )
        return CollectivePart(
            pooled=pooled,
            **{name: getattr(self, name) - getattr(before, name) for name in _PART_ADDS},
        )

    def merged(self, other: CollectivePart) -> CollectivePart:
        """Return both together; they have the same calibration."""
        return CollectivePart(
            pooled=self.pooled.merged(other.pooled),
            **{name: getattr(self, name) + getattr(other, name) for name in _PART_ADDS},
        )


@dataclass(frozen=True, eq=False)
class CollectiveRecord:
    """Sums by weight of each layer, and the parts that they were read in."""

    layers: tuple[WeightSums, ...] = ()
    parts: tuple[CollectivePart, ...] = ()

    @property
    def queries(self) -> int:
        """Queries whose light was looked at."""
        return sum(part.queries for part in self.parts)

    @property
    def light(self) -> float:
        """Photons per mode that carried each weight in these queries, summed over them."""
        return math.fsum(part.light for part in self.parts)

    @property
    def samples(self) -> int:
        """Readings in all."""
        return sum(part.pooled.samples for part in self.parts)

    @property
    def pooled(self) -> PooledEvidence:
        """The sums over all light."""
        return PooledEvidence(tuple(part.pooled for part in self.parts))

    def beyond(self, before: CollectiveRecord) -> CollectiveRecord:
        """Return what one session's record has gained since `before`, an earlier one of it."""
        if not self.parts or not before.parts:
            return self
        layers = [one.beyond(two) for one, two in zip(self.layers, before.layers, strict=True)]
        return CollectiveRecord(tuple(layers), (self.parts[0].beyond(before.parts[0]),))

    def merged(self, other: CollectiveRecord) -> CollectiveRecord:
        """Return both together; raises SettingError if they are of different networks."""
        if not self.parts or not other.parts:
            return self if self.parts else other
        if len(self.layers) != len(other.layers):
            raise SettingError("layers", len(other.layers), f"{len(self.layers)}, as kept before")
        layers = [one.merged(two) for one, two in zip(self.layers, other.layers, strict=True)]
        parts = list(self.parts)
        for new in other.parts:
            for index, part in enumerate(parts):
                if part.pooled.calibration == new.pooled.calibration:
                    parts[index] = part.merged(new)
                    break
            else:
                parts.append(new)
        return CollectiveRecord(tuple(layers), tuple(parts))


@dataclass(frozen=True)
class CollectiveSums:
    """What a record comes to, without its arrays.

    `power`: squares of the sums over how often each weight was read, in SNU, summed; `degrees` of
    freedom of it and its `scatter`, see `Power`; `read`: weights that were read. `loud`: sums on
    which a clone is loud, at most. `carriers`: quadratures of a query that carry one weight.
    `pairs`: of two quadratures that carry the same weight, how often both were read, by weight that
    was read.
    """

    parts: tuple[CollectivePart, ...]
    power: float
    degrees: int
    read: int
    scatter: float
    loud: float
    carriers: int
    pairs: float

    @property
    def queries(self) -> int:
        """Queries whose light was looked at."""
        return sum(part.queries for part in self.parts)

    @property
    def light(self) -> float:
        """Photons per mode that carried each weight in these queries, summed over them."""
        return math.fsum(part.light for part in self.parts)

    @property
    def pooled(self) -> PooledEvidence:
        """The sums over all light."""
        return PooledEvidence(tuple(part.pooled for part in self.parts))


def record_of(
    evidence: Sequence[LayerEvidence],
    calibration: ReceiverCalibration,
    expectation: Expectation,
    mean_photons: float,
) -> CollectiveRecord:
    """Return one session's record; that of a session that read nothing is empty.

    `mean_photons` per mode, as sent.
    """
    pooled = PooledEvidence().with_session(evidence, calibration).parts
    if not pooled:
        return CollectiveRecord()
    unit = shot_noise_at_server(calibration)
    power = 2.0 * mean_photons
    samples = pooled[0].samples
    clones = sum(part.images * part.row_count * part.loud_modes for part in evidence)
    white = max(expectation.excess_noise - expectation.clone_noise * clones / samples, 0.0)
    queries = max(part.images for part in evidence)
    weight = power * samples
    part = CollectivePart(
        pooled=pooled[0],
        queries=queries,
        light=mean_photons * queries * max(each.carriers for each in evidence),
        weight=weight,
        white=weight * white,
        clone=weight * expectation.clone_noise,
        loud=weight * clones / samples,
    )
    amplitude = math.sqrt(power * unit / calibration.blocked_variance)
    layers = [each.known_sums().scaled(amplitude, power) for each in evidence]
    return CollectiveRecord(tuple(layers), (part,))


def collective_sums(
    evidence: Sequence[LayerEvidence],
    record: CollectiveRecord,
    history: CollectiveRecord | None = None,
) -> CollectiveSums | None:
    """Return what a record comes to, with a history of the same network if there is one.

    None if it kept no sums by weight, or no more than what a bench's distortion may explain takes:
    nothing is then known of noise that repeats. `evidence` says what the weights are. Raises
    SettingError for a history of other layers.
    """
    whole = record if history is None else history.merged(record)
    if not whole.parts:
        return None
    found = [layer.power(each.pattern) for layer, each in zip(whole.layers, evidence, strict=True)]
    if not any(each.degrees for each in found):
        return None
    degrees, read = sum(each.degrees for each in found), sum(each.read for each in found)
    weight = math.fsum(part.weight for part in whole.parts)
    queries = sum(part.queries for part in whole.parts)
    # One clone per block of a row adds its noise to one sum of each quadrature that was read.
    share = math.fsum(part.loud for part in whole.parts) / weight
    return CollectiveSums(
        parts=whole.parts,
        power=math.fsum(each.value for each in found),
        degrees=degrees,
        read=read,
        scatter=sum(each.degrees * each.scatter for each in found) / max(degrees, 1),
        loud=share * read,
        carriers=max(each.carriers for each in evidence),
        pairs=sum(
            _pairs(each, queries, power.read) * power.read
            for each, power in zip(evidence, found, strict=True)
        )
        / read,
    )


def _pairs(evidence: LayerEvidence, queries: int, read: int) -> float:
    """Return the share of pairs of quadratures with the same weight of which both were read."""
    carried = queries * evidence.carriers
    if queries < 2 or not read:
        return 0.0
    reads = queries * evidence.row_count * evidence.blocks.modes / read
    return (reads - 1.0) / (carried - 1.0)
