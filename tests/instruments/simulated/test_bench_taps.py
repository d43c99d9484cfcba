"""Taps of the link, and errors of gain and offset: what heads and digitizers read of them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.data import shipped_bench_path, shipped_station_path
from labctl.errors import StationFileError
from labctl.instruments.capabilities import BiasPoint
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_file import build_bench
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.physics.detection import SensorParameters
from labctl.instruments.simulated.physics.drive import DriveOutput, DriveParameters
from labctl.instruments.simulated.physics.grid import Noise
from labctl.instruments.simulated.physics.rotation import RotationUnit
from labctl.instruments.simulated.ports import BiasMode, CaptureWindow, ChannelWindow, Drive
from labctl.station import Station
from labctl.station.equipment import FibreMeter, equipment_of

PATH = Path("bench.toml")
LASER_W = 0.02
QUIET = SensorParameters(1.0, 0.0, 0.0)
# 10 % of 20 mW past modulator, monitor tap, attenuator and fixed loss, at a locked peak.
AT_LAUNCH_W = LASER_W * 0.1 * 10.0**-0.6 * 0.95 * 10.0**-4.07
FIBRE = 10.0**-0.02
PROBE = {"linewidth_hz": 0.0, "rin_db_hz": -140.0, "insertion_loss_db": 1.0}
PHOTON_J = 6.62607015e-34 * 193.4e12


def content(**tables: dict[str, Any]) -> dict[str, Any]:
    tables_: dict[str, Any] = tomllib.loads(shipped_bench_path().read_text(encoding="utf-8"))
    tables_["panels"] = {}
    tables_["modulator"].update(lock_error_rad=0.0, extinction_ratio_db=80.0)
    for name, changes in tables.items():
        tables_[name].update(changes)
    return tables_


def bright_bench(**tables: dict[str, Any]) -> LinkBench:
    """Build the shipped bench with all of its light on."""
    built = build_bench(BenchFile.model_validate(content(**tables)), PATH)
    built.optics.laser.set_emission(True, LASER_W, 193.4e12)
    modulator = built.optics.modulator
    for electrode in (modulator.child_i, modulator.child_q, modulator.parent):
        electrode.set_bias(BiasMode.PEAK)
    return built


def tapped_w(bench: LinkBench, name: str) -> float:
    """Return the power on a tap's head, read by a head without errors."""
    wavelength_m = 299_792_458.0 / 193.4e12
    head = bench.tap_head(name, QUIET, Noise(np.random.SeedSequence(1)))
    return head.photocurrent_a(1.0) / head.responsivity_a_w(wavelength_m)


def amplify(bench: LinkBench) -> None:
    """Set the client's amplifier to a gain of 2."""
    stage = DriveParameters(16, 10.0, 40e6, 0.0)
    sources = [Noise(np.random.SeedSequence(seed)) for seed in range(20, 24)]
    real, imaginary, control = (DriveOutput(stage, 160e6, source) for source in sources[:3])
    control.play(Drive(np.array([4.0], np.float32), 1.0, 0.0, None, 0.0))
    parameters = bench.optics.rotation.parameters
    bench.optics.rotation = RotationUnit(parameters, real, imaginary, control, sources[3])


def test_each_head_sees_its_share_of_what_is_in_the_fibre() -> None:
    bench = bright_bench()
    assert tapped_w(bench, "launch") == pytest.approx(0.1 * AT_LAUNCH_W, rel=1e-4)
    arriving_w = 0.9 * AT_LAUNCH_W * FIBRE
    assert tapped_w(bench, "arrival") == pytest.approx(0.01 * arriving_w, rel=1e-4)
    returned_w = 0.99 * arriving_w * FIBRE
    assert tapped_w(bench, "return") == pytest.approx(0.01 * returned_w, rel=1e-4)
    bench.optics.attenuator.set_attenuation(10.0)
    assert tapped_w(bench, "launch") == pytest.approx(0.01 * AT_LAUNCH_W, rel=1e-4)


def test_the_amplifier_adds_its_emission_to_what_returns() -> None:
    """Gain 2 at the quantum limit leaves half a photon a mode: 1.6e8 modes/s on the grid."""
    bench = bright_bench()
    bench.optics.laser.set_emission(False, LASER_W, 193.4e12)
    assert tapped_w(bench, "return") == 0.0
    amplify(bench)
    emitted_w = 0.5 * 160e6 * PHOTON_J * FIBRE
    assert tapped_w(bench, "return") == pytest.approx(0.01 * emitted_w, rel=1e-4)
    assert tapped_w(bench, "arrival") == 0.0


@pytest.mark.parametrize(
    ("receiver", "left"), [("client", 0.9 * 0.99), ("server", 0.9 * 0.99 * 0.99)]
)
def test_taps_take_their_light_from_the_receivers(receiver: str, left: float) -> None:
    """Root of the mean square of a bright record, with the taps over without: sqrt of the loss."""

    def amplitude(bench: LinkBench) -> float:
        window = CaptureWindow(0.0, 160e6, 20_000, {1: ChannelWindow(10.0, 0.0)})
        return float(np.sqrt(np.mean(bench.digitizer_at(receiver).capture_now(window)[1] ** 2)))

    quiet = {"phase_drift_rad2_s": 0.0, "swing_v": 1e4, "digitizer_bits": 24}
    parts = {
        "client": quiet,
        "server": quiet,
        "laser": {"linewidth_hz": 0.0},
        "attenuation": {"fixed_db": 30.0},
    }

    def lit(taps: bool) -> LinkBench:
        tables = content(**parts)
        if not taps:
            del tables["taps"]
        built = build_bench(BenchFile.model_validate(tables), PATH)
        amplify(built)
        built.optics.laser.set_emission(True, LASER_W, 193.4e12)
        return built

    assert amplitude(lit(True)) / amplitude(lit(False)) == pytest.approx(np.sqrt(left), rel=5e-3)


@pytest.mark.parametrize("role", ["launch_meter", "arrival_meter", "return_meter"])
def test_the_shipped_station_reads_the_power_in_its_fibre(role: str) -> None:
    """Through wire and driver, attenuator at 1 dB: 10 readings, 3 %; noise is 0.5 %."""
    with Station.read(shipped_station_path()) as station:
        equipment = equipment_of(station)
        server = equipment.server
        server.laser.set_power(server.laser_power_w)
        server.laser.set_frequency(server.laser_frequency_hz)
        server.laser.set_emission(True)
        for bias in (server.bias_i, server.bias_q, server.bias_parent):
            bias.lock(BiasPoint.PEAK)
        server.attenuator.set_attenuation(1.0)
        meter = getattr(equipment.client if role == "arrival_meter" else server, role)
        assert isinstance(meter, FibreMeter)
        meter.input.set_wavelength(299_792_458.0 / server.laser_frequency_hz)
        in_fibre_w = np.mean([meter.fibre_power_w() for _ in range(10)])
        launched_w = 0.9 * AT_LAUNCH_W * 10.0**-0.1 * server.laser_power_w / LASER_W
        kept = {
            "launch_meter": 1.0,
            "arrival_meter": 0.99 * FIBRE,
            "return_meter": 0.9801 * FIBRE**2,
        }
        assert in_fibre_w == pytest.approx(kept[role] * launched_w, rel=0.03)


def test_a_head_that_is_off_its_calibration_reads_wrong_by_it() -> None:
    sensor = SensorParameters(1.05, 0.0, 0.0, 1.0)
    bench = bright_bench()
    head = bench.tap_head("launch", sensor, Noise(np.random.SeedSequence(1)))
    read_w = head.photocurrent_a(1.0) / head.responsivity_a_w(299_792_458.0 / 193.4e12)
    assert read_w == pytest.approx(1.05 * tapped_w(bench, "launch"), rel=1e-6)


def test_a_drawn_responsivity_is_not_the_calibrated_one() -> None:
    tables = content() | {"spread": {"responsivity": 0.05}}
    bench = build_bench(BenchFile.model_validate(tables), PATH)
    sensor = bench.optics.sensor
    assert sensor.rated_a_w == 1.0
    assert sensor.responsivity_a_w == bench.truth().responsivity_a_w != 1.0


def test_an_attenuator_attenuates_by_its_scale() -> None:
    exact, off = bright_bench(), bright_bench(attenuation={"scale": 1.02})
    for bench in (exact, off):
        bench.optics.attenuator.set_attenuation(20.0)
    ratio = tapped_w(off, "launch") / tapped_w(exact, "launch")
    assert ratio == pytest.approx(10.0**-0.04, rel=1e-6)


def test_generator_outputs_have_their_own_gain_and_offset() -> None:
    bench = bright_bench(
        generators={"gain": {"modulator_i": 1.01}, "offset_v": {"server_shutter": 0.02}}
    )
    level = Drive(np.array([2.0], np.float32), 1.0, 0.0, None, 0.0)
    bench.optics.drive_i.play(level)
    bench.optics.drive_q.play(level)
    assert bench.optics.drive_i.steady_voltage() == pytest.approx(2.02)
    assert bench.optics.drive_q.steady_voltage() == pytest.approx(2.0)
    truth = bench.truth()
    assert truth.generator_gain["modulator_i"] == 1.01
    assert truth.generator_offset_v["server_shutter"] == 0.02


def test_digitizer_channels_have_their_own_gain_and_offset() -> None:
    """Dark input, then a steady one: 10,000 samples, five standard errors of 0.5 mV."""
    bench = bright_bench(server={"digitizer_offset_v": [0.1, -0.2], "digitizer_bits": 24})
    bench.optics.laser.set_emission(False, 0.0, 193.4e12)
    windows = {1: ChannelWindow(10.0, 0.0), 2: ChannelWindow(10.0, 0.0)}
    volts = bench.digitizer_at("server").capture_now(CaptureWindow(0.0, 160e6, 10_000, windows))
    assert np.mean(volts[1]) == pytest.approx(0.1, abs=5e-4)
    assert np.mean(volts[2]) == pytest.approx(-0.2, abs=5e-4)


def test_a_digitizers_gain_scales_what_it_sees() -> None:
    def spread(gain: float) -> float:
        bench = bright_bench(
            server={"digitizer_gain": [gain, 1.0], "digitizer_noise_v": 0.0, "digitizer_bits": 24}
        )
        bench.optics.attenuator.set_attenuation(60.0)
        window = CaptureWindow(0.0, 160e6, 10_000, {1: ChannelWindow(10.0, 0.0)})
        return float(np.std(bench.digitizer_at("server").capture_now(window)[1]))

    assert spread(1.1) / spread(1.0) == pytest.approx(1.1, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"taps": {}}, "no such input; there are: monitor"),
        ({"probes": {"launch": PROBE}}, "the link's launch tap"),
    ],
)
def test_an_input_without_a_tap_and_a_probe_with_its_name_are_refused(
    change: dict[str, Any], expected: str
) -> None:
    tables = content() | change
    meter = {"type": "keysight_n7744a", "address": "GPIB0::1::INSTR", "inputs": {"1": "launch"}}
    tables["panels"] = {"meter": meter}
    with pytest.raises(StationFileError, match=expected):
        build_bench(BenchFile.model_validate(tables), PATH)


def test_a_spread_that_could_tap_half_of_the_light_is_refused() -> None:
    tables = content() | {"spread": {"splitters": 0.03}}
    tables["taps"]["launch"]["fraction"] = 0.48
    with pytest.raises(StationFileError, match=r"taps\.launch\.fraction = 0\.48 up to 0\.5"):
        build_bench(BenchFile.model_validate(tables), PATH)
