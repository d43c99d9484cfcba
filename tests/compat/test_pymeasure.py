"""Drivers of PyMeasure, unmodified, at `labctl sim serve`: they set, read back, see the light."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import pyvisa

from labctl.instruments.simulated.doors.serving import Offer

pytest.importorskip("pymeasure", reason="PyMeasure is not installed (extra test-full)")

from pymeasure.instruments.agilent import Agilent33500
from pymeasure.instruments.keithley import Keithley2450
from pymeasure.instruments.keysight import KeysightDSOX1102G, KeysightE36312A, KeysightN7776C
from pymeasure.instruments.santec import TSL570
from pymeasure.instruments.santec.tsl570 import SweepMode, SweepPattern, SweepRouting, SweepStatus
from pymeasure.instruments.thorlabs import ThorlabsMBXSeries
from pymeasure.instruments.thorlabs.thorlabsmbxseries import MzmMode, VoaMode

Connect = Callable[..., Any]
Fleet = Mapping[str, Offer]


@pytest.fixture
def received_dbm(fleet: Fleet) -> Iterator[Callable[[int], float]]:
    """Read an input of the N7744A, for which PyMeasure has no driver."""
    manager = pyvisa.ResourceManager("@py")
    multiport: Any = manager.open_resource(str(fleet["multiport_meter"].hislip))
    yield lambda number: float(multiport.query(f"READ{number}:POW?"))
    multiport.close()
    manager.close()


def test_agilent_33500_plays_a_waveform_and_its_offset_moves_the_modulator(
    fleet: Fleet, connect: Connect, laser: Any, meter: Any
) -> None:
    generator = connect(Agilent33500, fleet["server_generator"].hislip)
    generator.reset()
    assert ",33512B,MY52300001," in generator.id
    channel = generator.ch_1
    channel.shape, channel.frequency, channel.amplitude, channel.offset = "SIN", 2e4, 0.5, 0.1
    assert (channel.shape, channel.frequency) == ("SIN", 2e4)
    assert (channel.amplitude, channel.amplitude_unit, channel.offset) == (0.5, "VPP", 0.1)
    assert (channel.voltage_high, channel.voltage_low) == pytest.approx((0.35, -0.15))
    channel.burst_mode, channel.burst_ncycles, channel.burst_state = "TRIG", 3, True
    assert (channel.burst_mode, channel.burst_ncycles, channel.burst_state) == ("TRIG", 3, True)
    channel.burst_state = False
    channel.data_volatile_clear()
    channel.data_arb("steps", [-32767] * 8 + [32767] * 8)
    channel.data_arb("ramp", [number / 10 for number in range(10)], data_format="float")
    channel.arb_file, channel.arb_srate, channel.arb_filter = "steps", 1e6, "STEP"
    channel.shape = "ARB"
    assert (channel.arb_file, channel.arb_srate) == ('"STEPS"', 1e6)
    assert (channel.arb_filter, channel.shape) == ("STEP", "ARB")
    assert generator.check_errors() == []

    channel.shape, channel.output_load = "DC", "INF"
    channel.offset, channel.output = 0.0, True
    assert channel.output is True
    undriven_w = meter.power
    channel.offset = 3.5
    assert meter.power < 0.9 * undriven_w
    channel.output = False
    assert meter.power == pytest.approx(undriven_w, rel=0.02)
    assert generator.check_errors() == []
    generator.reset()


def test_pm100_reads_the_power_that_the_laser_is_set_to(
    meter: Any, laser: Any, patiently: Callable[..., None]
) -> None:
    assert meter.is_power_sensor
    assert meter.wavelength_settable
    assert (meter.wavelength_min, meter.wavelength_max) == (800.0, 1700.0)
    meter.wavelength = 1550.0
    assert meter.wavelength == 1550.0
    patiently(laser.set_power, 13.0)
    full_w = meter.power
    patiently(laser.set_power, 10.0)
    assert meter.power == pytest.approx(full_w / 10**0.3, rel=0.02)
    patiently(laser.set_power, 13.0)
    laser.disable()
    assert meter.power < full_w / 1000
    laser.enable()
    assert meter.power == pytest.approx(full_w, rel=0.02)
    with pytest.raises(AttributeError):
        _ = meter.energy


def test_dsox1102g_sees_the_noise_rise_when_the_local_oscillator_is_on(
    fleet: Fleet, connect: Connect, laser: Any
) -> None:
    scope = connect(KeysightDSOX1102G, fleet["server_scope"].hislip)
    scope.default_setup()
    scope.timebase_setup(mode="main", offset=0.0, horizontal_range=1e-5)
    scope.acquisition_type, scope.acquisition_mode = "normal", "realtime"
    scope.ch1.setup(
        bwlimit=False,
        coupling="dc",
        display=True,
        invert=False,
        label="homodyne",
        offset=0.0,
        probe_attenuation=1.0,
        vertical_range=0.8,
    )
    assert scope.timebase == {"MODE": "MAIN", "REF": "CENT", "MAIN:RANG": 1e-5, "POS": 0.0}
    assert (scope.acquisition_type, scope.acquisition_mode) == ("normal", "realtime")
    configuration = scope.ch1.current_configuration
    assert (configuration["CHAN"], configuration["RANG"], configuration["COUP"]) == (1, 0.8, "DC")
    # The driver means to take the quotes off, but does so only where a reply has commas.
    assert (scope.ch1.scale, scope.ch1.label) == (0.1, '"homodyne"')

    def noise_v() -> float:
        scope.digitize("channel1")
        voltage_v, preamble = scope.download_data("channel1", points=1000)
        # A record shorter than the points asked for is transferred as it is.
        assert preamble["points"] == len(voltage_v) == 800
        assert preamble["xincrement"] == pytest.approx(12.5e-9)
        return float(np.std(voltage_v))

    lit_v = noise_v()
    laser.disable()
    # The deviation of 800 samples is known to 3 %.
    assert noise_v() < 0.5 * lit_v
    laser.enable()
    assert noise_v() == pytest.approx(lit_v, rel=0.3)
    assert scope.ask(":SYSTem:ERRor?").startswith("+0,")


def test_mbx_series_moves_the_bias_and_the_power_follows(
    fleet: Fleet, connect: Connect, laser: Any, meter: Any
) -> None:
    controller = connect(ThorlabsMBXSeries, f"ASRL{fleet['bias_parent'].pty}::INSTR")
    modulator, attenuator = controller.mzm, controller.voa
    measured_w = {}
    for mode in MzmMode.AUTOPEAK, MzmMode.AUTONULL, MzmMode.AUTOQUADPOS:
        modulator.mode = mode
        assert modulator.mode is mode
        while modulator.is_calibrating or not modulator.is_stable:
            pass
        measured_w[mode] = meter.power
        assert modulator.power == pytest.approx(1e3 * measured_w[mode], rel=0.05)
    assert measured_w[MzmMode.AUTONULL] < 0.1 * measured_w[MzmMode.AUTOQUADPOS]
    assert measured_w[MzmMode.AUTOQUADPOS] < 0.7 * measured_w[MzmMode.AUTOPEAK]
    modulator.mode = MzmMode.MANUAL
    for voltage_v in 3.5, 0.0:
        modulator.voltage_setpoint = voltage_v
        assert (modulator.voltage_setpoint, modulator.voltage) == (voltage_v, voltage_v)
    modulator.calibrate()
    assert modulator.mode is MzmMode.MANUAL

    attenuator.enabled, attenuator.mode = True, VoaMode.ATTENUATION
    assert (attenuator.enabled, attenuator.mode) == (True, VoaMode.ATTENUATION)
    passed_mw = []
    for attenuation_db in 1.0, 11.0:
        attenuator.attenuation_setpoint = attenuation_db
        assert attenuator.attenuation_setpoint == attenuation_db
        assert attenuator.attenuation == pytest.approx(attenuation_db, abs=0.1)
        assert attenuator.is_stable
        passed_mw.append(attenuator.power)
    assert passed_mw[1] == pytest.approx(passed_mw[0] / 10, rel=0.05)
    attenuator.enabled, modulator.mode = False, MzmMode.OFF
    assert modulator.mode is MzmMode.OFF


def test_mbx_series_takes_the_acknowledgement_of_the_manual_for_the_next_answer(
    fleet: Fleet, connect: Connect
) -> None:
    """The manual has every command that sets answered by `1`; the driver reads some of them."""
    controller = connect(ThorlabsMBXSeries, f"ASRL{fleet['bias_i'].pty}::INSTR")
    controller.voa.mode = VoaMode.POWER
    assert controller.voa.mode is VoaMode.POWER
    controller.voa.mode = VoaMode.ATTENUATION
    controller.mzm.mode = MzmMode.AUTONULL
    acknowledgement = controller.mzm.mode
    assert (acknowledgement, controller.mzm.mode) == (MzmMode(1), MzmMode.AUTONULL)
    controller.adapter.close()
    again = connect(ThorlabsMBXSeries, f"ASRL{fleet['bias_i'].pty}::INSTR")
    assert again.mzm.mode is MzmMode.AUTONULL
    again.mzm.mode = MzmMode.OFF


def test_n7776c_emits_what_is_set_and_logs_the_wavelengths_of_a_sweep(
    fleet: Fleet, connect: Connect, received_dbm: Callable[[int], float]
) -> None:
    laser = connect(KeysightN7776C, fleet["swept_laser"].hislip)
    laser.locked, laser.wavelength = False, 1550.12
    assert (laser.locked, laser.wavelength) == (False, pytest.approx(1550.12))
    assert received_dbm(1) < -50.0
    laser.output_enabled = True
    received = []
    for power_mw in 1.0, 2.0:
        laser.output_power_mW = power_mw
        assert laser.output_power_mW == pytest.approx(power_mw)
        received.append(received_dbm(1))
    assert received[1] - received[0] == pytest.approx(3.01, abs=0.1)
    laser.output_power_dBm = 0.0
    assert laser.output_power_dBm == pytest.approx(0.0, abs=1e-6)

    laser.sweep_wl_start, laser.sweep_wl_stop, laser.sweep_step = 1549.0, 1551.0, 0.01
    laser.sweep_speed, laser.sweep_mode, laser.sweep_twoway = 50, "CONT", False
    laser.trigger_out, laser.wl_logging = "STF", True
    assert (laser.sweep_wl_start, laser.sweep_wl_stop) == pytest.approx((1549.0, 1551.0))
    assert (laser.sweep_step, laser.sweep_speed) == pytest.approx((0.01, 50.0))
    assert (laser.sweep_mode, laser.sweep_twoway, laser.wl_logging) == ("CONT", False, True)
    assert laser.trigger_out == "STF"
    assert laser.valid_sweep_params()
    laser.sweep_state = 1
    while laser.sweep_state != 0:
        pass
    assert laser.sweep_points == 201
    assert laser.get_wl_data() == pytest.approx(np.linspace(1549e-9, 1551e-9, 201), abs=2e-12)
    laser.output_enabled = False
    assert received_dbm(1) < -50.0
    assert laser.ask("SYST:ERR?").startswith("+0,")


def test_tsl570_emits_what_is_set_and_sweeps(
    fleet: Fleet, connect: Connect, received_dbm: Callable[[int], float]
) -> None:
    laser = connect(TSL570, fleet["tunable_laser"].hislip)
    assert laser.id.startswith("SANTEC,TSL-570,")
    laser.command_set, laser.power_unit = "SCPI", "mW"
    assert (laser.command_set, laser.power_unit) == ("SCPI", "mW")
    laser.wavelength_setpoint = 1550e-9
    assert laser.wavelength_setpoint == pytest.approx(1550e-9)
    assert laser.frequency_setpoint == pytest.approx(299792458 / 1550e-9, rel=1e-8)
    assert (laser.wavelength_min, laser.wavelength_max) == pytest.approx((1480e-9, 1640e-9))
    assert received_dbm(2) < -50.0
    laser.output_enabled = True
    received = []
    for power_mw in 1.0, 2.0:
        laser.power_setpoint = power_mw
        assert laser.power_setpoint == pytest.approx(power_mw)
        assert laser.power == pytest.approx(power_mw, rel=0.02)
        received.append(received_dbm(2))
    assert received[1] - received[0] == pytest.approx(3.01, abs=0.1)

    laser.wavelength_start, laser.wavelength_stop, laser.sweep_speed = 1549e-9, 1551e-9, 20
    laser.sweep_mode, laser.sweep_cycles = SweepMode.CONTINUOUS_ONE_WAY, 1
    laser.sweep_delay = laser.sweep_dwell = 0.0
    assert (laser.sweep_pattern, laser.sweep_routing) == (
        SweepPattern.CONTINUOUS,
        SweepRouting.ONE_WAY,
    )
    laser.start_sweep()
    while laser.sweep_status is not SweepStatus.STOPPED:
        pass
    assert laser.sweep_count == 1
    assert laser.wavelength_setpoint == pytest.approx(1551e-9, abs=1e-13)
    laser.frequency_setpoint = 193.4e12
    assert laser.frequency_setpoint == pytest.approx(193.4e12)
    laser.output_enabled = False
    assert received_dbm(2) < -50.0
    assert laser.check_errors() == []


def test_e36312a_supplies_the_detector(fleet: Fleet, connect: Connect) -> None:
    supply = connect(KeysightE36312A, fleet["supply"].hislip)
    channel = supply.ch_1
    channel.voltage_setpoint, channel.current_limit = 3.0, 0.1
    assert (channel.voltage_setpoint, channel.current_limit) == (3.0, 0.1)
    assert channel.voltage == pytest.approx(0.0, abs=2e-3)
    channel.output_enabled = True
    assert (channel.output_enabled, supply.ch_2.output_enabled) == (True, False)
    assert channel.voltage == pytest.approx(3.0, abs=2e-3)
    assert channel.current == pytest.approx(3.0 / 150.0, rel=5e-3)
    channel.current_limit = 0.01
    assert channel.current == pytest.approx(0.01, rel=5e-2)
    assert channel.voltage == pytest.approx(1.5, rel=5e-2)
    channel.output_enabled = False
    assert supply.check_errors() == []


def test_keithley_2450_sources_measures_and_moves_the_light_with_the_electrode(
    fleet: Fleet, connect: Connect, laser: Any, meter: Any
) -> None:
    source = connect(Keithley2450, fleet["bias_source"].hislip)
    source.reset()
    source.apply_voltage(voltage_range=20, compliance_current=1e-2)
    source.measure_current(nplc=0.1)
    assert (source.source_mode, source.source_voltage_range) == ("voltage", 20.0)
    assert (source.compliance_current, source.current_nplc) == (0.01, 0.1)
    source.enable_source()
    assert source.source_enabled is True
    at_rest_w = meter.power
    source.ramp_to_voltage(7.0, steps=5, pause=0.0)
    assert source.current == pytest.approx(7.0 / 1e4, rel=0.01)
    # Half a wave more or less on the parent: bright becomes dark, or the reverse.
    assert not 0.5 < meter.power / at_rest_w < 2.0
    source.apply_current(current_range=1e-3, compliance_voltage=5.0)
    source.measure_voltage(nplc=1)
    source.source_current = 1e-4
    assert (source.source_mode, source.source_current) == ("current", 1e-4)
    assert source.voltage == pytest.approx(1.0, rel=0.01)
    source.shutdown()
    assert source.source_enabled is False
    assert source.next_error[0] == 0
    assert meter.power == pytest.approx(at_rest_w, rel=0.02)
