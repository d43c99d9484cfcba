"""The Q8iv panel as a host sees it, with a resistor on each channel."""

import pytest

from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.qontrol_q8iv import QontrolQ8ivPanel


class Resistor:
    """An output with 1 kilo-ohm as its load."""

    def __init__(self) -> None:
        self.volts, self.load_ohm = 0.0, 1000.0

    def force_voltage(self, on: bool, voltage_v: float, current_limit_a: float) -> None:
        self.volts = min(voltage_v, current_limit_a * self.load_ohm) if on else 0.0

    def force_current(self, on: bool, current_a: float, voltage_limit_v: float) -> None:
        self.volts = min(current_a * self.load_ohm, voltage_limit_v) if on else 0.0

    def voltage_v(self) -> float:
        return self.volts

    def current_a(self) -> float:
        return self.volts / self.load_ohm


class Host:
    def __init__(self) -> None:
        self.loads = {n: Resistor() for n in range(8)}
        self.panel = QontrolQ8ivPanel("bias", BenchClock(), self.loads)

    def lines(self) -> list[str]:
        text = b""
        while data := self.panel.read(1 << 16)[0]:
            text += data
        return text.decode().split("\n")[:-1]

    def ask(self, command: str) -> list[str]:
        self.panel.write(command.encode("latin-1") + b"\n", end=False)
        return self.lines()


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        ("id?", ["Q8iv-0123"]),
        ("nup=0", ["OK"]),
        ("nup?", ["Q8iv-0123 : 0"]),
        ("nupall?", ["Q8iv-0123 : 0"]),
        ("nchan?", ["8"]),
        ("vfull?", ["+12.000 V"]),
        ("ifull?", ["+24.000 mA"]),
        ("Vall?", ["+0.000 V"] * 8),
        ("Iall?", ["+0.000 mA"] * 8),
        ("VMAX3?", ["+12.000 V"]),
        ("IMAX3?", ["+24.000 mA"]),
    ],
)
def test_queries_are_answered(host: Host, command: str, lines: list[str]) -> None:
    assert host.ask(command) == lines


@pytest.mark.parametrize(
    ("command", "query", "reply"),
    [
        ("V2=3.3", "V2?", "+3.300 V"),
        ("v7=12", "I7?", "+12.000 mA"),
        ("I2=1", "I2?", "+1.000 mA"),
        ("I0=5.5", "V0?", "+5.500 V"),
        ("VMAX1=5", "VMAX1?", "+5.000 V"),
        ("IMAX1=2.5", "IMAX1?", "+2.500 mA"),
    ],
)
def test_settings_are_read_back(host: Host, command: str, query: str, reply: str) -> None:
    assert host.ask(command) == ["OK"]
    assert host.ask(query) == [reply]


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("hello", "E10:00"),
        ("X2=1", "E10:00"),
        ("id3?", "E10:00"),
        ("V2=", "E11:02"),
        ("V2=abc", "E11:02"),
        ("V2=12.1", "E11:02"),
        ("V2=-1", "E11:02"),
        ("V2=1e999", "E11:02"),
        ("I2=24.1", "E11:02"),
        ("V8=1", "E12:08"),
        ("V?", "E12:00"),
        ("nchan=4", "E13:00"),
        ("VVEC0=1,2,3,4,5,6,7,8,9", "E11:00"),
        ("VVEC0=1,2,x", "E11:02"),
        ("VVEC9=1", "E12:09"),
        ("\xa4\x01", "E10:00"),
        ("V2=" + "1" * 5000, "E10:00"),
    ],
)
def test_wrong_lines_have_an_error_line(host: Host, command: str, line: str) -> None:
    assert host.ask(command) == [line]


def test_a_vector_sets_all_channels_or_none(host: Host) -> None:
    assert host.ask("VVEC0=1,2,3,4,5,6,7,8") == ["OK"]
    assert host.ask("Vall?") == [f"+{n}.000 V" for n in range(1, 9)]
    host.ask("VVEC0=0,0,99")
    assert host.ask("V0?") == ["+1.000 V"]


def test_a_load_that_draws_too_much_makes_an_error_line_by_itself(host: Host) -> None:
    host.ask("IMAX4=2")
    assert host.ask("V4=5") == ["OK", "E02:04"]
    assert host.ask("V4?") == ["+2.000 V"]
    assert host.ask("V4=1") == ["OK"]
    assert host.ask("V4=5") == ["OK", "E02:04"]


def test_a_current_that_needs_too_much_voltage_does_so_too(host: Host) -> None:
    host.ask("VMAX4=3")
    assert host.ask("I4=5") == ["OK", "E01:04"]
    assert host.ask("I4?") == ["+3.000 mA"]


def test_a_voltage_above_its_limit_stops_there(host: Host) -> None:
    assert host.ask("V1=10") == ["OK"]
    assert host.ask("VMAX1=4") == ["OK", "E01:01"]
    assert host.ask("V1?") == ["+4.000 V"]


def test_a_load_that_fails_later_is_noticed_at_the_next_read(host: Host) -> None:
    host.ask("V3=10")
    host.loads[3].volts = 1.0
    assert host.lines() == ["E02:03"]
    assert host.lines() == []


def test_clear_drops_what_waits(host: Host) -> None:
    host.panel.write(b"id?\nV1", end=False)
    host.panel.clear()
    assert host.ask("nchan?") == ["8"]


@pytest.mark.parametrize(
    ("command", "query", "replies"),
    [
        ("IVEC0=1,2", "Iall?", ["+1.000 mA", "+2.000 mA", *["+0.000 mA"] * 6]),
        ("VMAXVEC6=5,6", "VMAX7?", ["+6.000 V"]),
        ("IMAXVEC6=5,6", "IMAX6?", ["+5.000 mA"]),
    ],
)
def test_every_setting_has_a_vector(
    host: Host, command: str, query: str, replies: list[str]
) -> None:
    """The vendor's library sends `<parameter>VEC` for the one that is set for all channels."""
    assert host.ask(command) == ["OK"]
    assert host.ask(query) == replies


def frame(header: int, command: int, channel: int, *words: int) -> bytes:
    """A frame as the vendor's library composes it: even parity, address and words big-endian."""
    head = 0x80 | header
    head |= head.bit_count() % 2
    pairs = b"".join(word.to_bytes(2, "big") for word in words)
    return bytes((head, command, 0)) + channel.to_bytes(2, "big") + pairs


@pytest.mark.parametrize(
    ("data", "replies"),
    [
        (frame(0, 0x00, 3, 0x8000), ["OK"]),
        (frame(0x08, 0x00, 3, 0), ["+0.000 V"]),
        (frame(0x28, 0x01, 0, 0), ["+0.000 mA"] * 8),
        (frame(0x08, 0x20, 0, 0), ["+12.000 V"]),
        (frame(0x08, 0x22, 0, 0), ["8"]),
        (frame(0x02, 0x00, 0, 2, 0x1000, 0x0A0D), ["OK"]),
        (frame(0, 0x00, 9, 1), ["E12:09"]),
        (frame(0x40, 0x00, 0, 1), ["E10:00"]),
        (frame(0, 0x20, 0, 1), ["E10:00"]),
        (frame(0, 0x7F, 0, 1), ["E10:00"]),
        (frame(0x02, 0x00, 0, 0xFFFF), ["E11:00"]),
    ],
)
def test_binary_frames_are_answered_in_text(host: Host, data: bytes, replies: list[str]) -> None:
    host.panel.write(data, end=False)
    assert host.lines() == replies
    assert host.ask("id?") == ["Q8iv-0123"]


def test_a_binary_value_is_a_part_of_the_full_scale(host: Host) -> None:
    for byte in frame(0x02, 0x00, 0, 2, 0xFFFF, 0x8000):
        host.panel.write(bytes((byte,)), end=False)
    assert host.lines() == ["OK"]
    assert [host.loads[n].volts for n in (0, 1)] == pytest.approx([12.0, 6.0], abs=1e-3)


def test_half_a_frame_is_forgotten_when_cleared(host: Host) -> None:
    host.panel.write(frame(0, 0x00, 3, 1)[:4], end=False)
    host.panel.clear()
    assert host.ask("id?") == ["Q8iv-0123"]
