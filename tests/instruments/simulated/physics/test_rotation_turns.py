"""A rotation unit of several turns against closed forms, derived here.

Light that makes K turns passes the elements 2 K times, with transmittance t each; turn k meets it
after 2 k + 1 of them, k from 0. Its modes being orthogonal and the loss alike for all, turn k
measures

    mean  sqrt((G - 1) t^(2 k + 1)) c_k^dagger a,     variance  (2 G^2 - 3 G + 2)/G

and adds g = 2 - 2/G to its mode, of which t^(2 (K - k) - 1) comes out. So along c_k

    mean  t^K c_k^dagger a,     variance  1 + t^(2 (K - k) - 1) g.
"""

import math

import numpy as np
import numpy.typing as npt
import pytest

from labctl.instruments.simulated.physics.drive import DriveOutput, DriveParameters
from labctl.instruments.simulated.physics.grid import Field, Noise, Window
from labctl.instruments.simulated.physics.rotation import (
    Cycles,
    RotationParameters,
    RotationUnit,
)
from labctl.instruments.simulated.ports import Drive

GRID_HZ, SLOT, GAIN_PER_V, GAIN = 160e6, 8, 0.25, 2.0
MODES, TURNS = 6, 4
Coefficients = npt.NDArray[np.complex128]


def unit_of(parameters: RotationParameters, seed: int) -> tuple[RotationUnit, list[DriveOutput]]:
    stage = DriveParameters(24, 10.0, 0.49 * GRID_HZ, 0.0)
    seeds = np.random.SeedSequence(seed).spawn(5)
    outputs = [DriveOutput(stage, GRID_HZ, Noise(one)) for one in seeds[:3]]
    real, imaginary, control = outputs
    unit = RotationUnit(parameters, real, imaginary, control, Noise(seeds[3]), seeds[4])
    volts = np.array([(GAIN - 1.0) / GAIN_PER_V], np.float32)
    outputs[2].play(Drive(volts, 1.0, 0.0, None, 0.0))
    return unit, outputs


def parameters_of(
    loss_db_per_mode: float = 0.0,
    coupler_error_rad: float = 0.0,
    phase_error_rad: float = 0.0,
    block_modes: int | None = None,
) -> RotationParameters:
    return RotationParameters(
        GAIN_PER_V,
        1.0,
        SLOT,
        0,
        loss_db_per_mode,
        coupler_error_rad,
        phase_error_rad,
        block_modes,
        turns=TURNS,
    )


def play(outputs: list[DriveOutput], levels: Coefficients, rows: int) -> Window:
    """Play levels (blocks, turns, modes) in rows; return their window."""
    framed = np.pad(levels, [(0, 0), (0, 0), (1, 1)])
    held = np.repeat(framed.ravel(), SLOT)
    for output, part in zip(outputs, (held.real, held.imag), strict=False):
        output.play(Drive(part.astype(np.float32), GRID_HZ, 0.0, rows, 0.0))
    return Window(0, len(held) * rows)


def orthonormal(count: int, seed: int) -> Coefficients:
    drawn = np.random.default_rng(seed).standard_normal((MODES, 2 * count))
    columns = np.linalg.qr(drawn[:, :count] + 1j * drawn[:, count:])[0]
    return np.ascontiguousarray(columns.T)


def light_of(rows: int, blocks: int, means: Coefficients, seed: int) -> Field:
    """Return rows of blocks of turns with pilots; light in all turns, `means` in the first."""
    shape = (rows, blocks, TURNS, MODES + 2, SLOT)
    field = Noise(np.random.SeedSequence(seed)).vacuum(math.prod(shape)).reshape(shape)
    field[:, :, :, 0] += np.complex64(40.0 + 9.0j)
    field[:, :, 0, 1:-1] += means[:, None].astype(np.complex64)
    field[:, :, 1:, 1:-1] += np.complex64(20.0)
    return field


def variance_tolerance(expected: float, samples: int) -> float:
    return 5.0 * expected * math.sqrt(2.0 / samples)


@pytest.mark.parametrize("used", [1, 3, 4])
def test_each_turn_collects_its_mode_and_loses_light(used: int) -> None:
    """2,000 rows of two blocks at 8 samples a slot, m = 32,000; seeds 2 to 4; five errors."""
    rows, blocks = 2000, 2
    unit, outputs = unit_of(parameters_of(loss_db_per_mode=0.05, block_modes=MODES), seed=2)
    modes = orthonormal(used, seed=3)
    levels = np.zeros((blocks, TURNS, MODES), complex)
    levels[:, :used] = modes
    window = play(outputs, levels, rows)
    draw = np.random.default_rng(4).standard_normal((2, MODES))
    means = 3.0 * (draw[0] + 1j * draw[1])
    field = light_of(rows, blocks, means, seed=4)
    before = field.copy()
    measured, returned = unit.pass_through(field.reshape(-1), window, unit.cycles(window))
    arms, back = (part.reshape(field.shape).astype(complex) for part in (measured, returned))
    samples, t, g = rows * blocks * SLOT, 10.0 ** (-MODES * 0.005), 2.0 - 2.0 / GAIN
    var_m = (2.0 * GAIN**2 - 3.0 * GAIN + 2.0) / GAIN
    for turn in range(TURNS):
        read = arms[:, :, turn, -1]
        mean = 0.0 + 0.0j
        if turn < used:
            mean = complex(modes[turn].conj() @ means)
            mean *= math.sqrt((GAIN - 1.0) * t ** (2 * turn + 1))
        assert abs(np.mean(read) - mean) < 5.0 * math.sqrt(2.0 * var_m / samples)
        for part in (read.real, read.imag):
            assert np.var(part) == pytest.approx(var_m, abs=variance_tolerance(var_m, samples))
    along = np.einsum("km,rbms->krbs", modes.conj(), back[:, :, 0, 1:-1]).reshape(used, -1)
    for turn, r in enumerate(along):
        wanted = 1.0 + t ** (2 * (used - turn) - 1) * g
        mean = t**used * complex(modes[turn].conj() @ means)
        assert abs(np.mean(r) - mean) < 5.0 * math.sqrt(2.0 * wanted / samples)
        for part in (r.real, r.imag):
            assert np.var(part) == pytest.approx(wanted, abs=variance_tolerance(wanted, samples))
        for other in along[:turn]:
            assert abs(np.mean((r - r.mean()) * np.conj(other - other.mean()))) < (
                10.0 * wanted / math.sqrt(samples)
            )
    rest = back[:, :, 0, 1:-1] - np.einsum(
        "krbs,km->rbms", along.reshape(used, rows, blocks, SLOT), modes
    )
    assert np.sum(np.var(rest.real, axis=(0, 1, 3))) == pytest.approx(
        MODES - used, rel=5.0 * math.sqrt(2.0 / samples / (MODES - used))
    )
    # Pilots, readout slots and what arrives while the loop is full pass as they are.
    assert np.array_equal(back[:, :, 0, [0, -1]], before[:, :, 0, [0, -1]])
    assert np.array_equal(back[:, :, 1:], before[:, :, 1:])


def test_light_read_at_single_instants_is_that_of_whole_rows() -> None:
    """5,000 rows, seeds 5 and 6: mean and variance of each turn's readout; five errors."""
    rows = 5000
    unit, outputs = unit_of(parameters_of(), seed=5)
    modes = orthonormal(TURNS, seed=5)
    window = play(outputs, modes[None], rows)
    means = np.full(MODES, 3.0 - 1.0j)
    field = light_of(rows, 1, means, seed=6).reshape(-1)
    turn_samples = (MODES + 2) * SLOT
    instants = np.arange(rows * TURNS) * turn_samples + turn_samples - SLOT // 2
    measured, returned, taken = unit.pass_at(
        lambda at: field[at], instants.astype(np.int64), window.samples
    )
    assert taken == window.samples
    var_m = (2.0 * GAIN**2 - 3.0 * GAIN + 2.0) / GAIN
    for turn, mode in enumerate(modes):
        read = measured.reshape(rows, TURNS)[:, turn].astype(complex)
        mean = math.sqrt(GAIN - 1.0) * complex(mode.conj() @ means)
        assert abs(np.mean(read) - mean) < 5.0 * math.sqrt(2.0 * var_m / rows)
        assert np.var(read.real) == pytest.approx(var_m, abs=variance_tolerance(var_m, rows))
    assert np.array_equal(returned, field[instants])


def test_errors_of_the_elements_change_what_is_collected_and_nothing_else() -> None:
    """Without gain all light comes back as it was, however wrong the elements are; seed 7."""
    unit, outputs = unit_of(parameters_of(coupler_error_rad=0.2, phase_error_rad=0.2), seed=7)
    outputs[2].play(None)
    window = play(outputs, orthonormal(TURNS, seed=7)[None], 20)
    field = light_of(20, 1, np.full(MODES, 3.0 + 0.0j), seed=7).reshape(-1)
    before = field.copy()
    _, returned = unit.pass_through(field, window, unit.cycles(window))
    assert returned == pytest.approx(before, abs=1e-4)


@pytest.mark.parametrize(
    ("slots", "blocks"), [(32, 1), (20, 1), (64, 2), (33, None), (60, None), (96, 3)]
)
def test_a_cycle_is_made_of_whole_blocks_of_all_turns(slots: int, blocks: int | None) -> None:
    assert parameters_of(block_modes=MODES).blocks(slots) == blocks
    unit, outputs = unit_of(parameters_of(block_modes=MODES), seed=8)
    held = np.full(slots * SLOT, 0.5, np.float32)
    outputs[0].play(Drive(held, GRID_HZ, 0.0, 3, 0.0))
    expected = None if blocks is None else Cycles(0, slots * SLOT, 3)
    assert unit.cycles(Window(0, 3 * slots * SLOT)) == expected


@pytest.mark.parametrize("used", [1, 4])
def test_the_return_tap_sees_the_loss_and_the_emission_of_the_turns_that_are_used(
    used: int,
) -> None:
    unit, outputs = unit_of(parameters_of(loss_db_per_mode=0.05), seed=9)
    levels = np.zeros((1, TURNS, MODES), complex)
    levels[:, :used] = orthonormal(used, seed=9)
    play(outputs, levels, 5)
    passed, emitted = unit.power_change(1e-6)
    assert passed == pytest.approx(10.0 ** (-2.0 * used * MODES * 0.005))
    assert emitted == pytest.approx(used * (1.0 - 1.0 / GAIN) / (TURNS * (MODES + 2)))
