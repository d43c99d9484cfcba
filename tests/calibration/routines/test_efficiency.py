"""Efficiency: photons seen over photons there, in closed form and beside a true power meter."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.knowledge import Knowledge
from labctl.calibration.names import Name, Party
from labctl.calibration.quantity import Quantity
from labctl.calibration.routine import Routine
from labctl.calibration.routines.efficiency import (
    ClientEfficiency,
    Efficiency,
    behind_amplifier,
    photons_seen,
    ratio_of_photons,
)
from labctl.errors import CalibrationError
from labctl.instruments.simulated.bench import LinkBench

OpenBench = Callable[..., AbstractContextManager[tuple[CalibrationBench, LinkBench]]]
NoiseTruth = Callable[..., dict[str, float]]
PARTIES: tuple[Party, Party] = ("server", "client")
# What the shaped pulse and the detector's bandwidth leave of the matched mode, by the station file.
MATCHING = {"server": 0.831 / 0.85, "client": 0.826 / 0.85}


# Reference heads so quiet that only their ratio limits what they tell.
QUIET = {f"taps.{tap}.noise_a": 1e-13 for tap in ("return", "arrival")}
SERVER_ALONE = {"client.arrival_meter": None}
NO_METER = {"client.arrival_meter": None, "server.return_meter": None}


def learn_noise(bench: CalibrationBench, world: LinkBench, noise_truth: NoiseTruth) -> None:
    """Have the bench know the shot-noise units to 1 permille, the amplifier to 1 percent."""
    found: dict[Name, Quantity] = {}
    for party in PARTIES:
        shot = noise_truth(world, party, laser_power_w=10.0**1.3 * 1e-3)["shot"]
        found[Name(f"{party}.shot_noise_v2")] = Quantity(shot, 1e-3 * shot, "V^2")
    gain_per_v = world.truth().gain_per_v
    found[Name("client.gain_per_v")] = Quantity(gain_per_v, 0.01 * gain_per_v, "1/V")
    bench.learn(Knowledge(found))


@settings(deadline=None)
@given(st.floats(0.1, 1.0), st.floats(1.0, 1e5))
def test_a_lossy_receiver_sees_its_share(efficiency: float, photons: float) -> None:
    """A coherent state of n photons has amplitude 2 sqrt(n) in units of the vacuum's deviation."""
    shot_v2 = 3e-5
    amplitude_v = 2.0 * math.sqrt(efficiency * photons * shot_v2)
    (seen,) = photons_seen(np.array([amplitude_v]), shot_v2)
    there = Quantity.of(photons, "1", {"reference meter": 0.03 * photons})
    ratio = ratio_of_photons(Quantity.of(float(seen), "1", {"records": 0.01 * seen}), there)
    assert ratio.value == pytest.approx(efficiency)
    assert ratio.standard_uncertainty == pytest.approx(math.hypot(0.01, 0.03) * efficiency)


def test_behind_an_amplifier_its_gain_counts() -> None:
    ratio = Quantity.of(0.8, "1", {"reference meter": 0.024})
    found = behind_amplifier(ratio, Quantity(0.25, 0.01, "1/V"), 4.0)
    assert found.value == pytest.approx(0.8)
    assert found.standard_uncertainty == pytest.approx(math.hypot(0.024, 0.032))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_finds_the_hidden_efficiencies(
    open_bench: OpenBench, noise_truth: NoiseTruth, seed: int
) -> None:
    """Four standard uncertainties, and half a percent for the station file's matching."""
    with open_bench(seed=seed, effort=0.1, bench_changes=QUIET) as (bench, world):
        learn_noise(bench, world, noise_truth)
        found: dict[Name, Quantity] = {}
        for routine in (Efficiency(), ClientEfficiency()):
            found |= routine.run(bench).quantities
        for party in PARTIES:
            efficiency = found[Name(f"{party}.efficiency")]
            true = getattr(world.truth(), party).efficiency * MATCHING[party]
            reach = math.hypot(efficiency.standard_uncertainty, 0.005 * true)
            assert abs(efficiency.value - true) < 4.0 * reach
            assert efficiency.standard_uncertainty < 0.03
        assert world.optics.rotation.gain() == 1.0


def test_an_exact_meter_tells_the_efficiency_to_half_a_percent(
    open_bench: OpenBench, noise_truth: NoiseTruth
) -> None:
    """With the splitters as the station file says, what is left is the matching."""
    with open_bench(
        seed=4, effort=0.5, bench_changes=QUIET, spread=False, station_changes=SERVER_ALONE
    ) as (bench, world):
        learn_noise(bench, world, noise_truth)
        found = Efficiency().run(bench).quantities[Name("server.efficiency")]
    assert found.value == pytest.approx(0.85 * MATCHING["server"], rel=0.01)
    assert found.budget["records"] < 0.002


def test_the_figure_names_the_party(open_bench: OpenBench, noise_truth: NoiseTruth) -> None:
    with open_bench(seed=1, effort=0.1, bench_changes=QUIET) as (bench, world):
        learn_noise(bench, world, noise_truth)
        outcome = Efficiency().run(bench)
    figure = Figure()
    outcome.draw(figure)
    assert figure.axes[0].get_ylabel() == "efficiency"
    assert figure.axes[0].get_title().startswith("server")


def test_the_client_needs_its_amplifiers_gain(open_bench: OpenBench) -> None:
    assert "amplifier" in ClientEfficiency.needs
    with (
        open_bench(effort=0.1) as (bench, _),
        pytest.raises(CalibrationError, match="gain_per_v has not been measured"),
    ):
        ClientEfficiency().run(bench)


@pytest.mark.parametrize(
    ("routine", "role"),
    [(Efficiency(), "server.return_meter"), (ClientEfficiency(), "client.arrival_meter")],
)
def test_without_a_meter_nothing_is_made_up(
    open_bench: OpenBench, routine: Routine, role: str
) -> None:
    with (
        open_bench(effort=0.1, station_changes=NO_METER) as (bench, _),
        pytest.raises(CalibrationError, match=re.escape(role)),
    ):
        routine.run(bench)


def test_a_ratio_that_is_too_small_is_told(open_bench: OpenBench, noise_truth: NoiseTruth) -> None:
    """Half of the light unaccounted for: the receiver sees more than there is."""
    changes = {**SERVER_ALONE, "server.return_meter.ratio": 49.5}
    with open_bench(seed=1, effort=0.1, bench_changes=QUIET, station_changes=changes) as (
        bench,
        world,
    ):
        learn_noise(bench, world, noise_truth)
        with pytest.raises(CalibrationError, match=r"server: efficiency .* more than all light"):
            Efficiency().run(bench)


def test_an_efficiency_above_1_by_chance_is_1_with_an_interval_below(
    open_bench: OpenBench, noise_truth: NoiseTruth
) -> None:
    """To refuse it would keep the low ones alone."""
    changes = {
        **SERVER_ALONE,
        "server.return_meter.ratio": 70.0,
        "server.return_meter.ratio_uncertainty": 0.3,
    }
    with open_bench(seed=1, effort=0.1, bench_changes=QUIET, station_changes=changes) as (
        bench,
        world,
    ):
        learn_noise(bench, world, noise_truth)
        outcome = Efficiency().run(bench)
    found = outcome.quantities[Name("server.efficiency")]
    low, high = found.interval()
    assert (found.value, high) == (1.0, 1.0)
    assert 0.2 < low < 0.9
    assert found.standard_uncertainty > 0.25
    assert "above 1 by chance" in outcome.remarks[0]


def test_darkness_is_told(open_bench: OpenBench, noise_truth: NoiseTruth) -> None:
    dark = {"laser.signal_fraction": 1e-12}
    with open_bench(seed=1, effort=0.1, bench_changes=dark) as (bench, world):
        learn_noise(bench, world, noise_truth)
        with pytest.raises(CalibrationError, match=r"server: .*(meter reads|no preamble)"):
            Efficiency().run(bench)
