"""PyVISA over a simulated bench in this process: `pyvisa.ResourceManager("bench.toml@labctl")`.

A world (bench and clock) is loaded when a ResourceManager is made and ends when it is closed.
PyVISA returns one and the same ResourceManager for one path as long as it is open; two paths,
or two spellings of one path, are two worlds. `@labctl` without a path is the bench that is
shipped.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from pyvisa import constants, errors, rname
from pyvisa.constants import StatusCode
from pyvisa.typing import VISAEventContext, VISARMSession, VISASession
from pyvisa.util import DebugInfo, LibraryPath

from labctl.addresses import canonical
from labctl.clock import Clock
from labctl.environment import SIMULATED_RUN
from labctl.errors import StationFileError
from labctl.instruments.simulated.panel import ConnectionLostError, FrontPanel, plugged_in
from labctl.instruments.simulated.visa_event_calls import EventLibrary
from labctl.instruments.simulated.visa_session import (
    MANUFACTURER,
    SPECIFICATION,
    Session,
    SharedLock,
)
from labctl.version import __version__


class World(Protocol):
    """What the backend needs of a bench."""

    @property
    def panels(self) -> Mapping[str, FrontPanel]:
        """Front panels by VISA resource name."""
        ...

    @property
    def clock(self) -> Clock:
        """The bench's time."""
        ...


class LabctlVisaLibrary(EventLibrary):
    """The library object behind `@labctl`; one world at a time.

    Seam for tests and benches that no file describes: a subclass may override `load_world`, and
    `pyvisa.ResourceManager(Subclass("any path"))` opens it. All calls are under one lock, for
    the panels share their physics.
    """

    @staticmethod
    def load_world(path: Path) -> World:
        """Load a bench file; raises StationFileError if it is missing or wrong."""
        from labctl.instruments.simulated.bench_file import load_bench

        if not path.is_file():
            raise StationFileError(f"{path}: there is no such bench file")
        return load_bench(path, run=int(os.environ.get(SIMULATED_RUN, "0")))

    @staticmethod
    def get_library_paths() -> Iterable[LibraryPath]:
        """Return the shipped bench file, used without a path."""
        from labctl.data import shipped_bench_path

        return (LibraryPath(str(shipped_bench_path())),)

    @staticmethod
    def get_debug_info() -> DebugInfo:
        """Return what `pyvisa-info` shows."""
        return {"Version": __version__}

    @property
    def clock(self) -> Clock:
        """The world's clock; raises InvalidSession when no ResourceManager is open."""
        return self._opened_world().clock

    @property
    def world(self) -> World:
        """The bench, which no message shows; InvalidSession when no ResourceManager is open."""
        return self._opened_world()

    @property
    def in_use(self) -> bool:
        """Whether a session to an instrument is open."""
        return bool(self._sessions)

    def _init(self) -> None:
        self._world: World | None = None
        self._guard = threading.RLock()
        self._calling = threading.RLock()
        self._happened = threading.Condition(self._guard)
        self._caller: threading.Thread | None = None
        self._numbers = count(1)
        self._forget()

    def open_default_resource_manager(self) -> tuple[VISARMSession, StatusCode]:
        """Load the world; raises StationFileError if its file is missing or wrong."""
        with self._guard:
            self._world = self.load_world(Path(self.library_path))
            self._names.update({_canonical(name): name for name in self._world.panels})
            self._manager = VISARMSession(next(self._numbers))
            return self._manager, self.handle_return_value(self._manager, StatusCode.success)

    def list_resources(self, session: VISARMSession, query: str = "?*::INSTR") -> tuple[str, ...]:
        """Return the bench's resource names that match a VISA expression."""
        return rname.filter(self._names, query)

    def open(
        self,
        session: VISARMSession,
        resource_name: str,
        access_mode: constants.AccessModes = constants.AccessModes.no_lock,
        open_timeout: int = constants.VI_TMO_IMMEDIATE,
    ) -> tuple[VISASession, StatusCode]:
        """Open a session; VI_ERROR_RSRC_NFOUND if the bench has no such resource."""
        world = self._opened_world()
        try:
            parsed = rname.parse_resource_name(resource_name)
        except rname.InvalidResourceName:
            return self._refuse_open(StatusCode.error_invalid_resource_name)
        with self._guard:
            wanted = canonical(str(parsed))
            found = [name for name in self._names if canonical(name) == wanted]
            if not found:
                return self._refuse_open(StatusCode.error_resource_not_found)
            lock = self._locks[found[0]]
            number = VISASession(next(self._numbers))
            if access_mode != constants.AccessModes.no_lock and not _take(lock, number, ""):
                return self._refuse_open(StatusCode.error_resource_locked)
            panel = world.panels[self._names[found[0]]]
            if not plugged_in(panel):
                return self._refuse_open(StatusCode.error_resource_not_found)
            self._sessions[number] = Session(panel, world.clock, parsed, lock)
            return number, self.handle_return_value(number, StatusCode.success)

    def close(self, session: VISASession | VISAEventContext | VISARMSession) -> StatusCode:
        """Close a session, or with the manager's all of them and the world."""
        with self._guard:
            if session == self._manager:
                self._world = None
                self._forget()
                return StatusCode.success
            if session in self._contexts:
                self._contexts.discard(session)
                return StatusCode.success
            closed = self._sessions.pop(session, None)
            if closed is None:
                return self.handle_return_value(None, StatusCode.error_invalid_object)
            closed.lock.holders.pop(session, None)
            if all(other.lock is not closed.lock for other in self._sessions.values()):
                closed.hang_up()
            self._last_status_in_session.pop(session, None)
            return StatusCode.success

    def write(self, session: VISASession, data: bytes) -> tuple[int, StatusCode]:
        """Write bytes; returns how many were taken."""
        with self._guard:
            try:
                written, status = self._usable(session).write(data)
            except ConnectionLostError:
                return 0, self.handle_return_value(session, StatusCode.error_connection_lost)
            if self._is_watched:
                self._look()
        self._last_status = self._last_status_in_session[session] = status
        return written, status

    def read(self, session: VISASession, count: int) -> tuple[bytes, StatusCode]:
        """Read up to `count` bytes; VI_ERROR_TMO at once if none come, however long they take."""
        with self._guard:
            try:
                data, status = self._usable(session).read(count)
            except ConnectionLostError:
                return b"", self.handle_return_value(session, StatusCode.error_connection_lost)
            if self._is_watched:
                self._look()
        if status is StatusCode.success or status is StatusCode.success_termination_character_read:
            self._last_status = self._last_status_in_session[session] = status
            return data, status
        return data, self.handle_return_value(session, status)

    def buffer_write(self, session: VISASession, data: bytes) -> tuple[int, StatusCode]:
        """Write bytes, which no buffer holds back."""
        return self.write(session, data)

    def buffer_read(self, session: VISASession, num_bytes: int) -> tuple[bytes, StatusCode]:
        """Read up to a number of bytes, as `read`."""
        return self.read(session, num_bytes)

    def write_from_file(
        self, session: VISASession, filename: str, count: int
    ) -> tuple[int, StatusCode]:
        """Write the first `count` bytes of a file; VI_ERROR_FILE_ACCESS if it cannot be read."""
        try:
            with Path(filename).open("rb") as file:
                data = file.read(count)
        except OSError:
            return 0, self.handle_return_value(session, StatusCode.error_file_access)
        return self.write(session, data)

    def read_to_file(
        self, session: VISASession, filename: str, count: int
    ) -> tuple[int, StatusCode]:
        """Read up to `count` bytes into a file; VI_ERROR_FILE_ACCESS if it cannot be written."""
        data, status = self.read(session, count)
        try:
            Path(filename).write_bytes(data)
        except OSError:
            return 0, self.handle_return_value(session, StatusCode.error_file_access)
        return len(data), status

    def set_buffer(self, session: VISASession, mask: constants.BufferType, size: int) -> StatusCode:
        """Accept a buffer size, which means nothing here."""
        self._session(session)
        return self.handle_return_value(session, StatusCode.success)

    def status_description(
        self,
        session: VISASession | VISAEventContext | VISARMSession,
        status: StatusCode,
    ) -> tuple[str, StatusCode]:
        """Return a status code in words."""
        unknown = ("", "unknown status code")
        text = errors.completion_and_error_messages.get(status, unknown)
        return ": ".join(filter(None, text)), StatusCode.success

    def clear(self, session: VISASession) -> StatusCode:
        """Clear the device; on a stream, what was received."""
        with self._guard:
            try:
                status = self._usable(session).clear()
            except ConnectionLostError:
                status = StatusCode.error_connection_lost
            return self.handle_return_value(session, status)

    def flush(self, session: VISASession, mask: constants.BufferOperation) -> StatusCode:
        """Discard buffers."""
        with self._guard:
            try:
                status = self._usable(session).flush(mask)
            except ConnectionLostError:
                status = StatusCode.error_connection_lost
            return self.handle_return_value(session, status)

    def read_stb(self, session: VISASession) -> tuple[int, StatusCode]:
        """Serial poll."""
        with self._guard:
            value, status = self._usable(session).status_byte()
        return value, self.handle_return_value(session, status)

    def assert_trigger(
        self, session: VISASession, protocol: constants.TriggerProtocol
    ) -> StatusCode:
        """Trigger the device."""
        with self._guard:
            status = self._usable(session).trigger()
            self._look()
        return self.handle_return_value(session, status)

    def gpib_control_ren(
        self, session: VISASession, mode: constants.RENLineOperation
    ) -> StatusCode:
        """Accept remote/local control, which a simulated front panel has no keys for."""
        return self.handle_return_value(session, StatusCode.success)

    def lock(
        self,
        session: VISASession,
        lock_type: constants.Lock,
        timeout: int,
        requested_key: str | None = None,
    ) -> tuple[str, StatusCode]:
        """Lock a resource, alone or shared by key; VI_ERROR_RSRC_LOCKED at once if it is taken."""
        with self._guard:
            lock = self._session(session).lock
            exclusive = lock_type == constants.Lock.exclusive
            key = "" if exclusive else requested_key or f"labctl-{session}"
            taken = _take(lock, session, key)
        status = StatusCode.success if taken else StatusCode.error_resource_locked
        return key, self.handle_return_value(session, status)

    def unlock(self, session: VISASession) -> StatusCode:
        """Give up a lock once; locks nest."""
        with self._guard:
            holders = self._session(session).lock.holders
            if session not in holders:
                return self.handle_return_value(session, StatusCode.error_session_not_locked)
            holders[session] -= 1
            if not holders[session]:
                del holders[session]
            return self.handle_return_value(session, StatusCode.success)

    def get_attribute(
        self,
        session: VISASession | VISAEventContext | VISARMSession,
        attribute: constants.ResourceAttribute | constants.EventAttribute,
    ) -> tuple[Any, StatusCode]:
        """Return an attribute's state."""
        with self._guard:
            if session in self._contexts:
                return self._event_attribute(attribute)
            if session == self._manager and self._world is not None:
                return self._manager_attribute(attribute)
            opened = self._session(session)
            if attribute == constants.ResourceAttribute.resource_manager_session:
                return self._manager, StatusCode.success
            if attribute == constants.ResourceAttribute.resource_lock_state:
                locked = opened.lock.holders and (
                    constants.AccessModes.shared_lock
                    if opened.lock.key
                    else constants.AccessModes.exclusive_lock
                )
                return locked or constants.AccessModes.no_lock, StatusCode.success
            state, status = opened.get_attribute(attribute)
        return state, self.handle_return_value(session, status)

    def set_attribute(
        self,
        session: VISASession,
        attribute: constants.ResourceAttribute,
        attribute_state: Any,
    ) -> StatusCode:
        """Set an attribute's state."""
        with self._guard:
            status = self._session(session).set_attribute(attribute, attribute_state)
        return self.handle_return_value(session, status)

    def _manager_attribute(self, attribute: int) -> tuple[Any, StatusCode]:
        states = {
            constants.ResourceAttribute.resource_manufacturer_name: MANUFACTURER,
            constants.ResourceAttribute.resource_spec_version: SPECIFICATION,
        }
        if attribute not in states:
            return None, self.handle_return_value(None, StatusCode.error_nonsupported_attribute)
        return states[constants.ResourceAttribute(attribute)], StatusCode.success

    def _forget(self) -> None:
        self._manager = VISARMSession(0)
        self._names: dict[str, str] = {}
        self._sessions: dict[int, Session] = {}
        self._contexts: set[int] = set()
        self._is_watched = False
        self._locks: defaultdict[str, SharedLock] = defaultdict(SharedLock)

    @property
    def _bench_clock(self) -> Clock | None:
        return None if self._world is None else self._world.clock

    def _opened_world(self) -> World:
        if self._world is None:
            raise errors.InvalidSession
        return self._world

    def _refuse_open(self, status: StatusCode) -> tuple[VISASession, StatusCode]:
        return VISASession(0), self.handle_return_value(None, status)

    def _usable(self, session: VISASession) -> Session:
        """Return a session that no other session locks out."""
        opened = self._session(session)
        holders = opened.lock.holders
        if holders and session not in holders:
            self.handle_return_value(session, StatusCode.error_resource_locked)
        return opened


def _take(lock: SharedLock, session: int, key: str) -> bool:
    """Take a lock, or join one by its key; False if others hold it."""
    if lock.holders and session not in lock.holders and not (key and key == lock.key):
        return False
    if not lock.holders:
        lock.key = key
    lock.holders[session] = lock.holders.get(session, 0) + 1
    return True


def _canonical(name: str) -> str:
    try:
        return rname.to_canonical_name(name)
    except rname.InvalidResourceName as error:
        raise StationFileError(f"{name!r} is not a VISA resource name: {error}") from error
