"""Passive optics: loss is a beam splitter, paths drift at their rate, shutters isolate."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.instruments.simulated.physics.grid import Noise, Window
from labctl.instruments.simulated.physics.path import (
    Fibre,
    PhaseDrift,
    PhaseShifter,
    PolarisationDrift,
    Shutter,
    VariableAttenuator,
    lose,
)

GRID_HZ = 160e6


def noise(seed: int) -> Noise:
    return Noise(np.random.SeedSequence(seed))


@pytest.mark.parametrize("transmittance", [0.9, 0.5, 0.01, 0.0])
def test_loss_is_a_beam_splitter(transmittance: float) -> None:
    """300,000 samples, seeds 1 and 2: mean sqrt(T) and variance 1 within five errors."""
    samples = 300_000
    vacuum = noise(1).vacuum(samples)
    field = vacuum + np.complex64(6.0 - 2.5j)
    lose(field, transmittance, noise(2))
    assert np.mean(field) == pytest.approx(
        math.sqrt(transmittance) * (6.0 - 2.5j), abs=5.0 * math.sqrt(2.0 / samples)
    )
    tolerance = 5.0 * math.sqrt(2.0 / samples)
    for part, before in ((field.real, vacuum.real), (field.imag, vacuum.imag)):
        assert np.var(part) == pytest.approx(1.0, abs=tolerance)
        both = np.mean((part - np.mean(part)) * before)
        assert both == pytest.approx(math.sqrt(transmittance), abs=tolerance)


def test_excess_noise_shrinks_with_transmittance() -> None:
    """300,000 samples, seeds 3, 4: variance V goes to T V + 1 - T."""
    field = noise(3).vacuum(300_000) * np.float32(2.0)
    lose(field, 0.3, noise(4))
    expected = 0.3 * 4.0 + 0.7
    assert np.var(field.real) == pytest.approx(expected, rel=5.0 * math.sqrt(2.0 / 300_000))


def test_no_loss_changes_nothing() -> None:
    field = noise(5).vacuum(1000)
    before = field.copy()
    lose(field, 1.0, noise(6))
    assert np.array_equal(field, before)


def test_an_attenuator_adds_its_insertion_loss() -> None:
    attenuator = VariableAttenuator(0.7, lambda: 2e-3)
    attenuator.set_attenuation(12.3)
    assert attenuator.transmittance == pytest.approx(10.0**-1.3, rel=1e-12)
    assert attenuator.input_power_w() == 2e-3
    assert attenuator.output_power_w() == pytest.approx(2e-3 * 10.0**-1.3, rel=1e-12)


@given(st.floats(0.0, 60.0), st.floats(0.0, 60.0))
@settings(deadline=None)
def test_decibels_add(first_db: float, second_db: float) -> None:
    one, two, both = (VariableAttenuator(0.0, lambda: 1.0) for _ in range(3))
    one.set_attenuation(first_db)
    two.set_attenuation(second_db)
    both.set_attenuation(first_db + second_db)
    assert one.transmittance * two.transmittance == pytest.approx(both.transmittance, rel=1e-12)


def test_a_fibre_loses_and_delays_by_its_length() -> None:
    fibre = Fibre(length_km=25.0, loss_db_km=0.2, connector_loss_db=0.5)
    assert fibre.transmittance == pytest.approx(10.0**-0.55, rel=1e-12)
    assert fibre.delay_s == pytest.approx(25.0 * 4.9e-6, rel=1e-12)
    assert Fibre(0.0, 0.2, 0.0).transmittance == 1.0


@pytest.mark.parametrize(
    ("samples", "gap"), [(8192, 0), (20_000, 100_000), (100, 0), (1, 0), (4097, 5)]
)
def test_a_path_drifts_at_its_rate(samples: int, gap: int) -> None:
    """4,000 windows, seed 7: variance of the steps from start to start, five errors."""
    windows, rate_rad2_s = 4000, 30.0
    drift = PhaseDrift(rate_rad2_s, GRID_HZ, noise(7))
    phases = [
        np.float64(drift.phase(Window(k * (samples + gap), samples))[0]) for k in range(windows)
    ]
    steps = np.diff(phases)
    expected = rate_rad2_s * (samples + gap) / GRID_HZ
    # Phases are float32 below 64 rad: rounding adds at most (4e-6)^2 / 6 to a variance.
    assert np.var(steps) == pytest.approx(
        expected, rel=5.0 * math.sqrt(2.0 / (windows - 1)), abs=3e-12
    )


def test_a_drift_goes_on_where_it_was_left() -> None:
    """Over a window boundary the phase moves no more than within windows of one stride."""
    drift = PhaseDrift(1.0, GRID_HZ, noise(8))
    whole = np.concatenate([drift.phase(Window(k * 10_000, 10_000)) for k in range(20)])
    steps = np.abs(np.diff(whole.astype(np.float64)))
    boundary = steps[9_999::10_000]
    assert np.max(boundary) <= np.max(np.delete(steps, np.arange(9_999, len(steps), 10_000))) + 1e-6


def test_a_long_window_drifts_at_its_rate_inside() -> None:
    """8,192,000 samples, seed 9: 2,000 strides of 4,096 samples, five errors."""
    drift = PhaseDrift(20.0, GRID_HZ, noise(9))
    phase = drift.phase(Window(0, 2000 * 4096)).astype(np.float64)
    steps = np.diff(phase[::4096])
    expected = 20.0 * 4096 / GRID_HZ
    assert np.var(steps) == pytest.approx(expected, rel=5.0 * math.sqrt(2.0 / len(steps)))


def test_paths_start_at_any_phase_and_a_still_one_keeps_it() -> None:
    """2,000 seeds: the mean phasor of uniform phases is 0 +- 4/sqrt(m)."""
    starts = []
    for seed in range(2000):
        drift = PhaseDrift(0.0, GRID_HZ, noise(seed))
        start = drift.phase(Window(0, 2))[0]
        assert drift.phase(Window(10**9, 5)) == pytest.approx(start, abs=0.0)
        starts.append(start)
    assert abs(np.mean(np.exp(1j * np.array(starts)))) < 4.0 / math.sqrt(2000)


@given(st.floats(-10.0, 10.0), st.floats(0.5, 10.0))
@settings(deadline=None)
def test_a_phase_shifter_turns_by_pi_per_v_pi(voltage_v: float, v_pi_v: float) -> None:
    shifter = PhaseShifter(v_pi_v, lambda: voltage_v)
    assert shifter.phase_rad() == pytest.approx(math.pi * voltage_v / v_pi_v, rel=1e-12)


@pytest.mark.parametrize(
    ("voltage_v", "expected"), [(0.0, 1.0), (2.5, 1.0), (2.51, 1e-6), (5.0, 1e-6), (-5.0, 1.0)]
)
def test_a_shutter_closes_above_its_threshold(voltage_v: float, expected: float) -> None:
    shutter = Shutter(2.5, 60.0, lambda: voltage_v)
    assert shutter.transmittance() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("lengths_of_dispersion", [0.5, 2.0])
def test_a_gaussian_pulse_spreads_by_dispersion(lengths_of_dispersion: float) -> None:
    """T1 = T0 sqrt(1 + (z/L_D)^2), L_D = T0^2/|beta_2|; beta_2 = -21.68 ps^2/km at 1550 nm, D = 17.

    Agrawal, Nonlinear Fiber Optics, eq. 3.2.10; a grid of 1 THz, T0 = 10 ps, energy kept.
    """
    t0_s, grid_hz = 10e-12, 1e12
    length_km = lengths_of_dispersion * (10.0**2 / 21.68)
    time_s = (np.arange(2000) - 1000) / grid_hz
    pulse = np.exp(-0.5 * (time_s / t0_s) ** 2).astype(np.complex64)
    fibre = Fibre(length_km, 0.0, 0.0, dispersion_ps_nm_km=17.0)
    spread = fibre.disperse(pulse, grid_hz, 299_792_458.0 / 1550e-9).astype(np.complex128)
    power = np.abs(spread) ** 2
    width_s = math.sqrt(2.0 * float(power @ time_s**2 / power.sum()))
    assert width_s == pytest.approx(t0_s * math.hypot(1.0, lengths_of_dispersion), rel=2e-3)
    assert power.sum() == pytest.approx(float(np.sum(np.abs(pulse) ** 2)), rel=1e-5)


def test_dispersion_that_no_grid_sample_can_show_is_left_out() -> None:
    """25 km at 160 MHz: 7e-5 rad at the band's edge."""
    field = noise(7).vacuum(1000)
    assert Fibre(25.0, 0.2, 0.0, 17.0).disperse(field, GRID_HZ, 193.4e12) is field
    assert Fibre(25.0, 0.2, 0.0, 0.0).disperse(field, 1e13, 193.4e12) is field
    assert Fibre(25.0, 0.2, 0.0, 17.0).disperse(field, 10e9, 193.4e12) is not field


def overlap_after(angle_rad2: float, seed: int) -> float:
    """Return by what a bright field is left after diffusion by a variance, in one go."""
    drift = PolarisationDrift(0.02, GRID_HZ, noise(seed))
    field = np.full(1, 1e6, np.complex64)
    drift.mix(field, Window(round(angle_rad2 / 0.02 * GRID_HZ), 1))
    return float(np.abs(field[0])) / 1e6


@pytest.mark.parametrize("angle_rad2", [0.003, 0.3, 1.0])
def test_polarisation_diffuses_over_the_sphere(angle_rad2: float) -> None:
    """1,000 seeds: mean efficiency (1 + exp(-rate t))/2, five errors of the scatter and 0.2 %."""
    efficiencies = [overlap_after(angle_rad2, seed) ** 2 for seed in range(1000)]
    tolerance = 5.0 * float(np.std(efficiencies)) / math.sqrt(1000)
    expected = 0.5 * (1.0 + math.exp(-angle_rad2))
    assert np.mean(efficiencies) == pytest.approx(expected, abs=tolerance + 2e-3 * (1 - expected))


def test_after_very_long_half_of_the_light_overlaps() -> None:
    """200 seeds: a uniform first component of the Stokes vector, variance of the share 1/12."""
    shares = [overlap_after(1e6, seed) ** 2 for seed in range(200)]
    assert np.mean(shares) == pytest.approx(0.5, abs=5.0 / math.sqrt(12 * 200))


def test_what_does_not_overlap_is_vacuum() -> None:
    """300,000 samples, seeds 1 and 4: variance 1, correlation with what came in the overlap."""
    drift = PolarisationDrift(0.02, GRID_HZ, noise(4))
    window = Window(round(50.0 * GRID_HZ), 300_000)
    before = noise(1).vacuum(300_000)
    field = before.copy()
    drift.mix(field, window)
    bright = np.full(1, 1e6, np.complex64)
    drift.mix(bright, Window(window.stop, 1))
    overlap = abs(bright[0]) / 1e6
    assert 0.1 < overlap < 0.95
    tolerance = 5.0 * math.sqrt(2.0 / 300_000)
    assert np.var(field.real) == pytest.approx(1.0, abs=tolerance)
    assert np.mean(field.real * before.real) == pytest.approx(overlap, abs=tolerance + 0.02)


def test_a_still_polarisation_leaves_the_field_as_it_is() -> None:
    field = noise(5).vacuum(1000)
    before = field.copy()
    PolarisationDrift(0.0, GRID_HZ, noise(6)).mix(field, Window(10**12, 1000))
    assert np.array_equal(field, before)


def test_a_path_drifts_at_its_rate_between_instants() -> None:
    """20,000 instants of a second each in 20 calls, seed 31: 0.02 rad^2/s within five errors."""
    drift = PhaseDrift(0.02, GRID_HZ, noise(31))
    instants = round(GRID_HZ) * np.arange(1, 20_001)
    phase = np.concatenate([drift.phase_at(part) for part in np.split(instants, 20)])
    steps = np.diff(phase.astype(np.float64))
    assert np.var(steps) == pytest.approx(0.02, rel=5.0 * math.sqrt(2.0 / 20_000))


def test_polarisation_diffuses_between_instants() -> None:
    """2,000 paths of 100 instants, seed 32: mean efficiency (1 + exp(-rate t))/2 at the end.

    The variance of a squared cosine is below 1/4: five errors are 0.056.
    """
    source = noise(32)
    instants = round(GRID_HZ) * np.arange(100, dtype=np.int64)
    kept = []
    for _ in range(2000):
        field = np.full(100, 1e3 + 0j, np.complex64)
        PolarisationDrift(0.01, GRID_HZ, source).mix_at(field, instants)
        kept.append(abs(field[-1]) ** 2 / 1e6)
    assert np.mean(kept) == pytest.approx((1.0 + math.exp(-0.99)) / 2.0, abs=0.056)


def test_a_long_forgotten_polarisation_may_be_any() -> None:
    """2,000 paths after 10^6 rad^2, seed 33: overlaps are uniform, mean 1/2, variance 1/12."""
    source, kept = noise(33), []
    for _ in range(2000):
        field = np.full(1, 1e4 + 0j, np.complex64)
        PolarisationDrift(1e6, GRID_HZ, source).mix(field, Window(round(GRID_HZ), 1))
        kept.append(abs(field[0]) ** 2 / 1e8)
    assert np.mean(kept) == pytest.approx(0.5, abs=5.0 / math.sqrt(12 * 2000))
    assert np.var(kept) == pytest.approx(1.0 / 12.0, rel=0.1)


@given(setting_db=st.floats(0.0, 60.0), scale=st.floats(0.9, 1.1))
@settings(deadline=None)
def test_an_attenuator_may_be_off_its_scale(setting_db: float, scale: float) -> None:
    attenuator = VariableAttenuator(0.7, lambda: 1.0, scale)
    attenuator.set_attenuation(setting_db)
    lost_db = -10.0 * math.log10(attenuator.output_power_w())
    assert lost_db == pytest.approx(0.7 + scale * setting_db, abs=1e-9)
