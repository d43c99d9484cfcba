"""A measured quantity: value, standard uncertainty and where that comes from, unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from scipy import stats

from labctl.errors import SettingError


@dataclass(frozen=True)
class Quantity:
    """A value with its standard uncertainty, both in `unit` ("1" for a ratio).

    `budget`: standard uncertainty that each source contributes, in the same unit; the whole is
    their root sum of squares (GUM, JCGM 100:2008, section 5.1, uncorrelated sources).
    `degrees_of_freedom`: effective ones, infinite where a source is known well (GUM, G.4).
    """

    value: float
    standard_uncertainty: float
    unit: str
    budget: Mapping[str, float] = field(default_factory=dict)
    degrees_of_freedom: float = math.inf

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise SettingError("value", self.value, "finite")
        if not 0.0 <= self.standard_uncertainty < math.inf:
            raise SettingError("standard_uncertainty", self.standard_uncertainty, "0 or more")
        if not self.degrees_of_freedom > 0.0:
            raise SettingError("degrees_of_freedom", self.degrees_of_freedom, "above 0")

    @classmethod
    def of(
        cls,
        value: float,
        unit: str,
        budget: Mapping[str, float],
        *,
        degrees_of_freedom: float = math.inf,
    ) -> Quantity:
        """Return the quantity whose uncertainty is the root sum of squares of its budget."""
        return cls(value, math.hypot(*budget.values()), unit, dict(budget), degrees_of_freedom)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the two-sided interval that holds the truth with `confidence` (Student's t)."""
        if not 0.0 < confidence < 1.0:
            raise SettingError("confidence", confidence, "above 0 and below 1")
        reach = self.coverage_factor(confidence) * self.standard_uncertainty
        return self.value - reach, self.value + reach

    def coverage_factor(self, confidence: float = 0.95) -> float:
        """Return k: half of the interval over the standard uncertainty."""
        tail = 0.5 + confidence / 2.0
        if math.isinf(self.degrees_of_freedom):
            return float(stats.norm.ppf(tail))
        return float(stats.t.ppf(tail, self.degrees_of_freedom))

    def agrees_with(self, other: Quantity, factor: float = 3.0) -> bool:
        """Tell whether two values differ by at most `factor` joint standard uncertainties."""
        joint = math.hypot(self.standard_uncertainty, other.standard_uncertainty)
        return abs(self.value - other.value) <= factor * joint

    def __str__(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"{written(self.value, self.standard_uncertainty)}{unit}"


def written(value: float, uncertainty: float) -> str:
    """Return value and uncertainty with two significant digits of the uncertainty."""
    if uncertainty <= 0.0:
        return f"{value:.6g}"
    digits = 1 - math.floor(math.log10(uncertainty))
    largest = max(abs(value), uncertainty)
    if -4 <= math.floor(math.log10(largest)) < 6 and digits < 9:
        places = max(digits, 0)
        return f"{value:.{places}f} ± {uncertainty:.{places}f}"
    exponent = math.floor(math.log10(largest))
    places = max(digits + exponent, 0)
    scale = 10.0**exponent
    return f"({value / scale:.{places}f} ± {uncertainty / scale:.{places}f})e{exponent}"
