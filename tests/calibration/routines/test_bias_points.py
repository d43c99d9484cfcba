"""Bias points: the truth at the end of the run, rates of drift, and biases that do not follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import numpy as np
import pytest
from long_tests import long
from matplotlib.figure import Figure

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.routine import Outcome
from labctl.calibration.routines.bias_points import BiasPoints, child_power, walk, walk_rate
from labctl.errors import CalibrationError
from labctl.instruments.simulated.bench import LinkBench

OpenBench = Callable[..., AbstractContextManager[tuple[CalibrationBench, LinkBench]]]
PARTS = ("i", "q", "parent")
DRIFT_V_PI_RTH = 0.05


def errors_of(outcome: Outcome, world: LinkBench) -> dict[str, tuple[float, Quantity]]:
    """Return how far each quantity is from the bench's truth now, points modulo their period."""
    quantities, truth, optics = outcome.quantities, world.truth(), world.optics.modulator
    leak = 10.0 ** (-truth.extinction_ratio_db / 20.0)
    found: dict[str, tuple[float, Quantity]] = {}
    for place, part in enumerate(PARTS):
        v_pi_v = truth.v_pi_v[place]
        electrode = (optics.child_i, optics.child_q, optics.parent)[place]
        drifted_rad = truth.offset_rad[place] + electrode.drift_rad()
        target_rad = math.pi / 4.0 if part == "parent" else math.pi / 2.0
        point_v = (target_rad - drifted_rad) * 2.0 * v_pi_v / math.pi
        point, other = f"server.bias_null_{part}_v", f"server.bias_quadrature_{part}_v"
        if part == "parent":
            point, other = other, point
        settled_rad = (-math.atan(leak), math.atan(leak), 0.0)[place]
        true = {
            f"server.bias_v_pi_{part}_v": v_pi_v,
            f"server.lock_offset_{part}_rad": settled_rad,
            f"server.bias_drift_{part}_v_rth": DRIFT_V_PI_RTH * v_pi_v,
        }
        found |= {
            name: (quantities[Name(name)].value - value, quantities[Name(name)])
            for name, value in true.items()
        }
        # The null of a child recurs with 2 V_pi; of quadratures there are two in that.
        period_v = 2.0 * v_pi_v if part != "parent" else v_pi_v
        away_v = math.remainder(quantities[Name(point)].value - point_v, period_v)
        found[point] = (away_v, quantities[Name(point)])
        half_v = point_v + v_pi_v / 2.0
        found[other] = (
            math.remainder(quantities[Name(other)].value - half_v, v_pi_v),
            quantities[Name(other)],
        )
    return found


def covered(errors: Mapping[str, tuple[float, Quantity]]) -> dict[str, bool]:
    return {
        name: quantity.interval()[0] <= quantity.value - error <= quantity.interval()[1]
        for name, (error, quantity) in errors.items()
    }


def test_the_interval_of_a_walk_holds_its_rate() -> None:
    """2000 walks of 12 steps, noise a third of a step: 95 of 100, and misses on both sides."""
    draw, times_s = np.random.default_rng(12), np.linspace(0.0, 240.0, 13)
    true = 1.0 * math.sqrt(3600.0 / 20.0)
    low, high = 0, 0
    for _ in range(2000):
        path = np.cumsum(draw.standard_normal(13)) + 0.33 * draw.standard_normal(13)
        interval = walk(path, times_s, 0.33).interval()
        low, high = low + (true < interval[0]), high + (true > interval[1])
    assert 0.93 < 1.0 - (low + high) / 2000 < 0.975
    assert min(low, high) > 15


def test_walk_rate_is_that_of_a_wiener_process() -> None:
    """4000 steps, seed 1: the rate's relative standard error is 1/sqrt(8000) = 1.1 %."""
    draw = np.random.default_rng(1)
    spans_s = draw.uniform(1.0, 3.0, 4000)
    walk = np.concatenate([[0.0], np.cumsum(0.2 * np.sqrt(spans_s) * draw.standard_normal(4000))])
    seen = walk + 0.1 * draw.standard_normal(4001)
    times_s = np.concatenate([[0.0], np.cumsum(spans_s)])
    assert walk_rate(seen, times_s, 0.1) == pytest.approx(0.2, rel=0.06)


def test_noise_alone_is_no_walk() -> None:
    assert walk_rate(np.array([0.0, 0.1, 0.0]), np.array([0.0, 1.0, 2.0]), 1.0) == 0.0


def test_child_is_dark_at_its_null_and_bright_half_a_period_away() -> None:
    bias_v = np.array([1.0, 1.0 + 3.5, 1.0 - 3.5])
    assert child_power(bias_v, 2.0, 2.0, 3.5, 1.0) == pytest.approx([0.0, 4.0, 4.0])
    beat = child_power(bias_v, 2.0, 2.0, 3.5, 1.0, 0.5, 0.25)
    assert beat == pytest.approx([0.25, 4.5, 3.5])


@pytest.mark.parametrize("seed", [1, *long(2, 3, 4)])
def test_finds_the_hidden_points(open_bench: OpenBench, seed: int) -> None:
    """Within five standard uncertainties: those of 8 sweeps have Student's tails."""
    with open_bench(seed=seed) as (bench, world):
        outcome = BiasPoints().run(bench)
        for name, (error, quantity) in errors_of(outcome, world).items():
            assert abs(error) < 5.0 * quantity.standard_uncertainty, name
            small = 0.15 if "drift" in name else 0.01
            assert quantity.standard_uncertainty < small, name


@pytest.mark.timeout(300)
@pytest.mark.long
def test_intervals_cover_the_truth(open_bench: OpenBench) -> None:
    """5 benches, seeds 100 to 104: of each 95 % intervals at least 4 hold the truth."""
    hits: dict[str, int] = {}
    for seed in range(100, 105):
        with open_bench(seed=seed, effort=0.05) as (bench, world):
            outcome = BiasPoints().run(bench)
            for name, hit in covered(errors_of(outcome, world)).items():
                hits[name] = hits.get(name, 0) + hit
    assert min(hits.values()) >= 4, hits


def test_leaves_all_biases_locked(open_bench: OpenBench) -> None:
    with open_bench(seed=6) as (bench, world):
        dark_w = world.modulated_power_w()
        bench.light_on()
        locked_w = world.modulated_power_w()
        BiasPoints().run(bench)
        assert dark_w == 0.0
        assert world.modulated_power_w() < 3.0 * locked_w + 1e-8


def test_figure_shows_sweeps_and_drift(open_bench: OpenBench) -> None:
    with open_bench(seed=7) as (bench, _world):
        outcome = BiasPoints().run(bench)
    figure = Figure()
    outcome.draw(figure)
    sweeps, drift = figure.axes
    assert len(sweeps.lines) == 6
    assert len(drift.lines) == 3
    assert outcome.raw["found_i_v"].shape == outcome.raw["found_i_s"].shape


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"laser.signal_fraction": 1e-9}, "laser on, light on the monitor"),
        ({"monitor.responsivity_a_w": 1e-9}, "laser on, light on the monitor"),
        ({"modulator.insertion_loss_db": 120.0}, "laser on, light on the monitor"),
        ({"modulator.v_pi_parent_v": 11.5}, "bias parent: no whole period"),
    ],
)
def test_no_light_or_no_period_is_named(
    open_bench: OpenBench, changes: dict[str, object], complaint: str
) -> None:
    with (
        open_bench(seed=8, spread=False, bench_changes=changes) as (bench, _world),
        pytest.raises(CalibrationError, match=complaint),
    ):
        BiasPoints().run(bench)


@pytest.mark.parametrize("part", PARTS)
def test_bias_that_is_stuck_is_named(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    with open_bench(seed=9) as (bench, world):
        bench.light_on()
        optics = world.optics.modulator
        electrode = {"i": optics.child_i, "q": optics.child_q, "parent": optics.parent}[part]
        monkeypatch.setattr(electrode, "set_bias", lambda mode, voltage_v=0.0: None)
        with pytest.raises(CalibrationError, match=f"bias {part}: .* stuck"):
            BiasPoints().run(bench)


def test_electrode_without_effect_is_named(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller says what it applies, but the wire to the electrode is broken."""
    with open_bench(seed=10) as (bench, world):
        bench.light_on()
        monkeypatch.setattr(world.optics.modulator.child_q, "phase_rad", lambda: 1.2)
        with pytest.raises(CalibrationError, match=r"bias q: power .* bias not stuck"):
            BiasPoints().run(bench)
