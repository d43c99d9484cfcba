"""Wires with a device clear, and a library that owns its clock: over an in-process VISA library."""

from __future__ import annotations

from typing import Any

import pytest
import pyvisa
from pyvisa.constants import StatusCode
from pyvisa.highlevel import VisaLibraryBase

from labctl.errors import ConnectionFailedError, InstrumentTimeoutError
from labctl.instruments.transports import visa_link
from labctl.instruments.transports.visa_transport import open_visa
from labctl.testing.scripts import ScriptedClock

USB = "USB0::0x1313::0x8078::P0000001::INSTR"


class OneInstrument(VisaLibraryBase):
    """A library with one instrument: `LATE?` leaves its reply in the output queue, unread."""

    output: list[bytes]
    clears: int
    clear_fails: bool
    clock: ScriptedClock

    def _init(self) -> None:
        self.output, self.clears, self.clear_fails = [], 0, False
        self.clock = ScriptedClock()
        self.sessions_opened = 0

    def open_default_resource_manager(self) -> tuple[Any, StatusCode]:
        return 1, StatusCode.success

    def open(self, session: Any, resource_name: str, *_: Any, **__: Any) -> tuple[Any, StatusCode]:
        self.sessions_opened += 1
        return 1 + self.sessions_opened, StatusCode.success

    def close(self, session: Any) -> StatusCode:
        return StatusCode.success

    def disable_event(self, *_: Any) -> StatusCode:
        return StatusCode.success

    def discard_events(self, *_: Any) -> StatusCode:
        return StatusCode.success

    def set_attribute(self, session: Any, attribute: Any, state: Any) -> StatusCode:
        return StatusCode.success

    def write(self, session: Any, data: bytes) -> tuple[int, StatusCode]:
        self.output.append(data.strip().lower())
        return len(data), StatusCode.success

    def read(self, session: Any, count: int) -> tuple[bytes, StatusCode]:
        if not self.output or self.output[0] == b"late?":
            raise pyvisa.errors.VisaIOError(StatusCode.error_timeout)
        return self.output.pop(0), StatusCode.success

    def clear(self, session: Any) -> StatusCode:
        self.clears += 1
        if self.clear_fails:
            self.clear_fails = False
            raise pyvisa.errors.VisaIOError(StatusCode.error_connection_lost)
        self.output.clear()
        return StatusCode.success


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> OneInstrument:
    instrument = OneInstrument("one-instrument")
    instrument._init()
    manager = pyvisa.ResourceManager(instrument)
    monkeypatch.setattr(visa_link, "_managers", {"one": manager})
    return instrument


def test_the_clock_is_the_library_s_own_if_it_has_one(library: OneInstrument) -> None:
    assert open_visa("meter", USB, library="one", timeout_s=1).clock is library.clock


def test_a_device_clear_discards_the_reply_that_came_too_late(library: OneInstrument) -> None:
    meter = open_visa("meter", USB, library="one", timeout_s=1)
    with pytest.raises(InstrumentTimeoutError):
        meter.query("LATE?")
    assert meter.query("FRESH?") == "fresh?"
    assert library.clears == 1


def test_a_session_whose_clear_fails_is_opened_anew(library: OneInstrument) -> None:
    meter = open_visa("meter", USB, library="one", timeout_s=1)
    library.clear_fails = True
    with pytest.raises(InstrumentTimeoutError):
        meter.query("LATE?")
    assert meter.query("FRESH?") == "fresh?"
    assert (library.clears, library.sessions_opened) == (2, 2)


def test_an_address_without_messages_is_refused(library: OneInstrument) -> None:
    with pytest.raises(ConnectionFailedError, match="carries no messages"):
        open_visa("meter", "PXI0::1::INSTR", library="one", timeout_s=1)
