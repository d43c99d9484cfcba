"""Bench files: TOML that says what stands on a simulated bench, with every physical parameter.

`load_bench(path)` is what the doors call. Tables are checked strictly; unknown keys are refused
with the file, the line and the nearest valid key.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

from labctl.errors import StationFileError
from labctl.instruments.simulated.bench import LinkBench, Optics, Receiver
from labctl.instruments.simulated.bench_panels import PanelBuilder
from labctl.instruments.simulated.bench_tables import BenchFile, DriveName, ReceiverTable
from labctl.instruments.simulated.physics.detection import (
    BalancedDetector,
    DetectorParameters,
    DigitizerParameters,
    SensorParameters,
)
from labctl.instruments.simulated.physics.drive import DriveOutput, DriveParameters
from labctl.instruments.simulated.physics.grid import Seeds
from labctl.instruments.simulated.physics.laser import Laser, LaserParameters
from labctl.instruments.simulated.physics.modulator import IQModulator, ModulatorParameters
from labctl.instruments.simulated.physics.path import (
    Fibre,
    PhaseDrift,
    PhaseShifter,
    Shutter,
    VariableAttenuator,
)
from labctl.instruments.simulated.physics.rotation import RotationParameters, RotationUnit
from labctl.toml_file import read_toml

_LEAST_SLOT = 4
_LONGEST_RESPONSE = 1000


def load_bench(path: Path) -> LinkBench:
    """Read a bench file and build its bench; raises StationFileError if anything is wrong."""
    return build_bench(read_toml(path, BenchFile), path)


def build_bench(table: BenchFile, path: Path) -> LinkBench:
    """Build the bench that a checked bench file describes."""
    _check_bandwidths(table, path)
    _check_slots(table, path)
    seeds = Seeds(table.seed)
    grid_hz = table.grid_hz
    stage = DriveParameters(**table.generators.model_dump())
    drives = {
        name: DriveOutput(stage, grid_hz, seeds.noise(f"drive {name}"))
        for name in get_args(DriveName)
    }
    optics = _optics(table, drives, grid_hz, seeds)
    bench = LinkBench(optics, grid_hz, _settling_samples(table))
    tap = 1.0 - table.monitor.tap_fraction
    optics.attenuator = VariableAttenuator(
        table.attenuation.insertion_loss_db, lambda: bench.modulated_power_w() * tap
    )
    builder = PanelBuilder(table, path, bench, drives, seeds)
    for name, panel in table.panels.items():
        builder.add(name, panel)
    return bench


def _check_bandwidths(table: BenchFile, path: Path) -> None:
    """Refuse analogue bandwidths that the time grid cannot hold, or only at great length."""
    lowest_hz, nyquist_hz = table.grid_hz / _LONGEST_RESPONSE, table.grid_hz / 2.0
    for name, bandwidth_hz in _bandwidths_hz(table).items():
        if not lowest_hz <= bandwidth_hz < nyquist_hz:
            raise StationFileError(
                f"{path}: {name}.bandwidth_hz = {bandwidth_hz:g}: must be at least "
                f"grid_hz / {_LONGEST_RESPONSE} = {lowest_hz:g} and below grid_hz / 2 = "
                f"{nyquist_hz:g}"
            )


def _bandwidths_hz(table: BenchFile) -> dict[str, float]:
    return {
        "generators": table.generators.bandwidth_hz,
        "client": table.client.bandwidth_hz,
        "server": table.server.bandwidth_hz,
    }


def _settling_samples(table: BenchFile) -> int:
    """Return twice the inverse of the lowest bandwidth: filters have settled to 2e-4 by then."""
    return max(64, math.ceil(2.0 * table.grid_hz / min(_bandwidths_hz(table).values())))


def _check_slots(table: BenchFile, path: Path) -> None:
    """Refuse symbols that do not take a whole number of grid samples, at least four."""
    samples = table.grid_hz / table.rotation.symbol_rate_hz
    if samples < _LEAST_SLOT - 1e-9 or abs(samples - round(samples)) > 1e-9 * samples:
        raise StationFileError(
            f"{path}: rotation.symbol_rate_hz = {table.rotation.symbol_rate_hz:g}: must be "
            f"grid_hz = {table.grid_hz:g} over a whole number, {_LEAST_SLOT} or more"
        )


def _optics(
    table: BenchFile, drives: dict[str, DriveOutput], grid_hz: float, seeds: Seeds
) -> Optics:
    laser = table.laser
    rotation = table.rotation
    return Optics(
        laser=Laser(
            LaserParameters(laser.linewidth_hz, laser.rin_db_hz), grid_hz, seeds.noise("laser")
        ),
        rin_db_hz=laser.rin_db_hz,
        signal_fraction=laser.signal_fraction,
        drive_i=drives["modulator_i"],
        drive_q=drives["modulator_q"],
        modulator=IQModulator(
            ModulatorParameters(**table.modulator.model_dump()), seeds.noise("bias")
        ),
        tap_fraction=table.monitor.tap_fraction,
        sensor=SensorParameters(
            table.monitor.responsivity_a_w, table.monitor.dark_current_a, table.monitor.noise_a
        ),
        attenuator=VariableAttenuator(table.attenuation.insertion_loss_db, lambda: 0.0),
        fixed_attenuation_db=table.attenuation.fixed_db,
        forward=Fibre(**table.forward.model_dump()),
        rotation=RotationUnit(
            RotationParameters(
                gain_per_v=rotation.gain_per_v,
                emission_factor=rotation.emission_factor,
                slot_samples=round(grid_hz / rotation.symbol_rate_hz),
                storage_samples=round(rotation.storage_s * grid_hz),
            ),
            drives["rotation_real"],
            drives["rotation_imaginary"],
            drives["client_gain"],
            seeds.noise("rotation"),
        ),
        back=Fibre(**table.back.model_dump()),
        shutter=Shutter(
            table.shutter.threshold_v,
            table.shutter.isolation_db,
            drives["server_shutter"].steady_voltage,
        ),
        receivers={
            "client": _receiver(table.client, drives["client_lo_phase"], grid_hz, seeds, "client"),
            "server": _receiver(table.server, drives["server_lo_phase"], grid_hz, seeds, "server"),
        },
        vacuum=seeds.noise("vacuum"),
    )


def _receiver(
    table: ReceiverTable, phase_drive: DriveOutput, grid_hz: float, seeds: Seeds, name: str
) -> Receiver:
    return Receiver(
        lo_fraction=table.lo_fraction,
        lo_delay_s=table.lo_delay_s,
        phase_shifter=PhaseShifter(table.phase_shifter_v_pi_v, phase_drive.steady_voltage),
        drift=PhaseDrift(table.phase_drift_rad2_s, grid_hz, seeds.noise(f"{name} path")),
        detector=BalancedDetector(
            DetectorParameters(
                efficiency=table.efficiency,
                transimpedance_v_a=table.transimpedance_v_a,
                bandwidth_hz=table.bandwidth_hz,
                electronic_noise_a_rthz=table.electronic_noise_a_rthz,
                common_mode_rejection_db=table.common_mode_rejection_db,
                swing_v=table.swing_v,
            ),
            grid_hz,
            seeds.noise(f"{name} detector"),
        ),
        digitizer=DigitizerParameters(table.digitizer_bits, table.digitizer_noise_v),
        noise=seeds.noise(f"{name} digitizer"),
    )
