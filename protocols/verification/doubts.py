"""What is not known exactly though no sample of returned light shows it: mu, shot-noise unit, link.

A verdict's samples can be any number; the power meters' scale, the receiver's efficiency and
the link's transmittance stay as doubtful as their calibration. A bound that holds except with a
probability p needs the reach of each such error at p:

- a source with hard limits (rectangular, arcsine) reaches to its limit and no further;
- sources that are known well are normal, and add up as one: their root sum of squares times the
  normal quantile. A stated 3 % is then extrapolated as a normal law, to 20 % at 1e-10;
- a source with f degrees of freedom has its own Student's t, never one of Welch and
  Satterthwaite's effective number: far out the tail is that of the fewest readings alone.

The probability is shared equally between these groups (the union bound), their reaches add up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from labctl import checks
from labctl.calibration.distributions import Shape, student_quantile
from labctl.calibration.quantity import Quantity
from labctl.errors import SettingError

# Where doubts are compared with each other: shares of all failure probabilities that bounds have.
_COMPARED = (0.25, 0.05, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9, 1e-11, 1e-15, 1e-20, 1e-50, 1e-100)
_HARD_LIMIT = {Shape.RECTANGULAR: math.sqrt(3.0), Shape.ARCSINE: math.sqrt(2.0)}


@dataclass(frozen=True)
class Source:
    """One error: its relative standard uncertainty, degrees of freedom, distribution."""

    name: str
    relative: float
    degrees_of_freedom: float = math.inf
    shape: Shape = Shape.NORMAL

    def __post_init__(self) -> None:
        checks.not_negative(f"uncertainty of {self.name}", self.relative, ", finite")
        if not self.degrees_of_freedom > 0.0:
            raise SettingError(
                f"degrees of freedom of {self.name}", self.degrees_of_freedom, "above 0"
            )


def sources_of(quantity: Quantity, name: str, *, without: Iterable[str] = ()) -> tuple[Source, ...]:
    """Return a quantity's sources, relative to its value, but those named in `without`.

    Those of its normal sources that are left share the quantity's effective degrees of freedom, or
    the fewer that they have if all few readings are among them (Welch and Satterthwaite).
    """
    value, left_out = abs(quantity.value), set(without)
    budget = {
        source: part
        for source, part in (quantity.budget or {name: quantity.standard_uncertainty}).items()
        if source not in left_out
    }
    normal = [p for s, p in budget.items() if quantity.shapes.get(s, Shape.NORMAL) is Shape.NORMAL]
    left = math.hypot(*normal)
    degrees = quantity.degrees_of_freedom
    if math.isfinite(degrees) and left > 0.0:
        degrees *= (left / quantity.standard_uncertainty) ** 4
    whole = Source(name, left / value, degrees)
    bounded = (
        Source(f"{name}: {source}", part / value, shape=quantity.shapes[source])
        for source, part in budget.items()
        if quantity.shapes.get(source, Shape.NORMAL) is not Shape.NORMAL
    )
    return (whole, *bounded)


def reach_of(sources: Iterable[Source], probability: float) -> float:
    """Return the relative error that their sum exceeds, to one side, with `probability` at most."""
    present = [source for source in sources if source.relative > 0.0]
    limits = [_HARD_LIMIT[one.shape] * one.relative for one in present if one.shape in _HARD_LIMIT]
    scattered = [one for one in present if one.shape not in _HARD_LIMIT]
    known = [one.relative for one in scattered if math.isinf(one.degrees_of_freedom)]
    few = [one for one in scattered if math.isfinite(one.degrees_of_freedom)]
    groups = len(few) + bool(known)
    if not groups:
        return sum(limits)
    share = probability / groups
    reach = math.hypot(*known) * -student_quantile(share, math.inf) if known else 0.0
    each = (one.relative * -student_quantile(share, one.degrees_of_freedom) for one in few)
    return sum(limits) + reach + sum(each)


@dataclass(frozen=True)
class Doubts:
    """Sources of error, by what they are the error of.

    `light`: mu. `unit`: the shot-noise unit in front of the server's receiver, of which excess
    noise and, over mu, transmittance are multiples. `share`: transmittance found over that of the
    link as calibrated. `client_noise`: excess noise behind the client, before the link's loss. The
    last two are less than their parts where the same constants enter both.
    """

    light: tuple[Source, ...] = ()
    unit: tuple[Source, ...] = ()
    share: tuple[Source, ...] = ()
    client_noise: tuple[Source, ...] = ()

    @property
    def none(self) -> bool:
        """Whether everything is known exactly, as at mode level."""
        every = (*self.light, *self.unit, *self.share, *self.client_noise)
        return not any(source.relative > 0.0 for source in every)

    def transmittance_factor(self, probability: float) -> float:
        """Return true over found transmittance, at least; 0 where nothing is known of it."""
        return max(1.0 - reach_of((*self.unit, *self.light), probability), 0.0)

    def share_factor(self, probability: float) -> float:
        """Return true over found share of the calibrated transmittance, at least."""
        return max(1.0 - reach_of(self.share, probability), 0.0)

    def noise_factor(self, probability: float) -> float:
        """Return true over found excess noise, at most."""
        return _most(reach_of(self.unit, probability))

    def client_noise_factor(self, probability: float) -> float:
        """Return true over found excess noise behind the client, at most."""
        return _most(reach_of(self.client_noise, probability))

    def light_factor(self, probability: float) -> float:
        """Return true over found mu, at most."""
        return _most(reach_of(self.light, probability))

    def worse(self, other: Doubts) -> Doubts:
        """Return doubts that reach as far as each, at any probability."""
        return Doubts(
            **{
                one.name: _wider(getattr(self, one.name), getattr(other, one.name))
                for one in fields(self)
            }
        )

    def as_json(self) -> dict[str, list[dict[str, Any]]]:
        """Return plain values; None for degrees of freedom without end."""
        return {
            one.name: [
                {
                    **asdict(source),
                    "degrees_of_freedom": None
                    if math.isinf(source.degrees_of_freedom)
                    else source.degrees_of_freedom,
                }
                for source in getattr(self, one.name)
            ]
            for one in fields(self)
        }

    @classmethod
    def of_json(cls, values: Mapping[str, Sequence[Mapping[str, Any]]]) -> Doubts:
        """Return the doubts of `as_json`; raises TypeError, ValueError, KeyError, SettingError."""
        return cls(**{name: tuple(map(_source, sources)) for name, sources in values.items()})


def _source(values: Mapping[str, Any]) -> Source:
    degrees = values["degrees_of_freedom"]
    return Source(
        str(values["name"]),
        float(values["relative"]),
        math.inf if degrees is None else float(degrees),
        Shape(values["shape"]),
    )


def _wider(one: tuple[Source, ...], two: tuple[Source, ...]) -> tuple[Source, ...]:
    """Return the sources that reach further, or those of both where that depends on how far out.

    Few readings reach further far out, many of a larger scatter nearby. Both together reach no less
    than either: each has a smaller share of the probability then.
    """
    reaches = [(reach_of(one, p), reach_of(two, p)) for p in _COMPARED]
    if all(first >= second for first, second in reaches):
        return one
    if all(first <= second for first, second in reaches):
        return two
    return one + two


def _most(reach: float) -> float:
    """Return the largest factor, whether the error is relative to the truth or to what was found.

    1/(1 - r) is more than 1 + r; infinite where the reach is everything.
    """
    return 1.0 / (1.0 - reach) if reach < 1.0 else math.inf


EXACT = Doubts()
# Of light of which nobody noted what was known: no bound rests on it.
UNKNOWN = Doubts(
    *((Source("not noted", 1.0, shape=Shape.RECTANGULAR),) for _ in range(len(fields(Doubts))))
)
