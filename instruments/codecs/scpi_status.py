"""SCPI status reporting: error queue, standard event register and status byte.

Source: IEEE 488.2-1992 chapter 11, SCPI-99 volume 2, 21.8.
"""

from __future__ import annotations

from collections import deque

ERROR_TEXTS = {
    0: "No error",
    -101: "Invalid character",
    -102: "Syntax error",
    -103: "Invalid separator",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -113: "Undefined header",
    -114: "Header suffix out of range",
    -131: "Invalid suffix",
    -150: "String data error",
    -151: "Invalid string data",
    -161: "Invalid block data",
    -211: "Trigger ignored",
    -213: "Init ignored",
    -221: "Settings conflict",
    -222: "Data out of range",
    -224: "Illegal parameter value",
    -225: "Out of memory",
    -230: "Data corrupt or stale",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
    -410: "Query INTERRUPTED",
    -420: "Query UNTERMINATED",
    -430: "Query DEADLOCKED",
}

# Bits of the standard event register (IEEE 488.2-1992, 11.5.1.1).
OPERATION_COMPLETE, QUERY_ERROR, DEVICE_ERROR, EXECUTION_ERROR, COMMAND_ERROR = 1, 4, 8, 16, 32
POWER_ON = 128

# Bits of the status byte: 2 as in SCPI-99 volume 2, the rest as in IEEE 488.2-1992, 11.2.1.
ERRORS_WAIT, MESSAGE_WAITS, EVENT_SUMMARY, MASTER_SUMMARY = 4, 16, 32, 64
REQUEST_SERVICE = MASTER_SUMMARY


class ScpiError(Exception):
    """An error that the instrument puts in its queue; never leaves the instrument's core."""

    def __init__(self, code: int, detail: str = "") -> None:
        text = ERROR_TEXTS.get(code, "")
        self.code = code
        self.text = "; ".join(part for part in (text, detail) if part).replace('"', "'")
        super().__init__(f"{code}, {self.text}")


def event_bit(code: int) -> int:
    """Return the bit of the standard event register that an error code sets.

    >>> event_bit(-113), event_bit(-222)
    (32, 16)
    """
    classes = {1: COMMAND_ERROR, 2: EXECUTION_ERROR, 3: DEVICE_ERROR, 4: QUERY_ERROR}
    return classes.get(-code // 100, DEVICE_ERROR)


class Status:
    """Error queue of `depth` entries, registers and their enable masks."""

    def __init__(self, depth: int, style: str) -> None:
        self._errors: deque[tuple[int, str]] = deque()
        self._depth = depth
        self._style = style
        self.power_on()

    def power_on(self) -> None:
        """Be as after switching on: nothing queued, nothing enabled, the power-on event set."""
        self._errors.clear()
        self.event = POWER_ON
        self.event_enable = 0
        self.service_enable = 0
        self._reasons = 0
        self._requests_service = False

    def fault(self, fault: ScpiError) -> None:
        """Queue an error; in a full queue -350 takes the place of the newest entry."""
        self.event |= event_bit(fault.code)
        if len(self._errors) < self._depth:
            self._errors.append((fault.code, fault.text))
        else:
            self._errors[-1] = (-350, ERROR_TEXTS[-350])

    def next_error(self) -> str:
        """Take the oldest error off the queue, in the instrument's reply style."""
        code, text = self._errors.popleft() if self._errors else (0, ERROR_TEXTS[0])
        return self._style.format(code=code, text=text)

    def take_event(self) -> int:
        """Read and clear the standard event register."""
        event, self.event = self.event, 0
        return event

    def clear(self) -> None:
        """Empty the queue and the event register (*CLS)."""
        self._errors.clear()
        self.event = 0

    def byte(self, message_waits: bool) -> int:
        """Return the status byte as *STB? replies it: bit 6 is the master summary."""
        value = self._summaries(message_waits)
        return value | MASTER_SUMMARY if value & self.service_enable else value

    def polled_byte(self, message_waits: bool) -> int:
        """Return the status byte as a serial poll reads it: bit 6 is the request for service."""
        self.note_reasons(message_waits)
        value = self._summaries(message_waits)
        return value | REQUEST_SERVICE if self._requests_service else value

    def note_reasons(self, message_waits: bool) -> None:
        """Request service if an enabled summary bit has risen; withdraw that if none is left."""
        reasons = self._summaries(message_waits) & self.service_enable
        if reasons & ~self._reasons:
            self._requests_service = True
        elif not reasons:
            self._requests_service = False
        self._reasons = reasons

    def end_request(self) -> None:
        """A serial poll has read the request: only a new reason makes another."""
        self._requests_service = False

    def _summaries(self, message_waits: bool) -> int:
        value = ERRORS_WAIT if self._errors else 0
        value |= MESSAGE_WAITS if message_waits else 0
        return value | EVENT_SUMMARY if self.event & self.event_enable else value
