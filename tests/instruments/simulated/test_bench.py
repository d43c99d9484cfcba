"""The simulated link as a whole: powers, delays, shot-noise levels, and one chain done by hand."""

import copy
import math
import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from labctl.data import shipped_bench_path
from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.bench_file import build_bench
from labctl.instruments.simulated.bench_tables import BenchFile
from labctl.instruments.simulated.physics.detection import PowerHead
from labctl.instruments.simulated.physics.drive import DriveOutput, DriveParameters
from labctl.instruments.simulated.physics.grid import Noise, Window
from labctl.instruments.simulated.physics.path import PhaseShifter, Shutter
from labctl.instruments.simulated.physics.rotation import RotationUnit
from labctl.instruments.simulated.ports import (
    BiasMode,
    Capture,
    CaptureWindow,
    ChannelWindow,
    Drive,
)

GRID_HZ = 160e6
FREQUENCY_HZ = 193.4e12
POWER_W = 0.02
PLANCK_J_S = 6.62607015e-34
CHARGE_C = 1.602176634e-19
SLOT = 16
WIDE_HZ = 0.49 * GRID_HZ
SHIPPED = tomllib.loads(shipped_bench_path().read_text(encoding="utf-8"))

Floats = npt.NDArray[np.float64]
Traces = dict[str, Floats]


def noise(seed: int) -> Noise:
    return Noise(np.random.SeedSequence(seed))


def quiet_bench(seed: int = 1, **tables: dict[str, Any]) -> LinkBench:
    """Build a bench whose only noise is quantum noise; `tables` replace keys table by table."""
    content = copy.deepcopy(SHIPPED)
    content["seed"] = seed
    content["panels"] = {}
    del content["taps"]
    content["laser"].update(linewidth_hz=0.0, rin_db_hz=-300.0)
    content["generators"].update(noise_v=0.0, bits=24, bandwidth_hz=WIDE_HZ)
    content["modulator"].update(lock_error_rad=0.0)
    del content["modulator"]["bias_drift_v_pi_rth"]
    for leg in ("forward", "back"):
        content[leg].update(length_km=0.0)
        del content[leg]["dispersion_ps_nm_km"]
    content["rotation"].update(storage_s=0.0, symbol_rate_hz=GRID_HZ / SLOT)
    for name in ("client", "server"):
        content[name].update(
            phase_drift_rad2_s=0.0,
            electronic_noise_a_rthz=0.0,
            bandwidth_hz=WIDE_HZ,
            swing_v=1e4,
            digitizer_bits=24,
            digitizer_noise_v=0.0,
            common_mode_rejection_db=200.0,
        )
    for name, changes in tables.items():
        content[name].update(changes)
    return build_bench(BenchFile.model_validate(content), Path("bench.toml"))


def switch_on(
    bench: LinkBench, power_w: float = POWER_W, frequency_hz: float = FREQUENCY_HZ
) -> None:
    bench.optics.laser.set_emission(True, power_w, frequency_hz)


def lock(bench: LinkBench, child: BiasMode) -> None:
    """Lock both children to a point; parent at quadrature, or at its peak with theirs."""
    modulator = bench.optics.modulator
    modulator.child_i.set_bias(child)
    modulator.child_q.set_bias(child)
    parent = BiasMode.PEAK if child is BiasMode.PEAK else BiasMode.QUADRATURE_PLUS
    modulator.parent.set_bias(parent)


def turn_oscillators(bench: LinkBench, **phases_rad: float) -> None:
    """Set local oscillators to a phase, for any phase of their paths (without drift)."""
    for name, phase_rad in phases_rad.items():
        receiver = bench.optics.receivers[name]
        own = float(receiver.drift.phase(Window(0, 1))[0])
        shift_v = (phase_rad - own) / math.pi
        receiver.phase_shifter = PhaseShifter(1.0, partial(float, shift_v))


def capture(
    bench: LinkBench,
    samples: int,
    *names: str,
    start_s: float = 0.0,
    range_v: float = 400.0,
) -> Traces:
    """Arm digitizers, pulse the trigger cable, return volts."""
    got: Traces = {}

    def keep(name: str) -> Callable[[Capture], None]:
        return lambda capture: got.update({name: capture[1].astype(np.float64)})

    for name in names or ("client", "server"):
        window = CaptureWindow(start_s, GRID_HZ, samples, {1: ChannelWindow(range_v, 0.0)})
        bench.digitizer_at(name).arm(window, keep(name))
    bench.trigger.fire()
    return got


def in_shot_noise(bench: LinkBench, name: str, volts: Floats) -> Floats:
    """Return X per grid sample: volts over transimpedance e sqrt(eta n_LO) / dt."""
    receiver, laser = bench.optics.receivers[name], bench.optics.laser
    p = receiver.detector.parameters
    photons = p.efficiency * receiver.lo_fraction * laser.emitted_power_w()
    photons /= PLANCK_J_S * laser.frequency_hz * GRID_HZ
    return volts / (p.transimpedance_v_a * CHARGE_C * GRID_HZ * math.sqrt(photons))


def clone(bench: LinkBench, gain: float) -> tuple[DriveOutput, DriveOutput]:
    """Give the bench a rotation unit of this gain; return what plays its coefficients."""
    stage = DriveParameters(24, 10.0, WIDE_HZ, 0.0)
    real, imaginary, control = (DriveOutput(stage, GRID_HZ, noise(seed)) for seed in (11, 12, 13))
    control.play(Drive(np.array([gain - 1.0], np.float32), 1.0, 0.0, None, 0.0))
    parameters = replace(bench.optics.rotation.parameters, gain_per_v=1.0)
    elements = np.random.SeedSequence(15)
    bench.optics.rotation = RotationUnit(parameters, real, imaginary, control, noise(14), elements)
    return real, imaginary


def rotate(
    bench: LinkBench, coefficients: npt.NDArray[np.complex128], rows: int, gain: float
) -> None:
    """Play `rows` of coefficients from bench time 0 on."""
    held = np.repeat(np.concatenate(([0.0], coefficients, [0.0])), SLOT)
    for output, levels in zip(clone(bench, gain), (held.real, held.imag), strict=True):
        output.play(Drive(levels.astype(np.float32), GRID_HZ, 0.0, rows, 0.0))


# One row by hand. Quadratures are ordered X1 P1 X2 P2 ...; modes 0-2 carry the row, 3 is the
# amplifier's idler, 4 the vacuum at its splitter, 5-7 fill the loss on the way back, 8-11 that
# of the detectors' efficiency (8 the client's, 9-11 the server's).
MODES = 12


def passive(unitary: npt.NDArray[np.complex128]) -> Floats:
    """Return the symplectic matrix of a -> U a: blocks [[Re, -Im], [Im, Re]]."""
    blocks = np.zeros((2 * len(unitary), 2 * len(unitary)))
    blocks[0::2, 0::2], blocks[1::2, 1::2] = unitary.real, unitary.real
    blocks[0::2, 1::2], blocks[1::2, 0::2] = -unitary.imag, unitary.imag
    return blocks


def beam_splitter(first: int, second: int, transmittance: float) -> Floats:
    unitary = np.eye(MODES, dtype=np.complex128)
    t, r = math.sqrt(transmittance), math.sqrt(1.0 - transmittance)
    unitary[first, first], unitary[first, second] = t, r
    unitary[second, first], unitary[second, second] = -r, t
    return passive(unitary)


def two_mode_squeezer(signal: int, idler: int, gain: float) -> Floats:
    """a -> sqrt(G) a + sqrt(G - 1) idler^dagger, and the same with both exchanged."""
    matrix = np.eye(2 * MODES)
    for one, other in ((signal, idler), (idler, signal)):
        for quadrature, sign in ((0, 1.0), (1, -1.0)):
            matrix[2 * one + quadrature, 2 * one + quadrature] = math.sqrt(gain)
            matrix[2 * one + quadrature, 2 * other + quadrature] = sign * math.sqrt(gain - 1.0)
    return matrix


def row_unitary(c: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
    """Return a unitary on all modes whose first row is c^dagger on the row's modes."""
    basis = np.eye(len(c), dtype=np.complex128)
    basis[:, 0] = c
    q, r = np.linalg.qr(basis)
    q[:, 0] *= r[0, 0] / abs(r[0, 0])
    unitary = np.eye(MODES, dtype=np.complex128)
    unitary[: len(c), : len(c)] = q.conj().T
    return unitary


def by_hand(
    means: npt.NDArray[np.complex128],
    c: npt.NDArray[np.complex128],
    *,
    gain: float,
    back: float,
    efficiencies: tuple[float, float],
    phases_rad: tuple[float, float],
) -> tuple[Floats, Floats]:
    """Return mean and covariance of (client's value, server's three values) of a row.

    Mode 0 of the rotated basis is the collected one. After the splitter the idler's partner
    goes on in mode 0 and the measured arm in mode 4.
    """
    rotate = passive(row_unitary(c))
    chain = [
        rotate,
        two_mode_squeezer(0, 3, gain),
        beam_splitter(0, 4, 1.0 / gain),
        rotate.T,
        *(beam_splitter(mode, 5 + mode, back) for mode in range(3)),
        beam_splitter(4, 8, efficiencies[0]),
        *(beam_splitter(mode, 9 + mode, efficiencies[1]) for mode in range(3)),
    ]
    total = np.eye(2 * MODES)
    for matrix in chain:
        total = matrix @ total
    read = np.zeros((4, 2 * MODES))
    for row, (mode, phase) in enumerate(
        [(4, phases_rad[0]), *((mode, phases_rad[1]) for mode in range(3))]
    ):
        read[row, 2 * mode], read[row, 2 * mode + 1] = math.cos(phase), math.sin(phase)
    # This splitter sends -sqrt(1 - 1/G) a into mode 4; the bench's measured arm has a plus sign.
    read[0] *= -1.0
    start = np.zeros(2 * MODES)
    start[0:6:2], start[1:6:2] = means.real, means.imag
    return read @ total @ start, read @ total @ total.T @ read.T


@pytest.mark.parametrize(
    ("gain", "back_loss_db", "phases_rad"),
    [(2.0, 0.0, (0.0, 0.0)), (1.3, 1.5, (0.4, 1.1)), (3.5, 0.6, (2.0, -0.7))],
)
def test_the_chain_agrees_with_a_covariance_propagated_by_hand(
    gain: float, back_loss_db: float, phases_rad: tuple[float, float]
) -> None:
    """4,000 rows of three modes, seed 3: means and covariances within five standard errors.

    Each slot's middle 8 samples are one mode; filters act on its edges alone. A detector at
    0.49 of the grid's rate takes less than 0.5 % of such a mode's noise.
    """
    rows, modes, drive_v = 4000, 3, 3.5
    bench = quiet_bench(
        seed=3,
        back={"connector_loss_db": back_loss_db},
        client={"efficiency": 0.85, "lo_delay_s": 0.0},
        server={"efficiency": 0.7, "lo_delay_s": 0.0},
        attenuation={"fixed_db": 75.0},
    )
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    turn_oscillators(bench, client=phases_rad[0], server=phases_rad[1])
    i_v = np.array([0.0, 0.9, -0.4, 0.3, 0.0]) * drive_v
    q_v = np.array([0.0, 0.2, 0.7, -0.8, 0.0]) * drive_v
    for output, volts in ((bench.optics.drive_i, i_v), (bench.optics.drive_q, q_v)):
        held = np.repeat(volts, SLOT).astype(np.float32)
        output.play(Drive(held, GRID_HZ, 0.0, rows, 0.0))
    volts_c = np.array([0.5 + 0.1j, -0.3j, 0.8 - 0.2j])
    rotate(bench, volts_c, rows, gain)

    power_w = POWER_W * 0.1 * 0.95 * 10.0 ** (-(0.7 + 75.0 + 6.0) / 10.0)
    amplitude = 2.0 * math.sqrt(power_w / (PLANCK_J_S * FREQUENCY_HZ) / GRID_HZ)
    rho = 10.0 ** (-30.0 / 20.0)
    shift = math.atan(rho)
    u_i = math.pi / 2.0 - shift + math.pi * i_v[1:-1] / (2.0 * 3.5)
    u_q = math.pi / 2.0 + shift + math.pi * q_v[1:-1] / (2.0 * 3.5)
    field = np.cos(u_i) + 1j * rho * np.sin(u_i) + 1j * (np.cos(u_q) + 1j * rho * np.sin(u_q))
    means = 0.5 * amplitude * field * math.sqrt(8)
    expected_mean, expected = by_hand(
        means,
        volts_c / np.linalg.norm(volts_c),
        gain=gain,
        back=10.0 ** (-back_loss_db / 10.0),
        efficiencies=(0.85, 0.7),
        phases_rad=phases_rad,
    )

    traces = capture(bench, rows * (modes + 2) * SLOT)
    matched = {
        name: in_shot_noise(bench, name, volts)
        .reshape(rows, modes + 2, SLOT)[:, :, 4:12]
        .sum(axis=2)
        / math.sqrt(8)
        for name, volts in traces.items()
    }
    values = np.column_stack([matched["client"][:, -1], matched["server"][:, 1:-1]])
    assert values.shape == (rows, 4)
    scale = np.sqrt(np.diag(expected))
    assert np.min(np.max(np.abs(expected_mean))) > 1.0
    mean_tolerance = 5.0 * scale / math.sqrt(rows) + 2e-3 * np.abs(expected_mean)
    assert np.all(np.abs(values.mean(axis=0) - expected_mean) < mean_tolerance)
    spread = np.sqrt((np.outer(scale, scale) ** 2 + expected**2) / rows)
    assert np.all(np.abs(np.cov(values.T) - expected) < 5.0 * spread + 5e-3 * expected.max())


@pytest.mark.parametrize("name", ["client", "server"])
def test_dark_signal_leaves_vacuum(name: str) -> None:
    """160,000 samples in modes of 8 (m = 20,000), seed 4: variance 1 within five errors, 5 %."""
    bench = quiet_bench(seed=4)
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    values = in_shot_noise(bench, name, capture(bench, 160_000, name)[name])
    modes = values.reshape(-1, 8).sum(axis=1) / math.sqrt(8)
    assert np.mean(modes) == pytest.approx(0.0, abs=5.0 / math.sqrt(20_000))
    assert np.var(modes) == pytest.approx(1.0, rel=5.0 * math.sqrt(2.0 / 20_000) + 5e-3)


def test_without_laser_there_is_not_even_shot_noise() -> None:
    """16,000 samples: a quiet detector shows nothing; a real one its electronic noise alone."""
    dark = capture(quiet_bench(), 16_000)
    assert not np.any(dark["client"])
    assert not np.any(dark["server"])
    noisy = quiet_bench(seed=5, client={"electronic_noise_a_rthz": 12e-12})
    modes = capture(noisy, 160_000, "client", range_v=1.0)["client"].reshape(-1, 8).sum(axis=1)
    expected = 8 * (12e-12 * 13e3) ** 2 * GRID_HZ / 2.0
    assert np.var(modes) == pytest.approx(expected, rel=5.0 * math.sqrt(2.0 / 20_000) + 5e-3)


def test_a_closed_shutter_leaves_the_server_shot_noise() -> None:
    """160,000 samples, seed 6: the mean X of about 80 falls to 1e-3 of it, the variance is 1."""
    bench = quiet_bench(seed=6, attenuation={"fixed_db": 40.0})
    switch_on(bench)
    lock(bench, BiasMode.PEAK)
    turn_oscillators(bench, server=0.0)
    volts = [0.0]
    bench.optics.shutter = Shutter(2.5, 60.0, lambda: volts[0])
    opened = in_shot_noise(bench, "server", capture(bench, 1600, "server")["server"])
    volts[0] = 5.0
    closed = in_shot_noise(bench, "server", capture(bench, 160_000, "server")["server"])
    modes = closed.reshape(-1, 8).sum(axis=1) / math.sqrt(8)
    assert abs(np.mean(opened)) > 50.0
    assert np.mean(closed) / np.mean(opened) == pytest.approx(1e-3, abs=5.0 / 400.0 / 50.0)
    assert np.var(modes) == pytest.approx(1.0, rel=5.0 * math.sqrt(2.0 / 20_000) + 5e-3)


def mean_x(
    *, power_w: float = POWER_W, frequency_hz: float = FREQUENCY_HZ, attenuation_db: float = 0.0
) -> float:
    """Return the server's mean X per sample for steady light in phase with its oscillator."""
    bench = quiet_bench(seed=7, attenuation={"fixed_db": 50.0})
    switch_on(bench, power_w, frequency_hz)
    lock(bench, BiasMode.PEAK)
    turn_oscillators(bench, server=0.0)
    bench.optics.attenuator.set_attenuation(attenuation_db)
    volts = capture(bench, 20_000, "server")["server"]
    return float(np.mean(in_shot_noise(bench, "server", volts)))


def expected_x(power_w: float = POWER_W, frequency_hz: float = FREQUENCY_HZ) -> float:
    """Return 2 sqrt(eta n) of the server: n from the power that the bench file leaves."""
    left_db = 6.0 + 0.7 + 50.0
    photons = power_w * 0.1 * 0.95 * 10.0 ** (-left_db / 10.0)
    photons /= PLANCK_J_S * frequency_hz * GRID_HZ
    return 2.0 * math.sqrt(0.85 * photons)


MEAN_ERROR = 5.0 / math.sqrt(20_000)


def test_received_photons_follow_from_the_power_and_every_loss() -> None:
    """20,000 samples, seed 7: five errors of the mean (0.035), and float32's 1e-4."""
    assert mean_x() == pytest.approx(expected_x(), abs=MEAN_ERROR, rel=1e-4)


@pytest.mark.parametrize("attenuation_db", [3.0, 10.0, 20.0])
def test_attenuation_lowers_received_power_by_its_decibels(attenuation_db: float) -> None:
    expected = expected_x() * 10.0 ** (-attenuation_db / 20.0)
    assert mean_x(attenuation_db=attenuation_db) == pytest.approx(expected, abs=MEAN_ERROR)


@pytest.mark.parametrize("power_w", [5e-3, 0.01])
def test_photon_number_is_proportional_to_laser_power(power_w: float) -> None:
    assert mean_x(power_w=power_w) == pytest.approx(
        mean_x() * math.sqrt(power_w / POWER_W), abs=2.0 * MEAN_ERROR
    )


@pytest.mark.parametrize("frequency_hz", [180e12, 200e12])
def test_photon_number_is_inversely_proportional_to_optical_frequency(frequency_hz: float) -> None:
    assert mean_x(frequency_hz=frequency_hz) == pytest.approx(
        mean_x() * math.sqrt(FREQUENCY_HZ / frequency_hz), abs=2.0 * MEAN_ERROR
    )
    assert abs(mean_x(frequency_hz=frequency_hz) - mean_x()) > 4.0 * MEAN_ERROR


@pytest.mark.parametrize("storage_s", [0.0, 20e-6])
@pytest.mark.parametrize(("forward_km", "back_km"), [(0.0, 0.0), (1.0, 1.0), (3.0, 0.5)])
def test_light_arrives_after_fibre_and_storage(
    forward_km: float, back_km: float, storage_s: float
) -> None:
    """A pulse of 2 us from bench time 0 on; arrival is where the trace passes half of it."""
    bench = quiet_bench(
        attenuation={"fixed_db": 30.0},
        forward={"length_km": forward_km},
        back={"length_km": back_km},
        rotation={"storage_s": storage_s},
    )
    clone(bench, 2.0)
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    turn_oscillators(bench, client=0.0, server=0.0)
    pulse = np.full(320, 3.5, np.float32)
    bench.optics.drive_i.play(Drive(pulse, GRID_HZ, 10e-6, 1, 0.0))
    traces = capture(bench, 12_000)
    at_client = 10e-6 + forward_km * 4.9e-6
    at_server = at_client + storage_s + back_km * 4.9e-6
    for name, expected_s in (("client", at_client), ("server", at_server)):
        volts = np.abs(traces[name])
        on = np.flatnonzero(volts > 0.5 * np.max(volts))
        assert on[0] == pytest.approx(expected_s * GRID_HZ, abs=2.0)
        assert on[-1] - on[0] == pytest.approx(320, abs=3.0)


def test_a_local_oscillator_delay_shifts_which_laser_phase_it_carries() -> None:
    """Seed 8, 400,000 samples, 2 kHz, 2 us mismatch: variance 2 pi dnu tau, matched: none.

    1,250 independent stretches of 2 us, five errors 20 %; the mean over 0.3 us takes 5 %.
    """
    residual = {}
    for lo_delay_s in (4.9e-6, 6.9e-6):
        bench = quiet_bench(
            seed=8,
            laser={"linewidth_hz": 2e3},
            attenuation={"fixed_db": 30.0},
            forward={"length_km": 1.0},
            server={"lo_delay_s": lo_delay_s},
        )
        switch_on(bench)
        lock(bench, BiasMode.PEAK)
        turn_oscillators(bench, server=math.pi / 2.0)
        values = in_shot_noise(bench, "server", capture(bench, 400_000, "server")["server"])
        amplitude = expected_x() * 10.0 ** ((20.0 - 0.2) / 20.0)
        residual[lo_delay_s] = np.var(values.reshape(-1, 50).mean(axis=1) / amplitude)
    assert residual[4.9e-6] < 1e-5
    assert residual[6.9e-6] == pytest.approx(2.0 * math.pi * 2e3 * 2e-6, rel=0.25)


def sensor(bench: LinkBench) -> PowerHead:
    return bench.monitor_head(noise(9))


@pytest.mark.parametrize("power_w", [1e-3, 0.02])
@pytest.mark.parametrize("frequency_hz", [191.5e12, 196.0e12])
def test_the_monitor_sees_laser_power_times_modulator_times_tap(
    power_w: float, frequency_hz: float
) -> None:
    bench = quiet_bench(monitor={"noise_a": 0.0, "dark_current_a": 3e-9})
    switch_on(bench, power_w, frequency_hz)
    wavelength_m = 299_792_458.0 / frequency_hz
    responsivity = SHIPPED["monitor"]["responsivity_a_w"] * wavelength_m / 1550e-9
    for child, transmission in (
        (BiasMode.PEAK, 10.0**-0.6),
        (BiasMode.NULL, 0.0),
    ):
        lock(bench, child)
        expected = power_w * 0.1 * transmission * 0.05 * responsivity + 3e-9
        assert sensor(bench).photocurrent_a(0.1) == pytest.approx(expected, rel=1e-5)


def test_the_monitor_averages_over_what_drives_the_modulator() -> None:
    """A child at null under a full-swing square of 25 % duty passes a quarter of its peak."""
    bench = quiet_bench(modulator={"extinction_ratio_db": 200.0})
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    square = np.repeat(np.array([3.5, 0.0, 0.0, 0.0], np.float32), 400)
    bench.optics.drive_i.play(Drive(square, GRID_HZ, 0.0, None, 0.0))
    expected = POWER_W * 0.1 * 10.0**-0.6 * 0.25 * 0.25
    assert bench.modulated_power_w() == pytest.approx(expected, rel=5e-3)


def test_the_monitor_sees_a_burst_begin_and_end() -> None:
    bench = quiet_bench(modulator={"extinction_ratio_db": 200.0})
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    bench.optics.drive_i.play(Drive(np.full(1600, 3.5, np.float32), GRID_HZ, 1e-3, 100, 0.0))
    before = bench.modulated_power_w()
    bench.clock.sleep(1.5e-3)
    during = bench.modulated_power_w()
    bench.clock.sleep(1e-3)
    after = bench.modulated_power_w()
    swing = math.sin(math.pi / 2.0 * 1550e-9 * 193.4e12 / 299_792_458.0) ** 2
    assert during == pytest.approx(POWER_W * 0.1 * 10.0**-0.6 * 0.25 * swing, rel=1e-3)
    assert before == pytest.approx(0.0, abs=1e-12)
    assert after == pytest.approx(0.0, abs=1e-12)


def test_the_attenuator_sees_what_the_tap_leaves() -> None:
    bench = quiet_bench()
    switch_on(bench)
    lock(bench, BiasMode.PEAK)
    attenuator = bench.optics.attenuator
    attenuator.set_attenuation(10.0)
    entering = POWER_W * 0.1 * 10.0**-0.6 * 0.95
    assert attenuator.input_power_w() == pytest.approx(entering, rel=1e-5)
    assert attenuator.output_power_w() == pytest.approx(entering * 10.0**-1.07, rel=1e-5)


@pytest.mark.parametrize("averaging_s", [1e-3, 0.1])
def test_a_sensors_noise_falls_with_its_averaging(averaging_s: float) -> None:
    """2,000 readings, seed 9: stated at 1 ms, five standard errors, 8 %."""
    bench = quiet_bench(monitor={"noise_a": 1e-9})
    head = sensor(bench)
    readings = [head.photocurrent_a(averaging_s) for _ in range(2000)]
    expected = 1e-9 * math.sqrt(1e-3 / averaging_s)
    assert np.std(readings) == pytest.approx(expected, rel=5.0 / math.sqrt(4000))
    assert np.mean(readings) == pytest.approx(1e-9, abs=5.0 * expected / math.sqrt(2000))


def test_one_trigger_captures_both_from_one_realisation() -> None:
    """40,000 samples, seed 10: at G = 2 both arms of an idle clone show correlated noise.

    cov(m, r) = 2 (G - 1)^(3/2) / G = 1 for X, times sqrt(eta eta) = 0.85; by the sample, less
    what the filters take; two triggers give 0 +- 5/sqrt(m) times the deviations.
    """
    bench = quiet_bench(seed=10)
    clone(bench, 2.0)
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    turn_oscillators(bench, client=0.0, server=0.0)
    both = capture(bench, 40_000)
    later = capture(bench, 40_000, "server")
    client = in_shot_noise(bench, "client", both["client"]).reshape(-1, 8).sum(1) / math.sqrt(8)
    for volts, expected in ((both["server"], 0.85), (later["server"], 0.0)):
        server = in_shot_noise(bench, "server", volts).reshape(-1, 8).sum(1) / math.sqrt(8)
        assert np.mean(client * server) == pytest.approx(expected, abs=5.0 * 2.0 / math.sqrt(5000))


@pytest.mark.parametrize("order", [("client", "server"), ("server", "client")])
def test_a_record_depends_on_the_seed_not_on_who_is_armed_or_read_first(
    order: tuple[str, str],
) -> None:
    reference, again = quiet_bench(seed=11), quiet_bench(seed=11)
    for bench in (reference, again):
        switch_on(bench)
    first, second = capture(reference, 4000, "client", "server"), capture(again, 4000, *order)
    for name in order:
        assert np.array_equal(first[name], second[name])


@pytest.mark.parametrize("start_s", [0.0, 1e-4, -1e-5])
def test_a_record_takes_its_time(start_s: float) -> None:
    """The clock stands at the record's end, give or take what filters need to settle."""
    bench = quiet_bench()
    bench.clock.sleep(0.25)
    capture(bench, 16_000, start_s=start_s)
    settling_s = (bench.settling_samples + 1) / GRID_HZ
    assert 0.0 <= bench.clock.now_s() - (0.25 + start_s + 1e-4) <= settling_s + 1e-12


def test_time_never_goes_back_for_a_record_of_the_past() -> None:
    bench = quiet_bench()
    bench.clock.sleep(1.0)
    capture(bench, 16, start_s=-0.5)
    assert bench.clock.now_s() == 1.0


def test_a_digitizer_that_is_not_armed_gets_nothing() -> None:
    bench = quiet_bench()
    window = CaptureWindow(0.0, GRID_HZ, 100, {1: ChannelWindow(1.0, 0.0)})
    got: list[Capture] = []
    digitizer = bench.digitizer_at("client")
    digitizer.arm(window, got.append)
    digitizer.disarm()
    bench.trigger.fire()
    assert (got, bench.clock.now_s()) == ([], 0.0)
    digitizer.arm(window, got.append)
    bench.trigger.fire()
    bench.trigger.fire()
    assert len(got) == 1


def test_a_trigger_reaches_listeners_before_digitizers_acquire() -> None:
    """A generator that starts on the trigger is seen in the record of that trigger."""
    bench = quiet_bench(attenuation={"fixed_db": 30.0}, server={"lo_delay_s": 0.0})
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    turn_oscillators(bench, server=0.0)
    pulse = np.full(160, 3.5, np.float32)
    bench.clock.sleep(0.5)
    bench.trigger.listen(
        lambda time_s: bench.optics.drive_i.play(Drive(pulse, GRID_HZ, time_s, 1, 0.0))
    )
    volts = np.abs(capture(bench, 1000, "server")["server"])
    on = np.flatnonzero(volts > 0.5 * np.max(volts))
    assert (on[0], on[-1]) == (pytest.approx(0, abs=2), pytest.approx(159, abs=2))


def test_a_second_channel_is_not_connected() -> None:
    bench = quiet_bench(client={"digitizer_noise_v": 1e-3})
    switch_on(bench)
    channels = {1: ChannelWindow(400.0, 0.0), 2: ChannelWindow(1.0, 0.0)}
    read = bench.digitizer_at("client").capture_now(CaptureWindow(0.0, GRID_HZ, 20_000, channels))
    assert np.std(read[2]) == pytest.approx(1e-3, rel=5.0 / math.sqrt(40_000))
    assert np.std(read[1]) > 5e-3


def test_a_slow_filter_has_settled_when_the_record_begins() -> None:
    """2,000 records of 4 samples, seed 12: noise of a 1 MHz detector is the same throughout.

    Without settling its first samples would be quieter; five errors of a variance, 16 %.
    """
    bench = quiet_bench(seed=12, client={"bandwidth_hz": 1e6})
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    first = np.array([capture(bench, 4, "client", range_v=1.0)["client"][0] for _ in range(2000)])
    late = capture(bench, 1_000_000, "client", range_v=1.0)["client"][2000:]
    assert np.var(first) == pytest.approx(np.var(late), rel=5.0 * math.sqrt(2.0 / 2000) + 0.03)


def test_two_front_ends_at_one_receiver_read_the_same_light() -> None:
    """10,000 samples of shot noise through two converters: only their own noise differs."""
    bench = quiet_bench()
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    window = CaptureWindow(0.0, GRID_HZ, 10_000, {1: ChannelWindow(0.5, 0.0)})
    got: list[Capture] = []
    for _ in range(2):
        bench.digitizer_at("server").arm(window, got.append)
    bench.trigger.fire()
    first, second = got[0][1], got[1][1]
    assert float(np.std(first)) > 1e-3
    assert float(np.corrcoef(first, second)[0, 1]) > 0.99


EFFECTS = [
    ("laser", "linewidth_hz", 1e4),
    ("laser", "rin_db_hz", -110.0),
    ("generators", "noise_v", 1e-2),
    ("generators", "bits", 6),
    ("modulator", "lock_error_rad", 0.1),
    ("modulator", "bias_drift_v_pi_rth", 0.5),
    ("forward", "connector_loss_db", 3.0),
    ("forward", "dispersion_ps_nm_km", 1e6),
    ("back", "connector_loss_db", 3.0),
    ("back", "dispersion_ps_nm_km", 1e6),
    ("rotation", "emission_factor", 2.0),
    ("rotation", "loss_db_per_mode", 0.5),
    ("rotation", "coupler_error_rad", 0.3),
    ("rotation", "phase_error_rad", 0.3),
    ("server", "efficiency", 0.5),
    ("server", "electronic_noise_a_rthz", 12e-12),
    ("server", "phase_drift_rad2_s", 1.0),
    ("server", "polarisation_drift_rad2_s", 0.1),
    ("server", "saturation_power_w", 5e-3),
    ("server", "swing_v", 0.02),
    ("server", "digitizer_bits", 6),
    ("server", "digitizer_noise_v", 1e-2),
    ("server", "digitizer_jitter_s", 1e-9),
]


def rows_at_the_server(tables: dict[str, dict[str, Any]]) -> Floats:
    """Return the server's record of 20 rows of four modes, a second after switching on."""
    tables = copy.deepcopy(tables)
    for name, length_km in (("forward", 100.0), ("back", 100.0)):
        tables.setdefault(name, {}).update(length_km=length_km, loss_db_km=0.0)
    tables.setdefault("attenuation", {}).update(fixed_db=60.0)
    bench = quiet_bench(seed=13, **tables)
    switch_on(bench)
    lock(bench, BiasMode.NULL)
    modulator = bench.optics.modulator
    for electrode in (modulator.child_i, modulator.child_q, modulator.parent):
        electrode.set_bias(BiasMode.MANUAL, electrode.voltage_v())
    turn_oscillators(bench, server=0.7)
    bench.clock.sleep(1.0)
    pulses = np.repeat(np.array([0.0, 1.0, -2.0, 3.0, 0.5, 0.0], np.float32), SLOT)
    levels = np.repeat(np.array([0.0, 0.4, 0.1, -0.7, 0.2, 0.0], np.float32), SLOT)
    delay_s = 100.0 * 4.9e-6
    bench.optics.drive_i.play(Drive(pulses, GRID_HZ, 1.0, 20, 0.0))
    real, _ = clone(bench, 2.0)
    real.play(Drive(levels, GRID_HZ, 1.0 + delay_s, 20, 0.0))
    return capture(bench, 20 * len(pulses), "server", start_s=2.0 * delay_s, range_v=100.0)[
        "server"
    ]


@pytest.fixture(scope="module")
def quiet_rows() -> Floats:
    return rows_at_the_server({})


@pytest.mark.parametrize(("table", "key", "value"), EFFECTS)
def test_every_effect_has_a_switch_in_the_bench_file(
    table: str, key: str, value: float, quiet_rows: Floats
) -> None:
    """One seed: what is switched on is seen in the record, beyond the rounding of its 24 bits."""
    changed = rows_at_the_server({table: {key: value}})
    assert np.max(np.abs(changed - quiet_rows)) > 1e-3 * np.max(np.abs(quiet_rows))


OPTIONAL = [
    ("modulator", "bias_drift_v_pi_rth"),
    ("forward", "dispersion_ps_nm_km"),
    ("rotation", "loss_db_per_mode"),
    ("rotation", "coupler_error_rad"),
    ("rotation", "phase_error_rad"),
    ("server", "polarisation_drift_rad2_s"),
    ("server", "saturation_power_w"),
    ("server", "digitizer_jitter_s"),
]


@pytest.mark.parametrize(("table", "key"), OPTIONAL)
def test_an_effect_is_off_unless_the_file_names_it(
    table: str, key: str, quiet_rows: Floats
) -> None:
    assert np.array_equal(rows_at_the_server({table: {key: 0.0}}), quiet_rows)
    part = BenchFile.model_fields[table].annotation
    assert part is not None
    assert part.model_fields[key].default == 0.0
