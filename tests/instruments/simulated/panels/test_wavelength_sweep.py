"""Where a wavelength sweep is, as a function of time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.panels.wavelength_sweep import SweepRun, WavelengthSweep


def make_sweep(
    *,
    continuous: bool = True,
    two_way: bool = False,
    cycles: float = 1.0,
    pause_s: float = 0.0,
    stop_m: float = 1560e-9,
) -> WavelengthSweep:
    return WavelengthSweep(1550e-9, stop_m, 1e-9, 2e-9, 0.5, continuous, two_way, cycles, pause_s)


@pytest.mark.parametrize(
    ("sweep", "duration_s"),
    [
        (make_sweep(), 5.0),
        (make_sweep(two_way=True), 10.0),
        (make_sweep(cycles=3, pause_s=1.0), 17.0),
        (make_sweep(continuous=False), 5.5),
        (make_sweep(cycles=math.inf), math.inf),
        (make_sweep(stop_m=1540e-9), 5.0),
    ],
)
def test_it_lasts_as_long_as_its_ways_and_pauses(sweep: WavelengthSweep, duration_s: float) -> None:
    assert sweep.duration_s == pytest.approx(duration_s)


@pytest.mark.parametrize(
    ("sweep", "elapsed_s", "wavelength_nm"),
    [
        (make_sweep(), 0.0, 1550.0),
        (make_sweep(), 2.5, 1555.0),
        (make_sweep(), 99.0, 1560.0),
        (make_sweep(two_way=True), 7.5, 1555.0),
        (make_sweep(two_way=True), 99.0, 1550.0),
        (make_sweep(cycles=2, pause_s=1.0), 5.5, 1560.0),
        (make_sweep(cycles=2, pause_s=1.0), 8.5, 1555.0),
        (make_sweep(continuous=False), 0.9, 1551.0),
        (make_sweep(continuous=False), 99.0, 1560.0),
        (make_sweep(stop_m=1540e-9), 2.5, 1545.0),
        (make_sweep(stop_m=1550e-9), 0.0, 1550.0),
    ],
)
def test_it_is_where_its_speed_takes_it(
    sweep: WavelengthSweep, elapsed_s: float, wavelength_nm: float
) -> None:
    assert sweep.wavelength_m(elapsed_s) * 1e9 == pytest.approx(wavelength_nm)


def test_it_counts_complete_cycles() -> None:
    sweep = make_sweep(cycles=2, pause_s=1.0)
    assert [sweep.cycle(t) for t in (0.0, 4.9, 5.0, 10.9, 11.0, 50.0)] == [0, 0, 1, 1, 2, 2]


def test_steps_passed_grow_from_the_start_and_come_back() -> None:
    sweep = make_sweep(two_way=True)
    np.testing.assert_allclose(sweep.passed(1.0) * 1e9, [1550, 1551, 1552])
    np.testing.assert_allclose(sweep.passed(6.0) * 1e9, [1560, 1559, 1558])
    assert sweep.passed(10.0).size == make_sweep().passed(5.0).size == 11


@settings(deadline=None)
@given(
    st.booleans(),
    st.booleans(),
    st.sampled_from([1.0, 2.0, math.inf]),
    st.floats(0.0, 1e3),
    st.sampled_from([1550e-9, 1550.5e-9, 1560e-9, 1541e-9]),
)
def test_it_never_leaves_its_ends(
    continuous: bool, two_way: bool, cycles: float, elapsed_s: float, stop_m: float
) -> None:
    sweep = make_sweep(continuous=continuous, two_way=two_way, cycles=cycles, stop_m=stop_m)
    low_m, high_m = sorted((1550e-9, stop_m))
    assert low_m * (1 - 1e-12) <= sweep.wavelength_m(elapsed_s) <= high_m * (1 + 1e-12)
    assert 1 <= sweep.passed(elapsed_s).size <= sweep.steps


def test_a_pause_stops_the_time_of_a_run() -> None:
    clock = BenchClock()
    run = SweepRun(clock, make_sweep())
    clock.sleep(1.0)
    run.pause()
    clock.sleep(10.0)
    assert (run.paused, run.elapsed_s(), run.done()) == (True, 1.0, False)
    run.resume()
    clock.sleep(4.0)
    assert run.done()
    assert run.wavelength_m() == pytest.approx(1560e-9)
