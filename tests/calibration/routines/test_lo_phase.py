"""Phase shifters of the local oscillators: half-wave voltages, and phases that follow nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from labctl.calibration.bench import CalibrationBench
from labctl.calibration.names import Name
from labctl.calibration.routines.lo_phase import LoPhase, fit_phase_slope
from labctl.errors import CalibrationError
from labctl.instruments.simulated.bench import LinkBench

OpenBench = Callable[..., AbstractContextManager[tuple[CalibrationBench, LinkBench]]]
PARTIES = ("server", "client")
STEPS_V = np.linspace(-4.6, 4.6, 24)
SERVER_PANEL = "panels.server_phase.outputs"
BAD_BENCHES = {
    "shifter not connected": (
        {SERVER_PANEL: {"1": "spare_1", "2": "server_shutter"}},
        "server: the phase does not follow its shifter's voltage",
    ),
    "linewidth": (
        {"laser.linewidth_hz": 1e7},
        r"server: .*(does not follow|no preamble)",
    ),
    "another shifter": (
        {"client.phase_shifter_v_pi_v": 5.0},
        r"client: half-wave voltage .* far from the nominal 2 V",
    ),
    "light blocked": ({"back.connector_loss_db": 90.0}, r"server: no preamble.*blocked"),
    "trigger missing": (
        {"panels.server_generator.trigger": "none", "panels.client_generator.trigger": "none"},
        "trigger cable",
    ),
}


@settings(deadline=None)
@given(st.floats(0.55, 1.9), st.sampled_from([-1.0, 1.0]), st.floats(-0.5, 0.5))
def test_a_straight_line_is_found_through_whole_turns(
    ratio: float, sign: float, offset: float
) -> None:
    slope = sign * ratio * math.pi / 2.0
    wrapped = np.angle(np.exp(1j * (slope * STEPS_V + offset)))
    found = fit_phase_slope(STEPS_V, wrapped, 2.0)
    assert found.slope_rad_v == pytest.approx(slope, rel=1e-9)
    assert found.offset_rad == pytest.approx(offset, abs=1e-9)


def test_uncertainty_of_the_slope_is_its_scatter() -> None:
    """1000 sets of 24 differences with 0.1 rad of noise, seed 1; scatter known to 2.2 %."""
    draw = np.random.default_rng(1)
    found = [
        fit_phase_slope(
            STEPS_V,
            np.angle(np.exp(1j * (1.6 * STEPS_V + 0.1 * draw.standard_normal(24)))),
            2.0,
        )
        for _ in range(1000)
    ]
    slopes = np.array([each.slope_rad_v for each in found])
    stated = math.sqrt(np.mean([each.uncertainty_rad_v**2 for each in found]))
    assert stated == pytest.approx(float(slopes.std()), rel=0.1)
    assert float(slopes.mean()) == pytest.approx(1.6, abs=4.0 * stated / math.sqrt(1000))


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_finds_the_hidden_half_wave_voltages(open_bench: OpenBench, seed: int) -> None:
    """Inside the interval of 99.99 %, which for ten pairs is five standard uncertainties."""
    with open_bench(seed=seed, effort=0.3) as (bench, world):
        found = LoPhase().run(bench).quantities
        for party in PARTIES:
            v_pi = found[Name(f"{party}.phase_shifter_v_pi_v")]
            low, high = v_pi.interval(0.9999)
            assert low < getattr(world.truth(), party).phase_shifter_v_pi_v < high
            assert v_pi.standard_uncertainty < 0.02 * v_pi.value


@pytest.mark.parametrize("case", BAD_BENCHES)
def test_a_bad_bench_is_told(open_bench: OpenBench, case: str) -> None:
    changes, complaint = BAD_BENCHES[case]
    with (
        open_bench(seed=7, effort=0.3, bench_changes=changes) as (bench, _),
        pytest.raises(CalibrationError, match=complaint) as caught,
    ):
        LoPhase().run(bench)
    assert "\n" not in str(caught.value)


def test_a_shifter_that_turns_the_other_way_is_told(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_bench(seed=7, effort=0.1) as (bench, world):
        shifter = world.optics.receivers["server"].phase_shifter
        turned = shifter.phase_rad
        monkeypatch.setattr(type(shifter), "phase_rad", lambda self: -turned())
        with pytest.raises(CalibrationError, match="server: the phase turns the wrong way"):
            LoPhase().run(bench)


def test_leaves_both_phases_and_the_gain_at_rest(open_bench: OpenBench) -> None:
    with open_bench(seed=7, effort=0.1) as (bench, world):
        outcome = LoPhase().run(bench)
        for party in PARTIES:
            assert abs(world.optics.receivers[party].phase_shifter.phase_rad()) < 1e-3
        assert world.optics.rotation.gain() == 1.0
    figure = Figure()
    outcome.draw(figure)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "change of phase / rad",
        "residual / mrad",
    ]
