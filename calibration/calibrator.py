"""Runs calibration routines on an opened station in the order of their needs, and keeps records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime

from labctl.calibration.applicability import Circumstances, Judgement, State, judge
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.knowledge import NOTHING, Knowledge
from labctl.calibration.record import Record
from labctl.calibration.routine import Routine
from labctl.calibration.store import About, Store
from labctl.errors import RecordError, SettingError
from labctl.instruments.equipment import Equipment
from labctl.station import Station, describe


def utc_now() -> datetime:
    """Return the time of now, in UTC."""
    return datetime.now(UTC)


class Calibrator:
    """Judges, runs and keeps the calibrations of one opened station.

    `routines` in the order in which they are to run; each after those that it needs.
    """

    def __init__(
        self,
        station: Station,
        equipment: Equipment,
        store: Store,
        routines: Sequence[Routine],
        *,
        now: Callable[[], datetime] = utc_now,
        effort: float = 1.0,
        seed: int = 0,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._station = station
        self._store = store
        self._now = now
        self._routines = {routine.name: routine for routine in routines}
        self.bench = CalibrationBench(equipment, effort=effort, seed=seed, on_step=on_step)

    @property
    def names(self) -> tuple[str, ...]:
        """All routines, in order."""
        return tuple(self._routines)

    def judgements(self) -> dict[str, Judgement]:
        """Return the state of each routine's newest record."""
        history = self._history()
        newest = {record.routine: record for record in history}
        return {name: self._judged(name, newest.get(name), history) for name in self._routines}

    def stale(self) -> tuple[str, ...]:
        """Return the routines without an applicable record, in order."""
        judged = self.judgements()
        return tuple(name for name in judged if judged[name].state is not State.APPLICABLE)

    def knowledge(self, states: Collection[State] = (State.APPLICABLE,)) -> Knowledge:
        """Return what the newest records say whose state is one of `states`."""
        judged = self.judgements()
        newest = self._store.newest(self._station.table.name)
        known = NOTHING
        for name, judgement in judged.items():
            if name in newest and judgement.state in states:
                known = known.with_record(newest[name])
        return known

    def demand(self) -> Knowledge:
        """Return what is known if every routine has a usable record; else raises RecordError."""
        bad = {name: each for name, each in self.judgements().items() if not each.usable}
        if bad:
            said = "; ".join(f"{name} {each.state} ({each.reason})" for name, each in bad.items())
            raise RecordError(
                f"station {self._station.table.name!r} is not calibrated: {said}. "
                "Run labctl calibrate STATION --stale"
            )
        return self.knowledge((State.APPLICABLE, State.UNCERTAIN))

    def planned(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return `names` in order, with whatever they need and is not applicable before them."""
        for name in names:
            if name not in self._routines:
                raise SettingError("routine", name, f"one of {', '.join(self._routines)}")
        wanted = set(names)
        stale = set(self.stale())
        for name in reversed(self.names):
            if name in wanted:
                wanted |= stale & set(self._routines[name].needs)
        return tuple(name for name in self._routines if name in wanted)

    def run(self, names: Sequence[str]) -> Iterator[Record]:
        """Run routines as planned, yielding each record once it is kept."""
        for name in self.planned(names):
            yield self._run(self._routines[name])

    def _run(self, routine: Routine) -> Record:
        self.bench.on_step(f"{routine.name}: {routine.title}")
        known = self.knowledge((State.APPLICABLE, State.UNCERTAIN))
        self.bench.learn(known)
        settings = dict(routine.settings(self.bench))
        outcome = routine.run(self.bench)
        about = About(
            routine=routine.name,
            station=self._station.table.name,
            subject=self._subject(routine),
            settings=settings,
            valid_for_s=routine.valid_for_s,
            used={need: known.records[need] for need in routine.needs},
        )
        record = self._store.append(about, outcome, self._now())
        self.bench.learn(known.with_record(record))
        return record

    def _history(self) -> list[Record]:
        name = self._station.table.name
        return [record for record in self._store.records() if record.station == name]

    def _judged(self, name: str, record: Record | None, history: Sequence[Record]) -> Judgement:
        if record is None:
            return Judgement(State.MISSING, "never measured")
        routine = self._routines[name]
        here = Circumstances(self._subject(routine), routine.settings(self.bench))
        return judge(record, self._now(), here, history)

    def _subject(self, routine: Routine) -> dict[str, str]:
        return subject(self._station, routine.roles)


def subject(station: Station, roles: Sequence[str]) -> dict[str, str]:
    """Return maker, model and serial of the instruments that play `roles`; "?" for no serial."""
    instruments = dict(station.table.roles())
    identities = describe(station.identities)
    found = {}
    for role in roles:
        if role not in instruments:
            found[role] = "nothing"
            continue
        who = identities[instruments[role]]
        found[role] = f"{who['maker']} {who['model']} {who['serial'] or '?'}"
    return found
