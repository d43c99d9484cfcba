"""Real routines on real drivers and wire, on benches whose hidden truth a test may look up.

`open_station` and `open_bench` are context managers that stand the shipped station on a bench:

    with open_bench(seed=3, effort=0.1, bench_changes={"server.swing_v": 0.1}) as (bench, world):

`seed` and `spread` (True for `TYPICAL_SPREAD`, or a table) draw the bench; `bench_changes` and
`station_changes` go by dotted key, `None` taking the key out. `world.truth()` and `world.optics`
tell what the components really are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import signal

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.knowledge import NOTHING, Knowledge
from labctl.data import shipped_bench_path, shipped_station_path
from labctl.dsp.layout import FrameLayout
from labctl.dsp.pulses import HANN
from labctl.instruments.simulated import bench_file
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.panels.oscilloscope_acquisition import Acquisition
from labctl.station import Station
from labctl.station.equipment import equipment_of
from labctl.station.file import StationFile, read_station_file
from labctl.toml_file import read_toml
from labctl.units import ELEMENTARY_CHARGE_C, photon_energy_j

TYPICAL_SPREAD = {
    "v_pi": 0.02,
    "offset_rad": 0.3,
    "extinction_ratio": 0.05,
    "insertion_loss": 0.03,
    "splitters": 0.03,
    "responsivity": 0.02,
    "fibre_length": 0.01,
    "lo_delay": 0.01,
    "amplifier_gain": 0.05,
    "efficiency": 0.03,
    "transimpedance": 0.05,
    "electronic_noise": 0.1,
    "common_mode_rejection": 0.05,
}
Changes = Mapping[str, object]


def _changed(table: dict[str, Any], changes: Changes) -> dict[str, Any]:
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        part = table
        for name in parents:
            part = part.setdefault(name, {})
        if value is None:
            del part[last]
        else:
            part[last] = value
    return table


def _bench_table(seed: int, spread: object, changes: Changes) -> BenchFile:
    table = read_toml(shipped_bench_path(), BenchFile).model_dump()
    table["seed"] = seed
    if spread:
        table["spread"] = TYPICAL_SPREAD if spread is True else spread
    return BenchFile.model_validate(_changed(table, changes))


@pytest.fixture
def open_station(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., AbstractContextManager[tuple[Station, LinkBench]]]:
    """Open the shipped station on its own bench: `(station, world)`."""
    number = count()

    @contextmanager
    def opened(
        *,
        seed: int = 1,
        spread: bool | Mapping[str, float] = True,
        bench_changes: Changes | None = None,
        station_changes: Changes | None = None,
    ) -> Iterator[tuple[Station, LinkBench]]:
        # A separate path is a separate world, however long PyVISA keeps the last one.
        bench_path = tmp_path / f"bench_{next(number)}.toml"
        bench_path.touch()
        path = shipped_station_path()
        table = {**read_station_file(path).model_dump(), "library": f"{bench_path}@labctl"}
        station_table = StationFile.model_validate(_changed(table, station_changes or {}))
        built: list[LinkBench] = []

        def build(path: Path, *, run: int = 0) -> LinkBench:
            bench_table = _bench_table(seed, spread, bench_changes or {})
            built.append(bench_file.build_bench(bench_table, path, run=run))
            return built[-1]

        monkeypatch.setattr(bench_file, "load_bench", build)
        with pytest.MonkeyPatch.context() as leaving, Station(path, station_table) as station:
            (world,) = built
            yield station, world
            # An oscilloscope that runs is stopped on the way out, at a last record that nobody
            # reads here: of the two, 0.15 s of CPU for each station.
            leaving.setattr(Acquisition, "refresh", lambda _: None)

    return opened


@pytest.fixture
def open_bench(
    open_station: Callable[..., AbstractContextManager[tuple[Station, LinkBench]]],
) -> Callable[..., AbstractContextManager[tuple[CalibrationBench, LinkBench]]]:
    """Open the shipped station as routines see it: `(bench, world)`."""

    @contextmanager
    def opened(
        *,
        seed: int = 1,
        effort: float = 0.1,
        spread: bool | Mapping[str, float] = True,
        knowledge: Knowledge = NOTHING,
        bench_changes: Changes | None = None,
        station_changes: Changes | None = None,
    ) -> Iterator[tuple[CalibrationBench, LinkBench]]:
        with open_station(
            seed=seed,
            spread=spread,
            bench_changes=bench_changes,
            station_changes=station_changes,
        ) as (station, world):
            yield (
                CalibrationBench(equipment_of(station), knowledge, effort=effort, seed=seed),
                world,
            )

    return opened


@pytest.fixture
def noise_truth() -> Callable[..., dict[str, float]]:
    """Tell a receiver's matched-filter variances in V^2 from the bench's hidden components.

    `noise_truth(world, party, range_v=..., laser_power_w=...)`: "electronic" (detector, digitizer
    input, and quantisation over the range), "shot" and "rin" (residual intensity noise of the
    local oscillator), at the laser's present power and not quantised unless stated otherwise.
    The digitizer samples at the grid's rate.
    """

    def truth(
        world: LinkBench,
        party: str,
        *,
        range_v: float = 0.0,
        laser_power_w: float | None = None,
        symbol_rate_hz: float = 20e6,
    ) -> dict[str, float]:
        optics, grid_hz = world.optics, world.grid_hz
        receiver = optics.receivers[party]
        p = receiver.detector.parameters
        emitted_w = optics.laser.emitted_power_w() if laser_power_w is None else laser_power_w
        lo_w = emitted_w * receiver.lo_fraction
        through = _filter_gain(p.bandwidth_hz, grid_hz, symbol_rate_hz)
        efficiency = p.efficiency_at(lo_w)
        rate = efficiency * lo_w / photon_energy_j(optics.laser.frequency_hz)
        per_sample = rate / grid_hz
        charge_rate = ELEMENTARY_CHARGE_C * grid_hz
        common = charge_rate * per_sample * 10.0 ** (-p.common_mode_rejection_db / 20.0)
        band = grid_hz / 2.0
        scale = p.transimpedance_v_a**2 * through
        step_v = range_v / 2**receiver.digitizer.bits
        return {
            "shot": scale * charge_rate**2 * per_sample,
            "rin": scale * common**2 * 10.0 ** (optics.rin_db_hz / 10.0) * band,
            "electronic": scale * p.electronic_noise_a_rthz**2 * band
            + receiver.digitizer.noise_v**2
            + step_v**2 / 12.0,
        }

    return truth


def _filter_gain(bandwidth_hz: float, grid_hz: float, symbol_rate_hz: float) -> float:
    """Return the variance of a slot's value over that of the white samples before the detector."""
    samples = round(grid_hz / symbol_rate_hz)
    layout = FrameLayout(symbol_rate_hz, grid_hz, 257, 16, 1, 1)
    assert layout.pulse_shape is HANN
    pulse = layout.pulses(np.ones(1, np.float32)).astype(np.float64)[:samples]
    pulse /= math.sqrt(float(pulse @ pulse))
    response = signal.sosfilt(
        signal.butter(2, bandwidth_hz, fs=grid_hz, output="sos"), np.eye(1, 4096)[0]
    )
    seen = np.correlate(response, pulse, mode="full")
    return float(seen @ seen)
