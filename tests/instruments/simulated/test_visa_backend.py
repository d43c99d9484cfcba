"""The PyVISA backend, through PyVISA itself, on a stand-in bench."""

import numpy as np
import pytest
import pyvisa
from hypothesis import given, settings
from hypothesis import strategies as st
from pyvisa.constants import (
    ControlFlow,
    InterfaceType,
    Parity,
    ResourceAttribute,
    SerialTermination,
    StatusCode,
    StopBits,
)
from pyvisa.resources import MessageBasedResource, SerialInstrument
from stand_in_door import (
    GPIB,
    LAN,
    LASER,
    MESSAGES,
    SERIAL,
    SOCKET,
    STREAMS,
    USB,
    Door,
    StandIn,
    fails_with,
)

from labctl.instruments.codecs.ieee488 import encode_block
from labctl.instruments.codecs.itla import Reply, Request
from labctl.instruments.simulated.visa_session import MESSAGE_TIME_S


@pytest.mark.parametrize("name", MESSAGES + STREAMS)
def test_a_query_is_answered_on_every_kind_of_resource(door: Door, name: str) -> None:
    assert door.open(name).query("*IDN?").strip() == "LABCTL,STORE,1,2"


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_need_no_termination_at_all(door: Door, name: str) -> None:
    resource = door.open(name)
    resource.write_termination = ""
    assert resource.query("*IDN?") == "LABCTL,STORE,1,2\n"


@pytest.mark.parametrize("name", MESSAGES + STREAMS)
@pytest.mark.parametrize("chunk", [20, 20480])
def test_binary_values_pass_both_ways(door: Door, name: str, chunk: int) -> None:
    resource = door.open(name)
    resource.chunk_size = chunk
    values = np.frombuffer(bytes(range(256)), "<i2").tolist()
    resource.write_binary_values(":DATA ", values, datatype="h")
    assert resource.query_binary_values(":DATA?", datatype="h") == values
    assert resource.query("*IDN?").strip() == "LABCTL,STORE,1,2"


def test_ten_megabytes_pass(door: Door) -> None:
    resource = door.open(LAN)
    payload = np.random.default_rng(0).bytes(10_000_000)
    resource.write_raw(b":DATA " + encode_block(payload) + b"\n")
    assert door.bench.store(LAN).payload == payload
    assert resource.query_binary_values(":DATA?", "B", container=bytes) == payload


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=100), st.integers(1, 40), st.sampled_from([LAN, SOCKET]))
def test_reads_of_any_size_lose_nothing(payload: bytes, size: int, name: str) -> None:
    library = StandIn("sizes")
    manager = pyvisa.ResourceManager(library)
    resource = manager.open_resource(name)
    assert isinstance(resource, MessageBasedResource)
    resource.write_raw(b":DATA " + encode_block(payload) + b"\n:DATA?\n")
    expected = encode_block(payload) + b"\n"
    assert resource.read_bytes(len(expected), chunk_size=size) == expected
    manager.close()


def test_a_termination_character_ends_a_read_early(door: Door) -> None:
    resource = door.open(LAN)
    resource.read_termination = ","
    resource.write("*IDN?")
    assert [resource.read() for _ in range(3)] == ["LABCTL", "STORE", "1"]
    resource.read_termination = None
    assert resource.read() == "2\n"


@pytest.mark.parametrize("name", MESSAGES + STREAMS)
def test_a_missing_reply_costs_the_time_out_on_the_bench(door: Door, name: str) -> None:
    resource = door.open(name)
    resource.timeout = 3000
    before_s = door.bench.clock.now_s()
    with fails_with(StatusCode.error_timeout):
        resource.read()
    assert door.bench.clock.now_s() - before_s == pytest.approx(3.0)
    assert resource.last_status == StatusCode.error_timeout
    expected = "-420" if name in MESSAGES else "+0"
    assert resource.query("SYST:ERR?").startswith(expected)


@pytest.mark.parametrize("timeout_ms", [0, float("inf")])
def test_even_an_endless_time_out_ends(door: Door, timeout_ms: float) -> None:
    resource = door.open(LAN)
    resource.timeout = timeout_ms
    with fails_with(StatusCode.error_timeout):
        resource.read()


def test_a_late_reply_arrives_within_the_time_out(door: Door) -> None:
    resource = door.open(LAN)
    resource.timeout = 2000
    assert resource.query("WORK 1.5;*OPC?") == "1\n"
    assert 1.5 <= door.bench.clock.now_s() < 1.6
    with fails_with(StatusCode.error_timeout):
        resource.query("WORK 60;*OPC?")
    resource.clear()
    assert resource.query("SYST:ERR?") == '+0,"No error"\n'


def test_a_stream_without_termination_reads_until_the_time_out(door: Door) -> None:
    resource = door.open(SOCKET)
    resource.read_termination = None
    resource.write("*IDN?")
    with fails_with(StatusCode.error_timeout):
        resource.read()
    resource.set_visa_attribute(ResourceAttribute.suppress_end_enabled, False)
    assert resource.query("*IDN?") == "LABCTL,STORE,1,2\n"


def test_streams_queue_replies_and_messages_interrupt_them(door: Door) -> None:
    socket = door.open(SOCKET)
    socket.write("*IDN?")
    socket.write("*OPC?")
    assert [socket.read(), socket.read()] == ["LABCTL,STORE,1,2", "1"]
    lan = door.open(LAN)
    lan.write("*IDN?")
    assert lan.query("*OPC?") == "1\n"
    assert lan.query("SYST:ERR?").startswith("-410")


def test_every_message_costs_bench_time(door: Door) -> None:
    resource = door.open(LAN)
    before_s = door.bench.clock.now_s()
    for _ in range(10):
        resource.query("*IDN?")
    assert door.bench.clock.now_s() - before_s == pytest.approx(20 * MESSAGE_TIME_S)
    assert door.library.clock is door.bench.clock


def test_a_serial_laser_speaks_in_frames(door: Door) -> None:
    resource = door.open(LASER)
    resource.write_raw(Request(0x50).encode())
    assert Reply.decode(resource.read_bytes(4)) == Reply(0x50, 600)


def test_serial_reads_end_as_their_attribute_says(door: Door) -> None:
    resource = door.open(LASER)
    assert isinstance(resource, SerialInstrument)
    resource.write_raw(Request(0x31, 10, write=True).encode())
    assert resource.bytes_in_buffer == 4
    assert resource.read_raw(100).endswith(b"\x0a")
    resource.end_input = SerialTermination.none
    resource.write_raw(Request(0x31, 10, write=True).encode())
    with fails_with(StatusCode.error_timeout):
        resource.read_raw(100)
    serial = door.open(SERIAL)
    assert isinstance(serial, SerialInstrument)
    serial.end_output = SerialTermination.termination_char
    serial.write_termination = ""
    assert serial.query("*IDN?") == "LABCTL,STORE,1,2"


def test_serial_settings_are_kept(door: Door) -> None:
    resource = door.open(SERIAL)
    assert isinstance(resource, SerialInstrument)
    assert (resource.baud_rate, resource.data_bits, resource.parity) == (9600, 8, Parity.none)
    resource.baud_rate, resource.stop_bits = 115200, StopBits.two
    resource.flow_control = ControlFlow.rts_cts
    assert (resource.baud_rate, resource.stop_bits) == (115200, StopBits.two)
    assert resource.flow_control == ControlFlow.rts_cts


def test_attributes_say_where_and_what(door: Door) -> None:
    resource = door.open(SOCKET)
    get = resource.get_visa_attribute
    assert get(ResourceAttribute.tcpip_port) == 5025
    assert get(ResourceAttribute.tcpip_address) == "scope"
    assert resource.resource_name == SOCKET
    assert resource.interface_type == InterfaceType.tcpip
    assert resource.resource_class == "SOCKET"
    assert resource.timeout == 2000
    assert door.open(GPIB).get_visa_attribute(ResourceAttribute.gpib_primary_address) == 7
    assert door.open(USB).get_visa_attribute(ResourceAttribute.usb_serial_number) == "P0000001"


@pytest.mark.parametrize(
    ("attribute", "state", "status"),
    [
        (ResourceAttribute.asrl_baud_rate, 9600, StatusCode.error_nonsupported_attribute),
        (ResourceAttribute.resource_name, "x", StatusCode.error_attribute_read_only),
        (ResourceAttribute.termchar, 256, StatusCode.error_nonsupported_attribute_state),
        (ResourceAttribute.termchar, "x", StatusCode.error_nonsupported_attribute_state),
        (ResourceAttribute.timeout_value, -1, StatusCode.error_nonsupported_attribute_state),
        (0x1234, 1, StatusCode.error_nonsupported_attribute),
    ],
)
def test_impossible_attributes_are_refused(
    door: Door, attribute: ResourceAttribute, state: object, status: StatusCode
) -> None:
    resource = door.open(LAN)
    with fails_with(status):
        resource.set_visa_attribute(attribute, state)
    with fails_with(StatusCode.error_nonsupported_attribute):
        resource.get_visa_attribute(ResourceAttribute.asrl_baud_rate)
