"""The fleet bench: what one instrument sets, another measures, through drivers and wire."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from labctl.data import shipped_fleet_path
from labctl.instruments import drivers
from labctl.instruments.capabilities import BiasPoint
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.panel_tables import BuiltInTable
from labctl.toml_file import read_toml

_DRIVER_OF = {"itla": "purephotonics_ppcl550", "keysight_33500": "keysight_33512b"}


class Fleet:
    """Opens instruments of a bench file by their names."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._panels = read_toml(path, BenchFile).panels

    def open(self, name: str, **options: object) -> Any:
        panel = self._panels[name]
        driver = drivers.load(_DRIVER_OF.get(panel.type, panel.type))
        return driver.open(name, panel.address, library=f"{self._path}@labctl", options=options)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    copy = tmp_path / "fleet_bench.toml"
    shutil.copy(shipped_fleet_path(), copy)
    return Fleet(copy)


def test_every_kind_of_panel_stands_on_the_fleet_bench() -> None:
    types = {panel.type for panel in read_toml(shipped_fleet_path(), BenchFile).panels.values()}
    tables = get_args(get_args(BuiltInTable)[0])
    shipped = [get_args(table.model_fields["type"].annotation) for table in tables]
    assert types == {name for names in shipped for name in names}


def test_the_meter_reads_what_the_attenuator_leaves_of_the_swept_laser(fleet: Fleet) -> None:
    """Insertion loss 1 dB; head calibrated at 1550 nm, where its responsivity is rated."""
    laser, attenuator = fleet.open("swept_laser"), fleet.open("probe_attenuator")
    meter = fleet.open("multiport_meter").channel(1)
    meter.set_wavelength(1550e-9)
    laser.set_frequency(299_792_458.0 / 1550e-9)
    laser.set_power(1e-3)
    laser.set_emission(True)
    attenuator.set_attenuation(0.0)
    bright_w = meter.power_w()
    attenuator.set_attenuation(10.0)
    assert bright_w == pytest.approx(1e-3 * 10.0**-0.1, rel=2e-3)
    assert meter.power_w() == pytest.approx(bright_w / 10.0, rel=5e-3)
    laser.set_emission(False)
    assert meter.power_w() == pytest.approx(0.0, abs=1e-8)


def test_a_meter_set_to_another_wavelength_is_wrong_by_the_responsivity(fleet: Fleet) -> None:
    laser, meter = fleet.open("swept_laser"), fleet.open("multiport_meter").channel(1)
    laser.set_power(1e-3)
    laser.set_frequency(299_792_458.0 / 1500e-9)
    laser.set_emission(True)
    meter.set_wavelength(1500e-9)
    right_w = meter.power_w()
    meter.set_wavelength(1600e-9)
    assert meter.power_w() == pytest.approx(right_w * 1500.0 / 1600.0, rel=2e-3)


@pytest.mark.parametrize("wire", ["5000::SOCKET", "hislip0::INSTR"])
def test_the_log_of_a_sweep_is_read_whether_or_not_the_wire_marks_its_end(
    tmp_path: Path, wire: str
) -> None:
    """The log has no terminator behind it (docs/wire/santec_tsl570.md, section Wavelength log)."""
    text = shipped_fleet_path().read_text(encoding="utf-8")
    assert text.count("tunable-laser::5000::SOCKET") == 1
    path = tmp_path / "bench.toml"
    path.write_text(text.replace("tunable-laser::5000::SOCKET", f"tunable-laser::{wire}"))
    laser = Fleet(path).open("tunable_laser")
    laser.set_emission(True)
    laser.configure_sweep(1550e-9, 1551e-9, 10e-9)
    laser.set_trigger_output(3, 0.1e-9)
    laser.start_sweep()
    while laser.sweeping():
        pass
    logged_m = laser.logged_wavelengths_m()
    assert logged_m == pytest.approx(np.linspace(1550e-9, 1551e-9, 11), abs=1e-13)
    assert np.array_equal(laser.logged_wavelengths_m(), logged_m)
    assert laser.frequency_hz() == pytest.approx(299_792_458.0 / 1551e-9, rel=1e-7)


def test_a_source_on_the_parent_electrode_moves_the_modulator(fleet: Fleet) -> None:
    """Both children at their peak: half a V_pi on the parent takes the sum from full to half."""
    laser, monitor = fleet.open("server_laser"), fleet.open("monitor")
    boxes = [fleet.open(name) for name in ("bias_i", "bias_q", "bias_parent")]
    source = fleet.open("bias_source")
    laser.set_frequency(193.4e12)
    laser.set_power(10e-3)
    laser.set_emission(True)
    for box in boxes:
        box.lock(BiasPoint.PEAK)
    monitor.set_wavelength(299_792_458.0 / 193.4e12)
    bright_w = monitor.power_w()
    source.set_voltage(3.5)
    assert monitor.power_w() == pytest.approx(bright_w / 2.0, rel=2e-2)
    source.set_voltage(7.0)
    assert monitor.power_w() < 0.01 * bright_w


def test_two_readouts_at_the_server_see_the_laser_switched_on(fleet: Fleet) -> None:
    """Shot noise of the local oscillator over electronic noise, in the Red Pitaya's record."""
    laser, readout = fleet.open("server_laser"), fleet.open("fast_readout")
    readout.configure_channel(1, range_v=2.0, offset_v=0.0)
    readout.configure_record(start_s=0.0, duration_s=100e-6)
    generator = fleet.open("server_generator")
    assert generator.identify().model == "33512B"

    def spread() -> float:
        readout.configure_trigger(1, level_v=0.0)
        readout.arm([1])
        return float(readout.read(1).voltage_v.std())

    dark = spread()
    laser.set_power(20e-3)
    laser.set_emission(True)
    assert spread() > 2.0 * dark
