"""Opening over a real byte stream: who answers is checked, and nothing stays open after a no."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from labctl.errors import InstrumentReportedError, ReplyError, SettingError
from labctl.instruments.capabilities import BiasPoint
from labctl.instruments.codecs.itla import Reply, Request, Status
from labctl.instruments.generators.keysight_33512b import Keysight33512BOptions
from labctl.instruments.lasers.purephotonics_ppcl550 import PurePhotonicsPPCL550
from labctl.instruments.modulators.thorlabs_mx10b import ThorlabsMX10B
from labctl.instruments.power_meters.thorlabs_pm100d import ThorlabsPM100D
from labctl.instruments.transports.opening import read_options

Send = Callable[[bytes], None]
Peers = Callable[[Callable[[bytes, Send], None]], Any]


def meter_named(model: str) -> Callable[[bytes, Send], None]:
    def handle(line: bytes, send: Send) -> None:
        if line == b"*IDN?\n":
            send(f"THORLABS,{model},P0000001,2.7.0\n".encode())
        elif line == b"SYST:ERR?\n":
            send(b'+0,"No error"\n')
        elif line == b"SENS:POW:UNIT?;:MEAS:POW?\n":
            send(b"W;1.5E-03\n")

    return handle


def test_a_scpi_instrument_is_opened_and_asked(socket_peer: Peers) -> None:
    peer = socket_peer(meter_named("PM100D"))
    meter = ThorlabsPM100D.open("tap", peer.address, library="@py", options={"timeout_s": 5})
    assert meter.name == "tap"
    assert meter.power_w() == 1.5e-3
    meter.close()


def test_the_wrong_instrument_is_named_and_its_connection_closed(socket_peer: Peers) -> None:
    heard: list[bytes] = []

    def handle(line: bytes, send: Send) -> None:
        heard.append(line)
        meter_named("PM400")(line, send)

    peer = socket_peer(handle)
    with pytest.raises(ReplyError, match=r"tap: expected a PM100D, got 'THORLABS,PM400"):
        ThorlabsPM100D.open("tap", peer.address, library="@py", options={})
    assert heard == [b"*CLS\n", b"*IDN?\n"]
    peer.wait_until_left()


@pytest.mark.parametrize("acknowledges", [False, True])
def test_a_box_that_acknowledges_or_not_is_understood(
    terminal_peer: Peers, acknowledges: bool
) -> None:
    answers = {b"SYS:MODEL?": b"MX10B", b"SYS:SER?": b"M1", b"SYS:FIRM?": b"1", b"MZM:CAL?": b"0"}
    polls = [b"1", b"0", b"0"]
    pending = bytearray()

    def handle(data: bytes, send: Send) -> None:
        pending.extend(data)
        while b"\n" in pending:
            line, _, rest = bytes(pending).partition(b"\n")
            pending[:] = rest
            if line == b"MZM:SET?":
                send(polls.pop() + b"\r\n")
            elif line == b"MZM:HOLD:V: 9999":
                send(b"Err: Data out of range\r\n")
            elif line in answers:
                send(answers[line] + b"\r\n")
            elif acknowledges:
                send(b"1\r\n")

    peer = terminal_peer(handle)
    box = ThorlabsMX10B.open("bias", peer.address, library="@py", options={})
    box.lock(BiasPoint.NULL)
    assert polls == []
    with pytest.raises(InstrumentReportedError, match="Data out of range"):
        box.hold_voltage(9.999)
    assert box.identify().serial == "M1"
    box.close()


def test_a_laser_is_opened_over_a_serial_line(terminal_peer: Peers) -> None:
    texts = {2: b"Pure Photonics\0\0", 3: b"PPCL550\0", 4: b"\x0a1", 6: b"X\0"}
    held = bytearray()
    words: list[int] = []

    def answer(request: Request) -> Reply:
        if request.register == 0x0B:
            return Reply(0x0B, words.pop(0))
        text = texts[request.register]
        words[:] = [int.from_bytes(text[i : i + 2], "big") for i in range(0, len(text), 2)]
        return Reply(request.register, len(text), Status.AEA)

    def handle(data: bytes, send: Send) -> None:
        held.extend(data)
        while len(held) >= 4:
            send(answer(Request.decode(bytes(held[:4]))).encode())
            del held[:4]

    peer = terminal_peer(handle)
    laser = PurePhotonicsPPCL550.open("lo", peer.address, library="@py", options={})
    assert laser.identify().model == "PPCL550"
    laser.close()


@pytest.mark.parametrize("value", [0.5, float("nan"), "50"])
def test_a_wrong_load_is_named(value: object) -> None:
    with pytest.raises(SettingError, match="awg option load_ohm = "):
        read_options(Keysight33512BOptions, "awg", {"load_ohm": value})


def test_high_impedance_is_an_infinite_load() -> None:
    options = read_options(Keysight33512BOptions, "awg", {"load_ohm": float("inf")})
    assert options.load_ohm == float("inf")
