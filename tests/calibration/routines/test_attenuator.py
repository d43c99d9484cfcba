"""The attenuator's curve: slope and meter ratio against the hidden truth, and blocked fibres."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
from long_tests import long
from matplotlib.figure import Figure

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.names import Name
from labctl.calibration.routines.attenuator import (
    AttenuatorCurve,
    MeterRatio,
    power_ratio,
    shared_errors,
)
from labctl.errors import CalibrationError, InstrumentError
from labctl.instruments.simulated.bench import LinkBench

OpenBench = Callable[..., AbstractContextManager[tuple[CalibrationBench, LinkBench]]]
# The station file states 3 % for what the launch meter sees: tap and head together.
SPREAD = {
    "insertion_loss": 0.03,
    "attenuator_scale": 0.01,
    "splitters": 0.02,
    "responsivity": 0.02,
    "offset_rad": 0.3,
    "v_pi": 0.01,
}


def launch_over_monitor(world: LinkBench) -> float:
    """Return power in the fibre over the monitor's reading, with the attenuator at 0 dB."""
    truth, optics = world.truth(), world.optics
    optics.attenuator.set_attenuation(0.0)
    fibre = optics.launch_transmittance()
    return fibre / (truth.tap_fraction * truth.responsivity_a_w)


def test_ratio_falls_by_its_slope() -> None:
    ratio = power_ratio(np.array([0.0, 10.0, 20.0]), 0.5, 1.0)
    assert ratio == pytest.approx([0.5, 0.05, 0.005])


def test_points_share_the_typical_noise_of_both_meters() -> None:
    found = [MeterRatio(1.0, 3e-3, 1e-3), MeterRatio(0.1, 4e-3, 1e-3)]
    fibre = np.sqrt((3e-3**2 + 4e-3**2) / 2.0)
    assert shared_errors(found) == pytest.approx(np.hypot(fibre, [1e-3, 1e-4]))


@pytest.mark.parametrize("seed", [1, *long(2, 3, 4)])
def test_finds_the_hidden_curve(open_bench: OpenBench, seed: int) -> None:
    with open_bench(seed=seed, spread=SPREAD) as (bench, world):
        found = AttenuatorCurve().run(bench).quantities
        slope, ratio = (
            found[Name("server.attenuator_slope")],
            found[Name("server.launch_over_monitor")],
        )
        scale = world.truth().attenuator_scale
        assert abs(slope.value - scale) < 4.0 * slope.standard_uncertainty
        assert slope.standard_uncertainty < 5e-3
        assert abs(ratio.value - launch_over_monitor(world)) < 4.0 * ratio.standard_uncertainty
        assert ratio.budget["launch meter"] > 5.0 * ratio.budget["readings"]


@pytest.mark.timeout(300)
@pytest.mark.long
def test_intervals_cover_the_truth(open_bench: OpenBench) -> None:
    """5 benches, seeds 100 to 104: of 95 % intervals at least 4 hold the truth."""
    slopes = ratios = 0
    for seed in range(100, 105):
        with open_bench(seed=seed, effort=0.1, spread=SPREAD) as (bench, world):
            found = AttenuatorCurve().run(bench).quantities
            low, high = found[Name("server.attenuator_slope")].interval()
            slopes += low <= world.truth().attenuator_scale <= high
            low, high = found[Name("server.launch_over_monitor")].interval()
            ratios += low <= launch_over_monitor(world) <= high
    assert slopes >= 4
    assert ratios >= 4


def test_leaves_the_attenuator_where_it_was(open_bench: OpenBench) -> None:
    with open_bench(seed=5) as (bench, world):
        bench.equipment.server.attenuator.set_attenuation(7.0)
        AttenuatorCurve().run(bench)
        assert bench.equipment.server.attenuator.attenuation_db() == pytest.approx(7.0)
        # Light that leaks through the modulator at rest, no more.
        assert world.modulated_power_w() < 1e-6


def test_figure_shows_curve_and_residuals(open_bench: OpenBench) -> None:
    with open_bench(seed=6) as (bench, _):
        outcome = AttenuatorCurve().run(bench)
    figure = Figure()
    outcome.draw(figure)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "fibre power / monitor power",
        "residual / %",
    ]
    settings_db = outcome.raw["attenuation_db"]
    assert settings_db.min() == 1.0
    assert settings_db.max() == 20.0
    assert outcome.remarks == ()


def test_missing_meter_is_named_with_its_key(open_bench: OpenBench) -> None:
    changes = {"server.launch_meter": None}
    with (
        open_bench(seed=7, station_changes=changes) as (bench, _),
        pytest.raises(CalibrationError, match=r"launch_meter = .* under \[server\]"),
    ):
        AttenuatorCurve().run(bench)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"laser.signal_fraction": 1e-9}, "monitor reads .* is the laser on"),
        ({"attenuation.fixed_db": 150.0}, "launch meter sees .* blocked"),
        ({"attenuation.scale": 0.1}, r"0\.(099|1)\d* dB per dB that is set"),
        ({"panels.bias_i.attenuator": False}, "dB per dB that is set.* does it move"),
    ],
)
def test_bad_benches_are_named(
    open_bench: OpenBench, changes: dict[str, object], complaint: str
) -> None:
    with (
        open_bench(seed=8, spread=False, bench_changes=changes) as (bench, _),
        pytest.raises((CalibrationError, InstrumentError), match=complaint),
    ):
        AttenuatorCurve().run(bench)
