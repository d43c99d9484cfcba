"""The client's rotation and clone against closed forms, derived here.

With G the gain, s^2 = 2 n_sp - 1 the amplifier's noise, b the collected mode, v1 and v2 vacua:

    amplified   a = sqrt(G) b + s sqrt(G - 1) v1
    measured    m = sqrt(1 - 1/G) a - sqrt(1/G) v2
                  = sqrt(G - 1) b + s (G - 1)/sqrt(G) v1 - v2/sqrt(G)
    returned    r = sqrt(1/G) a + sqrt(1 - 1/G) v2
                  = b + sqrt((G - 1)/G) (s v1 + v2)

so per quadrature, with var b = 1,

    var r          = 1 + (G - 1)/G (s^2 + 1) = 1 + 2 n_sp (1 - 1/G)
    var m          = (G - 1) + s^2 (G - 1)^2/G + 1/G       (n_sp = 1: (2 G^2 - 3 G + 2)/G)
    cov(m, r)      = sqrt(G - 1) (1 + s^2 (G - 1)/G - 1/G) = 2 n_sp (G - 1)^(3/2)/G
    cov(m, r - b)  = cov(m, r) - sqrt(G - 1)               (n_sp = 1: sqrt(G - 1) (G - 2)/G)
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rotation_unit import (
    GRID_HZ,
    SLOT,
    client,
    coherent_rows,
    random_coefficients,
    unit_norm,
    variance_tolerance,
)

from labctl.instruments.simulated.physics.grid import Noise, Window
from labctl.instruments.simulated.physics.rotation import (
    Cycles,
    RotationUnit,
)
from labctl.instruments.simulated.ports import Drive


@pytest.mark.parametrize(
    ("gain", "emission_factor"), [(1.02, 1.0), (1.3, 1.0), (2.0, 1.0), (4.0, 1.0), (2.0, 1.6)]
)
def test_a_row_follows_the_closed_forms(gain: float, emission_factor: float) -> None:
    """3,000 rows of 6 modes at 8 samples a slot: m = 24,000; seeds 2 to 4; five errors."""
    rows, modes = 3000, 6
    unit = client(gain=gain, emission_factor=emission_factor, seed=2)
    volts = random_coefficients(modes, seed=3)
    c = unit_norm(volts)
    cycles = unit.rotate(volts, rows)
    field, means = coherent_rows(rows, modes, seed=4)
    measured, returned = unit.unit.pass_through(field, cycles.window, cycles)
    shape = (rows, modes + 2, SLOT)
    before = field.reshape(shape).astype(np.complex128)[:, 1:-1]
    after = returned.reshape(shape).astype(np.complex128)[:, 1:-1]
    m = measured.reshape(shape).astype(np.complex128)[:, -1].ravel()
    b = np.einsum("k,rks->rs", c.conj(), before).ravel()
    r = np.einsum("k,rks->rs", c.conj(), after).ravel()
    count, mean_b = len(m), complex(c.conj() @ means[1:-1])
    step, s2 = 1.0 - 1.0 / gain, 2.0 * emission_factor - 1.0
    var_r = 1.0 + 2.0 * emission_factor * step
    var_m = (gain - 1.0) + s2 * (gain - 1.0) ** 2 / gain + 1.0 / gain
    cov_mr = 2.0 * emission_factor * (gain - 1.0) ** 1.5 / gain
    if emission_factor == 1.0:
        assert var_r == pytest.approx(1.0 + 2.0 - 2.0 / gain)
        assert var_m == pytest.approx((2.0 * gain**2 - 3.0 * gain + 2.0) / gain)
    mean_error = 5.0 * math.sqrt(2.0 * var_r / count)
    assert np.mean(r) == pytest.approx(mean_b, abs=mean_error)
    assert np.mean(r - b) == pytest.approx(0.0, abs=mean_error)
    assert np.mean(m) == pytest.approx(
        math.sqrt(gain - 1.0) * mean_b, abs=5.0 * math.sqrt(2.0 * var_m / count)
    )
    cross = 5.0 * math.sqrt((var_m * var_r + cov_mr**2) / count)
    for part in (np.real, np.imag):
        assert np.var(part(r)) == pytest.approx(var_r, abs=variance_tolerance(var_r, count))
        assert np.var(part(m)) == pytest.approx(var_m, abs=variance_tolerance(var_m, count))
        assert np.cov(part(m), part(r))[0, 1] == pytest.approx(cov_mr, abs=cross)
        added = np.cov(part(m), part(r - b))[0, 1]
        assert added == pytest.approx(cov_mr - math.sqrt(gain - 1.0), abs=cross)
    assert np.cov(m.real, r.imag)[0, 1] == pytest.approx(0.0, abs=cross)
    assert np.cov(m.real, m.imag)[0, 1] == pytest.approx(0.0, abs=5.0 * var_m / math.sqrt(count))


@given(st.integers(2, 40), st.integers(0, 2**32 - 1), st.floats(1.01, 5.0))
@settings(deadline=None, max_examples=30)
def test_the_orthogonal_modes_come_back_untouched(modes: int, seed: int, gain: float) -> None:
    """Sample by sample: what the light differs by from what came in lies along c alone."""
    unit = client(gain=gain, seed=5)
    volts = random_coefficients(modes, seed)
    c = unit_norm(volts)
    cycles = unit.rotate(volts, rows=3)
    field, _ = coherent_rows(3, modes, seed)
    _, returned = unit.unit.pass_through(field, cycles.window, cycles)
    change = (returned - field).astype(np.complex128).reshape(3, modes + 2, SLOT)[:, 1:-1]
    along = np.einsum("k,rks->rs", c.conj(), change)
    residual = change - c[None, :, None] * along[:, None, :]
    assert np.max(np.abs(residual)) < 5e-5
    assert np.max(np.abs(along)) > 1e-2


def test_the_pilot_slot_and_the_last_slot_come_back_bit_by_bit() -> None:
    unit = client(seed=6)
    cycles = unit.rotate(random_coefficients(5, seed=6), rows=4)
    field, _ = coherent_rows(4, 5, seed=6)
    before = field.copy().reshape(4, 7, SLOT)
    _, returned = unit.unit.pass_through(field, cycles.window, cycles)
    after = returned.reshape(4, 7, SLOT)
    assert np.array_equal(after[:, 0], before[:, 0])
    assert np.array_equal(after[:, -1], before[:, -1])
    assert not np.any(after[:, 1:-1] == before[:, 1:-1])


def test_coefficients_of_the_pilot_and_the_last_slot_are_ignored() -> None:
    """Bit by bit what comes with 0 V there."""
    volts = random_coefficients(5, seed=6)
    field, _ = coherent_rows(4, 5, seed=6)
    lights = []
    for ends_v in (0.0, 0.9):
        unit = client(seed=6)
        held = np.repeat(np.concatenate(([ends_v], volts, [-ends_v])), SLOT)
        for output, levels in ((unit.real, held.real), (unit.imaginary, held.imag)):
            output.play(Drive(levels.astype(np.float32), GRID_HZ, 0.0, 4, 0.0))
        window = Window(0, len(held) * 4)
        cycles = unit.unit.cycles(window)
        lights.append(unit.unit.pass_through(field.copy(), window, cycles))
    for one, other in zip(*lights, strict=True):
        assert np.array_equal(other, one)


def test_the_measured_arm_holds_no_light_outside_the_last_slot() -> None:
    """2,000 rows of 5 slots before the last, seed 7: mean 0, the clone's vacuum variance."""
    gain, rows, modes = 1.7, 2000, 4
    unit = client(gain=gain, seed=7)
    cycles = unit.rotate(random_coefficients(modes, seed=7), rows)
    field, _ = coherent_rows(rows, modes, seed=7)
    measured, _ = unit.unit.pass_through(field, cycles.window, cycles)
    empty = measured.reshape(rows, modes + 2, SLOT)[:, :-1].astype(np.complex128)
    expected = (2.0 * gain**2 - 3.0 * gain + 2.0) / gain
    assert np.abs(np.mean(empty, axis=(0, 2))) == pytest.approx(
        0.0, abs=5.0 * math.sqrt(2.0 * expected / (rows * SLOT))
    )
    assert np.var(empty.real) == pytest.approx(
        expected, abs=variance_tolerance(expected, empty.size)
    )


@pytest.mark.parametrize(("gain", "emission_factor"), [(1.3, 1.0), (2.5, 1.4)])
def test_idle_it_is_a_transparent_clone(gain: float, emission_factor: float) -> None:
    """200,000 samples, seeds 8 and 9: mean kept, variances of the clone in each sample."""
    unit = client(gain=gain, emission_factor=emission_factor, seed=8)
    samples, mean = 200_000, 4.0 - 3.0j
    field = Noise(np.random.SeedSequence(9)).vacuum(samples) + np.complex64(mean)
    window = Window(0, samples)
    assert unit.unit.cycles(window) is None
    measured, returned = unit.unit.pass_through(field, window, None)
    s2 = 2.0 * emission_factor - 1.0
    var_r = 1.0 + 2.0 * emission_factor * (1.0 - 1.0 / gain)
    var_m = (gain - 1.0) + s2 * (gain - 1.0) ** 2 / gain + 1.0 / gain
    for light, amplitude, variance in (
        (returned, 1.0, var_r),
        (measured, math.sqrt(gain - 1.0), var_m),
    ):
        assert np.mean(light) == pytest.approx(
            amplitude * mean, abs=5.0 * math.sqrt(2.0 * variance / samples) + 1e-5
        )
        for part in (light.real, light.imag):
            tolerance = variance_tolerance(variance, samples)
            assert np.var(part.astype(np.float64)) == pytest.approx(variance, abs=tolerance)


def test_before_and_after_the_rows_it_is_idle() -> None:
    """1,000 samples either side, seed 10: a bright mean goes to both arms; in rows it does not."""
    unit = client(gain=2.0, seed=10)
    cycles = unit.rotate(random_coefficients(4, seed=10), rows=2, start=1000)
    window = Window(0, cycles.window.stop + 1000)
    field = Noise(np.random.SeedSequence(10)).vacuum(window.samples) + np.complex64(30.0)
    measured, returned = unit.unit.pass_through(field.copy(), window, cycles)
    for outside in (slice(0, 1000), slice(cycles.window.stop, window.stop)):
        assert np.mean(measured[outside]) == pytest.approx(30.0, abs=0.5)
        assert np.mean(returned[outside]) == pytest.approx(30.0, abs=0.5)
    pilot = slice(1000, 1000 + SLOT)
    assert abs(np.mean(measured[pilot])) < 5.0
    assert np.array_equal(returned[pilot], field[pilot])


@pytest.mark.parametrize("noise_v", [0.0, 0.3e-3])
def test_all_zero_coefficients_change_nothing(noise_v: float) -> None:
    """Also with a generator's output noise: 400 modes, seed 11."""
    unit = client(seed=11, noise_v=noise_v)
    cycles = unit.rotate(np.zeros(400, np.complex128), rows=2)
    field, _ = coherent_rows(2, 400, seed=11)
    before = field.copy()
    measured, returned = unit.unit.pass_through(field, cycles.window, cycles)
    assert np.array_equal(returned, before)
    assert np.var(measured.real) == pytest.approx(2.0, rel=5.0 * math.sqrt(2.0 / measured.size))


@pytest.mark.parametrize("scale", [0.1, 0.5, 3.0])
def test_the_norm_of_the_coefficients_does_not_matter(scale: float) -> None:
    volts = random_coefficients(12, seed=12)
    field, _ = coherent_rows(5, 12, seed=12)
    lights = []
    for factor in (1.0, scale):
        unit = client(seed=13)
        cycles = unit.rotate(factor * volts, rows=5)
        lights.append(unit.unit.pass_through(field.copy(), cycles.window, cycles))
    for one, other in zip(*lights, strict=True):
        assert other == pytest.approx(one, abs=2e-4)


def test_one_basis_vector_measures_one_mode() -> None:
    """2,000 rows, seed 14: the measured mean is sqrt(G - 1) of that slot's mean."""
    unit = client(gain=2.0, seed=14)
    volts = np.zeros(5, np.complex128)
    volts[3] = 0.8j
    cycles = unit.rotate(volts, rows=2000)
    field, means = coherent_rows(2000, 5, seed=14)
    measured, _ = unit.unit.pass_through(field, cycles.window, cycles)
    last = measured.reshape(2000, 7, SLOT)[:, -1]
    assert np.mean(last) == pytest.approx(-1j * means[4], abs=5.0 * math.sqrt(4.0 / last.size))


def test_without_gain_nothing_is_added_and_nothing_measured() -> None:
    """3,000 rows, seed 15: G = 1 returns the light as it was; the arm holds vacuum."""
    unit = client(gain=1.0, seed=15)
    cycles = unit.rotate(random_coefficients(4, seed=15), rows=3000)
    field, _ = coherent_rows(3000, 4, seed=15)
    before = field.copy()
    measured, returned = unit.unit.pass_through(field, cycles.window, cycles)
    assert returned == pytest.approx(before, abs=1e-4)
    assert np.var(measured.real) == pytest.approx(1.0, rel=5.0 * math.sqrt(2.0 / measured.size))
    assert np.mean(measured.real) == pytest.approx(0.0, abs=5.0 / math.sqrt(measured.size))


@pytest.mark.parametrize(("volts", "gain"), [(0.0, 1.0), (4.0, 2.0), (1.2, 1.3), (-3.0, 1.0)])
def test_gain_follows_its_control_voltage_and_never_falls_below_one(
    volts: float, gain: float
) -> None:
    unit = client()
    unit.gain_control.play(Drive(np.array([volts], np.float32), 1.0, 0.0, None, 0.0))
    assert unit.unit.gain() == pytest.approx(gain, rel=1e-6)


@pytest.mark.parametrize(
    ("start", "samples", "first", "count"),
    [(0, 48, 0, 1), (0, 480, 0, 10), (47, 2, 0, 2), (100, 1, 2, 1), (-500, 10_000, 0, 10)],
)
def test_a_window_touches_whole_rows(start: int, samples: int, first: int, count: int) -> None:
    unit = client()
    unit.rotate(random_coefficients(4, seed=1), rows=10)
    assert unit.unit.cycles(Window(start, samples)) == Cycles(first * 48, 48, count)


@pytest.mark.parametrize(("start", "samples"), [(-100, 100), (480, 100)])
def test_a_window_beside_the_rows_touches_none(start: int, samples: int) -> None:
    unit = client()
    unit.rotate(random_coefficients(4, seed=1), rows=10)
    assert unit.unit.cycles(Window(start, samples)) is None


@pytest.mark.parametrize("noise_figure_db", [3.5, 4.5, 6.0])
def test_a_noise_figure_says_what_comes_back(noise_figure_db: float) -> None:
    """200,000 samples, seeds 16, 17: n_sp = (G F - 1)/(2 (G - 1)) makes var r = 1 + F - 1/G."""
    gain, figure = 2.0, 10.0 ** (noise_figure_db / 10.0)
    emission_factor = (gain * figure - 1.0) / (2.0 * (gain - 1.0))
    unit = client(gain=gain, emission_factor=emission_factor, seed=16)
    field = Noise(np.random.SeedSequence(17)).vacuum(200_000)
    _, returned = unit.unit.pass_through(field, Window(0, 200_000), None)
    expected = 1.0 + figure - 1.0 / gain
    assert np.var(returned.real) == pytest.approx(
        expected, abs=variance_tolerance(expected, 200_000)
    )


@pytest.mark.parametrize(("modes", "loss_db_per_mode"), [(4, 0.5), (16, 0.05), (48, 0.05)])
def test_loss_grows_with_the_block_and_acts_each_way(modes: int, loss_db_per_mode: float) -> None:
    """m = 16,000 samples of the collected mode, seeds 18, 19: T = 10^(-b l/10) in, T out; 5 errors.

    Along c: mean T b, variance T (1 + g) + 1 - T with g = 2 - 2/G; across c: vacuum.
    """
    gain, rows = 2.0, 2000
    unit = client(gain=gain, seed=18, loss_db_per_mode=loss_db_per_mode)
    volts = random_coefficients(modes, seed=18)
    c = unit_norm(volts)
    cycles = unit.rotate(volts, rows)
    field, means = coherent_rows(rows, modes, seed=19)
    measured, returned = unit.unit.pass_through(field, cycles.window, cycles)
    shape = (rows, modes + 2, SLOT)
    after = returned.reshape(shape).astype(np.complex128)
    m = measured.reshape(shape).astype(np.complex128)[:, -1].ravel()
    r = np.einsum("k,rks->rs", c.conj(), after[:, 1:-1]).ravel()
    through, mean_b = 10.0 ** (-modes * loss_db_per_mode / 10.0), complex(c.conj() @ means[1:-1])
    var_m = (2.0 * gain**2 - 3.0 * gain + 2.0) / gain
    var_r = 1.0 + through * (2.0 - 2.0 / gain)
    assert np.mean(m) == pytest.approx(
        math.sqrt(through * (gain - 1.0)) * mean_b, abs=5.0 * math.sqrt(2.0 * var_m / len(m))
    )
    assert np.var(m.real) == pytest.approx(var_m, abs=variance_tolerance(var_m, len(m)))
    assert np.mean(r) == pytest.approx(through * mean_b, abs=5.0 * math.sqrt(2.0 * var_r / len(r)))
    assert np.var(r.real) == pytest.approx(var_r, abs=variance_tolerance(var_r, len(r)))
    orthogonal = after[:, 1:-1] - c[None, :, None] * r.reshape(rows, 1, SLOT)
    samples = after[:, 1:-1].size
    assert np.sum(np.var(orthogonal.real, axis=(0, 2))) == pytest.approx(
        modes - 1.0, rel=5.0 * math.sqrt(2.0 / samples)
    )
    assert np.array_equal(after[:, 0], field.reshape(shape)[:, 0])


def overlap_with_wanted(modes: int, seed: int, **errors: float) -> complex:
    """Return <c, c'> for equal coefficients, from bright light along c."""
    unit = client(gain=2.0, seed=seed, **errors)
    cycles = unit.rotate(np.full(modes, 0.5 + 0.0j), rows=1)
    bright = np.full((modes + 2, SLOT), 1e6 / math.sqrt(modes), np.complex64)
    measured, _ = unit.unit.pass_through(bright.ravel(), cycles.window, cycles)
    return complex(np.mean(measured.reshape(modes + 2, SLOT)[-1]).conj()) / 1e6


@pytest.mark.parametrize(("modes", "error_rad"), [(2, 0.1), (8, 0.1), (64, 0.05)])
def test_phase_errors_add_up_along_the_block(modes: int, error_rad: float) -> None:
    """300 units: mode k is off by k steps, so the mean overlap is (1/b) sum exp(-k s^2/2)."""
    overlaps = [
        overlap_with_wanted(modes, seed, phase_error_rad=error_rad).real for seed in range(300)
    ]
    expected = np.mean(np.exp(-0.5 * error_rad**2 * np.arange(1, modes + 1)))
    tolerance = 5.0 * float(np.std(overlaps)) / math.sqrt(300)
    assert np.mean(overlaps) == pytest.approx(expected, abs=tolerance)
    assert expected < 1.0 - tolerance / 5.0


@pytest.mark.parametrize(("modes", "error_rad"), [(2, 0.1), (8, 0.1), (64, 0.05)])
def test_coupler_errors_add_up_along_the_block(modes: int, error_rad: float) -> None:
    """300 units: b E S_b = E[b - 1] g + g with g = exp(-s^2/2), so (g^(b-1) + sum g^j)/b.

    S_k = cos t cos(t + d) S_{k-1} + sin t sin(t + d), sin^2 t = 1/k, averaged over normal d.
    """
    overlaps = [
        overlap_with_wanted(modes, seed, coupler_error_rad=error_rad).real for seed in range(300)
    ]
    g = math.exp(-0.5 * error_rad**2)
    expected = (g ** (modes - 1) + sum(g**j for j in range(1, modes))) / modes
    tolerance = 5.0 * float(np.std(overlaps)) / math.sqrt(300)
    assert np.mean(overlaps) == pytest.approx(expected, abs=tolerance)
    assert expected < 1.0 - tolerance / 5.0


@given(
    levels=st.lists(
        st.sampled_from([0.0, 0.3, -0.2, 0.7, 0.5j, -0.1 + 0.4j]), min_size=2, max_size=8
    ),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=30)
def test_whatever_its_errors_the_unit_stays_passive(levels: list[complex], seed: int) -> None:
    """Light in one slot after the other shows the coefficients really made: their norm is 1."""
    if not any(levels):
        levels = [*levels, 0.5]
    modes = len(levels)
    unit = client(gain=2.0, seed=seed, coupler_error_rad=0.2, phase_error_rad=0.3)
    cycles = unit.rotate(np.array(levels, np.complex128), rows=modes)
    light = np.zeros((modes, modes + 2, SLOT), np.complex64)
    for mode in range(modes):
        light[mode, mode + 1] = 1e6
    measured, _ = unit.unit.pass_through(light.ravel(), cycles.window, cycles)
    made = measured.reshape(light.shape)[:, -1].mean(axis=1) / 1e6
    assert np.linalg.norm(made) == pytest.approx(1.0, abs=1e-4)


def test_errors_are_the_same_for_every_image_and_for_shorter_blocks() -> None:
    """Light in the first mode alone shows the first element's phase, three units, two lengths."""
    phases = []
    for modes in (3, 3, 7):
        unit = client(gain=2.0, seed=20, phase_error_rad=0.3)
        cycles = unit.rotate(np.array([0.5] + [0.0] * (modes - 1), np.complex128), rows=1)
        light = np.full((modes + 2, SLOT), 1e6, np.complex64)
        measured, _ = unit.unit.pass_through(light.ravel(), cycles.window, cycles)
        phases.append(np.angle(measured.reshape(light.shape)[-1].mean()))
    assert phases == pytest.approx([phases[0]] * 3, abs=1e-4)
    assert abs(phases[0]) > 0.01


def test_the_way_out_undoes_the_errors_of_the_way_in() -> None:
    """Without gain, light comes back as it was, however wrong the elements are."""
    unit = client(gain=1.0, seed=21, coupler_error_rad=0.3, phase_error_rad=0.3)
    cycles = unit.rotate(random_coefficients(6, seed=21), rows=50)
    field, _ = coherent_rows(50, 6, seed=21)
    before = field.copy()
    _, returned = unit.unit.pass_through(field, cycles.window, cycles)
    assert returned == pytest.approx(before, abs=1e-4)


@pytest.mark.parametrize("net_gain_error", [-0.2, 0.3])
def test_net_gain_and_phase_multiply_what_returns_of_mode_b(net_gain_error: float) -> None:
    """3,000 rows of 6 modes, seeds 2 to 4: the other modes come back as they went; five errors.

    Var r = t^2 (1 + 2 n_sp (1 - 1/G)) + |t^2 - 1| with t = 1 + delta, the measured arm as planned.
    """
    rows, modes, gain, phase_rad = 3000, 6, 1.5, 0.5
    made = client(gain=gain, seed=2)
    exact = made.unit.parameters
    made.unit.parameters = replace(exact, net_gain_error=net_gain_error, arm_phase_rad=phase_rad)
    c = unit_norm(volts := random_coefficients(modes, seed=3))
    field, means = coherent_rows(rows, modes, seed=4)
    cycles = made.rotate(volts, rows)
    measured, returned = made.unit.pass_through(field, cycles.window, cycles)
    t, samples = 1.0 + net_gain_error, rows * SLOT
    sent = field.reshape(rows, modes + 2, SLOT)[:, 1:-1]
    back = returned.reshape(rows, modes + 2, SLOT)[:, 1:-1]
    b, r = (np.einsum("k,rks->rs", c.conj(), light).ravel() for light in (sent, back))
    mean = complex(c.conj() @ means[1:-1])
    variance = t**2 * (1.0 + 2.0 * (1.0 - 1.0 / gain)) + abs(t**2 - 1.0)
    assert np.mean(r) == pytest.approx(
        t * np.exp(1j * phase_rad) * mean, abs=5.0 * math.sqrt(2.0 * variance / samples)
    )
    for part in (r.real, r.imag):
        tolerance = variance_tolerance(variance, samples)
        assert np.var(part.astype(np.float64)) == pytest.approx(variance, abs=tolerance)
    rest = (back - sent) - (r - b).reshape(rows, 1, SLOT) * c[None, :, None]
    assert np.abs(rest).max() < 1e-3
    arm = measured.reshape(rows, modes + 2, SLOT)[:, -1].ravel()
    wanted = (2.0 * gain**2 - 3.0 * gain + 2.0) / gain
    assert np.var(arm.real.astype(np.float64)) == pytest.approx(
        wanted, abs=variance_tolerance(wanted, samples)
    )


def test_net_gain_and_phase_walk_as_they_are_told() -> None:
    made = client(seed=2)
    walked = [0.0, 0.0]
    made.unit = RotationUnit(
        replace(made.unit.parameters, net_gain_error=0.01, arm_phase_rad=-0.02),
        made.real,
        made.imaginary,
        made.gain_control,
        Noise(np.random.SeedSequence(1)),
        walks=(lambda: walked[0], lambda: walked[1]),
    )
    assert made.unit.net_amplitude() == pytest.approx(1.01 * np.exp(-0.02j))
    walked[:] = [0.02, 0.05]
    assert made.unit.net_amplitude() == pytest.approx(1.03 * np.exp(0.03j))


def test_pilots_pass_the_clone_where_the_unit_shows_them() -> None:
    """3,000 rows of 6 modes, seeds 2 to 4: the slot of a pilot has the closed forms of any clone.

    Readout and returned modes are what they are without; five standard errors.
    """
    rows, modes, gain = 3000, 6, 2.0
    unit = client(gain=gain, seed=2)
    unit.unit.parameters = replace(unit.unit.parameters, pilots_measured=True)
    cycles = unit.rotate(random_coefficients(modes, seed=3), rows)
    field, means = coherent_rows(rows, modes, seed=4)
    measured, returned = unit.unit.pass_through(field, cycles.window, cycles)
    shape = (rows, modes + 2, SLOT)
    sent = means[0]
    seen, back = (part.reshape(shape)[:, :1] for part in (measured, returned))
    noise = seen - math.sqrt(gain - 1.0) * sent
    for found, expected in (
        (noise, (2.0 * gain**2 - 3.0 * gain + 2.0) / gain),
        (back - sent, 1.0 + 2.0 * (1.0 - 1.0 / gain)),
    ):
        tolerance = variance_tolerance(expected, 2 * rows * SLOT)
        assert np.mean(np.abs(found) ** 2) / 2.0 == pytest.approx(expected, abs=tolerance)
    others = returned.reshape(shape)[:, 1:-1] - field.reshape(shape)[:, 1:-1]
    added = np.mean(np.abs(others) ** 2) / 2.0 * modes
    assert added == pytest.approx(2.0 * (1.0 - 1.0 / gain), rel=0.03)
