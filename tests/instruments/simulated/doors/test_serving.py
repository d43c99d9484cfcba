"""A served bench from outside: `labctl sim serve` in its own process, public clients against it."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
import pyvisa
import serial
from pyvisa.constants import StatusCode
from pyvisa.resources import MessageBasedResource
from pyvisa_py.protocols import hislip  # type: ignore[import-untyped]  # it ships no types

from labctl.instruments.codecs.itla import Reply, Request, Status
from labctl.instruments.simulated.doors.serving import LAST_MOMENT_S

Offers = dict[str, dict[str, str]]
Open = Callable[..., MessageBasedResource]
HEADER = struct.Struct("!2sBBIQ")
FATAL, ERROR, DATA, DATA_END, TRIGGER = 2, 3, 6, 7, 12
GENERATOR = "Agilent Technologies,33512B,"
SCOPE = "KEYSIGHT TECHNOLOGIES,DSO-X 3102T,"


@contextmanager
def serving() -> Iterator[tuple[subprocess.Popen[bytes], Offers]]:
    """Serve the shipped bench; killed after the block if it still runs."""
    command = [sys.executable, "-m", "labctl", "sim", "serve", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    guard = threading.Timer(60.0, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        offers: Offers = {}
        for line in process.stdout:
            offer = json.loads(line)
            if offer == {"ready": True}:
                break
            offers[offer["name"]] = offer
        else:
            assert process.stderr is not None
            pytest.fail(process.stderr.read().decode())
        yield process, offers
    finally:
        guard.cancel()
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def offers() -> Iterator[Offers]:
    """One bench for all tests here; none may fail behind its doors."""
    with serving() as (process, found):
        yield found
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors.decode()) == (0, "")


@pytest.fixture
def visa(offers: Offers) -> Iterator[Open]:
    """Open an instrument through a door by pyvisa-py; all are closed in the end."""
    manager = pyvisa.ResourceManager("@py")

    def open_door(name: str, door: str, **attributes: Any) -> MessageBasedResource:
        place = offers[name][door]
        address = f"ASRL{place}::INSTR" if door == "pty" else place
        resource = manager.open_resource(address, **attributes)
        assert isinstance(resource, MessageBasedResource)
        resource.timeout = 20_000
        return resource

    yield open_door
    manager.close()


def lines(visa: Open, name: str, door: str) -> MessageBasedResource:
    return visa(name, door, read_termination="\n", write_termination="\n")


def port_of(address: str) -> int:
    """Return the port in a resource string of either kind."""
    part = address.split("::")[2]
    return int(part.rpartition(",")[2])


def test_each_instrument_has_its_doors(offers: Offers) -> None:
    assert len(offers) == 20
    for offer in offers.values():
        framed = offer["panel"] == "itla"
        assert (offer["hislip"] is None) == framed
        assert framed or offer["hislip"].startswith("TCPIP::127.0.0.1::hislip0,")
        assert offer["socket"].startswith("TCPIP::127.0.0.1::")
        assert os.path.exists(offer["pty"])
    assert offers["server_laser"]["panel"] == "itla"
    assert offers["monitor"]["panel"] == "thorlabs_pm100d"
    ports = [port_of(o[door]) for o in offers.values() for door in ("hislip", "socket") if o[door]]
    assert len(set(ports)) == len(ports) == 2 * 20 - 1


@pytest.mark.parametrize("door", ["hislip", "socket", "pty"])
def test_a_generator_and_a_power_meter_answer_through_every_door(visa: Open, door: str) -> None:
    generator = lines(visa, "server_generator", door)
    assert generator.query("*IDN?").startswith(GENERATOR)
    generator.write("SOUR1:FREQ 12345")
    assert float(generator.query("SOUR1:FREQ?")) == 12345.0
    meter = lines(visa, "monitor", door)
    meter.write("SENS:CORR:WAV 1550")
    assert float(meter.query("SENS:CORR:WAV?")) == 1550.0
    assert abs(float(meter.query("MEAS:POW?"))) < 1.0


@pytest.mark.parametrize("door", ["hislip", "socket", "pty"])
def test_an_mx10b_answers_through_every_door(visa: Open, door: str) -> None:
    box = visa("bias_i", door, read_termination="\r\n", write_termination="\r\n")
    assert box.query("SYS:SER?") == "T00400001"
    assert box.query("VOA:ATTEN: 3.25") == "1"
    assert float(box.query("VOA:ATTEN?")) == 3.25


@pytest.mark.parametrize(
    ("door", "points"), [("hislip", 320_000), ("socket", 320_000), ("pty", 1000)]
)
def test_records_come_whole_though_they_hold_newlines(visa: Open, door: str, points: int) -> None:
    scope = lines(visa, "server_scope", door)
    scope.write("*RST;:TIM:RANG 2E-3;:CHAN1:RANG 0.016;:CHAN1:OFFS 0.006;:TRIG:EDGE:SOUR LINE;:DIG")
    assert scope.query("*OPC?") == "1"
    scope.write(f":WAV:FORM WORD;:WAV:UNS 1;:WAV:POIN {points}")
    codes = scope.query_binary_values(":WAV:DATA?", datatype="H", is_big_endian=True)
    assert len(codes) == points
    assert b"\n" in np.asarray(codes).astype(">u2").tobytes()
    assert scope.query("*IDN?").startswith(SCOPE)


@pytest.mark.parametrize("door", ["hislip", "socket"])
def test_five_megabytes_arrive(visa: Open, door: str) -> None:
    generator = lines(visa, "server_phase", door)
    codes: Any = np.random.default_rng(11).integers(-32767, 32768, 2_500_000, dtype=np.int16)
    generator.write("SOUR1:DATA:VOL:CLE")
    generator.write_binary_values(
        f"SOUR1:DATA:ARB:DAC {door},", codes, datatype="h", is_big_endian=True
    )
    assert generator.query("SYST:ERR?") == '+0,"No error"'
    assert door in generator.query("SOUR1:DATA:VOL:CAT?").lower()


def test_serial_poll_tells_that_a_reply_waits_until_it_is_read(visa: Open) -> None:
    scope = lines(visa, "client_scope", "hislip")
    scope.write("*CLS;*SRE 16")
    assert scope.read_stb() == 0
    scope.write("*IDN?")
    deadline = time.monotonic() + 20.0
    while not (status := scope.read_stb()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert status == 16 + 64
    assert scope.read_stb() == 16
    assert scope.read().startswith(SCOPE)
    assert scope.read_stb() == 0
    scope.write("*SRE 0")


def test_serial_poll_tells_once_of_a_reason_for_service(visa: Open) -> None:
    scope = lines(visa, "client_scope", "hislip")
    for _ in range(2):
        scope.write("*CLS;*ESE 1;*SRE 32;*OPC")
        assert [scope.read_stb() for _ in range(3)] == [32 + 64, 32, 32]
        assert scope.query("*STB?").strip() in ("96", "+96")
    scope.write("*CLS;*ESE 0;*SRE 0")


def test_a_read_in_vain_times_out_and_the_next_query_is_answered(visa: Open) -> None:
    scope = lines(visa, "client_scope", "hislip")
    scope.timeout = 100
    scope.write("*CLS")
    with pytest.raises(pyvisa.errors.VisaIOError) as caught:
        scope.read()
    assert caught.value.error_code == StatusCode.error_timeout
    scope.timeout = 20_000
    assert scope.query("*IDN?").startswith(SCOPE)


def test_device_clear_drops_half_a_message_and_a_reply_that_is_due(visa: Open) -> None:
    scope = lines(visa, "client_scope", "hislip")
    scope.write("*RST;:TRIG:EDGE:SOUR EXT;:DIG;*OPC?")
    scope.clear()
    assert scope.query("*IDN?").startswith(SCOPE)
    assert scope.query("SYST:ERR?") == '+0,"No error"'
    assert int(scope.query(":OPER:COND?")) & 32
    scope.write(":STOP")


def test_a_reply_that_nobody_reads_is_not_taken_for_the_next(visa: Open) -> None:
    generator = lines(visa, "client_generator", "hislip")
    generator.write("*IDN?")
    assert generator.query("SYST:ERR?") == '+0,"No error"'


def test_a_long_operation_answers_when_it_is_done(visa: Open) -> None:
    meter = lines(visa, "monitor", "hislip")
    begun = time.monotonic()
    meter.write("SENS:CORR:COLL:ZERO:INIT")
    assert meter.query("*OPC?") == "1"
    assert time.monotonic() - begun > 0.9
    assert meter.query("SENS:CORR:COLL:ZERO:STAT?") == "0"


def test_a_script_that_waits_on_the_wall_sees_the_bench_settle(visa: Open) -> None:
    meter = lines(visa, "monitor", "socket")
    meter.write("SENS:CORR:COLL:ZERO:INIT")
    deadline = time.monotonic() + 20.0
    polls = 0
    while meter.query("SENS:CORR:COLL:ZERO:STAT?") == "1" and time.monotonic() < deadline:
        polls += 1
        time.sleep(0.05)
    assert 2 <= polls < 100


def test_a_trigger_at_one_instrument_completes_another(visa: Open) -> None:
    scope = lines(visa, "client_scope", "hislip")
    generator = lines(visa, "server_generator", "socket")
    generator.write(
        "*RST;:SOUR1:FUNC SIN;:SOUR1:FREQ 1E6;:SOUR1:BURS:NCYC 10;:SOUR1:BURS:STAT ON;"
        ":TRIG1:SOUR BUS;:OUTP1 ON;*OPC?"
    )
    assert generator.read() == "1"
    scope.write("*RST;:TIM:RANG 1E-5;:TRIG:EDGE:SOUR EXT;:DIG")
    assert int(scope.query(":OPER:COND?")) & 32
    scope.write("*OPC?")
    generator.write("*TRG")
    assert scope.read() == "1"
    generator.write("*RST")


def test_two_clients_of_one_instrument_each_get_their_own_replies(offers: Offers) -> None:
    address = offers["client_phase"]
    wrong: list[str] = []

    def ask(door: str, query: str, start: str) -> None:
        manager = pyvisa.ResourceManager("@py")
        resource = manager.open_resource(
            address[door], read_termination="\n", write_termination="\n"
        )
        assert isinstance(resource, MessageBasedResource)
        resource.timeout = 20_000
        for _ in range(200):
            reply = resource.query(query)
            if not reply.startswith(start):
                wrong.append(f"{door} {query}: {reply}")
        resource.close()

    asked = [
        ("hislip", "*IDN?", GENERATOR),
        ("hislip", "SYST:ERR?", "+0"),
        ("socket", "*OPC?", "1"),
    ]
    threads = [threading.Thread(target=ask, args=each) for each in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_a_message_in_parts_is_not_mixed_with_another_clients(offers: Offers) -> None:
    with raw_session(offers, "server_phase") as slow, raw_session(offers, "server_phase") as fast:
        slow.send(DATA, 0xFFFF_FF00, b"SOUR1:FRE")
        fast.send(DATA_END, 0xFFFF_FF00, b"SYST:ERR?\n")
        assert fast.receive() == (DATA_END, 0, 0xFFFF_FF00, b'+0,"No error"\n')
        slow.send(DATA_END, 0xFFFF_FF02, b"Q 777;FREQ?\n")
        kind, _, number, payload = slow.receive()
        assert (kind, number, float(payload)) == (DATA_END, 0xFFFF_FF02, 777.0)


def test_a_lock_holds_back_other_clients_messages(offers: Offers) -> None:
    port = port_of(offers["client_phase"]["hislip"])
    owner, other = (hislip.Instrument("127.0.0.1", port=port, timeout=20.0) for _ in range(2))
    try:
        assert owner.async_lock_request(1.0) == "success"
        assert owner.async_lock_request(1.0) == "error"
        assert other.async_lock_info() == 1
        assert other.async_lock_request(0.05) == "failure"
        other.send(b"*IDN?\n")
        other.timeout = 0.1
        with pytest.raises(TimeoutError):
            other.receive()
        other.timeout = 20.0
        owner.send(b"SYST:ERR?\n")
        assert owner.receive() == b'+0,"No error"\n'
        assert owner.async_lock_release() == "success"
        assert other.receive().startswith(GENERATOR.encode())
        assert other.async_lock_request(5.0, "key") == "success"
        assert other.async_lock_release() == "success shared"
        assert other.async_lock_info() == 0
    finally:
        owner.close()
        other.close()


def test_who_leaves_leaves_no_lock_behind(offers: Offers) -> None:
    port = port_of(offers["client_phase"]["hislip"])
    owner, other = (hislip.Instrument("127.0.0.1", port=port, timeout=20.0) for _ in range(2))
    assert owner.async_lock_request(1.0) == "success"
    owner.close()
    assert other.async_lock_request(10.0) == "success"
    other.close()


def test_remote_and_local_and_triggers_are_taken(offers: Offers) -> None:
    port = port_of(offers["client_phase"]["hislip"])
    client = hislip.Instrument("127.0.0.1", port=port, timeout=20.0)
    client.async_remote_local_control("enableAndLockoutLocal")
    client.async_remote_local_control("justGTL")
    client.send(b"*RST;*CLS\n")
    client.trigger()
    client.send(b"SYST:ERR?\n")
    assert client.receive() == b'-211,"Trigger ignored"\n'
    client.close()


class RawSession:
    """A HiSLIP client that sends what the test gives it."""

    def __init__(self, port: int) -> None:
        self.synchronous = socket.create_connection(("127.0.0.1", port), timeout=20.0)
        self.asynchronous = socket.create_connection(("127.0.0.1", port), timeout=20.0)

    def establish(self) -> None:
        self.send(0, 0x0100_7878, b"hislip0")
        kind, control, parameter, _ = self.receive()
        assert (kind, control, parameter >> 16) == (1, 0, 0x0100)
        self.asynchronous.sendall(HEADER.pack(b"HS", 17, 0, parameter & 0xFFFF, 0))
        assert self.receive(self.asynchronous)[0] == 18

    def send(self, kind: int, parameter: int = 0, payload: bytes = b"", control: int = 0) -> None:
        header = HEADER.pack(b"HS", kind, control, parameter, len(payload))
        self.synchronous.sendall(header + payload)

    def receive(self, channel: socket.socket | None = None) -> tuple[int, int, int, bytes]:
        source = channel or self.synchronous
        prologue, kind, control, parameter, length = HEADER.unpack(self._exactly(source, 16))
        assert prologue == b"HS"
        return kind, control, parameter, self._exactly(source, length)

    def ends(self, channel: socket.socket | None = None) -> bool:
        """Wait for the end of a channel; False if something comes instead."""
        with suppress(ConnectionError):
            return (channel or self.synchronous).recv(1) == b""
        return True

    def close(self) -> None:
        self.synchronous.close()
        self.asynchronous.close()

    @staticmethod
    def _exactly(source: socket.socket, length: int) -> bytes:
        data = b""
        while len(data) < length:
            chunk = source.recv(length - len(data))
            assert chunk, "the connection has ended"
            data += chunk
        return data


@contextmanager
def raw_session(
    offers: Offers, name: str = "client_phase", *, established: bool = True
) -> Iterator[RawSession]:
    session = RawSession(port_of(offers[name]["hislip"]))
    try:
        if established:
            session.establish()
        yield session
    finally:
        session.close()


def test_a_poor_header_ends_the_session_with_both_its_channels(offers: Offers) -> None:
    with raw_session(offers) as session:
        session.synchronous.sendall(b"GET / HTTP/1.0\r\n")
        kind, code, _, text = session.receive()
        assert (kind, code) == (FATAL, 1)
        assert b"begins with 'HS'" in text
        assert session.ends()
        assert session.ends(session.asynchronous)


def test_data_before_both_channels_stand_is_fatal(offers: Offers) -> None:
    with raw_session(offers, established=False) as session:
        session.send(0, 0x0100_7878, b"hislip0")
        assert session.receive()[0] == 1
        session.send(DATA_END, 0xFFFF_FF00, b"*IDN?\n")
        assert session.receive()[:2] == (FATAL, 2)
        assert session.ends()


@pytest.mark.parametrize(
    ("kind", "parameter", "payload", "code"),
    [(DATA_END, 0, b"*IDN?\n", 3), (17, 54321, b"", 3), (0, 0, b"inst7", 0), (0, 0, b"x" * 300, 3)],
)
def test_a_session_begins_as_it_must_or_not_at_all(
    offers: Offers, kind: int, parameter: int, payload: bytes, code: int
) -> None:
    with raw_session(offers, established=False) as session:
        session.send(kind, parameter, payload)
        assert session.receive()[:2] == (FATAL, code)
        assert session.ends()


def test_initializing_twice_is_fatal(offers: Offers) -> None:
    with raw_session(offers) as session:
        session.send(0, 0x0100_7878, b"hislip0")
        assert session.receive()[:2] == (FATAL, 3)


@pytest.mark.parametrize(("kind", "code"), [(26, 1), (99, 1), (200, 3), (4, 1)])
def test_an_unknown_message_is_an_error_and_the_session_goes_on(
    offers: Offers, kind: int, code: int
) -> None:
    with raw_session(offers) as session:
        session.send(kind, 0, b"what is this")
        assert session.receive()[:2] == (ERROR, code)
        session.send(DATA_END, 0xFFFF_FF00, b"*OPC?\n")
        assert session.receive() == (DATA_END, 0, 0xFFFF_FF00, b"1\n")


def test_a_message_above_the_agreed_size_is_refused_whole(offers: Offers) -> None:
    with raw_session(offers) as session:
        session.send(DATA, 0xFFFF_FF00, b"*OPC")
        session.send(DATA, 0xFFFF_FF02, b"x" * ((1 << 20) + 1))
        assert session.receive()[:2] == (ERROR, 4)
        session.send(DATA_END, 0xFFFF_FF04, b"?\n")
        session.send(DATA_END, 0xFFFF_FF06, b"SYST:ERR?\n")
        assert session.receive() == (DATA_END, 0, 0xFFFF_FF06, b'+0,"No error"\n')


def test_replies_are_cut_to_the_size_the_client_can_take(offers: Offers) -> None:
    with raw_session(offers) as session:
        session.asynchronous.sendall(HEADER.pack(b"HS", 15, 0, 0, 8) + struct.pack("!Q", 272))
        kind, _, _, size = session.receive(session.asynchronous)
        assert (kind, struct.unpack("!Q", size)[0]) == (16, 1 << 20)
        session.send(DATA_END, 0xFFFF_FF00, b"*IDN?" + b";*IDN?" * 9 + b"\n")
        parts = [session.receive()]
        while parts[-1][0] == DATA:
            parts.append(session.receive())
        assert all(len(payload) == 256 for _, _, _, payload in parts[:-1])
        assert b"".join(part[3] for part in parts).count(GENERATOR.encode()) == 10
        assert {part[2] for part in parts} == {0xFFFF_FF00}


def test_a_device_clear_discards_all_until_it_is_complete(offers: Offers) -> None:
    with raw_session(offers) as session:
        session.send(DATA, 0xFFFF_FF00, b"half a mess")
        session.asynchronous.sendall(HEADER.pack(b"HS", 19, 0, 0, 0))
        assert session.receive(session.asynchronous)[:2] == (23, 0)
        session.send(DATA_END, 0xFFFF_FF02, b"*IDN?\n")
        session.send(8)
        assert session.receive() == (9, 0, 0, b"")
        session.send(DATA_END, 0xFFFF_FF00, b"SYST:ERR?\n")
        assert session.receive() == (DATA_END, 0, 0xFFFF_FF00, b'+0,"No error"\n')


def test_a_record_that_nobody_reads_keeps_no_one_from_going_on(visa: Open, offers: Offers) -> None:
    scope = lines(visa, "server_scope", "hislip")
    scope.write("*RST;:TIM:RANG 0.02;:TRIG:EDGE:SOUR LINE;:DIG;*OPC?")
    assert scope.read() == "1"
    with raw_session(offers, "server_scope") as session:
        session.send(DATA_END, 0xFFFF_FF00, b":WAV:FORM WORD;:WAV:POIN 3200000;DATA?\n")
        assert scope.query("*IDN?").startswith(SCOPE)
        session.send(DATA_END, 0xFFFF_FF02, b":TIM:RANG 0.03\n")
        deadline = time.monotonic() + 20.0
        while float(scope.query(":TIM:RANG?")) != 0.03 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert float(scope.query(":TIM:RANG?")) == 0.03


def frame(line: serial.Serial, request: Request) -> Reply:
    line.write(request.encode())
    return Reply.decode(line.read(4))


def test_a_laser_module_talks_frames_over_its_serial_line(offers: Offers) -> None:
    with serial.Serial(offers["server_laser"]["pty"], 9600, timeout=20.0) as line:
        assert frame(line, Request(0x00)).data & 0x10
        assert frame(line, Request(0x30, 7, write=True)).status is Status.OK
        assert frame(line, Request(0x30)).data == 7


def test_a_laser_module_talks_frames_over_a_socket(offers: Offers) -> None:
    port = port_of(offers["server_laser"]["socket"])
    with socket.create_connection(("127.0.0.1", port), timeout=20.0) as line:
        for part in (Request(0x00).encode()[:1], Request(0x00).encode()[1:]):
            line.sendall(part)
        assert Reply.decode(line.recv(4, socket.MSG_WAITALL)).data & 0x10


def test_a_serial_line_is_opened_as_often_as_one_likes(offers: Offers) -> None:
    for _ in range(10):
        with serial.Serial(offers["server_laser"]["pty"], 9600, timeout=20.0) as line:
            assert frame(line, Request(0x00)).register == 0
            assert frame(line, Request(0x30)).register == 0x30


def test_half_a_frame_of_a_host_that_hangs_up_does_not_shift_the_next_hosts(
    offers: Offers,
) -> None:
    path = offers["server_laser"]["pty"]
    with serial.Serial(path, 9600, timeout=20.0) as line:
        frame(line, Request(0x00))
        line.write(Request(0x30).encode()[:3])
    deadline = time.monotonic() + 20.0
    reply = b""
    while reply != Reply(0, 0x10).encode() and time.monotonic() < deadline:
        time.sleep(0.02)
        with serial.Serial(path, 9600, timeout=0.1) as line:
            line.write(Request(0x00).encode())
            reply = line.read(4)
    assert reply == Reply(0, 0x10).encode()


def test_a_record_that_a_host_left_unread_is_not_in_the_next_hosts_way(
    visa: Open, offers: Offers
) -> None:
    scope = lines(visa, "client_scope", "hislip")
    scope.write("*RST;:TIM:RANG 2E-3;:TRIG:EDGE:SOUR LINE;:DIG;:WAV:FORM WORD;*OPC?")
    assert scope.read() == "1"
    path = offers["client_scope"]["pty"]
    with serial.Serial(path, 9600, timeout=20.0) as line:
        line.write(b":WAV:DATA?\n" * 3)
        assert line.read(2) == b"#8"
    deadline = time.monotonic() + 20.0
    reply = b""
    while not reply.startswith(SCOPE.encode()) and time.monotonic() < deadline:
        time.sleep(0.02)
        with serial.Serial(path, 9600, timeout=0.1) as line:
            line.write(b"*IDN?\n")
            reply = line.read(64)
    assert reply.startswith(SCOPE.encode())


def test_clients_that_vanish_in_the_middle_disturb_nobody(visa: Open, offers: Offers) -> None:
    abrupt = struct.pack("ii", 1, 0)
    for door in ("socket", "hislip") * 10:
        port = port_of(offers["client_phase"][door])
        with socket.create_connection(("127.0.0.1", port), timeout=20.0) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abrupt)
            line.sendall(b"*IDN?\n" * 200 if door == "socket" else b"HS\x00\x00")
    assert lines(visa, "client_phase", "socket").query("*IDN?").startswith(GENERATOR)


def test_a_serial_line_neither_echoes_nor_alters_bytes(offers: Offers) -> None:
    device = os.open(offers["bias_q"]["pty"], os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(device, b"SYS:SER?\x03\x11\x13\r\n")
        os.write(device, b"SYS:SER?\r\n")
        received = b""
        while not received.endswith(b"T00400002\r\n"):
            received += os.read(device, 100)
        assert b"SYS:SER" not in received
    finally:
        os.close(device)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well_with_everything_closed(number: signal.Signals) -> None:
    with serving() as (process, found):
        place = found["server_generator"]
        client = hislip.Instrument("127.0.0.1", port=port_of(place["hislip"]), timeout=20.0)
        client.send(b"*IDN?\n")
        line = os.open(place["pty"], os.O_RDWR | os.O_NOCTTY)
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors.decode()) == (0, "")
        os.close(line)
        client.close()
        for door in ("hislip", "socket"):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port_of(place[door])), timeout=20.0)


def test_nothing_listens_beyond_loopback() -> None:
    with serving() as (process, found):
        sockets = {
            os.readlink(entry.path).strip("socket:[]")
            for entry in os.scandir(f"/proc/{process.pid}/fd")
            if os.readlink(entry.path).startswith("socket:")
        }
        listening = []
        for family in ("tcp", "tcp6", "udp", "udp6"):
            with open(f"/proc/{process.pid}/net/{family}", encoding="ascii") as table:
                rows = [row.split() for row in table][1:]
            listening += [row[1] for row in rows if row[9] in sockets]
        addresses = {local.partition(":")[0] for local in listening}
        ports = {int(local.partition(":")[2], 16) for local in listening}
        offered = {
            port_of(o[door]) for o in found.values() for door in ("hislip", "socket") if o[door]
        }
        assert addresses == {"0100007F"}
        assert ports == offered


def test_a_completion_that_a_client_gave_up_never_answers_its_next_query(visa: Open) -> None:
    """IEEE 488.2 section 6.3.2.3, on HiSLIP: the next query waits, then gets its own reply."""
    generator = lines(visa, "client_phase", "hislip")
    generator.write("*CLS;*RST;:SOUR1:FREQ 10;:SOUR1:BURS:NCYC 5;:SOUR1:BURS:STAT ON")
    generator.write(":TRIG1:SOUR BUS;:OUTP1 ON;*TRG")
    generator.write("*OPC?")
    assert generator.query("*IDN?").startswith(GENERATOR)
    assert generator.query("SYST:ERR?").startswith("-410")
    assert generator.query("SYST:ERR?").startswith("+0")


@pytest.mark.parametrize("door", ["hislip", "socket", "pty"])
def test_half_a_million_commands_of_one_client_hold_up_neither_others_nor_the_end(
    door: str,
) -> None:
    with serving() as (process, found):
        place = found["server_generator"]
        begins, over = threading.Event(), threading.Event()
        poured = threading.Thread(target=pour, args=(place, door, begins, over), daemon=True)
        poured.start()
        # Its session is open: a server that ends before would refuse it, which is no flood.
        assert begins.wait(20.0)
        with socket.create_connection(
            ("127.0.0.1", port_of(found["monitor"]["socket"])), timeout=20.0
        ) as other:
            begun = time.monotonic()
            for _ in range(20):
                other.sendall(b"*IDN?\n")
                assert other.recv(100).startswith(b"THORLABS")
            assert time.monotonic() - begun < 5.0
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
        assert time.monotonic() - begun < 3.0
        assert process.returncode == 0
        over.set()
        poured.join(20.0)


def pour(place: dict[str, str], door: str, begins: threading.Event, over: threading.Event) -> None:
    """Send 500,000 commands, as fast as they are taken and never reading, and stay until `over`.

    `begins` is set when the session is open.
    """
    with suppress(OSError):
        if door == "pty":
            line = os.open(place["pty"], os.O_RDWR | os.O_NOCTTY)
            begins.set()
            try:
                for _ in range(500):
                    os.write(line, b"*IDN?\n" * 1000)
            finally:
                os.close(line)
        elif door == "socket":
            with socket.create_connection(("127.0.0.1", port_of(place["socket"]))) as stream:
                begins.set()
                stream.sendall(b"*IDN?\n" * 500_000)
                over.wait(20.0)
        else:
            with raw_session({"pouring": place}, "pouring") as session:
                session.synchronous.settimeout(None)
                begins.set()
                message = HEADER.pack(b"HS", DATA_END, 0, 0xFFFF_FF00, 6) + b"*IDN?\n"
                session.synchronous.sendall(message * 500_000)
                over.wait(20.0)


ENDLESS = """
from types import SimpleNamespace
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.doors.serving import serve

class Endless:
    def write(self, data, *, end):
        print("at work", flush=True)
        while True: pass
    def read(self, limit): return b"", False
    def clear(self): pass
    def status_byte(self): return 0

bench = SimpleNamespace(names={"a": ("a", "scpi")}, panels={"a": Endless()}, clock=BenchClock())
serve(bench, lambda offers: print(offers[0].socket, flush=True))
"""


def test_a_signal_ends_it_though_a_panel_never_comes_back() -> None:
    with subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            port = port_of(process.stdout.readline().decode())
            with socket.create_connection(("127.0.0.1", port), timeout=20.0) as client:
                client.sendall(b"go\n")
                assert process.stdout.readline() == b"at work\n"
                begun = time.monotonic()
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=20) == 0
                assert LAST_MOMENT_S <= time.monotonic() - begun < LAST_MOMENT_S + 2.0
        finally:
            process.kill()
