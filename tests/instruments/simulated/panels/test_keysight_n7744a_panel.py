"""The N7744A panel as a host sees it: photocurrents in, powers and logs out."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from panel_host import PanelHost

from labctl.instruments.codecs.ieee488 import decode_block
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.keysight_n7744a import KeysightN7744APanel


@dataclass
class Sensor:
    """A head whose responsivity is 1 A/W at 1550 nm and falls in proportion to wavelength."""

    power_w: float = 1e-3
    dark_a: float = 0.0
    averaging_s: list[float] = field(default_factory=list)

    def photocurrent_a(self, averaging_s: float) -> float:
        self.averaging_s.append(averaging_s)
        return self.power_w + self.dark_a

    def responsivity_a_w(self, wavelength_m: float) -> float:
        return wavelength_m / 1550e-9


class Cable:
    def __init__(self) -> None:
        self.listeners: list[Callable[[float], None]] = []

    def fire(self) -> None:
        raise AssertionError("the meter only listens")

    def listen(self, callback: Callable[[float], None]) -> None:
        self.listeners.append(callback)


class Host(PanelHost[KeysightN7744APanel]):
    def __init__(self) -> None:
        self.clock, self.cable = BenchClock(), Cable()
        self.sensors = {n: Sensor(n * 1e-3) for n in (1, 2, 3, 4)}
        super().__init__(KeysightN7744APanel("meter", self.clock, self.sensors, self.cable))

    def log(self, message: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return np.frombuffer(decode_block(self.query(message)), "<f4")

    def trigger(self) -> None:
        for listener in self.cable.listeners:
            listener(self.clock.now_s())


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.mark.parametrize(
    ("setting", "reply"),
    [
        ("SENS2:POW:WAV 1550.000000 nm", "+1.55000000E-006"),
        ("sens2:chan1:pow:wav 1.31e-6", "+1.31000000E-006"),
        ("SENS2:POW:UNIT 1", "+1"),
        ("SENS2:POW:UNIT DBM", "+0"),
        ("SENS2:POW:ATIM 0.100000 s", "+1.00000000E-001"),
        ("SENS2:POW:ATIME 200 US", "+2.00000000E-004"),
        ("SENS2:POW:RANG -10", "-1.00000000E+001"),
        ("SENS2:POW:RANG -14 DBM", "-1.00000000E+001"),
        ("SENS2:POW:RANG:AUTO 0", "0"),
        ("SENS2:POW:GAIN:AUTO 0", "0"),
        ("SENS2:POW:REF:STAT 1", "1"),
        ("SENS2:POW:REF:STAT:RAT TOREF,0", "TOREF,+0"),
        ("SENS2:POW:REF:STAT:RAT 1,1", "+1,+1"),
        ("TRIG2:INP SME", "SME"),
        ("TRIG2:CHAN1:INP CME", "CME"),
        ("TRIG2:OUTP DIS", "DIS"),
        ("INIT2:CONT 0", "0"),
        ("SENS2:FUNC:PAR:LOGG 500, 1 ms", "+500,+1.00000000E-003"),
    ],
)
def test_settings_are_read_back(host: Host, setting: str, reply: str) -> None:
    host.send(setting)
    assert host.ask(setting.partition(" ")[0] + "?") == reply
    assert host.errors() == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("SENS5:POW:WAV 1550nm", -114),
        ("SENS1:CHAN2:POW:UNIT 0", -114),
        ("SENS1:POW:WAV 1000nm", -222),
        ("SENS1:POW:WAV 1550 s", -131),
        ("SENS1:POW:WAV", -109),
        ("SENS1:POW:ATIM 0", -222),
        ("SENS1:POW:RANG 20", -222),
        ("SENS1:POW:REF TOREF", -109),
        ("SENS1:POW:REF TOREF,0 W", -222),
        ("SENS1:POW:REF? TOSELF", -224),
        ("SENS1:POW:REF:STAT:RAT 9,1", -222),
        ("TRIG1:INP NOW", -224),
        ("SENS1:FUNC:PAR:LOGG 0,1ms", -222),
        ("SENS1:FUNC:PAR:LOGG 10", -109),
        ("SENS1:FUNC:STAT LOGG", -109),
        ("SENS1:FUNC:STAT LOGG,GO", -224),
        ("SENS1:FUNC:RES?", -230),
        ("INIT1:CONT 0;:FETC1:POW?", -230),
        ("READ7:POW?", -114),
    ],
)
def test_wrong_messages_are_reported(host: Host, message: str, code: int) -> None:
    host.send(message)
    assert host.errors() == [code]


def test_power_is_current_over_responsivity(host: Host) -> None:
    host.send("SENS2:POW:UNIT W")
    assert host.ask("READ2:POW?") == "+2.00000000E-003"
    host.send("SENS2:POW:WAV 1310nm")
    assert host.number("READ2:CHAN1:POW?") == pytest.approx(2e-3 * 1550 / 1310)
    host.send("SENS2:POW:UNIT 0", "SENS2:POW:WAV 1550nm")
    assert host.number("FETC2:POW?") == pytest.approx(3.0103, abs=1e-4)


def test_a_reading_takes_its_averaging_time(host: Host) -> None:
    host.send("SENS1:POW:ATIM 2")
    host.ask("READ1:POW?")
    assert host.clock.now_s() == pytest.approx(2.0)
    assert host.sensors[1].averaging_s == [2.0]


def test_a_fetch_repeats_the_last_reading_unless_continuous(host: Host) -> None:
    host.send("SENS1:POW:UNIT W", "INIT1:CONT 0", "INIT1")
    host.sensors[1].power_w = 5e-3
    assert host.number("FETC1:POW?") == pytest.approx(1e-3)
    host.send("INIT1:CONT 1")
    assert host.number("FETC1:POW?") == pytest.approx(5e-3)


def test_darkness_and_overloads_are_infinite(host: Host) -> None:
    host.send("SENS1:POW:RANG -20")
    assert host.ask("READ1:POW?") == "+9.90000000E+037"
    host.sensors[1].power_w = 0.0
    assert host.ask("READ1:POW?") == "-9.90000000E+037"
    host.sensors[2].power_w = 1.0
    assert host.ask("READ2:POW?") == "+9.90000000E+037"


def test_auto_range_follows_the_power(host: Host) -> None:
    for power_w, range_dbm in ((1e-3, 0.0), (5e-3, 10.0), (1e-7, -30.0), (1e-5, -20.0)):
        host.sensors[1].power_w = power_w
        host.ask("READ1:POW?")
        assert host.number("SENS1:POW:RANG?") == range_dbm


def test_powers_can_be_relative_to_a_reference(host: Host) -> None:
    host.send("SENS2:POW:REF TOREF,0.5 mW", "SENS2:POW:REF:STAT 1")
    assert host.number("READ2:POW?") == pytest.approx(6.0206, abs=1e-4)
    assert host.number("SENS2:POW:REF? TOREF") == pytest.approx(-3.0103, abs=1e-4)
    host.send("SENS2:POW:UNIT W")
    assert host.number("READ2:POW?") == pytest.approx(4.0)
    host.send("SENS2:POW:REF:DISP")
    assert host.number("READ2:POW?") == pytest.approx(1.0)


def test_powers_can_be_relative_to_another_port(host: Host) -> None:
    host.send("SENS2:POW:REF:STAT 1", "SENS2:POW:REF:STAT:RAT 4,1")
    assert host.number("READ2:POW?") == pytest.approx(-3.0103, abs=1e-4)
    host.send("SENS2:POW:REF TOMOD,-10 DB")
    assert host.number("READ2:POW?") == pytest.approx(6.9897, abs=1e-4)
    assert host.number("SENS2:POW:REF? TOMOD") == -10.0


def test_zeroing_takes_the_dark_current_away(host: Host) -> None:
    host.sensors[1].power_w, host.sensors[1].dark_a = 0.0, 1e-9
    host.send("SENS1:CORR:COLL:ZERO", "*OPC?")
    assert host.panel.read(10) == (b"", False)
    host.clock.sleep(1.0)
    assert host.panel.read(10) == (b"1\n", True)
    host.sensors[1].power_w = 1e-6
    host.send("SENS1:POW:UNIT W")
    assert host.number("READ1:POW?") == pytest.approx(1e-6)
    assert host.ask("SENS1:CORR:COLL:ZERO?") == "+0"
    assert host.ask("SENS1:CHAN1:CORR:COLL:ZERO:ALL?") == "+0"


def test_a_log_takes_points_times_averaging(host: Host) -> None:
    host.send("SENS3:POW:UNIT 1", "SENS3:FUNC:PAR:LOGG 10,100ms", "SENS3:FUNC:STAT LOGG, STAR")
    host.clock.sleep(0.55)
    assert host.ask("SENS3:FUNC:STAT?") == "LOGGING_STABILITY,PROGRESS"
    host.send("SENS3:FUNC:RES?")
    assert host.errors() == [-230]
    host.sensors[3].power_w = 1e-3
    host.clock.sleep(0.5)
    assert host.ask("SENS3:FUNC:STAT?") == "LOGGING_STABILITY,COMPLETE"
    np.testing.assert_allclose(host.log("SENS3:FUNC:RES?"), [3e-3] * 5 + [1e-3] * 5)
    np.testing.assert_allclose(host.log("SENS3:FUNC:RES:BLOC? 4,2"), [3e-3, 1e-3])
    host.send("SENS3:FUNC:STAT LOGG,STOP")
    assert host.ask("SENS3:FUNC:STAT?").startswith("NONE,")


def test_a_log_in_dbm_has_dbm(host: Host) -> None:
    host.send("SENS1:FUNC:PAR:LOGG 3,1ms", "SENS1:FUNC:STAT LOGG,START")
    host.clock.sleep(1.0)
    np.testing.assert_allclose(host.log("SENS1:FUNC:RES?"), 0.0, atol=1e-5)


def test_each_trigger_takes_one_sample(host: Host) -> None:
    host.send("SENS1:POW:UNIT W", "TRIG1:INP SME", "SENS1:FUNC:PAR:LOGG 3,1ms")
    host.send("SENS1:FUNC:STAT LOGG,STAR")
    for power_w in (1e-3, 2e-3, 4e-3):
        assert host.ask("SENS1:FUNC:STAT?").endswith("PROGRESS")
        host.sensors[1].power_w = power_w
        host.trigger()
        host.clock.sleep(2e-3)
    np.testing.assert_allclose(host.log("SENS1:FUNC:RES?"), [1e-3, 2e-3, 4e-3])


def test_one_trigger_takes_a_whole_log(host: Host) -> None:
    host.send("TRIG1:INP CME", "SENS1:FUNC:PAR:LOGG 5,1ms", "SENS1:FUNC:STAT LOGG,STAR")
    host.clock.sleep(1.0)
    assert host.ask("SENS1:FUNC:STAT?").endswith("PROGRESS")
    host.trigger()
    host.clock.sleep(6e-3)
    assert host.log("SENS1:FUNC:RES?").size == 5


def test_the_ports_are_listed(host: Host) -> None:
    pairs = np.frombuffer(decode_block(host.query("READ1:POW:ALL:CONF?")), "<u2")
    assert pairs.tolist() == [1, 1, 2, 1, 3, 1, 4, 1]


def test_reset_brings_defaults(host: Host) -> None:
    host.send("SENS1:POW:UNIT 1", "SENS1:FUNC:STAT LOGG,STAR", "*RST")
    assert host.ask("SENS1:POW:UNIT?;:SENS1:FUNC:STAT?") == "+0;NONE,COMPLETE"
