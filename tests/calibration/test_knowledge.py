"""Knowledge puts measured values instead of the station file's, or refuses them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from labctl.calibration.knowledge import NOTHING, Knowledge
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import QuantityRow, Record
from labctl.data import shipped_station_path
from labctl.errors import CalibrationError
from labctl.station import Station
from labctl.station.equipment import Equipment, equipment_of


@pytest.fixture(scope="module")
def equipment() -> Iterator[Equipment]:
    with Station.read(shipped_station_path()) as station:
        yield equipment_of(station)


def known(**quantities: Quantity) -> Knowledge:
    return Knowledge({Name(name.replace("__", ".")): each for name, each in quantities.items()})


def record(routine: str, identifier: str, name: str, value: float) -> Record:
    return Record(
        id=identifier,
        routine=routine,
        station="demo",
        subject={},
        settings={},
        conditions={},
        quantities={name: QuantityRow.of(Quantity(value, 0.1, "V"))},
        taken_at=datetime(2026, 3, 1, tzinfo=UTC),
        valid_for_s=60.0,
        used={},
        remarks=(),
        raw=None,
        figure=None,
        digest=None,
        version="0",
    )


def test_nothing_changes_nothing(equipment: Equipment) -> None:
    assert NOTHING.applied(equipment) == equipment


def test_a_measured_value_takes_the_place_of_the_nominal_one(equipment: Equipment) -> None:
    told = known(server__v_pi_i_v=Quantity(3.6, 0.1, "V"), own=Quantity(1.0, 0.1, "1"))
    applied = told.applied(equipment)
    assert applied.server.constants.v_pi_i_v == 3.6
    assert applied.server.constants.v_pi_q_v == equipment.server.constants.v_pi_q_v
    assert applied.client == equipment.client
    assert told.quantity(Name("own")).value == 1.0


@pytest.mark.parametrize("value", [1.02, 0.0, -0.1])
def test_a_value_that_the_hardware_cannot_have_is_refused(
    equipment: Equipment, value: float
) -> None:
    told = known(server__efficiency=Quantity(value, 0.01, "1"))
    with pytest.raises(CalibrationError, match=r"server\.efficiency = .* cannot be right"):
        told.applied(equipment)


def test_what_was_not_measured_is_said() -> None:
    with pytest.raises(CalibrationError, match=r"server\.v_pi_i_v has not been measured"):
        NOTHING.quantity(Name("server.v_pi_i_v"))


def test_a_later_record_overrides_and_the_knowledge_names_both() -> None:
    first = record("a", "a" * 16, "x", 1.0)
    second = record("b", "b" * 16, "x", 2.0)
    told = NOTHING.with_record(first).with_record(second)
    assert told.quantity(Name("x")).value == 2.0
    assert told.records == {"a": "a" * 16, "b": "b" * 16}


def test_doubts_last_until_a_new_record() -> None:
    told = NOTHING.with_doubt("a", "expired").with_doubt("b", "missing")
    assert told.doubts == {"a": "expired", "b": "missing"}
    assert told.with_record(record("a", "a" * 16, "x", 1.0)).doubts == {"b": "missing"}
