"""Served doors in trouble: odd messages, hosts that hang up, serial lines, signals."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest
import serial
from door_sessions import (
    DATA,
    DATA_END,
    ERROR,
    GENERATOR,
    HEADER,
    SCOPE,
    Offers,
    Open,
    lines,
    port_of,
    raw_session,
    serving,
)
from pyvisa_py.protocols import hislip  # type: ignore[import-untyped]  # it ships no types

from labctl.instruments.codecs.itla import Reply, Request, Status
from labctl.instruments.simulated.doors.serving import LAST_MOMENT_S


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

panels = {"a": Endless()}
bench = SimpleNamespace(names={"a": ("a", "scpi")}, panels=panels, clock=BenchClock(), doors={})
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
