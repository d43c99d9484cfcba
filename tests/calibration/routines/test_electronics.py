"""Offsets and relative gains: the hidden ones within their uncertainty, and cables left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from long_tests import long
from matplotlib.figure import Figure
from scipy import stats

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.routine import Outcome
from labctl.calibration.routines.electronics import (
    Electronics,
    clipped_share,
    converter_step_v,
    offset_by_steps,
    offset_error_v,
    quantisation_bias_v,
)
from labctl.errors import CalibrationError, InstrumentError, SynchronisationError
from labctl.instruments.capabilities import Trace
from labctl.instruments.simulated.bench import LinkBench

OpenBench = Callable[..., AbstractContextManager[tuple[CalibrationBench, LinkBench]]]
SPREAD = {
    "v_pi": 0.02,
    "offset_rad": 0.3,
    "generator_gain": 0.005,
    "generator_offset_v": 2e-3,
    "digitizer_gain": 0.01,
    "digitizer_offset_v": 1e-3,
    "electronic_noise": 0.1,
}

NO_TRIGGER = {
    "panels.server_generator.trigger": "none",
    "panels.client_generator.trigger": "none",
}


def true_value(world: LinkBench, name: str) -> float:
    """Return what a quantity would be without any error, by its name."""
    truth = world.truth()
    if "scope_gain" in name:
        return 1.0
    if "scope_offset" in name:
        receiver = truth.server if name.startswith("server") else truth.client
        return receiver.digitizer_offset_v[0]
    drive = "modulator_i" if "_i_" in name else "modulator_q"
    return truth.generator_offset_v[drive] / truth.generator_gain[drive]


def away(outcome: Outcome, world: LinkBench) -> dict[str, tuple[float, Quantity]]:
    return {
        name: (quantity.value - true_value(world, name), quantity)
        for name, quantity in outcome.quantities.items()
    }


@given(
    offset=st.floats(-0.5, 0.5),
    noise=st.floats(0.25, 2.0),
    step_v=st.floats(1e-3, 0.1),
)
@settings(deadline=None, max_examples=50)
def test_steps_shift_a_mean_by_no_more_than_the_bias(
    offset: float, noise: float, step_v: float
) -> None:
    """The mean of rounded Gaussian noise, summed exactly over the converter's levels."""
    edges = np.arange(-40, 41) - 0.5 - offset
    shares = np.diff(stats.norm.cdf(edges / noise))
    mean = float(np.sum(np.arange(-40, 40) * shares)) * step_v
    bias_v = quantisation_bias_v(step_v, noise * step_v)
    assert abs(mean - offset * step_v) <= 1.01 * bias_v + 1e-12 * step_v


def test_without_noise_the_bias_is_bounded_by_half_a_step() -> None:
    assert 0.0 < quantisation_bias_v(1e-3, 0.0) <= 0.5e-3
    assert quantisation_bias_v(0.0, 1e-3) == 0.0


@pytest.mark.parametrize("noise", [0.35, 0.6])
def test_offset_is_told_from_how_noise_fills_the_steps(noise: float) -> None:
    """200 records of 20 blocks: unbiased, though their means are off by up to 0.03 step."""
    draw, step_v, offset = np.random.default_rng(8), 4e-3, 0.31
    levels = np.arange(-4.0, 5.0)
    edges = stats.norm.cdf((np.append(levels - 0.5, 4.5) - offset) / noise)
    shares = np.diff(edges) / (edges[-1] - edges[0])
    pulls = []
    for _ in range(200):
        counts = draw.multinomial(400, shares, 20).astype(np.float64)
        found = offset_by_steps(counts, levels * step_v, step_v)
        error_v = offset_error_v(counts, levels * step_v, step_v, found)
        assert found[1] == pytest.approx(noise * step_v, rel=0.2)
        pulls.append((found[0] - offset * step_v) / error_v)
    assert abs(float(np.mean(pulls))) < 4.0 / math.sqrt(200)
    assert 0.8 < float(np.std(pulls)) < 1.25


def test_two_levels_do_not_tell_an_offset() -> None:
    with pytest.raises(CalibrationError, match="2 of a converter's levels"):
        offset_by_steps(np.array([[100.0, 3.0]]), np.array([0.0, 1e-3]), 1e-3)


def test_step_is_the_least_difference() -> None:
    levels = np.array([0.0, 0.4, 0.2, -0.6], np.float32)
    assert converter_step_v(levels) == pytest.approx(0.2)
    assert converter_step_v(np.zeros(5, np.float32)) == 0.0


def test_clipping_is_seen_at_both_ends() -> None:
    trace = Trace(0.0, 1e-8, np.array([0.0, 0.5, -0.5, 0.1], np.float32))
    assert clipped_share(trace, 1.0) == 0.5
    assert clipped_share(trace, 2.0) == 0.0


@pytest.mark.parametrize("seed", [1, *long(2, 3, 4)])
def test_finds_the_hidden_offsets(open_bench: OpenBench, seed: int) -> None:
    with open_bench(seed=seed, spread=SPREAD) as (bench, world):
        outcome = Electronics().run(bench)
        for name, (error, quantity) in away(outcome, world).items():
            assert abs(error) < 4.5 * quantity.standard_uncertainty, name
        for part in "iq":
            offset = outcome.quantities[Name(f"server.generator_offset_{part}_v")]
            assert offset.standard_uncertainty < 0.5e-3


@pytest.mark.timeout(300)
@pytest.mark.long
def test_intervals_cover_the_truth(open_bench: OpenBench) -> None:
    """5 benches, seeds 100 to 104: of each 95 % intervals at least 4 hold the truth."""
    hits: dict[str, list[bool]] = {}
    for seed in range(100, 105):
        with open_bench(seed=seed, effort=0.05, spread=SPREAD) as (bench, world):
            for name, (error, quantity) in away(Electronics().run(bench), world).items():
                reach = quantity.coverage_factor() * quantity.standard_uncertainty
                hits.setdefault(name, []).append(abs(error) <= reach)
    # Where steps hide an offset there is none.
    missed = {name: each.count(False) for name, each in hits.items()}
    assert max(missed.values()) <= 1, missed
    assert min(len(each) for name, each in hits.items() if "2000mv" not in name) >= 4


def test_figure_and_remark(open_bench: OpenBench) -> None:
    with open_bench(seed=5) as (bench, _):
        outcome = Electronics().run(bench)
    figure = Figure()
    outcome.draw(figure)
    assert len(figure.axes) == 2
    assert "the two cannot be separated here" in outcome.remarks[-1]
    assert outcome.raw["level_i_w"].shape[0] == 4


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"laser.signal_fraction": 1e-9}, "no preamble .* laser on"),
        ({"forward.connector_loss_db": 90.0}, "no preamble .* light not blocked"),
        ({"monitor.responsivity_a_w": 1e-9}, "child I: power changes by .* light on the monitor"),
        (NO_TRIGGER, "no trigger within"),
        ({"server.digitizer_offset_v": [0.9, 0.0]}, "server's oscilloscope: .* ends of its range"),
    ],
)
def test_bad_benches_are_named(
    open_bench: OpenBench, changes: dict[str, object], complaint: str
) -> None:
    with (
        open_bench(seed=6, spread=False, bench_changes=changes) as (bench, _),
        pytest.raises((CalibrationError, SynchronisationError, InstrumentError), match=complaint),
    ):
        Electronics().run(bench)
