"""Runs calibration routines on an opened station in the order of their needs, and keeps records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from labctl import checks
from labctl.calibration.applicability import (
    NO_SERIAL,
    Circumstances,
    Judgement,
    Standing,
    State,
    judge_all,
    standing_of,
)
from labctl.calibration.bench import CalibrationBench
from labctl.calibration.knowledge import NOTHING, Knowledge
from labctl.calibration.record import Record
from labctl.calibration.routine import Outcome, Routine
from labctl.calibration.store import About, Store
from labctl.errors import CalibrationError, LabctlError, RecordError, SettingError
from labctl.station import Station, describe
from labctl.station.equipment import Equipment
from labctl.station.references import InputRole, MeterRole, OutputRole, PairRole, split_reference

# Errors fall as its root: a hundred times the readings for a tenth of the error.
_MOST_EFFORT = 100.0
_USABLE = (State.APPLICABLE, State.UNCERTAIN)
# IEEE 488.2, 10.14.3: an instrument that has no serial number answers 0.
_NO_SERIAL_REPLIES = ("", "0")


def utc_now() -> datetime:
    """Return the time of now, in UTC."""
    return datetime.now(UTC)


class Calibrator:
    """Judges, runs and keeps the calibrations of one opened station.

    `routines` in the order in which they are to run, each after those that it needs. `conditions`:
    circumstances that are known now, by the names that routines give them. `effort`: how many
    readings to take, 1 being a full calibration; above 0, at most 100. `seed`: 0 or more.
    """

    def __init__(
        self,
        station: Station,
        equipment: Equipment,
        store: Store,
        routines: Sequence[Routine],
        *,
        now: Callable[[], datetime] = utc_now,
        conditions: Mapping[str, float] | None = None,
        effort: float = 1.0,
        seed: int = 0,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        checks.above("effort", effort, 0.0, _MOST_EFFORT)
        checks.at_least("seed", seed, 0)
        if equipment.has_client and equipment.client.local_oscillator is not None:
            raise SettingError(
                "client.local_oscillator",
                "a laser of the client's own",
                "left out to calibrate: routines read records of a homodyne receiver",
            )
        self._station = station
        self._equipment = equipment
        self._store = store
        self._now = now
        self._routines = _in_order(routines)
        self.bench = CalibrationBench(equipment, effort=effort, seed=seed, on_step=on_step)
        # Asked before anything is learnt: what was measured must not change what a record is about.
        self._here = {
            name: Circumstances(
                subject(station, routine.roles),
                dict(routine.settings(self.bench)),
                conditions or {},
            )
            for name, routine in self._routines.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """All routines, in order."""
        return tuple(self._routines)

    def standing(self) -> Standing:
        """Return each routine's record and state."""
        return standing_of(self._history(), self._now(), self._here)

    def judged(self) -> list[tuple[Record, Judgement]]:
        """Return all of the station's records with their states, oldest first."""
        return judge_all(self._history(), self._now(), self._here)

    def judgements(self) -> dict[str, Judgement]:
        """Return the state of each routine's record."""
        return dict(self.standing().judgements)

    def stale(self) -> tuple[str, ...]:
        """Return the routines without an applicable record, in order."""
        judged = self.judgements()
        return tuple(name for name in judged if judged[name].state is not State.APPLICABLE)

    def knowledge(self, states: Collection[State] = (State.APPLICABLE,)) -> Knowledge:
        """Return what the records say whose state is one of `states`."""
        return _known(self.standing(), states)

    def demand(self, names: Sequence[str] | None = None, *, anyway: bool = False) -> Knowledge:
        """Return what is known if these routines (all) have usable records; else RecordError.

        With `anyway`, expired and mismatched records are used nevertheless, and the station file's
        values where there is none. All that is not applicable is in the knowledge's `doubts`.
        """
        standing = self.standing()
        asked = self._checked(self.names if names is None else names)
        judged = {name: each for name, each in standing.judgements.items() if name in asked}
        bad = [f"{name} {each}" for name, each in judged.items() if not each.usable]
        if bad and not anyway:
            raise RecordError(
                f"station {self._station.table.name!r} is not calibrated: {'; '.join(bad)}. "
                f"Run labctl calibrate {self._station.path} --only-stale"
            )
        return _known(standing, tuple(State) if anyway else _USABLE, asked)

    def planned(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return `names` in order, with all that they need and is not applicable before them."""
        asked = self._checked(names)
        needed = set().union(*(self._all_needs(name) for name in asked))
        wanted = asked | (needed & set(self.stale()))
        return tuple(name for name in self._routines if name in wanted)

    def run(self, names: Sequence[str]) -> tuple[Record, ...]:
        """Run routines as planned, all of them, and return their records.

        Where one fails, the records of those before it are kept in the store.
        """
        return tuple(self.steps(names))

    def run_stale(self, names: Sequence[str] | None = None) -> tuple[Record, ...]:
        """Run those of `names` (all), and of what they need, that are not applicable."""
        return tuple(self.stale_steps(names))

    def steps(self, names: Sequence[str]) -> Iterator[Record]:
        """Run a routine with each step, as planned, and yield its record once it is kept."""
        for name in self.planned(names):
            yield self._run(self._routines[name])

    def stale_steps(self, names: Sequence[str] | None = None) -> Iterator[Record]:
        """Run with each step one of `names` (all), or of what they need, that is not applicable.

        Each is judged when its turn comes: a new value may put what rests on the old one in doubt.
        """
        asked = self._checked(self.names if names is None else names)
        wanted = asked.union(*(self._all_needs(name) for name in asked))
        for name, routine in self._routines.items():
            if name in wanted and self.judgements()[name].state is not State.APPLICABLE:
                yield self._run(routine)

    def _history(self) -> list[Record]:
        name = self._station.table.name
        return [record for record in self._store.records() if record.station == name]

    def _checked(self, names: Sequence[str]) -> set[str]:
        for name in names:
            checks.one_of("routine", name, self._routines)
        return set(names)

    def _run(self, routine: Routine) -> Record:
        self.bench.on_step(f"{routine.name}: {routine.title}")
        standing = self.standing()
        needs = self._all_needs(routine.name)
        used = {need: _needed(standing, need) for need in self.names if need in needs}
        # Nothing else: a record names all that went into it.
        self.bench.learn(_known(standing, _USABLE, needs))
        outcome = self._measured(routine)
        about = About(
            routine=routine.name,
            station=self._station.table.name,
            subject=self._here[routine.name].subject,
            settings=self._here[routine.name].settings,
            valid_for_s=routine.valid_for_s,
            used=used,
        )
        record = self._store.append(about, outcome, self._now())
        self.bench.learn(self.knowledge(_USABLE))
        return record

    def _measured(self, routine: Routine) -> Outcome:
        """Run a routine; a value that the equipment cannot have must not get into the store."""
        try:
            outcome = routine.run(self.bench)
            Knowledge(outcome.quantities).applied(self._equipment)
        except (LabctlError, KeyboardInterrupt) as error:
            error.add_note(f"in {routine.name}, of which nothing was kept")
            raise
        return outcome

    def _all_needs(self, name: str) -> set[str]:
        """Return what a routine needs, and what that needs in turn."""
        direct = self._routines[name].needs
        return set(direct).union(*(self._all_needs(need) for need in direct))


def _in_order(routines: Sequence[Routine]) -> dict[str, Routine]:
    """Return routines by name; raises SettingError for a name twice or a need that comes later."""
    found: dict[str, Routine] = {}
    for routine in routines:
        if routine.name in found:
            raise SettingError("routine", routine.name, "a name that only one routine has")
        for need in routine.needs:
            if need not in found:
                valid = f"before it ({', '.join(found) or 'none'})"
                raise SettingError(f"what {routine.name} needs", need, valid)
        checks.positive(f"{routine.name}.valid_for_s", routine.valid_for_s)
        found[routine.name] = routine
    return found


def _known(
    standing: Standing, states: Collection[State], names: Collection[str] | None = None
) -> Knowledge:
    known = NOTHING
    for name, judgement in standing.judgements.items():
        if names is not None and name not in names:
            continue
        if name in standing.records and judgement.state in states:
            known = known.with_record(standing.records[name])
        if judgement.state is not State.APPLICABLE:
            known = known.with_doubt(name, str(judgement))
    return known


def _needed(standing: Standing, need: str) -> str:
    judgement = standing.judgements[need]
    if not judgement.usable:
        raise CalibrationError(f"needs {need}, which is {judgement}: run {need} again")
    return standing.records[need].id


def subject(station: Station, roles: Sequence[str]) -> dict[str, str]:
    """Return maker, model, serial number and channels of the instruments that play `roles`."""
    instruments = dict(station.table.roles())
    identities = describe(station.identities)
    found = {}
    for role in roles:
        if role not in instruments:
            found[role] = "nothing"
            continue
        who = identities[instruments[role]]
        serial = NO_SERIAL if who["serial"] in _NO_SERIAL_REPLIES else who["serial"]
        found[role] = f"{who['maker']} {who['model']} {serial}{_channels(station, role)}"
    return found


def _channels(station: Station, role: str) -> str:
    party, _, part = role.partition(".")
    table = getattr(getattr(station.table, party), part)
    if isinstance(table, PairRole):
        return f", channels {table.i_channel} and {table.q_channel}"
    channel = None
    if isinstance(table, str):
        _, channel = split_reference(table)
    elif isinstance(table, OutputRole | InputRole) and not isinstance(table, MeterRole):
        channel = table.channel
    return "" if channel is None else f", channel {channel}"
