"""The E36312A panel as a host sees it, with a resistor on each output."""

from dataclasses import dataclass

import pytest
from panel_host import PanelHost

from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.keysight_e36312a import KeysightE36312APanel


@dataclass
class Resistor:
    """An output with a resistor as its load."""

    load_ohm: float
    on: bool = False
    set_v: float = 0.0
    limit_a: float = 0.0

    def force_voltage(self, on: bool, voltage_v: float, current_limit_a: float) -> None:
        self.on, self.set_v, self.limit_a = on, voltage_v, current_limit_a

    def force_current(self, on: bool, current_a: float, voltage_limit_v: float) -> None:
        raise AssertionError("the supply holds voltages")

    def voltage_v(self) -> float:
        return min(self.set_v, self.limit_a * self.load_ohm) if self.on else 0.0

    def current_a(self) -> float:
        return self.voltage_v() / self.load_ohm


class Host(PanelHost[KeysightE36312APanel]):
    def __init__(self) -> None:
        self.clock = BenchClock()
        self.loads = {1: Resistor(10.0), 2: Resistor(100.0), 3: Resistor(1000.0)}
        super().__init__(KeysightE36312APanel("supply", self.clock, self.loads))


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.mark.parametrize(
    ("setting", "query", "reply"),
    [
        ("VOLT 2, (@1)", "VOLT? (@1)", "+2.00000000E+00"),
        ("VOLT 500 mV,(@2)", "SOUR:VOLT:LEV:IMM:AMPL? (@2)", "+5.00000000E-01"),
        ("VOLT 1, (@1,3)", "VOLT? (@1,2,3)", "+1.00000000E+00,+0.00000000E+00,+1.00000000E+00"),
        ("VOLT 1, (@2:3)", "VOLT? (@3:2)", "+1.00000000E+00,+1.00000000E+00"),
        ("VOLT 3", "VOLT?", "+3.00000000E+00"),
        ("CURR 0.5, (@2)", "CURR? (@2)", "+5.00000000E-01"),
        ("CURR MAX, (@1)", "CURR? (@1)", "+5.00000000E+00"),
        ("OUTPut 1, (@3)", "OUTP:STAT? (@1,3)", "0,1"),
    ],
)
def test_settings_are_read_back(host: Host, setting: str, query: str, reply: str) -> None:
    host.send(setting)
    assert host.ask(query) == reply
    assert host.errors() == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("VOLT 7, (@1)", -222),
        ("VOLT 20, (@2,1)", -222),
        ("CURR 2, (@2)", -222),
        ("VOLT -1, (@1)", -222),
        ("VOLT 1, (@4)", -222),
        ("VOLT 1, (1)", -102),
        ("VOLT 1, (@A)", -102),
        ("VOLT 1, 2", -108),
        ("VOLT", -109),
        ("VOLT (@1)", -109),
        ("VOLT 1 A, (@1)", -131),
        ("MEAS:VOLT? 1", -108),
        ("OUTP MAYBE, (@1)", -104),
    ],
)
def test_wrong_messages_are_reported(host: Host, message: str, code: int) -> None:
    host.send(message)
    assert host.errors() == [code]


def test_a_list_with_one_bad_value_sets_nothing(host: Host) -> None:
    host.send("VOLT 20, (@2,1)")
    assert host.ask("VOLT? (@2)") == "+0.00000000E+00"


def test_limits_are_those_of_each_output(host: Host) -> None:
    assert host.ask("VOLT? MAX, (@1,2)") == "+6.00000000E+00,+2.50000000E+01"


def test_measurements_are_those_of_the_load(host: Host) -> None:
    host.send("VOLT 2, (@1)", "OUTP ON, (@1)")
    assert host.ask("MEASure:VOLTage? (@1)") == "+2.00000000E+00"
    assert host.ask("MEAS:CURR? (@1,2)") == "+2.00000000E-01,+0.00000000E+00"
    assert host.clock.now_s() == pytest.approx(0.06)


def test_the_current_limit_holds_the_voltage_down(host: Host) -> None:
    host.send("VOLT 5, (@1)", "CURR 0.1, (@1)", "OUTP ON, (@1)")
    assert host.ask("MEAS:VOLT? (@1)") == "+1.00000000E+00"


def test_reset_switches_off(host: Host) -> None:
    host.send("VOLT 5, (@1)", "OUTP ON, (@1)", "*RST")
    assert host.ask("OUTP? (@1);VOLT? (@1)") == "0;+0.00000000E+00"
    assert host.loads[1].on is False
