"""What drivers do beyond their capabilities: each method, over the wire, at its front panel."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.data import shipped_fleet_path
from labctl.errors import InstrumentReportedError, LimitError, ReplyError
from labctl.instruments import drivers
from labctl.instruments.capabilities import TriggerSource
from labctl.instruments.lasers.itla_monitor import Alarm
from labctl.instruments.lasers.santec_tsl570 import SantecTSL570
from labctl.instruments.oscilloscopes.keysight_infiniivision import KeysightInfiniiVision
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.transports.visa_link import close_library
from labctl.testing.scripts import ScriptedTransport
from labctl.toml_file import read_toml

RECORD_SETTINGS = ":WAV:FORM WORD;:WAV:BYT LSBF;:WAV:UNS 1;:WAV:POIN:MODE RAW;:WAV:POIN MAX"
Open = Callable[..., Any]
NO_NUMBERS = (math.nan, math.inf, -math.inf)


def refused(*uses: Callable[[], object]) -> None:
    for use in uses:
        with pytest.raises(LimitError):
            use()


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Open]:
    path = tmp_path / "fleet_bench.toml"
    shutil.copy(shipped_fleet_path(), path)
    panels = read_toml(path, BenchFile).panels
    library = f"{path}@labctl"

    def open_driver(driver: str, panel: str, **options: object) -> Any:
        address = panels[panel].address
        return drivers.load(driver).open("dut", address, library=library, options=options)

    yield open_driver
    close_library(library)


def test_an_itla_module_tells_of_itself(at: Open) -> None:
    laser = at("purephotonics_ppcl550", "server_laser")
    monitor = laser.monitor
    assert monitor.device_type()
    assert monitor.manufacturing_date()
    assert monitor.backward_compatibility()
    laser.set_emission(True)
    assert 273 < monitor.temperature_k() < 373
    assert all(273 < each < 373 for each in monitor.temperatures_k())
    assert all(abs(each) < 5 for each in monitor.currents_a())
    laser.abort()
    assert laser.emission() is True
    assert Alarm.SOFT_RESET_LATCHED in monitor.fatal_status()
    monitor.clear_status()
    assert Alarm.SOFT_RESET_LATCHED not in monitor.fatal_status()
    assert Alarm.FATAL not in monitor.warning_status()
    laser.reset()
    assert laser.emission() is False


def test_an_itla_module_is_tuned_by_channels(at: Open) -> None:
    laser = at("purephotonics_ppcl550", "server_laser")
    laser.set_channel_plan(193.1e12, 50e9)
    laser.set_channel(5)
    assert laser.frequency_hz() == 193.3e12
    assert laser.reported_frequency_hz() == 193.3e12
    for channel in (0, 70_000, 40_000):
        with pytest.raises(LimitError):
            laser.set_channel(channel)
    for first_hz, grid_hz in ((1e12, 50e9), (193.1e12, 1e14), (193.1e12, math.nan)):
        with pytest.raises(LimitError):
            laser.set_channel_plan(first_hz, grid_hz)
    laser.set_emission(True)
    with pytest.raises(InstrumentReportedError, match="CIE"):
        laser.set_channel_plan(193.1e12, 50e9)


def test_an_n7776c_sweeps_in_steps_on_triggers_and_logs(at: Open) -> None:
    laser = at("keysight_n7776c", "swept_laser")
    laser.set_lock(True, "1234")
    assert laser.locked() is True
    laser.set_lock(False, "1234")
    with pytest.raises(LimitError, match="four digits"):
        laser.set_lock(False, "12;*RST")
    laser.set_emission(True)
    laser.configure_steps(1.549e-6, 1.550e-6, 0.5e-9, 0.1)
    laser.start_sweep()
    assert laser.sweeping() is True
    laser.pause_sweep()
    laser.resume_sweep()
    laser.stop_sweep()
    assert 0 < laser.largest_power_w(1.549e-6, 1.551e-6) < 0.1
    laser.configure_sweep(1.549e-6, 1.551e-6, 50e-9, cycles=1)
    laser.log_wavelengths(0.1e-9)
    assert laser.expected_triggers() > 1
    laser.set_trigger_loop(False)
    laser.set_trigger_input("SWS")
    laser.start_sweep()
    assert laser.waiting_for_trigger() is True
    laser.trigger_sweep()
    laser._scpi.clock.sleep(10.0)
    assert laser.waiting_for_trigger() is False
    laser.stop_sweep()
    wavelengths_m, power_w = laser.available_power()
    assert wavelengths_m.shape == power_w.shape
    for step_m, dwell_s in ((0.0, 1.0), (math.nan, 1.0), (1e-10, -1.0), (1e-10, math.inf)):
        with pytest.raises(LimitError):
            laser.configure_steps(1.549e-6, 1.550e-6, step_m, dwell_s)
    laser.reset()
    assert laser.emission() is False


def test_a_tsl570_sweeps_in_steps_on_triggers_and_logs(at: Open) -> None:
    laser = at("santec_tsl570", "tunable_laser")
    laser.set_emission(True)
    laser.set_automatic_attenuation(True)
    laser.configure_steps(1.549e-6, 1.550e-6, 0.5e-9, 0.1, two_way=True)
    laser.set_sweep_delay(0.0)
    laser.set_trigger_setting(0)
    laser.set_trigger_output(3, step_m=0.1e-9)
    laser.set_external_trigger(True)
    laser.start_sweep()
    laser._scpi.clock.sleep(10.0)
    assert laser.waiting_for_trigger() is True
    laser.trigger_sweep()
    assert laser.waiting_for_trigger() is False
    laser.stop_sweep()
    laser.set_external_trigger(False)
    laser.set_fine_tuning(None)
    for value in (-101.0, 101.0, *NO_NUMBERS):
        with pytest.raises(LimitError):
            laser.set_fine_tuning(value)


def test_the_log_of_a_tsl570_is_in_tenths_of_a_picometre() -> None:
    payload = np.array([15_490_000, 15_500_001], dtype="<u4").tobytes()
    wire = ScriptedTransport([(":READ:POIN?", "2"), (":READ:DAT?", payload), (":READ:POIN?", "0")])
    laser = SantecTSL570(wire)
    assert laser.logged_wavelengths_m() == pytest.approx([1.549e-6, 1.5500001e-6], rel=1e-12)
    assert laser.logged_wavelengths_m().shape == (0,)
    wire.finish()


def test_a_33512b_plays_its_own_shapes(at: Open) -> None:
    generator = at("keysight_33512b", "server_phase")
    generator.play_shape(1, "SIN", frequency_hz=1e6, amplitude_v=0.5, phase_rad=math.pi / 2)
    generator.set_levels(1, low_v=-0.25, high_v=1.25)
    generator.set_levels(1, low_v=-1.25, high_v=0.25)
    assert generator.dc_output(1).voltage_v() == pytest.approx(-0.5)
    generator.set_polarity(1, True)
    generator.synchronise()
    generator.set_burst_period(1, 1e-3)
    generator.burst(1, cycles=1, trigger=TriggerSource.EXTERNAL, rising=False)
    for low_v, high_v in ((1.0, 0.0), (-50.0, 50.0), (0.0, math.nan)):
        with pytest.raises(LimitError):
            generator.set_levels(1, low_v=low_v, high_v=high_v)
    for frequency_hz in (0.0, 1e12, *NO_NUMBERS):
        with pytest.raises(LimitError):
            generator.play_shape(1, "SQU", frequency_hz=frequency_hz, amplitude_v=0.5)
    generator.reset()


def test_a_red_pitaya_has_outputs_and_pins(at: Open) -> None:
    board = at("red_pitaya", "fast_readout")
    board.generator.play_shape(1, "SINE", frequency_hz=1e3, amplitude_v=0.5, offset_v=0.1)
    ramp = np.linspace(-1, 1, 100)
    board.generator.play_samples(2, ramp, frequency_hz=1e3, amplitude_v=0.5)
    board.generator.set_output(1, True)
    board.generator.trigger(1)
    board.pins.set_output_v(0, 1.2)
    assert math.isfinite(board.pins.input_v(0))
    board.pins.switch("LED0", True)
    assert board.pins.state("LED0") is True
    board.reset()
    for samples in (2 * ramp, np.full(3, math.nan), np.zeros(0), np.zeros((2, 2))):
        with pytest.raises(LimitError):
            board.generator.play_samples(1, samples, frequency_hz=1e3, amplitude_v=0.5)
    refused(
        lambda: board.generator.play_shape(1, "SINE", frequency_hz=1e3, amplitude_v=2.0),
        lambda: board.generator.set_output(3, True),
        lambda: board.pins.set_output_v(0, -1.0),
        lambda: board.pins.input_v(4),
        lambda: board.pins.switch("LED8", True),
    )


def test_an_oscilloscope_is_set_up_further(at: Open) -> None:
    scope = at("keysight_infiniivision", "server_scope")
    scope.configure_input(1, coupling="DC", bandwidth_limit=True, probe_ratio=10.0, label="homo")
    scope.configure_acquisition("AVER", count=16)
    scope.run()
    scope.autoscale()
    for label in ('a"', "x" * 33, "\n"):
        with pytest.raises(LimitError, match="label"):
            scope.configure_input(1, coupling="DC", label=label)
    with pytest.raises(LimitError, match="count"):
        scope.configure_acquisition("AVER", count=0)


def test_power_meters_are_set_up_further(at: Open) -> None:
    meter = at("thorlabs_pm100d", "monitor")
    assert meter.sensor()
    meter.start_measuring()
    assert math.isfinite(meter.latest_power_w())
    assert math.isfinite(meter.next_power_w())
    meter.set_range(1e-3)
    assert meter.range_w() >= 1e-3
    meter.set_range(None)
    meter.reset()
    port = at("keysight_n7744a", "multiport_meter").channel(1)
    port.set_trigger_input("SME")
    port.set_trigger_output("AVG")
    port.set_continuous(False)
    port.set_automatic_gain(True)
    port.set_reference(1e-3)
    for use in (meter.set_range, port.set_reference):
        for power_w in (0.0, -1.0, *NO_NUMBERS):
            with pytest.raises(LimitError):
                use(power_w)


def test_a_2450_delivers_a_current_and_returns_to_a_voltage(at: Open) -> None:
    smu = at("keithley_2450", "bias_source")
    smu.source_current(1e-4, voltage_limit_v=5.0)
    assert abs(smu.measured_current_a()) <= 1.1e-4
    smu.set_voltage(0.5)
    assert smu.voltage_v() == pytest.approx(0.5)
    smu.set_delay(1e-3)
    smu.set_current_range(1e-3)
    smu.set_current_range(None)
    smu.reset()
    refused(
        lambda: smu.source_current(2.0, voltage_limit_v=5.0),
        lambda: smu.source_current(1e-4, voltage_limit_v=0.0),
        lambda: smu.set_delay(-1.0),
    )


def test_a_q8iv_has_limits_currents_and_a_chain(at: Open) -> None:
    source = at("qontrol_q8iv", "heaters")
    source.set_limits(6, voltage_v=6.0, current_a=5e-3)
    assert source.limits(6) == pytest.approx((6.0, 5e-3))
    source.drive_current(6, 1e-4)
    assert source.channel_current_a(6) <= 5.1e-3
    assert source.channel_count() == 8
    assert "Q8iv" in source.number_chain()[0]
    assert "Q8iv" in source.chain_position()
    for current_a in (-1e-3, 1.0, *NO_NUMBERS):
        with pytest.raises(LimitError):
            source.drive_current(1, current_a)


def test_an_mx10b_has_sections(at: Open) -> None:
    box = at("thorlabs_mx10b", "bias_i")
    box.laser.set_channel(2)
    assert box.laser.channel() == 2
    assert box.laser.laser_frequency_hz() == pytest.approx(
        box.laser.nominal_frequency_hz() + box.laser.fine_tuning_hz(), abs=2e6
    )
    box.laser.set_dither(True)
    box.laser.select("CBAND")
    assert box.laser.selected()
    assert box.laser.tap_power_w() >= 0
    box.bias.set_dither(0.6, 3000.0)
    assert box.bias.dither() == pytest.approx((0.6, 3000.0))
    box.bias.hold_ratio(5.0, positive=True)
    assert box.bias.mode() == 5
    box.bias.recalibrate()
    assert box.bias.tap_power_w() >= 0
    box.output.hold_power(1e-3)
    assert box.output.tap_power_w() >= 0
    assert math.isfinite(box.output.error_db())
    assert box.output.measured_attenuation_db() >= 0
    box.output.set_wavelength(1.55e-6)
    box.output.sleep()
    box.output.wake()
    with pytest.raises(InstrumentReportedError, match="Feature not present"):
        box.amplifier.settled()
    refused(
        lambda: box.amplifier.set_gain(30.0),
        lambda: box.output.hold_power(1.0),
        lambda: box.output.set_wavelength(1.3e-6),
        lambda: box.bias.set_dither(3.0, 3000.0),
        lambda: box.laser.set_fine_tuning(1e12),
    )


def test_peak_detection_is_refused_as_a_record() -> None:
    wire = ScriptedTransport(
        [
            (":OPER:COND?", "+0"),
            (f":WAV:SOUR CHAN1;{RECORD_SETTINGS}", None),
            ("SYST:ERR?", '+0,"No error"'),
            (":WAV:PRE?", "1,1,8,1,1E-9,0,0,1E-3,0,32768"),
        ]
    )
    with pytest.raises(ReplyError, match="peak detection is on"):
        KeysightInfiniiVision(wire).read(1)
    wire.finish()
