"""Half-wave voltages: the estimator, the hidden truth, and modulators that do not obey."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
from long_tests import long
from matplotlib.figure import Figure

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.fits import fit_curve
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.routines.half_wave_voltage import HalfWaveVoltage, mean_power
from labctl.errors import CalibrationError
from labctl.instruments.simulated.bench import LinkBench

OpenBench = Callable[..., AbstractContextManager[tuple[CalibrationBench, LinkBench]]]
SPREAD = {"v_pi": 0.02, "offset_rad": 0.3, "extinction_ratio": 0.05, "generator_gain": 0.01}


def true_v_pi_v(world: LinkBench, place: int) -> float:
    """Return the half-wave voltage in volts that the generator is set to."""
    truth = world.truth()
    return truth.v_pi_v[place] / truth.generator_gain[("modulator_i", "modulator_q")[place]]


def test_model_is_that_of_a_modulator_under_a_square_wave(open_bench: OpenBench) -> None:
    """The modulator's own transfer at +A and -A: V_pi to 1e-4, with any leakage and error."""
    with open_bench(seed=9) as (bench, world):
        bench.light_on()
        modulator, true_v = world.optics.modulator, world.truth().v_pi_v[0]
        amplitude_v = np.linspace(0.1, 4.9, 25).astype(np.float32)
        still = np.zeros_like(amplitude_v)
        fields = [modulator.transfer(sign * amplitude_v, still) for sign in (1.0, -1.0)]
    power = np.mean([np.abs(each) ** 2 for each in fields], axis=0).astype(np.float64)
    start = (0.0, float(np.ptp(power)), 3.5, 0.0)
    errors = np.full(25, 1e-9)
    fit = fit_curve(mean_power, amplitude_v.astype(np.float64), power, errors, start, what="sweep")
    assert fit.values[2] == pytest.approx(true_v, rel=1e-4)


@pytest.mark.parametrize("seed", [1, *long(2, 3, 4)])
def test_finds_the_hidden_voltages(open_bench: OpenBench, seed: int) -> None:
    with open_bench(seed=seed, spread=SPREAD) as (bench, world):
        found = HalfWaveVoltage().run(bench).quantities
        for place, part in enumerate("iq"):
            v_pi = found[Name(f"server.v_pi_{part}_v")]
            assert abs(v_pi.value - true_v_pi_v(world, place)) < 4.0 * v_pi.standard_uncertainty
            assert v_pi.standard_uncertainty < 1e-3


@pytest.mark.timeout(300)
@pytest.mark.long
def test_intervals_cover_the_truth(open_bench: OpenBench) -> None:
    """12 benches, seeds 100 to 111: of 95 % intervals at least 10 hold (p 0.002 of fewer)."""
    hits = {"i": 0, "q": 0}
    for seed in range(100, 112):
        with open_bench(seed=seed, effort=0.1, spread=SPREAD) as (bench, world):
            found = HalfWaveVoltage().run(bench).quantities
            for place, part in enumerate("iq"):
                low_v, high_v = found[Name(f"server.v_pi_{part}_v")].interval()
                hits[part] += low_v <= true_v_pi_v(world, place) <= high_v
    assert min(hits.values()) >= 10, hits


def test_fit_is_within_its_uncertainty() -> None:
    """A synthetic sweep, noise 1e-3 of the swing, seed 3: V_pi within 4 standard uncertainties."""
    amplitude_v = np.linspace(0.2, 4.9, 25)
    noise = 1e-3 * np.random.default_rng(3).standard_normal(25)
    power = mean_power(amplitude_v, 0.01, 1.0, 3.4, 0.002) + noise
    fit = fit_curve(
        mean_power, amplitude_v, power, np.full(25, 1e-3), (0.0, 1.0, 3.5, 0.0), what="sweep"
    )
    assert abs(fit.values[2] - 3.4) < 4.0 * fit.standard_uncertainty(2)


def test_figure_shows_both_children(open_bench: OpenBench) -> None:
    with open_bench(seed=5) as (bench, _):
        outcome = HalfWaveVoltage().run(bench)
    figure = Figure()
    outcome.draw(figure)
    _, labels = figure.axes[0].get_legend_handles_labels()
    assert labels == ["child i", "child q"]
    assert outcome.raw["power_i_w"].shape == (25,)
    assert isinstance(outcome.quantities[Name("server.v_pi_i_v")], Quantity)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"laser.signal_fraction": 1e-9}, "child I: power moves .* is the laser on"),
        ({"modulator.insertion_loss_db": 120.0}, "child I: power moves .* is the laser on"),
        (
            {"panels.server_generator.outputs": {"1": "spare_1", "2": "spare_2"}},
            "child I: power moves .* drive connected",
        ),
        ({"modulator.v_pi_q_v": 9.0}, "child Q: half-wave voltage .* far from the nominal"),
    ],
)
def test_bad_benches_are_named(
    open_bench: OpenBench, changes: dict[str, object], complaint: str
) -> None:
    with (
        open_bench(seed=6, spread=False, bench_changes=changes) as (bench, _),
        pytest.raises(CalibrationError, match=complaint),
    ):
        HalfWaveVoltage().run(bench)


def test_laser_that_went_off_is_named(open_bench: OpenBench) -> None:
    with open_bench(seed=7) as (bench, _):
        bench.light_on()
        bench.equipment.server.laser.set_emission(False)
        with pytest.raises(CalibrationError, match="is the laser on"):
            HalfWaveVoltage().run(bench)


@pytest.mark.parametrize("phase_rad", [0.0, np.pi])
def test_bias_stuck_at_a_peak_is_named(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch, phase_rad: float
) -> None:
    with open_bench(seed=8) as (bench, world):
        monkeypatch.setattr(world.optics.modulator.child_i, "phase_rad", lambda: phase_rad)
        with pytest.raises(CalibrationError, match=r"child I: power falls .* stuck at a peak"):
            HalfWaveVoltage().run(bench)
