"""Service requests of a PyVISA backend: enabled, waited for, and passed on to handlers."""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from pyvisa import constants, errors, highlevel
from pyvisa.constants import StatusCode
from pyvisa.typing import VISAEventContext, VISAHandler, VISASession

from labctl.clock import Clock, SystemClock
from labctl.instruments.simulated.visa_events import Installed, ServiceRequests
from labctl.instruments.simulated.visa_session import Session

# Between looks: handlers run this late at most.
_PAUSE_S = 2e-3


class EventLibrary(highlevel.VisaLibraryBase, ABC):
    """The part of a backend that has to do with events; sessions are opened elsewhere.

    `_guard` protects what there is of sessions, `_calling` is held while handlers run, and
    `_happened` is notified of all that happens on the bench.
    """

    _guard: threading.RLock
    _calling: threading.RLock
    _happened: threading.Condition
    _caller: threading.Thread | None
    _numbers: Iterator[int]
    _sessions: dict[int, Session]
    _contexts: set[int]
    _is_watched: bool

    @property
    @abstractmethod
    def _bench_clock(self) -> Clock | None:
        """The time of the bench, None when it is closed."""

    def install_handler(
        self,
        session: VISASession,
        event_type: constants.EventType,
        handler: VISAHandler,
        user_handle: Any,
    ) -> tuple[VISAHandler, Any, Any, StatusCode]:
        """Install a handler for service requests; handlers run in their own thread."""
        if not callable(handler):
            raise TypeError(f"a handler is something to call, not {handler!r}")
        with self._guard:
            events = self._events_of(session, event_type)
            events.handlers.append(Installed(handler, user_handle))
        return handler, user_handle, handler, StatusCode.success

    def uninstall_handler(
        self,
        session: VISASession,
        event_type: constants.EventType,
        handler: VISAHandler,
        user_handle: Any = None,
    ) -> StatusCode:
        """Forget a handler; waits until it has returned, if it is running."""
        with self._calling, self._guard:
            known = self._events_of(session, event_type).uninstall(handler, user_handle)
        status = StatusCode.success if known else StatusCode.error_invalid_handler_reference
        return self.handle_return_value(session, status)

    def enable_event(
        self,
        session: VISASession,
        event_type: constants.EventType,
        mechanism: constants.EventMechanism,
        context: None = None,
    ) -> StatusCode:
        """Enable service requests, the only events, on resources with END.

        While handlers are enabled, bench time follows the wall clock also between calls, so
        that a program which sleeps until a handler is called wakes up.
        """
        with self._guard:
            if event_type == constants.EventType.all_enabled:
                return self.handle_return_value(session, StatusCode.error_invalid_event)
            events = self._events_of(session, event_type)
            status = events.enable(mechanism)
            if events.calls_handlers and self._caller is None:
                self._caller = threading.Thread(target=self._call_handlers, daemon=True)
                self._caller.start()
            self._look()
        return self.handle_return_value(session, status)

    def disable_event(
        self,
        session: VISASession,
        event_type: constants.EventType,
        mechanism: constants.EventMechanism,
    ) -> StatusCode:
        """Disable service requests; waits until handlers that are running have returned."""
        with self._calling, self._guard:
            status = self._events_of(session, event_type).disable(mechanism)
            self._look()
        return self.handle_return_value(session, status)

    def discard_events(
        self,
        session: VISASession,
        event_type: constants.EventType,
        mechanism: constants.EventMechanism,
    ) -> StatusCode:
        """Forget service requests that wait."""
        with self._guard:
            status = self._events_of(session, event_type).discard(mechanism)
        return self.handle_return_value(session, status)

    def wait_on_event(
        self, session: VISASession, in_event_type: constants.EventType, timeout: int
    ) -> tuple[constants.EventType, VISAEventContext, StatusCode]:
        """Wait on the bench's clock for a service request; raises a time-out without one."""
        with self._guard:
            events = self._events_of(session, in_event_type)
            opened = self._session(session)
            if not events.is_queued:
                self.handle_return_value(session, StatusCode.error_not_enabled)
            if not opened.wait_for_service_request(timeout):
                self.handle_return_value(session, StatusCode.error_timeout)
            context = self._new_context()
        return constants.EventType.service_request, context, StatusCode.success

    def _event_attribute(self, attribute: int) -> tuple[Any, StatusCode]:
        if attribute != constants.EventAttribute.event_type:
            return None, self.handle_return_value(None, StatusCode.error_nonsupported_attribute)
        return constants.EventType.service_request, StatusCode.success

    def _events_of(self, session: int, event_type: int) -> ServiceRequests:
        """Return a session's events; raises VI_ERROR_INV_EVENT for a kind that it does not have."""
        opened = self._session(session)
        everything = event_type == constants.EventType.all_enabled
        requests = event_type == constants.EventType.service_request and not opened.is_stream
        if not (everything or requests):
            self.handle_return_value(VISASession(session), StatusCode.error_invalid_event)
        return opened.events

    def _new_context(self) -> VISAEventContext:
        context = VISAEventContext(next(self._numbers))
        self._contexts.add(context)
        return context

    def _look(self) -> None:
        """Note new service requests: something has happened on the bench."""
        watched = [opened.events for opened in self._sessions.values() if opened.events.is_watched]
        for events in watched:
            events.look()
        self._is_watched = bool(watched)
        self._happened.notify_all()

    def _call_handlers(self) -> None:
        """Pass service requests on as they come, as long as anybody wants them passed on."""
        wall = SystemClock()
        before_s = wall.now_s()
        while True:
            with self._happened:
                self._happened.wait(_PAUSE_S)
                clock, now_s = self._bench_clock, wall.now_s()
                sessions = self._sessions.items()
                calling = [s for s, opened in sessions if opened.events.calls_handlers]
                if clock is None or not calling:
                    self._caller = None
                    return
                clock.sleep(now_s - before_s)
                before_s = now_s
            for session in calling:
                self._call_handlers_of(session)

    def _call_handlers_of(self, session: int) -> None:
        with self._calling:
            with self._guard:
                opened = self._sessions.get(session)
                due = opened.events.take_due() if opened is not None else ()
                context = self._new_context() if due else VISAEventContext(0)
            for handler, user_handle in due:
                kind = constants.EventType.service_request
                if _called(handler, VISASession(session), kind, context, user_handle):
                    break
            self._contexts.discard(context)

    def _session(self, session: int) -> Session:
        opened = self._sessions.get(session)
        if opened is None:
            raise errors.VisaIOError(StatusCode.error_invalid_object)
        return opened


def _called(handler: VISAHandler, *arguments: Any) -> bool:
    """Call a handler; True if it keeps others from being called (VI_SUCCESS_NCHAIN).

    An exception has no caller to go to: it is reported, as in any thread, and others are called.
    """
    call: Callable[..., object] = handler  # PyVISA's type has it return nothing
    try:
        result = call(*arguments)
    except Exception:
        hook = threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
        threading.excepthook(hook)
        return False
    return result == StatusCode.success_no_more_handler_calls_in_chain
