"""A served bench from outside: `labctl sim serve` in its own process, public clients against it."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import numpy as np
import pytest
import pyvisa
from door_sessions import (
    DATA,
    DATA_END,
    FATAL,
    GENERATOR,
    SCOPE,
    Offers,
    Open,
    lines,
    port_of,
    raw_session,
)
from pyvisa.constants import StatusCode
from pyvisa.resources import MessageBasedResource
from pyvisa_py.protocols import hislip  # type: ignore[import-untyped]  # it ships no types


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
