"""What a record is worth now: the same hardware and settings, young, on firm ground."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from labctl.calibration.applicability import (
    NO_SERIAL,
    Circumstances,
    Judgement,
    State,
    duration,
    judge,
    judge_all,
    standing_of,
)
from labctl.calibration.quantity import Quantity
from labctl.calibration.record import ConditionRow, QuantityRow, Record

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR_S = 3600.0
SUBJECT = {"server.laser": "Maker L1 7", "server.drive": "Maker G2 8, channels 1 and 2"}
SETTINGS: dict[str, str | int | float | bool] = {"f_hz": 1.9e14, "mode": "slow"}
HERE = Circumstances(SUBJECT, SETTINGS)


def record(number: int = 1, routine: str = "gain", value: float = 2.0, **changes: Any) -> Record:
    content: dict[str, Any] = {
        "id": f"{number:016x}",
        "routine": routine,
        "station": "demo",
        "subject": SUBJECT,
        "settings": SETTINGS,
        "conditions": {},
        "quantities": {f"{routine}_v": QuantityRow.of(Quantity(value, 0.1, "V"))},
        "taken_at": NOON,
        "valid_for_s": HOUR_S,
        "used": {},
        "remarks": (),
        "raw": None,
        "figure": None,
        "digest": None,
        "version": "0",
    }
    return Record(**{**content, **changes})


def judged(found: Record, here: Circumstances | None = HERE, *, after_s: float = 60.0) -> Judgement:
    return judge(found, NOON + timedelta(seconds=after_s), here, [found])


def test_the_same_hardware_with_the_same_settings_applies() -> None:
    judgement = judged(record())
    assert judgement == Judgement(State.APPLICABLE, "valid for another 59.0 min")
    assert judgement.usable
    assert str(judgement) == "applicable (valid for another 59.0 min)"


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ({**SUBJECT, "server.laser": "Maker L1 9"}, "server.laser was Maker L1 7, is Maker L1 9"),
        (
            {"server.laser": "Maker L1 7"},
            "server.drive was Maker G2 8, channels 1 and 2, is nothing",
        ),
        ({**SUBJECT, "server.bias": "X"}, "server.bias was nothing, is X"),
        ({**SUBJECT, "server.drive": "Maker G2 8, channels 2 and 1"}, "is Maker G2 8, channels 2"),
    ],
)
def test_other_hardware_or_another_channel_is_a_mismatch(
    subject: Mapping[str, str], reason: str
) -> None:
    judgement = judged(record(), replace(HERE, subject=subject))
    assert judgement.state is State.MISMATCH
    assert reason in judgement.reason
    assert not judgement.usable


@pytest.mark.parametrize(
    "settings",
    [{**SETTINGS, "f_hz": 1.9e14 + 1e6}, {"f_hz": 1.9e14}, {**SETTINGS, "more": True}],
)
def test_another_setting_is_a_mismatch(settings: Mapping[str, str | int | float | bool]) -> None:
    assert judged(record(), replace(HERE, settings=settings)).state is State.MISMATCH


@pytest.mark.parametrize(
    ("after_s", "state"),
    [
        (0.0, State.APPLICABLE),
        (HOUR_S, State.APPLICABLE),
        (HOUR_S + 1e-3, State.EXPIRED),
        (1e9, State.EXPIRED),
    ],
)
def test_it_expires_when_its_time_is_over(after_s: float, state: State) -> None:
    assert judged(record(), after_s=after_s).state is state


def test_age_and_validity_stand_in_the_reason() -> None:
    assert judged(record(), after_s=7.5 * HOUR_S).reason == "7.5 h old, valid for 1.0 h"


def test_a_mismatch_is_worse_than_age_and_age_than_doubt() -> None:
    unknown = {**SUBJECT, "server.laser": f"Maker L1 {NO_SERIAL}"}
    old = record(subject=unknown)
    assert judged(old, after_s=1e6).state is State.MISMATCH
    assert judged(old, replace(HERE, subject=unknown), after_s=1e6).state is State.EXPIRED
    assert judged(old, replace(HERE, subject=unknown)).state is State.UNCERTAIN


def test_hardware_that_tells_no_serial_number_is_uncertain() -> None:
    unknown = {**SUBJECT, "server.laser": f"Maker L1 {NO_SERIAL}"}
    judgement = judged(record(subject=unknown), replace(HERE, subject=unknown))
    assert judgement.state is State.UNCERTAIN
    assert "server.laser reports no serial number" in judgement.reason
    assert judgement.usable


def test_a_clock_that_was_put_back_makes_a_record_uncertain_but_a_minute_does_no_harm() -> None:
    assert judged(record(), after_s=-59.0).state is State.APPLICABLE
    judgement = judged(record(), after_s=-86400.0 * 3)
    assert judgement.state is State.UNCERTAIN
    assert "3.0 d from now: is the clock right?" in judgement.reason


def test_time_zones_make_no_difference() -> None:
    tokyo = (NOON + timedelta(minutes=1)).astimezone(timezone(timedelta(hours=9)))
    assert judge(record(), tokyo, HERE, []) == judged(record())


@pytest.mark.parametrize(
    ("now_c", "state"),
    [
        (21.0, State.APPLICABLE),
        (23.0, State.APPLICABLE),
        (23.1, State.UNCERTAIN),
        (18.9, State.UNCERTAIN),
        (math.nan, State.UNCERTAIN),
        (None, State.APPLICABLE),
    ],
)
def test_a_condition_that_moved_makes_it_uncertain(now_c: float | None, state: State) -> None:
    room = ConditionRow(value=21.0, tolerance=2.0, unit="degC")
    told = {} if now_c is None else {"room_c": now_c}
    judgement = judged(record(conditions={"room_c": room}), replace(HERE, conditions=told))
    assert judgement.state is state
    assert ("room_c was 21 degC" in judgement.reason) == (state is State.UNCERTAIN)


def test_without_circumstances_only_age_and_foundations_are_judged() -> None:
    assert judged(record(subject={"server.laser": "other"}), None).state is State.APPLICABLE
    assert judged(record(), None, after_s=1e6).state is State.EXPIRED


BASE = record(1, "base")
TOP = record(2, "top", used={"base": BASE.id})
SOON = NOON + timedelta(minutes=1)


def top_after(*later: Record) -> Judgement:
    return judge(TOP, SOON, HERE, [BASE, TOP, *later])


def test_a_record_on_firm_ground_applies() -> None:
    assert top_after().state is State.APPLICABLE


def test_a_foundation_that_is_not_in_the_store_is_a_doubt() -> None:
    judgement = judge(TOP, SOON, HERE, [TOP])
    assert judgement.state is State.UNCERTAIN
    assert f"base record {BASE.id}, which is not in the store" in judgement.reason


def test_a_foundation_measured_anew_is_a_doubt_only_if_it_changed() -> None:
    # Uncertainty 0.1 each: three joint ones are 0.42.
    assert top_after(record(3, "base", 2.4)).state is State.APPLICABLE
    judgement = top_after(record(3, "base", 2.5))
    assert judgement.state is State.UNCERTAIN
    assert "base_v = 2.00 ± 0.10 V, which is 2.50 ± 0.10 V since" in judgement.reason


def test_a_new_foundation_of_other_hardware_says_nothing_about_the_old_one() -> None:
    other = record(3, "base", 9.0, subject={"server.laser": "Maker L1 9"})
    assert top_after(other).state is State.APPLICABLE


def test_a_foundation_that_has_expired_is_a_doubt() -> None:
    old = record(1, "base", valid_for_s=30.0)
    judgement = judge(TOP, SOON, HERE, [old, TOP])
    assert judgement.state is State.UNCERTAIN
    assert "base, whose record 0000000000000001 has expired" in judgement.reason


def test_what_rests_on_other_hardware_is_uncertain_though_it_names_none_of_it() -> None:
    history = [BASE, TOP]
    elsewhere = replace(HERE, subject={**SUBJECT, "server.laser": "Maker L1 9"})
    states = standing_of(history, SOON, {"base": elsewhere, "top": HERE}).judgements
    assert [each.state for each in states.values()] == [State.MISMATCH, State.UNCERTAIN]
    assert "rests on base: mismatch (server.laser was" in states["top"].reason


def test_doubt_goes_up_through_all_that_rests_on_it() -> None:
    base = record(1, "base", valid_for_s=30.0)
    roof = record(3, "roof", used={"top": TOP.id})
    here = dict.fromkeys(("base", "top", "roof"), HERE)
    states = standing_of([base, TOP, roof], SOON, here).judgements
    assert [each.state for each in states.values()] == [
        State.EXPIRED,
        State.UNCERTAIN,
        State.UNCERTAIN,
    ]


def test_a_routine_without_a_record_is_missing() -> None:
    standing = standing_of([], NOON, {"base": HERE})
    assert standing.records == {}
    assert standing.judgements == {"base": Judgement(State.MISSING, "never measured")}
    assert not standing.judgements["base"].usable


def test_the_newest_record_about_what_is_there_counts() -> None:
    other = {**SUBJECT, "server.laser": "Maker L1 9"}
    history = [record(1), record(2, value=3.0), record(3, value=9.0, subject=other)]
    assert standing_of(history, SOON, {"gain": HERE}).records["gain"].id == history[1].id
    there = replace(HERE, subject=other)
    assert standing_of(history, SOON, {"gain": there}).records["gain"].id == history[2].id


def test_if_none_is_about_what_is_there_the_newest_is_the_mismatch() -> None:
    history = [record(1), record(2)]
    standing = standing_of(history, SOON, {"gain": replace(HERE, settings={})})
    assert standing.records["gain"].id == history[1].id
    assert standing.judgements["gain"].state is State.MISMATCH


def test_all_records_are_judged_and_the_old_ones_name_their_successor() -> None:
    history = [record(1), record(2), record(3, "gone")]
    (old, first), (new, second), (gone, third) = judge_all(history, SOON, {"gain": HERE})
    assert [old.id, new.id, gone.id] == [each.id for each in history]
    assert first.reason.endswith("; 00000000 is in its place")
    assert second == Judgement(State.APPLICABLE, "valid for another 59.0 min")
    assert third.reason.endswith("; no such routine here")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (59.0, "59 s"), (90.0, "1.5 min"), (5400.0, "1.5 h"), (129600.0, "1.5 d")],
)
def test_time_spans_are_told_in_the_unit_that_suits(seconds: float, text: str) -> None:
    assert duration(seconds) == text
