"""A station: the instruments of a file by name, within limits, left safe on every way out."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from labctl.addresses import canonical
from labctl.environment import RECORD, REPLAY
from labctl.errors import (
    InstrumentError,
    StationFileError,
    StillLitError,
    UnknownInstrumentError,
    UsageError,
)
from labctl.hazards import Hazard, emits
from labctl.safety import unwinding
from labctl.station.check import channel_methods, check_station
from labctl.station.crew import Crew
from labctl.station.drivers import DriverClass, Openable
from labctl.station.exits import holds, keep, leave_at_exit, leave_first, left, may_be_lit
from labctl.station.file import (
    SIMULATED,
    StationFile,
    WatchTable,
    as_line,
    library_of,
    read_station_file,
    record_of,
    transport_of,
)
from labctl.station.gate import Gate
from labctl.station.guard import guarded, unguarded
from labctl.station.heartbeat import Heartbeat
from labctl.station.leaving import leaving_of
from labctl.station.limits import Allowed, Limits
from labctl.station.owner import Ownership
from labctl.station.references import split_reference
from labctl.station.snapshot import settings_of
from labctl.station.teardown import Leaving, Left, darken, leave_safe
from labctl.station.turns import Turns
from labctl.station.watch import LimitsWatch, Watched
from labctl.station.watched import WatchedReading, watched_readings
from labctl.toml_file import place
from labctl.visible import visible_logger

Capability = TypeVar("Capability")

_log = visible_logger(__name__)


class Station:
    """Instruments by name: `station["laser"]`, `station.laser`, a channel as `station["meter/3"]`.

    Everything that comes out is within the limits of the station file, for any caller. Open it
    with `open` or as a context manager. Leaving, `close`, a signal or the end of the program puts
    every instrument into its safe state, what emits light first, then the last opened first, and
    closes it. If the file asks for a wire record, `record` is where it goes, unless the process is
    recorded or replayed as a whole.
    """

    def __init__(self, path: Path, table: StationFile) -> None:
        self.path = path
        self.table = table
        self.identities: dict[str, object] = {}
        self.record: Path | None = None
        self._drivers = check_station(table, path)
        self._opened: dict[str, Openable] = {}
        self._guards: dict[str, Any] = {}
        self._known_limits: dict[str, Limits] = {}
        self._gate = Gate()
        self._crew = Crew()
        self._leaving = threading.RLock()
        self._heartbeat: Heartbeat | None = None
        self._ownership = Ownership()
        self._watched: list[WatchedReading] = []
        self._turns: dict[str, Turns] = {}
        self._watch: LimitsWatch | None = None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read and check a station file; nothing is opened. Raises StationFileError."""
        path = Path(path)
        station = cls(path, read_station_file(path))
        words = set(object.__dir__(station))
        for name in station.table.instruments:
            # As `station.close` it would be the method, which switches everything off.
            if name in words:
                where = place(path, "instruments", name)
                raise StationFileError(
                    f"{where}: {name!r} is a word of every station: call the instrument otherwise"
                )
        return station

    def open(self) -> Self:
        """Open all instruments, in the file's order; those already open are left safe if one fails.

        Raises InstrumentError, StationFileError, SettingError or RunFileError.
        """
        if self._opened:
            raise UsageError(f"station {self.table.name!r} is open already")
        self._gate, self._known_limits = Gate(), {}
        self._watched = list(watched_readings(self.table, self.path))
        self._turns = {each.instrument: Turns() for each in self._watched}
        try:
            with self._recording():
                self._open_all()
        except BaseException as error:
            _add_failures(error, self._leave())
            raise
        return self

    def close(self) -> None:
        """Leave every instrument safe and close it; closing twice does nothing.

        Raises InstrumentError naming those that could not be made safe, StillLitError where one of
        them may still emit light.
        """
        found = self._leave()
        if found:
            kind = StillLitError if found.lit else InstrumentError
            raise kind(self.table.name, f"not left safe: {found}")

    def __enter__(self) -> Self:
        # One that `open` opened may be entered for its way out.
        return self if self._opened else self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            _add_failures(error, self._leave())

    @property
    def is_open(self) -> bool:
        """Whether its instruments are open."""
        return bool(self._opened)

    @property
    def names(self) -> tuple[str, ...]:
        """The instruments' names, in the file's order."""
        return tuple(self.table.instruments)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.table.instruments

    def __getitem__(self, reference: str) -> Any:
        name, channel = self._split(reference)
        return self._guarded(name) if channel is None else self._channel(name, channel, None)

    def __getattr__(self, name: str) -> Any:
        # Only what is no attribute comes here; before __init__ has run there is no table.
        table = self.__dict__.get("table")
        if table is None or name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(name for name in self.names if name.isidentifier())})

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.names)

    def __repr__(self) -> str:
        state = "open" if self._opened else "not open"
        lines = [f"<Station {self.table.name!r} of {self.path}, {state}"]
        for name, table in self.table.instruments.items():
            who = " ".join(describe({name: self.identities.get(name)})[name].values()).strip()
            lines.append(f"  {name:<20} {table.driver:<24} {table.address}  {who}".rstrip())
        return "\n".join(lines) + ">"

    # Declared by what a capability makes, for mypy --strict takes no protocol as `type[...]`.
    def instrument(self, reference: str, capability: Callable[..., Capability]) -> Capability:
        """Return an opened instrument, or a channel of one ("meter/3"), as a capability.

        `capability`: a class, usually one of `labctl.instruments.capabilities`. An instrument of
        one channel is its own only channel. Raises StationFileError if it has not the capability,
        UnknownInstrumentError if there is no such instrument.
        """
        name, channel = self._split(reference)
        kind = cast("type[Capability]", capability)
        found = self._guarded(name) if channel is None else self._channel(name, channel, kind)
        if isinstance(found, kind):
            return found
        split = channel is None and channel_methods(self._drivers[name])
        advice = f"; name one of its channels, as '{name}/1'" if split else ""
        raise StationFileError(
            f"{self.path}: instrument {reference!r} ({self.table.instruments[name].driver}) "
            f"cannot serve as {kind.__name__}{advice}"
        )

    def driver(self, name: str) -> type[DriverClass]:
        """Return an instrument's driver; nothing needs to be open."""
        return self._drivers[name]

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return each instrument's identity and settings now, as plain values by name.

        `settings` has every quantity that can be set and asked for; one whose question fails has
        the error in its place. Asking may take a measurement, and changes nothing.
        """
        identities = describe(self.identities)
        return {
            name: {
                "driver": self.table.instruments[name].driver,
                "address": self.table.instruments[name].address,
                "identity": identities.get(name, {}),
                "settings": settings_of(self._required(name)),
            }
            for name in self.names
        }

    def check(self, name: str, quantity: str, value: float) -> float:
        """Return `value` if the station's limits allow it for the instrument, else LimitError."""
        self._limits(name).check(quantity, value)
        return value

    def _split(self, reference: str) -> tuple[str, int | None]:
        if reference in self.table.instruments:
            return reference, None
        try:
            name, channel = split_reference(reference)
        except ValueError:
            name, channel = reference, None
        if name not in self.table.instruments:
            raise UnknownInstrumentError(name, self.names, str(self.path))
        return name, channel

    def _required(self, name: str) -> Openable:
        if name not in self._opened:
            problem = f"station {self.table.name!r} is not open: open it with `open` or `with`"
            raise UsageError(problem)
        return self._opened[name]

    def _guarded(self, name: str) -> Any:
        if name not in self._guards:
            self._guards[name] = guarded(self._required(name), self._limits(name))
        return self._guards[name]

    def _limits(self, name: str) -> Limits:
        if name not in self._known_limits:
            allowed = {}
            for quantity, limit in self.table.instruments[name].limits.items():
                where = place(self.path, "instruments", name, "limits", quantity)
                allowed[quantity] = Allowed(limit.low, limit.high, where)
            self._known_limits[name] = Limits(
                name, allowed, self._gate, self._turns.get(name), self.stop_emission
            )
        return self._known_limits[name]

    def _channel(self, name: str, channel: int, capability: type[Any] | None) -> Any:
        """Return a channel, by the method whose result has the capability; any without one."""
        instrument = self._guarded(name)
        methods = channel_methods(self._drivers[name])
        if not methods:
            if channel == 1:
                return instrument
            raise StationFileError(f"{self.path}: instrument {name!r} has one channel only")
        found = None
        for method in methods:
            found = getattr(instrument, method)(channel)
            if capability is None or isinstance(found, capability):
                break
        return found

    def _open_all(self) -> None:
        leave_at_exit(self)
        self._ownership.take(self._addresses(), " ".join(sys.argv)[:200])
        self._start_watchdog()
        self._crew.hire({transport_of(self.table, self.path, name) for name in self.names})
        for name, table in self.table.instruments.items():
            library = library_of(self.table, self.path, name)
            opened = self._drivers[name].open(
                name, table.address, library=library, options=table.options
            )
            self._opened[name] = opened
            leave_first()
            self.identities[name] = opened.identify()
            _log.info(
                "%s: %s at %s is %s", name, table.driver, table.address, self.identities[name]
            )
            for quantity, limit in table.limits.items():
                _log.info("%s: %s limited to %g..%g", name, quantity, limit.low, limit.high)
        if self._heartbeat is not None:
            self._heartbeat.await_ready()
        self._start_watch()

    def _start_watch(self) -> None:
        """Begin to read what is watched."""
        if not self._watched:
            return
        watched = []
        for each in self._watched:
            read = getattr(unguarded(self[each.reference]), each.method)
            turns = self._turns[each.instrument]
            watched.append(
                Watched(each.shown, each.quantity, read, each.allowed, turns, each.ratio)
            )
        times = self.table.watch or WatchTable()
        self._watch = LimitsWatch(
            watched, every_s=times.every_s, blind_s=times.blind_s, stop=self.stop_emission
        )
        self._watch.start()
        names = [f"{each.shown}.{each.quantity}" for each in self._watched]
        _log.info("watched every %g s: %s", times.every_s, ", ".join(names))

    def _addresses(self) -> list[str]:
        """Return the addresses that other programs could reach too."""
        if os.environ.get(REPLAY):
            return []
        tables = self.table.instruments
        return [canonical(tables[name].address) for name in tables if not self._is_simulated(name)]

    def _start_watchdog(self) -> None:
        """Start a watchdog if something real may emit; a bench in this process dies with it."""
        table, simulated = self.table, self._is_simulated
        emitting = (
            emits(self._drivers[name]) or own.hazard == Hazard.EMISSION.value
            for name, own in table.instruments.items()
            if not simulated(name)
        )
        if table.watchdog.enabled and not os.environ.get(REPLAY) and any(emitting):
            self._heartbeat = Heartbeat(
                self.path,
                content=as_line(table),
                frozen_after_s=table.watchdog.frozen_after_s,
                computing_s=table.watchdog.computing_s,
            )
            self._heartbeat.start()
            if self._heartbeat.process_id is not None:
                self._ownership.name_watchdog(self._heartbeat.process_id)
            keep(self._heartbeat)

    def _is_simulated(self, name: str) -> bool:
        return library_of(self.table, self.path, name).endswith(SIMULATED)

    @contextmanager
    def _recording(self) -> Iterator[None]:
        if os.environ.get(RECORD) or os.environ.get(REPLAY):
            yield
            return
        self.record = record_of(self.table, self.path)
        if self.record is None:
            yield
            return
        os.environ[RECORD] = str(self.record)
        try:
            yield
        finally:
            del os.environ[RECORD]

    def stop_emission(self, reason: str) -> None:
        """Switch off all that emits, from any thread, and refuse all further use of the station.

        Returns after half a second at most; what did not go dark by then is still worked on.
        The next use of the station raises StoppedError with the `reason`.
        """
        is_first = self._gate.reason is None
        self._gate.close(reason)
        self.darken()
        if is_first:
            _log.warning("%s: emission is stopped: %s", self.table.name, reason)

    def darken(self) -> None:
        """Switch off all that emits, from any thread; the station can still be used.

        Returns after half a second at most; what did not go dark by then is still worked on.
        """
        darken([self._way_out(name) for name in reversed(self._opened)], self._crew)

    def _way_out(self, name: str) -> Leaving:
        # What was opened knows best what it is.
        leaving = leaving_of(self.table, self.path, name, type(self._opened[name]))
        leaving.instrument = self._opened[name]
        return leaving

    def _leave(self) -> Left:
        with self._leaving:
            if not holds(self):
                return Left()
            # Before this line a signal still unwinds; the station is left at the program's exit.
            unwinding.hold()
            try:
                if self._watch is not None:
                    self._watch.end()
                    self._watch = None
                self._gate.close("the station is being left")
                leaving = [self._way_out(name) for name in self._opened]
                self._opened, self._guards, self._known_limits = {}, {}, {}
                found = leave_safe(leaving, self._crew)
                if os.environ.get(REPLAY):
                    found = Left(found.failures)  # nothing is connected that could emit
                may_be_lit(self, found.lit)
                if self._heartbeat is not None:
                    self._heartbeat.stop(all_dark=not found.lit)
                    self._heartbeat = None
                return found
            finally:
                self._ownership.give_back()
                self._crew.dismiss()
                left(self)


def _add_failures(error: BaseException, found: Left) -> None:
    if found:
        error.add_note(f"not left safe: {found}")


def describe(identities: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return identities as plain text fields, for tables and JSON."""
    fields = ("maker", "model", "serial", "firmware")
    return {
        name: {field: str(getattr(identity, field, "")) for field in fields}
        for name, identity in identities.items()
    }
