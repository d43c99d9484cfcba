"""The I/Q modulator: its transfer curve, its bias points, and how far it can go dark."""

import cmath
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.simulated.clock import BenchClock
from labctl.instruments.simulated.physics.grid import Field, Noise
from labctl.instruments.simulated.physics.modulator import IQModulator, ModulatorParameters
from labctl.instruments.simulated.ports import BiasMode

V_PI_I, V_PI_Q, V_PI_PARENT = 3.4, 3.9, 7.2
LOSS_DB = 6.0
OFFSETS = (0.41, -0.83, 0.22)
VOLTS = st.floats(-20.0, 20.0)


def modulator(
    *, lock_error_rad: float = 0.0, extinction_ratio_db: float = 30.0, seed: int = 1
) -> IQModulator:
    parameters = ModulatorParameters(
        V_PI_I, V_PI_Q, V_PI_PARENT, extinction_ratio_db, LOSS_DB, lock_error_rad, OFFSETS
    )
    return IQModulator(parameters, Noise(np.random.SeedSequence(seed)))


def lock(made: IQModulator) -> None:
    """Lock for I/Q modulation around a dark carrier."""
    made.child_i.set_bias(BiasMode.NULL)
    made.child_q.set_bias(BiasMode.NULL)
    made.parent.set_bias(BiasMode.QUADRATURE_PLUS)


def passed(made: IQModulator, drive_i_v: float, drive_q_v: float) -> complex:
    field = made.transfer(np.array([drive_i_v], np.float32), np.array([drive_q_v], np.float32))
    return complex(field[0] * 10.0 ** (LOSS_DB / 20.0))


def child_i(made: IQModulator, drive_v: float) -> complex:
    """Return the field through child I alone: child Q changes its sign over 2 V_pi."""
    return passed(made, drive_v, 0.0) + passed(made, drive_v, 2.0 * V_PI_Q)


def child_q(made: IQModulator, drive_v: float) -> complex:
    return passed(made, 0.0, drive_v) + passed(made, 2.0 * V_PI_I, drive_v)


@given(
    drives=st.tuples(VOLTS, VOLTS),
    biases=st.tuples(VOLTS, VOLTS, VOLTS),
    extinction_ratio_db=st.floats(15.0, 60.0),
)
@settings(deadline=None)
def test_the_field_follows_the_closed_form(
    drives: tuple[float, float], biases: tuple[float, float, float], extinction_ratio_db: float
) -> None:
    made = modulator(extinction_ratio_db=extinction_ratio_db)
    for electrode, voltage_v in zip((made.child_i, made.child_q, made.parent), biases, strict=True):
        electrode.set_bias(BiasMode.MANUAL, voltage_v)
        assert electrode.voltage_v() == voltage_v
    rho = 10.0 ** (-extinction_ratio_db / 20.0)
    u_i = OFFSETS[0] + math.pi * (drives[0] + biases[0]) / (2.0 * V_PI_I)
    u_q = OFFSETS[1] + math.pi * (drives[1] + biases[1]) / (2.0 * V_PI_Q)
    parent = cmath.exp(2j * OFFSETS[2] + 1j * math.pi * biases[2] / V_PI_PARENT)
    one = complex(math.cos(u_i), rho * math.sin(u_i))
    two = complex(math.cos(u_q), rho * math.sin(u_q))
    assert passed(made, *drives) == pytest.approx(0.5 * (one + parent * two), abs=2e-5)


@given(VOLTS, VOLTS)
@settings(deadline=None)
def test_it_never_gives_more_light_than_its_insertion_loss_leaves(i_v: float, q_v: float) -> None:
    made = modulator(extinction_ratio_db=20.0)
    assert abs(passed(made, i_v, q_v)) <= 1.0 + 1e-6


def test_v_pi_lies_between_a_childs_peak_and_its_null() -> None:
    """Power of each child over a fine voltage scan: maxima and minima alternate by V_pi."""
    made = modulator()
    scan = np.linspace(-15.0, 15.0, 30_001).astype(np.float32)
    flat = np.zeros_like(scan)
    full_i, full_q = np.full_like(scan, 2 * V_PI_I), np.full_like(scan, 2 * V_PI_Q)
    for power, v_pi_v in (
        (np.abs(made.transfer(scan, flat) + made.transfer(scan, full_q)) ** 2, V_PI_I),
        (np.abs(made.transfer(flat, scan) + made.transfer(full_i, scan)) ** 2, V_PI_Q),
    ):
        smallest = scan[1:-1][(power[1:-1] < power[:-2]) & (power[1:-1] < power[2:])]
        groups = np.split(smallest, np.where(np.diff(smallest) > 1)[0] + 1)
        minima = [np.mean(group) for group in groups]
        assert len(minima) >= 3
        assert np.diff(minima) == pytest.approx(2.0 * v_pi_v, abs=0.02)
        peak_v = minima[0] + v_pi_v
        near_peak = power[np.argmin(np.abs(scan - peak_v))]
        assert near_peak == pytest.approx(np.max(power), rel=1e-5)


@pytest.mark.parametrize("extinction_ratio_db", [20.0, 25.0, 35.0])
def test_a_childs_own_null_under_manual_bias_shows_its_extinction_ratio(
    extinction_ratio_db: float,
) -> None:
    made = modulator(extinction_ratio_db=extinction_ratio_db)
    for electrode, child, v_pi_v, offset in (
        (made.child_i, child_i, V_PI_I, OFFSETS[0]),
        (made.child_q, child_q, V_PI_Q, OFFSETS[1]),
    ):
        null_v = (math.pi / 2.0 - offset) * 2.0 * v_pi_v / math.pi
        electrode.set_bias(BiasMode.MANUAL, null_v)
        dark = abs(child(made, 0.0)) ** 2
        electrode.set_bias(BiasMode.MANUAL, null_v - v_pi_v)
        bright = abs(child(made, 0.0)) ** 2
        assert bright == pytest.approx(1.0, rel=1e-5)
        assert 10.0 * math.log10(bright / dark) == pytest.approx(extinction_ratio_db, abs=0.01)


@pytest.mark.parametrize("extinction_ratio_db", [20.0, 30.0])
def test_without_lock_error_the_carrier_vanishes(extinction_ratio_db: float) -> None:
    made = modulator(extinction_ratio_db=extinction_ratio_db)
    lock(made)
    assert abs(passed(made, 0.0, 0.0)) < 1e-6


def test_with_lock_error_only_that_error_is_left() -> None:
    """2,000 locks, seed 2: carrier power 1/4 (s^2 + s^2), exponential: 5/sqrt(m) = 11 %.

    Near its null a child of error e passes -e; the parent's error turns what is nearly dark.
    """
    error = 1e-3
    made = modulator(lock_error_rad=error, seed=2)
    powers = []
    for _ in range(2000):
        lock(made)
        powers.append(abs(passed(made, 0.0, 0.0)) ** 2)
    assert np.mean(powers) == pytest.approx(0.5 * error**2, rel=5.0 / math.sqrt(2000))


def test_a_lock_settles_with_the_stated_standard_deviation() -> None:
    """5,000 locks of the parent, seed 3: five standard errors of a deviation, 5 %."""
    made = modulator(lock_error_rad=2e-3, seed=3)
    phases = []
    for _ in range(5000):
        made.parent.set_bias(BiasMode.QUADRATURE_PLUS)
        phases.append(made.parent.phase_rad() - math.pi / 4.0)
    assert np.std(phases) == pytest.approx(2e-3, rel=5.0 / math.sqrt(10_000))
    assert np.mean(phases) == pytest.approx(0.0, abs=5.0 * 2e-3 / math.sqrt(5000))


@pytest.mark.parametrize(
    ("mode", "turn"), [(BiasMode.QUADRATURE_PLUS, 1j), (BiasMode.QUADRATURE_MINUS, -1j)]
)
def test_parent_quadrature_makes_i_and_q_orthogonal(mode: BiasMode, turn: complex) -> None:
    """Without leakage: child I is real, child Q imaginary, each sin(pi v / 2 V_pi) / 2."""
    made = modulator(extinction_ratio_db=200.0)
    made.child_i.set_bias(BiasMode.NULL)
    made.child_q.set_bias(BiasMode.NULL)
    made.parent.set_bias(mode)
    for i_v, q_v in ((1.0, 0.0), (0.0, 1.0), (-2.3, 1.7), (V_PI_I, -V_PI_Q)):
        expected = -0.5 * math.sin(math.pi * i_v / (2.0 * V_PI_I))
        expected_q = -0.5 * math.sin(math.pi * q_v / (2.0 * V_PI_Q))
        assert passed(made, i_v, q_v) == pytest.approx(expected + turn * expected_q, abs=2e-6)


def test_all_at_peak_only_the_insertion_loss_is_left() -> None:
    made = modulator()
    for electrode in (made.child_i, made.child_q, made.parent):
        electrode.set_bias(BiasMode.PEAK)
    field: Field = made.transfer(np.zeros(1, np.float32), np.zeros(1, np.float32))
    assert 20.0 * math.log10(abs(field[0])) == pytest.approx(-LOSS_DB, abs=1e-4)


def test_an_electrode_that_is_off_shows_its_own_offset() -> None:
    made = modulator()
    lock(made)
    for electrode, offset in zip((made.child_i, made.child_q, made.parent), OFFSETS, strict=True):
        electrode.set_bias(BiasMode.OFF)
        assert (electrode.voltage_v(), electrode.phase_rad()) == (0.0, offset)


@pytest.mark.parametrize("mode", [BiasMode.PEAK, BiasMode.NULL, BiasMode.QUADRATURE_MINUS])
def test_a_lock_takes_the_nearest_such_point(mode: BiasMode) -> None:
    """Points repeat every 4 V_pi of the electrode (2 pi of u): never more than 2 V_pi away."""
    made = modulator(lock_error_rad=0.1)
    for electrode, v_pi_v in ((made.child_i, V_PI_I), (made.parent, V_PI_PARENT)):
        for _ in range(50):
            electrode.set_bias(mode)
            assert abs(electrode.voltage_v()) <= 2.0 * v_pi_v


def test_a_controllers_tap_shows_what_it_is_connected_to() -> None:
    made = modulator()
    assert made.child_i.tap_power_w() == 0.0
    made.child_i.tap = lambda: 3e-6
    assert made.child_i.tap_power_w() == 3e-6


def test_half_wave_voltages_grow_with_the_wavelength() -> None:
    """The drive that swings a child from peak to null at 1550 nm falls short at 1600 nm."""
    modulator = IQModulator(
        ModulatorParameters(3.5, 3.5, 7.0, 200.0, 0.0, 0.0, (0.0, 0.0, 0.0)),
        Noise(np.random.SeedSequence(1)),
    )
    for electrode in (modulator.child_i, modulator.child_q, modulator.parent):
        electrode.set_bias(BiasMode.PEAK)
    drive = np.array([3.5], np.float32)
    assert abs(modulator.transfer(drive, drive)[0]) == pytest.approx(0.0, abs=1e-6)
    modulator.wavelength_m = lambda: 1600e-9
    expected = np.cos(np.pi / 2.0 * 1550.0 / 1600.0)
    assert abs(modulator.transfer(drive, drive)[0]) == pytest.approx(expected, rel=1e-5)


def test_a_source_on_an_electrode_moves_its_bias() -> None:
    modulator = IQModulator(
        ModulatorParameters(3.5, 3.5, 7.0, 200.0, 0.0, 0.0, (0.0, 0.0, 0.0)),
        Noise(np.random.SeedSequence(1)),
    )
    modulator.child_i.set_bias(BiasMode.MANUAL, 1.0)
    modulator.child_i.external = lambda: 0.75
    assert modulator.child_i.phase_rad() == pytest.approx(np.pi * 1.75 / 7.0)
    assert modulator.child_i.voltage_v() == 1.0
    modulator.child_i.set_bias(BiasMode.NULL)
    assert modulator.child_i.phase_rad() == pytest.approx(np.pi / 2.0, abs=1e-6)


def drifting(rate_v_pi_rth: float, seed: int = 1) -> tuple[IQModulator, BenchClock]:
    parameters = ModulatorParameters(
        V_PI_I, V_PI_Q, V_PI_PARENT, 200.0, LOSS_DB, 0.0, OFFSETS, rate_v_pi_rth
    )
    clock = BenchClock()
    sources = [Noise(one) for one in np.random.SeedSequence(seed).spawn(4)]
    return IQModulator(parameters, sources[0], clock.now_s, sources[1:]), clock


def walk(
    made: IQModulator, clock: BenchClock, step_s: float, steps: int
) -> Sequence[Sequence[float]]:
    """Return the phases of child I, child Q and parent after each step."""
    phases = []
    for _ in range(steps):
        clock.sleep(step_s)
        phases.append([e.phase_rad() for e in (made.child_i, made.child_q, made.parent)])
    return phases


@pytest.mark.parametrize("step_s", [36.0, 3600.0])
def test_a_held_bias_drifts_as_a_random_walk(step_s: float) -> None:
    """4,000 steps, seed 2: 0.05 V_pi per square root of an hour; five errors, steps independent."""
    made, clock = drifting(0.05, seed=2)
    steps = np.diff(np.array(walk(made, clock, step_s, 4001)), axis=0)
    expected = (0.05 * math.pi / 2.0) ** 2 * step_s / 3600.0
    assert np.var(steps, axis=0) == pytest.approx(expected, rel=5.0 * math.sqrt(2.0 / 4000))
    others = np.corrcoef(np.vstack([steps.T, [*steps[1:, 0], 0.0]]))
    assert others[np.triu_indices(4, 1)] == pytest.approx(0.0, abs=5.0 / math.sqrt(4000))


def test_light_at_a_held_null_follows_the_walk_of_its_child() -> None:
    """Child I alone passes sin^2 of what its phase has walked; the voltage stays."""
    made, clock = drifting(0.05)
    made.child_i.set_bias(BiasMode.NULL)
    held_v = made.child_i.voltage_v()
    made.child_i.set_bias(BiasMode.MANUAL, held_v)
    assert abs(child_i(made, 0.0)) == pytest.approx(0.0, abs=1e-6)
    clock.sleep(3600.0)
    walked_rad = made.child_i.phase_rad() - math.pi / 2.0
    assert abs(walked_rad) > 1e-3
    assert abs(child_i(made, 0.0)) ** 2 == pytest.approx(math.sin(walked_rad) ** 2, rel=1e-3)
    assert made.child_i.voltage_v() == held_v


def test_a_lock_follows_the_drift_until_it_is_told_to_hold() -> None:
    """The phase stays at the null, the controller's voltage walks by 2 V_pi / pi per radian."""
    made, clock = drifting(0.05)
    made.child_i.set_bias(BiasMode.NULL)
    voltages_v = []
    for _ in range(3):
        clock.sleep(3600.0)
        assert made.child_i.phase_rad() == pytest.approx(math.pi / 2.0, abs=1e-9)
        voltages_v.append(made.child_i.voltage_v())
    assert len(set(voltages_v)) == 3
    made.child_i.set_bias(BiasMode.MANUAL, voltages_v[-1])
    assert made.child_i.phase_rad() == pytest.approx(math.pi / 2.0, abs=1e-9)
    clock.sleep(3600.0)
    assert abs(made.child_i.phase_rad() - math.pi / 2.0) > 1e-3


def test_without_drift_a_held_bias_stays_where_it_is() -> None:
    made, clock = drifting(0.0)
    before = made.parent.phase_rad()
    clock.sleep(1e6)
    assert made.parent.phase_rad() == before
