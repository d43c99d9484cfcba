"""The MX10B panel as a host sees it: lines in, values or `Err:` out."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.thorlabs_mx10b import ThorlabsMX10BPanel
from labctl.instruments.simulated.ports import BiasMode
from labctl.units import db_to_ratio


@dataclass
class Head:
    emission: tuple[bool, float, float] = (False, 0.0, 0.0)

    def set_emission(self, on: bool, power_w: float, frequency_hz: float) -> None:
        self.emission = (on, power_w, frequency_hz)

    def emitted_power_w(self) -> float:
        return self.emission[1] if self.emission[0] else 0.0


@dataclass
class Electrode:
    mode: BiasMode = BiasMode.OFF
    volts: float = 0.0
    is_settled: bool = True
    tap_w: float = 1e-3
    locks: list[BiasMode] = field(default_factory=list)

    def set_bias(self, mode: BiasMode, voltage_v: float = 0.0) -> None:
        self.mode, self.volts = mode, voltage_v
        self.locks.append(mode)

    def voltage_v(self) -> float:
        return self.volts

    def settled(self) -> bool:
        return self.is_settled

    def tap_power_w(self) -> float:
        return self.tap_w


@dataclass
class Attenuator:
    input_w: float = 1e-3
    attenuation_db: float = 0.0

    def set_attenuation(self, attenuation_db: float) -> None:
        self.attenuation_db = attenuation_db

    def input_power_w(self) -> float:
        return self.input_w

    def output_power_w(self) -> float:
        return self.input_w * db_to_ratio(-self.attenuation_db - 0.7)


class Box:
    """A fully fitted controller and its parts."""

    def __init__(self, ack: Literal["manual", "pymeasure"] = "manual", *, fitted: bool = True):
        self.clock = BenchClock()
        self.head, self.electrode, self.attenuator = Head(), Electrode(), Attenuator()
        self.panel = ThorlabsMX10BPanel(
            "mbc",
            self.clock,
            self.head if fitted else None,
            self.electrode if fitted else None,
            self.attenuator if fitted else None,
            ack=ack,
        )

    def tell(self, line: str, ending: str = "\n") -> str:
        self.panel.write((line + ending).encode("latin-1"), end=False)
        reply, ended = self.panel.read(1000)
        assert ended == reply.endswith(b"\r\n")
        return reply.decode().removesuffix("\r\n")


@pytest.fixture
def box() -> Box:
    return Box()


@pytest.mark.parametrize("ending", ["\n", "\r", "\r\n", "\n\r"])
def test_every_terminator_of_the_manual_ends_a_line(box: Box, ending: str) -> None:
    assert box.tell("SYS:MODEL?", ending) == "MX10B"
    assert box.tell("sys:ser?", ending) == "T00123456"


def test_end_ends_a_line_too(box: Box) -> None:
    box.panel.write(b"SYS:MOD", end=False)
    box.panel.write(b"EL?", end=True)
    assert box.panel.read(3) == (b"MX1", False)
    assert box.panel.read(100) == (b"0B\r\n", True)


@pytest.mark.parametrize(
    ("line", "asked", "reply"),
    [
        ("LAS:POW: 1", "LAS:POWER?", "1"),
        ("LAS:CHAN: 7", "LAS:CHAN?", "7"),
        ("LAS:FINE: -30000", "LAS:FINE?", "-30000"),
        ("LAS:D: 0", "LAS:D?", "0"),
        ("MZM:MODE: 7", "MZM:MODE?", "7"),
        ("MZM:HOLD:VOLTAGE: -10000", "MZM:HOLD:V?", "-10000"),
        ("MZM:HOLD:R:250", "MZM:HOLD:RATIO?", "250"),
        ("MZM:D:AMPL: 20", "MZM:D:AMPL?", "20"),
        ("MZM:D:FREQ: 1000", "MZM:D:FREQ?", "1000"),
        ("VOA:POW: 1", "VOA:POW?", "1"),
        ("VOA:MODE: 1", "VOA:MODE?", "1"),
        ("VOA:ATTen: 3.5", "VOA:ATT?", "3.500"),
        ("VOA:OUT:DBM: -3", "VOA:OUT:DBM?", "-3.000"),
        ("VOA:OUTPUT:MW: 0.5", "VOA:OUT:MW?", "0.5"),
        ("SYS:WAVE: 1310", "SYS:WAVE?", "1310"),
    ],
)
def test_settings_are_acknowledged_and_read_back(
    box: Box, line: str, asked: str, reply: str
) -> None:
    assert box.tell(line) == "1"
    assert box.tell(asked) == reply


@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        ("NONSENSE", "Undefined header"),
        ("VOA:SETP?", "Undefined header"),
        ("VOA:ATT 5", "Parameter error"),
        ("VOA:ATT:", "Parameter error"),
        ("VOA:ATT? 5", "Parameter error"),
        ("VOA:ATT: five", "Numeric data error"),
        ("VOA:ATT: 21", "Data out of range"),
        ("VOA:ATT: nan", "Data out of range"),
        ("VOA:MODE: 2", "Illegal parameter value"),
        ("MZM:MODE: 10", "Illegal parameter value"),
        ("MZM:MODE: 8", "Illegal parameter value"),
        ("MZM:HOLD:V: 1.5", "Data type error"),
        ("MZM:HOLD:V: 10001", "Data out of range"),
        ("MZM:V: 1", "Undefined header"),
        ("SYS:WAVE: 1400", "Illegal parameter value"),
        ("AMP:GAIN: 12", "Feature not present"),
        ("\xff\xfe", "Undefined header"),
        ("X" * 300, "Undefined header"),
    ],
)
def test_errors_are_replies(box: Box, line: str, trouble: str) -> None:
    assert box.tell(line) == f"Err: {trouble}"


@pytest.mark.parametrize("line", ["LAS:POW?", "MZM:MODE: 1", "VOA:ATT?", "LAS:SEL:CBAND"])
def test_what_is_not_fitted_says_so(line: str) -> None:
    assert Box(fitted=False).tell(line) == "Err: Feature not present"


def test_the_other_acknowledgement_is_silent_except_twice() -> None:
    box = Box("pymeasure")
    assert [box.tell(line) for line in ("VOA:ATT: 5", "MZM:MODE: 1", "LAS:POW: 1")] == [""] * 3
    assert [box.tell(line) for line in ("VOA:MODE: 0", "MZM:RESET")] == ["1", "1"]
    assert box.tell("VOA:ATT: 50") == "Err: Data out of range"


@pytest.mark.parametrize(
    ("number", "mode"),
    [
        (0, BiasMode.OFF),
        (1, BiasMode.PEAK),
        (2, BiasMode.NULL),
        (3, BiasMode.QUADRATURE_PLUS),
        (4, BiasMode.QUADRATURE_MINUS),
        (5, BiasMode.QUADRATURE_PLUS),
        (6, BiasMode.QUADRATURE_MINUS),
        (7, BiasMode.MANUAL),
    ],
)
def test_bias_modes_reach_the_electrode(box: Box, number: int, mode: BiasMode) -> None:
    box.tell(f"MZM:MODE: {number}")
    assert box.electrode.mode is mode


def test_manual_bias_follows_its_voltage(box: Box) -> None:
    box.tell("MZM:HOLD:V: 1500")
    assert box.electrode.mode is BiasMode.OFF
    box.tell("MZM:MODE: 7")
    box.tell("MZM:HOLD:V: -2500")
    assert box.tell("MZM:VOLTAGE?") == "-2.5000"


def test_recalibration_lasts_until_the_lock_has_settled(box: Box) -> None:
    box.tell("MZM:MODE: 2")
    box.electrode.is_settled = False
    assert box.tell("MZM:RESET") == "1"
    assert (box.tell("MZM:CALIBRATING?"), box.tell("MZM:SET?")) == ("1", "0")
    assert box.electrode.locks[-2:] == [BiasMode.NULL, BiasMode.NULL]
    box.electrode.is_settled = True
    assert (box.tell("MZM:CAL?"), box.tell("MZM:SETPOINT?")) == ("0", "1")


def test_taps_read_in_dbm_and_milliwatts(box: Box) -> None:
    assert (box.tell("MZM:TAP:DBM?"), box.tell("MZM:TAP:MW?")) == ("0.000", "1")
    box.electrode.tap_w = 0.0
    assert (box.tell("MZM:TAP:DBM?"), box.tell("MZM:TAP:MW?")) == ("-100.000", "0")


def test_the_laser_locks_after_a_while(box: Box) -> None:
    box.tell("LAS:CHAN: 3")
    box.tell("LAS:FINE: 500")
    box.tell("LAS:POW: 1")
    assert box.head.emission == (True, 20e-3, 191.6e12 + 500e6)
    assert box.tell("LAS:SET?") == "0"
    box.clock.sleep(5.0)
    assert box.tell("LAS:SET?") == "1"
    assert box.tell("LAS:FREQ?") == "191600.500"
    assert box.tell("LAS:OOP?") == "13.010"


def test_constant_attenuation_is_applied_only_while_on(box: Box) -> None:
    box.tell("VOA:ATT: 6")
    assert (box.attenuator.attenuation_db, box.tell("VOA:SET?")) == (0.0, "0")
    box.tell("VOA:POW: 1")
    assert (box.attenuator.attenuation_db, box.tell("VOA:SET?")) == (6.0, "1")
    box.tell("VOA:POW: 0")
    assert box.attenuator.attenuation_db == 0.0


def test_constant_power_follows_the_light(box: Box) -> None:
    for line in ("VOA:POW: 1", "VOA:MODE: 1", "VOA:OUT:DBM: -10"):
        box.tell(line)
    assert box.tell("VOA:TAP:DBM?") == "-10.000"
    box.attenuator.input_w = 2e-3
    assert (box.tell("VOA:SET?"), box.tell("VOA:TAP:DBM?")) == ("1", "-10.000")
    assert float(box.tell("VOA:MEAS?")) == pytest.approx(12.310, abs=1e-3)
    box.tell("VOA:ATT: 2")
    assert box.tell("VOA:TAP:DBM?") == "-10.000"
    box.tell("VOA:MODE: 0")
    assert box.attenuator.attenuation_db == 2.0


@pytest.mark.parametrize("input_w", [0.0, 1e-6])
def test_too_little_light_leaves_an_error(box: Box, input_w: float) -> None:
    for line in ("VOA:POW: 1", "VOA:MODE: 1", "VOA:OUT:DBM: 0"):
        box.tell(line)
    box.attenuator.input_w = input_w
    assert box.tell("VOA:SET?") == "0"
    assert float(box.tell("VOA:ERR?")) < -10.0
    assert box.attenuator.attenuation_db == 0.0


def test_sleep_darkens_and_waking_restores(box: Box) -> None:
    for line in ("LAS:POW: 1", "MZM:MODE: 2", "VOA:POW: 1", "VOA:ATT: 4", "SYS:SLEEP"):
        assert box.tell(line) == "1"
    assert (box.head.emission[0], box.electrode.mode) == (False, BiasMode.OFF)
    assert box.attenuator.attenuation_db == 0.0
    box.tell("SYS:WAKE")
    assert (box.head.emission[0], box.electrode.mode) == (True, BiasMode.NULL)
    assert box.attenuator.attenuation_db == 4.0
    box.tell("SYS:RESTART")
    assert (box.tell("LAS:POW?"), box.tell("MZM:MODE?"), box.tell("VOA:POW?")) == ("0", "0", "0")


def test_unread_replies_are_bounded_and_clear_drops_them(box: Box) -> None:
    box.panel.write(b"SYS:MODEL?\n" * 50_000, end=False)
    box.panel.clear()
    assert box.panel.read(100) == (b"", False)
    assert box.panel.status_byte() == 0


@pytest.mark.parametrize(
    ("line", "query", "reply"),
    [
        ("LASer:CHANnel:5", "LASer:CHANnel?", "5"),
        ("LASer:Dither:0", "LAS:D?", "0"),
        ("LASer:FINE:-300", "laser:fine?", "-300"),
        ("LASer:POWer:1", "LAS:POW?", "1"),
        ("LASer:SELect:Cband", "LASer:SELect?", "CBAND"),
        ("LASer:CHANnel:3", "LASer:FREQ_NOMinal?", "191600"),
        ("MZM:Dither:AMPLitude:500", "MZM:D:AMPL?", "500"),
        ("MZM:Dither:FREQuency:2000", "MZM:Dither:FREQuency?", "2000"),
        ("SYStem:WAVElength:1550", "SYStem:WAVElength?", "1550"),
        ("RGB:POWer: 2", "RGB:POWER?", "2"),
        ("RGB:WHITE: 55", "RGB:WHITE?", "55"),
    ],
)
def test_every_mnemonic_has_a_long_form(box: Box, line: str, query: str, reply: str) -> None:
    """The manual (page 4): capitals are the short form; a public MX10B driver sends the long."""
    assert (box.tell(line), box.tell(query)) == ("1", reply)


@pytest.mark.parametrize(
    ("query", "reply"),
    [
        ("SYStem:BOOTloader?", "1.0"),
        ("SYStem:FIRMware?", "2.0.1"),
        ("SYStem:HARDware?", "1.0"),
        ("SYStem:SERial?", "T00123456"),
    ],
)
def test_the_identity_has_long_forms_too(box: Box, query: str, reply: str) -> None:
    assert box.tell(query) == reply


@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        ("LASer:SELect:1310", "Feature not present"),
        ("LASer:SELect:Lband", "Feature not present"),
        ("LAS:SEL:", "Parameter error"),
        ("LAS:SEL: XBAND", "Illegal parameter value"),
        ("MZM:MODE: 9", "Illegal parameter value"),
        ("RGB:RED: 101", "Data out of range"),
        ("LASE:POW?", "Undefined header"),
    ],
)
def test_other_bands_and_modes_are_refused(box: Box, line: str, trouble: str) -> None:
    """Manual page 5: what is not built in, and what this device does not support."""
    assert box.tell(line) == f"Err: {trouble}"


def test_the_long_form_of_what_is_not_fitted_says_so() -> None:
    assert Box(fitted=False).tell("LASer:POWer?") == "Err: Feature not present"


def test_the_lamp_keeps_its_settings_asleep(box: Box) -> None:
    for line in ("RGB:RED: 40", "SYS:SLEEP", "SYS:WAKE"):
        assert box.tell(line) == "1"
    assert box.tell("RGB:RED?") == "40"
