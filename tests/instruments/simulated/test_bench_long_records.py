"""Records of any length take bounded memory, and show what records computed all along would."""

from __future__ import annotations

import math
import tomllib
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from labctl.data import shipped_bench_path
from labctl.instruments.simulated import bench as bench_module
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_file import build_bench, load_bench
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.physics.drive import DriveOutput, DriveParameters
from labctl.instruments.simulated.physics.grid import Noise
from labctl.instruments.simulated.physics.rotation import RotationUnit
from labctl.instruments.simulated.ports import (
    BiasMode,
    Capture,
    CaptureWindow,
    ChannelWindow,
    Drive,
)

GRID_HZ = 160e6
SLOT = 8
Floats = npt.NDArray[np.float64]


def lit_bench(seed: int = 1, *, bright: bool = False, **tables: dict[str, Any]) -> LinkBench:
    """Build the shipped bench with its laser on; a bright one has no drifts and strong light."""
    content: dict[str, Any] = tomllib.loads(shipped_bench_path().read_text(encoding="utf-8"))
    content |= {"seed": seed, "panels": {}}
    if bright:
        content["laser"].update(linewidth_hz=0.0, rin_db_hz=-300.0)
        content["attenuation"].update(fixed_db=0.0)
        content["modulator"].update(bias_drift_v_pi_rth=0.0)
        for party in ("client", "server"):
            content[party].update(phase_drift_rad2_s=0.0, swing_v=1e4, digitizer_bits=24)
    for name, changes in tables.items():
        content[name].update(changes)
    built = build_bench(BenchFile.model_validate(content), Path("bench.toml"))
    built.optics.laser.set_emission(True, 0.02, 193.4e12)
    locked = BiasMode.PEAK if bright else BiasMode.NULL
    for electrode in (built.optics.modulator.child_i, built.optics.modulator.child_q):
        electrode.set_bias(locked)
    return built


def record(
    bench: LinkBench, receiver: str, samples: int, rate_hz: float, range_v: float = 1.0
) -> Floats:
    window = CaptureWindow(0.0, rate_hz, samples, {1: ChannelWindow(range_v, 0.0)})
    return bench.digitizer_at(receiver).capture_now(window)[1].astype(np.float64)


@pytest.mark.parametrize(("samples", "rate_hz"), [(20_000, 1e3), (400_000, 2e6), (400_000, 8e3)])
@pytest.mark.parametrize("bandwidth_hz", [75e6, 5e6])
def test_a_long_record_has_the_noise_of_a_short_one(
    samples: int, rate_hz: float, bandwidth_hz: float
) -> None:
    """Signal attenuated away: variance within five errors of 100,000 and m samples, seed 2."""

    def dark() -> LinkBench:
        built = lit_bench(2, server={"bandwidth_hz": bandwidth_hz})
        built.optics.attenuator.set_attenuation(60.0)
        return built

    short = record(dark(), "server", 400_000, GRID_HZ)[:: round(GRID_HZ / bandwidth_hz)]
    long = record(dark(), "server", samples, rate_hz)
    error = math.sqrt(2.0 / len(short) + 2.0 / samples)
    assert np.var(long) == pytest.approx(np.var(short), rel=5.0 * error)
    neighbours = np.mean(long[1:] * long[:-1]) / np.mean(long**2)
    assert neighbours == pytest.approx(0.0, abs=5.0 / math.sqrt(samples))


def play_light(bench: LinkBench) -> None:
    """Drive the modulator slowly, for ever."""
    wave = np.sin(2.0 * np.pi * np.arange(3000) / 3000).astype(np.float32)
    bench.optics.drive_i.play(Drive(2.0 * wave, GRID_HZ, 0.0, None, 0.0))


def play_rows(bench: LinkBench, rows: int) -> None:
    """Play rows of a bright payload, and rotate them, from 10 us on."""
    pattern = np.concatenate([[0.9], np.linspace(-0.8, 0.8, 6), [0.0]]).astype(np.float32)
    levels = np.concatenate([[0.0], np.linspace(1.0, 0.3, 6), [0.0]]).astype(np.float32)
    real, imaginary = rotation(bench)
    for output, values in (
        (bench.optics.drive_i, 2.0 * pattern),
        (bench.optics.drive_q, pattern[::-1]),
        (real, levels),
        (imaginary, 0.5 * levels[::-1]),
    ):
        held = np.repeat(values, SLOT).astype(np.float32)
        output.play(Drive(held, GRID_HZ, 10e-6, rows, 0.0))


def rotation(bench: LinkBench) -> tuple[DriveOutput, DriveOutput]:
    """Give the bench a rotation unit of gain 1.5; return what plays its coefficients."""
    stage = DriveParameters(16, 10.0, 40e6, 0.0)
    sources = [Noise(np.random.SeedSequence(seed)) for seed in range(20, 24)]
    real, imaginary, control = (DriveOutput(stage, GRID_HZ, source) for source in sources[:3])
    control.play(Drive(np.array([2.0], np.float32), 1.0, 0.0, None, 0.0))
    parameters = bench.optics.rotation.parameters
    bench.optics.rotation = RotationUnit(parameters, real, imaginary, control, sources[3])
    return real, imaginary


@pytest.mark.parametrize("receiver", ["client", "server"])
@pytest.mark.parametrize("longest", [1 << 16, 1 << 10])
def test_instants_show_the_light_that_is_there(
    monkeypatch: pytest.MonkeyPatch, receiver: str, longest: int
) -> None:
    """One bright record, computed all along and at 800 instants, equal to 3 %.

    2^16 grid samples are enough for the stretches that filters need, and for the rows; 2^10 are
    not, and it is without rows.
    """

    def taken() -> Floats:
        built = lit_bench(3, bright=True)
        play_light(built)
        if longest > 1 << 12:
            play_rows(built, 400)
        return record(built, receiver, 800, GRID_HZ / 101.0, range_v=4000.0)

    whole = taken()
    monkeypatch.setattr(bench_module, "LONGEST_WHOLE", longest)
    at_instants = taken()
    largest = np.max(np.abs(whole))
    assert np.std(whole) > 1e-3 * largest
    assert np.max(np.abs(at_instants - whole)) < 0.03 * largest + 1.0


@pytest.mark.parametrize("rate_hz", [GRID_HZ, 125e6, 37e6])
@pytest.mark.parametrize("receiver", ["client", "server"])
def test_pieces_join_to_the_record_that_they_are_pieces_of(
    monkeypatch: pytest.MonkeyPatch, rate_hz: float, receiver: str
) -> None:
    """A bright record with rows: in pieces of 1,000 samples the signal is the same to 2 %."""

    def taken() -> Floats:
        built = lit_bench(4, bright=True)
        play_rows(built, 100)
        return record(built, receiver, 3000, rate_hz, range_v=4000.0)

    whole = taken()
    monkeypatch.setattr(bench_module, "_PIECE", 1000)
    joined = taken()
    largest = np.max(np.abs(whole))
    assert largest > 10.0
    assert np.max(np.abs(joined - whole)) < 0.02 * largest + 1.0


def test_the_laser_goes_on_over_the_pieces_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linewidth 10 kHz and 1 us between the paths: no step at joints beyond those between them."""
    monkeypatch.setattr(bench_module, "_PIECE", 2000)
    built = lit_bench(
        5,
        bright=True,
        laser={"linewidth_hz": 10e3},
        client={"lo_delay_s": 3.9e-6, "bandwidth_hz": 20e6},
    )
    volts = record(built, "client", 100_000, GRID_HZ, range_v=4000.0)
    steps = np.abs(np.diff(volts))
    joints = steps.reshape(-1)[1999::2000]
    assert np.mean(joints**2) < 4.0 * np.mean(steps**2)


def test_the_longest_record_of_an_oscilloscope_takes_little_memory() -> None:
    """4,000,000 samples over 500 s, the most that the panel asks for at once, below 200 MB."""
    built = lit_bench(6)
    tracemalloc.start()
    record(built, "server", 4_000_000, 8e3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    assert built.clock.now_s() == pytest.approx(500.0, rel=1e-3)


def test_two_digitizers_far_apart_in_time_are_computed_each_by_itself() -> None:
    built = lit_bench(7)
    got: list[Capture] = []
    for start_s, receiver in ((-400.0, "client"), (400.0, "server")):
        window = CaptureWindow(start_s, GRID_HZ, 1000, {1: ChannelWindow(1.0, 0.0)})
        built.digitizer_at(receiver).arm(window, got.append)
    built.trigger.fire()
    assert [len(capture[1]) for capture in got] == [1000, 1000]
    assert all(capture[1].std() > 0.0 for capture in got)


def test_a_row_that_no_memory_holds_is_not_rotated() -> None:
    """A generator may play 16 million levels at one a second; the trigger comes nevertheless."""
    built = lit_bench(8)
    levels = np.ones(1000, np.float32)
    for output in rotation(built):
        output.play(Drive(levels, 1.0, 0.0, 10**6, 0.0))
    assert record(built, "server", 1000, GRID_HZ).std() > 0.0


def test_an_oscilloscope_refuses_to_average_for_ever() -> None:
    """65,536 records of 1 ms would be 10^10 samples in one message."""
    built = load_bench(shipped_bench_path())
    panel = built.panels["TCPIP0::server-scope::hislip0::INSTR"]
    panel.write(b":ACQ:TYPE AVER;COUN 65536;:DIG;:SYST:ERR?\n", end=True)
    assert panel.read(1000)[0].startswith(b"-221")
    panel.write(b":ACQ:COUN 2;:DIG;*OPC?\n", end=True)
    assert panel.read(1000)[0] == b"1\n"
