"""Homodyne detection and digitizing: shot noise, what is added to it, and what is cut off."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from labctl.instruments.simulated.physics.detection import (
    BalancedDetector,
    DetectorParameters,
    DigitizerParameters,
    digitize,
)
from labctl.instruments.simulated.physics.grid import Noise
from labctl.instruments.simulated.ports import CaptureWindow, ChannelWindow

GRID_HZ = 160e6
FREQUENCY_HZ = 193.4e12
PLANCK_J_S = 6.62607015e-34
CHARGE_C = 1.602176634e-19
QUIET_DB_HZ = -300.0
SAMPLES = 2**20


def noise(seed: int) -> Noise:
    return Noise(np.random.SeedSequence(seed))


def detector(
    *,
    efficiency: float = 0.85,
    bandwidth_hz: float = 60e6,
    electronic_noise_a_rthz: float = 0.0,
    common_mode_rejection_db: float = 200.0,
    swing_v: float = 1e3,
    saturation_power_w: float = 0.0,
    seed: int = 1,
) -> BalancedDetector:
    parameters = DetectorParameters(
        efficiency=efficiency,
        transimpedance_v_a=13e3,
        bandwidth_hz=bandwidth_hz,
        electronic_noise_a_rthz=electronic_noise_a_rthz,
        common_mode_rejection_db=common_mode_rejection_db,
        swing_v=swing_v,
        saturation_power_w=saturation_power_w,
    )
    return BalancedDetector(parameters, GRID_HZ, noise(seed))


def photocurrent_a(lo_power_w: float, efficiency: float = 0.85) -> float:
    return efficiency * CHARGE_C * lo_power_w / (PLANCK_J_S * FREQUENCY_HZ)


def in_the_dark(
    receiver: BalancedDetector, lo_power_w: float, rin_db_hz: float = QUIET_DB_HZ, seed: int = 2
) -> npt.NDArray[np.float64]:
    """Return the voltage with vacuum at the signal port."""
    field = noise(seed).vacuum(SAMPLES)
    still = np.zeros(SAMPLES, np.float32)
    volts = receiver.voltage(field, still, lo_power_w, FREQUENCY_HZ, rin_db_hz)
    return volts.astype(np.float64)


def density_a2_hz(
    volts: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return frequency and one-sided density of the input-referred current; 4,096 averages."""
    frequency, density = signal.welch(
        volts / 13e3, fs=GRID_HZ, nperseg=256, noverlap=0, window="boxcar", detrend=False
    )
    return frequency, density


def low_band_a2_hz(volts: npt.NDArray[np.float64]) -> float:
    """Return the mean density below 2.5 MHz: 4 bins of 4,096 averages, 0.8 % standard error."""
    return float(np.mean(density_a2_hz(volts)[1][1:5]))


FIVE_ERRORS = 5.0 / math.sqrt(4 * 4096)


@pytest.mark.parametrize("efficiency", [1.0, 0.85, 0.6])
@pytest.mark.parametrize("lo_power_w", [1e-3, 7e-3])
def test_shot_noise_has_the_density_2_e_i(efficiency: float, lo_power_w: float) -> None:
    """2^20 samples, seeds 1, 2: below the bandwidth, 3.9 % (five standard errors)."""
    receiver = detector(efficiency=efficiency)
    expected = 2.0 * CHARGE_C * photocurrent_a(lo_power_w, efficiency)
    actual = low_band_a2_hz(in_the_dark(receiver, lo_power_w))
    assert actual == pytest.approx(expected, rel=FIVE_ERRORS)


@pytest.mark.parametrize("bandwidth_hz", [5e6, 30e6, 70e6])
def test_the_spectrum_is_a_second_order_butterworth(bandwidth_hz: float) -> None:
    """2^20 samples: |H|^2 = 1 / (1 + (W/Wc)^4) with W = tan(pi f / grid); bins, 8 % of 1."""
    volts = in_the_dark(detector(bandwidth_hz=bandwidth_hz), 5e-3)
    frequency, density = density_a2_hz(volts)
    ratio = density / (2.0 * CHARGE_C * photocurrent_a(5e-3))
    warped = np.tan(np.pi * frequency[1:-1] / GRID_HZ) / np.tan(np.pi * bandwidth_hz / GRID_HZ)
    assert ratio[1:-1] == pytest.approx(1.0 / (1.0 + warped**4), abs=0.08)


def test_noise_is_linear_in_local_oscillator_power() -> None:
    """Five powers, one fit: slope 2 e I / P within 3 %, intercept the electronic noise.

    2^20 samples each, seeds 10 to 14. Standard errors 0.8 % per point; the intercept's 5 errors
    are 15 % because the points at low power fix it.
    """
    electronic = 12e-12
    powers = np.array([0.1e-3, 0.3e-3, 1e-3, 3e-3, 7e-3])
    densities = []
    for place, power in enumerate(powers):
        receiver = detector(electronic_noise_a_rthz=electronic, seed=10 + place)
        densities.append(low_band_a2_hz(in_the_dark(receiver, power, seed=20 + place)))
    slope, intercept = np.polyfit(powers, densities, 1, w=1.0 / np.array(densities))
    assert slope == pytest.approx(2.0 * CHARGE_C * photocurrent_a(1.0), rel=0.04)
    assert intercept == pytest.approx(electronic**2, rel=0.15)


def test_without_a_local_oscillator_only_electronic_noise_is_left() -> None:
    """2^20 samples, seeds 3, 4: the field, however bright, is not seen."""
    receiver = detector(electronic_noise_a_rthz=12e-12, seed=3)
    field = noise(4).vacuum(SAMPLES) + np.complex64(1e3)
    still = np.zeros(SAMPLES, np.float32)
    volts = receiver.voltage(field, still, 0.0, FREQUENCY_HZ, -120.0).astype(np.float64)
    assert low_band_a2_hz(volts) == pytest.approx((12e-12) ** 2, rel=FIVE_ERRORS)


def test_clearance_is_shot_and_electronic_over_electronic() -> None:
    """2^20 samples a side: ratio of two densities, five errors of sqrt(2) x 0.8 %."""
    electronic, power_w = 12e-12, 7e-3
    lit = low_band_a2_hz(in_the_dark(detector(electronic_noise_a_rthz=electronic), power_w))
    dark = low_band_a2_hz(
        in_the_dark(detector(electronic_noise_a_rthz=electronic, seed=5), 0.0, seed=6)
    )
    expected = 1.0 + 2.0 * CHARGE_C * photocurrent_a(power_w) / electronic**2
    assert lit / dark == pytest.approx(expected, rel=math.sqrt(2.0) * FIVE_ERRORS)


@pytest.mark.parametrize("rejection_db", [20.0, 30.0, 40.0])
def test_intensity_noise_that_is_not_rejected_adds_a_quadratic_term(rejection_db: float) -> None:
    """Per shot noise: I RIN 10^(-CMRR/10) / (2 e); three powers, five errors of the sum."""
    rin = 1e-13
    for place, power_w in enumerate((1e-3, 3e-3, 9e-3)):
        current = photocurrent_a(power_w)
        receiver = detector(common_mode_rejection_db=rejection_db, seed=30 + place)
        volts = in_the_dark(receiver, power_w, rin_db_hz=-130.0, seed=40 + place)
        shot = 2.0 * CHARGE_C * current
        expected = 1.0 + current * rin * 10.0 ** (-rejection_db / 10.0) / (2.0 * CHARGE_C)
        assert low_band_a2_hz(volts) / shot == pytest.approx(expected, rel=FIVE_ERRORS)


def per_shot_noise(efficiency: float, lo_power_w: float) -> float:
    """Return the volts of one unit of X per sample, from the elementary charge and h f."""
    photons = efficiency * lo_power_w / (PLANCK_J_S * FREQUENCY_HZ) / GRID_HZ
    return 13e3 * CHARGE_C * GRID_HZ * math.sqrt(photons)


@pytest.mark.parametrize("efficiency", [1.0, 0.7, 0.35])
@pytest.mark.parametrize("lo_phase_rad", [0.0, 0.8, math.pi / 2.0, 3.0])
def test_efficiency_is_a_beam_splitter_before_an_ideal_detector(
    efficiency: float, lo_phase_rad: float
) -> None:
    """2^20 samples: in shot-noise units sqrt(eta) Re(e^(-i phi) alpha), variance 1."""
    receiver = detector(efficiency=efficiency, bandwidth_hz=79e6)
    mean = 1.5 - 0.7j
    field = noise(7).vacuum(SAMPLES) + np.complex64(mean)
    phase = np.full(SAMPLES, lo_phase_rad, np.float32)
    volts = receiver.voltage(field, phase, 5e-3, FREQUENCY_HZ, QUIET_DB_HZ)[100:]
    values = volts.astype(np.float64) / per_shot_noise(efficiency, 5e-3)
    expected = math.sqrt(efficiency) * (np.exp(-1j * lo_phase_rad) * mean).real
    assert np.mean(values) == pytest.approx(expected, abs=5.0 / math.sqrt(SAMPLES) + 1e-4)
    # A Butterworth at 79 MHz of 80 takes 1 % of white noise.
    assert np.var(values) == pytest.approx(1.0, abs=0.02)


def test_a_detector_clips_at_its_swing() -> None:
    receiver = detector(swing_v=0.4)
    field = np.repeat(np.array([1e4, -1e4], np.complex64), 500)
    volts = receiver.voltage(field, np.zeros(1000, np.float32), 5e-3, FREQUENCY_HZ, QUIET_DB_HZ)
    assert np.max(np.abs(volts)) == np.float32(0.4)
    assert volts[100:500] == pytest.approx(0.4)
    assert volts[600:] == pytest.approx(-0.4)


def clipped_variance(sigma: float, limit: float) -> float:
    """Return E[min(|x|, limit)^2] of a normal x, by integrating its density by parts."""
    ratio = limit / sigma
    inside = math.erf(ratio / math.sqrt(2.0))
    inside -= math.sqrt(2.0 / math.pi) * ratio * math.exp(-0.5 * ratio**2)
    return sigma**2 * inside + limit**2 * math.erfc(ratio / math.sqrt(2.0))


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.5])
def test_shot_noise_at_the_swing_is_a_clipped_normal(ratio: float) -> None:
    """2^20 samples of the same noise, seeds 1, 2, with and without the limit: 1 %."""
    sigma = float(np.std(in_the_dark(detector(), 5e-3)))
    clipped = in_the_dark(detector(swing_v=ratio * sigma), 5e-3)
    assert np.var(clipped) == pytest.approx(clipped_variance(sigma, ratio * sigma), rel=0.01)


@pytest.mark.parametrize("lo_power_w", [1e-3, 10e-3, 40e-3])
def test_photodiodes_saturate_like_lost_efficiency(lo_power_w: float) -> None:
    """2^20 samples, seeds 1, 2: shot noise of I / (1 + P / P_sat), five errors."""
    receiver = detector(saturation_power_w=10e-3)
    left = 1.0 / (1.0 + lo_power_w / 10e-3)
    expected = 2.0 * CHARGE_C * photocurrent_a(lo_power_w) * left
    assert low_band_a2_hz(in_the_dark(receiver, lo_power_w)) == pytest.approx(
        expected, rel=FIVE_ERRORS
    )
    field = np.full(1000, 1e4, np.complex64)
    volts = receiver.voltage(field, np.zeros(1000, np.float32), lo_power_w, FREQUENCY_HZ, -300.0)
    per_unit = per_shot_noise(0.85 * left, lo_power_w) * math.sqrt(0.85 * left)
    assert np.mean(volts[500:]) == pytest.approx(1e4 * per_unit, rel=1e-3)


def read(
    volts: npt.NDArray[np.float64],
    *,
    bits: int = 8,
    range_v: float = 2.0,
    offset_v: float = 0.0,
    noise_v: float = 0.0,
    sample_rate_hz: float = GRID_HZ,
    samples: int | None = None,
    start_s: float = 0.0,
    before: int = 0,
    jitter_s: float = 0.0,
    seed: int = 1,
) -> npt.NDArray[np.float64]:
    """Digitize volts whose sample `before` lies at the trigger."""
    window = CaptureWindow(
        start_s,
        sample_rate_hz,
        len(volts) if samples is None else samples,
        {1: ChannelWindow(range_v, offset_v)},
    )
    trigger_s = 3e-3
    values = digitize(
        volts.astype(np.float32),
        trigger_s - before / GRID_HZ,
        GRID_HZ,
        window,
        1,
        DigitizerParameters(bits, noise_v, jitter_s),
        noise(seed),
        trigger_s,
    )
    assert values.dtype == np.float32
    return values.astype(np.float64)


@pytest.mark.parametrize(("bits", "range_v"), [(8, 2.0), (10, 0.5), (12, 8.0)])
def test_quantising_adds_a_twelfth_of_a_step_squared(bits: int, range_v: float) -> None:
    """400,000 uniform values, seed 8: error uniform, variance within 1.5 % (> five errors)."""
    step = range_v / 2**bits
    volts = np.random.default_rng(8).uniform(-0.45 * range_v, 0.45 * range_v, 400_000)
    error = read(volts, bits=bits, range_v=range_v) - volts
    assert np.var(error) == pytest.approx(step**2 / 12.0, rel=0.015)
    assert np.max(np.abs(error)) <= step / 2.0 * 1.001
    assert np.mean(error) == pytest.approx(0.0, abs=5.0 * step / math.sqrt(12 * 400_000))


@given(
    bits=st.integers(4, 12),
    range_v=st.sampled_from([0.08, 0.5, 2.0, 40.0]),
    offset=st.floats(-3.0, 3.0),
)
@settings(deadline=None)
def test_readings_are_codes_between_the_ends_of_the_range(
    bits: int, range_v: float, offset: float
) -> None:
    offset_v = offset * range_v
    volts = np.linspace(-5.0, 5.0, 4001) * range_v + offset_v
    values = read(volts, bits=bits, range_v=range_v, offset_v=offset_v)
    step = range_v / 2**bits
    codes = (values - offset_v) / step
    assert codes == pytest.approx(np.rint(codes), abs=0.02)
    assert codes.min() == pytest.approx(-(2 ** (bits - 1)), abs=0.02)
    assert codes.max() == pytest.approx(2 ** (bits - 1) - 1, abs=0.02)
    assert np.all(np.diff(codes) > -0.02)


def test_input_noise_is_added_before_the_converter() -> None:
    """200,000 samples, seed 9: sigma^2 + step^2/12 within five errors."""
    values = read(np.zeros(200_000), bits=10, range_v=2.0, noise_v=5e-3, seed=9)
    expected = 5e-3**2 + (2.0 / 2**10) ** 2 / 12.0
    assert np.var(values) == pytest.approx(expected, rel=5.0 * math.sqrt(2.0 / 200_000))


@pytest.mark.parametrize("before", [0, 3, 200])
@pytest.mark.parametrize("start", [-100, 0, 55])
def test_a_record_begins_where_it_was_asked_to(before: int, start: int) -> None:
    """A ramp says which sample was read."""
    if before + start < 0:
        start = -before
    ramp = np.arange(1000.0)
    values = read(
        ramp, bits=24, range_v=4096.0, before=before, start_s=start / GRID_HZ, samples=100
    )
    assert values == pytest.approx(np.arange(100.0) + before + start, abs=1e-3)


@pytest.mark.parametrize("sample_rate_hz", [100e6, 33.3e6, 250e6, 12.5e6])
@pytest.mark.parametrize("delay", [0.0, 0.37])
def test_another_sample_rate_keeps_a_slow_sine(sample_rate_hz: float, delay: float) -> None:
    """3 MHz on a 160 MHz grid: cubic interpolation is exact to 1e-4 of the amplitude."""
    time_s = np.arange(4000) / GRID_HZ
    wave = np.sin(2.0 * np.pi * 3e6 * time_s)
    samples = int(3000 * sample_rate_hz / GRID_HZ)
    values = read(
        wave,
        bits=24,
        range_v=4.0,
        before=500,
        start_s=delay / GRID_HZ,
        sample_rate_hz=sample_rate_hz,
        samples=samples,
    )
    read_s = (500 + delay) / GRID_HZ + np.arange(samples) / sample_rate_hz
    assert values == pytest.approx(np.sin(2.0 * np.pi * 3e6 * read_s), abs=1e-4)


@pytest.mark.parametrize("range_sigmas", [1.0, 3.0])
def test_noise_beyond_the_range_is_clipped(range_sigmas: float) -> None:
    """400,000 normal values, seed 10, 14 bits: five errors of a normal's variance."""
    volts = np.random.default_rng(10).normal(0.0, 0.1, 400_000)
    values = read(volts, bits=14, range_v=0.1 * range_sigmas)
    expected = clipped_variance(0.1, 0.05 * range_sigmas)
    assert np.var(values) == pytest.approx(expected, rel=5.0 * math.sqrt(2.0 / 400_000))


@pytest.mark.parametrize(
    ("frequency_hz", "sample_rate_hz"), [(10e6, GRID_HZ), (2e6, GRID_HZ), (10e6, 125e6)]
)
def test_jitter_limits_a_sine_to_its_slope(frequency_hz: float, sample_rate_hz: float) -> None:
    """200,000 samples, seed 11: error (2 pi f sigma)^2 / 2 of a unit sine.

    Five errors: a normal number times a cosine has a fourth moment of 4.5 variances squared.
    """
    sigma_s, samples = 20e-12, 200_000
    time_s = np.arange(round(samples * GRID_HZ / sample_rate_hz) + 20) / GRID_HZ
    wave = np.sin(2.0 * np.pi * frequency_hz * time_s)
    still, shaken = (
        read(
            wave,
            bits=24,
            range_v=4.0,
            before=10,
            samples=samples,
            sample_rate_hz=sample_rate_hz,
            jitter_s=jitter_s,
            seed=11,
        )
        for jitter_s in (0.0, sigma_s)
    )
    expected = (2.0 * math.pi * frequency_hz * sigma_s) ** 2 / 2.0
    assert np.var(shaken - still) == pytest.approx(expected, rel=5.0 * math.sqrt(3.5 / samples))


def test_jitter_does_not_shake_a_steady_voltage() -> None:
    assert read(np.full(1000, 0.5), bits=24, jitter_s=1e-9) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("bandwidth_hz", [2e6, 20e6, 75e6])
def test_single_samples_have_the_noise_that_the_filter_leaves(bandwidth_hz: float) -> None:
    """100,000 of them, seeds 1, 2, against a filtered record of 2^20: five errors and 1 %."""
    samples = 100_000
    receiver = detector(bandwidth_hz=bandwidth_hz, electronic_noise_a_rthz=12e-12)
    share, delay = receiver.response(4000)
    filtered = in_the_dark(receiver, 5e-3)[4000:]
    field, still = noise(3).vacuum(samples), np.zeros(samples, np.float32)
    single = receiver.voltage_of_points(share, field, still, 5e-3, FREQUENCY_HZ, QUIET_DB_HZ)
    independent = len(filtered) * share
    error = 5.0 * math.sqrt(2.0 / samples + 2.0 / independent) + 0.01
    assert np.var(single.astype(np.float64)) == pytest.approx(np.var(filtered), rel=error)
    analogue = math.sqrt(2.0) / (2.0 * math.tan(math.pi * bandwidth_hz / GRID_HZ))
    assert delay == pytest.approx(analogue, rel=1e-3, abs=1e-3)


def test_a_stretch_ends_as_a_record_would() -> None:
    """Steady light after 200 samples: the filter has settled to its gain of one."""
    receiver = detector(bandwidth_hz=20e6)
    field = np.full(3 * 200, 1e4 + 0j, np.complex64)
    still = np.zeros(len(field), np.float32)
    ends = receiver.voltage_after(200, field, still, 1e-3, FREQUENCY_HZ, QUIET_DB_HZ)
    record = receiver.voltage(field, still, 1e-3, FREQUENCY_HZ, QUIET_DB_HZ)
    assert ends.shape == (3,)
    assert ends == pytest.approx(record[-1], rel=2e-3)
