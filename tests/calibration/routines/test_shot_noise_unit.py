"""Shot-noise routine and clearance: the hidden truth, what they rest on, and who refuses what."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import signal

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.knowledge import Knowledge
from labctl.calibration.names import Name, Party
from labctl.calibration.quantity import Quantity
from labctl.calibration.routine import Routine
from labctl.calibration.routines.clearance import Clearance, clearance_db
from labctl.calibration.routines.shot_noise import ShotNoise
from labctl.errors import CalibrationError
from labctl.instruments.simulated.bench import LinkBench
from labctl.units import ratio_to_db

OpenBench = Callable[..., AbstractContextManager[tuple[CalibrationBench, LinkBench]]]
NoiseTruth = Callable[..., dict[str, float]]
PARTIES: tuple[Party, Party] = ("server", "client")
RANGE_V = 0.16
BAD_BENCHES = {
    "shutter stuck": ({"shutter.isolation_db": 0.1}, "server: a frame comes through"),
    "oscillator off": ({"server.lo_fraction": 1e-9}, r"server: .*local oscillator"),
    "saturated": ({"client.swing_v": 0.008}, r"client: record is cut off.*saturated"),
}


def known(world: LinkBench, noise_truth: NoiseTruth) -> Knowledge:
    """Return what earlier routines would have found, were they perfect."""
    found: dict[Name, Quantity] = {}
    for party in PARTIES:
        true = noise_truth(world, party, range_v=RANGE_V, laser_power_w=10.0**1.3 * 1e-3)
        electronic, excess = true["electronic"], true["rin"] / true["shot"]
        found |= {
            Name(f"{party}.noise_range_v"): Quantity(RANGE_V, 0.0, "V"),
            Name(f"{party}.electronic_noise_v2"): Quantity(electronic, 1e-6 * electronic, "V^2"),
            Name(f"{party}.lo_excess_noise"): Quantity(excess, 1e-6, "SNU"),
        }
    return Knowledge(found)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_finds_the_hidden_unit(open_bench: OpenBench, noise_truth: NoiseTruth, seed: int) -> None:
    """Within four standard uncertainties, here those of the samples alone."""
    with open_bench(seed=seed, effort=0.05) as (bench, world):
        bench.learn(known(world, noise_truth))
        found = ShotNoise().run(bench).quantities
        for party in PARTIES:
            true = noise_truth(world, party, range_v=RANGE_V)
            expected = {
                "shot_noise_v2": true["shot"],
                "electronic_noise": true["electronic"] / true["shot"],
                "blocked_variance_v2": sum(true.values()),
            }
            for name, value in expected.items():
                each = found[Name(f"{party}.{name}")]
                assert abs(each.value - value) < 4.0 * each.standard_uncertainty, name


def test_samples_are_those_that_the_uncertainty_is_of(
    open_bench: OpenBench, noise_truth: NoiseTruth
) -> None:
    """4 ms at 20 MHz are 80,000 slots; a detector of 75 MHz leaves them all but independent."""
    with open_bench(seed=5, effort=0.05) as (bench, world):
        bench.learn(known(world, noise_truth))
        found = ShotNoise().run(bench).quantities
    for party in PARTIES:
        samples = found[Name(f"{party}.blocked_samples")].value
        assert samples == pytest.approx(80_000, rel=0.01)
        blocked = found[Name(f"{party}.blocked_variance_v2")]
        relative = blocked.standard_uncertainty / blocked.value
        assert relative == pytest.approx((2.0 / samples) ** 0.5)


def test_a_slow_detector_leaves_fewer_samples_and_the_truth(
    open_bench: OpenBench, noise_truth: NoiseTruth
) -> None:
    """At 3 MHz, slots of 50 ns share their noise with several neighbours."""
    slow = {f"{party}.bandwidth_hz": 3e6 for party in PARTIES}
    with open_bench(seed=5, effort=0.05, bench_changes=slow) as (bench, world):
        bench.learn(known(world, noise_truth))
        found = ShotNoise().run(bench).quantities
        for party in PARTIES:
            assert found[Name(f"{party}.blocked_samples")].value < 40_000
            true = noise_truth(world, party, range_v=RANGE_V)["shot"]
            shot = found[Name(f"{party}.shot_noise_v2")]
            assert abs(shot.value - true) < 4.0 * shot.standard_uncertainty


@pytest.mark.parametrize("routine", [ShotNoise(), Clearance()])
@pytest.mark.parametrize("case", BAD_BENCHES)
def test_a_bad_bench_is_told(
    open_bench: OpenBench, noise_truth: NoiseTruth, routine: Routine, case: str
) -> None:
    changes, complaint = BAD_BENCHES[case]
    with open_bench(seed=7, effort=0.02, bench_changes=changes) as (bench, world):
        bench.learn(known(world, noise_truth))
        with pytest.raises(CalibrationError, match=complaint):
            routine.run(bench)


def test_a_range_that_became_too_small_is_told(
    open_bench: OpenBench, noise_truth: NoiseTruth
) -> None:
    """The electronic noise was taken at 20 mV; the light's noise needs more."""
    with open_bench(seed=7, effort=0.02) as (bench, world):
        small = {Name(f"{party}.noise_range_v"): Quantity(0.02, 0.0, "V") for party in PARTIES}
        bench.learn(Knowledge({**known(world, noise_truth).quantities, **small}))
        with pytest.raises(CalibrationError, match="oscilloscope's range"):
            ShotNoise().run(bench)


@pytest.mark.parametrize("routine", [ShotNoise(), Clearance()])
def test_needs_what_it_rests_on(open_bench: OpenBench, routine: Routine) -> None:
    assert routine.needs == ("electronic_noise", "balance")
    with (
        open_bench(seed=7, effort=0.02) as (bench, _),
        pytest.raises(CalibrationError, match="has not been measured"),
    ):
        routine.run(bench)


@pytest.mark.parametrize(("lit", "clearance"), [(2.0, 3.0103), (11.0, 10.4139)])
def test_clearance_in_closed_form(lit: float, clearance: float) -> None:
    found = clearance_db(np.array([lit]), np.array([1.0]), 0.0)
    assert found == pytest.approx(clearance, abs=1e-4)
    with_excess = 1.0 + 1.1 * (lit - 1.0)
    assert clearance_db(np.array([with_excess]), np.array([1.0]), 0.1) == pytest.approx(found)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_finds_the_hidden_clearances(
    open_bench: OpenBench, noise_truth: NoiseTruth, seed: int
) -> None:
    """In the matched filter, and from 35 to 40 MHz; four standard uncertainties."""
    with open_bench(seed=seed, effort=0.1) as (bench, world):
        bench.learn(known(world, noise_truth))
        found = Clearance().run(bench).quantities
        for party in PARTIES:
            true = noise_truth(world, party, range_v=RANGE_V)
            in_mode = ratio_to_db(1.0 + true["shot"] / true["electronic"])
            each = found[Name(f"{party}.clearance_db")]
            assert abs(each.value - in_mode) < 4.0 * each.standard_uncertainty
            edge = found[Name(f"{party}.band_edge_clearance_db")]
            expected = edge_clearance_db(world, party, noise_truth)
            assert abs(edge.value - expected) < 4.0 * edge.standard_uncertainty


def edge_clearance_db(world: LinkBench, party: str, noise_truth: NoiseTruth) -> float:
    """Return the truth of the band from 35 to 40 MHz: the detector's noise is filtered, the
    digitizer's is not.
    """
    receiver = world.optics.receivers[party]
    p = receiver.detector.parameters
    sos = signal.butter(2, p.bandwidth_hz, fs=world.grid_hz, output="sos")
    _, response = signal.sosfreqz(sos, np.linspace(35e6, 40e6, 50), fs=world.grid_hz)
    through = float(np.mean(np.abs(response) ** 2)) * p.transimpedance_v_a**2
    band_hz = world.grid_hz / 2.0
    quantised = (RANGE_V / 2**receiver.digitizer.bits) ** 2 / 12.0
    white = receiver.digitizer.noise_v**2 + quantised
    electronic = through * p.electronic_noise_a_rthz**2 * band_hz + white
    in_mode = noise_truth(world, party)
    detector = in_mode["electronic"] - receiver.digitizer.noise_v**2
    shot = in_mode["shot"] / detector * (electronic - white)
    return ratio_to_db(1.0 + shot / electronic)


def test_figures_have_axes_with_units(open_bench: OpenBench, noise_truth: NoiseTruth) -> None:
    with open_bench(seed=3, effort=0.02) as (bench, world):
        bench.learn(known(world, noise_truth))
        outcomes = [routine.run(bench) for routine in (ShotNoise(), Clearance())]
    labels = []
    for outcome in outcomes:
        figure = Figure()
        outcome.draw(figure)
        labels.append([axes.get_ylabel() for axes in figure.axes])
    assert labels[0] == ["variance / (mV)²"] * 2
    assert labels[1] == ["density / V² Hz⁻¹", "", "clearance / dB", ""]
