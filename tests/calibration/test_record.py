"""A record is refused where it is not what a calibration can have left."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from labctl.calibration.distributions import Shape
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import ConditionRow, QuantityRow, Record, first_complaint, record_id

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def content(**changes: object) -> dict[str, Any]:
    return {
        "id": "0123456789abcdef",
        "routine": "gain",
        "station": "demo",
        "subject": {"server.laser": "Maker L1 7"},
        "settings": {"channel": 1, "power_w": 1.0, "mode": "slow", "locked": True},
        "conditions": {"room_c": {"value": 21.0, "tolerance": 2.0, "unit": "degC"}},
        "quantities": {"gain": {"value": 2.0, "standard_uncertainty": 0.1, "unit": "1"}},
        "taken_at": NOON,
        "valid_for_s": 3600.0,
        "used": {},
        "remarks": (),
        "raw": None,
        "figure": None,
        "digest": None,
        "version": "0.1.0",
        **changes,
    }


def complaint(**changes: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Record.model_validate(content(**changes))
    return first_complaint(caught.value)


def test_a_record_survives_json() -> None:
    record = Record.model_validate(content())
    again = Record.model_validate_json(record.model_dump_json())
    assert again == record
    assert [type(value) for value in again.settings.values()] == [int, float, str, bool]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused_wherever_it_stands(bad: float) -> None:
    quantity = {"value": 2.0, "standard_uncertainty": 0.1, "unit": "1"}
    assert "quantities.gain.value" in complaint(quantities={"gain": {**quantity, "value": bad}})
    part = {"gain": {**quantity, "budget": {"noise": bad}}}
    assert "quantities.gain.budget.noise" in complaint(quantities=part)
    room = {"value": bad, "tolerance": 2.0, "unit": "degC"}
    assert "conditions.room_c.value" in complaint(conditions={"room_c": room})
    assert "settings.power_w" in complaint(settings={"power_w": bad})
    assert "valid_for_s" in complaint(valid_for_s=bad)


def test_what_cannot_be_a_quantity_is_refused_when_it_is_read() -> None:
    row = {"value": 2.0, "standard_uncertainty": 0.1, "unit": "1", "budget": {"noise": 0.2}}
    assert "adds up" in complaint(quantities={"gain": row})
    assert "quantities" in complaint(quantities={})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("taken_at", datetime(2026, 3, 1, 12)),
        ("valid_for_s", 0.0),
        ("id", "0123"),
        ("raw", "../secret"),
        ("raw", "raw/0123456789abcdef.h5"),
        ("figure", "figures/../../etc/passwd"),
        ("used", {"gain": "newest"}),
        ("routine", ""),
    ],
)
def test_other_nonsense_is_refused(field: str, value: object) -> None:
    assert complaint(**{field: value})


def test_unknown_keys_are_refused() -> None:
    assert "colour" in complaint(colour="red")


def test_times_are_kept_in_utc_whatever_zone_they_come_in() -> None:
    tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    record = Record.model_validate(content(taken_at=tokyo))
    assert (record.taken_at, record.taken_at.tzinfo) == (NOON, UTC)
    assert record.age_s(tokyo + timedelta(seconds=5)) == 5.0


def test_a_record_expires_after_its_validity_and_at_the_end_of_calendars_at_the_latest() -> None:
    assert Record.model_validate(content()).valid_until == NOON + timedelta(hours=1)
    forever = Record.model_validate(content(valid_for_s=1e300))
    assert forever.valid_until.year == 9999


def test_the_id_is_that_of_what_the_record_says_but_not_of_its_files_names() -> None:
    first = record_id(content(taken_at="noon"))
    assert first == record_id(content(taken_at="noon", raw="raw/x", figure="f", id="y"))
    assert first == record_id(dict(reversed(content(taken_at="noon").items())))
    for changed in ({"routine": "loss"}, {"remarks": ("odd",)}, {"digest": "ab"}):
        assert first != record_id(content(taken_at="noon", **changed))


def test_the_same_subject_is_the_same_hardware_and_settings() -> None:
    record = Record.model_validate(content())
    assert record.same_subject(Record.model_validate(content(taken_at=NOON, valid_for_s=1.0)))
    others: tuple[dict[str, object], ...] = (
        {"subject": {}},
        {"settings": {}},
        {"routine": "x"},
        {"station": "y"},
    )
    for changed in others:
        assert not record.same_subject(Record.model_validate(content(**changed)))


@given(
    value=st.floats(-1e100, 1e100),
    parts=st.dictionaries(st.text(max_size=4), st.floats(0.0, 1e99), max_size=4),
    freedom=st.floats(1e-3, 1e300) | st.just(math.inf),
)
@settings(deadline=None)
def test_a_quantity_survives_its_row_and_json(
    value: float, parts: dict[str, float], freedom: float
) -> None:
    quantity = Quantity.of(value, "V", parts, degrees_of_freedom=freedom)
    row = QuantityRow.model_validate_json(QuantityRow.of(quantity).model_dump_json())
    assert row.quantity() == quantity


def test_shapes_and_spans_survive_json_and_older_records_have_none() -> None:
    quantity = Quantity.of(1.0, "V", {"steps": 0.1}, shapes={"steps": Shape.RECTANGULAR})
    limited = Quantity(1.02, 0.1, "1").within(most=1.0)
    for each in (quantity, limited):
        row = QuantityRow.model_validate_json(QuantityRow.of(each).model_dump_json())
        assert row.quantity() == each
        assert row.quantity().interval() == each.interval()
    (old,) = Record.model_validate(content()).quantities.values()
    assert (old.shapes, old.span) == ({}, None)


@pytest.mark.parametrize("number", [1e101, -1e308, 1e308, math.inf, math.nan])
@pytest.mark.parametrize("name", ["value", "standard_uncertainty"])
def test_numbers_that_nothing_measured_has_are_refused(name: str, number: float) -> None:
    """Their squares are no numbers: a report of such a record would end in the middle."""
    fine = {"value": 1.0, "standard_uncertainty": 0.0, "unit": "V"}
    QuantityRow.model_validate({**fine, name: 1e99})
    with pytest.raises(ValidationError, match=name):
        QuantityRow.model_validate({**fine, name: number})


def test_conditions_and_budgets_are_numbers_that_can_be_squared() -> None:
    with pytest.raises(ValidationError, match="tolerance"):
        ConditionRow(value=1.0, tolerance=1e101, unit="K")
    with pytest.raises(ValidationError, match="budget"):
        QuantityRow(value=1.0, standard_uncertainty=1.0, unit="V", budget={"noise": 1e200})
