"""The PyVISA backend: resources, locks, sessions, events, attributes and threads."""

import threading
from pathlib import Path

import pytest
import pyvisa
from pyvisa.constants import (
    AccessModes,
    BufferOperation,
    ResourceAttribute,
    StatusCode,
)
from pyvisa.resources import MessageBasedResource
from stand_in_door import (
    GPIB,
    LAN,
    LASER,
    MESSAGES,
    SERIAL,
    SOCKET,
    STREAMS,
    USB,
    VXI,
    Bench,
    Door,
    StandIn,
    Store,
    fails_with,
)

from labctl.data import shipped_bench_path
from labctl.errors import StationFileError
from labctl.instruments.simulated.visa_backend import LabctlVisaLibrary


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
