"""Whether a calibration record may be used: the same hardware, the same settings, young enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from labctl.calibration.record import Record, SettingValue

NO_SERIAL = "no serial number"

# A clock that was put back by less does no harm.
_CLOCK_SLACK_S = 60.0


class State(StrEnum):
    """What a record is worth now.

    applicable: use it. uncertain: nothing contradicts it, but something it rests on cannot be
    shown to hold. expired: too old. mismatch: it is about other hardware or other settings.
    missing: there is none.
    """

    APPLICABLE = "applicable"
    UNCERTAIN = "uncertain"
    EXPIRED = "expired"
    MISMATCH = "mismatch"
    MISSING = "missing"


@dataclass(frozen=True)
class Judgement:
    """A state and why."""

    state: State
    reason: str

    @property
    def usable(self) -> bool:
        """Whether the engine may run on it without being overridden."""
        return self.state in (State.APPLICABLE, State.UNCERTAIN)

    def __str__(self) -> str:
        return f"{self.state} ({self.reason})"


@dataclass(frozen=True)
class Circumstances:
    """The present state: instruments by role, settings, conditions that are known.

    A condition that is not among them is taken to hold.
    """

    subject: Mapping[str, str]
    settings: Mapping[str, SettingValue]
    conditions: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """The record of each routine that is about the present hardware, and every routine's state.

    A routine without a record of this hardware has its newest one, as a mismatch; a routine
    without any has none.
    """

    records: Mapping[str, Record] = field(default_factory=dict)
    judgements: Mapping[str, Judgement] = field(default_factory=dict)


def judge(
    record: Record, now: datetime, here: Circumstances | None, history: Sequence[Record]
) -> Judgement:
    """Return what a record is worth; `history` is all records of the store, oldest first.

    Without `here`, age and foundations alone are judged: nothing can be a mismatch.
    """
    for state, reason in (
        (State.MISMATCH, None if here is None else _difference(record, here)),
        (State.EXPIRED, _age(record, now)),
        (State.UNCERTAIN, _doubt(record, now, here, history)),
    ):
        if reason is not None:
            return Judgement(state, reason)
    left_s = record.valid_for_s - record.age_s(now)
    return Judgement(State.APPLICABLE, f"valid for another {duration(left_s)}")


def standing_of(
    history: Sequence[Record], now: datetime, here: Mapping[str, Circumstances] | None
) -> Standing:
    """Return the state of the routines; `history` is all records of one station, oldest first.

    `here`: the present state by routine, each after those that it needs. Without it the routines
    are those of the records, and age and foundations alone are judged.
    """
    routines = list(dict.fromkeys(each.routine for each in history)) if here is None else [*here]
    records: dict[str, Record] = {}
    judgements: dict[str, Judgement] = {}
    for routine in routines:
        of_routine = [record for record in history if record.routine == routine]
        found = _best(of_routine, now, None if here is None else here[routine], history)
        if found is None:
            judgements[routine] = Judgement(State.MISSING, "never measured")
        else:
            records[routine] = found[0]
            judgements[routine] = _on_foundations(found[1], found[0], judgements)
    return Standing(records, judgements)


def judge_all(
    history: Sequence[Record], now: datetime, here: Mapping[str, Circumstances] | None
) -> list[tuple[Record, Judgement]]:
    """Return all records of one station with their states; one that has a successor says so."""
    standing = standing_of(history, now, here)
    judged = []
    for record in history:
        current = standing.records.get(record.routine)
        if current is record:
            judged.append((record, standing.judgements[record.routine]))
            continue
        there = None if here is None else here.get(record.routine)
        alone = judge(record, now, there, history)
        successor = (
            "no such routine here" if current is None else f"{current.id[:8]} is in its place"
        )
        judged.append((record, Judgement(alone.state, f"{alone.reason}; {successor}")))
    return judged


def _best(
    records: Sequence[Record], now: datetime, here: Circumstances | None, history: Sequence[Record]
) -> tuple[Record, Judgement] | None:
    """Return the newest of a routine's records that is about the present state, and its state.

    Where none is, the newest of all, which is then a mismatch. None if there are no records.
    """
    newest = None
    for record in reversed(records):
        judgement = judge(record, now, here, history)
        if judgement.state is not State.MISMATCH:
            return record, judgement
        newest = newest or (record, judgement)
    return newest


def _on_foundations(
    judgement: Judgement, record: Record, foundations: Mapping[str, Judgement]
) -> Judgement:
    """Return the judgement in view of those of the routines that the record rests on.

    What rests on something that does not apply is uncertain, however young it is.
    """
    if judgement.state is not State.APPLICABLE:
        return judgement
    for routine in sorted({*record.used} & {*foundations}):
        if foundations[routine].state is not State.APPLICABLE:
            return Judgement(State.UNCERTAIN, f"rests on {routine}: {foundations[routine]}")
    return judgement


def duration(seconds: float) -> str:
    """Return a time span in the unit that suits it."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if abs(seconds) >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _difference(record: Record, here: Circumstances) -> str | None:
    for role in sorted({*record.subject, *here.subject}):
        then, now = record.subject.get(role, "nothing"), here.subject.get(role, "nothing")
        if then != now:
            return f"{role} was {then}, is {now}"
    for name in sorted({*record.settings, *here.settings}):
        before, present = record.settings.get(name), here.settings.get(name)
        if before != present:
            return f"{name} was {before}, is {present}"
    return None


def _age(record: Record, now: datetime) -> str | None:
    age_s = record.age_s(now)
    if age_s <= record.valid_for_s:
        return None
    return f"{duration(age_s)} old, valid for {duration(record.valid_for_s)}"


def _doubt(
    record: Record, now: datetime, here: Circumstances | None, history: Sequence[Record]
) -> str | None:
    if record.age_s(now) < -_CLOCK_SLACK_S:
        return f"taken {duration(-record.age_s(now))} from now: is the clock right?"
    for role, who in sorted(record.subject.items()):
        if NO_SERIAL in who:
            return f"{role} reports {NO_SERIAL}: it may be another {who}"
    for name, condition in sorted(record.conditions.items()):
        value = None if here is None else here.conditions.get(name)
        # Not "above": what is not a number is no proof that the condition holds.
        if value is not None and not abs(value - condition.value) <= condition.tolerance:
            return (
                f"{name} was {condition.value:.6g} {condition.unit}, is {value:.6g}, "
                f"tolerated {condition.tolerance:.2g}"
            )
    return _foundation(record, now, history)


def _foundation(record: Record, now: datetime, history: Sequence[Record]) -> str | None:
    """Return what is wrong with the records that this one rests on."""
    known = {each.id: each for each in history}
    for routine, identifier in sorted(record.used.items()):
        used = known.get(identifier)
        if used is None:
            return f"rests on {routine} record {identifier}, which is not in the store"
        later = next(each for each in reversed(history) if each.same_subject(used))
        if later.age_s(now) > later.valid_for_s:
            return f"rests on {routine}, whose record {later.id} has expired"
        for name in sorted({*used.quantities} & {*later.quantities}):
            before, after = used.quantity(name), later.quantity(name)
            if not before.agrees_with(after):
                return f"rests on {name} = {before}, which is {after} since"
    return None
