"""Known symbols: they cancel in the mean, and their amplitude comes back without noise in it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.calibration.routines.known_symbols import (
    check_linear,
    fit_amplitude,
    frame_of,
    normal_symbols,
    random_symbols,
)
from labctl.dsp.layout import PEAK, FrameLayout
from labctl.errors import CalibrationError


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0.01, 0.95), st.integers(0, 99))
def test_random_symbols_have_one_modulus_and_no_mean(
    rows: int, modes: int, field: float, seed: int
) -> None:
    """So a leaking carrier does not beat with them on a power meter."""
    symbols = random_symbols(np.random.default_rng(seed), 2 * rows, modes, field)
    assert symbols.shape == (2 * rows, modes)
    np.testing.assert_allclose(np.abs(symbols), field, rtol=1e-6)
    assert abs(symbols.sum()) < 1e-5 * symbols.size


def test_normal_symbols_have_the_field_asked_for_and_an_end() -> None:
    """1e5 symbols: the RMS is known to 0.2 %; cutting at three times the RMS takes 1e-4."""
    symbols = normal_symbols(np.random.default_rng(1), 100, 1000, 0.1)
    assert math.sqrt(float(np.mean(np.abs(symbols) ** 2))) == pytest.approx(0.1, rel=0.01)
    assert float(np.abs(symbols).max()) <= 0.3 * (1.0 + 1e-6)


def test_a_frame_carries_the_symbols_in_its_modes() -> None:
    """Pilots and preamble may be left out, for a power meter."""
    layout = FrameLayout(20e6, 160e6, 31, 4, rows=2, modes=3)
    symbols = random_symbols(np.random.default_rng(2), 2, 3, 0.3)
    frame = frame_of(layout, symbols)
    slots = layout.row_starts[:, None] + layout.mode_offsets
    np.testing.assert_allclose(frame[slots], symbols)
    assert abs(frame[0]) == pytest.approx(PEAK)
    assert not frame_of(layout, symbols, pilots=False)[: layout.preamble_symbols].any()


def test_the_squared_amplitude_is_free_of_noise() -> None:
    """Monte Carlo, 2000 records of 64 symbols as loud as their noise: mean within 4 sigma."""
    draw = np.random.default_rng(3)
    symbols = random_symbols(draw, 1, 64, 1.0).ravel()
    field, noise = 0.7 - 0.4j, 1.0
    powers, residuals = [], []
    for _ in range(2000):
        clean = field.real * symbols.real + field.imag * symbols.imag + 0.3
        read = (clean + noise * draw.standard_normal(64)).astype(np.float32)
        found = fit_amplitude(read, symbols, 16)
        powers.append(found.power)
        residuals.append(found.residual_v2)
    for values, truth in ((powers, abs(field) ** 2), (residuals, noise**2)):
        error = float(np.std(values)) / math.sqrt(len(values))
        assert abs(float(np.mean(values)) - truth) < 4.0 * error


def test_a_walking_phase_is_put_back() -> None:
    """A phase that walks 0.06 rad^2 per window takes 1 % of the squared amplitude within it.

    300 records of 1024 symbols: the mean with it put back is known to 2e-4.
    """
    draw, window = np.random.default_rng(4), 32
    symbols = random_symbols(draw, 1, 1024, 1.0).ravel()
    raw, corrected = [], []
    for _ in range(300):
        phase = np.cumsum(draw.standard_normal(1024)) * math.sqrt(0.06 / window)
        read = np.real(symbols * np.exp(-1j * phase)) + 0.01 * draw.standard_normal(1024)
        found = fit_amplitude(read.astype(np.float32), symbols, window)
        raw.append(found.power)
        corrected.append(found.power * (1.0 + found.walk_rad2))
    assert float(np.mean(raw)) < 0.993
    assert float(np.mean(corrected)) == pytest.approx(1.0, abs=2e-3)


def test_symbols_of_one_quadrature_tell_no_amplitude() -> None:
    """Any value for the other quadrature would be noise."""
    symbols = np.ones(64, np.complex64)
    with pytest.raises(CalibrationError, match="both X and P"):
        fit_amplitude(np.ones(64, np.float32), symbols, 16)
    with pytest.raises(CalibrationError, match="8 or more"):
        fit_amplitude(np.ones(4, np.float32), symbols[:4], 16)


def test_a_receiver_that_cuts_off_is_told_from_a_linear_one() -> None:
    """2048 symbols at 30 dB: cut off at 0.7 of the peak a cubic part of more than 5 % is seen."""
    draw = np.random.default_rng(7)
    symbols = random_symbols(draw, 8, 256, 1.0).ravel()
    read = (symbols.real + 0.03 * draw.standard_normal(2048)).astype(np.float32)
    linear = fit_amplitude(read, symbols, 32)
    check_linear(linear, "server")
    assert abs(linear.cubic) < 4.0 * linear.cubic_error
    limited = fit_amplitude(np.clip(read, -0.7, 0.7), symbols, 32)
    assert limited.cubic < -0.05
    with pytest.raises(CalibrationError, match=r"server: receiver compresses .* saturated"):
        check_linear(limited, "server")
