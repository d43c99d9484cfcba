"""Service requests as VISA events: queued to be waited for, or passed on to handlers.

Source: VPP-4.3 (IVI Foundation), section 3.7, event model: mechanisms VI_QUEUE, VI_HNDLR and
VI_SUSPEND_HNDLR.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pyvisa.constants import EventMechanism, StatusCode
from pyvisa.typing import VISAHandler

MOST_EVENTS = 50
"""VI_ATTR_MAX_QUEUE_LENGTH as the standard sets it at first: what is beyond is lost."""

_CALLED = EventMechanism.handler | EventMechanism.suspend_handler
_MECHANISMS = EventMechanism.queue | _CALLED


class Installed(NamedTuple):
    """A handler and what it was installed with; distinguished by identity of the handle."""

    handler: VISAHandler
    user_handle: object


class ServiceRequests:
    """The service-request events of one session; `requests` returns whether service is requested.

    An event is that the instrument begins to request service; at enabling, that it does already.
    """

    def __init__(self, requests: Callable[[], bool]) -> None:
        self._requests = requests
        self._requested = False
        self._enabled = 0
        self._queued = self._due = 0
        self.handlers: list[Installed] = []

    @property
    def is_watched(self) -> bool:
        """Whether any mechanism is enabled."""
        return bool(self._enabled)

    @property
    def is_queued(self) -> bool:
        """Whether the queue mechanism is enabled."""
        return bool(self._enabled & EventMechanism.queue)

    @property
    def calls_handlers(self) -> bool:
        """Whether handlers must be called."""
        return bool(self._enabled & EventMechanism.handler)

    def enable(self, mechanism: int) -> StatusCode:
        """Enable mechanisms; handlers and suspended handlers exclude each other."""
        called = mechanism & _CALLED
        if not mechanism or mechanism & ~_MECHANISMS or called == _CALLED:
            return StatusCode.error_invalid_mechanism
        if mechanism & EventMechanism.handler and not self.handlers:
            return StatusCode.error_handler_not_installed
        if self._enabled & mechanism == mechanism:
            return StatusCode.success_event_already_enabled
        if not self._enabled:
            self._requested = False
        if called:
            self._enabled &= ~_CALLED
        self._enabled |= mechanism
        return StatusCode.success

    def disable(self, mechanism: int) -> StatusCode:
        """Disable mechanisms; events that wait in the queue stay."""
        if not self._enabled & mechanism:
            return StatusCode.success_event_already_disabled
        self._enabled &= ~mechanism
        return StatusCode.success

    def discard(self, mechanism: int) -> StatusCode:
        """Forget events that wait."""
        self.look()
        before = (self._queued, self._due)
        if mechanism & EventMechanism.queue:
            self._queued = 0
        if mechanism & EventMechanism.suspend_handler:
            self._due = 0
        changed = before != (self._queued, self._due)
        return StatusCode.success if changed else StatusCode.success_queue_already_empty

    def look(self) -> None:
        """Note an event if the instrument has begun to request service since the last look."""
        if not self._enabled:
            return
        requests = self._requests()
        begun, self._requested = requests and not self._requested, requests
        if begun and self._enabled & EventMechanism.queue:
            self._queued = min(self._queued + 1, MOST_EVENTS)
        if begun and self._enabled & _CALLED:
            self._due = min(self._due + 1, MOST_EVENTS)

    def take_queued(self) -> bool:
        """Take an event off the queue; False if there is none."""
        self.look()
        if not self._queued:
            return False
        self._queued -= 1
        return True

    def take_due(self) -> tuple[Installed, ...]:
        """Return the handlers that one event must be passed to now, the newest first."""
        self.look()
        if not (self._due and self.calls_handlers):
            return ()
        self._due -= 1
        return tuple(reversed(self.handlers))

    def uninstall(self, handler: VISAHandler, user_handle: object) -> bool:
        """Forget a handler; False if it was not installed. The last one disables calling."""
        for installed in self.handlers:
            if installed.handler == handler and installed.user_handle is user_handle:
                self.handlers.remove(installed)
                if not self.handlers:
                    self._enabled &= ~EventMechanism.handler
                return True
        return False
