"""The DD-100-MC panel as a host sees it, line by line."""

from dataclasses import dataclass

import pytest

from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.oz_optics_dd100 import OzOpticsDD100Panel


@dataclass
class Attenuator:
    attenuation_db: float = 0.0

    def set_attenuation(self, attenuation_db: float) -> None:
        self.attenuation_db = attenuation_db

    def input_power_w(self) -> float:
        return 1e-3

    def output_power_w(self) -> float:
        return float(1e-3 / 10.0 ** (self.attenuation_db / 10.0))


class Host:
    """A host that waits for replies in steps of 10 ms of bench time, up to 30 s."""

    def __init__(self) -> None:
        self.clock, self.attenuator = BenchClock(), Attenuator()
        self.panel = OzOpticsDD100Panel("voa", self.clock, self.attenuator)

    def send(self, text: str) -> None:
        self.panel.write(text.encode("latin-1"), end=False)

    def received(self) -> str:
        text = b""
        while data := self.panel.read(1 << 16)[0]:
            text += data
        return text.decode()

    def ask(self, command: str) -> str:
        self.send(command + "\r")
        for _ in range(3000):
            text = self.received()
            if text:
                return text
            self.clock.sleep(10e-3)
        raise AssertionError(f"no reply to {command}")


@pytest.fixture
def host() -> Host:
    return Host()


def test_replies_have_exactly_the_known_lines(host: Host) -> None:
    assert host.ask("A5.00") == "Pos:500\r\nDone\r\n\r\n"
    assert host.ask("A?") == "Atten:5.00(dB)\r\nDone\r\n\r\n"
    assert host.ask("D") == "DPos:500\r\nATTEN:5.00\r\nDone\r\n\r\n"
    assert host.ask("H") == "Diff=0\r\nDone\r\n\r\n"
    assert host.ask("A?") == "Atten:0.00(dB)\r\nDone\r\n\r\n"


def test_the_configuration_has_a_line_for_each_fact(host: Host) -> None:
    host.ask("L0.75")
    lines = host.ask("CD").split("\r\n")
    assert lines[:3] == ["DD100MC", "V6.2a", "NO:303699-01"]
    assert {"MAX ATTEN:55.00", "OVERSHOOT:-30", "IL:0.75", "WAVELENGTH:1550"} < set(lines)
    assert lines[-3:] == ["Done", "", ""]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_any_line_end_will_do(host: Host, end: str) -> None:
    host.send(f"a?{end}")
    assert host.received() == "Atten:0.00(dB)\r\nDone\r\n\r\n"


@pytest.mark.parametrize(
    "command", ["A55.01", "A-1", "A", "Afoo", "A1e1", "X", "D5", "H?", "L-1", "L99", "L?", "\xff"]
)
def test_wrong_commands_are_refused(host: Host, command: str) -> None:
    assert host.ask(command) == "Error!\r\n\r\n"
    assert host.attenuator.attenuation_db == 0.0


def test_the_reply_comes_when_the_motor_stands(host: Host) -> None:
    host.send("A40\r")
    host.clock.sleep(1.0)
    assert host.received() == ""
    assert host.attenuator.attenuation_db == pytest.approx(20.0)
    host.clock.sleep(1.0)
    assert host.received() == "Pos:4000\r\nDone\r\n\r\n"
    assert host.attenuator.attenuation_db == pytest.approx(40.0)


def test_commands_wait_for_the_motor(host: Host) -> None:
    host.send("A20\rA?\rA10\r")
    host.clock.sleep(1.0)
    assert host.received() == "Pos:2000\r\nDone\r\n\r\nAtten:20.00(dB)\r\nDone\r\n\r\n"
    host.clock.sleep(0.5)
    assert host.received() == "Pos:1000\r\nDone\r\n\r\n"
    assert host.attenuator.attenuation_db == pytest.approx(10.0)


def test_attenuation_counts_from_the_insertion_loss(host: Host) -> None:
    host.ask("L1.5")
    host.ask("A11.5")
    assert host.attenuator.attenuation_db == pytest.approx(10.0)
    assert host.ask("A1") == "Error!\r\n\r\n"


def test_reset_goes_home(host: Host) -> None:
    host.ask("A30")
    assert host.ask("RST") == "Done\r\n\r\n"
    assert host.attenuator.attenuation_db == 0.0


def test_clear_drops_what_waits_but_not_the_motor(host: Host) -> None:
    host.send("A20\rD\r")
    host.panel.clear()
    host.clock.sleep(1.0)
    assert host.received() == ""
    assert host.attenuator.attenuation_db == pytest.approx(20.0)


def test_a_host_that_never_reads_does_not_fill_memory(host: Host) -> None:
    for _ in range(10_000):
        host.send("CD\r")
    assert len(host.received()) <= 1 << 16


def test_the_motor_is_moved_by_steps(host: Host) -> None:
    """The command list in the driver of Caltech Optical Observatories: S, S+, S-, F, B, S?."""
    steps = ["S800", "S+25", "S-100", "F", "B", "S?"]
    replies = [host.ask(command) for command in steps]
    assert replies == [f"Pos:{n}\r\nDone\r\n\r\n" for n in (800, 825, 725, 726, 725, 725)]
    assert host.ask("A?").startswith("Atten:7.25(dB)")


@pytest.mark.parametrize("command", ["S", "S-1", "S99999", "S1.5", "F2", "B?", "B"])
def test_a_step_that_is_none_is_refused(host: Host, command: str) -> None:
    assert host.ask(command).startswith("Error!")
    assert host.ask("S?").startswith("Pos:0")
