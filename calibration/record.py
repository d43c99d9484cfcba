"""A calibration record: what was calibrated, what was found, when, and for how long it holds."""

from __future__ import annotations

import hashlib
import json
import math
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from labctl.calibration.quantity import Quantity

SettingValue = str | int | float | bool


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class QuantityRow(_Row):
    """A `Quantity` in a file; degrees of freedom are left out where they are infinite."""

    value: float
    standard_uncertainty: Annotated[float, Field(ge=0.0)]
    unit: str
    budget: dict[str, float] = {}
    degrees_of_freedom: Annotated[float, Field(gt=0.0)] | None = None

    @classmethod
    def of(cls, quantity: Quantity) -> QuantityRow:
        """Return the row of a quantity."""
        freedom = quantity.degrees_of_freedom
        return cls(
            value=quantity.value,
            standard_uncertainty=quantity.standard_uncertainty,
            unit=quantity.unit,
            budget=dict(quantity.budget),
            degrees_of_freedom=None if math.isinf(freedom) else freedom,
        )

    def quantity(self) -> Quantity:
        """Return the quantity of a row."""
        freedom = self.degrees_of_freedom
        return Quantity(
            self.value,
            self.standard_uncertainty,
            self.unit,
            self.budget,
            math.inf if freedom is None else freedom,
        )


class ConditionRow(_Row):
    """A circumstance of the measurement, and how far it may move before the record is in doubt."""

    value: float
    tolerance: Annotated[float, Field(ge=0.0)]
    unit: str


class Record(_Row):
    """One calibration; never changed once written.

    `subject`: maker, model and serial number of each instrument by role. `settings`: what must be
    the same for the record to apply. `used`: records that went into this one, by routine.
    `raw`, `figure`: files beside the store, relative to it; `digest` is the SHA-256 of `raw`.
    """

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    routine: Annotated[str, Field(min_length=1)]
    station: str
    subject: dict[str, str]
    settings: dict[str, SettingValue]
    conditions: dict[str, ConditionRow]
    quantities: dict[str, QuantityRow]
    taken_at: datetime
    valid_for_s: Annotated[float, Field(gt=0.0)]
    used: dict[str, str]
    remarks: tuple[str, ...]
    raw: str | None
    figure: str | None
    digest: str | None
    version: str

    @field_validator("taken_at")
    @classmethod
    def _has_a_time_zone(cls, taken_at: datetime) -> datetime:
        if taken_at.tzinfo is None:
            raise ValueError("a time without a time zone: write it in UTC")
        return taken_at.astimezone(UTC)

    def age_s(self, now: datetime) -> float:
        """Return the seconds since it was taken; negative if it lies in the future."""
        return (now - self.taken_at).total_seconds()

    def quantity(self, name: str) -> Quantity:
        """Return one of its quantities; raises KeyError."""
        return self.quantities[name].quantity()


def record_id(content: dict[str, object]) -> str:
    """Return the id of a record: the first 16 hex digits of the SHA-256 of its canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
