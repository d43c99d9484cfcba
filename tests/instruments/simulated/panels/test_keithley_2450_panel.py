"""The 2450 panel as a host sees it, with a resistor on its output."""

import pytest
from panel_host import PanelHost

from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.keithley_2450 import Keithley2450Panel


class Resistor:
    """An output with 1 kilo-ohm as its load."""

    load_ohm = 1000.0

    def __init__(self) -> None:
        self.volts = 0.0

    def force_voltage(self, on: bool, voltage_v: float, current_limit_a: float) -> None:
        largest_v = current_limit_a * self.load_ohm
        self.volts = min(max(voltage_v, -largest_v), largest_v) if on else 0.0

    def force_current(self, on: bool, current_a: float, voltage_limit_v: float) -> None:
        wanted_v = current_a * self.load_ohm
        self.volts = min(max(wanted_v, -voltage_limit_v), voltage_limit_v) if on else 0.0

    def voltage_v(self) -> float:
        return self.volts

    def current_a(self) -> float:
        return self.volts / self.load_ohm


class Host(PanelHost[Keithley2450Panel]):
    def __init__(self) -> None:
        self.clock, self.load = BenchClock(), Resistor()
        super().__init__(Keithley2450Panel("smu", self.clock, self.load, line_frequency_hz=50.0))

    def numbers(self, message: str) -> list[float]:
        return [float(field) for field in self.ask(message).split(",")]


@pytest.fixture
def host() -> Host:
    return Host()


def test_it_says_who_it_is(host: Host) -> None:
    assert host.ask("*LANG?") == "SCPI"
    assert host.ask("*IDN?") == "Keithley Instruments Inc., Model 2450, 01419964, 3.3.5"
    assert host.ask("SYST:ERR?") == '0,"No error;0;0 0"'


@pytest.mark.parametrize(
    ("setting", "reply"),
    [
        (":SOUR:FUNC CURR", "CURR"),
        (":SOUR:VOLT 1.5", "1.500000E+00"),
        (":SOUR:VOLT:LEV -2", "-2.000000E+00"),
        (":SOUR:VOLT:RANG 15", "2.000000E+01"),
        (":SOUR:VOLT:RANG:AUTO 0", "0"),
        (":SOUR:VOLT:ILIM 10 mA", "1.000000E-02"),
        (":SOUR:VOLT:DEL 0.5", "5.000000E-01"),
        (":SOUR:VOLT:DEL:AUTO 0", "0"),
        (":SOUR:CURR:LEV 5e-3", "5.000000E-03"),
        (":SOUR:CURR:VLIM 10", "1.000000E+01"),
        (":SOUR1:CURR:RANG 1", "1.000000E+00"),
        (":SENS:FUNC 'VOLT'", '"VOLT:DC"'),
        (':SENS:FUNC "CURR:DC"', '"CURR:DC"'),
        (":SENS:FUNC 'RES'", '"RES"'),
        (":SENS:CURR:NPLC 10", "1.000000E+01"),
        (":SENS:CURR:RANG 5e-3", "1.000000E-02"),
        (":SENS:CURR:RANG:AUTO 0", "0"),
        (":SENS:VOLT:RANG 2", "2.000000E+00"),
        (":SENS:RES:RSEN 1", "1"),
        (":SENS:COUN 5", "5"),
        ("OUTP:STAT ON", "1"),
        ("OUTPUT 0", "0"),
        (":TRAC:POIN 1000", "1000"),
        (":ROUT:TERM REAR", "REAR"),
    ],
)
def test_settings_are_read_back(host: Host, setting: str, reply: str) -> None:
    host.send(setting)
    assert host.ask(setting.partition(" ")[0] + "?") == reply
    assert host.errors() == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (":SOUR:VOLT 211", -222),
        (":SOUR:CURR 1.1", -222),
        (":SOUR:VOLT", -109),
        (":SOUR2:VOLT 1", -114),
        (":SOUR:VOLT:RANG 2;:SOUR:VOLT 3", -222),
        (":SOUR:FUNC RES", -224),
        (":SENS:FUNC 'POW'", -224),
        (":SENS:CURR:NPLC 11", -222),
        (":TRAC:DATA? 1,1,'defbuffer1'", -222),
        (":TRAC:DATA?", -109),
        (":READ? 'mybuffer'", -224),
        (":TRAC:POIN 5", -222),
        ("OUTP PERHAPS", -104),
        (":SYST:BEEP 1000", -109),
    ],
)
def test_wrong_messages_are_reported(host: Host, message: str, code: int) -> None:
    host.send(message)
    assert host.errors() == [code]


def test_it_sources_a_voltage_and_reads_the_current(host: Host) -> None:
    host.send(":SOUR:FUNC VOLT", ":SENS:FUNC 'CURR'", ":SOUR:VOLT:ILIM 0.1", ":SOUR:VOLT 2")
    assert host.numbers(":READ?") == [0.0]
    host.send("OUTP ON")
    assert host.numbers(":READ?") == [2e-3]
    assert host.ask(":SENS:CURR:RANG?") == "1.000000E-02"
    assert host.ask(":SOUR:VOLT:ILIM:TRIP?") == "0"


def test_compliance_holds_the_voltage_down(host: Host) -> None:
    host.send(":SOUR:VOLT:ILIM 1e-3", ":SOUR:VOLT 5", ":SENS:FUNC 'VOLT'", "OUTP ON")
    assert host.numbers(":READ?") == [1.0]
    assert host.ask(":SOUR:VOLT:ILIM:TRIP?") == "1"


def test_it_sources_a_current_and_reads_voltage_and_resistance(host: Host) -> None:
    host.send(":SOUR:FUNC CURR", ":SOUR:CURR:VLIM 4", ":SOUR:CURR 3e-3", "OUTP ON")
    host.send(":SENS:FUNC 'VOLT'")
    assert host.numbers(":READ?") == [3.0]
    host.send(":SENS:FUNC 'RES'")
    assert host.numbers(":READ?") == [1000.0]
    host.send(":SOUR:CURR 5e-3", ":SENS:FUNC 'VOLT'")
    assert host.numbers(":READ?") == [4.0]
    assert host.ask(":SOUR:CURR:VLIM:TRIP?") == "1"


def test_a_fixed_measure_range_overflows(host: Host) -> None:
    host.send(":SOUR:VOLT:ILIM 1", ":SOUR:VOLT 2", "OUTP ON", ":SENS:CURR:RANG 1e-3")
    assert host.numbers(":READ?") == [9.9e37]
    host.send(":SENS:FUNC 'RES'", "OUTP OFF")
    assert host.numbers(":READ?") == [9.9e37]


def test_a_reading_takes_delay_and_power_line_cycles(host: Host) -> None:
    host.send(":SOUR:VOLT:DEL 0.5", ":SENS:CURR:NPLC 5", "OUTP ON")
    host.ask(":READ?")
    assert host.clock.now_s() == pytest.approx(0.6)
    host.ask(":READ?")
    assert host.clock.now_s() == pytest.approx(0.7)


def test_readings_are_kept_in_the_buffer(host: Host) -> None:
    host.send(":SOUR:VOLT:ILIM 1", "OUTP ON")
    for volts in (1, 2, 3):
        host.send(f":SOUR:VOLT {volts}")
        host.ask(":READ? 'defbuffer1'")
    assert host.ask(":TRAC:ACT?") == "3"
    assert host.numbers(":TRAC:DATA? 1,3,'defbuffer1'") == [1e-3, 2e-3, 3e-3]
    assert host.numbers(":TRAC:DATA? 2,2,'defbuffer1',READ,SOUR") == [2e-3, 2.0]
    assert host.numbers(":TRAC:DATA? 1,1,'defbuffer1',REL") == [0.0]
    host.send(":TRAC:CLE 'defbuffer1'")
    assert host.ask(":TRAC:ACT? 'defbuffer1'") == "0"


def test_a_count_of_measurements_fills_the_buffer(host: Host) -> None:
    host.send(":SENS:COUN 10")
    host.ask(":READ?")
    assert len(host.numbers(":TRAC:DATA? 1,10,'defbuffer1'")) == 10
    host.send(":TRAC:POIN 10")
    host.ask(":READ?")
    host.ask(":READ?")
    assert host.ask(":TRAC:ACT?") == "10"


def test_reset_switches_off(host: Host) -> None:
    host.send(":SOUR:VOLT 1", "OUTP ON", "*RST")
    assert host.ask("OUTP?;:SOUR:VOLT?") == "0;0.000000E+00"
    assert host.load.volts == 0.0


@pytest.mark.parametrize(
    ("setting", "reply"),
    [
        (":SENS:CURR:AVER ON", "1"),
        (":SENS:CURR:AVER:COUN 20", "20"),
        (":SENS:VOLT:AVER:TCON MOV", "MOV"),
        (":SENSe:resistance:AZERo 0", "0"),
        (":SOURce:voltage:READ:BACK 0", "0"),
        (":OUTP:VOLT:SMOD HIMP", "HIMP"),
        (":SENSe:current:DELay:USER2 0.5", "5.000000E-01"),
        (":SOURce:voltage:DELay:USER5 1", "1.000000E+00"),
    ],
)
def test_further_settings_are_read_back(host: Host, setting: str, reply: str) -> None:
    host.send(setting)
    assert host.ask(setting.partition(" ")[0] + "?") == reply
    assert host.errors() == []


def test_a_filter_averages_and_takes_its_time(host: Host) -> None:
    host.send(":SOUR:VOLT 1", ":OUTP ON", ":SENS:CURR:NPLC 1")
    host.ask(":READ?")
    host.send(":SENS:CURR:AVER:COUN 5", ":SENS:CURR:AVER ON")
    start_s = host.clock.now_s()
    host.ask(":READ?")
    assert host.clock.now_s() - start_s == pytest.approx(5 / 50.0)


def test_a_buffer_of_ones_own_is_filled_read_computed_from_and_deleted(host: Host) -> None:
    host.send(
        ":TRAC:MAKE 'mine', 20, COMPact",
        ":SOUR:VOLT:ILIM 1",
        ":SOUR:VOLT 1",
        ":OUTP ON",
        ":SENS:COUN 3",
    )
    host.send(":TRAC:TRIG 'mine'")
    assert host.ask(":TRAC:POIN? 'mine'") == "20"
    assert host.ask(":TRAC:ACT? 'mine'") == "3"
    readings = host.numbers(":TRAC:DATA? 1, 3, 'mine', READ, SOUR, SEC, FRAC")
    assert len(readings) == 12
    assert host.numbers(":FETC? 'mine', SOUR, READ") == pytest.approx([1.0, readings[-4]])
    for name, value in (("AVER", readings[0]), ("MAX", readings[0]), ("STDD", 0.0)):
        assert host.numbers(f":TRAC:STAT:{name}? 'mine'") == pytest.approx([value], abs=1e-12)
    host.send(":TRAC:DEL 'mine'", ":TRAC:ACT? 'mine'", ":TRAC:DEL 'defbuffer1'")
    assert host.errors() == [-224, -224]


@pytest.mark.parametrize(
    ("command", "levels"),
    [
        ("LINear 0,1,5", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("LINear:STEP 1,0,0.5", [1.0, 0.5, 0.0]),
        ("LOG 0.01,1,3", [0.01, 0.1, 1.0]),
        ("LINear 0,1,2,0.1,2,BEST,OFF,ON", [0.0, 1.0, 1.0, 0.0] * 2),
    ],
)
def test_a_sweep_reads_at_every_level(host: Host, command: str, levels: list[float]) -> None:
    host.send(":SOUR:VOLT:ILIM 1", f":SOURce:SWEep:voltage:{command}", ":INITiate", "*WAI")
    assert host.ask(":OUTP?") == "0"
    fields = host.numbers(f":TRAC:DATA? 1, {len(levels)}, 'defbuffer1', SOUR, READ")
    assert fields[::2] == pytest.approx(levels)
    assert fields[1::2] == pytest.approx([level / host.load.load_ohm for level in levels])


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (":INIT", -221),
        (":SOUR:SWE:VOLT:LIN 0,1", -109),
        (":SOUR:SWE:VOLT:LIN 0,1,1", -222),
        (":SOUR:SWE:VOLT:LIN:STEP 0,1,0", -222),
        (":SOUR:SWE:VOLT:LIN:STEP 0,1,1E-12", -222),
        (":SOUR:SWE:VOLT:LOG -1,1,3", -222),
        (":SOUR:SWE:VOLT:LIN 0,1,3,0,0", -221),
        (":SOUR:SWE:VOLT:LIN 0,1,3,0,1,BEST,ON,OFF,'none'", -224),
        (":TRAC:MAKE 'defbuffer1', 20", -224),
        (":FETC?", -230),
        (":TRAC:STAT:AVER?", -230),
        (":SENS:CURR:DEL:USER6 1", -114),
    ],
)
def test_wrong_sweeps_and_buffers_are_reported(host: Host, message: str, code: int) -> None:
    host.send(message)
    assert host.errors() == [code]
