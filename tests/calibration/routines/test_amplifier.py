"""The amplifier's gain per volt and emission factor, beside what the bench has."""

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

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.fits import fit_curve
from labctl.calibration.knowledge import Knowledge
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.routine import Outcome
from labctl.calibration.routines.amplifier import Amplifier
from labctl.calibration.routines.amplifier_noise import relative_noise
from labctl.calibration.routines.bright_frame import pulse_energy
from labctl.errors import CalibrationError
from labctl.instruments.simulated.bench import LinkBench
from labctl.protocols.receiver import CloneReceiver, Homodyne
from labctl.units import dbm_to_w

OpenBench = Callable[..., AbstractContextManager[tuple[CalibrationBench, LinkBench]]]
NoiseTruth = Callable[..., dict[str, float]]
# Splitters of 3 % and heads of 2 %: what a meter's ratio is off by.
METER = {"client.arrival_meter.ratio_uncertainty": 0.036}
NOISY: dict[str, object] = {"rotation.emission_factor": 1.3}
NO_TRIGGER: dict[str, object] = {
    "panels.server_generator.trigger": "none",
    "panels.client_generator.trigger": "none",
}
NO_CONTROL = {"1": "client_lo_phase", "2": "spare_1"}


def learn(bench: CalibrationBench, world: LinkBench, noise_truth: NoiseTruth) -> None:
    """Have the bench know half-wave voltages, and what takes the place of a missing meter."""
    truth, optics = world.truth(), world.optics
    shot = noise_truth(world, "server", laser_power_w=dbm_to_w(13.0))["shot"]
    round_trip = truth.forward_transmittance * truth.back_transmittance
    round_trip *= optics.past_tap("arrival") * optics.past_tap("return")
    # 2.2 % of a pulse's energy is outside the matched filter's mode, as the station file says.
    efficiency = 0.978 * optics.receivers["server"].detector.parameters.efficiency
    known = {
        Name("server.shot_noise_v2"): Quantity(shot, 0.002 * shot, "V^2"),
        Name("server.efficiency"): Quantity(efficiency, 0.01 * efficiency, "1"),
        Name("server.transmittance"): Quantity(round_trip, 0.01 * round_trip, "1"),
    }
    for name, place in (("i", 0), ("q", 1)):
        known[Name(f"server.v_pi_{name}_v")] = Quantity(truth.v_pi_v[place], 1e-3, "V")
    bench.learn(Knowledge(known))


def truth_of(world: LinkBench) -> dict[str, float]:
    """Return what the routine should find."""
    return {
        "client.gain_per_v": world.truth().gain_per_v,
        "client.emission_factor": world.optics.rotation.parameters.emission_factor,
    }


def measured(
    open_bench: OpenBench,
    noise_truth: NoiseTruth,
    seed: int,
    effort: float,
    changes: dict[str, object],
    station_changes: dict[str, object] | None = None,
) -> tuple[Outcome, dict[str, float]]:
    """Return what the routine finds on a drawn bench, and the truth."""
    with open_bench(
        seed=seed,
        effort=effort,
        bench_changes=changes,
        station_changes=METER if station_changes is None else station_changes,
    ) as (bench, world):
        learn(bench, world, noise_truth)
        return Amplifier().run(bench), truth_of(world)


@settings(deadline=None)
@given(st.floats(0.05, 1.0), st.floats(0.01, 5.0), st.floats(1.0, 3.0), st.floats(0.1, 1.0))
def test_the_curves_are_those_of_the_clone(
    gain_per_v: float, voltage_v: float, emission_factor: float, efficiency: float
) -> None:
    """What `CloneReceiver` says of measured and returned noise, vacuum taken off."""
    gain = 1.0 + gain_per_v * voltage_v
    receiver = CloneReceiver(gain, emission_factor, Homodyne(efficiency, 0.0))
    server = 2.0 * emission_factor * gain_per_v
    client = 2.0 * emission_factor * efficiency * gain_per_v**2
    returned, arm = relative_noise(np.array([voltage_v]), gain_per_v, server, client, 1.0, 1.0)
    assert returned == pytest.approx(1.0 + receiver.returned_noise)
    assert arm == pytest.approx(receiver.measured_noise)


def test_the_bend_tells_the_gain() -> None:
    """Monte Carlo, 300 draws of 5 settings with 1e6 samples each: covered by 95 % intervals."""
    draw, voltage_v, samples = np.random.default_rng(8), np.linspace(0.0, 5.0, 5), 1_000_000
    truth = (0.25, 0.4, 0.1, 1.0, 1.0)
    clean = relative_noise(voltage_v, *truth)
    covered = 0
    for _ in range(300):
        y = clean * draw.chisquare(samples, len(clean)) / samples
        fit = fit_curve(
            lambda x, *parameters: relative_noise(x[:5], *parameters),
            np.tile(voltage_v, 2),
            y,
            y * math.sqrt(2.0 / samples),
            truth,
            what="noise",
        )
        covered += abs(fit.values[0] - truth[0]) < 1.96 * fit.standard_uncertainty(0)
    assert 0.92 < covered / 300 <= 0.99


def test_a_pulse_shows_its_energy() -> None:
    """Monte Carlo, 4096 slots: a pulse that its filter meets by 0.8 in amplitude has 1/0.64.

    Noise of a tenth of the signal adds 2e-4.
    """
    draw, slots, step = np.random.default_rng(9), 4096, 8
    weights = np.sin(np.pi * np.arange(step) / step) ** 2
    weights /= np.linalg.norm(weights)
    other = draw.standard_normal(step)
    other -= (other @ weights) * weights
    pulse = 0.8 * weights + 0.6 * other / np.linalg.norm(other)
    values = draw.standard_normal(slots)
    record = np.outer(values, pulse).ravel() / 0.8 + 0.05 + 0.1 * draw.standard_normal(slots * step)
    assert pulse_energy(record, 0.0, 8.0, values) == pytest.approx(1.0 / 0.64, rel=0.01)


@pytest.mark.parametrize("seed", [1, *long(2, 3)])
@pytest.mark.parametrize("changes", [{}, NOISY], ids=["quantum limit", "noisy"])
def test_what_is_found_is_what_the_bench_has(
    open_bench: OpenBench, noise_truth: NoiseTruth, seed: int, changes: dict[str, object]
) -> None:
    """Within 4 standard uncertainties; the figure shows both curves and residuals."""
    outcome, truth = measured(open_bench, noise_truth, seed, 0.2, changes)
    assert set(outcome.quantities) == set(truth)
    for name, found in outcome.quantities.items():
        assert abs(found.value - truth[name]) < 4.0 * found.standard_uncertainty, name
    assert outcome.quantities[Name("client.gain_per_v")].standard_uncertainty < 0.04 * 0.25
    figure = Figure()
    outcome.draw(figure)
    assert len(figure.axes) == 4


def test_a_noisy_amplifier_is_told_from_the_best_there_is(
    open_bench: OpenBench, noise_truth: NoiseTruth
) -> None:
    """An emission factor of 1.6 is beyond 1 by more than chance."""
    outcome, _ = measured(open_bench, noise_truth, 5, 0.2, {"rotation.emission_factor": 1.6})
    low, _ = outcome.quantities[Name("client.emission_factor")].interval(0.999)
    assert low > 1.2


def test_without_a_meter_the_way_back_is_less_certain(
    open_bench: OpenBench, noise_truth: NoiseTruth
) -> None:
    """Half of the round trip's loss, give or take the other half; true nevertheless."""
    outcome, truth = measured(
        open_bench, noise_truth, 6, 0.2, NOISY, {"client.arrival_meter": None}
    )
    found = outcome.quantities[Name("client.emission_factor")]
    assert found.budget["where the loss is"] > 0.01 * found.value
    assert abs(found.value - truth["client.emission_factor"]) < 4.0 * found.standard_uncertainty


def test_without_a_meter_the_channel_must_be_known(open_bench: OpenBench) -> None:
    """The station file's constants do not stand in for it."""
    no_meter = {"client.arrival_meter": None}
    with (
        open_bench(station_changes=no_meter) as (bench, _),
        pytest.raises(CalibrationError, match="not been measured"),
    ):
        Amplifier().run(bench)


@pytest.mark.long
def test_intervals_cover_the_truth(open_bench: OpenBench, noise_truth: NoiseTruth) -> None:
    """5 drawn benches, seeds 100 to 104: each 95 % interval holds 4 times or more."""
    covered: dict[str, int] = {}
    for seed in range(100, 105):
        outcome, truth = measured(open_bench, noise_truth, seed, 0.1, NOISY)
        for name, found in outcome.quantities.items():
            low, high = found.interval()
            covered[name] = covered.get(name, 0) + (low <= truth[name] <= high)
    assert min(covered.values()) >= 4, covered


@pytest.mark.parametrize(
    ("bench_changes", "cause"),
    [
        ({"laser.signal_fraction": 1e-9}, "server: no preamble.*is the laser on"),
        ({"forward.connector_loss_db": 90.0}, "server: no preamble.*light not blocked"),
        ({"server.lo_fraction": 1e-9}, "server: no preamble"),
        ({"client.lo_fraction": 1e-9}, "client: noise grows.*gain control connected"),
        ({"panels.client_phase.outputs": NO_CONTROL}, "noise grows .* gain control connected"),
        ({"server.swing_v": 0.06}, "server: receiver compresses.*saturated"),
        (NO_TRIGGER, "no record came.*trigger cable"),
    ],
    ids=[
        "laser off",
        "light blocked",
        "server's oscillator off",
        "client's oscillator off",
        "gain not connected",
        "detector saturated",
        "trigger missing",
    ],
)
def test_a_bad_bench_is_recognised(
    open_bench: OpenBench,
    noise_truth: NoiseTruth,
    bench_changes: dict[str, object],
    cause: str,
) -> None:
    """Each names its likely cause on one line and leaves nothing."""
    with open_bench(bench_changes=bench_changes) as (bench, world):
        learn(bench, world, noise_truth)
        with pytest.raises(CalibrationError, match=cause) as caught:
            Amplifier().run(bench)
    assert "\n" not in str(caught.value)
