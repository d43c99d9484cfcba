"""The rotation's fidelity and loss per mode, beside what the unit on the bench does."""

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
from labctl.calibration.knowledge import Knowledge
from labctl.calibration.names import Name
from labctl.calibration.quantity import Quantity
from labctl.calibration.routine import Outcome
from labctl.calibration.routines.rotation import (
    RotationFidelity,
    collected_share,
    error_of,
    fidelity_of,
)
from labctl.errors import CalibrationError
from labctl.instruments.simulated.bench import LinkBench
from labctl.protocols.rotation import Rotation

OpenBench = Callable[..., AbstractContextManager[tuple[CalibrationBench, LinkBench]]]
BLOCK = 98
IMPERFECT: dict[str, object] = {
    "rotation.loss_db_per_mode": 4e-3,
    "rotation.coupler_error_rad": 0.01,
    "rotation.phase_error_rad": 0.01,
}
NO_TRIGGER: dict[str, object] = {
    "panels.server_generator.trigger": "none",
    "panels.client_generator.trigger": "none",
}
SPARE = {"1": "spare_1", "2": "spare_2"}


def learn(bench: CalibrationBench, world: LinkBench) -> None:
    """Have the bench know the modulator's half-wave voltages."""
    truth = world.truth()
    bench.learn(
        Knowledge(
            {
                Name(f"server.v_pi_{name}_v"): Quantity(truth.v_pi_v[place], 1e-3, "V")
                for place, name in enumerate("iq")
            }
        )
    )


def truth_of(world: LinkBench) -> dict[str, float]:
    """Return loss and mean overlap, this one from 2000 random coefficients: known to 1e-4."""
    unit = world.optics.rotation
    draw = np.random.default_rng(11)
    overlaps = []
    for _ in range(2000):
        wanted = draw.standard_normal(BLOCK) + 1j * draw.standard_normal(BLOCK)
        wanted = (wanted / np.linalg.norm(wanted)).astype(np.complex64)
        overlaps.append(float(np.vdot(wanted, unit._mistaken(wanted)).real))
    fidelity = float(np.mean(overlaps))
    return {
        "client.rotation_loss_db_per_mode": unit.parameters.loss_db_per_mode,
        "client.rotation_fidelity": fidelity,
        "client.rotation_error_rad": error_of(fidelity, BLOCK),
    }


def measured(
    open_bench: OpenBench, seed: int, effort: float, changes: dict[str, object]
) -> tuple[Outcome, dict[str, float]]:
    """Return what the routine finds on a drawn bench, and the truth."""
    with open_bench(seed=seed, effort=effort, bench_changes=changes) as (bench, world):
        learn(bench, world)
        return RotationFidelity(BLOCK).run(bench), truth_of(world)


@settings(deadline=None)
@given(st.floats(0.0, 0.1), st.integers(2, 500))
def test_a_fidelity_tells_the_error_that_makes_it(error_rad: float, modes: int) -> None:
    """The inverse of the fidelity's formula; the error's square is known to rounding."""
    found = error_of(fidelity_of(error_rad, modes), modes)
    assert found**2 == pytest.approx(error_rad**2, abs=1e-12, rel=1e-6)


@given(st.floats(0.0, 0.1), st.integers(2, 500))
def test_the_formula_is_that_of_the_session(error_rad: float, modes: int) -> None:
    """Errors of the phases alone: each mode passes those of the elements before it and its own."""
    session = Rotation(phase_error_rad=error_rad).overlap(modes)
    assert fidelity_of(error_rad, modes) == pytest.approx(session)


def test_a_perfect_fidelity_implies_no_error() -> None:
    """Nor does one that is above 1 by chance."""
    assert error_of(1.0, 10) == error_of(1.01, 10) == 0.0


def test_the_collected_share_is_unbiased() -> None:
    """Monte Carlo, 2000 records of 32 rows as loud as their noise: mean within 4 sigma."""
    draw, reference, overlap = np.random.default_rng(6), 1.2 + 0.5j, 0.9
    shares, pulls = [], []
    for _ in range(2000):
        wanted = draw.standard_normal(32) + 1j * draw.standard_normal(32)
        field = overlap * reference
        read = field.real * wanted.real + field.imag * wanted.imag
        noisy = (read + draw.standard_normal(32) + 0.2).astype(np.float32)
        share = collected_share(noisy, wanted, reference)
        shares.append(share.value)
        pulls.append((share.value - overlap) * math.sqrt(share.weight))
        assert share.freedom == 29
    assert float(np.std(pulls)) == pytest.approx(1.0, abs=0.07)
    error = float(np.std(shares)) / math.sqrt(len(shares))
    assert abs(float(np.mean(shares)) - overlap) < 4.0 * error


@pytest.mark.parametrize("seed", [1, *long(2, 3)])
@pytest.mark.parametrize("changes", [{}, IMPERFECT], ids=["exact", "imperfect"])
def test_what_is_found_is_what_the_bench_is(
    open_bench: OpenBench, seed: int, changes: dict[str, object]
) -> None:
    """Within 4 standard uncertainties, for an exact unit and a bad one; the figure shows it."""
    outcome, truth = measured(open_bench, seed, 0.25, changes)
    assert set(outcome.quantities) == set(truth)
    for name, found in outcome.quantities.items():
        assert abs(found.value - truth[name]) < 4.0 * found.standard_uncertainty, name
    assert outcome.quantities[Name("client.rotation_fidelity")].standard_uncertainty < 0.03
    figure = Figure()
    outcome.draw(figure)
    assert len(figure.axes) == 2


def test_a_bad_unit_is_told_from_an_exact_one(open_bench: OpenBench) -> None:
    """0.4 dB of loss and some 20 % of fidelity do not hide in the uncertainties."""
    outcome, _ = measured(open_bench, 5, 0.5, {**IMPERFECT, "rotation.phase_error_rad": 0.1})
    loss = outcome.quantities[Name("client.rotation_loss_db_per_mode")]
    fidelity = outcome.quantities[Name("client.rotation_fidelity")]
    assert loss.value > 20.0 * loss.standard_uncertainty
    assert fidelity.value < 1.0 - 3.0 * fidelity.standard_uncertainty


def test_the_clone_s_net_gain_does_not_count_as_fidelity(open_bench: OpenBench) -> None:
    """A tenth less would take a twentieth off what light that returns of one block calls whole."""
    outcome, truth = measured(open_bench, 4, 0.5, {"rotation.net_gain_error": -0.1})
    found = outcome.quantities[Name("client.rotation_fidelity")]
    assert found.standard_uncertainty < 0.015
    assert abs(found.value - truth["client.rotation_fidelity"]) < 2.0 * found.standard_uncertainty


@pytest.mark.long
def test_intervals_cover_the_truth(open_bench: OpenBench) -> None:
    """5 drawn benches, seeds 100 to 104: each 95 % interval holds 4 times or more."""
    covered: dict[str, int] = {}
    for seed in range(100, 105):
        outcome, truth = measured(open_bench, seed, 0.1, IMPERFECT)
        for name, found in outcome.quantities.items():
            low, high = found.interval()
            covered[name] = covered.get(name, 0) + (low <= truth[name] <= high)
    assert min(covered.values()) >= 4, covered


@pytest.mark.parametrize(
    ("bench_changes", "cause"),
    [
        ({"laser.signal_fraction": 1e-9}, "no preamble.*is the laser on"),
        ({"forward.connector_loss_db": 90.0}, "no preamble.*light not blocked"),
        ({"back.connector_loss_db": 60.0}, "server: no preamble.*light not blocked"),
        ({"client.lo_fraction": 1e-9}, "client: no preamble"),
        ({"panels.client_generator.trigger": "none"}, "rotation's controls connected.*triggered"),
        ({"panels.client_generator.outputs": SPARE}, "rotation's controls connected"),
        ({"client.swing_v": 0.02}, "client: receiver compresses.*saturated"),
        (NO_TRIGGER, "no record came.*trigger cable"),
    ],
    ids=[
        "laser off",
        "light blocked",
        "way back blocked",
        "local oscillator off",
        "rotation not triggered",
        "rotation not connected",
        "detector saturated",
        "trigger missing",
    ],
)
def test_a_bad_bench_is_recognised(
    open_bench: OpenBench, bench_changes: dict[str, object], cause: str
) -> None:
    """Each names its likely cause on one line and leaves nothing."""
    with open_bench(bench_changes=bench_changes) as (bench, world):
        learn(bench, world)
        with pytest.raises(CalibrationError, match=cause) as caught:
            RotationFidelity(BLOCK).run(bench)
    assert "\n" not in str(caught.value)
