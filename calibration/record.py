"""A calibration record: what was calibrated, what was found, when, and for how long it holds."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from labctl.calibration.distributions import Shape
from labctl.calibration.quantity import Quantity
from labctl.errors import CalibrationError
from labctl.wording import plain_fault

SettingValue = str | int | float | bool

Name = Annotated[str, Field(min_length=1)]
Identifier = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

# Nothing that is measured comes near; squares and sums of what is below are finite.
_MOST = 1e100


def _measurable(number: float) -> float:
    if not abs(number) <= _MOST:
        raise ValueError(f"{number:g} is no measured number, which are within {_MOST:g}")
    return number


Number = Annotated[float, AfterValidator(_measurable)]

_NOT_CONTENT = ("id", "raw", "figure")


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class QuantityRow(_Row):
    """A `Quantity` in a file; degrees of freedom are left out where they are infinite.

    Records that were written before shapes and spans were have none.
    """

    value: Number
    standard_uncertainty: Number
    unit: str
    budget: dict[str, Number] = {}
    degrees_of_freedom: float | None = None
    shapes: dict[str, Shape] = {}
    span: tuple[Number, Number] | None = None

    @model_validator(mode="after")
    def _is_a_quantity(self) -> Self:
        try:
            self.quantity()
        except CalibrationError as error:
            raise ValueError(str(error)) from error
        return self

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
            shapes=dict(quantity.shapes),
            span=quantity.span,
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
            self.shapes,
            self.span,
        )


class ConditionRow(_Row):
    """A circumstance of the measurement, and how far it may move before the record is in doubt."""

    value: Number
    tolerance: Annotated[Number, Field(ge=0.0)]
    unit: str


class Record(_Row):
    """One calibration record, as one line of the store.

    `subject`: maker, model, serial number and channel of what played each role. `settings`: those
    that must be the same for the record to apply. `used`: records that went into this one, by
    routine. `raw`, `figure`: files beside the store, relative to it; `digest` is the SHA-256 of
    `raw`. `id` is the digest of everything else that the record says, `digest` included: a record
    that was changed does not pass for one.
    """

    id: Identifier
    routine: Name
    station: str
    subject: dict[str, str]
    settings: dict[str, SettingValue]
    conditions: dict[str, ConditionRow]
    quantities: Annotated[dict[Name, QuantityRow], Field(min_length=1)]
    taken_at: AwareDatetime
    valid_for_s: Annotated[float, Field(gt=0.0)]
    used: dict[str, Identifier]
    remarks: tuple[str, ...]
    raw: Annotated[str, Field(pattern=r"^raw/[0-9a-f]{16}\.h5$")] | None
    figure: Annotated[str, Field(pattern=r"^figures/[0-9a-f]{16}\.png$")] | None
    digest: Digest | None
    version: str

    @field_validator("taken_at")
    @classmethod
    def _in_utc(cls, taken_at: datetime) -> datetime:
        return taken_at.astimezone(UTC)

    @model_validator(mode="after")
    def _raw_data_have_a_digest(self) -> Self:
        if (self.raw is None) != (self.digest is None):
            raise ValueError("raw data and their digest go together")
        return self

    def age_s(self, now: datetime) -> float:
        """Return the seconds since it was taken, negative if in the future; `now` with zone."""
        return (now - self.taken_at).total_seconds()

    @property
    def valid_until(self) -> datetime:
        """When it expires, in UTC; the end of all calendars if that is beyond them."""
        try:
            return self.taken_at + timedelta(seconds=self.valid_for_s)
        except OverflowError:
            return datetime.max.replace(tzinfo=UTC)

    def quantity(self, name: str) -> Quantity:
        """Return one of its quantities; raises KeyError."""
        return self.quantities[name].quantity()

    def same_subject(self, other: Record) -> bool:
        """Tell whether both are of one routine about the same hardware and settings."""
        return (self.station, self.routine, self.subject, self.settings) == (
            other.station,
            other.routine,
            other.subject,
            other.settings,
        )


def record_id(content: Mapping[str, object]) -> str:
    """Return the id of a record's JSON object: 16 hex digits of the SHA-256 of its canonical text.

    `id`, `raw` and `figure` are left out: the latter two are named after the id.
    """
    told = {name: value for name, value in content.items() if name not in _NOT_CONTENT}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def first_complaint(error: ValidationError) -> str:
    """Return the first thing that is wrong, with its place, on one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    what = plain_fault(first["msg"])
    return f"{place}: {what}" if place else what
