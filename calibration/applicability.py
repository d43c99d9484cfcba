"""Whether a calibration record may be used: the same hardware, the same settings, young enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from labctl.calibration.record import Record, SettingValue

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
        """Whether the engine may run on it without being told to."""
        return self.state in (State.APPLICABLE, State.UNCERTAIN)


@dataclass(frozen=True)
class Circumstances:
    """What is there now: instruments by role, settings, conditions that are known."""

    subject: Mapping[str, str]
    settings: Mapping[str, SettingValue]
    conditions: Mapping[str, float] = field(default_factory=dict)


def judge(
    record: Record, now: datetime, here: Circumstances, history: Sequence[Record]
) -> Judgement:
    """Return what a record is worth; `history` is all records of the store, oldest first."""
    for state, reason in (
        (State.MISMATCH, _difference(record, here)),
        (State.EXPIRED, _age(record, now)),
        (State.UNCERTAIN, _doubt(record, now, here, history)),
    ):
        if reason is not None:
            return Judgement(state, reason)
    left_s = record.valid_for_s - record.age_s(now)
    return Judgement(State.APPLICABLE, f"valid for another {duration(left_s)}")


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
    record: Record, now: datetime, here: Circumstances, history: Sequence[Record]
) -> str | None:
    if record.age_s(now) < -_CLOCK_SLACK_S:
        return f"taken {duration(-record.age_s(now))} from now: is the clock right?"
    for role, who in sorted(record.subject.items()):
        if who.endswith(" ?"):
            return f"{role} tells no serial number"
    for name, condition in sorted(record.conditions.items()):
        value = here.conditions.get(name)
        if value is not None and abs(value - condition.value) > condition.tolerance:
            return (
                f"{name} was {condition.value:.4g} {condition.unit}, is {value:.4g}, "
                f"tolerated {condition.tolerance:.2g}"
            )
    return _foundation(record, now, history)


def _foundation(record: Record, now: datetime, history: Sequence[Record]) -> str | None:
    """Return what is wrong with the records that this one rests on."""
    newest = {each.routine: each for each in history}
    known = {each.id: each for each in history}
    for routine, used in sorted(record.used.items()):
        if used not in known:
            return f"rests on {routine} record {used}, which is not in the store"
        later = newest[routine]
        if later.age_s(now) > later.valid_for_s:
            return f"rests on {routine}, whose record {later.id} has expired"
        for name in sorted({*known[used].quantities} & {*later.quantities}):
            before, after = known[used].quantity(name), later.quantity(name)
            if not before.agrees_with(after):
                return f"rests on {name} = {before}, which is {after} since"
    return None
