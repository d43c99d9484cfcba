"""The simulated link as a whole: powers, delays, shot-noise levels, and one chain done by hand."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from quiet_bench import (
    FREQUENCY_HZ,
    GRID_HZ,
    PLANCK_J_S,
    POWER_W,
    SLOT,
    Floats,
    capture,
    clone,
    in_shot_noise,
    lock,
    quiet_bench,
    switch_on,
    turn_oscillators,
)

from labctl.instruments.simulated.bench import LinkBench
from labctl.instruments.simulated.physics.path import Shutter
from labctl.instruments.simulated.ports import (
    BiasMode,
    Drive,
)


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
