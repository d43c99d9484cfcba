"""The PM100D panel as a host sees it: photocurrent in, power out."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panel_host import PanelHost

from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.thorlabs_pm100d import ThorlabsPM100DPanel
from labctl.units import w_to_dbm


@dataclass
class Sensor:
    """A head whose responsivity is 1 A/W at 1550 nm and falls in proportion to wavelength."""

    power_w: float = 1e-3
    dark_a: float = 0.0
    averaging_s: float = 0.0

    def photocurrent_a(self, averaging_s: float) -> float:
        self.averaging_s = averaging_s
        return self.power_w + self.dark_a

    def responsivity_a_w(self, wavelength_m: float) -> float:
        return wavelength_m / 1550e-9


class Meter(PanelHost[ThorlabsPM100DPanel]):
    def __init__(self) -> None:
        self.clock, self.sensor = BenchClock(), Sensor()
        super().__init__(ThorlabsPM100DPanel("meter", self.clock, self.sensor))


@pytest.fixture
def meter() -> Meter:
    return Meter()


def test_it_says_who_it_is(meter: Meter) -> None:
    assert meter.ask("*IDN?") == "THORLABS,PM100D,P0000001,2.7.0"
    assert meter.ask("SYST:SENSOR:IDN?") == "S154C,1234567,12-Jan-2024,1,2,33"


@pytest.mark.parametrize(
    ("setting", "reply"),
    [
        ("SENSE:CORR:WAV 1310", "1.310000E+03"),
        ("SENS:CORR:WAV 1549.9 nm", "1.549900E+03"),
        ("SENS:CORR 3", "3.000000E+00"),
        ("SENS:CORR:LOSS -3 dB", "-3.000000E+00"),
        ("SENS:AVER 100", "100"),
        ("SENS:AVER:COUN 7", "7"),
        ("SENS:POW:UNIT dbm", "DBM"),
        ("SENS:POW:RANG:AUTO 0", "0"),
        ("SENS:POW:REF 1 mW", "1.000000E-03"),
        ("SENS:POW:REF:STAT ON", "1"),
        ("INP:FILT:LPAS 1", "1"),
        ("CORR:WAV 1310", "1.310000E+03"),
        ("AVER 7", "7"),
        ("power:dc:unit DBM", "DBM"),
        ("SENSE:CORRECTION:LOSS:INPUT:MAGNITUDE 3", "3.000000E+00"),
        ("SENSE:POWER:DC:REFERENCE:VALUE 1e-3", "1.000000E-03"),
        ("SENSE:POWER:DC:REFERENCE:STATE 1", "1"),
        ("SENSE:CURRENT:DC:RANGE:UPPER 1e-6", "5.000000E-06"),
        ("SENSE:CURRENT:DC:RANGE:AUTO 0", "0"),
        ("INPUT:PDIODE:FILTER:LPASS:STATE 1", "1"),
        ("CORR:BEAM 2", "2.000000E+00"),
        ("STAT:OPER:PTR 3", "3"),
        ("STAT:OPER:NTR 1", "1"),
    ],
)
def test_settings_are_read_back(meter: Meter, setting: str, reply: str) -> None:
    meter.send(setting)
    assert meter.ask(setting.partition(" ")[0] + "?") == reply
    assert meter.errors() == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("SENS:CORR:WAV 700", -222),
        ("SENS:CORR:WAV 1 um", -131),
        ("AVER", -109),
        ("SENS:AVER", -109),
        ("SENS:AVER 0", -222),
        ("SENS:CORR:COLLEC:ZERO", -113),
        ("SENS:POW:RANG 1 kW", -222),
        ("SENS:POW:UNIT A", -224),
        ("FETC?", -230),
    ],
)
def test_wrong_messages_are_reported(meter: Meter, message: str, code: int) -> None:
    meter.send(message)
    assert meter.errors() == [code]


def test_limits_of_the_head_are_told(meter: Meter) -> None:
    assert (meter.number("SENS:CORR:WAV? MIN"), meter.number("SENS:CORR:WAV? MAX")) == (800, 1700)


@pytest.mark.parametrize("wavelength_nm", [1310.0, 1550.0, 1600.0])
def test_power_is_current_over_responsivity(meter: Meter, wavelength_nm: float) -> None:
    meter.send(f"SENS:CORR:WAV {wavelength_nm}")
    assert meter.number("MEAS:POW?") == pytest.approx(1e-3 * 1550 / wavelength_nm, rel=1e-6)
    assert meter.number("MEAS:SCAL:CURR?") == pytest.approx(1e-3)


def test_attenuation_correction_multiplies(meter: Meter) -> None:
    meter.send("SENS:CORR 10")
    assert meter.number("MEAS:POW?") == pytest.approx(10e-3)


@settings(deadline=None)
@given(st.floats(1e-9, 4e-3))
def test_decibels_are_those_of_a_milliwatt(power_w: float) -> None:
    meter = Meter()
    meter.sensor.power_w = power_w
    meter.send("SENS:POW:UNIT DBM")
    assert meter.number("MEAS:POW?") == pytest.approx(w_to_dbm(power_w), abs=1e-5)


def test_no_light_is_minus_infinity(meter: Meter) -> None:
    meter.sensor.power_w = 0.0
    meter.send("SENS:POW:UNIT DBM")
    assert meter.ask("MEAS:POW?") == "-9.900000E+37"


def test_reference_mode_shows_differences(meter: Meter) -> None:
    meter.send("SENS:POW:REF 2E-4", "SENS:POW:REF:STAT 1")
    assert meter.number("MEAS:POW?") == pytest.approx(0.8e-3)
    meter.send("SENS:POW:UNIT DBM")
    assert meter.number("MEAS:POW?") == pytest.approx(10 * math.log10(5), abs=1e-5)
    meter.send("SENS:POW:REF 0")
    assert meter.ask("READ?") == "9.900000E+37"


def test_a_measurement_takes_its_averaging_time(meter: Meter) -> None:
    meter.send("SENS:AVER 100")
    meter.send("INIT")
    assert (meter.sensor.averaging_s, meter.clock.now_s()) == pytest.approx((0.3, 0.3))
    meter.sensor.power_w = 5.0
    assert meter.number("FETC?") == pytest.approx(1e-3)


def test_quantity_is_remembered_for_read(meter: Meter) -> None:
    meter.send("SENS:CORR:WAV 1600", "MEAS:CURR?")
    meter.panel.read(100)
    assert meter.ask("CONF?") == "CURR"
    assert meter.number("READ?") == pytest.approx(1e-3)
    meter.send("CONF:POW")
    assert meter.ask("CONF?") == "POW"
    assert meter.number("READ?") == pytest.approx(0.96875e-3)


def test_zeroing_takes_the_dark_current_away(meter: Meter) -> None:
    meter.sensor.power_w, meter.sensor.dark_a = 0.0, 2e-9
    meter.send("SENS:CORR:COLL:ZERO:INIT", "*OPC?")
    assert meter.panel.read(100) == (b"", False)
    meter.clock.sleep(1.0)
    assert meter.panel.read(100) == (b"1\n", True)
    assert meter.ask("SENS:CORR:COLL:ZERO:STAT?") == "0"
    assert meter.number("SENS:CORR:COLL:ZERO:MAGN?") == pytest.approx(2e-9)
    meter.sensor.power_w = 1e-9
    assert meter.number("MEAS:POW?") == pytest.approx(1e-9)


def test_an_aborted_zero_keeps_the_old_one(meter: Meter) -> None:
    meter.sensor.dark_a = 1e-6
    meter.send("SENS:CORR:COLL:ZERO")
    assert meter.ask("SENS:CORR:COLL:ZERO:STAT?;MAGN?") == "1;0.000000E+00"
    meter.send("SENS:CORR:COLL:ZERO:ABOR")
    assert meter.ask("SENS:CORR:COLL:ZERO:STAT?;MAGN?") == "0;0.000000E+00"


def test_the_operation_register_latches_both_edges_of_zeroing(meter: Meter) -> None:
    meter.send("STAT:OPER:PTR 1", "SENS:CORR:COLL:ZERO")
    assert (meter.ask("STAT:OPER?"), meter.ask("STAT:OPER?")) == ("1", "0")
    meter.send("STAT:OPER:PTR 0", "STAT:OPER:NTR 1")
    meter.clock.sleep(1.0)
    assert (meter.ask("STAT:OPER?"), meter.ask("STAT:OPER?")) == ("1", "0")


def test_a_fixed_range_overloads_and_auto_range_does_not(meter: Meter) -> None:
    meter.send("SENS:POW:RANG 2E-5")
    assert meter.ask("SENS:POW:RANG:AUTO?;:SENS:POW:RANG?") == "0;5.000000E-05"
    assert meter.ask("MEAS:POW?") == "9.900000E+37"
    meter.send("SENS:POW:RANG:AUTO ON")
    assert meter.number("MEAS:POW?") == pytest.approx(1e-3)
    assert meter.number("SENS:POW:RANG:UPP?") == pytest.approx(5e-3)
    meter.send("SENS:POW:RANG MIN")
    assert meter.number("SENS:POW:RANG?") == meter.number("SENS:POW:RANG? MIN")
    meter.send("SENS:POW:RANG MAX")
    assert meter.number("SENS:POW:RANG?") == meter.number("SENS:POW:RANG? MAX")


def test_a_new_query_before_the_reply_is_an_error(meter: Meter) -> None:
    meter.send("*IDN?", "*OPC?")
    assert meter.panel.read(100) == (b"1\n", True)
    assert meter.errors() == [-410]


def test_reset_brings_defaults(meter: Meter) -> None:
    meter.send("SENS:CORR:WAV 1310", "SENS:AVER 5", "*RST")
    assert meter.ask("SENS:CORR:WAV?;:SENS:AVER?") == "1.550000E+03;1"


def test_density_is_power_over_the_area_of_the_beam(meter: Meter) -> None:
    meter.send("CORR:BEAM 10")
    assert meter.number("MEAS:PDEN?") == pytest.approx(1e-3 / (math.pi / 4))
    assert meter.ask("CONF?") == "PDEN"


def test_the_current_has_the_range_of_the_power_behind_it(meter: Meter) -> None:
    meter.send("SENS:CORR:WAV 1550", "SENS:CORR 10", "POW:DC:RANG 4e-3")
    assert meter.number("SENS:CURR:RANG?") == pytest.approx(5e-4)
    assert meter.number("SENS:CURR:RANG? MIN") == pytest.approx(50e-9)
    assert meter.number("SENS:CURR:RANG? MAX") == pytest.approx(5e-3)


def test_a_quantity_is_configured_begun_and_fetched(meter: Meter) -> None:
    meter.send("CONF:SCAL:CURR:DC", "INIT:IMM")
    assert meter.number("FETC?") == pytest.approx(1e-3)
    meter.send("CORR 10", "MEAS:SCAL:POW")
    assert meter.number("FETC?") == pytest.approx(1e-2)


def test_the_response_of_the_head_is_read_and_not_set(meter: Meter) -> None:
    meter.send("SENS:CORR:WAV 1550")
    assert meter.number("SENS:CORR:POW:PDI:RESP?") == pytest.approx(1.0)
    meter.send("SENS:CORR:POW 2")
    assert meter.errors() == [-113]


def test_the_condition_register_shows_zeroing(meter: Meter) -> None:
    meter.send("SENS:CORR:COLL:ZERO")
    assert meter.ask("STAT:OPER:COND?") == "1"
    meter.clock.sleep(2.0)
    assert meter.ask("STAT:OPER:COND?") == "0"
