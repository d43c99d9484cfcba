"""What pilots leave of two lasers' phases: closed forms against sums, limits and drawn frames."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.dsp.pilot_variance import RowPhase, pilot_rad2, signal_to_noise_left
from labctl.errors import SettingError

WALKS = st.floats(1e-8, 1e-3)


def row(
    modes: int = 98, *, signal_hz: float = 100.0, oscillator_hz: float = 100.0, slots: int = 0
) -> RowPhase:
    return RowPhase.of(
        slots or modes + 2,
        modes,
        symbol_rate_hz=20e6,
        signal_linewidth_hz=signal_hz,
        oscillator_linewidth_hz=oscillator_hz,
    )


def weights(each: RowPhase) -> tuple[np.ndarray, np.ndarray]:
    """How each slot's step of both lasers enters the row's phase, counted from its pilot."""
    steps = np.arange(1, each.row_slots + 1)
    oscillator = (steps <= each.readout_slot).astype(float)
    signal = np.clip(each.modes + 1 - steps, 0, each.modes) / each.modes
    return oscillator, signal


@given(modes=st.integers(1, 400), signal=WALKS, oscillator=WALKS)
def test_the_best_share_and_what_it_misses_are_those_of_single_steps(
    modes: int, signal: float, oscillator: float
) -> None:
    each = RowPhase(modes + 2, modes, modes + 1, signal, oscillator)
    of_oscillator, of_signal = weights(each)
    variance = oscillator * np.sum(of_oscillator**2) + signal * np.sum(of_signal**2)
    with_whole = oscillator * np.sum(of_oscillator) + signal * np.sum(of_signal)
    whole = (oscillator + signal) * each.row_slots
    assert each.own_walk_rad2 == pytest.approx(variance, rel=1e-9)
    assert each.share == pytest.approx(with_whole / whole, rel=1e-9)
    left = variance - with_whole**2 / whole
    assert each.unseen_rad2 == pytest.approx(left, rel=1e-6, abs=1e-9 * variance)


@given(walk=st.floats(1e-5, 1.0), alone=st.floats(1e-4, 1.0))
def test_a_smoothed_pilot_is_the_inverse_of_a_long_chain(walk: float, alone: float) -> None:
    """401 pilots: by then the middle one knows nothing of the ends, to 1 part in 1000."""
    each = RowPhase(1, 1, 1, 0.0, walk)
    count = 401
    precision = np.diag(np.full(count, 1.0 / alone))
    for index in range(count - 1):
        pair = np.ix_([index, index + 1], [index, index + 1])
        precision[pair] += np.array([[1.0, -1.0], [-1.0, 1.0]]) / walk
    covariance = np.linalg.inv(precision)
    variance, neighbours = each.smoothed_rad2(alone)
    middle = count // 2
    if math.sqrt(alone / walk) < count / 16:
        assert variance == pytest.approx(covariance[middle, middle], rel=1e-3)
        assert neighbours == pytest.approx(covariance[middle, middle + 1], rel=1e-3)


def test_pilots_of_any_power_leave_a_twelfth_of_the_signal_lasers_walk() -> None:
    """A local oscillator without noise: the mean of a bridge's ends misses its mean by q N/12."""
    each = row(2000, oscillator_hz=0.0)
    assert each.residual_rad2(0.0) == pytest.approx(each.walk_rad2 / 12.0, rel=2e-3)


def test_only_the_signal_laser_matters_to_light_that_is_added_up() -> None:
    """The readout lies beside the next pilot, so the oscillator's walk is known there."""
    each = row(2000, signal_hz=0.0)
    assert each.residual_rad2(0.0) < 1e-3 * each.walk_rad2
    assert each.within_rad2 == 0.0


def test_dim_pilots_leave_half_the_root_of_walk_times_noise() -> None:
    """For s >> Q every pilot near by counts: sqrt(Q s)/2."""
    each = row(98)
    assert each.residual_rad2(100.0) == pytest.approx(
        0.5 * math.sqrt(100.0 * each.walk_rad2), rel=0.01
    )


def test_more_light_and_narrower_lasers_never_leave_more() -> None:
    left = [[row(98, signal_hz=hz).residual_rad2(s) for s in (0.3, 0.1, 0.01)] for hz in (1e3, 1e2)]
    assert np.all(np.diff(left, axis=1) < 0.0)
    assert np.all(np.diff(left, axis=0) < 0.0)


def test_a_pilot_of_n_photons_has_a_phase_of_one_over_four_n_at_an_ideal_receiver() -> None:
    assert pilot_rad2(25.0, 1.0) == pytest.approx(0.01)


@pytest.mark.parametrize("phase_rad2", [0.003, 0.05, 0.2])
@pytest.mark.parametrize("before", [0.12, 2.0])
def test_a_phase_error_costs_what_drawn_values_lose(before: float, phase_rad2: float) -> None:
    """A million values, seed 4: F is known to 1 %, five errors of 0.2 %."""
    draw = np.random.default_rng(4)
    x, p, noise = draw.standard_normal((3, 1_000_000))
    error = math.sqrt(phase_rad2) * draw.standard_normal(len(x))
    seen = x * np.cos(error) + p * np.sin(error) + noise / math.sqrt(before)
    slope = float(np.mean(seen * x))
    found = slope**2 / (float(np.var(seen)) - slope**2)
    assert found == pytest.approx(signal_to_noise_left(before, phase_rad2), rel=0.01)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"modes": 0}, "modes"),
        ({"readout_slot": 100}, "readout_slot"),
        ({"readout_slot": 4}, "readout_slot"),
        ({"signal_walk_rad2": -1.0}, "signal_walk_rad2"),
        ({"oscillator_walk_rad2": math.nan}, "oscillator_walk_rad2"),
    ],
)
def test_what_is_no_row_is_refused(change: dict[str, float], named: str) -> None:
    fields = {
        "row_slots": 12,
        "modes": 10,
        "readout_slot": 11,
        "signal_walk_rad2": 1e-5,
        "oscillator_walk_rad2": 1e-5,
    }
    with pytest.raises(SettingError, match=named):
        RowPhase(**(fields | change))  # type: ignore[arg-type]
