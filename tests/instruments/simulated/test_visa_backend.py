"""The PyVISA backend, through PyVISA itself, on a stand-in bench."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import pyvisa
from hypothesis import given, settings
from hypothesis import strategies as st
from pyvisa.constants import (
    AccessModes,
    BufferOperation,
    ControlFlow,
    InterfaceType,
    Parity,
    ResourceAttribute,
    SerialTermination,
    StatusCode,
    StopBits,
)
from pyvisa.resources import MessageBasedResource, SerialInstrument

from labctl.data import shipped_bench_path
from labctl.errors import StationFileError
from labctl.instruments.codecs.ieee488 import encode_block
from labctl.instruments.codecs.itla import Reply, Request
from labctl.instruments.codecs.scpi import Command, Parameters, ScpiCore, Suffixes, only, readout
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panel import FrontPanel
from labctl.instruments.simulated.panels.itla import ITLAPanel
from labctl.instruments.simulated.visa_backend import LabctlVisaLibrary
from labctl.instruments.simulated.visa_session import MESSAGE_TIME_S

LAN = "TCPIP0::scope::hislip0::INSTR"
VXI = "TCPIP0::scope::inst0::INSTR"
SOCKET = "TCPIP0::scope::5025::SOCKET"
USB = "USB0::0x1313::0x8078::P0000001::0::INSTR"
GPIB = "GPIB0::7::INSTR"
SERIAL = "ASRL/dev/ttyS7::INSTR"
LASER = "ASRL3::INSTR"
MESSAGES = [LAN, VXI, USB, GPIB]
STREAMS = [SOCKET, SERIAL]


class Store:
    """An instrument that keeps a block, and has an operation that takes time."""

    def __init__(self, clock: BenchClock) -> None:
        self.payload = b""
        self.busy_until_s = 0.0
        self._clock = clock
        self.triggers = 0
        core = ScpiCore(
            [
                Command(":DATA", self._put),
                readout(":DATA", lambda _: encode_block(self.payload)),
                Command(":WORK", self._work),
            ],
            identity="LABCTL,STORE,1,2",
            reset=lambda: None,
            trigger=self._trigger,
            busy=lambda: clock.now_s() < self.busy_until_s,
        )
        self.write, self.read, self.clear = core.write, core.read, core.clear
        self.status_byte, self.serial_poll = core.status_byte, core.serial_poll
        self.read_timed_out = core.read_timed_out

    def _put(self, _: Suffixes, parameters: Parameters) -> None:
        self.payload = bytes(only(parameters).data)

    def _work(self, _: Suffixes, parameters: Parameters) -> None:
        self.busy_until_s = self._clock.now_s() + float(only(parameters).text())

    def _trigger(self) -> None:
        self.triggers += 1


@dataclass
class Head:
    on: bool = False

    def set_emission(self, on: bool, power_w: float, frequency_hz: float) -> None:
        self.on = on

    def emitted_power_w(self) -> float:
        return 0.01 if self.on else 0.0


@dataclass
class Bench:
    clock: BenchClock = field(default_factory=BenchClock)
    panels: dict[str, FrontPanel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in MESSAGES + STREAMS:
            self.panels[name] = Store(self.clock)
        self.panels[LASER] = ITLAPanel("laser", self.clock, Head())

    def store(self, name: str) -> Store:
        panel = self.panels[name]
        assert isinstance(panel, Store)
        return panel


class StandIn(LabctlVisaLibrary):
    """The backend on a stand-in bench, a new one for each world."""

    @staticmethod
    def load_world(path: Path) -> Bench:
        return Bench()


@dataclass
class Door:
    """A resource manager and the bench behind it."""

    manager: pyvisa.ResourceManager
    bench: Bench
    library: StandIn

    def open(self, name: str) -> MessageBasedResource:
        resource = self.manager.open_resource(name)
        assert isinstance(resource, MessageBasedResource)
        resource.write_termination = "\n"
        if name in STREAMS:
            resource.read_termination = "\n"
        return resource


@pytest.fixture
def door() -> Iterator[Door]:
    library = StandIn("stand-in")
    manager = pyvisa.ResourceManager(library)
    assert isinstance(library, StandIn)
    bench = library._opened_world()
    assert isinstance(bench, Bench)
    yield Door(manager, bench, library)
    manager.close()


def fails_with(status: StatusCode) -> "pytest.RaisesExc[pyvisa.VisaIOError]":
    return pytest.raises(pyvisa.VisaIOError, check=lambda error: error.error_code == status)


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


def test_resources_are_listed_by_expression(door: Door) -> None:
    assert set(door.manager.list_resources()) == {*MESSAGES, SERIAL, LASER}
    assert door.manager.list_resources("?*SOCKET") == (SOCKET,)
    assert set(door.manager.list_resources("(USB|GPIB)?*")) == {USB, GPIB}
    assert door.manager.list_resources("VXI?*") == ()


def test_resources_are_found_by_any_spelling(door: Door) -> None:
    resource = door.open("TCPIP::SCOPE::5025::SOCKET")
    resource.read_termination = "\n"
    assert resource.query("*OPC?") == "1"


@pytest.mark.parametrize("name", ["GPIB0::8::INSTR", "ASRL9::INSTR", "TCPIP::scope::5026::SOCKET"])
def test_an_absent_resource_is_not_found(door: Door, name: str) -> None:
    with fails_with(StatusCode.error_resource_not_found):
        door.manager.open_resource(name)


def test_a_name_that_is_none_is_refused(door: Door) -> None:
    with fails_with(StatusCode.error_invalid_resource_name):
        door.manager.open_bare_resource("NONSENSE")


def test_a_new_message_takes_the_place_of_a_reply_read_in_part(door: Door) -> None:
    resource = door.open(LAN)
    resource.read_termination = ","
    resource.write("*IDN?")
    assert resource.read() == "LABCTL"
    resource.read_termination = "\n"
    assert resource.query("*OPC?") == "1"


def test_a_pending_completion_that_nobody_awaits_never_answers_the_next_query(door: Door) -> None:
    """IEEE 488.2 section 6.3.2.3: the reply is lost once there is one, and that is an error."""
    resource = door.open(LAN)
    resource.timeout = 100
    with fails_with(StatusCode.error_timeout):
        resource.query("WORK 1;*OPC?")
    resource.timeout = 2000
    assert resource.query("*IDN?") == "LABCTL,STORE,1,2\n"
    assert resource.query("SYST:ERR?").startswith("-410")
    assert resource.query("SYST:ERR?").startswith("+0")
    stream = door.open(SOCKET)
    stream.write("WORK 1;*OPC?")
    assert stream.query("*IDN?") == "1"
    assert stream.read() == "LABCTL,STORE,1,2"


def test_status_clear_flush_and_trigger(door: Door) -> None:
    lan, socket = door.open(LAN), door.open(SOCKET)
    lan.write("*IDN?")
    assert lan.read_stb() & 16
    lan.clear()
    assert lan.read_stb() & 16 == 0
    lan.assert_trigger()
    assert door.bench.store(LAN).triggers == 1
    for refused in (socket.read_stb, socket.assert_trigger):
        with fails_with(StatusCode.error_nonsupported_operation):
            refused()
    for drop in (socket.clear, lambda: socket.flush(BufferOperation.discard_read_buffer)):
        socket.write("*IDN?")
        drop()
        assert socket.query("*OPC?") == "1"


def test_two_sessions_share_a_resource(door: Door) -> None:
    first, second = door.open(LAN), door.open(LAN)
    first.write(":DATA #13abc")
    first.close()
    assert second.query(":DATA?") == "#13abc\n"
    assert door.open(LAN).query(":DATA?") == "#13abc\n"


def test_a_socket_that_is_closed_takes_its_bytes_with_it(door: Door) -> None:
    resource = door.open(SOCKET)
    resource.write_raw(b"*IDN?\n:DATA #19")
    resource.close()
    assert door.open(SOCKET).query("*OPC?") == "1"


def test_an_exclusive_lock_keeps_others_out(door: Door) -> None:
    owner, other = door.open(LAN), door.open(LAN)
    with owner.lock_context():
        assert owner.lock_state == AccessModes.exclusive_lock
        owner.query("*IDN?")
        with fails_with(StatusCode.error_resource_locked):
            other.write("*RST")
        with fails_with(StatusCode.error_resource_locked):
            other.lock_excl()
    assert other.query("*OPC?") == "1\n"
    with fails_with(StatusCode.error_session_not_locked):
        other.unlock()


def test_a_shared_lock_is_joined_by_its_key(door: Door) -> None:
    first, second, third = door.open(LAN), door.open(LAN), door.open(LAN)
    key = first.lock()
    assert second.lock(requested_key=key) == key
    assert second.query("*OPC?") == "1\n"
    with fails_with(StatusCode.error_resource_locked):
        third.query("*OPC?")
    first.unlock()
    second.close()
    assert third.query("*OPC?") == "1\n"


def test_a_resource_can_be_locked_on_opening(door: Door) -> None:
    owner = door.manager.open_resource(LAN, access_mode=AccessModes.exclusive_lock)
    with fails_with(StatusCode.error_resource_locked):
        door.manager.open_resource(LAN, access_mode=AccessModes.exclusive_lock)
    owner.close()
    door.manager.open_resource(LAN, access_mode=AccessModes.exclusive_lock)


def test_a_closed_session_is_invalid(door: Door) -> None:
    resource = door.open(LAN)
    session = resource.session
    resource.close()
    with pytest.raises(pyvisa.errors.InvalidSession):
        resource.query("*IDN?")
    with fails_with(StatusCode.error_invalid_object):
        door.library.write(session, b"*IDN?")


def test_threads_may_share_a_bench(door: Door) -> None:
    replies: list[str] = []

    def work(name: str) -> None:
        resource = door.open(name)
        replies.extend(resource.query("*IDN?").strip() for _ in range(200))

    threads = [threading.Thread(target=work, args=(name,)) for name in MESSAGES + STREAMS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == ["LABCTL,STORE,1,2"] * 200 * len(threads)


def test_one_world_as_long_as_it_is_open() -> None:
    library = StandIn("worlds")
    assert isinstance(library, StandIn)
    first = pyvisa.ResourceManager(library)
    assert pyvisa.ResourceManager(StandIn("worlds")) is first
    spelled = StandIn("./worlds")
    other = pyvisa.ResourceManager(spelled)
    assert isinstance(spelled, StandIn)
    assert spelled.clock is not library.clock
    world = library._opened_world()
    first.close()
    with pytest.raises(pyvisa.errors.InvalidSession):
        library.clock  # noqa: B018 (the access is the test)
    again = pyvisa.ResourceManager(library)
    assert library._opened_world() is not world
    again.close()
    other.close()


def test_pyvisa_finds_the_backend_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def load(path: Path) -> Bench:
        asked.append(path)
        return Bench()

    monkeypatch.setattr(LabctlVisaLibrary, "load_world", staticmethod(load))
    manager = pyvisa.ResourceManager("some/where@home/bench.toml@labctl")
    assert asked == [Path("some/where@home/bench.toml")]
    assert SOCKET in manager.list_resources("?*")
    manager.close()


def test_a_missing_bench_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "absent.toml"
    with pytest.raises(StationFileError, match=r"absent\.toml: there is no such bench file"):
        pyvisa.ResourceManager(f"{missing}@labctl")


def test_a_bench_with_an_impossible_address_is_refused() -> None:
    class Broken(LabctlVisaLibrary):
        @staticmethod
        def load_world(path: Path) -> Bench:
            bench = Bench()
            bench.panels["NONSENSE"] = Store(bench.clock)
            return bench

    with pytest.raises(StationFileError, match="'NONSENSE' is not a VISA resource name"):
        pyvisa.ResourceManager(Broken("broken"))


def test_a_service_request_wakes_who_waits_for_it() -> None:
    """*SRE 32 passes the event summary on, *ESE 1 lets *OPC set it: IEEE 488.2 section 11."""
    manager = pyvisa.ResourceManager(f"{shipped_bench_path()}@labctl")
    with manager.open_resource("TCPIP0::server-generator::hislip0::INSTR") as generator:
        assert isinstance(generator, MessageBasedResource)
        request = pyvisa.constants.EventType.service_request
        queue = pyvisa.constants.EventMechanism.queue
        with pytest.raises(pyvisa.VisaIOError, match="VI_ERROR_NENABLED"):
            generator.wait_on_event(request, 10)
        generator.write("*CLS;*ESE 1;*SRE 32")
        generator.enable_event(request, queue)
        assert generator.wait_on_event(request, 10, capture_timeout=True).timed_out
        generator.write("*OPC")
        assert not generator.wait_on_event(request, 1000, capture_timeout=True).timed_out
        assert [generator.read_stb() & 64 for _ in range(2)] == [64, 0]
        assert generator.wait_on_event(request, 10, capture_timeout=True).timed_out
        generator.write("*CLS;*OPC")
        assert not generator.wait_on_event(request, 1000, capture_timeout=True).timed_out
        assert generator.query("*ESR?").strip() in ("1", "+1")
        generator.disable_event(request, queue)
    manager.close()


@pytest.mark.parametrize("name", MESSAGES + STREAMS)
def test_every_attribute_that_pyvisa_names_on_a_resource_has_a_state(door: Door, name: str) -> None:
    resource = door.open(name)
    named = [a for a in resource.visa_attributes_classes if hasattr(type(resource), a.py_name)]
    assert len(named) > 10
    unsupported = []
    for attribute in named:
        try:
            state = getattr(resource, attribute.py_name)
            if attribute.write:
                setattr(resource, attribute.py_name, state)
                assert getattr(resource, attribute.py_name) == state
        except pyvisa.VisaIOError as error:
            unsupported.append((attribute.py_name, error.abbreviation))
    assert unsupported == []


def test_attributes_of_the_wire_follow_from_the_address(door: Door) -> None:
    get = ResourceAttribute
    usb, gpib, lan, vxi = (door.open(name) for name in (USB, GPIB, LAN, VXI))
    assert usb.get_visa_attribute(get.manufacturer_id) == 0x1313
    assert usb.get_visa_attribute(get.model_code) == 0x8078
    assert gpib.get_visa_attribute(get.gpib_secondary_address) == pyvisa.constants.VI_NO_SEC_ADDR
    assert lan.get_visa_attribute(get.tcpip_is_hislip)
    assert not vxi.get_visa_attribute(get.tcpip_is_hislip)
    assert lan.get_visa_attribute(get.interface_instrument_name) == "TCPIP0"
    manager = lan.get_visa_attribute(get.resource_manager_session)
    assert manager == door.manager.session
    version, _ = door.library.get_attribute(manager, get.resource_spec_version)
    assert version == lan.spec_version
    with fails_with(StatusCode.error_nonsupported_attribute):
        door.library.get_attribute(manager, get.timeout_value)


def test_messages_pass_through_files_and_buffers(door: Door, tmp_path: Path) -> None:
    resource = door.open(LAN)
    session = resource.session
    question, answer = tmp_path / "question", tmp_path / "answer"
    question.write_bytes(b"*IDN?\nnot this")
    door.library.write_from_file(session, str(question), 6)
    door.library.read_to_file(session, str(answer), 100)
    assert answer.read_bytes() == b"LABCTL,STORE,1,2\n"
    door.library.set_buffer(session, pyvisa.constants.BufferType.io_in, 1 << 16)
    door.library.buffer_write(session, b"*OPC?\n")
    assert door.library.buffer_read(session, 100)[0] == b"1\n"
    with fails_with(StatusCode.error_file_access):
        door.library.write_from_file(session, str(tmp_path / "absent"), 6)
    door.library.write(session, b"*OPC?\n")
    with fails_with(StatusCode.error_file_access):
        door.library.read_to_file(session, str(tmp_path), 6)


def test_a_status_is_told_in_words(door: Door) -> None:
    text, _ = door.library.status_description(door.manager.session, StatusCode.error_timeout)
    assert text == "VI_ERROR_TMO: Timeout expired before operation completed."


def test_two_threads_get_three_thousand_replies_each_to_their_own_questions(door: Door) -> None:
    mixed: list[tuple[str, str]] = []

    def ask(name: str, first: int) -> None:
        resource = door.open(name)
        for number in range(first, first + 3000):
            block = f"#15{number}"
            resource.write(f":DATA {block}")
            reply = resource.query(":DATA?").strip()
            if reply != block:
                mixed.append((block, reply))

    threads = [
        threading.Thread(target=ask, args=(name, first))
        for name, first in ((LAN, 10_000), (SOCKET, 50_000))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mixed == []
