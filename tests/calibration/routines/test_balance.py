"""Linearity in local-oscillator power: what is shot noise, what is not, and what is saturation."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.knowledge import Knowledge
from labctl.calibration.names import Name, Party
from labctl.calibration.quantity import Quantity
from labctl.calibration.routines.balance import (
    BalanceRoutine,
    IntensityNoise,
    common_mode_rejection_db,
    fit_linearity,
)
from labctl.calibration.spectrum import NoiseVariance
from labctl.errors import CalibrationError
from labctl.instruments.simulated.bench import LinkBench
from labctl.station.file import LimitTable

OpenBench = Callable[..., AbstractContextManager[tuple[CalibrationBench, LinkBench]]]
PARTIES: tuple[Party, Party] = ("server", "client")
POWERS_W = 0.02 * np.array([1.0, 0.8, 0.65, 0.5, 0.35, 0.2, 0.0])
SHARES: dict[Party, float] = {"server": 0.35, "client": 0.35}
LASER = IntensityNoise(-150.0, 0.5, SHARES, 0.05)
RANGES = Knowledge({Name(f"{party}.noise_range_v"): Quantity(0.2, 0.0, "V") for party in PARTIES})
QUIET = {"laser.rin_db_hz": -200.0}


def noises(dark: float, linear: float, quadratic: float, samples: float) -> list[NoiseVariance]:
    share = POWERS_W / POWERS_W[0]
    values = dark + linear * share + quadratic * share**2
    return [NoiseVariance(float(value), samples) for value in values]


@settings(deadline=None)
@given(st.floats(0.01, 1.0), st.floats(1e-9, 1e3), st.floats(-0.02, 0.3))
def test_a_parabola_without_noise_is_found_exactly(
    dark: float, linear: float, excess: float
) -> None:
    samples = noises(dark * linear, linear, excess * linear, 1e6)
    found = fit_linearity(POWERS_W, samples, 1e-6, "noise")
    assert found.excess[0] == pytest.approx(excess, abs=1e-6)
    assert found.fit.values[1] == pytest.approx(linear, rel=1e-6)
    assert found.fit.values[0] == pytest.approx(dark * linear, rel=1e-4)


def test_uncertainty_of_the_excess_is_its_scatter() -> None:
    """500 fits of drawn variances, seed 1: the scatter is known to 3.2 %, four sigma."""
    draw = np.random.default_rng(1)
    found = []
    for _ in range(500):
        drawn = [
            replace(each, variance=each.variance * (1.0 + draw.normal() * math.sqrt(2.0 / 2e5)))
            for each in noises(0.07, 1.0, 0.02, 2e5)
        ]
        found.append(fit_linearity(POWERS_W, drawn, 1e-9, "noise").excess)
    errors = np.array(found)
    assert float(errors[:, 0].mean()) == pytest.approx(0.02, abs=4.0 * errors[0, 1] / 500**0.5)
    # Fits with a chi-square above their degrees of freedom are widened: 9 % in the mean.
    assert float(errors[:, 1].mean()) == pytest.approx(1.09 * errors[:, 0].std(), rel=0.15)


def test_rejection_in_closed_form() -> None:
    """7.4 mA at -150 dB/Hz are 23.1 SNU unbalanced: 0.0231 SNU are 30 dB."""
    unbalanced = 7.4e-3 * 1e-15 / (2.0 * 1.602176634e-19)
    assert common_mode_rejection_db(unbalanced / 1e3, 7.4e-3, -150.0) == pytest.approx(30.0)


def test_a_curve_that_is_no_parabola_is_refused() -> None:
    kinked = noises(0.07, 1.0, 0.0, 1e7)
    kinked[3] = replace(kinked[3], variance=1.05 * kinked[3].variance)
    with pytest.raises(CalibrationError, match="no parabola describes the noise"):
        fit_linearity(POWERS_W, kinked, 1e-6, "server")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_finds_the_hidden_coefficients(
    open_bench: OpenBench, noise_truth: Callable[..., dict[str, float]], seed: int
) -> None:
    """Within four standard uncertainties."""
    with open_bench(seed=seed, effort=0.05, knowledge=RANGES) as (bench, world):
        outcome = BalanceRoutine(LASER).run(bench)
        power_w = world.optics.laser.emitted_power_w()
        for party in PARTIES:
            true = noise_truth(world, party)
            expected = {
                "lo_linear_v2_w": true["shot"] / power_w,
                "lo_quadratic_v2_w2": true["rin"] / power_w**2,
                "lo_excess_noise": true["rin"] / true["shot"],
            }
            for name, value in expected.items():
                found = outcome.quantities[Name(f"{party}.{name}")]
                assert abs(found.value - value) < 4.0 * found.standard_uncertainty, name


def test_a_poor_balance_is_resolved_and_told(open_bench: OpenBench) -> None:
    """15 dB leave half a shot-noise unit or more of a laser at -150 dB/Hz."""
    poor = {"server.common_mode_rejection_db": 15.0}
    with open_bench(seed=2, effort=0.05, knowledge=RANGES, bench_changes=poor) as (bench, world):
        outcome = BalanceRoutine(LASER).run(bench)
        found = outcome.quantities[Name("server.common_mode_rejection_db")]
        true = world.truth().server.common_mode_rejection_db
        assert abs(found.value - true) < 4.0 * found.standard_uncertainty
    assert any(remark.startswith("server: c = 0 is rejected") for remark in outcome.remarks)


def test_a_balance_too_good_to_see_gets_a_lower_bound(open_bench: OpenBench) -> None:
    quiet = {f"{party}.common_mode_rejection_db": 60.0 for party in PARTIES}
    with open_bench(seed=2, effort=0.05, knowledge=RANGES, bench_changes=quiet) as (bench, _):
        outcome = BalanceRoutine(LASER).run(bench)
    assert not any(name.endswith("rejection_db") for name in outcome.quantities)
    assert any(
        remark.startswith("server: common-mode rejection not resolved")
        for remark in outcome.remarks
    )


def test_without_the_lasers_noise_only_the_excess_is_told(open_bench: OpenBench) -> None:
    with open_bench(seed=2, effort=0.02, knowledge=RANGES) as (bench, _):
        outcome = BalanceRoutine().run(bench)
    assert not any(name.endswith("rejection_db") for name in outcome.quantities)
    assert "server.lo_excess_noise" in outcome.quantities


def test_a_detector_that_saturates_is_refused(open_bench: OpenBench) -> None:
    """7 mW on photodiodes that lose half of their carriers at 15 mW."""
    changes = {**QUIET, "server.saturation_power_w": 15e-3}
    with (
        open_bench(seed=2, effort=0.1, knowledge=RANGES, bench_changes=changes) as (bench, _),
        pytest.raises(CalibrationError, match=r"server: .*the detector saturates"),
    ):
        BalanceRoutine().run(bench)


def test_the_power_is_back_afterwards(open_bench: OpenBench) -> None:
    with open_bench(seed=2, effort=0.02, knowledge=RANGES) as (bench, world):
        BalanceRoutine().run(bench)
        assert world.optics.laser.emitted_power_w() == pytest.approx(10.0**1.3 * 1e-3, rel=1e-6)


def test_a_laser_at_its_lower_end_has_no_curve(open_bench: OpenBench) -> None:
    with (
        open_bench(
            seed=2,
            effort=0.02,
            knowledge=RANGES,
            station_changes={
                "server.laser_power_dbm": 7.0,
                "instruments.server_laser.limits": {"power_w": LimitTable(low=0.0, high=0.03)},
            },
        ) as (bench, _),
        pytest.raises(CalibrationError, match="laser's lower end"),
    ):
        BalanceRoutine().run(bench)


def test_ranges_come_from_the_electronic_noise(open_bench: OpenBench) -> None:
    with (
        open_bench(seed=2, effort=0.02) as (bench, _),
        pytest.raises(CalibrationError, match="noise_range_v has not been measured"),
    ):
        BalanceRoutine().run(bench)


def test_the_figure_shows_curve_and_residuals(open_bench: OpenBench) -> None:
    with open_bench(seed=3, effort=0.02, knowledge=RANGES) as (bench, _):
        outcome = BalanceRoutine().run(bench)
    figure = Figure()
    outcome.draw(figure)
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
    assert labels == [("", "variance / (mV)²"), ("laser power / mW", "residual / σ")]
