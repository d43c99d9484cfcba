"""A station: the instruments of a station file, opened by name and left safe on every way out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from labctl.errors import InstrumentError, LimitError, StationFileError
from labctl.safety import run_all
from labctl.station_file import StationFile, library_of, read_station_file, record_of

Capability = TypeVar("Capability")

DRIVER_GROUP = "labctl.drivers"
# What transports look at when they are opened; a station knows no transport.
_RECORD, _REPLAY = "LABCTL_RECORD", "LABCTL_REPLAY"


class Openable(Protocol):
    """What a station needs of a driver, whatever it drives."""

    def identify(self) -> object:
        """Ask who is there."""
        ...

    def safe_state(self) -> None:
        """Bring the instrument to where it can do no harm."""
        ...

    def close(self) -> None:
        """End the session."""
        ...


Opener = Callable[..., Openable]


def find_driver(name: str) -> Opener:
    """Return the `open` of a driver by its entry-point name; raises StationFileError."""
    found = {point.name: point for point in entry_points(group=DRIVER_GROUP)}
    if name not in found:
        raise StationFileError(f"unknown driver {name!r}; there are: {', '.join(sorted(found))}")
    opener: Opener = found[name].load().open
    return opener


class Station:
    """Opened instruments; use it as a context manager.

    Leaving the context puts every instrument into its safe state, last opened first, also after
    an error or Ctrl-C, and closes it. If the station file asks for a wire record, `record` is
    where it goes, unless the process is recorded or replayed as a whole.
    """

    def __init__(self, path: Path, table: StationFile) -> None:
        self.path = path
        self.table = table
        self._opened: dict[str, Openable] = {}
        self.identities: dict[str, object] = {}
        self.record: Path | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a station file; nothing is opened until the context is entered."""
        station = cls(path, read_station_file(path))
        for name, table in station.table.instruments.items():
            try:
                find_driver(table.driver)
            except StationFileError as error:
                raise StationFileError(f"{path}: instrument {name!r}: {error}") from error
        return station

    def __enter__(self) -> Self:
        try:
            with self._recording():
                self._open_all()
        except BaseException as error:
            _add_failures(error, self._leave())
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failures = self._leave()
        if failures and error is None:
            raise InstrumentError(self.table.name, "not left safe: " + "; ".join(failures))
        if error is not None:
            _add_failures(error, failures)

    def instrument(self, name: str, capability: type[Capability]) -> Capability:
        """Return an opened instrument as a capability; raises StationFileError if it has it not."""
        opened = self._opened[name]
        if not isinstance(opened, capability):
            raise StationFileError(
                f"{self.path}: instrument {name!r} ({self.table.instruments[name].driver}) "
                f"cannot serve as {capability.__name__}"
            )
        return opened

    def check(self, name: str, quantity: str, value: float) -> float:
        """Return `value` if the station's limits allow it for the instrument, else LimitError."""
        limit = self.table.instruments[name].limits.get(quantity)
        if limit is not None and not limit.low <= value <= limit.high:
            raise LimitError(
                name, quantity, value, f"{limit.low} to {limit.high} by the station file"
            )
        return value

    def _open_all(self) -> None:
        library = library_of(self.table, self.path)
        for name, table in self.table.instruments.items():
            opener = find_driver(table.driver)
            opened = opener(name, table.address, library=library, options=table.options)
            self._opened[name] = opened
            self.identities[name] = opened.identify()

    @contextmanager
    def _recording(self) -> Iterator[None]:
        if os.environ.get(_RECORD) or os.environ.get(_REPLAY):
            yield
            return
        self.record = record_of(self.table, self.path)
        if self.record is None:
            yield
            return
        os.environ[_RECORD] = str(self.record)
        try:
            yield
        finally:
            del os.environ[_RECORD]

    def _leave(self) -> list[str]:
        leaving = list(reversed(self._opened.items()))
        self._opened = {}
        safe = [(name, opened.safe_state) for name, opened in leaving]
        return run_all([*safe, *((name, opened.close) for name, opened in leaving)])


def _add_failures(error: BaseException, failures: list[str]) -> None:
    if failures:
        error.add_note("not left safe: " + "; ".join(failures))


def describe(identities: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return identities as plain text fields, for tables and JSON."""
    fields = ("maker", "model", "serial", "firmware")
    return {
        name: {field: str(getattr(identity, field, "")) for field in fields}
        for name, identity in identities.items()
    }
