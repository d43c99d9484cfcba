"""Bench files: TOML that describes a simulated bench, with every physical parameter.

`load_bench(path)` is what the doors call. Tables are checked strictly; unknown keys are refused
with the file, the line and the nearest valid key.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_doors import check_doors, doors_of
from labctl.instruments.simulated.bench_light import Optics, Receiver
from labctl.instruments.simulated.bench_panels import PanelBuilder
from labctl.instruments.simulated.bench_tables import BenchFile, DriveTable, ReceiverTable
from labctl.instruments.simulated.bench_truth import draw, truth_of
from labctl.instruments.simulated.bench_wiring import bandwidths_hz, check_parts, check_wiring
from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panel_tables import DriveName
from labctl.instruments.simulated.physics.detection import (
    BalancedDetector,
    DetectorParameters,
    DigitizerParameters,
    SensorParameters,
)
from labctl.instruments.simulated.physics.drive import DriveOutput, DriveParameters
from labctl.instruments.simulated.physics.free_laser import FreeLaser, FrequencyError
from labctl.instruments.simulated.physics.grid import Seeds
from labctl.instruments.simulated.physics.laser import Laser, LaserParameters
from labctl.instruments.simulated.physics.modulator import (
    BiasDrift,
    IQModulator,
    ModulatorParameters,
)
from labctl.instruments.simulated.physics.path import (
    Fibre,
    PhaseDrift,
    PhaseShifter,
    PolarisationDrift,
    Shutter,
    VariableAttenuator,
)
from labctl.instruments.simulated.physics.rotation import RotationParameters, RotationUnit
from labctl.toml_file import read_toml


def load_bench(path: Path, *, seed: int | None = None, run: int = 0) -> LinkBench:
    """Read a bench file and build its bench; raises StationFileError if anything is wrong.

    `seed` replaces the file's, for many benches from one file; `run`: see `build_bench`.
    """
    table = read_toml(path, BenchFile)
    chosen = table if seed is None else table.model_copy(update={"seed": seed})
    return build_bench(chosen, path, run=run)


def build_bench(table: BenchFile, path: Path, *, run: int = 0) -> LinkBench:
    """Build the bench that a checked bench file describes, drawn around it by its spread.

    `run`: the same bench on another day, all its noise drawn again.
    """
    check_parts(table, path)
    check_wiring(table, path)
    check_doors(table, path)
    said, table = table, draw(table)
    seeds = Seeds(table.seed, run)
    grid_hz = table.grid_hz
    drives: dict[str, DriveOutput] = {
        name: DriveOutput(_stage(table.generators, name), grid_hz, seeds.noise(f"drive {name}"))
        for name in get_args(DriveName)
    }
    clock = BenchClock()
    optics = _optics(table, drives, clock, seeds)
    optics.sensor = replace(optics.sensor, rated_a_w=said.monitor.responsivity_a_w)
    bench = LinkBench(optics, grid_hz, _settling_samples(table), clock, drawn=truth_of(table))
    tap = 1.0 - table.monitor.tap_fraction
    optics.attenuator = VariableAttenuator(
        table.attenuation.insertion_loss_db,
        lambda: bench.modulated_power_w() * tap,
        table.attenuation.scale,
    )
    heads: dict[str, SensorParameters] = {
        name: SensorParameters(
            tap_.responsivity_a_w,
            tap_.dark_current_a,
            tap_.noise_a,
            said.taps[name].responsivity_a_w,
        )
        for name, tap_ in table.taps.items()
    }
    builder = PanelBuilder(table, bench, drives, seeds, heads)
    for name, panel in table.panels.items():
        builder.add(name, panel)
    bench.doors.update(doors_of(table))
    return bench


def _stage(table: DriveTable, name: DriveName) -> DriveParameters:
    stage = table.model_dump(exclude={"gain", "offset_v"})
    gain, offset_v = table.gain.get(name, 1.0), table.offset_v.get(name, 0.0)
    return DriveParameters(**stage, gain=gain, offset_v=offset_v)


def _settling_samples(table: BenchFile) -> int:
    """Return twice the inverse of the lowest bandwidth: filters have settled to 2e-4 by then."""
    return max(64, math.ceil(2.0 * table.grid_hz / min(bandwidths_hz(table).values())))


def _walk(rate_rth: float, clock: BenchClock, seeds: Seeds, name: str) -> Callable[[], float]:
    """Return a Wiener process on the bench clock; `rate_rth`: per square root of an hour."""
    if rate_rth == 0.0:
        return lambda: 0.0
    return BiasDrift(rate_rth / math.sqrt(3600.0), clock.now_s, seeds.noise(name)).phase_rad


def _rotation_unit(
    table: BenchFile, drives: dict[str, DriveOutput], clock: BenchClock, seeds: Seeds
) -> RotationUnit:
    rotation = table.rotation
    return RotationUnit(
        RotationParameters(
            gain_per_v=rotation.gain_per_v,
            emission_factor=rotation.emission_factor,
            slot_samples=round(table.grid_hz / rotation.symbol_rate_hz),
            storage_samples=round(rotation.storage_s * table.grid_hz),
            loss_db_per_mode=rotation.loss_db_per_mode,
            coupler_error_rad=rotation.coupler_error_rad,
            phase_error_rad=rotation.phase_error_rad,
            block_modes=rotation.block_modes,
            turns=rotation.turns,
            net_gain_error=rotation.net_gain_error,
            arm_phase_rad=rotation.arm_phase_rad,
            net_gain_drift_rth=rotation.net_gain_drift_rth,
            arm_phase_drift_rad_rth=rotation.arm_phase_drift_rad_rth,
            pilots_measured=rotation.pilots_measured,
        ),
        drives["rotation_real"],
        drives["rotation_imaginary"],
        drives["client_gain"],
        seeds.noise("rotation"),
        seeds.sequence("rotation elements"),
        (
            _walk(rotation.net_gain_drift_rth, clock, seeds, "clone gain drift"),
            _walk(rotation.arm_phase_drift_rad_rth, clock, seeds, "clone phase drift"),
        ),
    )


def _optics(
    table: BenchFile, drives: dict[str, DriveOutput], clock: BenchClock, seeds: Seeds
) -> Optics:
    laser, grid_hz = table.laser, table.grid_hz
    return Optics(
        laser=Laser(
            LaserParameters(laser.linewidth_hz, laser.rin_db_hz), grid_hz, seeds.noise("laser")
        ),
        rin_db_hz=laser.rin_db_hz,
        signal_fraction=laser.signal_fraction,
        drive_i=drives["modulator_i"],
        drive_q=drives["modulator_q"],
        modulator=IQModulator(
            ModulatorParameters(**table.modulator.model_dump()),
            seeds.noise("bias"),
            clock.now_s,
            [seeds.noise(f"bias drift {electrode}") for electrode in ("i", "q", "parent")],
        ),
        tap_fraction=table.monitor.tap_fraction,
        sensor=SensorParameters(
            table.monitor.responsivity_a_w, table.monitor.dark_current_a, table.monitor.noise_a
        ),
        attenuator=VariableAttenuator(table.attenuation.insertion_loss_db, lambda: 0.0),
        fixed_attenuation_db=table.attenuation.fixed_db,
        forward=Fibre(**table.forward.model_dump()),
        rotation=_rotation_unit(table, drives, clock, seeds),
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
        taps={name: tap.fraction for name, tap in table.taps.items()},
        client_laser=_client_laser(table, clock, seeds),
    )


def _client_laser(table: BenchFile, clock: BenchClock, seeds: Seeds) -> FreeLaser | None:
    laser = table.client_laser
    if laser is None:
        return None
    return FreeLaser(
        LaserParameters(laser.linewidth_hz, laser.rin_db_hz),
        table.grid_hz,
        seeds.noise("client laser"),
        error=FrequencyError(laser.frequency_error_hz, laser.drift_hz_s),
        now_s=clock.now_s,
    )


def _receiver(
    table: ReceiverTable, phase_drive: DriveOutput, grid_hz: float, seeds: Seeds, name: str
) -> Receiver:
    return Receiver(
        lo_fraction=table.lo_fraction,
        lo_delay_s=table.lo_delay_s,
        phase_shifter=PhaseShifter(table.phase_shifter_v_pi_v, phase_drive.steady_voltage),
        drift=PhaseDrift(table.phase_drift_rad2_s, grid_hz, seeds.noise(f"{name} path")),
        polarisation=PolarisationDrift(
            table.polarisation_drift_rad2_s, grid_hz, seeds.noise(f"{name} polarisation")
        ),
        detector=BalancedDetector(
            DetectorParameters(
                efficiency=table.efficiency,
                transimpedance_v_a=table.transimpedance_v_a,
                bandwidth_hz=table.bandwidth_hz,
                electronic_noise_a_rthz=table.electronic_noise_a_rthz,
                common_mode_rejection_db=table.common_mode_rejection_db,
                swing_v=table.swing_v,
                saturation_power_w=table.saturation_power_w,
            ),
            grid_hz,
            seeds.noise(f"{name} detector"),
        ),
        digitizer=DigitizerParameters(
            table.digitizer_bits,
            table.digitizer_noise_v,
            table.digitizer_jitter_s,
            table.digitizer_gain,
            table.digitizer_offset_v,
        ),
        noise=seeds.noise(f"{name} digitizer"),
    )
