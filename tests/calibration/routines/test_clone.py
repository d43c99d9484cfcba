"""Net gain and phase of the client's clone, beside what the unit on the bench does."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
from matplotlib.figure import Figure

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.knowledge import Knowledge
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.routine import Outcome
from labctl.calibration.routines.clone import CloneNetGain, kappa_of
from labctl.errors import CalibrationError
from labctl.instruments.simulated.bench import LinkBench

OpenBench = Callable[..., AbstractContextManager[tuple[CalibrationBench, LinkBench]]]
OFF: dict[str, object] = {"rotation.net_gain_error": -0.004, "rotation.arm_phase_rad": 0.006}
STEADY: dict[str, object] = {
    "rotation.net_gain_drift_rth": 0.0,
    "rotation.arm_phase_drift_rad_rth": 0.0,
}


def measured(
    open_bench: OpenBench, seed: int, effort: float, changes: dict[str, object]
) -> tuple[Outcome, dict[str, float]]:
    """Return what the routine finds on a drawn bench, and the truth as it ends."""
    with open_bench(seed=seed, effort=effort, bench_changes=changes) as (bench, world):
        truth = world.truth()
        known = {
            Name(f"server.v_pi_{name}_v"): Quantity(truth.v_pi_v[place], 1e-3, "V")
            for place, name in enumerate("iq")
        }
        bench.learn(Knowledge(known))
        outcome = CloneNetGain().run(bench)
        net = world.optics.rotation.net_amplitude()
    return outcome, {
        "client.clone_gain_error": abs(net) - 1.0,
        "client.clone_phase_rad": cmath.phase(net),
    }


def test_kappa_is_unbiased_and_as_sharp_as_shot_noise_allows() -> None:
    """300 records of 64 rows of 8 modes, signal 10 over noise, seed 2: mean within 4 sigma.

    Of the noise of a reading the share along c tells kappa: sigma = sqrt(2)/(A |s| sqrt(rows)).
    """
    draw, kappa, rows, modes = np.random.default_rng(2), 0.01 - 0.02j, 64, 8
    found = []
    for _ in range(300):
        c = draw.standard_normal(modes) + 1j * draw.standard_normal(modes)
        c /= np.linalg.norm(c)
        phase = draw.uniform(0.0, 2.0 * np.pi, (rows, modes))
        s = np.exp(1j * phase).astype(np.complex64)
        back = s + kappa * (s @ c.conj())[:, None] * c
        read = (10.0 * np.exp(0.7j) * back).real + draw.standard_normal((rows, modes)) + 0.3
        found.append(kappa_of(read.astype(np.float32), s, c)[0])
    values = np.array(found)
    expected = math.sqrt(2.0) / (10.0 * math.sqrt(rows))
    for part, true in ((values.real, kappa.real), (values.imag, kappa.imag)):
        # The symbols' own amplitude is fitted too: up to a fifth more in small windows.
        assert expected * 0.9 < part.std() < expected * 1.4
        assert abs(part.mean() - true) < 4.0 * part.std() / math.sqrt(len(part))


@pytest.mark.parametrize("seed", [1])
def test_what_is_found_is_what_the_bench_is(open_bench: OpenBench, seed: int) -> None:
    """Within 4 standard uncertainties, of 0.05 % or less; the figure shows it."""
    outcome, truth = measured(open_bench, seed, 0.5, OFF | STEADY)
    assert set(outcome.quantities) == set(truth)
    for name, found in outcome.quantities.items():
        assert abs(found.value - truth[name]) < 4.0 * found.standard_uncertainty, name
        assert found.standard_uncertainty < 5e-4
    figure = Figure()
    outcome.draw(figure)
    assert len(figure.axes) == 1


@pytest.mark.long
def test_intervals_cover_the_truth(open_bench: OpenBench) -> None:
    """5 drawn benches that drift, seeds 100 to 104: each 95 % interval holds 3 times or more."""
    covered: dict[str, int] = {}
    for seed in range(100, 105):
        changes: dict[str, object] = {"spread.net_gain": 3e-3, "spread.arm_phase_rad": 3e-3}
        outcome, truth = measured(open_bench, seed, 0.35, changes)
        for name, found in outcome.quantities.items():
            low, high = found.interval()
            covered[name] = covered.get(name, 0) + (low <= truth[name] <= high)
    assert min(covered.values()) >= 3, covered


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"back.connector_loss_db": 60.0}, "server: no preamble.*light not blocked"),
        ({"server.swing_v": 0.02}, "server: receiver compresses.*saturated"),
    ],
)
def test_it_names_the_likely_cause(
    open_bench: OpenBench, changes: dict[str, object], cause: str
) -> None:
    with pytest.raises(CalibrationError, match=f"(?s){cause}"):
        measured(open_bench, 1, 0.1, changes)
