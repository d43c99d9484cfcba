"""PyVISA over a simulated bench in this process: `pyvisa.ResourceManager("bench.toml@labctl")`.

A world (bench and clock) is loaded when a ResourceManager is made and ends when it is closed.
PyVISA hands out one and the same ResourceManager for one path as long as it is open; two paths,
or two spellings of one path, are two worlds. `@labctl` without a path is the bench that is
shipped.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from pyvisa import constants, errors, highlevel, rname
from pyvisa.constants import StatusCode
from pyvisa.typing import VISAEventContext, VISARMSession, VISASession
from pyvisa.util import DebugInfo, LibraryPath

import labctl
from labctl.clock import Clock
from labctl.errors import StationFileError
from labctl.instruments.simulated.panel import FrontPanel
from labctl.instruments.simulated.visa_session import Session, SharedLock


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


class LabctlVisaLibrary(highlevel.VisaLibraryBase):
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
        return load_bench(path)

    @staticmethod
    def get_library_paths() -> Iterable[LibraryPath]:
        """Return the shipped bench file, which stands for no path."""
        from labctl.data import shipped_bench_path

        return (LibraryPath(str(shipped_bench_path())),)

    @staticmethod
    def get_debug_info() -> DebugInfo:
        """Return what `pyvisa-info` shows."""
        return {"Version": labctl.__version__}

    @property
    def clock(self) -> Clock:
        """The world's clock; raises InvalidSession when no ResourceManager is open."""
        return self._opened_world().clock

    def _init(self) -> None:
        self._world: World | None = None
        self._guard = threading.RLock()
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
            wanted = str(parsed).casefold()
            found = [name for name in self._names if name.casefold() == wanted]
            if not found:
                return self._refuse_open(StatusCode.error_resource_not_found)
            lock = self._locks[found[0]]
            number = VISASession(next(self._numbers))
            if access_mode != constants.AccessModes.no_lock and not _take(lock, number, ""):
                return self._refuse_open(StatusCode.error_resource_locked)
            panel = world.panels[self._names[found[0]]]
            self._sessions[number] = Session(panel, world.clock, parsed, lock)
            return number, self.handle_return_value(number, StatusCode.success)

    def close(self, session: VISASession | VISAEventContext | VISARMSession) -> StatusCode:
        """Close a session, or with the manager's all of them and the world."""
        with self._guard:
            if session == self._manager:
                self._world = None
                self._forget()
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
            written, status = self._usable(session).write(data)
        self._last_status = self._last_status_in_session[session] = status
        return written, status

    def read(self, session: VISASession, count: int) -> tuple[bytes, StatusCode]:
        """Read up to `count` bytes; VI_ERROR_TMO at once if none come, however long they take."""
        with self._guard:
            data, status = self._usable(session).read(count)
        if status is StatusCode.success or status is StatusCode.success_termination_character_read:
            self._last_status = self._last_status_in_session[session] = status
            return data, status
        return data, self.handle_return_value(session, status)

    def clear(self, session: VISASession) -> StatusCode:
        """Clear the device; on a stream, what was received."""
        with self._guard:
            return self.handle_return_value(session, self._usable(session).clear())

    def flush(self, session: VISASession, mask: constants.BufferOperation) -> StatusCode:
        """Discard buffers."""
        with self._guard:
            return self.handle_return_value(session, self._usable(session).flush(mask))

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
            return self.handle_return_value(session, self._usable(session).trigger())

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
            opened = self._session(session)
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

    def enable_event(
        self,
        session: VISASession,
        event_type: constants.EventType,
        mechanism: constants.EventMechanism,
        context: None = None,
    ) -> StatusCode:
        """Enable service requests by the queue mechanism; others are not supported.

        Nothing happens on a bench between calls, so there is nobody to run a handler.
        """
        with self._guard:
            opened = self._session(session)
            queued = mechanism == constants.EventMechanism.queue
            if event_type != constants.EventType.service_request or not queued:
                unsupported = StatusCode.error_nonsupported_operation
                return self.handle_return_value(session, unsupported)
            opened.watch_service_requests(True)
            return self.handle_return_value(session, StatusCode.success)

    def disable_event(
        self,
        session: VISASession,
        event_type: constants.EventType,
        mechanism: constants.EventMechanism,
    ) -> StatusCode:
        """Disable service requests."""
        with self._guard:
            self._session(session).watch_service_requests(False)
        return StatusCode.success

    def discard_events(
        self,
        session: VISASession,
        event_type: constants.EventType,
        mechanism: constants.EventMechanism,
    ) -> StatusCode:
        """Forget a service request that waits."""
        with self._guard:
            self._session(session).take_service_request()
        return StatusCode.success

    def wait_on_event(
        self, session: VISASession, in_event_type: constants.EventType, timeout: int
    ) -> tuple[constants.EventType, VISAEventContext, StatusCode]:
        """Wait on the bench's clock for a service request; raises a time-out without one."""
        with self._guard:
            opened = self._session(session)
            if not opened.watches_service_requests:
                self.handle_return_value(session, StatusCode.error_not_enabled)
            if not opened.wait_for_service_request(timeout):
                self.handle_return_value(session, StatusCode.error_timeout)
        return in_event_type, VISAEventContext(0), StatusCode.success

    def _forget(self) -> None:
        self._manager = VISARMSession(0)
        self._names: dict[str, str] = {}
        self._sessions: dict[int, Session] = {}
        self._locks: defaultdict[str, SharedLock] = defaultdict(SharedLock)

    def _opened_world(self) -> World:
        if self._world is None:
            raise errors.InvalidSession
        return self._world

    def _refuse_open(self, status: StatusCode) -> tuple[VISASession, StatusCode]:
        return VISASession(0), self.handle_return_value(None, status)

    def _session(self, session: int) -> Session:
        opened = self._sessions.get(session)
        if opened is None:
            raise errors.VisaIOError(StatusCode.error_invalid_object)
        return opened

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
