"""One VISA session on a front panel: where reads end, what time costs, which attributes count.

Source: VPP-4.3 (IVI Foundation): viRead rules 6.1.1 to 6.1.3, attribute tables of the INSTR and
SOCKET resources; defaults as PyVISA documents them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from pyvisa import attributes, constants, rname
from pyvisa.constants import BufferOperation, InterfaceType, ResourceAttribute, StatusCode

from labctl.clock import Clock
from labctl.instruments.simulated.panel import (
    EVERYTHING,
    ConnectionLostError,
    FrontPanel,
    serial_poll,
)
from labctl.instruments.simulated.visa_events import ServiceRequests

# Bench time that a message takes on its way: assumed, as in a local network.
MESSAGE_TIME_S = 0.2e-3
# A time-out is waited for in this many steps of bench time, so that a late reply is seen.
WAIT_STEPS = 32
# Bit 6 of the status byte (IEEE 488.2, section 11.2).
_REQUEST_SERVICE = 64
# Without a time-out: 100 s of bench time, after which nothing comes any more.
ENDLESS_STEP_S, ENDLESS_STEPS = 10e-3, 10_000
_UNSIGNED_BITS = {"ViBoolean": 1, "ViUInt8": 8, "ViUInt16": 16, "ViUInt32": 32}
_READ_BUFFERS = (
    BufferOperation.discard_read_buffer
    | BufferOperation.discard_read_buffer_no_io
    | BufferOperation.discard_receive_buffer
    | BufferOperation.discard_receive_buffer2
)

MANUFACTURER = "labctl simulated bench"
SPECIFICATION = 0x00500800
"""VPP-4.3 version 5.8, as VI_ATTR_RSRC_SPEC_VERSION has it: major in bits 31 to 20, minor below."""

# 1.0, major in bits 31 to 20.
_VERSION = 0x00100000
_COMMON_ATTRIBUTES: dict[int, Any] = {
    ResourceAttribute.resource_manufacturer_id: 0xFFF,
    ResourceAttribute.resource_impl_version: _VERSION,
    ResourceAttribute.dma_allow_enabled: False,
    ResourceAttribute.read_buffer_size: 4096,
    ResourceAttribute.write_buffer_size: 4096,
    ResourceAttribute.gpib_ren_state: constants.LineState.asserted,
    ResourceAttribute.is_4882_compliant: True,
    ResourceAttribute.manufacturer_name: "labctl",
    ResourceAttribute.model_name: "simulated instrument",
    ResourceAttribute.usb_max_interrupt_size: 2,
    ResourceAttribute.usb_protocol: 1,
    ResourceAttribute.tcpip_hislip_version: 0x01000000,
    ResourceAttribute.tcpip_hislip_overlap_enable: False,
    ResourceAttribute.asrl_connected: True,
    ResourceAttribute.asrl_cts_state: constants.LineState.asserted,
    ResourceAttribute.asrl_dcd_state: constants.LineState.asserted,
    ResourceAttribute.asrl_dsr_state: constants.LineState.asserted,
    ResourceAttribute.asrl_dtr_state: constants.LineState.asserted,
    ResourceAttribute.asrl_ri_state: constants.LineState.unasserted,
    ResourceAttribute.asrl_rts_state: constants.LineState.asserted,
}
"""What neither panel nor address defines: the host's side, and a plain USBTMC interface."""

Read = tuple[bytes, StatusCode]


@runtime_checkable
class TimeoutWitness(Protocol):
    """A panel that wants to know when a host waited in vain (IEEE 488.2 query errors)."""

    def read_timed_out(self) -> None:
        """Take note that the host's read found nothing."""
        ...


class SharedLock:
    """Who holds a resource: one session alone (key ""), or several that know the key."""

    def __init__(self) -> None:
        self.holders: dict[int, int] = {}
        self.key = ""


class Session:
    """A session on one panel; reads never take wall time, only time on the bench's clock.

    Serial and SOCKET sessions are streams: END does not exist, a read ends at the termination
    character if that is enabled, or when its count is reached. Others carry messages that end
    with END. A SOCKET whose VI_ATTR_SUPPRESS_END_EN is switched off (it is on at first) also
    ends a read when nothing more waits. What a read finds missing costs bench time, up to
    VI_ATTR_TMO_VALUE; an infinite time-out gives up after 100 s of bench time, for nobody else
    acts meanwhile.
    """

    def __init__(
        self, panel: FrontPanel, clock: Clock, name: rname.ResourceName, lock: SharedLock
    ) -> None:
        self._panel, self._clock = panel, clock
        self.resource_type = (name.interface_type_const, name.resource_class)
        self.lock = lock
        self._serial = self.resource_type[0] is InterfaceType.asrl
        self.is_stream = self._serial or self.resource_type[1] == "SOCKET"
        self._pending = b""
        self._pending_ends = False
        self.events = ServiceRequests(lambda: bool(panel.status_byte() & _REQUEST_SERVICE))
        self._attributes = _initial_attributes(name, self.resource_type)
        self._derive()

    def write(self, data: bytes) -> tuple[int, StatusCode]:
        """Hand bytes to the panel."""
        self._clock.sleep(MESSAGE_TIME_S)
        if self._sends_end:
            self._pending = b""
        if self._closing:
            data = data + self._closing
        self._panel.write(data, end=self._sends_end)
        return len(data), StatusCode.success

    def read(self, count: int) -> Read:
        """Return up to `count` bytes and why the read ended."""
        if self._pending:
            data, ends = self._pending, self._pending_ends
            self._pending = b""
        else:
            data, ends = self._panel.read(count)
            if ends:
                self._clock.sleep(MESSAGE_TIME_S)
                if self._heeds_end and (self._stop is None or self._stop not in data[:-1]):
                    return data, StatusCode.success
        searched = 0
        while not (done := self._complete(data, ends, searched, count)):
            searched = len(data)
            if data and self._ends_at_pause:
                more, ends = self._panel.read(count - len(data))
                if not more:
                    return data, StatusCode.success
            else:
                more, ends = self._receive(count - len(data))
                if not more:
                    return b"", StatusCode.error_timeout
            data += more
        return done

    def clear(self) -> StatusCode:
        """Device clear; on a stream, which has none, only what was received is dropped."""
        if self.is_stream:
            self._drop_received()
        else:
            self._pending = b""
            self._panel.clear()
        return StatusCode.success

    def flush(self, mask: int) -> StatusCode:
        """Discard what was received, if the mask asks for it; nothing waits to be sent."""
        if mask & _READ_BUFFERS:
            self._drop_received()
        return StatusCode.success

    def status_byte(self) -> tuple[int, StatusCode]:
        """Serial poll, which ends the request for service; streams have none."""
        if self.is_stream:
            return 0, StatusCode.error_nonsupported_operation
        self.events.look()
        return serial_poll(self._panel), StatusCode.success

    def trigger(self) -> StatusCode:
        """Trigger message, which is *TRG to IEEE 488.2 instruments; streams have none."""
        if self.is_stream:
            return StatusCode.error_nonsupported_operation
        self._panel.write(b"*TRG\n", end=True)
        return StatusCode.success

    def hang_up(self) -> None:
        """The last session on a stream is gone, and all that was under way with it."""
        if self.is_stream:
            with suppress(ConnectionLostError):  # gone before it was closed
                self._panel.clear()

    def get_attribute(self, attribute: int) -> tuple[Any, StatusCode]:
        """Return an attribute's state."""
        if attribute == ResourceAttribute.asrl_avalaible_number and self._serial:
            self._receive_all()
            return len(self._pending), StatusCode.success
        if attribute not in self._attributes:
            return None, StatusCode.error_nonsupported_attribute
        return self._attributes[attribute], StatusCode.success

    def set_attribute(self, attribute: int, state: Any) -> StatusCode:
        """Set an attribute; refuses unknown and read-only ones, and impossible states."""
        known = attributes.AttributesByID.get(attribute)
        if known is None or not known.in_resource(self.resource_type):
            return StatusCode.error_nonsupported_attribute
        if not known.write:
            return StatusCode.error_attribute_read_only
        if not _is_valid(known, state):
            return StatusCode.error_nonsupported_attribute_state
        self._attributes[attribute] = state
        self._derive()
        return StatusCode.success

    def _derive(self) -> None:
        """Work out from the attributes what every read and write needs."""
        get = self._attributes.get
        character = bytes([get(ResourceAttribute.termchar, 10)])
        stops = bool(get(ResourceAttribute.termchar_enabled, False))
        self._closing = b""
        if self._serial:
            by_character = constants.SerialTermination.termination_char
            stops = stops or get(ResourceAttribute.asrl_end_in) == by_character
            if get(ResourceAttribute.asrl_end_out) == by_character:
                self._closing = character
        self._stop = character if stops else None
        self._sends_end = not self.is_stream and bool(get(ResourceAttribute.send_end_enabled, True))
        suppressed = bool(get(ResourceAttribute.suppress_end_enabled, False))
        self._heeds_end = not self.is_stream and not suppressed
        self._ends_at_pause = self.is_stream and not self._serial and not suppressed
        self._timeout_ms = int(get(ResourceAttribute.timeout_value, 2000))

    def _complete(self, data: bytes, ends: bool, searched: int, count: int) -> Read | None:
        """Return the finished read and keep what is beyond it; None if more has to come."""
        at = data.find(self._stop, searched, count) if self._stop is not None else -1
        stop = at + 1 if at >= 0 else min(len(data), count)
        last = stop == len(data)
        if ends and last and self._heeds_end and data:
            return data, StatusCode.success
        if at < 0 and len(data) < count:
            return None
        if not last:
            self._pending, self._pending_ends = data[stop:], ends
            data = data[:stop]
        if at >= 0:
            return data, StatusCode.success_termination_character_read
        return data, StatusCode.success_max_count_read

    def wait_for_service_request(self, timeout_ms: int) -> bool:
        """Wait on the bench's clock for a queued service request; False if none came in time."""
        if self.events.take_queued():
            return True
        for step_s in self._steps_of(timeout_ms):
            self._clock.sleep(step_s)
            if self.events.take_queued():
                return True
        return False

    def _receive(self, count: int) -> tuple[bytes, bool]:
        """Wait on the bench's clock for bytes; returns none after the time-out."""
        data, ends = self._panel.read(count)
        for step_s in () if data else self._waiting_steps():
            self._clock.sleep(step_s)
            data, ends = self._panel.read(count)
            if data:
                break
        if ends:
            self._clock.sleep(MESSAGE_TIME_S)
        if not data and not self.is_stream and isinstance(self._panel, TimeoutWitness):
            self._panel.read_timed_out()
        return data, ends

    def _waiting_steps(self) -> list[float]:
        return self._steps_of(self._timeout_ms)

    @staticmethod
    def _steps_of(timeout_ms: int) -> list[float]:
        if timeout_ms == constants.VI_TMO_INFINITE:
            return [ENDLESS_STEP_S] * ENDLESS_STEPS
        return [timeout_ms / 1e3 / WAIT_STEPS] * WAIT_STEPS if timeout_ms else []

    def _receive_all(self) -> None:
        while True:
            data, ends = self._panel.read(EVERYTHING)
            if not data:
                return
            self._pending += data
            self._pending_ends = ends

    def _drop_received(self) -> None:
        self._receive_all()
        self._pending = b""


def _is_valid(known: type[attributes.Attribute[Any]], state: Any) -> bool:
    """Return whether a state fits the attribute's VISA type, and its enumeration if it has one."""
    if not isinstance(state, int):
        return False
    if issubclass(known, attributes.EnumAttribute):
        return state in {int(member) for member in known.enum_type}
    bits = _UNSIGNED_BITS.get(known.visa_type)
    return bits is None or 0 <= state < 1 << bits


def _initial_attributes(
    name: rname.ResourceName, resource_type: tuple[InterfaceType, str]
) -> dict[int, Any]:
    per_resource = attributes.AttributesPerResource
    known = per_resource[resource_type] | per_resource[attributes.AllSessionTypes]
    values: dict[int, Any] = {
        attribute.attribute_id: attribute.default
        for attribute in known
        if not (attribute.default == "N/A" or attribute.default is attributes.NotAvailable)
    }
    values |= {
        ResourceAttribute.resource_name: str(name),
        ResourceAttribute.resource_class: resource_type[1],
        ResourceAttribute.interface_type: resource_type[0],
        ResourceAttribute.resource_manufacturer_name: MANUFACTURER,
        ResourceAttribute.resource_spec_version: SPECIFICATION,
        ResourceAttribute.send_end_enabled: True,
        ResourceAttribute.suppress_end_enabled: resource_type[1] == "SOCKET",
    }
    values |= _address_attributes(name)
    mine = {attribute.attribute_id for attribute in known}
    return values | {key: value for key, value in _COMMON_ATTRIBUTES.items() if key in mine}


def _address_attributes(name: rname.ResourceName) -> dict[int, Any]:
    values: dict[int, Any] = {}
    board = getattr(name, "board", "0")
    number = int(board) if board.isdecimal() else 0
    values[ResourceAttribute.interface_number] = number
    values[ResourceAttribute.interface_instrument_name] = f"{name.interface_type}{number}"
    if isinstance(name, rname.TCPIPInstr | rname.TCPIPSocket):
        values[ResourceAttribute.tcpip_address] = name.host_address
        values[ResourceAttribute.tcpip_hostname] = name.host_address
    if isinstance(name, rname.TCPIPSocket):
        values[ResourceAttribute.tcpip_port] = int(name.port)
    if isinstance(name, rname.TCPIPInstr):
        values[ResourceAttribute.tcpip_device_name] = name.lan_device_name
        is_hislip = name.lan_device_name.casefold().startswith("hislip")
        values[ResourceAttribute.tcpip_is_hislip] = is_hislip
    if isinstance(name, rname.GPIBInstr):
        values[ResourceAttribute.gpib_primary_address] = int(name.primary_address)
        secondary = name.secondary_address
        values[ResourceAttribute.gpib_secondary_address] = (
            int(secondary) if secondary else constants.VI_NO_SEC_ADDR
        )
    if isinstance(name, rname.USBInstr):
        values[ResourceAttribute.usb_serial_number] = name.serial_number
        values[ResourceAttribute.manufacturer_id] = int(name.manufacturer_id, 0)
        values[ResourceAttribute.model_code] = int(name.model_code, 0)
    return values
