"""A measured quantity: value, standard uncertainty and where that comes from, unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from scipy import special

from labctl import checks
from labctl.calibration.distributions import (
    Shape,
    factor_of_sum,
    feels_limit,
    interval_above,
    student_quantile,
)
from labctl.errors import CalibrationError

# A budget and its root sum of squares agree except for rounding.
_ROUNDING = 1e-9
# A double has 15 to 17 significant digits; more places would be its rounding.
_MOST_PLACES = 15
# Of k = 2 for a normal distribution, as uncertainties are usually stated (JCGM 100:2008, 6.3.3).
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Quantity:
    """A value with its standard uncertainty, both in `unit` ("1" for a ratio).

    `budget`: standard uncertainty that each source contributes, in the same unit; the whole is
    their root sum of squares (GUM, JCGM 100:2008, section 5.1, uncorrelated sources).
    `degrees_of_freedom`: effective ones, infinite where every source is known well (GUM, G.4).
    `shapes`: of those sources that are not normal. `span`: the 95 % interval where it is not
    symmetric; the value lies in it.
    Raises CalibrationError for what is not finite, or a budget that does not add up.
    """

    value: float
    standard_uncertainty: float
    unit: str
    budget: Mapping[str, float] = field(default_factory=dict)
    degrees_of_freedom: float = math.inf
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    span: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise CalibrationError(f"value {self.value} {self.unit}: nothing was measured")
        if not 0.0 <= self.standard_uncertainty < math.inf:
            raise CalibrationError(
                f"standard uncertainty {self.standard_uncertainty} {self.unit}: must be 0 or "
                "more and finite: are there enough readings, do they scatter?"
            )
        if not self.unit.strip():
            raise CalibrationError(f"value {self.value:.6g} without a unit: write '1' for a ratio")
        if not self.degrees_of_freedom > 0.0:
            raise CalibrationError(
                f"{self.degrees_of_freedom} degrees of freedom: as many readings as parameters "
                "tell no uncertainty"
            )
        self._check_budget()
        self._check_coverage()

    def _check_coverage(self) -> None:
        for source in self.shapes:
            if source not in self.budget:
                raise CalibrationError(f"shape of {source!r}, which is in no budget")
        if self.span is None:
            return
        low, high = self.span
        if not -math.inf < low <= self.value <= high < math.inf:
            raise CalibrationError(
                f"95 % interval from {low:.6g} to {high:.6g} {self.unit}: must hold the value "
                f"{self.value:.6g}"
            )

    def _check_budget(self) -> None:
        for source, part in self.budget.items():
            if not 0.0 <= part < math.inf:
                raise CalibrationError(f"uncertainty {part} {self.unit} from {source!r}")
        whole = math.hypot(*self.budget.values())
        if self.budget and not math.isclose(whole, self.standard_uncertainty, rel_tol=_ROUNDING):
            raise CalibrationError(
                f"standard uncertainty {self.standard_uncertainty:.6g} {self.unit}, but its "
                f"budget adds up to {whole:.6g}"
            )

    @classmethod
    def of(
        cls,
        value: float,
        unit: str,
        budget: Mapping[str, float],
        *,
        degrees_of_freedom: float | Mapping[str, float] = math.inf,
        shapes: Mapping[str, Shape] | None = None,
    ) -> Quantity:
        """Return the quantity whose uncertainty is the root sum of squares of its budget.

        `degrees_of_freedom`: of the whole, or of sources by name, the others being known well.
        `shapes`: of the sources that are not normal.
        """
        if isinstance(degrees_of_freedom, Mapping):
            degrees_of_freedom = effective_degrees_of_freedom(budget, degrees_of_freedom)
        parts = {source: float(part) for source, part in budget.items()}
        return cls(
            float(value),
            math.hypot(*parts.values()),
            unit,
            parts,
            float(degrees_of_freedom),
            dict(shapes or {}),
        )

    def interval(self, confidence: float = _CONFIDENCE) -> tuple[float, float]:
        """Return the two-sided interval that holds the truth with `confidence`.

        With a `span`, other confidences than 0.95 scale each of its sides as they would k.
        """
        factor = self.coverage_factor(confidence)
        if self.span is None:
            reach = factor * self.standard_uncertainty
            return self.value - reach, self.value + reach
        scale = factor / self.coverage_factor()
        low, high = self.span
        return self.value - scale * (self.value - low), self.value + scale * (high - self.value)

    def coverage_factor(self, confidence: float = _CONFIDENCE) -> float:
        """Return k, half of the interval over the standard uncertainty.

        Of Student's t (GUM, G.3); with `shapes`, of the sum of all sources (JCGM 101:2008).
        """
        checks.inside("confidence", confidence, 0.0, 1.0)
        if not self.shapes or self.standard_uncertainty == 0.0:
            return student_quantile(0.5 + confidence / 2.0, self.degrees_of_freedom)
        bounded = {name for name, shape in self.shapes.items() if shape is not Shape.NORMAL}
        whole = self.standard_uncertainty
        normal = math.hypot(
            *(part / whole for name, part in self.budget.items() if name not in bounded)
        )
        # Welch and Satterthwaite's terms are the normal sources' alone.
        freedom = self.degrees_of_freedom * normal**4 if normal > 0.0 else math.inf
        others = tuple((self.shapes[name], self.budget[name] / whole) for name in sorted(bounded))
        return factor_of_sum(normal, freedom, others, confidence)

    def within(self, *, least: float = -math.inf, most: float = math.inf) -> Quantity:
        """Return it as known to lie between physical limits, of which the nearer one counts.

        A value beyond is moved to the limit; the 95 % interval is that of Feldman and Cousins
        (`interval_above`), which ends at the limit and holds a truth there in 95 of 100 cases.
        Standard uncertainty and budget remain those of the readings.
        """
        value = min(max(self.value, least), most)
        above, below = self.value - least, most - self.value
        distance, spread = min(above, below), self.standard_uncertainty
        if spread == 0.0 or not feels_limit(distance / spread, self.coverage_factor()):
            return replace(self, value=value)
        sides = interval_above(
            distance / spread,
            self.coverage_factor,
            self._share_below,
            _CONFIDENCE,
        )
        low, high = (least + spread * side for side in sides)
        if below < above:
            high, low = (most - spread * side for side in sides)
        low, high = max(low, least), min(high, most)
        return replace(self, value=value, span=(min(low, value), max(high, value)))

    def _share_below(self, pull: float) -> float:
        """Return the chance of an error of less than `pull` standard uncertainties."""
        if math.isinf(self.degrees_of_freedom):
            return float(special.ndtr(pull))
        return float(special.stdtr(self.degrees_of_freedom, pull))

    def agrees_with(self, other: Quantity, factor: float = 3.0) -> bool:
        """Tell whether two values differ by at most `factor` joint standard uncertainties."""
        if self.unit != other.unit:
            return False
        joint = math.hypot(self.standard_uncertainty, other.standard_uncertainty)
        return abs(self.value - other.value) <= factor * joint

    def __str__(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"{written(self.value, self.standard_uncertainty)}{unit}"


def effective_degrees_of_freedom(
    budget: Mapping[str, float], freedoms: Mapping[str, float]
) -> float:
    """Return u^4 / sum(u_i^4 / f_i), Welch and Satterthwaite (GUM, G.4.1).

    Sources that `freedoms` leaves out are known well. Raises CalibrationError for a name that the
    budget has not, or degrees of freedom that are not above 0.

    >>> round(effective_degrees_of_freedom({"fit": 1.0, "meter": 1.0}, {"fit": 10.0}), 3)
    40.0
    """
    for source, freedom in freedoms.items():
        if source not in budget:
            raise CalibrationError(f"degrees of freedom of {source!r}, which is in no budget")
        if not freedom > 0.0:
            raise CalibrationError(f"{freedom} degrees of freedom of {source!r}: too few readings")
    whole = math.hypot(*budget.values())
    if whole == 0.0:
        return math.inf
    terms = sum((budget[source] / whole) ** 4 / freedom for source, freedom in freedoms.items())
    return 1.0 / terms if terms > 0.0 else math.inf


def written(value: float, uncertainty: float) -> str:
    """Return value and uncertainty, both to two significant digits of the uncertainty.

    A common power of ten follows the parentheses where plain digits would be long. At most
    16 digits of the larger are given; an uncertainty below shows as 0.

    >>> written(0.98342, 0.0121)
    '0.983 ± 0.012'
    >>> written(1.23456e-9, 2.1e-12)
    '(1.2346 ± 0.0021)e-9'
    """
    if uncertainty <= 0.0:
        return f"{value:.6g}"
    exact, error = Decimal(value), _two_digits(uncertainty)
    # The last digit that both are rounded to, as a power of ten.
    last = error.adjusted() - 1
    first = max(exact.adjusted() if exact else last, error.adjusted())
    last = max(last, first - _MOST_PLACES)
    # Plain digits where they are short: below a million, and to eight places behind the point.
    if 0 <= first < 6 or (-4 <= first < 0 and last > -9):
        return f"{_plain(exact, last)} ± {_plain(error, last)}"
    shifted = (_plain(part.scaleb(-first), last - first) for part in (exact, error))
    return f"({' ± '.join(shifted)})e{first}"


def _two_digits(uncertainty: float) -> Decimal:
    return Decimal(f"{uncertainty:.1e}")


def _plain(number: Decimal, last: int) -> str:
    """Return a number rounded to the power of ten `last`, without an exponent."""
    rounded = Decimal(f"{number.scaleb(-last):.0f}").scaleb(last)
    return f"{rounded:.{max(-last, 0)}f}"
